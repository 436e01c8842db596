import CUV
import CUVShims
import DequeModule
import Glibc
import Prelude
import Synchronization

/// One libuv loop: the source of everything that happens in a node, and the executor of its asynchronous code.
///
/// A turn of the loop polls for input and output, and runs their callbacks; then timers that are due, jobs and
/// submitted actions, and last the participants of `turns`. The loop belongs to the thread that calls `run`;
/// only `submit`, `stop`, `enqueue` and `isOnLoop` may be called from others.
public final class EventLoop: @unchecked Sendable {
    // Unchecked, because all state is used on the loop's thread only, but for `inbox`, which `lock` guards,
    // and the atomic `owner`.
    let uvLoop: UnsafeMutablePointer<uv_loop_t>
    let limits: ReactorLimits
    let loopClock = LoopClock()
    let loopTurns = LoopTurns()
    /// One for all connections: what it holds is consumed before the next read.
    let readBuffer: UnsafeMutableRawBufferPointer
    /// Counts turns, so that what is limited per turn can tell them apart.
    private(set) var turnNumber: UInt64 = 0

    private let wake: UnsafeMutablePointer<uv_poll_t>
    /// An eventfd. (libuv's own `uv_async_send` has the loop spin until the sending thread, which may have lost its core
    /// to the loop by then, runs again.)
    private let wakeDescriptor: Int32
    private let prepare: UnsafeMutablePointer<uv_prepare_t>
    private let check: UnsafeMutablePointer<uv_check_t>
    /// Does nothing but bound the poll: by the next deadline, or by 0 when something waits to be run.
    private let pollBound: UnsafeMutablePointer<uv_timer_t>
    /// What is open, kept alive until libuv has let go of it.
    private var resources: [ObjectIdentifier: any LoopResource] = [:]
    private var atTurnEnd: [() -> Void] = []
    private var jobs = Deque<LoopJob>()
    private var phase = Phase.open
    private var isStopping = false

    /// The thread that runs the loop at the moment; 0 for none.
    private let owner = Atomic<UInt>(0)
    private let lock = Lock()
    private var inbox = Inbox()
    /// Threads between their change of the inbox and the end of waking the loop.
    private let wakingCount = Atomic<Int>(0)
    private(set) lazy var workThreads = WorkThreads(countMax: limits.workThreadCountMax) {
        [unowned self] in endWork($0)
    }

    private enum Phase { case open, closing, closed }

    private struct Inbox {
        var jobs: [LoopJob] = []
        var endedWork: [WorkItem] = []
        var isStopRequested = false
        var isClosed = false
        /// The loop has been woken for what is here.
        var isAnnounced = false
    }

    public init(limits: ReactorLimits = ReactorLimits()) throws(ReactorError) {
        _ = brokenPipesAreErrors
        self.limits = limits
        uvLoop = .allocate(capacity: 1)
        wake = .allocate(capacity: 1)
        prepare = .allocate(capacity: 1)
        check = .allocate(capacity: 1)
        pollBound = .allocate(capacity: 1)
        readBuffer = .allocate(byteCount: max(1, limits.readBufferByteCount), alignment: 16)
        wakeDescriptor = raftoral_open_wake()
        do throws(ReactorError) {
            if wakeDescriptor < 0 { throw ReactorError(operation: "eventfd", code: -errno) }
            try uv(uv_loop_init(uvLoop), "loop init")
            // Costs two readings of the clock per turn.
            raftoral_measure_idle_time(uvLoop)
            // The last that can fail, for want of a descriptor; the others only link themselves into the loop.
            do throws(ReactorError) {
                try uv(uv_poll_init(uvLoop, wake, wakeDescriptor), "poll init")
            } catch {
                uv_loop_close(uvLoop)
                throw error
            }
        } catch {
            if wakeDescriptor >= 0 { closeDescriptor(wakeDescriptor) }
            // The deinitializer expects a closed loop.
            phase = .closed
            throw error
        }
        let this = Unmanaged.passUnretained(self).toOpaque()
        wake.pointee.data = this
        uv_poll_start(wake, Int32(UV_READABLE.rawValue)) { wake, _, _ in EventLoop.from(wake?.pointee.data)?.wasWoken()
        }
        uv_prepare_init(uvLoop, prepare)
        prepare.pointee.data = this
        uv_prepare_start(prepare) { EventLoop.from($0?.pointee.data)?.willPoll() }
        uv_check_init(uvLoop, check)
        check.pointee.data = this
        uv_check_start(check) { EventLoop.from($0?.pointee.data)?.didPoll() }
        uv_timer_init(uvLoop, pollBound)
    }

    deinit {
        invariant(phase == .closed, "an event loop is closed before it is released")
        uvLoop.deallocate()
        wake.deallocate()
        prepare.deallocate()
        check.deallocate()
        pollBound.deallocate()
        readBuffer.deallocate()
    }

    // MARK: - Seams

    public var clock: any Clock { loopClock }
    public var turns: any Turns { loopTurns }
    public var work: any Work { LoopWork(loop: self) }
    public var network: any Network { LoopNetwork(loop: self) }

    public func seams(disk: any Disk, randomSeed: UInt64) -> Seams {
        Seams(
            clock: clock, turns: turns, work: work, network: network, disk: disk, executor: self,
            randomSeed: randomSeed)
    }

    // MARK: - Running

    /// Whether the calling thread is the one that runs the loop at the moment.
    public var isOnLoop: Bool { owner.load(ordering: .relaxed) == UInt(pthread_self()) }

    /// Runs until `stop`. The calling thread is the loop's for as long.
    public func run() {
        occupied {
            while !isStopping { uv_run(uvLoop, UV_RUN_DEFAULT) }
            isStopping = false
        }
    }

    /// Runs turns until `condition` holds, which is asked after each turn; false when `timeout` passed or the
    /// loop was stopped before. What another thread changes is seen when something wakes the loop: `submit` does.
    @discardableResult
    public func run(until condition: () -> Bool, within timeout: Nanoseconds = .seconds(10)) -> Bool {
        occupied {
            var hasExpired = false
            let timer = loopClock.schedule(after: timeout) { hasExpired = true }
            defer {
                timer.cancel()
                isStopping = false
            }
            while !condition() {
                if hasExpired || isStopping { return false }
                uv_run(uvLoop, UV_RUN_ONCE)
            }
            return true
        }
    }

    /// Makes the current call of `run`, or else the next one, return. From any thread.
    public func stop() {
        post { inbox in inbox.isStopRequested = true }
    }

    /// Runs `action` on the loop, in order with jobs. From any thread. Dropped when the loop is closed.
    public func submit(_ action: @escaping @Sendable () -> Void) { add(.action(action)) }

    func add(_ job: LoopJob) {
        if isOnLoop {
            if phase != .closed { jobs.append(job) }
        } else {
            post { inbox in inbox.jobs.append(job) }
        }
    }

    private func occupied<Output>(_ body: () -> Output) -> Output {
        invariant(phase != .closed, "a closed loop does not run")
        let (isFree, _) = owner.compareExchange(
            expected: 0, desired: UInt(pthread_self()), ordering: .acquiringAndReleasing)
        invariant(isFree, "one thread at a time runs a loop")
        defer { owner.store(0, ordering: .releasing) }
        return body()
    }

    /// Changes the inbox and wakes the loop, which then finds the lock free. `close` waits until nobody is about to.
    private func post(_ change: (inout Inbox) -> Void) {
        let wakes = lock.withLock {
            if inbox.isClosed { return false }
            change(&inbox)
            if inbox.isAnnounced { return false }
            inbox.isAnnounced = true
            wakingCount.add(1, ordering: .relaxed)
            return true
        }
        guard wakes else { return }
        raftoral_send_wake(wakeDescriptor)
        wakingCount.subtract(1, ordering: .releasing)
    }

    private func endWork(_ item: WorkItem) {
        post { inbox in inbox.endedWork.append(item) }
    }

    private func wasWoken() {
        raftoral_take_wake(wakeDescriptor)
        takeInbox()
    }

    private func takeInbox() {
        let taken = lock.withLock {
            defer { inbox = Inbox() }
            return inbox
        }
        for item in taken.endedWork { item.finish() }
        jobs.append(contentsOf: taken.jobs)
        if taken.isStopRequested {
            isStopping = true
            uv_stop(uvLoop)
        }
    }

    // MARK: - A turn

    private func willPoll() {
        loopClock.beginTurn()
        if !jobs.isEmpty || loopTurns.isRequested || !atTurnEnd.isEmpty {
            boundPoll(toMillisecond: 0)
        } else if let deadline = loopClock.nextDeadline() {
            // Rounded up: to wake early would mean to wake twice.
            boundPoll(toMillisecond: deadline / 1_000_000 + (deadline % 1_000_000 == 0 ? 0 : 1))
        } else {
            uv_timer_stop(pollBound)
        }
    }

    private func boundPoll(toMillisecond due: UInt64) {
        let now = uv_now(uvLoop)
        uv_timer_start(pollBound, { _ in }, due > now ? due - now : 0, 0)
    }

    private func didPoll() {
        turnNumber += 1
        let actions = atTurnEnd
        atTurnEnd.removeAll()
        for action in actions { action() }
        loopClock.runDue()
        runJobs()
        loopTurns.runRound()
        loopClock.endTurn()
    }

    /// Runs a bounded number: jobs that enqueue jobs must not keep the loop from polling.
    private func runJobs() {
        var budget = limits.jobCountPerTurnMax
        while budget > 0, let job = jobs.popFirst() {
            run(job)
            budget -= 1
        }
    }

    /// Runs `action` once all callbacks of the current poll have run.
    func atEndOfTurn(_ action: @escaping () -> Void) { atTurnEnd.append(action) }

    // MARK: - Resources and closing

    var isOpen: Bool { phase == .open }
    var resourceCount: Int { resources.count }

    /// Keeps `resource` alive until `release`; false when the loop is closing and takes nothing more.
    func adopt(_ resource: any LoopResource) -> Bool {
        guard phase == .open else { return false }
        resources[ObjectIdentifier(resource)] = resource
        return true
    }

    func release(_ resource: any LoopResource) {
        resources.removeValue(forKey: ObjectIdentifier(resource))
    }

    /// Closes what is open, waits for work items that run, gives their callbacks and the jobs that follow from
    /// them a last chance to run, and gives back every descriptor. Timers never fire again; work, connects and
    /// jobs that are asked for later are dropped without a completion. Precondition: the loop does not run.
    public func close() {
        if phase == .closed { return }
        occupied {
            phase = .closing
            for resource in Array(resources.values) { resource.loopWillClose() }
            while !resources.isEmpty { uv_run(uvLoop, UV_RUN_ONCE) }
            // Jobs that go on enqueueing jobs are cut off after this many turns.
            for _ in 0..<16 {
                takeInbox()
                if jobs.isEmpty && !loopTurns.isRequested { break }
                uv_run(uvLoop, UV_RUN_NOWAIT)
            }
            workThreads.end()
            lock.withLock {
                inbox.isClosed = true
                inbox.jobs = []
            }
            while wakingCount.load(ordering: .acquiring) > 0 { sched_yield() }
            uv_close(raftoral_uv_handle(wake), nil)
            uv_close(raftoral_uv_handle(prepare), nil)
            uv_close(raftoral_uv_handle(check), nil)
            uv_close(raftoral_uv_handle(pollBound), nil)
            while uv_run(uvLoop, UV_RUN_DEFAULT) != 0 {}
            invariant(uv_loop_close(uvLoop) == 0, "nothing of a loop is open once its resources are closed")
            closeDescriptor(wakeDescriptor)
            jobs = []
            atTurnEnd = []
            loopTurns.removeAll()
            loopClock.removeAll()
            phase = .closed
        }
    }

    private static func from(_ data: UnsafeMutableRawPointer?) -> EventLoop? {
        data.map { Unmanaged<EventLoop>.fromOpaque($0).takeUnretainedValue() }
    }
}

/// Something that libuv holds a pointer to: alive until it calls `EventLoop.release`.
protocol LoopResource: AnyObject {
    /// The loop closes: give up, and `release` as soon as libuv lets go.
    func loopWillClose()
}

/// Writing to a connection that the other side closed is an error like others, not the end of the process.
private let brokenPipesAreErrors: Void = { _ = signal(SIGPIPE, SIG_IGN) }()
