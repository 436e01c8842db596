import DequeModule
import Prelude

/// The replicated state of one group of workflows.
///
/// Deterministic: the same commands in the same order give the same state, results and effects on every replica.
/// It reads no clock, draws nothing, and never goes through an unsorted collection to decide anything. For the
/// same reason its limits have to be the same on every replica.
///
/// A class confined to the loop, because the node applies to it and the runtime reads from it.
public final class WorkflowMachine {
    public let group: GroupID
    public let limits: WorkflowLimits

    /// By the index of the run's start.
    var runs: [LogIndex: WorkflowRun] = [:]
    var newest: [ExactText: WorkflowRun] = [:]
    /// Runs that were started with a request id.
    var runsByRequest: [ExactText: WorkflowRun] = [:]

    var order = SortedBuckets<LogIndex>()
    /// Indexed by the raw value of the status.
    var orderByStatus = [SortedBuckets<LogIndex>](
        repeating: SortedBuckets(), count: WorkflowStatus.allCases.count + 1)
    var ownership: [NodeID: [OwnedRuns]] = [:]
    var timers = SortedBuckets<PendingTimer>()
    /// Ended runs, the one that ended first in front.
    var ended: Deque<LogIndex> = []
    var endedByteCount = 0
    var runByteCount = 0

    var variables: [ExactText: Variable] = [:]
    var variableByteCount = 0
    /// Of the newest put or swap; rises with each.
    public internal(set) var revision: UInt64 = 0
    var answers = RequestAnswers()
    var origins: [NodeID: OriginWindow] = [:]
    /// Nil as long as nobody follows.
    var changes: MachineChanges?

    /// A planted mistake, for tests only: earlier owners of a run may go on.
    @_spi(Planted) public var ignoresEpochs = false

    public init(group: GroupID, limits: WorkflowLimits = WorkflowLimits()) {
        self.group = group
        self.limits = limits
    }

    /// Applies one command and tells what follows from it.
    public func apply(_ command: Command, _ context: ApplyContext) -> (result: CommandResult, effects: [Effect]) {
        var effects: [Effect] = []
        let result = apply(command, context, into: &effects)
        return (result, effects)
    }

    /// As `apply(_:_:)`, for many commands in a row: appends to `effects`.
    public func apply(
        _ command: Command, _ context: ApplyContext, into effects: inout [Effect]
    ) -> CommandResult {
        if let origin = context.origin, let answer = refuseKnown(origin) { return answer }
        do throws(Refusal) {
            switch command {
            case .start(let start): return try apply(start, context, &effects)
            case .end(let end): return try apply(end, context, &effects)
            case .checkpoint(let checkpoint): return try apply(checkpoint, context, &effects)
            case .ownerChange(let change): return try apply(change, &effects)
            case .timerStart(let timer): return try apply(timer, context, &effects)
            case .timerFire(let timer): return try apply(timer, context, &effects)
            case .variablePut(let put): return try apply(put)
            case .variableCompareAndSwap(let swap): return try apply(swap)
            case .variableDelete(let delete): return try apply(delete)
            case .stall(let stall): return try apply(stall, &effects)
            }
        } catch {
            return .refused(error)
        }
    }

    /// What the runs and variables count for in `limits.stateByteCountMax`.
    public var stateByteCount: Int { runByteCount + variableByteCount }

    /// Nil when the origin is new; it is known from now on.
    private func refuseKnown(_ origin: CommandOrigin) -> CommandResult? {
        let wordCountMax = max(1, limits.originWindowCountMax / 64)
        guard let known = origins[origin.node]?.incarnation, known >= origin.incarnation else {
            var window = OriginWindow(incarnation: origin.incarnation)
            _ = window.admit(origin.sequence, wordCountMax: wordCountMax)
            origins[origin.node] = window
            return nil
        }
        // An earlier life of the node has nobody left who waits for the answer.
        guard known == origin.incarnation else { return .refused(.superseded) }
        switch origins[origin.node]?.admit(origin.sequence, wordCountMax: wordCountMax) {
        case .new, nil: return nil
        case .seen: return .duplicate
        case .tooOld: return .refused(.superseded)
        }
    }

    func require(_ limit: Refusal.Limit, _ value: Int, max: Int) throws(Refusal) {
        if value > max { throw .limitExceeded(limit, value: value, max: max) }
    }

    func require(identifier: String, _ name: String) throws(Refusal) {
        if identifier.isEmpty { throw .invalid("the \(name) is empty") }
        try require(.identifierByteCount, identifier.utf8.count, max: limits.identifierByteCountMax)
    }

    func require(payload: Payload?) throws(Refusal) {
        guard let payload else { return }
        try require(.identifierByteCount, payload.encoding.utf8.count, max: limits.identifierByteCountMax)
        try require(.payloadByteCount, payload.data.count, max: limits.payloadByteCountMax)
    }
}

/// A timer that has not fired, in the order of firing.
struct PendingTimer: Comparable {
    var fireAtMilliseconds: Int64
    var run: LogIndex
    var position: UInt32

    static func < (left: PendingTimer, right: PendingTimer) -> Bool {
        (left.fireAtMilliseconds, left.run, left.position) < (right.fireAtMilliseconds, right.run, right.position)
    }
}

/// The running runs of one life of one node.
struct OwnedRuns {
    let incarnation: Incarnation
    var runs = SortedBuckets<LogIndex>()
}
