import Prelude
import Raft

/// Carries out `committed` and `vote`: majorities and joint majorities, each computed in more than one way.
final class QuorumEnvironment: TraceEnvironment {
    func handle(_ directive: Directive) -> String {
        do {
            try directive.checkNames(["cfg", "cfgj", "idx", "votes"])
            let configuration = try QuorumConfiguration(directive)
            switch directive.command {
            case "committed": return try committed(directive, configuration)
            case "vote": return try vote(directive, configuration)
            default: throw TraceError("unknown command: \(directive.command)")
            }
        } catch {
            return "error: \(error)"
        }
    }

    private func committed(_ directive: Directive, _ configuration: QuorumConfiguration) throws -> String {
        var known: [NodeID: LogIndex] = [:]
        for (id, text) in try configuration.assign(directive.values("idx")) where text != "_" {
            let index = try parseNumber(text)
            if index == 0 { throw TraceError("cannot use 0 as idx") }
            known[id] = LogIndex(index)
        }
        func index(of quorum: JointQuorum) -> LogIndex { quorum.committedIndex { known[$0] ?? 0 } }

        let first = configuration.first
        var text = configuration.joint.voters.picture(known)
        if configuration.isJoint {
            let result = index(of: configuration.joint)
            let swapped = index(of: configuration.joint.swapped)
            if swapped != result { text += "\(swapped.quorumText) <-- via symmetry\n" }
            return text + result.quorumText + "\n"
        }
        let result = first.committedIndex { known[$0] ?? 0 }
        let alternatives = [
            (first.committedIndexByCounting(known), "via alternative computation"),
            (index(of: JointQuorum(incoming: first)), "via zero-joint quorum"),
            (index(of: JointQuorum(incoming: first, outgoing: first)), "via self-joint quorum"),
        ]
        for (alternative, way) in alternatives where alternative != result {
            text += "\(alternative.quorumText) <-- \(way)\n"
        }
        // Who is below the committed index does not carry it, and so may fall further behind.
        for id in first.voters.ids {
            guard let own = known[id], own < result else { continue }
            for lowered in [LogIndex(own.rawValue - 1), 0] {
                let overlaid = first.committedIndex { $0 == id ? lowered : known[$0] ?? 0 }
                if overlaid != result { text += "\(overlaid.quorumText) <-- overlaying \(id)->\(lowered)\n" }
            }
        }
        return text + result.quorumText + "\n"
    }

    private func vote(_ directive: Directive, _ configuration: QuorumConfiguration) throws -> String {
        var votes: [NodeID: Bool] = [:]
        for (id, text) in try configuration.assign(directive.values("votes")) {
            switch text {
            case "y": votes[id] = true
            case "n": votes[id] = false
            case "_": break
            default: throw TraceError("unknown vote: \(text)")
            }
        }
        if !configuration.isJoint { return configuration.first.voteResult { votes[$0] }.text + "\n" }
        let result = configuration.joint.voteResult { votes[$0] }
        let swapped = configuration.joint.swapped.voteResult { votes[$0] }
        return (swapped == result ? "" : "\(swapped.text) <-- via symmetry\n") + result.text + "\n"
    }
}

private struct QuorumConfiguration {
    var first: MajorityQuorum
    var joint: JointQuorum
    var isJoint: Bool
    /// In order of first appearance.
    private var order: [NodeID] = []

    init(_ directive: Directive) throws {
        let ids = try directive.ids("cfg")
        let isZero = directive.values("cfgj") == ["zero"]
        let other = isZero ? [] : try directive.ids("cfgj")
        isJoint = directive.arguments.contains { $0.key == "cfgj" }
        first = MajorityQuorum(NodeSet(ids))
        joint = JointQuorum(incoming: first, outgoing: MajorityQuorum(NodeSet(other)))
        for id in ids + other where !order.contains(id) { order.append(id) }
    }

    func assign(_ values: [String]) throws -> [(NodeID, String)] {
        if values.count != order.count {
            throw TraceError("mismatched input (explicit or _) for voters \(order): \(values)")
        }
        return Array(zip(order, values))
    }
}

extension JointQuorum {
    fileprivate var swapped: JointQuorum { JointQuorum(incoming: outgoing, outgoing: incoming) }
}

extension MajorityQuorum {
    /// The highest index that enough voters have reached, found by trying each: the naive twin of `committedIndex`.
    fileprivate func committedIndexByCounting(_ known: [NodeID: LogIndex]) -> LogIndex {
        if voters.isEmpty { return LogIndex(.max) }
        let candidates = voters.ids.map { known[$0] ?? 0 }
        return candidates.filter { candidate in
            candidates.count { $0 >= candidate } > voters.count / 2
        }.max() ?? 0
    }
}

extension NodeSet {
    /// A bar for each voter: how many voters have a lower index.
    fileprivate func picture(_ known: [NodeID: LogIndex]) -> String {
        if isEmpty { return "<empty majority quorum>" }
        var text = spaces(count) + "    idx\n"
        for id in ids {
            let index = known[id] ?? 0
            let bar = ids.count { (known[$0] ?? 0) < index }
            let picture =
                known[id] == nil
                ? "?" + spaces(count) : String(repeating: "x", count: bar) + ">" + spaces(count - bar)
            let number = index.description
            text += "\(picture) \(spaces(5 - number.count))\(number)    (id=\(id))\n"
        }
        return text
    }
}

private func spaces(_ count: Int) -> String { String(repeating: " ", count: max(0, count)) }

extension LogIndex {
    fileprivate var quorumText: String { rawValue == .max ? "∞" : description }
}

extension VoteResult {
    fileprivate var text: String {
        switch self {
        case .pending: "VotePending"
        case .lost: "VoteLost"
        case .won: "VoteWon"
        }
    }
}
