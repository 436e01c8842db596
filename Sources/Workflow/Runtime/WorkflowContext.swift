import FoundationEssentials
import Prelude

/// What a workflow function does its work through.
///
/// Every call takes the next position of the run's history. When the history holds a result there, it is returned;
/// otherwise the call does its work, has the result recorded by the cluster, and returns what is recorded.
///
/// The function, its child tasks and the bodies of its steps run on the node's event loop and must not block it.
/// Calls throw `CancellationError` once the run belongs to another node or its task is cancelled; let it pass.
public final class WorkflowContext: Sendable {
    public let runID: RunID
    public let workflowID: String
    public let workflowType: String
    public let version: UInt32
    /// Of the call that started the run; `TraceContext.current` in its tasks.
    public let trace: TraceContext?

    private let execution: LoopBound<RunExecution>
    private let executor: UnownedTaskExecutor

    init(_ execution: RunExecution) {
        runID = execution.id
        workflowID = execution.run.workflowID
        workflowType = execution.run.type
        version = execution.run.version
        trace = execution.run.trace
        executor = execution.executor.asUnownedTaskExecutor()
        self.execution = LoopBound(execution, to: execution.executor.scheduler.loop)
    }

    // MARK: - Steps

    /// Runs `body` at least once and records its result exactly once.
    ///
    /// Errors are tried again as `retry` says, but for `WorkflowFailure` and `NonRetryable`. Give the token to other
    /// systems, so that a body which runs twice acts once. Throws `StepFailed` when the step failed for good, in
    /// every replay.
    @concurrent
    public func step<Output: Codable & Sendable>(
        _ name: String, retry: RetryPolicy = .default, _ body: @Sendable (StepToken) async throws -> Output
    ) async throws -> Output {
        try await recorded(.step, name) { execution, position in
            try await attempts(of: name, retry, execution, position) { try JSON.encode(try await body($0)) }
        }
    }

    /// As `step(_:retry:_:)`, for bodies that need no token.
    @concurrent
    public func step<Output: Codable & Sendable>(
        _ name: String, retry: RetryPolicy = .default, _ body: @Sendable () async throws -> Output
    ) async throws -> Output {
        try await step(name, retry: retry) { _ in try await body() }
    }

    /// As `step(_:retry:_:)`, for bodies without a result.
    @concurrent
    public func step(
        _ name: String, retry: RetryPolicy = .default, _ body: @Sendable (StepToken) async throws -> Void
    ) async throws {
        let _: Nothing = try await recorded(.step, name) { execution, position in
            try await attempts(of: name, retry, execution, position) {
                try await body($0)
                return JSON.null
            }
        }
    }

    /// As `step(_:retry:_:)`, for bodies without a token and a result.
    @concurrent
    public func step(
        _ name: String, retry: RetryPolicy = .default, _ body: @Sendable () async throws -> Void
    ) async throws {
        try await step(name, retry: retry) { _ in try await body() }
    }

    /// Waits inside the body of a step, by the node's clock. For waits that outlive the node there is `sleep`.
    @concurrent
    public func pause(for duration: Duration) async throws {
        guard StepScope.isInside else { throw WorkflowMisuse.outsideOfStep }
        guard isInsideRun else { throw WorkflowMisuse.outsideOfRun }
        try await execution.value.delay(duration.nanoseconds)
    }

    // MARK: - Recorded values

    /// Computes a value once and records it. Not tried again: an error is recorded and thrown as `StepFailed`.
    @concurrent
    public func sideEffect<Value: Codable & Sendable>(
        _ key: String, _ compute: @Sendable () throws -> Value
    ) async throws -> Value {
        try await recorded(.sideEffect, key) { execution, position in
            try await attempts(of: key, .none, execution, position) { _ in try JSON.encode(try compute()) }
        }
    }

    /// Records a value, and returns what is recorded.
    @discardableResult
    @concurrent
    public func checkpoint<Value: Codable & Sendable>(_ key: String, _ value: Value) async throws -> Value {
        try await sideEffect(key) { value }
    }

    /// A variable of the run, whose every value is recorded.
    @concurrent
    public func variable<Value: Codable & Sendable>(
        _ key: String, initial: Value
    ) async throws -> WorkflowVariable<Value> {
        WorkflowVariable(context: self, key: key, value: try await record(variable: key, initial))
    }

    @concurrent
    func record<Value: Codable & Sendable>(variable key: String, _ value: Value) async throws -> Value {
        try await recorded(.variable, key) { execution, position in
            try await attempts(of: key, .none, execution, position) { _ in try JSON.encode(value) }
        }
    }

    /// The time when it was first asked for, by the clock of the node that executed the run then.
    @concurrent
    public func now() async throws -> Date {
        let milliseconds: Int64 = try await recorded(.sideEffect, "now") { execution, position in
            let wall = execution.runtime.clock.wallMilliseconds
            return try await attempts(of: "now", .none, execution, position) { _ in try JSON.encode(wall) }
        }
        return Date(timeIntervalSince1970: Double(milliseconds) / 1000)
    }

    /// A random number, drawn once. Not for secrets.
    @concurrent
    public func randomNumber() async throws -> UInt64 {
        try await recorded(.sideEffect, "random") { execution, position in
            let number = execution.runtime.randomNumber()
            return try await attempts(of: "random", .none, execution, position) { _ in try JSON.encode(number) }
        }
    }

    /// Waits durably: for at least `duration`, however often the run changes owners in between.
    @concurrent
    public func sleep(for duration: Duration, _ key: String = "sleep") async throws {
        let execution = try enter()
        let position = try execution.claim(.timer, key)
        execution.openSleepCount += 1
        defer { execution.openSleepCount -= 1 }
        if !execution.isRecorded(position) {
            let timer = Command.TimerStart(
                run: execution.id, epoch: execution.epoch, position: position, key: key,
                durationMilliseconds: duration.milliseconds)
            execution.propose(.timerStart(timer), at: position)
        }
        _ = try await execution.record(at: position)
    }

    // MARK: - How a call is made

    private struct Outcome {
        var value: Payload?
        var failure = ""
        var attempt: UInt32
    }

    /// True in a task of the run. A function that is `@concurrent` then runs on the run's executor, on the loop.
    private var isInsideRun: Bool {
        withUnsafeCurrentTask { task in task?.unownedTaskExecutor == executor }
    }

    private func enter() throws -> RunExecution {
        guard isInsideRun else { throw WorkflowMisuse.outsideOfRun }
        if StepScope.isInside { throw WorkflowMisuse.insideStep }
        guard execution.value.isRunning, !Task.isCancelled else { throw CancellationError() }
        return execution.value
    }

    private func recorded<Value: Codable & Sendable>(
        _ kind: CheckpointKind, _ key: String, _ produce: (RunExecution, UInt32) async throws -> Outcome
    ) async throws -> Value {
        let execution = try enter()
        let position = try execution.claim(RecordKind(kind), key)
        if !execution.isRecorded(position) {
            let outcome = try await produce(execution, position)
            guard execution.isRunning, !Task.isCancelled else { throw CancellationError() }
            let checkpoint = Command.Checkpoint(
                run: execution.id, epoch: execution.epoch, position: position, kind: kind, key: key,
                value: outcome.value, failure: outcome.failure, attempt: outcome.attempt)
            execution.propose(.checkpoint(checkpoint), at: position)
        }
        let record = try await execution.record(at: position)
        guard let value = record.value else {
            throw StepFailed(step: key, attempts: record.attempt, message: record.failure)
        }
        do {
            return try JSON.decode(Value.self, value)
        } catch {
            execution.stall(
                "determinism violation at position \(position): the value recorded for the \(record.kind) "
                    + "\"\(key)\" does not fit the code: \(JSON.explain(error))")
            throw CancellationError()
        }
    }

    private func attempts(
        of name: String, _ retry: RetryPolicy, _ execution: RunExecution, _ position: UInt32,
        _ body: (StepToken) async throws -> Payload
    ) async throws -> Outcome {
        var token = StepToken(run: execution.id, position: position, epoch: execution.epoch, attempt: 1)
        execution.openBodyCount += 1
        defer { execution.openBodyCount -= 1 }
        while true {
            do {
                let value = try await StepScope.$isInside.withValue(true) { try await body(token) }
                let byteCountMax = execution.runtime.limits.payloadByteCountMax
                if value.data.count <= byteCountMax { return Outcome(value: value, attempt: token.attempt) }
                return Outcome(
                    failure: tooLarge("result", value.data.count, byteCountMax), attempt: token.attempt)
            } catch {
                guard execution.isRunning, !Task.isCancelled else { throw CancellationError() }
                let isFinal = error is WorkflowFailure || error is NonRetryable || error is WorkflowMisuse
                if isFinal || token.attempt >= retry.attemptCountMax {
                    return Outcome(failure: execution.runtime.bounded(describe(error)), attempt: token.attempt)
                }
                try await execution.delay(retry.backoff(after: token.attempt))
                token.attempt += 1
            }
        }
    }
}

/// Decodes from anything: what a step without a result recorded is of no interest.
private struct Nothing: Codable {
    init(from decoder: any Decoder) {}
}

/// Tells calls from inside a step's body, in its child tasks too, from those outside.
enum StepScope {
    @TaskLocal static var isInside = false
}

/// A value that a run carries along. Each change is a checkpoint of its own.
public final class WorkflowVariable<Value: Codable & Sendable>: Sendable {
    public let key: String
    private let context: WorkflowContext
    private let lock = Lock()
    // Guarded by the lock: nothing keeps the run's code from handing the variable to another thread.
    nonisolated(unsafe) private var current: Value

    init(context: WorkflowContext, key: String, value: Value) {
        self.context = context
        self.key = key
        current = value
    }

    /// What was recorded last.
    public var value: Value { lock.withLock { current } }

    @concurrent
    public func set(_ value: Value) async throws {
        let recorded = try await context.record(variable: key, value)
        lock.withLock { current = recorded }
    }

    /// Sets what `change` makes of the value. Not atomic: of two updates at the same time one gets lost.
    @concurrent
    public func update(_ change: @Sendable (inout Value) throws -> Void) async throws {
        var value = self.value
        try change(&value)
        try await set(value)
    }
}
