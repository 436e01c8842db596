import Prelude

/// What a place in a run's history holds.
public enum RecordKind: UInt8, Sendable, CaseIterable, CustomStringConvertible {
    case step = 0
    case sideEffect = 1
    case variable = 2
    case timer = 3

    public init(_ kind: CheckpointKind) {
        switch kind {
        case .step: self = .step
        case .sideEffect: self = .sideEffect
        case .variable: self = .variable
        }
    }

    public var description: String {
        switch self {
        case .step: "step"
        case .sideEffect: "side_effect"
        case .variable: "variable"
        case .timer: "timer"
        }
    }
}

/// One place of a run's history. Once it is not pending it never changes.
public struct WorkflowRecord: Equatable, Sendable {
    public var position: UInt32
    public var kind: RecordKind
    public var key: String
    /// Nil for timers and for steps that failed for good.
    public var value: Payload?
    /// Empty unless the step failed for good.
    public var failure: String
    public var attempt: UInt32
    /// Of the owner that recorded it or started the timer.
    public var epoch: Epoch
    /// The log entry that recorded it; of a timer, the entry that fired it once it has fired.
    public var index: LogIndex
    public var timeMilliseconds: Int64
    /// Timers only.
    public var fireAtMilliseconds: Int64
    /// A timer that has not fired.
    public var isPending: Bool

    public init(
        position: UInt32, kind: RecordKind, key: String, value: Payload?, failure: String, attempt: UInt32,
        epoch: Epoch, index: LogIndex, timeMilliseconds: Int64, fireAtMilliseconds: Int64, isPending: Bool
    ) {
        self.position = position
        self.kind = kind
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

    /// What it counts for in the limits: its bytes, and an allowance for what is around them.
    var byteCount: Int { 96 + key.utf8.count + (value?.byteCount ?? 0) + failure.utf8.count }
}

extension Payload {
    var byteCount: Int { encoding.utf8.count + data.count }
}

extension TraceContext {
    var byteCount: Int { traceparent.utf8.count + tracestate.utf8.count }
}

/// One execution of a workflow, as the machine knows it. Confined to the loop, like the machine.
public final class WorkflowRun {
    public let id: RunID
    public let workflowID: String
    public let type: String
    public let version: UInt32
    public let input: Payload
    /// Empty: none.
    public let requestID: String
    /// What the call that started it came with.
    public let trace: TraceContext?
    public let startedMilliseconds: Int64

    public internal(set) var status = WorkflowStatus.running
    public internal(set) var owner: NodeID
    public internal(set) var ownerIncarnation: Incarnation
    public internal(set) var epoch: Epoch = 1
    /// 0 while it runs.
    public internal(set) var endedMilliseconds: Int64 = 0
    /// The log entry that ended it; 0 while it runs.
    public internal(set) var endedIndex: LogIndex = 0
    public internal(set) var result: Payload?
    /// Empty unless it failed.
    public internal(set) var failure = ""
    /// Why it does not advance; empty when it does. A new owner tries again.
    public internal(set) var stalled = ""
    /// In order of position. Steps that run in parallel end out of order: there may be gaps.
    public internal(set) var records: [WorkflowRecord] = []
    /// What it counts for in the limits.
    public internal(set) var byteCount: Int

    init(_ start: Command.Start, _ context: ApplyContext) {
        id = RunID(group: context.group, index: context.index)
        workflowID = start.workflowID
        type = start.type
        version = start.version
        input = start.input
        requestID = start.requestID
        trace = start.trace
        startedMilliseconds = context.timeMilliseconds
        owner = start.owner
        ownerIncarnation = start.ownerIncarnation
        byteCount = WorkflowRun.byteCount(of: start)
    }

    static func byteCount(of start: Command.Start) -> Int {
        256 + start.workflowID.utf8.count + start.type.utf8.count + start.input.byteCount + start.requestID.utf8.count
            + (start.trace?.byteCount ?? 0)
    }

    /// What is recorded at `position`, a pending timer included.
    public func record(at position: UInt32) -> WorkflowRecord? {
        let place = place(of: position)
        return place < records.count && records[place].position == position ? records[place] : nil
    }

    /// Where in `records` the position is, or would have to be inserted.
    func place(of position: UInt32) -> Int {
        // Nearly always the history has no gaps and the position is the next one.
        let guess = Int(position)
        if guess < records.count, records[guess].position == position { return guess }
        guard let last = records.last, last.position >= position else { return records.count }
        var low = 0
        var high = records.count
        while low < high {
            let middle = (low + high) / 2
            if records[middle].position < position { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
