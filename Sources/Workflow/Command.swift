import Prelude

/// Bytes with the name of their encoding, `json/plain` for JSON.
public struct Payload: Hashable, Sendable {
    public var encoding: String
    public var data: [UInt8]

    public init(encoding: String = Payload.jsonEncoding, data: [UInt8]) {
        self.encoding = encoding
        self.data = data
    }

    public static let jsonEncoding = "json/plain"
}

/// Raw values are those of `raftoral.WorkflowStatus`.
public enum WorkflowStatus: UInt32, Sendable, CaseIterable {
    case running = 1
    case completed = 2
    case failed = 3
    case cancelled = 4
    case terminated = 5
    case timedOut = 6

    public var isEnded: Bool { self != .running }
}

extension WorkflowStatus: CustomStringConvertible {
    /// The name of the case. State stores hold it beside the number.
    public var description: String {
        switch self {
        case .running: "running"
        case .completed: "completed"
        case .failed: "failed"
        case .cancelled: "cancelled"
        case .terminated: "terminated"
        case .timedOut: "timedOut"
        }
    }
}

/// Raw values are those of `raftoral.CheckpointKind`; timers have a command of their own.
public enum CheckpointKind: UInt32, Sendable {
    case step = 0
    case sideEffect = 1
    case variable = 2
}

/// Raw values are those of `raftoral.OwnerChangeReason`.
public enum OwnerChangeReason: UInt32, Sendable {
    case nodeFailure = 0
    case loadBalancing = 1
}

/// What one group's workflow machine applies, in log order. One case for each of `raftoral.WorkflowCommand`.
public enum Command: Equatable, Sendable {
    case start(Start)
    case end(End)
    case checkpoint(Checkpoint)
    case ownerChange(OwnerChange)
    case timerStart(TimerStart)
    case timerFire(TimerFire)
    case variablePut(VariablePut)
    case variableCompareAndSwap(VariableCompareAndSwap)
    case variableDelete(VariableDelete)
    case stall(Stall)

    public struct Start: Equatable, Sendable {
        public var workflowID: String
        public var type: String
        public var version: UInt32
        public var input: Payload
        public var owner: NodeID
        public var ownerIncarnation: Incarnation
        /// Empty: none.
        public var requestID: String
        /// Nil until every member knows protocol level 2.
        public var trace: TraceContext?

        public init(
            workflowID: String, type: String, version: UInt32, input: Payload, owner: NodeID,
            ownerIncarnation: Incarnation, requestID: String = "", trace: TraceContext? = nil
        ) {
            self.workflowID = workflowID
            self.type = type
            self.version = version
            self.input = input
            self.owner = owner
            self.ownerIncarnation = ownerIncarnation
            self.requestID = requestID
            self.trace = trace
        }
    }

    public struct End: Equatable, Sendable {
        public var run: RunID
        public var epoch: Epoch
        public var status: WorkflowStatus
        public var result: Payload?
        /// Empty unless the run failed.
        public var failure: String

        public init(run: RunID, epoch: Epoch, status: WorkflowStatus, result: Payload?, failure: String = "") {
            self.run = run
            self.epoch = epoch
            self.status = status
            self.result = result
            self.failure = failure
        }
    }

    public struct Checkpoint: Equatable, Sendable {
        public var run: RunID
        public var epoch: Epoch
        /// From 0: the place in the run's history. The first record of a place wins.
        public var position: UInt32
        public var kind: CheckpointKind
        public var key: String
        /// Nil when the step failed for good.
        public var value: Payload?
        /// Empty unless the step failed for good.
        public var failure: String
        /// From 1: the attempt that gave the result.
        public var attempt: UInt32

        public init(
            run: RunID, epoch: Epoch, position: UInt32, kind: CheckpointKind, key: String, value: Payload?,
            failure: String = "", attempt: UInt32 = 1
        ) {
            self.run = run
            self.epoch = epoch
            self.position = position
            self.kind = kind
            self.key = key
            self.value = value
            self.failure = failure
            self.attempt = attempt
        }
    }

    public struct OwnerChange: Equatable, Sendable {
        public var run: RunID
        public var oldOwner: NodeID
        public var newOwner: NodeID
        public var newOwnerIncarnation: Incarnation
        public var reason: OwnerChangeReason
        /// The epoch that is replaced; another one makes the command void.
        public var epoch: Epoch

        public init(
            run: RunID, oldOwner: NodeID, newOwner: NodeID, newOwnerIncarnation: Incarnation,
            reason: OwnerChangeReason, epoch: Epoch
        ) {
            self.run = run
            self.oldOwner = oldOwner
            self.newOwner = newOwner
            self.newOwnerIncarnation = newOwnerIncarnation
            self.reason = reason
            self.epoch = epoch
        }
    }

    public struct TimerStart: Equatable, Sendable {
        public var run: RunID
        public var epoch: Epoch
        public var position: UInt32
        public var key: String
        /// Counted from the time that the leader gave the command.
        public var durationMilliseconds: UInt64

        public init(run: RunID, epoch: Epoch, position: UInt32, key: String, durationMilliseconds: UInt64) {
            self.run = run
            self.epoch = epoch
            self.position = position
            self.key = key
            self.durationMilliseconds = durationMilliseconds
        }
    }

    public struct TimerFire: Equatable, Sendable {
        public var run: RunID
        public var position: UInt32

        public init(run: RunID, position: UInt32) {
            self.run = run
            self.position = position
        }
    }

    public struct VariablePut: Equatable, Sendable {
        public var key: String
        public var value: [UInt8]
        public var requestID: String

        public init(key: String, value: [UInt8], requestID: String = "") {
            self.key = key
            self.value = value
            self.requestID = requestID
        }
    }

    public struct VariableCompareAndSwap: Equatable, Sendable {
        public var key: String
        /// 0: only if absent.
        public var expectedRevision: UInt64
        public var value: [UInt8]
        public var requestID: String

        public init(key: String, expectedRevision: UInt64, value: [UInt8], requestID: String = "") {
            self.key = key
            self.expectedRevision = expectedRevision
            self.value = value
            self.requestID = requestID
        }
    }

    public struct VariableDelete: Equatable, Sendable {
        public var key: String
        public var requestID: String

        public init(key: String, requestID: String = "") {
            self.key = key
            self.requestID = requestID
        }
    }

    /// A replay asked for something else than what is recorded: the run keeps its state and waits for a human.
    public struct Stall: Equatable, Sendable {
        public var run: RunID
        public var epoch: Epoch
        public var reason: String

        public init(run: RunID, epoch: Epoch, reason: String) {
            self.run = run
            self.epoch = epoch
            self.reason = reason
        }
    }
}

/// Names one proposal of one life of one node. A machine applies an origin at most once, so that a proposal whose
/// fate is unknown may be proposed again.
public struct CommandOrigin: Hashable, Sendable {
    public var node: NodeID
    public var incarnation: Incarnation
    /// From 1, rising within the incarnation.
    public var sequence: UInt64

    public init(node: NodeID, incarnation: Incarnation, sequence: UInt64) {
        self.node = node
        self.incarnation = incarnation
        self.sequence = sequence
    }
}
