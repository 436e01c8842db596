import Prelude

/// What a core has just decided, and why: for logs. Nothing depends on it.
public enum RaftEvent: Sendable {
    // MARK: Beginnings
    case started(voters: [NodeID], HardState, applied: LogIndex, last: LogPosition)
    case switchedConfiguration(ConfState)
    case becameFollower(Term)
    case becamePreCandidate(Term)
    case becameCandidate(Term)
    case becameLeader(Term)

    // MARK: Elections
    case electionStarted(Term)
    case campaignRefused(CampaignRefusal, Term)
    case voteRequested(MessageKind, of: NodeID, last: LogPosition, Term)
    case voteReceived(MessageKind, from: NodeID, granted: Bool, Term)
    case votesCounted(MessageKind, granted: Int, rejected: Int)
    /// Somebody asked for a vote.
    case voteAnswered(MessageKind, to: NodeID, VoteAnswer, candidate: LogPosition, own: LogPosition, HardState)
    case quorumLost
    case timeoutNow(from: NodeID, Term, Role)
    case forgotLeader(NodeID, Term)
    case forgettingLeaderRefused

    public enum CampaignRefusal: Sendable { case isLeader, unpromotable, unappliedConfChange }
    public enum VoteAnswer: Sendable { case granted, rejected, ignored(leaseTicks: Int) }

    // MARK: Terms
    case higherTerm(MessageKind, from: NodeID, Term, own: Term)
    case lowerTermIgnored(MessageKind, from: NodeID, Term, own: Term)

    // MARK: Log
    case conflictFound(LogIndex, existing: Term, replacing: Term)
    case unstableReplaced(from: LogIndex)
    case unstableTruncated(from: LogIndex)
    case stableIgnored(LogPosition, StableRefusal)
    case appendRejected(own: LogPosition, previous: LogPosition, from: NodeID)
    case snapshotRestoreStarted(LogState, SnapshotMetadata)
    case snapshotFastForwarded(commit: LogIndex, last: LogPosition, SnapshotMetadata)
    case snapshotInstalled(commit: LogIndex, last: LogPosition, SnapshotMetadata)
    case snapshotHandled(restored: Bool, commit: LogIndex, SnapshotMetadata)
    case snapshotNotForThisNode(ConfState)

    public enum StableRefusal: Sendable { case missing, matchedSnapshot, replacedMeanwhile(Term) }

    public struct LogState: Sendable {
        public var committed: LogIndex
        public var applied: LogIndex
        public var applying: LogIndex
        public var unstableOffset: LogIndex
        public var unstableOffsetInProgress: LogIndex
        public var unstableCount: Int
    }

    // MARK: Proposals
    case proposalDropped(ProposalRefusal, Term)
    case confChangeRefused(ConfChange, ConfState, reason: String)
    case leavingJointConfiguration(ConfState)
    case droppedWithoutLeader(MessageKind, Term)

    public enum ProposalRefusal: Sendable { case noLeader, notForwarded(NodeID), transferring(NodeID), tailTooLarge }

    // MARK: Replication
    case noProgress(of: NodeID)
    case rejectionReceived(hint: LogPosition, from: NodeID, LogIndex)
    case progressDecreased(RaftStatus.PeerProgress)
    case unreachable(RaftStatus.PeerProgress)
    case snapshotSent(RaftStatus.PeerProgress, SnapshotMetadata, firstIndex: LogIndex, commit: LogIndex)
    case snapshotNotSent(to: NodeID, SnapshotRefusal)
    case replicationPaused(RaftStatus.PeerProgress)
    case recoveredFromSnapshot(RaftStatus.PeerProgress)
    case snapshotReported(RaftStatus.PeerProgress, succeeded: Bool)

    public enum SnapshotRefusal: Sendable { case inactive, unavailable, outdatedConfiguration }

    // MARK: Transfer
    case transfer(TransferStep, to: NodeID, Term)

    public enum TransferStep: Sendable {
        case started, sentAtOnce, sentAfterCatchingUp, aborted, alreadyUnderWay, toLearner, toSelf
    }
}
