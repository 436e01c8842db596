import Prelude

/// What the loop runs between callbacks: a job of Swift concurrency, or an action from another thread.
enum LoopJob {
    case job(UnownedJob)
    case action(@Sendable () -> Void)
}

/// Tasks started with `Task(executorPreference:)`, or by `start`, run on the loop wholly, without a hop to
/// another thread at any await. A task that is suspended when the loop closes never resumes.
extension EventLoop: SerialExecutor, TaskExecutor {
    public func enqueue(_ job: consuming ExecutorJob) { add(.job(UnownedJob(job))) }

    public func isIsolatingCurrentContext() -> Bool? { isOnLoop }

    public func checkIsolated() { invariant(isOnLoop, "code of the loop runs on its thread") }

    func run(_ job: LoopJob) {
        switch job {
        case .job(let job):
            job.runSynchronously(isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
        case .action(let action):
            action()
        }
    }
}
