import Prelude
import Wire

/// What somebody may do.
public enum AccessRole: String, Sendable, CaseIterable {
    /// Looks: describes, lists, gets, waits for results.
    case reader
    /// Also starts and changes workflows and variables.
    case operator_ = "operator"
    /// Executes workflows for a cluster from outside.
    case worker
    /// Everything but what nodes alone say to each other: members, leadership.
    case admin

    func covers(_ other: AccessRole) -> Bool {
        self == other || self == .admin || self == .operator_ && other == .reader
    }
}

/// Who may do what: the contents of an access file.
///
/// A line each, `#` begins a comment, names hold no spaces:
///
///     token NAME sha256:HEX  ROLE[@Service]…    a bearer token, by the SHA-256 of its bytes
///     cert NAME              ROLE[@Service]…    a client certificate with this common or alternative name
///     anyone                 ROLE[@Service]…    everybody, without or beside the above
public struct AccessPolicy: Sendable, Equatable {
    public struct Grant: Sendable, Equatable {
        public var role: AccessRole
        /// Without its package, `VariableService`. Nil: all.
        public var service: String?
    }

    enum Subject: Sendable, Equatable {
        case token(name: String, digest: [UInt8])
        case certificate(name: String)
        case anyone
    }

    struct Rule: Sendable, Equatable {
        var subject: Subject
        var grants: [Grant]
    }

    public struct Malformed: Error, Equatable, Sendable, CustomStringConvertible {
        public var line: Int
        public var reason: String
        public var description: String { "line \(line): \(reason)" }
    }

    var rules: [Rule] = []

    public init(parsing text: String) throws(Malformed) {
        for (place, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let content = line.prefix { $0 != "#" }
            let words = content.split(whereSeparator: \.isWhitespace).map(String.init)
            guard !words.isEmpty else { continue }
            do throws(Reason) {
                rules.append(try Self.rule(words))
            } catch {
                throw Malformed(line: place + 1, reason: error.text)
            }
        }
    }

    private struct Reason: Error {
        var text: String
        init(_ text: String) { self.text = text }
    }

    private static func rule(_ words: [String]) throws(Reason) -> Rule {
        let subject: Subject
        let rest: ArraySlice<String>
        switch words[0] {
        case "token":
            guard words.count > 2 else { throw Reason("a token has a name and sha256:HEX") }
            guard let digest = digest(words[2]) else {
                throw Reason("the token of \(words[1]) is not sha256: and 64 digits")
            }
            subject = .token(name: words[1], digest: digest)
            rest = words[3...]
        case "cert":
            guard words.count > 1 else { throw Reason("cert is followed by a name of the certificate") }
            subject = .certificate(name: words[1])
            rest = words[2...]
        case "anyone":
            subject = .anyone
            rest = words[1...]
        default: throw Reason("'\(words[0])' is none of token, cert, anyone")
        }
        guard !rest.isEmpty else { throw Reason("no role is given") }
        var grants: [Grant] = []
        for word in rest { grants.append(try grant(word)) }
        return Rule(subject: subject, grants: grants)
    }

    private static func grant(_ word: String) throws(Reason) -> Grant {
        let parts = word.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let role = AccessRole(rawValue: parts[0]) else {
            throw Reason("'\(parts[0])' is none of reader, operator, worker, admin")
        }
        guard parts.count == 2 else { return Grant(role: role) }
        guard !parts[1].isEmpty else { throw Reason("no service follows the @ of '\(word)'") }
        return Grant(role: role, service: parts[1])
    }

    private static func digest(_ word: String) -> [UInt8]? {
        guard word.hasPrefix("sha256:") else { return nil }
        let digits = Array(word.utf8.dropFirst(7))
        guard digits.count == 64 else { return nil }
        var bytes: [UInt8] = []
        for place in stride(from: 0, to: 64, by: 2) {
            guard let byte = UInt8(String(decoding: digits[place..<place + 2], as: UTF8.self), radix: 16) else {
                return nil
            }
            bytes.append(byte)
        }
        return bytes
    }
}

/// What a method asks of its caller.
enum AccessRequirement: Equatable {
    /// Load balancers ask without credentials.
    case nothing
    case role(AccessRole)
    /// Nodes of the cluster and those that join it.
    case peer
    /// Nodes, which ask each other and pass calls on, and whoever has the role.
    case peerOr(AccessRole)

    /// Of a path `/package.Service/Method`. What is not known here is for administrators.
    init(path: String) {
        let parts = path.split(separator: "/")
        let service = AccessRequirement.service(of: path)
        let method = parts.count > 1 ? parts[1] : ""
        switch (service, method) {
        case ("Health", _): self = .nothing
        case ("ServerReflection", _): self = .role(.reader)
        case ("RaftService", "Discover"), ("ClusterService", "Status"): self = .peerOr(.reader)
        // A node passes it on to the leader, and has its former self removed when it is repaired.
        case ("ClusterService", "Remove"): self = .peerOr(.admin)
        case ("RaftService", _), ("ClusterService", "Join"): self = .peer
        case ("VariableService", "Get"): self = .role(.reader)
        case ("WorkflowService", _) where Self.reading.contains(where: method.hasPrefix): self = .role(.reader)
        case ("WorkflowService", _), ("VariableService", _): self = .role(.operator_)
        case ("WorkerService", _): self = .role(.worker)
        default: self = .role(.admin)
        }
    }

    private static let reading = ["Get", "Describe", "List", "Watch", "Query", "Count"]

    /// `VariableService` of `/raftoral.VariableService/Put`.
    static func service(of path: String) -> String {
        let full = path.split(separator: "/").first ?? ""
        return String(full.split(separator: ".").last ?? "")
    }
}
