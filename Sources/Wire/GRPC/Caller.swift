import Prelude

/// Who makes a call, for deciding whether it may.
public struct Caller {
    /// `/package.Service/Method`
    public var path: String
    /// Empty over cleartext.
    public var identity: TLSIdentity
    public var metadata: Metadata
    public var remoteAddress: HostPort

    public init(path: String, identity: TLSIdentity, metadata: Metadata, remoteAddress: HostPort) {
        self.path = path
        self.identity = identity
        self.metadata = metadata
        self.remoteAddress = remoteAddress
    }
}
