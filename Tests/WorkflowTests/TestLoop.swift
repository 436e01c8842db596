import Foundation
import Prelude
import Workflow

/// Runs jobs on the thread that calls `run`, in order of arrival, and nothing else. Virtual time.
final class TestLoop: SerialExecutor, TaskExecutor, @unchecked Sendable {
    private let lock = NSCondition()
    private var jobs: [UnownedJob] = []
    private var next = 0

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        lock.withLock {
            jobs.append(job)
            lock.signal()
        }
    }

    func asUnownedSerialExecutor() -> UnownedSerialExecutor { UnownedSerialExecutor(ordinary: self) }

    private func take() -> UnownedJob? {
        lock.withLock {
            guard next < jobs.count else {
                jobs.removeAll(keepingCapacity: true)
                next = 0
                return nil
            }
            defer { next += 1 }
            return jobs[next]
        }
    }

    /// Waits for jobs from other threads. False when none came before the deadline.
    func waitForJob(until deadline: Date) -> Bool {
        lock.withLock {
            while next >= jobs.count {
                guard lock.wait(until: deadline) else { return next < jobs.count }
            }
            return true
        }
    }

    /// Runs until nothing is left to run. False when it never ran dry.
    @discardableResult
    func run() -> Bool {
        for _ in 0..<1_000_000 {
            guard let job = take() else { return true }
            job.runSynchronously(isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
        }
        return false
    }
}

final class TestClock: Clock {
    final class Timer: ScheduledTimer {
        let due: Nanoseconds
        let order: Int
        var action: (() -> Void)?

        init(due: Nanoseconds, order: Int, action: @escaping () -> Void) {
            self.due = due
            self.order = order
            self.action = action
        }

        func cancel() { action = nil }
    }

    private(set) var now: Nanoseconds = 0
    var wallMilliseconds: Int64 { 1_700_000_000_000 + Int64(now / 1_000_000) }
    private var timers: [Timer] = []
    private var count = 0

    func schedule(after delay: Nanoseconds, _ action: @escaping () -> Void) -> any ScheduledTimer {
        count += 1
        let (due, isOverflow) = now.addingReportingOverflow(delay)
        let timer = Timer(due: isOverflow ? .max : due, order: count, action: action)
        timers.append(timer)
        return timer
    }

    var nextDue: Nanoseconds? {
        timers.removeAll { $0.action == nil }
        return timers.map(\.due).min()
    }

    func advance(to time: Nanoseconds) {
        now = max(now, time)
        while true {
            timers.removeAll { $0.action == nil }
            let due = timers.filter { $0.due <= now }
            guard let timer = due.min(by: { ($0.due, $0.order) < ($1.due, $1.order) }) else { return }
            let action = timer.action
            timer.action = nil
            action?()
        }
    }
}
