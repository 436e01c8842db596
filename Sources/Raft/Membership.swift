import Prelude

/// Who belongs to the group, and as what: the configuration of the Raft paper.
package struct Membership: Equatable, Sendable {
    package var voters = JointQuorum()
    package var learners = NodeSet()
    /// Voters of the outgoing half that become learners when it is left: a node is never both at once.
    package var learnersNext = NodeSet()
    package var autoLeave = false

    package init() {}

    package var isJoint: Bool { voters.isJoint }

    package var confState: ConfState {
        ConfState(
            voters: voters.incoming.voters.ids, learners: learners.ids, votersOutgoing: voters.outgoing.voters.ids,
            learnersNext: learnersNext.ids, autoLeave: autoLeave)
    }
}

/// Why a configuration change cannot be made.
package enum MembershipError: Error, Equatable, Sendable {
    case alreadyJoint
    case zeroVotersCannotBeJoint
    case notJoint
    case simpleChangeWhileJoint
    case severalVotersWithoutJoint
    case removedAllVoters
    /// A configuration that breaks the rules that hold for all. It came from outside.
    case inconsistent(String)
}

extension MembershipError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .alreadyJoint: "config is already joint"
        case .zeroVotersCannotBeJoint: "can't make a zero-voter config joint"
        case .notJoint: "can't leave a non-joint config"
        case .simpleChangeWhileJoint: "can't apply simple config change in joint config"
        case .severalVotersWithoutJoint: "more than one voter changed without entering joint config"
        case .removedAllVoters: "removed all voters"
        case .inconsistent(let reason): reason
        }
    }
}
