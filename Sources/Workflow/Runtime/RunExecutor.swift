import DequeModule
import Prelude

/// Runs the jobs of one run's tasks, first come first served, on the loop.
///
/// A queue of its own makes two things possible that replay depends on. What the run's tasks do next depends only on
/// what the run was told, not on what else the loop is doing; and it is known when the run has come to rest, so
/// that it can be told one thing at a time.
final class RunExecutor: TaskExecutor {
    enum Item {
        case job(UnownedJob)
        /// The task that waits there was cancelled. In the queue like a job, so that it comes in its order.
        case cancel(WaitID)
    }

    let scheduler: RunScheduler
    // Guarded by the scheduler's lock.
    nonisolated(unsafe) fileprivate var items: Deque<Item> = []
    nonisolated(unsafe) fileprivate var isReady = false
    // Used on the loop only. Nil once the run's task has ended.
    nonisolated(unsafe) var execution: RunExecution?

    init(scheduler: RunScheduler) { self.scheduler = scheduler }

    func enqueue(_ job: consuming ExecutorJob) { scheduler.enqueue(.job(UnownedJob(job)), on: self) }
}

/// Gets the ready runs of one runtime onto the loop.
///
/// Unchecked, because jobs may arrive from any thread (a step that comes back from another actor): what they touch
/// is guarded by the lock. `pump` runs on the loop only.
final class RunScheduler: @unchecked Sendable {
    let loop: any LoopExecutor
    private let jobCountPerTurnMax: Int
    private let lock = Lock()
    private var ready: Deque<RunExecutor> = []
    private var isPumpScheduled = false

    init(loop: any LoopExecutor, jobCountPerTurnMax: Int) {
        self.loop = loop
        self.jobCountPerTurnMax = max(1, jobCountPerTurnMax)
    }

    func enqueue(_ item: RunExecutor.Item, on executor: RunExecutor) {
        lock.lock()
        executor.items.append(item)
        let isFirst = makeReady(executor)
        lock.unlock()
        if isFirst { schedulePump() }
    }

    /// Lets the run look for something to be told.
    func wake(_ executor: RunExecutor) {
        lock.lock()
        let isFirst = makeReady(executor)
        lock.unlock()
        if isFirst { schedulePump() }
    }

    /// True when nothing is under way in the run's tasks.
    func isIdle(_ executor: RunExecutor) -> Bool {
        lock.lock()
        defer { lock.unlock() }
        return executor.items.isEmpty && !executor.isReady
    }

    /// True when the pump has to be scheduled. The lock is held.
    private func makeReady(_ executor: RunExecutor) -> Bool {
        if !executor.isReady {
            executor.isReady = true
            ready.append(executor)
        }
        defer { isPumpScheduled = true }
        return !isPumpScheduled
    }

    private func schedulePump() {
        Task(executorPreference: loop) { self.pump() }
    }

    /// Runs every ready run until it rests and has nothing more to be told, or the turn's share is used up.
    private func pump() {
        var budget = jobCountPerTurnMax
        while budget > 0, let executor = takeReady() {
            run(executor, &budget)
            if budget == 0 { wake(executor) }
        }
        lock.lock()
        isPumpScheduled = !ready.isEmpty
        let isAgain = isPumpScheduled
        lock.unlock()
        if isAgain { schedulePump() }
    }

    private func run(_ executor: RunExecutor, _ budget: inout Int) {
        while budget > 0 {
            if let item = takeItem(executor) {
                budget -= 1
                switch item {
                case .job(let job): job.runSynchronously(on: executor.asUnownedTaskExecutor())
                case .cancel(let wait): executor.execution?.cancel(wait)
                }
            } else if executor.execution?.deliverNext() != true {
                executor.execution?.cameToRest()
                return
            }
        }
    }

    private func takeReady() -> RunExecutor? {
        lock.lock()
        defer { lock.unlock() }
        guard let executor = ready.popFirst() else { return nil }
        executor.isReady = false
        return executor
    }

    private func takeItem(_ executor: RunExecutor) -> RunExecutor.Item? {
        lock.lock()
        defer { lock.unlock() }
        return executor.items.popFirst()
    }
}
