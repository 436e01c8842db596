import Prelude

/// How a node takes part. Ticks are whatever the caller makes them; byte counts are those of `Entry.byteCount`.
public struct RaftConfiguration: Sendable {
    public enum ReadOnlyOption: Sendable {
        /// A read is confirmed by a round of heartbeats.
        case safe
        /// A read relies on the lease that `checkQuorum` gives the leader, and so on clocks that run at a like pace.
        case leaseBased
    }

    /// Neither 0 nor one of the local threads.
    public var id: NodeID
    /// A follower that has heard nothing for this many ticks, up to twice as many, campaigns.
    public var electionTicks: Int
    public var heartbeatTicks: Int
    /// What the application has applied before the start; entries up to here are not handed out again.
    public var applied: LogIndex = 0
    /// Storage work goes out as messages to `NodeID.localAppendThread` and `.localApplyThread`, and its completion
    /// comes back as their responses, instead of by `RawNode.advance`.
    public var asyncStorageWrites = false
    /// Bounds the entries of one append message, which holds at least one.
    public var messageByteCountMax = UInt64.max
    /// Bounds the committed entries of one `Ready`, and those that are handed out and not yet applied.
    public var committedByteCountPerReadyMax = UInt64.max
    /// Bounds the data of the entries that a leader has appended and not yet applied; further proposals are dropped.
    /// One proposal of any size is taken when there is nothing else.
    public var uncommittedByteCountMax = UInt64.max
    public var inflightMessageCountMax = Int.max
    /// Bounds the data in flight to one follower. At least `messageByteCountMax`.
    public var inflightByteCountMax = UInt64.max
    /// Reads that wait for a leader's confirmation; further ones are dropped.
    public var pendingReadCountMax = 65_536
    /// A leader that does not hear from a quorum for `electionTicks` steps down, and nobody votes while it hears from
    /// a leader.
    public var checkQuorum = false
    /// Before it raises its term, a candidate asks whether it could win (Raft dissertation §9.6).
    public var preVote = false
    public var readOnlyOption = ReadOnlyOption.safe
    /// Followers drop proposals instead of sending them to the leader.
    public var disableProposalForwarding = false
    /// The leader appends configuration changes that contradict the present configuration, or another change that is
    /// not yet applied. For applications that check by themselves.
    public var disableConfChangeValidation = false
    /// A leader that is no longer a voter steps down.
    public var stepDownOnRemoval = false
    @_spi(Planted) public var plantedBugs: PlantedBugs = []
    /// Draws the election timeouts.
    public var random: SeededRandom

    public init(id: NodeID, electionTicks: Int = 10, heartbeatTicks: Int = 1, random: SeededRandom) {
        self.id = id
        self.electionTicks = electionTicks
        self.heartbeatTicks = heartbeatTicks
        self.random = random
    }

    public init(id: NodeID, limits: RaftLimits, random: SeededRandom) {
        self.init(
            id: id, electionTicks: limits.electionTicks, heartbeatTicks: limits.heartbeatTicks, random: random)
        messageByteCountMax = limits.messageByteCountMax
        committedByteCountPerReadyMax = limits.committedByteCountPerReadyMax
        uncommittedByteCountMax = limits.uncommittedByteCountMax
        inflightMessageCountMax = limits.inflightMessageCountMax
        inflightByteCountMax = limits.inflightByteCountMax
    }

    func validate() throws(RaftError) {
        func check(_ holds: Bool, _ reason: String) throws(RaftError) {
            if !holds { throw .invalidConfiguration(reason: reason) }
        }
        try check(id != .none && !id.isLocalThread, "node id \(id) is reserved")
        try check(heartbeatTicks > 0, "heartbeatTicks must be above 0")
        try check(electionTicks > heartbeatTicks, "electionTicks must be above heartbeatTicks")
        try check(inflightMessageCountMax > 0, "inflightMessageCountMax must be above 0")
        try check(committedByteCountPerReadyMax > 0, "committedByteCountPerReadyMax must be above 0")
        try check(
            inflightByteCountMax >= messageByteCountMax || messageByteCountMax == .max,
            "inflightByteCountMax must not be below messageByteCountMax")
        try check(
            readOnlyOption == .safe || checkQuorum, "lease-based reads need checkQuorum: without it there is no lease")
    }
}
