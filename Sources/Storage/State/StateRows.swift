import Prelude
import Raft

/// Bytes with the name of their encoding.
public struct StoredPayload: Equatable, Sendable {
    public var encoding: String
    public var data: [UInt8]

    public init(encoding: String, data: [UInt8]) {
        self.encoding = encoding
        self.data = data
    }
}

/// A run without its records.
public struct StoredRun: Equatable, Sendable {
    /// The log entry that started it.
    public var index: LogIndex
    public var workflowID: String
    public var type: String
    public var version: UInt32
    /// The name of its status, and the number that stands for it in messages.
    public var status: String
    public var statusCode: UInt32
    public var input: StoredPayload
    public var requestID: String
    public var startedMilliseconds: Int64
    public var owner: NodeID
    public var ownerIncarnation: Incarnation
    public var epoch: Epoch
    public var stalled: String
    public var endedMilliseconds: Int64
    public var endedIndex: LogIndex
    public var result: StoredPayload?
    public var failure: String
    /// The machine knows it. False for ended runs that only the store knows.
    public var isRemembered: Bool
    /// The trace context of its start, in one line; empty: none.
    public var trace: String

    public init(
        index: LogIndex, workflowID: String, type: String, version: UInt32, status: String, statusCode: UInt32,
        input: StoredPayload, requestID: String, startedMilliseconds: Int64, owner: NodeID,
        ownerIncarnation: Incarnation, epoch: Epoch, stalled: String, endedMilliseconds: Int64, endedIndex: LogIndex,
        result: StoredPayload?, failure: String, isRemembered: Bool, trace: String = ""
    ) {
        self.index = index
        self.workflowID = workflowID
        self.type = type
        self.version = version
        self.status = status
        self.statusCode = statusCode
        self.input = input
        self.requestID = requestID
        self.startedMilliseconds = startedMilliseconds
        self.owner = owner
        self.ownerIncarnation = ownerIncarnation
        self.epoch = epoch
        self.stalled = stalled
        self.endedMilliseconds = endedMilliseconds
        self.endedIndex = endedIndex
        self.result = result
        self.failure = failure
        self.isRemembered = isRemembered
        self.trace = trace
    }
}

/// One place of a run's history.
public struct StoredRunRecord: Equatable, Sendable {
    public var run: LogIndex
    public var position: UInt32
    /// The name of its kind, and the number that stands for it.
    public var kind: String
    public var kindCode: UInt8
    public var key: String
    public var value: StoredPayload?
    public var failure: String
    public var attempt: UInt32
    public var epoch: Epoch
    public var index: LogIndex
    public var timeMilliseconds: Int64
    public var fireAtMilliseconds: Int64
    public var isPending: Bool

    public init(
        run: LogIndex, position: UInt32, kind: String, kindCode: UInt8, key: String, value: StoredPayload?,
        failure: String, attempt: UInt32, epoch: Epoch, index: LogIndex, timeMilliseconds: Int64,
        fireAtMilliseconds: Int64, isPending: Bool
    ) {
        self.run = run
        self.position = position
        self.kind = kind
        self.kindCode = kindCode
        self.key = key
        self.value = value
        self.failure = failure
        self.attempt = attempt
        self.epoch = epoch
        self.index = index
        self.timeMilliseconds = timeMilliseconds
        self.fireAtMilliseconds = fireAtMilliseconds
        self.isPending = isPending
    }
}

public struct StoredVariable: Equatable, Sendable {
    public var key: String
    public var value: [UInt8]
    public var revision: UInt64

    public init(key: String, value: [UInt8], revision: UInt64) {
        self.key = key
        self.value = value
        self.revision = revision
    }
}

/// What a request about a variable was answered.
public struct StoredAnswer: Equatable, Sendable {
    /// In order of arrival, from the first that this store saw.
    public var sequence: UInt64
    public var kindCode: UInt8
    public var requestID: String
    /// Whether a swap swapped, or a deletion found something.
    public var flag: Bool
    public var revision: UInt64

    public init(sequence: UInt64, kindCode: UInt8, requestID: String, flag: Bool, revision: UInt64) {
        self.sequence = sequence
        self.kindCode = kindCode
        self.requestID = requestID
        self.flag = flag
        self.revision = revision
    }
}

/// Which proposals of a node's life have been applied, in the machine's own form.
public struct StoredOrigin: Equatable, Sendable {
    public var node: NodeID
    public var window: [UInt8]

    public init(node: NodeID, window: [UInt8]) {
        self.node = node
        self.window = window
    }
}

/// What the store as a whole is as of.
public struct StateHead: Equatable, Sendable {
    public var metadata: SnapshotMetadata
    /// Over all entries applied up to `metadata.index`.
    public var digest: UInt64
    /// Of the newest variable put or swapped.
    public var revision: UInt64

    public init(metadata: SnapshotMetadata, digest: UInt64, revision: UInt64 = 0) {
        self.metadata = metadata
        self.digest = digest
        self.revision = revision
    }
}

/// Changes that bring a store from one applied index to a later one, in one transaction.
public struct StateBatch: Sendable {
    public var head: StateHead
    /// What the machine knows begins anew, as after a snapshot: earlier rows of remembered runs, variables, answers and
    /// origins go first. Runs that only the store knows stay.
    public var replacesMachine = false
    public var runs: [StoredRun] = []
    /// Ended runs that the machine does not know any more.
    public var forgottenRuns: [LogIndex] = []
    public var records: [StoredRunRecord] = []
    public var variables: [StoredVariable] = []
    public var removedVariables: [String] = []
    public var answers: [StoredAnswer] = []
    /// Answers before this one are forgotten.
    public var firstAnswer: UInt64 = 0
    public var origins: [StoredOrigin] = []
    /// The whole state of a machine that has no rows of its own.
    public var blob: [UInt8]?

    public init(head: StateHead) { self.head = head }
}

/// What the machine knew as of the head; each in its order.
public struct StoredState: Sendable {
    public var head: StateHead
    public var runs: [StoredRun] = []
    public var records: [StoredRunRecord] = []
    public var variables: [StoredVariable] = []
    public var answers: [StoredAnswer] = []
    public var firstAnswer: UInt64 = 0
    public var origins: [StoredOrigin] = []
    public var blob: [UInt8]?
}

/// Which runs a listing is about.
public struct RunFilter: Equatable, Sendable {
    public var type: String?
    public var statusCode: UInt32?
    public var workflowID: String?
    /// Runs started before this one.
    public var before: LogIndex?

    public init(type: String? = nil, statusCode: UInt32? = nil, workflowID: String? = nil, before: LogIndex? = nil) {
        self.type = type
        self.statusCode = statusCode
        self.workflowID = workflowID
        self.before = before
    }
}
