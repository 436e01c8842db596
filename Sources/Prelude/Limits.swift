/// Every limit of the program, with its unit in its name. Each group of limits is a struct with the defaults,
/// handed to what it limits; `validate` checks the relations between them.
public struct Limits: Sendable {
    public var raft = RaftLimits()
    public var log = LogLimits()
    public var wire = WireLimits()
    public var node = NodeLimits()
    public var workflow = WorkflowLimits()
    public var reactor = ReactorLimits()

    public init() {}
}

/// Raft timing and flow. Ticks are `tickMilliseconds` long.
public struct RaftLimits: Sendable {
    public var tickMilliseconds: UInt64 = 50
    public var heartbeatTicks = 2
    /// Elections begin after this many silent ticks, up to twice as many, drawn anew each time.
    public var electionTicks = 12
    public var messageByteCountMax: UInt64 = 1 << 20
    public var inflightMessageCountMax = 256
    public var inflightByteCountMax: UInt64 = 64 << 20
    public var committedByteCountPerReadyMax: UInt64 = 4 << 20
    public var uncommittedByteCountMax: UInt64 = 64 << 20

    public init() {}
}

public struct LogLimits: Sendable {
    public var segmentByteCount: UInt64 = 64 << 20
    /// One record: an entry with its data.
    public var recordByteCountMax: UInt64 = 16 << 20
    /// A batch is written in one piece; what is more waits for the next.
    public var batchByteCountMax: UInt64 = 8 << 20
    public var snapshotByteCountMax: UInt64 = 1 << 30

    public init() {}
}

public struct WireLimits: Sendable {
    public var messageByteCountMax = 4 << 20
    public var headerListByteCountMax = 16 << 10
    public var concurrentStreamCountMax: UInt32 = 1024
    public var connectionCountMax = 16_384
    public var streamWindowByteCount: Int32 = 1 << 20
    public var connectionWindowByteCount: Int32 = 8 << 20
    public var keepaliveIntervalMilliseconds: UInt64 = 30_000
    public var keepaliveTimeoutMilliseconds: UInt64 = 10_000
    /// From accept to the end of the client preface and its SETTINGS.
    public var handshakeTimeoutMilliseconds: UInt64 = 10_000
    /// Output waiting in one connection beyond which its handlers are told to stop writing.
    public var outputHighWatermarkByteCount = 4 << 20

    public init() {}
}

public struct NodeLimits: Sendable {
    /// Commands of this node that are proposed and not yet applied.
    public var pendingProposalCountMax = 65_536
    public var pendingProposalByteCountMax = 128 << 20
    public var pendingReadCountMax = 65_536
    /// From the proposal to its application; after this the caller is told that the outcome is unknown.
    public var proposalTimeoutMilliseconds: UInt64 = 10_000
    public var voterCountMax = 5
    /// Silence after which the leader hands the runs of a node to others.
    public var ownerFailureMilliseconds: UInt64 = 2_000
    public var snapshotEntryCount: UInt64 = 50_000
    public var keptEntryCount: UInt64 = 10_000
    public var shutdownGraceMilliseconds: UInt64 = 5_000

    public init() {}
}

public struct WorkflowLimits: Sendable {
    public var identifierByteCountMax = 512
    public var payloadByteCountMax = 2 << 20
    public var checkpointCountPerRunMax = 50_000
    public var runningCountMax = 1_000_000
    public var variableKeyByteCountMax = 1024
    public var variableValueByteCountMax = 1 << 20
    public var rememberedRequestCountMax = 100_000
    /// Out-of-order proposals of one life of one node that are remembered.
    public var originWindowCountMax = 131_072

    public init() {}
}

public struct ReactorLimits: Sendable {
    public var readBufferByteCount = 64 << 10
    public var listenBacklogCount: Int32 = 1024
    /// Bytes read from one connection per turn before the others get theirs.
    public var readByteCountPerTurnMax = 1 << 20
    /// Connections accepted by one listener per turn.
    public var acceptCountPerTurnMax = 64
    /// How long a listener rests when the system has no descriptor or memory for another connection.
    public var acceptPauseMilliseconds: UInt64 = 100
    /// Jobs of Swift concurrency, and submitted actions, run per turn before input and output get theirs.
    public var jobCountPerTurnMax = 1024
    /// How long connecting to one address may take before the next address is tried beside it (RFC 8305 §5).
    public var connectStaggerMilliseconds: UInt64 = 250
    /// How long a connection that is closing waits for the other side to take bytes, and then to end its own.
    public var lingerMilliseconds: UInt64 = 5_000
    /// Silence after which the system begins to probe the other side.
    public var keepaliveSeconds: UInt32 = 60

    public init() {}
}

/// Relations between limits that do not hold.
public struct LimitViolation: Error, Sendable, CustomStringConvertible {
    public var description: String
}

extension Limits {
    /// Throws the first relation that does not hold.
    public func validate() throws(LimitViolation) {
        func check(_ holds: Bool, _ relation: String) throws(LimitViolation) {
            if !holds { throw LimitViolation(description: "limits contradict each other: \(relation)") }
        }
        try check(raft.tickMilliseconds > 0, "raft.tickMilliseconds > 0")
        try check(raft.heartbeatTicks > 0, "raft.heartbeatTicks > 0")
        try check(raft.electionTicks > 2 * raft.heartbeatTicks, "raft.electionTicks > 2 × raft.heartbeatTicks")
        try check(
            raft.messageByteCountMax <= UInt64(wire.messageByteCountMax) / 2,
            "raft.messageByteCountMax ≤ wire.messageByteCountMax / 2")
        try check(
            UInt64(workflow.payloadByteCountMax) < log.recordByteCountMax,
            "workflow.payloadByteCountMax < log.recordByteCountMax")
        try check(
            workflow.payloadByteCountMax < wire.messageByteCountMax,
            "workflow.payloadByteCountMax < wire.messageByteCountMax")
        try check(
            workflow.variableValueByteCountMax < wire.messageByteCountMax,
            "workflow.variableValueByteCountMax < wire.messageByteCountMax")
        try check(
            log.batchByteCountMax + log.recordByteCountMax <= log.segmentByteCount,
            "log.batchByteCountMax + log.recordByteCountMax ≤ log.segmentByteCount")
        try check(
            UInt64(workflow.originWindowCountMax) > UInt64(node.pendingProposalCountMax),
            "workflow.originWindowCountMax > node.pendingProposalCountMax")
        try check(node.keptEntryCount < node.snapshotEntryCount, "node.keptEntryCount < node.snapshotEntryCount")
        try check(node.voterCountMax > 0, "node.voterCountMax > 0")
        try check(reactor.readBufferByteCount > 0, "reactor.readBufferByteCount > 0")
        try check(reactor.acceptCountPerTurnMax > 0, "reactor.acceptCountPerTurnMax > 0")
        try check(reactor.jobCountPerTurnMax > 0, "reactor.jobCountPerTurnMax > 0")
    }
}
