import Prelude

/// Something that a task of the run waits for: the record of a position, or a delay.
typealias WaitID = UInt64

/// One node's execution of a run in one epoch: the user's function, replayed against the recorded history.
///
/// Positions are claimed in the order of the calls. What is recorded is told to the function one record at a time, in
/// the order of the log, and each only when the function has come to rest after the one before: so the function
/// takes the same way whenever and wherever it is executed, parallel steps included.
final class RunExecution {
    enum State: Equatable {
        case running
        /// The function has returned, and how the run ends is being proposed; or the run stalls.
        case concluding
        /// Somebody else has the run, or nobody any more.
        case stopped
    }

    private struct Delivery: Comparable {
        var index: LogIndex
        var position: UInt32

        static func < (left: Delivery, right: Delivery) -> Bool {
            (left.index, left.position) < (right.index, right.position)
        }
    }

    private enum Wait {
        case record(CheckedContinuation<WorkflowRecord, any Error>)
        case delay(CheckedContinuation<Void, any Error>, any ScheduledTimer)
    }

    let run: WorkflowRun
    let id: RunID
    let epoch: Epoch
    let executor: RunExecutor
    let runtime: WorkflowRuntime
    private(set) var state = State.running
    private var task: Task<Void, Never>?
    private var nextPosition: UInt32 = 0
    /// Below `firstDelayID`: the position whose record is waited for.
    private var waits: [WaitID: Wait] = [:]
    private var nextDelayID = RunExecution.firstDelayID
    private var deliveries = SortedBuckets<Delivery>()
    /// Retries of proposals that wait for their time.
    private var retries: [UInt64: any ScheduledTimer] = [:]
    private var nextRetryID: UInt64 = 0

    /// Bodies of steps that have begun and not ended.
    var openBodyCount = 0
    /// Calls of `sleep` that have begun and not ended.
    var openSleepCount = 0

    private static let firstDelayID: WaitID = 1 << 32

    init(run: WorkflowRun, runtime: WorkflowRuntime) {
        self.run = run
        self.runtime = runtime
        id = run.id
        epoch = run.epoch
        executor = RunExecutor(scheduler: runtime.scheduler)
    }

    func start(_ definition: WorkflowDefinition) {
        executor.execution = self
        let context = WorkflowContext(self)
        let execution = LoopBound(self, to: executor.scheduler.loop)
        let (input, trace) = (run.input, run.trace)
        let body = definition.body
        task = Task(executorPreference: executor) {
            let outcome: Result<Payload, any Error>
            do {
                outcome = .success(
                    try await TraceContext.$current.withValue(trace) { try await body(context, input) })
            } catch {
                outcome = .failure(error)
            }
            execution.value.returned(outcome)
        }
    }

    /// Ends the execution without a word to the cluster: the tasks are cancelled and whatever they wait for throws.
    func stop() {
        guard state != .stopped else { return }
        state = .stopped
        for retry in retries.keys.sorted() { retries[retry]?.cancel() }
        retries.removeAll()
        cancelTasks()
    }

    private func cancelTasks() {
        task?.cancel()
        for wait in waits.keys.sorted() { cancel(wait) }
    }

    // MARK: - Called by the context, in the run's tasks

    var isRunning: Bool { state == .running }

    /// The next position, after having checked that the history does not hold something else there.
    func claim(_ kind: RecordKind, _ key: String) throws -> UInt32 {
        let position = nextPosition
        guard Int(position) < runtime.limits.checkpointCountPerRunMax else {
            fail("the run has reached the limit of \(runtime.limits.checkpointCountPerRunMax) checkpoints")
            throw CancellationError()
        }
        nextPosition += 1
        if let record = run.record(at: position), record.kind != kind || !record.key.isExactly(key) {
            stall(
                "determinism violation at position \(position): the history holds the \(record.kind) "
                    + "\"\(record.key)\", the code asks for the \(kind) \"\(key)\"")
            throw CancellationError()
        }
        return position
    }

    func isRecorded(_ position: UInt32) -> Bool { run.record(at: position) != nil }

    /// Waits until the position is recorded and it is its turn.
    func record(at position: UInt32) async throws -> WorkflowRecord {
        let wait = WaitID(position)
        let executor = executor
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                guard isRunning else { return continuation.resume(throwing: CancellationError()) }
                waits[wait] = .record(continuation)
                noteRecord(at: position)
            }
        } onCancel: {
            executor.scheduler.enqueue(.cancel(wait), on: executor)
        }
    }

    /// Waits by the node's clock. Not durable.
    func delay(_ duration: Nanoseconds) async throws {
        let wait = nextDelayID
        nextDelayID += 1
        let executor = executor
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                guard isRunning else { return continuation.resume(throwing: CancellationError()) }
                let timer = runtime.clock.schedule(after: duration) { [weak self] in
                    guard case .delay(let continuation, _) = self?.waits.removeValue(forKey: wait) else { return }
                    continuation.resume()
                }
                waits[wait] = .delay(continuation, timer)
            }
        } onCancel: {
            executor.scheduler.enqueue(.cancel(wait), on: executor)
        }
    }

    /// Proposes until something is recorded at `position`, by this command or another, or the run is lost.
    func propose(_ command: Command, at position: UInt32) {
        propose(command) { execution, result in
            if execution.isRecorded(position) {
                execution.noteRecord(at: position)
                return .settled
            }
            return execution.judge(result)
        }
    }

    /// Stops here until a human has looked: the code cannot go on from what is recorded.
    func stall(_ reason: String) {
        guard isRunning else { return }
        state = .concluding
        let reason = runtime.bounded(reason)
        runtime.log(id, reason)
        propose(.stall(Command.Stall(run: id, epoch: epoch, reason: reason))) { $0.judge($1) }
        cancelTasks()
    }

    // MARK: - Called on the loop

    /// A record has appeared: its waiter, if there is one, gets it when its turn comes.
    func noteRecord(at position: UInt32) {
        guard waits[WaitID(position)] != nil, let record = run.record(at: position), !record.isPending else { return }
        if deliveries.insert(Delivery(index: record.index, position: position)) {
            executor.scheduler.wake(executor)
        }
    }

    /// Tells the run's tasks, which are at rest, the next record. False when there is none to tell.
    func deliverNext() -> Bool {
        while let next = deliveries.first {
            deliveries.remove(next)
            guard case .record(let continuation) = waits.removeValue(forKey: WaitID(next.position)),
                let record = run.record(at: next.position)
            else { continue }
            continuation.resume(returning: record)
            return true
        }
        return false
    }

    /// The run's tasks wait, or a timer that they wait for has started.
    func cameToRest() {
        if openSleepCount > 0, openSleepCount == waits.count, openBodyCount == 0 { runtime.rested(self) }
    }

    /// True when nothing happens until a durable timer fires: the execution can be thrown away, replay brings it back.
    var onlyWaitsForTimers: Bool {
        guard isRunning, openSleepCount > 0, openSleepCount == waits.count, openBodyCount == 0, deliveries.isEmpty,
            retries.isEmpty, executor.scheduler.isIdle(executor)
        else { return false }
        return waits.keys.allSatisfy { wait in
            guard let position = UInt32(exactly: wait) else { return false }
            return run.record(at: position)?.isPending == true
        }
    }

    func cancel(_ wait: WaitID) {
        switch waits.removeValue(forKey: wait) {
        case .record(let continuation): continuation.resume(throwing: CancellationError())
        case .delay(let continuation, let timer):
            timer.cancel()
            continuation.resume(throwing: CancellationError())
        case nil: break
        }
    }

    // MARK: - The end

    private func returned(_ outcome: Result<Payload, any Error>) {
        executor.execution = nil
        runtime.taskEnded()
        guard isRunning else { return }
        if let record = run.records.last, record.position >= nextPosition {
            return stall(
                "determinism violation at position \(record.position): the history holds the \(record.kind) "
                    + "\"\(record.key)\", the code ends before it")
        }
        switch outcome {
        case .success(let payload):
            let byteCountMax = runtime.limits.payloadByteCountMax
            if payload.data.count <= byteCountMax {
                conclude(.completed, payload, failure: "")
            } else {
                conclude(.failed, nil, failure: tooLarge("result", payload.data.count, byteCountMax))
            }
        case .failure(let error):
            conclude(.failed, nil, failure: runtime.bounded(describe(error)))
        }
    }

    /// Ends the run as failed whatever its function makes of it.
    private func fail(_ message: String) {
        guard isRunning else { return }
        conclude(.failed, nil, failure: runtime.bounded(message))
        cancelTasks()
    }

    private func conclude(_ status: WorkflowStatus, _ result: Payload?, failure: String) {
        state = .concluding
        let end = Command.End(run: id, epoch: epoch, status: status, result: result, failure: failure)
        propose(.end(end)) { $0.judge($1) }
    }

    // MARK: - Proposals

    private enum Verdict {
        case settled
        case again
    }

    private func propose(
        _ command: Command, failures: Int = 0, _ settle: @escaping (RunExecution, CommandResult) -> Verdict
    ) {
        runtime.propose(command) { [self] outcome in
            guard state != .stopped else { return }
            if case .applied(let result) = outcome, settle(self, result) == .settled { return }
            retry(after: runtime.proposalBackoff(failures: failures)) { execution in
                // A copy whose fate was unknown may have been applied in the meantime.
                if let position = command.recordedPosition, execution.isRecorded(position) {
                    return execution.noteRecord(at: position)
                }
                execution.propose(command, failures: failures + 1, settle)
            }
        }
    }

    private func retry(after delay: Nanoseconds, _ action: @escaping (RunExecution) -> Void) {
        let retry = nextRetryID
        nextRetryID += 1
        retries[retry] = runtime.clock.schedule(after: delay) { [weak self] in
            guard let self, retries.removeValue(forKey: retry) != nil else { return }
            action(self)
        }
    }

    private func judge(_ result: CommandResult) -> Verdict {
        switch result {
        case .refused(let refusal): judge(refusal)
        // Applied before, says the machine; if it was, the effect of it has been or will be seen.
        case .duplicate: .again
        case .started, .ended, .recorded, .alreadyRecorded, .timerStarted, .timerFired, .ownerChanged, .stalled,
            .variable, .swapped, .deleted:
            .settled
        }
    }

    private func judge(_ refusal: Refusal) -> Verdict {
        switch refusal {
        case .staleEpoch, .runEnded, .unknownRun, .runStalled:
            runtime.lost(self)
            return .settled
        case .superseded, .limitExceeded(.stateByteCount, _, _):
            return .again
        case .positionConflict, .limitExceeded, .invalid, .alreadyExists, .unknownTimer, .timerNotDue:
            guard isRunning else {
                runtime.log(id, "cannot conclude: \(refusal)")
                runtime.lost(self)
                return .settled
            }
            if case .positionConflict = refusal {
                stall("determinism violation: \(refusal)")
            } else {
                fail("\(refusal)")
            }
            return .settled
        }
    }
}

extension Command {
    /// The place in the run's history that the command would fill.
    fileprivate var recordedPosition: UInt32? {
        switch self {
        case .checkpoint(let checkpoint): checkpoint.position
        case .timerStart(let timer): timer.position
        default: nil
        }
    }
}

func tooLarge(_ what: String, _ byteCount: Int, _ byteCountMax: Int) -> String {
    "the \(what) has \(byteCount) bytes; at most \(byteCountMax) are allowed"
}
