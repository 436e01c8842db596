import COpenSSLShims
import Prelude

/// The contents of PEM files, for one role of this process.
public struct TLSCredentials: Sendable, Equatable {
    /// This side's certificate and those on the way to its CA. Empty: none, which only a client may do.
    public var certificates: [UInt8]
    /// The key of the first certificate, without a password.
    public var privateKey: [UInt8]
    /// The CAs whose certificates are accepted. Empty: those that the system trusts, which only a client may do.
    public var trusted: [UInt8]

    public init(certificates: [UInt8] = [], privateKey: [UInt8] = [], trusted: [UInt8] = []) {
        self.certificates = certificates
        self.privateKey = privateKey
        self.trusted = trusted
    }
}

/// What a server asks of its clients' certificates.
public enum TLSClientAuthentication: String, Sendable, CaseIterable {
    /// Does not ask for one.
    case none
    /// Checks one that there is.
    case optional
    /// Takes nobody without one.
    case required
}

/// Why files cannot be used for TLS. Never says what is in a key.
public struct TLSFailure: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Part: String, Sendable {
        case certificates = "certificate"
        case privateKey = "key"
        case trusted = "CA"
        case context = "context"
    }

    public var part: Part
    public var reason: String

    public var description: String { "the \(part.rawValue) cannot be used: \(reason)" }
}

/// A role, a certificate, and whom to trust; shared by connections, which keep the context that they began with.
final class TLSContext {
    /// What nodes ask a server for, to be served as peers (RFC 6066 §3): not a host's name, but one way to name a
    /// service at an address.
    static let peerServerName = "peer.raftoral.internal"

    let pointer: OpaquePointer
    /// Those who ask for `peerServerName`.
    let peers: TLSContext?

    /// `time`: now, Unix time in seconds; a certificate that is not valid then is refused here already.
    init(
        server credentials: TLSCredentials, clients: TLSClientAuthentication, peers: TLSContext?, time: Int64
    ) throws(TLSFailure) {
        self.peers = peers
        pointer = try Self.make(isServer: true)
        try fill(credentials, time)
        raftoral_tls_verify_clients(pointer, clients == .none ? 0 : clients == .optional ? 1 : 2)
        if clients != .none, credentials.trusted.isEmpty {
            throw TLSFailure(part: .trusted, reason: "clients are to be checked, but no CA is given")
        }
        if let peers, !raftoral_tls_serve_name(pointer, Self.peerServerName, peers.pointer) {
            throw TLSFailure(part: .context, reason: "no memory")
        }
    }

    init(client credentials: TLSCredentials, time: Int64) throws(TLSFailure) {
        peers = nil
        pointer = try Self.make(isServer: false)
        try fill(credentials, time)
        if credentials.trusted.isEmpty { raftoral_tls_trust_system(pointer) }
    }

    deinit { raftoral_tls_context_free(pointer) }

    private static func make(isServer: Bool) throws(TLSFailure) -> OpaquePointer {
        guard let pointer = raftoral_tls_context_new(isServer) else {
            throw TLSFailure(part: .context, reason: "no memory")
        }
        return pointer
    }

    private func fill(_ credentials: TLSCredentials, _ time: Int64) throws(TLSFailure) {
        if !credentials.certificates.isEmpty {
            try use(credentials.certificates, as: .certificates) { raftoral_tls_use_certificates(pointer, $0, $1) }
            try use(credentials.privateKey, as: .privateKey) { raftoral_tls_use_key(pointer, $0, $1) }
            try checkValidity(time)
        }
        if !credentials.trusted.isEmpty {
            try use(credentials.trusted, as: .trusted) { raftoral_tls_trust(pointer, $0, $1) }
        }
    }

    private func use(
        _ pem: [UInt8], as part: TLSFailure.Part, _ body: (UnsafeRawPointer?, Int) -> UnsafePointer<CChar>?
    ) throws(TLSFailure) {
        let reason = pem.withUnsafeBytes { bytes in body(bytes.baseAddress, bytes.count).map { String(cString: $0) } }
        if let reason { throw TLSFailure(part: part, reason: reason) }
    }

    private func checkValidity(_ time: Int64) throws(TLSFailure) {
        guard let validity else { return }
        if time > validity.upperBound {
            let days = (time - validity.upperBound) / 86_400
            throw TLSFailure(part: .certificates, reason: "it expired \(days == 0 ? "today" : "\(days) days ago")")
        }
        if time < validity.lowerBound {
            throw TLSFailure(
                part: .certificates, reason: "it is not valid yet: look at the clock, or wait for it to become so")
        }
    }

    /// Unix time in seconds; nil without a certificate of its own.
    var validity: ClosedRange<Int64>? {
        var start: Int64 = 0
        var end: Int64 = 0
        guard raftoral_tls_validity(pointer, &start, &end), start <= end else { return nil }
        return start...end
    }
}

/// SHA-256, and comparing secrets.
public enum Digest {
    public static func sha256(_ bytes: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        bytes.withUnsafeBytes { input in
            digest.withUnsafeMutableBufferPointer { output in
                if let start = output.baseAddress { raftoral_sha256(input.baseAddress, input.count, start) }
            }
        }
        return digest
    }

    /// In a time that does not tell where the two differ, only whether their lengths do.
    public static func isEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        guard left.count == right.count else { return false }
        let count = left.count
        return left.withUnsafeBytes { left in
            right.withUnsafeBytes { right in
                guard let left = left.baseAddress, let right = right.baseAddress else { return true }
                return raftoral_equal(left, right, count)
            }
        }
    }
}
