import Prelude
import Raft

/// The next step that brings the configuration of one group to what the directory wants.
///
/// A pure function of what its leader sees, asked again and again: no step relies on an earlier one having been made,
/// so a leader that ends, or a proposal that is lost, leaves nothing half done. Each group has a plan of its own; a
/// node that is out of one group and still in another is nothing special.
struct MembershipPlan {
    enum Step: Equatable {
        /// Nothing to do, or nothing that could be done safely now.
        case none
        /// One change goes the simple way, several go through a joint configuration.
        case change([ConfChangeSingle])
        /// The leader is itself to go: whoever stays makes it go.
        case handOver(to: NodeID)
    }

    /// The leader that asks.
    var leader: NodeID
    /// The directory's members.
    var wanted: Set<NodeID>
    /// Those that the directory says are gone for good. A node in neither set may have come since this copy was made.
    var removed: Set<NodeID>
    var configuration: ConfState
    /// Heard of a moment ago. The leader is always.
    var fresh: Set<NodeID>
    /// Live, and with a log that ends near the leader's.
    var caughtUp: Set<NodeID>
    /// Silent for so long that their places as voters may go to learners.
    var longSilent: Set<NodeID>
    var voterCountMax: Int

    /// Whether there is nothing to do whoever is alive and has caught up, which is so nearly always.
    static func isSettled(_ configuration: ConfState, leader: NodeID, wanted: [NodeID], removed: [NodeID]) -> Bool {
        let voters = configuration.voters
        return configuration.learners.isEmpty && wanted.allSatisfy(voters.contains)
            && !removed.contains { $0 == leader || voters.contains($0) }
    }

    var next: Step {
        guard configuration.votersOutgoing.isEmpty, configuration.learnersNext.isEmpty else { return .none }
        return removal ?? ownRemoval ?? arrival ?? promotion ?? succession ?? .none
    }

    private var voters: [NodeID] { configuration.voters.sorted() }
    private var stayingVoters: [NodeID] { voters.filter { !removed.contains($0) } }

    /// The learner that becomes a voter next.
    private var heir: NodeID? {
        configuration.learners.sorted().first { caughtUp.contains($0) && wanted.contains($0) }
    }

    /// A learner goes at once. A voter goes when those that stay can go on without it; the place of one that is full of
    /// voters goes to a learner in the same step, so that there is never one voter fewer.
    private var removal: Step? {
        if let learner = configuration.learners.sorted().first(where: removed.contains) {
            return .change([ConfChangeSingle(kind: .remove, node: learner)])
        }
        for voter in voters where removed.contains(voter) && voter != leader {
            let goes = ConfChangeSingle(kind: .remove, node: voter)
            if let heir, stayingVoters.count < voterCountMax, isSafe(voters.filter { $0 != voter } + [heir]) {
                return .change([goes, ConfChangeSingle(kind: .addVoter, node: heir)])
            }
            if isSafe(voters.filter { $0 != voter }) { return .change([goes]) }
        }
        return nil
    }

    /// Whether these voters have a majority that was heard of a moment ago. A node that died a moment ago still counts;
    /// the shorter the moment, the less likely that is.
    private func isSafe(_ voters: [NodeID]) -> Bool {
        2 * voters.count { fresh.contains($0) || $0 == leader } > voters.count
    }

    /// Without anybody to hand over to, a learner has to be promoted first.
    private var ownRemoval: Step? {
        guard removed.contains(leader) else { return nil }
        return stayingVoters.first { fresh.contains($0) && caughtUp.contains($0) }.map { .handOver(to: $0) }
    }

    private var arrival: Step? {
        let known = Set(configuration.voters + configuration.learners)
        return wanted.subtracting(known).min().map { .change([ConfChangeSingle(kind: .addLearner, node: $0)]) }
    }

    private var promotion: Step? {
        guard stayingVoters.count < voterCountMax, let heir else { return nil }
        return .change([ConfChangeSingle(kind: .addVoter, node: heir)])
    }

    /// A voter that has been silent for long gives its place to a learner, and finds itself a learner when it returns.
    private var succession: Step? {
        guard stayingVoters.count >= voterCountMax, let heir,
            let silent = stayingVoters.first(where: { longSilent.contains($0) && $0 != leader })
        else { return nil }
        return .change([
            ConfChangeSingle(kind: .addLearner, node: silent), ConfChangeSingle(kind: .addVoter, node: heir),
        ])
    }
}

/// What a removal would leave of a group.
struct RemovalForecast: Equatable {
    var staying: Int
    var living: Int

    /// Whether the voters that stay could still commit anything.
    var keepsQuorum: Bool { staying == 0 || 2 * living > staying }

    /// Without voters that stay the plan promotes a learner before it removes anybody.
    init(_ configuration: ConfState, removing node: NodeID, removed: Set<NodeID>, isFresh: (NodeID) -> Bool) {
        let voters = configuration.voters.filter { $0 != node && !removed.contains($0) }
        staying = voters.count
        living = voters.count(where: isFresh)
    }
}
