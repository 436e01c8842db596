import Prelude
import Wire

/// Decides about every call before its handler sees it. From any thread; changes count for the next call.
///
/// Nodes prove that they are some by a certificate of the CA of the peers, or by the cluster token. Callers are known by
/// their certificate or by a bearer token. Without an access file callers may do everything but what is for nodes.
public final class AccessControl: @unchecked Sendable {
    // Unchecked, because `lock` guards what changes.
    private let lock = Lock()
    private var rules: Rules

    public static let tokenHeader = "raftoral-cluster-token"
    private static let authorizationHeader = "authorization"

    public struct Rules: Sendable, Equatable {
        /// Nil: callers may do everything but what is for nodes.
        public var policy: AccessPolicy?
        /// SHA-256 of each token that nodes may prove themselves by.
        public var clusterTokens: [[UInt8]]
        /// Nodes have certificates of their own CA.
        public var havePeersCertificates: Bool

        public init(policy: AccessPolicy? = nil, clusterTokens: [[UInt8]] = [], havePeersCertificates: Bool = false) {
            self.policy = policy
            self.clusterTokens = clusterTokens
            self.havePeersCertificates = havePeersCertificates
        }

        var needsProofOfPeers: Bool { !clusterTokens.isEmpty || havePeersCertificates || policy != nil }
    }

    public init(_ rules: Rules) { self.rules = rules }

    public func update(_ rules: Rules) { lock.withLock { self.rules = rules } }

    /// Nil: the call may go on.
    public func refusal(of caller: Caller) -> GRPCStatus? {
        let rules = lock.withLock { self.rules }
        switch AccessRequirement(path: caller.path) {
        case .nothing: return nil
        case .peer: return Self.isPeer(caller, rules) ? nil : Self.refusalOfPeer(caller)
        case .peerOr(let role):
            if Self.isPeer(caller, rules) { return nil }
            return rules.policy.flatMap { Self.refusal(of: caller, role: role, $0) }
        case .role(let role): return rules.policy.flatMap { Self.refusal(of: caller, role: role, $0) }
        }
    }

    private static func isPeer(_ caller: Caller, _ rules: Rules) -> Bool {
        if !rules.needsProofOfPeers || caller.identity.isPeer { return true }
        guard let token = caller.metadata[tokenHeader] else { return false }
        let digest = Digest.sha256(Array(token.utf8))
        return rules.clusterTokens.contains { Digest.isEqual($0, digest) }
    }

    private static func refusalOfPeer(_ caller: Caller) -> GRPCStatus {
        GRPCStatus(
            .unauthenticated,
            "\(caller.path) is for nodes of the cluster: start this node with the cluster's --cluster-token-file, "
                + "or with --peer-tls-cert of its CA")
    }

    private static func refusal(of caller: Caller, role: AccessRole, _ policy: AccessPolicy) -> GRPCStatus? {
        let bearer = bearerDigest(caller)
        let service = AccessRequirement.service(of: caller.path)
        var name: String?
        for rule in policy.rules {
            switch rule.subject {
            case .anyone: break
            case .token(let owner, let digest):
                guard let bearer, Digest.isEqual(bearer, digest) else { continue }
                name = owner
            case .certificate(let owner):
                guard caller.identity.names.contains(owner) else { continue }
                name = owner
            }
            let isGranted = rule.grants.contains {
                $0.role.covers(role) && ($0.service == nil || $0.service == service)
            }
            if isGranted { return nil }
        }
        if let name {
            return GRPCStatus(
                .permissionDenied, "\(name) may not call \(caller.path): it needs the role \(role.rawValue)")
        }
        let reason =
            bearer == nil ? "a bearer token or a client certificate is needed" : "the bearer token is not known"
        return GRPCStatus(.unauthenticated, "\(reason) for \(caller.path)")
    }

    /// RFC 6750 §2.1.
    private static func bearerDigest(_ caller: Caller) -> [UInt8]? {
        guard let text = caller.metadata[authorizationHeader] else { return nil }
        let parts = text.split(separator: " ", omittingEmptySubsequences: true)
        guard parts.count == 2, parts[0].lowercased() == "bearer" else { return nil }
        return Digest.sha256(Array(parts[1].utf8))
    }
}
