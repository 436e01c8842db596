import Prelude

/// How a node stands, for people and for decisions outside of the core. A copy.
public struct RaftStatus: Sendable {
    public var id: NodeID
    public var hardState: HardState
    public var softState: SoftState
    public var applied: LogIndex
    public var configuration: ConfState
    public var transferee: NodeID
    /// In order of the ids. On a leader only; empty elsewhere.
    public var progress: [PeerProgress]

    public struct PeerProgress: Sendable {
        public var id: NodeID
        /// The last entry known to be durable there.
        public var match: LogIndex
        /// The first entry to be sent next.
        public var next: LogIndex
        public var state: ProgressState
        /// Heard of since the last check of the quorum.
        public var recentActive: Bool
        public var isLearner: Bool
        public var isPaused: Bool
        /// 0 unless a snapshot is on its way.
        public var pendingSnapshot: LogIndex
        public var inflightCount: Int
        public var isInflightFull: Bool
    }
}

extension RaftStatus.PeerProgress {
    package init(_ id: NodeID, _ progress: Progress) {
        self.init(
            id: id, match: progress.match, next: progress.next, state: progress.state,
            recentActive: progress.recentActive, isLearner: progress.isLearner, isPaused: progress.isPaused,
            pendingSnapshot: progress.pendingSnapshot, inflightCount: progress.inflights.count,
            isInflightFull: progress.inflights.isFull)
    }
}
