import Prelude

/// Whether this node is fit to serve: each of its groups has a leader, and has once, since it last had none, confirmed
/// that its state here is as new as everything acknowledged anywhere.
///
/// Level-triggered: looks at every tick, and asks again for what got lost.
final class Readiness {
    private unowned let node: Node
    /// Groups that have caught up and not been without a leader for long since.
    private var caughtUp: Set<GroupID> = []
    private var asking: Set<GroupID> = []
    private var leaderlessSince = FlatMap<GroupID, Nanoseconds>()
    private var lastReasons: [String] = []

    /// Something about it has changed.
    var onChange: () -> Void = {}

    init(node: Node) { self.node = node }

    /// Empty: ready. In plain words what is missing.
    var reasons: [String] {
        if node.phase != .running { return ["the node is shutting down"] }
        return node.groups.compactMap { group in
            if group.leader == .none { return "group \(group.id) has no leader" }
            return caughtUp.contains(group.id) ? nil : "group \(group.id) has not caught up"
        }
    }

    var isReady: Bool { reasons.isEmpty }

    func isReady(_ group: GroupID) -> Bool {
        guard node.phase == .running, let found = node.groups[group] else { return false }
        return found.leader != .none && caughtUp.contains(group)
    }

    func look(now: Nanoseconds) {
        for group in node.groups {
            if group.leader == .none {
                let since = leaderlessSince[group.id] ?? now
                leaderlessSince[group.id] = since
                // An election in time loses nothing; after a longer one others may have gone on without this node.
                if now >= since + electionTimeout { caughtUp.remove(group.id) }
            } else {
                leaderlessSince[group.id] = nil
                if !caughtUp.contains(group.id), !asking.contains(group.id) { ask(group) }
            }
        }
        let reasons = reasons
        guard reasons != lastReasons else { return }
        lastReasons = reasons
        onChange()
    }

    private var electionTimeout: Nanoseconds {
        2 * UInt64(node.limits.raft.electionTicks) * .milliseconds(node.limits.raft.tickMilliseconds)
    }

    private func ask(_ group: RaftGroup) {
        asking.insert(group.id)
        // The group itself holds this until it is answered.
        node.readBarrier(group) { [unowned self, unowned group] result in
            asking.remove(group.id)
            if case .success = result, group.leader != .none { caughtUp.insert(group.id) }
        }
    }
}

extension Node {
    /// What keeps this node from being ready, in plain words; empty when it is: each group has a leader and has caught
    /// up. As `/readyz` and `grpc.health.v1` tell it.
    public var unreadyReasons: [String] { readiness.reasons }
}
