import DequeModule
import Glibc
import Prelude

/// The threads of one loop for what would block it, each started when all before it are busy.
///
/// An item goes to the thread that became idle last: what it will touch is still near, and the others sleep on.
final class WorkThreads: @unchecked Sendable {
    // Unchecked, because all state is under `lock`.
    private let lock = Lock()
    private let countMax: Int
    private let itemEnded: @Sendable (WorkItem) -> Void
    private var waiting = Deque<WorkItem>()
    private var threads: [WorkThread] = []
    private var idle: [WorkThread] = []
    private var isEnding = false

    /// `itemEnded` is called on the thread that ran the item.
    init(countMax: Int, itemEnded: @escaping @Sendable (WorkItem) -> Void) {
        self.countMax = countMax
        self.itemEnded = itemEnded
    }

    var count: Int { lock.withLock { threads.count } }

    func perform(_ item: WorkItem) {
        lock.lock()
        if let thread = idle.popLast() {
            waiting.append(item)
            lock.unlock()
            return thread.wake()
        }
        if threads.count < countMax, let thread = WorkThread(of: self) { threads.append(thread) }
        let mustRunHere = threads.isEmpty
        if !mustRunHere { waiting.append(item) }
        lock.unlock()
        // The system has no thread to give: late is better than never.
        if mustRunHere { run(item) }
    }

    /// Ends the threads once nothing waits, and waits for that.
    func end() {
        let all = lock.withLock {
            isEnding = true
            defer { (threads, idle) = ([], []) }
            return threads
        }
        for thread in all { thread.wake() }
        for thread in all { thread.join() }
    }

    /// The life of a thread.
    fileprivate func serve(_ thread: WorkThread) {
        while true {
            lock.lock()
            if let item = waiting.popFirst() {
                lock.unlock()
                run(item)
            } else if isEnding {
                return lock.unlock()
            } else {
                idle.append(thread)
                lock.unlock()
                thread.sleep()
            }
        }
    }

    private func run(_ item: WorkItem) {
        item.body()
        itemEnded(item)
    }
}

private final class WorkThread: @unchecked Sendable {
    // Unchecked, because a semaphore is made for it, and `handle` is set before anybody else knows the thread.
    private let owner: WorkThreads
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    private var handle = pthread_t()

    /// Nil when the system gives no thread.
    init?(of owner: WorkThreads) {
        self.owner = owner
        invariant(sem_init(semaphore, 0, 0) == 0, "a semaphore can be made")
        // Balanced by the thread, once it runs.
        let this = Unmanaged.passRetained(self)
        let code = pthread_create(
            &handle, nil,
            { this in
                if let this {
                    let thread = Unmanaged<WorkThread>.fromOpaque(this).takeRetainedValue()
                    thread.owner.serve(thread)
                }
                return nil
            }, this.toOpaque())
        if code != 0 {
            this.release()
            return nil
        }
    }

    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func wake() { sem_post(semaphore) }

    func sleep() { _ = retrying { sem_wait(semaphore) } }

    func join() { pthread_join(handle, nil) }
}
