/// Every limit of the program, with its unit in its name. Each group of limits is a struct with the defaults,
/// handed to what it limits; `validate` checks the relations between them.
public struct Limits: Sendable {
    public var raft = RaftLimits()
    public var log = LogLimits()
    public var state = StateLimits()
    public var wire = WireLimits()
    public var node = NodeLimits()
    public var workflow = WorkflowLimits()
    public var reactor = ReactorLimits()
    public var client = ClientLimits()
    public var admin = AdminLimits()
    public var telemetry = TelemetryLimits()

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
    /// Data of the entries on their way to one follower. All groups' together fit into the queue of its connection, twice:
    /// what the queue drops is read from the log and encoded for nothing.
    public var inflightByteCountMax: UInt64 = 8 << 20
    /// Committed entries that are applied in one go.
    public var committedByteCountPerReadyMax: UInt64 = 256 << 10
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
    /// With more segments than this, a group whose entries keep the oldest one is compacted, however few they are.
    public var segmentCountMax = 8
    /// Segments are filled with zeros ahead of time in pieces of this size.
    public var fillByteCount: UInt64 = 1 << 20
    /// Once the disk is full, so many zeros are kept for what has been accepted and for votes: commands are refused
    /// before they are used up.
    public var reserveByteCount: UInt64 = 1 << 20

    public init() {}
}

public struct StateLimits: Sendable {
    /// Pages of one group's state store that are kept in memory.
    public var cacheByteCount = 8 << 20

    public init() {}
}

public struct WireLimits: Sendable {
    public var messageByteCountMax = 4 << 20
    public var headerListByteCountMax = 16 << 10
    /// A header block that goes on beyond this ends its connection. Up to here, and above `headerListByteCountMax`, it is
    /// a call that fails.
    public var headerBlockByteCountMax = 64 << 10
    public var concurrentStreamCountMax: UInt32 = 1024
    public var connectionCountMax = 16_384
    public var streamWindowByteCount: Int32 = 1 << 20
    public var connectionWindowByteCount: Int32 = 8 << 20
    public var keepaliveIntervalMilliseconds: UInt64 = 30_000
    public var keepaliveTimeoutMilliseconds: UInt64 = 10_000
    /// From accept to the end of the client preface and its SETTINGS.
    public var handshakeTimeoutMilliseconds: UInt64 = 10_000
    /// TLS handshakes of callers that are under way; each has `handshakeTimeoutMilliseconds`. With one more, the one that
    /// has been under way for longest is given up.
    public var handshakeCountMax = 1024
    /// Addresses of which a client remembers the names that their certificates have to bear.
    public var resolvedNameCountMax = 4096
    /// Output that the system has not taken yet beyond which a connection writes and reads no more.
    public var outputHighWatermarkByteCount = 4 << 20
    /// Output waiting in one stream beyond which its handler is told to stop writing, until half of it is gone.
    public var streamOutputHighWatermarkByteCount = 256 << 10
    /// Output waiting in one stream beyond which the call fails: its handler did not stop writing.
    public var streamOutputByteCountMax = 64 << 20
    /// Received messages that are incomplete or not yet taken by their handlers, in one connection and in all
    /// connections of one server or channel. A call that needs more fails.
    public var inboundByteCountPerConnectionMax = 64 << 20
    public var inboundByteCountMax = 512 << 20
    /// What waits in streams to be sent, in one connection and in all connections of one server. A call that would add
    /// more fails.
    public var outboundByteCountPerConnectionMax = 128 << 20
    public var outboundByteCountMax = 512 << 20
    /// What streams and frames have given back and is kept for the next ones, for all connections of one server or channel.
    public var keptSessionByteCountMax = 4 << 20
    /// What decompression of messages may read and write in one turn of one server or channel. What is over it waits
    /// for the next turn.
    public var inflatedByteCountPerTurnMax = 256 << 10
    /// Answers in kind to a caller that compresses: only messages of this size and more are compressed, and so many
    /// bytes of them in one turn of one server; the others go as they are.
    public var compressedByteCountMin = 1 << 10
    public var compressedByteCountPerTurnMax = 1 << 20
    /// Frames of a peer that cost work and bring none, above all RST_STREAM, and our own that it provokes: as many at once, then so many per second.
    public var unproductiveFrameBurstMax: UInt64 = 4096
    public var unproductiveFramesPerSecondMax: UInt64 = 256
    /// Calls of one channel that wait for a connection or for a free stream.
    public var queuedCallCountMax = 16_384
    public var connectTimeoutMilliseconds: UInt64 = 5_000
    /// Between attempts to connect: doubled from the first to the last, and drawn from ±20 % around that.
    public var reconnectBackoffMillisecondsMin: UInt64 = 50
    public var reconnectBackoffMillisecondsMax: UInt64 = 2_000

    public init() {}
}

public struct NodeLimits: Sendable {
    /// One piece of a backup that a client reads.
    public var backupPieceByteCount = 1 << 20
    /// How fast a node hands out a backup, so that its other work has the disk and the network.
    public var backupBytesPerSecondMax: UInt64 = 64 << 20
    /// A backup that nobody reads from for this long is dropped. A node has one at a time.
    public var backupIdleMilliseconds: UInt64 = 60_000
    /// State stores are copied in pieces of this size, for followers and for backups …
    public var imagePieceByteCount = 1 << 20
    /// … and at most this fast, so that the node's other work has the disk.
    public var imageBytesPerSecondMax: UInt64 = 64 << 20
    /// An image of another node's state store that is larger is not taken.
    public var imageByteCountMax: UInt64 = 256 << 30
    /// An image goes after so long without a reader, and a follower that has not fetched anything for so long is told of
    /// one again.
    public var imageIdleMilliseconds: UInt64 = 30_000
    /// Pieces of one image that are read, or wait for their turn, at the same time.
    public var imageReaderCountMax = 64
    /// Entries, and bytes of their data, that stay in the log for those who fetch an image, after its index.
    public var imageHeldEntryCountMax: UInt64 = 500_000
    public var imageHeldByteCountMax: UInt64 = 256 << 20
    /// A call for a piece of an image; and the pause after one that failed, or after an image that could not be made.
    public var imagePieceTimeoutMilliseconds: UInt64 = 10_000
    public var imageRetryMilliseconds: UInt64 = 500
    /// Commands of this node that are proposed and not yet applied.
    public var pendingProposalCountMax = 65_536
    public var pendingProposalByteCountMax = 128 << 20
    /// One command. What is larger might fit into a call, but not into the message that takes it to the other nodes.
    public var commandByteCountMax = 3 << 20
    public var pendingReadCountMax = 65_536
    /// From the proposal to its application; after this the caller is told that the outcome is unknown.
    public var proposalTimeoutMilliseconds: UInt64 = 10_000
    public var voterCountMax = 5
    /// Silence after which the leader hands the runs of a node to others.
    public var ownerFailureMilliseconds: UInt64 = 2_000
    /// Entries that one group applies in one turn of the loop, in bytes and in number: a turn ends with the piece
    /// (`committedByteCountPerReadyMax`) that reaches one of them. A long backlog, as after a restart, leaves the loop
    /// to heartbeats and answers in between.
    public var appliedByteCountPerTurnMax: UInt64 = 1 << 20
    public var appliedEntryCountPerTurnMax: UInt64 = 2_048
    /// The state store is brought up to date after this many applied entries, or after this many bytes of them.
    public var storeEntryCount: UInt64 = 20_000
    public var storeByteCount: UInt64 = 16 << 20
    /// As `storeEntryCount`, if it is less, for entries that a start found in the log: who is killed again and again
    /// while it applies them gets on all the same.
    public var replayedStoreEntryCount: UInt64 = 2_000
    /// Applied entries that the state store has not been handed, and bytes of them, beyond which commands and entries of
    /// the leader have to wait for it.
    public var unstoredEntryCountMax: UInt64 = 200_000
    public var unstoredByteCountMax: UInt64 = 256 << 20
    /// Entries that stay in the log behind the state store, for followers that are a little behind.
    public var keptEntryCount: UInt64 = 10_000
    /// Likewise, in bytes of their data: the log is held in memory, too.
    public var keptByteCount: UInt64 = 64 << 20
    /// A proposal that nothing was heard of for this long is proposed again.
    public var proposalRetryMilliseconds: UInt64 = 3_000
    public var readRetryMilliseconds: UInt64 = 500
    /// Calls that wait for the end of a run.
    public var pendingResultCountMax = 65_536
    /// Raft messages that wait for one peer's connection beyond which new ones are dropped (Raft sends them again).
    public var peerQueueByteCountMax = 32 << 20
    /// Streams of peers, beyond which only members get one.
    public var peerStreamCountMax = 1024
    /// Snapshots travel between nodes in parts of this size.
    public var snapshotPartByteCount = 1 << 20
    /// A learner whose log ends at most this many entries before the leader's may become a voter.
    public var caughtUpEntryCount: UInt64 = 1_000
    /// A silent reset of the leader's connection leads to an election after at most this time.
    public var suspicionMilliseconds: UInt64 = 100
    public var reconcileMilliseconds: UInt64 = 200
    /// How often a node whose disk is full looks for space.
    public var fullDiskRetryMilliseconds: UInt64 = 500
    /// A write under way for this long makes a disk slow: its node leads no group that another one can lead.
    public var slowWriteMilliseconds: UInt64 = 1_000
    /// For how long after its last slow write a disk counts as slow.
    public var slowDiskMemoryMilliseconds: UInt64 = 10_000
    /// A voter heard of within the time of so many heartbeats counts as living when another one is to be removed.
    public var freshContactHeartbeatCount: UInt64 = 5
    /// A voter that has been silent for this long may give its place to a learner, when there are as many voters as
    /// there may be.
    public var silentVoterMilliseconds: UInt64 = 60_000
    /// A member that has never come is dropped from the directory after this time: its joiner never heard its id.
    public var unseenMemberMilliseconds: UInt64 = 600_000
    /// Ownership changes of one node that are under way at the same time.
    public var claimBatchCountMax = 1024
    /// Timers that a leader fires at the same time.
    public var timerBatchCountMax = 1024
    public var shutdownGraceMilliseconds: UInt64 = 5_000
    /// From the end of the last call until connections that do not close are cut, within the grace.
    public var farewellMilliseconds: UInt64 = 500

    public init() {}
}

/// How a client of a cluster chooses among its nodes, and how long it repeats a call.
public struct ClientLimits: Sendable {
    /// Calls of one client that are open, whatever they wait for: names, a first answer of a peer, a pause, an answer.
    public var openCallCountMax = 65_536
    /// Addresses that are kept, of the names and of the leaders that were heard of.
    public var peerCountMax = 256
    /// A peer that did not answer is left alone for so long, doubled with each further failure, ±50 %.
    public var peerRestMillisecondsMin: UInt64 = 100
    public var peerRestMillisecondsMax: UInt64 = 10_000
    /// Peers that are slower than the nearest by less than this, or by less than half, are as good as it.
    public var equalLatencyMilliseconds: UInt64 = 2
    /// Names are resolved anew after this long, when there is a call.
    public var resolveMilliseconds: UInt64 = 30_000
    /// Peers are asked who they are after this long, when there is a call.
    public var askMilliseconds: UInt64 = 10_000
    /// An attempt that may be repeated at another peer gets this much of the call's time; so does a resolver.
    public var attemptMilliseconds: UInt64 = 5_000
    /// Once all peers have failed, a call that may be repeated goes round again for so long, or until its deadline.
    public var retryMilliseconds: UInt64 = 15_000
    /// The pause once all peers have failed: doubled each time, ±50 %.
    public var retryPauseMillisecondsMin: UInt64 = 50
    public var retryPauseMillisecondsMax: UInt64 = 2_000

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
    /// One run with its input, records and result.
    public var historyByteCountPerRunMax = 64 << 20
    /// The text that says why a step or a run failed, or why a run stalls.
    public var failureByteCountMax = 16 << 10
    /// Ended runs that are remembered; the run that ended first is forgotten first.
    public var endedCountMax = 200_000
    public var endedByteCountMax = 256 << 20
    public var variableCountMax = 1_000_000
    /// Runs and variables together, beyond which starts, checkpoints and puts are refused.
    public var stateByteCountMax = 768 << 20
    /// Runs looked at for one page of a listing; a page may be shorter than asked for because of it.
    public var listScanCountMax = 20_000
    /// Runs that one node executes at the same time; the others wait for their turn.
    public var executingRunCountMax = 10_000
    /// Pieces of workflow code that are run in one go before the loop gets to do something else.
    public var jobCountPerTurnMax = 4_096

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
    /// Threads for files and what else would block the loop.
    public var workThreadCountMax = 4
    /// How long connecting to one address may take before the next address is tried beside it (RFC 8305 §5).
    public var connectStaggerMilliseconds: UInt64 = 250
    /// How long a connection that is closing waits for the other side to take bytes, and then to end its own.
    public var lingerMilliseconds: UInt64 = 5_000
    /// Silence after which the system begins to probe the other side.
    public var keepaliveSeconds: UInt32 = 60

    public init() {}
}

/// The HTTP/1.1 listener for operators. What exceeds its limits is closed or refused; the node goes on.
public struct AdminLimits: Sendable {
    public var connectionCountMax: UInt32 = 64
    public var connectionCountPerAddressMax: UInt32 = 32
    /// Silence, or a request that does not get on, after which a connection is closed.
    public var connectionTimeoutSeconds: UInt32 = 10
    /// For the request's line and headers and what is read at once.
    public var connectionMemoryByteCount = 32 << 10

    public init() {}
}

/// What is counted and logged, whoever causes it.
public struct TelemetryLimits: Sendable {
    /// Names of metrics that a program may register.
    public var familyCountMax = 2_000
    /// Sets of labels of one name.
    public var labelSetCountPerFamilyMax = 1_000
    /// Lines of one kind that a peer can cause at once …
    public var logBurstCount: UInt64 = 10
    /// … and then one each of these.
    public var logIntervalMilliseconds: UInt64 = 1_000
    /// Streams of `grpc.health.v1.Health/Watch`.
    public var healthWatchCountMax = 1_024

    public init() {}
}

/// Of trace contexts, by the standard. Not to be set: what a run came with has to be read alike on every node.
public enum TraceLimits {
    public static let traceparentByteCount = 55
    /// What is kept of a `tracestate`.
    public static let tracestateByteCountMax = 512
    public static let tracestateMemberCountMax = 32
    /// Members with more than this are the first to go when there is no room for all.
    public static let shortMemberByteCountMax = 128
    /// A `tracestate` beyond this is not looked at.
    public static let receivedTracestateByteCountMax = 8 << 10
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
        // The active one, and one before it that groups in use go through.
        try check(log.segmentCountMax >= 2, "log.segmentCountMax ≥ 2")
        // So much is always filled ahead, as long as the disk has room.
        try check(log.reserveByteCount <= log.fillByteCount, "log.reserveByteCount ≤ log.fillByteCount")
        try check(
            UInt64(workflow.originWindowCountMax) > UInt64(node.pendingProposalCountMax),
            "workflow.originWindowCountMax > node.pendingProposalCountMax")
        try check(
            workflow.payloadByteCountMax < workflow.historyByteCountPerRunMax,
            "workflow.payloadByteCountMax < workflow.historyByteCountPerRunMax")
        try check(
            workflow.historyByteCountPerRunMax < workflow.endedByteCountMax,
            "workflow.historyByteCountPerRunMax < workflow.endedByteCountMax")
        try check(
            workflow.endedByteCountMax < workflow.stateByteCountMax,
            "workflow.endedByteCountMax < workflow.stateByteCountMax")
        try check(
            UInt64(workflow.stateByteCountMax) < log.snapshotByteCountMax,
            "workflow.stateByteCountMax < log.snapshotByteCountMax")
        try check(
            wire.streamWindowByteCount >= 65_535 && wire.connectionWindowByteCount >= wire.streamWindowByteCount,
            "65535 ≤ wire.streamWindowByteCount ≤ wire.connectionWindowByteCount")
        try check(
            wire.inboundByteCountPerConnectionMax >= wire.messageByteCountMax + Int(wire.connectionWindowByteCount),
            "wire.inboundByteCountPerConnectionMax ≥ wire.messageByteCountMax + wire.connectionWindowByteCount")
        try check(
            wire.headerBlockByteCountMax >= wire.headerListByteCountMax,
            "wire.headerBlockByteCountMax ≥ wire.headerListByteCountMax")
        try check(
            wire.outboundByteCountPerConnectionMax >= wire.streamOutputByteCountMax
                && wire.outboundByteCountMax >= wire.outboundByteCountPerConnectionMax,
            "wire.streamOutputByteCountMax ≤ wire.outboundByteCountPerConnectionMax ≤ wire.outboundByteCountMax")
        try check(
            wire.streamOutputByteCountMax >= wire.messageByteCountMax + wire.streamOutputHighWatermarkByteCount,
            "wire.streamOutputByteCountMax ≥ wire.messageByteCountMax + wire.streamOutputHighWatermarkByteCount")
        try check(wire.inflatedByteCountPerTurnMax > 0, "wire.inflatedByteCountPerTurnMax > 0")
        try check(
            wire.reconnectBackoffMillisecondsMin > 0
                && wire.reconnectBackoffMillisecondsMin <= wire.reconnectBackoffMillisecondsMax,
            "0 < wire.reconnectBackoffMillisecondsMin ≤ wire.reconnectBackoffMillisecondsMax")
        try check(
            raft.committedByteCountPerReadyMax > 0
                && raft.committedByteCountPerReadyMax <= node.appliedByteCountPerTurnMax,
            "0 < raft.committedByteCountPerReadyMax ≤ node.appliedByteCountPerTurnMax")
        try check(node.appliedEntryCountPerTurnMax > 0, "node.appliedEntryCountPerTurnMax > 0")
        try check(node.replayedStoreEntryCount > 0, "node.replayedStoreEntryCount > 0")
        try check(node.keptEntryCount < node.storeEntryCount, "node.keptEntryCount < node.storeEntryCount")
        try check(
            node.storeEntryCount <= node.unstoredEntryCountMax && node.storeByteCount <= node.unstoredByteCountMax,
            "node.storeEntryCount ≤ node.unstoredEntryCountMax, node.storeByteCount ≤ node.unstoredByteCountMax")
        try check(node.voterCountMax > 0, "node.voterCountMax > 0")
        try check(node.freshContactHeartbeatCount > 1, "node.freshContactHeartbeatCount > 1")
        try check(
            node.silentVoterMilliseconds > node.ownerFailureMilliseconds,
            "node.silentVoterMilliseconds > node.ownerFailureMilliseconds")
        try check(
            node.unseenMemberMilliseconds > node.proposalTimeoutMilliseconds,
            "node.unseenMemberMilliseconds > node.proposalTimeoutMilliseconds")
        try check(
            raft.inflightByteCountMax <= UInt64(node.peerQueueByteCountMax) / 4,
            "raft.inflightByteCountMax ≤ node.peerQueueByteCountMax / 4")
        try check(
            node.peerQueueByteCountMax + wire.messageByteCountMax <= wire.streamOutputByteCountMax,
            "node.peerQueueByteCountMax + wire.messageByteCountMax ≤ wire.streamOutputByteCountMax")
        try check(
            node.backupPieceByteCount > 0 && node.backupPieceByteCount + (64 << 10) <= wire.messageByteCountMax,
            "0 < node.backupPieceByteCount + 64 KiB ≤ wire.messageByteCountMax")
        try check(node.backupBytesPerSecondMax > 0, "node.backupBytesPerSecondMax > 0")
        try check(
            node.imagePieceByteCount > 0 && node.imagePieceByteCount + (64 << 10) <= wire.messageByteCountMax,
            "0 < node.imagePieceByteCount + 64 KiB ≤ wire.messageByteCountMax")
        try check(node.imageReaderCountMax > 0, "node.imageReaderCountMax > 0")
        try check(
            node.imageIdleMilliseconds >= node.imagePieceTimeoutMilliseconds,
            "node.imageIdleMilliseconds ≥ node.imagePieceTimeoutMilliseconds")
        try check(node.imageBytesPerSecondMax > 0, "node.imageBytesPerSecondMax > 0")
        // Room for what is around a command: identifiers, and the message of the entry that carries it.
        let around = 64 << 10
        try check(
            workflow.payloadByteCountMax + around <= node.commandByteCountMax,
            "workflow.payloadByteCountMax + 64 KiB ≤ node.commandByteCountMax")
        try check(
            workflow.variableValueByteCountMax + around <= node.commandByteCountMax,
            "workflow.variableValueByteCountMax + 64 KiB ≤ node.commandByteCountMax")
        try check(
            node.commandByteCountMax + around <= wire.messageByteCountMax,
            "node.commandByteCountMax + 64 KiB ≤ wire.messageByteCountMax")
        try check(reactor.readBufferByteCount > 0, "reactor.readBufferByteCount > 0")
        try check(reactor.acceptCountPerTurnMax > 0, "reactor.acceptCountPerTurnMax > 0")
        try check(reactor.jobCountPerTurnMax > 0, "reactor.jobCountPerTurnMax > 0")
        // One may be held up by a slow disk for long.
        try check(reactor.workThreadCountMax > 1, "reactor.workThreadCountMax > 1")
        try check(admin.connectionCountMax > 0, "admin.connectionCountMax > 0")
        try check(admin.connectionMemoryByteCount >= 4 << 10, "admin.connectionMemoryByteCount ≥ 4 KiB")
    }
}

/// Bounds of the message codec, which takes no configuration.
public enum CodecLimits {
    /// A decoding may take this much memory for its structs, whatever the length of its input …
    public static let decodingByteCountMin = 64 << 10
    /// … and this much for each byte of input beyond. The smallest Raft entry that is ever sent asks for about 22.
    public static let decodingByteCountPerInputByte = 32
    /// What each thread keeps between messages.
    public static let keptArenaByteCountMax = 4 << 20
    /// Identifiers on the wire stay below 2^63, so that arithmetic on them cannot overflow.
    public static let identifierMax = UInt64(Int64.max)
}
