import Logging
import Node
import Prelude
import Reactor
import Telemetry
import Wire

/// The files by which a node proves who it is and knows others. All optional; see docs/operations.md, "TLS and access".
public struct SecurityFiles: Sendable, Equatable {
    public var tlsCertificate: String?
    public var tlsKey: String?
    /// Of clients' certificates, and of other nodes' unless `peerCA` is given.
    public var tlsCA: String?
    public var clientAuthentication = TLSClientAuthentication.none
    public var peerCertificate: String?
    public var peerKey: String?
    public var peerCA: String?
    /// The first line is what this node says; each line is accepted.
    public var clusterToken: String?
    public var access: String?

    public init() {}

    var paths: [String] {
        [tlsCertificate, tlsKey, tlsCA, peerCertificate, peerKey, peerCA, clusterToken, access].compactMap { $0 }
    }

    public var isEmpty: Bool { paths.isEmpty }
}

/// Why security files cannot be used. Says nothing of what is secret in them.
public struct SecurityFailure: Error, Equatable, Sendable, CustomStringConvertible {
    public var description: String
}

/// What the files hold.
public struct LoadedSecurity: Sendable, Equatable {
    /// Nil: cleartext.
    public var tls: TLSSettings?
    public var rules = AccessControl.Rules()
    /// What this node says to other nodes.
    public var clusterToken: String?
}

extension SecurityFiles {
    public static let fileByteCountMax = 1 << 20

    /// Reads all files. Blocks.
    public func load(from disk: any Disk) throws(SecurityFailure) -> LoadedSecurity {
        var loaded = LoadedSecurity()
        if let tlsCertificate {
            guard let tlsKey else {
                throw SecurityFailure(description: "--tls-cert \(tlsCertificate) needs its --tls-key")
            }
            var credentials = TLSCredentials(
                certificates: try Self.read(tlsCertificate, disk), privateKey: try Self.read(tlsKey, disk))
            if let tlsCA { credentials.trusted = try Self.read(tlsCA, disk) }
            loaded.tls = TLSSettings(server: credentials, clients: clientAuthentication, client: credentials)
        } else if tlsKey != nil || tlsCA != nil || clientAuthentication != .none {
            throw SecurityFailure(description: "--tls-key, --tls-ca and --tls-client-auth need --tls-cert")
        }
        if let peerCertificate {
            guard let peerKey, let peerCA else {
                throw SecurityFailure(
                    description:
                        "--peer-tls-cert \(peerCertificate) needs its --peer-tls-key and the --peer-tls-ca of all nodes"
                )
            }
            guard loaded.tls != nil else {
                throw SecurityFailure(
                    description: "--peer-tls-cert needs --tls-cert: nodes and clients come to the same port")
            }
            loaded.tls?.peers = TLSCredentials(
                certificates: try Self.read(peerCertificate, disk), privateKey: try Self.read(peerKey, disk),
                trusted: try Self.read(peerCA, disk))
            loaded.rules.havePeersCertificates = true
        } else if peerKey != nil || peerCA != nil {
            throw SecurityFailure(description: "--peer-tls-key and --peer-tls-ca need --peer-tls-cert")
        }
        if let clusterToken { try loadTokens(clusterToken, disk, &loaded) }
        if let access {
            guard clusterToken != nil || peerCertificate != nil else {
                throw SecurityFailure(
                    description:
                        "--access-file \(access) needs --cluster-token-file or --peer-tls-cert, because without them "
                        + "no other node can prove that it is one, and none could join")
            }
            let text = try Self.text(access, disk)
            do throws(AccessPolicy.Malformed) {
                loaded.rules.policy = try AccessPolicy(parsing: text)
            } catch {
                throw SecurityFailure(description: "\(access): \(error)")
            }
        }
        return loaded
    }

    private func loadTokens(
        _ path: String, _ disk: any Disk, _ loaded: inout LoadedSecurity
    ) throws(SecurityFailure) {
        let lines = try Self.text(path, disk).split(whereSeparator: \.isNewline)
        let tokens = lines.map { $0.trimmingSpaces }.filter { !$0.isEmpty }
        guard let first = tokens.first else { throw SecurityFailure(description: "\(path) holds no token") }
        let areUsable = tokens.allSatisfy { token in
            token.utf8.count >= 16 && token.utf8.allSatisfy { (0x21...0x7E).contains($0) }
        }
        guard areUsable else {
            throw SecurityFailure(
                description: "\(path): a token has at least 16 characters, printable ASCII without spaces")
        }
        loaded.clusterToken = first
        loaded.rules.clusterTokens = tokens.map { Digest.sha256(Array($0.utf8)) }
    }

    static func text(_ path: String, _ disk: any Disk) throws(SecurityFailure) -> String {
        guard let text = String(validating: try Self.read(path, disk), as: UTF8.self) else {
            throw SecurityFailure(description: "\(path) is not UTF-8 text")
        }
        return text
    }

    static func read(_ path: String, _ disk: any Disk) throws(SecurityFailure) -> [UInt8] {
        do throws(DiskError) {
            let file = try disk.open(path, .readOnly)
            defer { file.close() }
            let count = try file.byteCount
            guard count <= UInt64(Self.fileByteCountMax) else {
                throw DiskError(
                    kind: .io, operation: "read", path: path, reason: "more than \(Self.fileByteCountMax) bytes")
            }
            var bytes = [UInt8](repeating: 0, count: Int(count))
            let done = bytes.withUnsafeMutableBytes { buffer -> Result<Int, DiskError> in
                do throws(DiskError) { return .success(try file.read(into: buffer, at: 0)) } catch {
                    return .failure(error)
                }
            }
            return Array(bytes.prefix(try done.get()))
        } catch {
            throw SecurityFailure(description: "\(error)")
        }
    }
}

extension Substring {
    var trimmingSpaces: String {
        var text = self
        while text.first?.isWhitespace == true { text.removeFirst() }
        while text.last?.isWhitespace == true { text.removeLast() }
        return String(text)
    }
}

/// The security of one process: the files, what they hold now, and looking for changes. Confined to its loop.
public final class Security {
    /// What a node is to be started with.
    public private(set) var seams: Seams
    public let access: AccessControl?

    private let files: SecurityFiles
    private let disk: any Disk
    private let tls: TLSNetwork?
    private let logger: Logger
    private var current: LoadedSecurity
    private var lastFailure: String?
    private var timer: (any ScheduledTimer)?
    private let log: GatedLog
    private var isLooking = false
    private var mustLookAgain = false

    /// How often the files are looked at for changes.
    public static let lookInterval = Nanoseconds.seconds(5)

    /// Reads the files, from a disk of their own when the node's is not the system's; `seams` become those with TLS and the node's credentials.
    public init(
        _ files: SecurityFiles, seams: Seams, files disk: any Disk, limits: Limits, metrics: MetricsRegistry,
        logger: Logger
    ) throws(SecurityFailure) {
        self.files = files
        self.logger = logger
        log = GatedLog(logger, clock: seams.clock, limits: limits.telemetry)
        self.disk = disk
        let loaded = try files.load(from: disk)
        current = loaded
        var seams = seams
        if let settings = loaded.tls {
            do throws(TLSFailure) {
                let network = try TLSNetwork(
                    over: seams.network, clock: seams.clock, limits: limits.wire, settings: settings, metrics: metrics)
                seams.network = network
                tls = network
            } catch {
                throw SecurityFailure(description: "TLS: \(error)")
            }
        } else {
            tls = nil
        }
        if let token = loaded.clusterToken { seams.credentials.append((AccessControl.tokenHeader, token)) }
        self.seams = seams
        access = files.isEmpty ? nil : AccessControl(loaded.rules)
        tls?.onRefused = { [weak self] address, reason in self?.noteRefused(address, reason) }
        if !files.isEmpty { lookLater() }
    }

    public func close() { timer?.cancel() }

    /// Warns, once, of an address that others reach when nothing protects it.
    public func warnIfOpen(_ address: HostPort) {
        let isLoopback = address.host == "localhost" || address.host == "::1" || address.host.hasPrefix("127.")
        guard !isLoopback, current.tls == nil else { return }
        let who = current.rules.policy == nil ? "read and change everything" : "read what is said, tokens included"
        logger.warning(
            "no TLS: whoever reaches this address or its network can \(who); see --tls-cert",
            metadata: ["address": "\(address)"])
    }

    // MARK: - Changes

    private func lookLater() {
        timer = seams.clock.schedule(after: Self.lookInterval) { [weak self] in
            self?.look()
            self?.lookLater()
        }
    }

    /// Looks at the files now, as on SIGHUP. What cannot be used is told and changes nothing.
    public func look() {
        guard !isLooking else {
            mustLookAgain = true
            return
        }
        isLooking = true
        seams.work.perform(
            { [files, disk] () -> Result<LoadedSecurity, SecurityFailure> in
                do throws(SecurityFailure) { return .success(try files.load(from: disk)) } catch {
                    return .failure(error)
                }
            },
            completion: { [weak self] result in
                guard let self else { return }
                isLooking = false
                take(result)
                if mustLookAgain {
                    mustLookAgain = false
                    look()
                }
            })
    }

    private func take(_ result: Result<LoadedSecurity, SecurityFailure>) {
        do {
            let loaded = try result.get()
            guard loaded != current else {
                lastFailure = nil
                return
            }
            if let settings = loaded.tls { try tls?.update(settings) }
            access?.update(loaded.rules)
            current = loaded
            lastFailure = nil
            logger.notice("security files have changed and are in force")
        } catch {
            let reason = "\(error)"
            // The same again is no news.
            guard reason != lastFailure else { return }
            lastFailure = reason
            logger.error(
                "security files have changed and cannot be used; the earlier ones stay",
                metadata: ["reason": "\(reason)"])
        }
    }

    private func noteRefused(_ address: HostPort, _ reason: String) {
        log(.warning, "refused a connection", ["address": "\(address)", "reason": "\(reason)"])
    }
}
