import Node
import Prelude
import Wire

/// The files by which a client proves who it is and knows servers.
public struct ClientSecurityFiles: Sendable, Equatable {
    /// Speak TLS even when no file is given: the CAs of the system are believed.
    public var isTLS = false
    public var trusted: String?
    public var certificate: String?
    public var key: String?
    /// Its first line is a bearer token.
    public var token: String?

    public init() {}

    /// `seams` with connections by TLS and the token on every call. Blocks.
    public func applied(to seams: Seams, environmentToken: String? = nil) throws(SecurityFailure) -> Seams {
        var seams = seams
        if isTLS || trusted != nil || certificate != nil {
            var credentials = TLSCredentials()
            if let trusted { credentials.trusted = try SecurityFiles.read(trusted, seams.disk) }
            if let certificate {
                guard let key else {
                    throw SecurityFailure(description: "--tls-cert \(certificate) needs its --tls-key")
                }
                credentials.certificates = try SecurityFiles.read(certificate, seams.disk)
                credentials.privateKey = try SecurityFiles.read(key, seams.disk)
            }
            do throws(TLSFailure) {
                seams.network = try TLSNetwork(
                    over: seams.network, clock: seams.clock, limits: WireLimits(),
                    settings: TLSSettings(client: credentials))
            } catch {
                throw SecurityFailure(description: "TLS: \(error)")
            }
        }
        if let token {
            let lines = try SecurityFiles.text(token, seams.disk).split(whereSeparator: \.isNewline)
            guard let first = lines.first else { throw SecurityFailure(description: "\(token) holds no token") }
            seams.credentials.append(("authorization", "Bearer \(first.trimmingSpaces)"))
        } else if let environmentToken, !environmentToken.isEmpty {
            seams.credentials.append(("authorization", "Bearer \(environmentToken)"))
        }
        return seams
    }
}
