import Prelude

/// What must be durable before a node answers (Raft Figure 2), and the commit index for faster restarts.
public struct HardState: Equatable, Sendable {
    public var term: Term
    public var vote: NodeID
    public var commit: LogIndex

    public init(term: Term = 0, vote: NodeID = .none, commit: LogIndex = 0) {
        self.term = term
        self.vote = vote
        self.commit = commit
    }

    public var isEmpty: Bool { self == HardState() }
}

/// A configuration as it is stored in snapshots. All lists are sorted. `votersOutgoing` is empty unless the
/// configuration is joint.
public struct ConfState: Equatable, Sendable {
    public var voters: [NodeID]
    public var learners: [NodeID]
    /// The voters of the configuration that a joint configuration leaves.
    public var votersOutgoing: [NodeID]
    /// Outgoing voters that become learners when the joint configuration is left.
    public var learnersNext: [NodeID]
    /// The leader leaves the joint configuration by itself as soon as it is applied.
    public var autoLeave: Bool

    public init(
        voters: [NodeID] = [], learners: [NodeID] = [], votersOutgoing: [NodeID] = [], learnersNext: [NodeID] = [],
        autoLeave: Bool = false
    ) {
        self.voters = voters
        self.learners = learners
        self.votersOutgoing = votersOutgoing
        self.learnersNext = learnersNext
        self.autoLeave = autoLeave
    }

    public var isJoint: Bool { !votersOutgoing.isEmpty }

    /// Whether a majority of this configuration, or of either half of it, can need `node`.
    public func isVoter(_ node: NodeID) -> Bool { voters.contains(node) || votersOutgoing.contains(node) }

    /// Whether `node` is a voter or a learner. Who is in `learnersNext` is an outgoing voter still.
    public func contains(_ node: NodeID) -> Bool { isVoter(node) || learners.contains(node) }
}

public struct SnapshotMetadata: Equatable, Sendable {
    /// The last entry that the snapshot covers.
    public var index: LogIndex
    public var term: Term
    /// The configuration as of `index`.
    public var confState: ConfState

    public init(index: LogIndex = 0, term: Term = 0, confState: ConfState = ConfState()) {
        self.index = index
        self.term = term
        self.confState = confState
    }
}

/// The state machine as of one index. An index of 0 means "no snapshot".
public struct Snapshot: Equatable, Sendable {
    public var metadata: SnapshotMetadata
    public var data: [UInt8]

    public init(metadata: SnapshotMetadata = SnapshotMetadata(), data: [UInt8] = []) {
        self.metadata = metadata
        self.data = data
    }

    public var isEmpty: Bool { metadata.index == 0 }

    var position: LogPosition { LogPosition(term: metadata.term, index: metadata.index) }
}

public enum Role: UInt8, Sendable { case follower, candidate, preCandidate, leader }

/// What applications like to know and nobody needs to store.
public struct SoftState: Equatable, Sendable {
    public var leader: NodeID
    public var role: Role

    public init(leader: NodeID, role: Role) {
        self.leader = leader
        self.role = role
    }
}

/// The answer to a read request: what is applied up to `index` is fresh enough for it.
public struct ReadState: Equatable, Sendable {
    public var index: LogIndex
    public var context: [UInt8]

    public init(index: LogIndex, context: [UInt8]) {
        self.index = index
        self.context = context
    }
}
