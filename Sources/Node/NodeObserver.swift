import Prelude
import Raft
import Workflow

/// Watches a node from inside, for the simulator's checks. Called on the node's loop, in the middle of its turn: it looks
/// and changes nothing.
@_spi(Simulation)
public protocol NodeObserver: AnyObject, Sendable {
    /// The node has applied `entry`. `digest` is over everything applied so far.
    func applied(_ entry: AppliedObservation)
    /// Everything up to `index`, of which the last entry is of `term`, is durable here.
    func durable(node: NodeID, group: GroupID, index: LogIndex, term: Term)
    /// The node has taken a snapshot in the place of its state.
    func installed(node: NodeID, group: GroupID, index: LogIndex, digest: UInt64)
}

@_spi(Simulation)
public struct AppliedObservation {
    public let node: NodeID
    public let group: GroupID
    public let entry: Entry
    public let digest: UInt64
    public let effects: [Effect]
    /// In force when the entry was applied.
    public let configuration: ConfState
    public let machine: WorkflowMachine?
}

/// What can be seen of one group between turns. Refers to the group: what it tells is of the moment it is asked.
@_spi(Simulation)
public struct GroupObservation {
    let group: RaftGroup

    public var id: GroupID { group.id }
    public var term: Term { group.core.term }
    public var role: Role { group.core.role }
    public var leader: NodeID { group.core.leader }
    public var commitIndex: LogIndex { group.core.commitIndex }
    public var appliedIndex: LogIndex { group.appliedIndex }
    public var appliedDigest: UInt64 { group.appliedDigest }
    public var lastIndex: LogIndex { group.core.lastIndex }
    public var configuration: ConfState { group.configuration }
    /// What Raft itself goes by.
    public var coreConfiguration: ConfState { group.core.configuration }
}

@_spi(Simulation)
extension Node {
    public var observedGroups: [GroupObservation] { groups.map(GroupObservation.init) }

    /// As `observedGroups`, without making an array: asked after every turn.
    public func observeGroups(_ body: (GroupObservation) -> Void) {
        for group in groups { body(GroupObservation(group: group)) }
    }

    public func observedTerm(of index: LogIndex, in group: GroupID) -> Term? {
        groups[group].flatMap { try? $0.core.core.log.term(at: index) }
    }

    /// The bytes of the state that the group has applied.
    public func observedState(of group: GroupID) -> [UInt8] { groups[group]?.machine.snapshot() ?? [] }

    /// Whether `observedState` is the same on the other node, found out without making it where it is large.
    /// Runs that ended at `compared` or before are not looked at again.
    public func hasSameState(as other: Node, in group: GroupID, compared: LogIndex = 0) -> Bool {
        guard let mine = observedMachine(of: group), let theirs = other.observedMachine(of: group) else {
            return observedState(of: group) == other.observedState(of: group)
        }
        return mine.hasSameState(as: theirs, compared: compared)
    }

    public func observedMachine(of group: GroupID) -> WorkflowMachine? { groups[group]?.workflowMachine }

    /// Ends the node without a word to anybody.
    public func abandon() { close() }

    public var observedMembers: [NodeID] { directory.state.members.map(\.nodeID) }
}
