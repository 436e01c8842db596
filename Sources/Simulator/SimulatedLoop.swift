import DequeModule
import Prelude

/// The event loop of one life of one machine: its clock, its turns, its work items and the executor of its tasks.
///
/// As with a real loop, what happens fills an inbox, and a turn, a little later, goes through it, runs jobs of Swift
/// concurrency and then the participants of `turns`. When the machine crashes, nothing of this ever runs again.
public final class SimulatedLoop: @unchecked Sendable {
    // Sendable, because there is only one thread: nothing in a simulated node starts work on another one.
    public let host: String
    let world: SimulatedWorld
    let loopTurns = SimulatedTurns()
    private(set) var phase = Phase.running
    private var inbox = DoubleBuffer<() -> Void>()
    private var jobs: Deque<UnownedJob> = []
    private var isTurnScheduled = false
    private var isInTurn = false
    private var turnTime: Nanoseconds?
    private var random: SeededRandom

    /// How much faster than the world's this clock runs, in parts per million.
    let driftPartsPerMillion: Int64
    /// Added to the wall clock; clock jumps change it.
    var wallOffsetMilliseconds: Int64
    /// From an event to the turn that handles it.
    var turnLatency: ClosedRange<UInt64> = 1_000...20_000
    /// How many of a thousand turns follow at once on what asks for them, instead.
    var promptTurnsPerMille = 0
    /// Told after each turn.
    var onTurn: () -> Void = {}
    /// Work items take this long.
    var workLatency: ClosedRange<UInt64> = 50_000...400_000
    private var pendingWork: [UInt64: PendingWork] = [:]
    private var heldWork: [UInt64] = []
    private var nextWork: UInt64 = 0
    /// The machine crashed while its node was starting: the task that starts it hangs for ever.
    var keepsAbandonedTimers = false

    /// Ends of connections on this machine, by their number.
    var endpoints: [UInt64: SimulatedEndpoint] = [:]

    /// - `running`: as it should be.
    /// - `paused`: events wait, as for a process that was stopped by a signal.
    /// - `burying`: crashed. What was waiting is told that it failed, so that nothing leaks; nobody hears of it.
    /// - `dead`: nothing runs.
    enum Phase { case running, paused, burying, dead }

    init(world: SimulatedWorld, host: String, driftPartsPerMillion: Int64 = 0, wallOffsetMilliseconds: Int64 = 0) {
        self.world = world
        self.host = host
        self.driftPartsPerMillion = driftPartsPerMillion
        self.wallOffsetMilliseconds = wallOffsetMilliseconds
        random = world.random("loop \(host) \(world.now)")
    }

    var isAlive: Bool { phase == .running || phase == .paused }

    // MARK: - Turns

    /// Runs `action` in the next turn.
    func deliver(_ action: @escaping () -> Void) {
        guard phase != .dead else { return }
        inbox.append(action)
        wake()
    }

    private func wake() {
        guard phase == .running, !isTurnScheduled else { return }
        isTurnScheduled = true
        if !isInTurn, promptTurnsPerMille > 0, random.chance(perMille: promptTurnsPerMille), world.turnPromptly(self) {
            return
        }
        world.schedule(at: world.now + random.draw(turnLatency), .turn(self))
    }

    func turn() {
        isTurnScheduled = false
        guard phase == .running else { return }
        world.trace(world.now, "turn")
        isInTurn = true
        runTurn()
        if hasWork { wake() }
        isInTurn = false
        onTurn()
    }

    private var hasWork: Bool { !inbox.isEmpty || !jobs.isEmpty || loopTurns.isRequested }

    private func runTurn() {
        let outer = world.current
        world.current = self
        turnTime = localTime
        var actions = inbox.take()
        for action in actions { action() }
        inbox.giveBack(&actions)
        var budget = 1024
        while budget > 0, let job = jobs.popFirst() {
            job.runSynchronously(isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
            budget -= 1
        }
        loopTurns.runRound()
        turnTime = nil
        world.current = outer
    }

    // MARK: - Life

    func pause() { if phase == .running { phase = .paused } }

    func resume() {
        guard phase == .paused else { return }
        phase = .running
        let held = heldWork
        heldWork = []
        for item in held { runWork(item) }
        if hasWork { wake() }
    }

    /// The machine is gone. `endWork` gets the bodies of work items that have not run, the oldest first, and decides
    /// what still becomes of them; it has to run each. `lastRites` may end what the loop's code holds on to, so that
    /// nothing leaks; everything that it asks for fails, and nobody hears of it.
    func crash(endWork: ([() -> Void]) -> Void, lastRites: () -> Void) {
        phase = .burying
        inbox = DoubleBuffer()
        let unfinished = pendingWork.keys.sorted().compactMap { pendingWork[$0] }
        pendingWork = [:]
        heldWork = []
        endWork(unfinished.map { work in { [self] in inbox.append(work.run()) } })
        let outer = world.current
        world.current = self
        lastRites()
        world.current = outer
        for _ in 0..<1000 where hasWork { runTurn() }
        phase = .dead
        inbox = DoubleBuffer()
        jobs = []
        loopTurns.removeAll()
    }

    // MARK: - Work

    private struct PendingWork {
        /// Runs the body; what it returns runs the completion.
        let run: () -> () -> Void
    }

    fileprivate func begin(_ run: @escaping () -> () -> Void) {
        switch phase {
        case .dead: return
        case .burying: inbox.append(run())
        case .running, .paused:
            let number = nextWork
            nextWork += 1
            pendingWork[number] = PendingWork(run: run)
            world.schedule(after: random.draw(workLatency)) { [self] in runWork(number) }
        }
    }

    private func runWork(_ number: UInt64) {
        if phase == .paused { return heldWork.append(number) }
        guard phase == .running, let work = pendingWork.removeValue(forKey: number) else { return }
        deliver(work.run())
    }

    // MARK: - Clock

    var localTime: Nanoseconds {
        // Rounded down to the nanosecond: it must never move back.
        let product = Int64(world.now) * driftPartsPerMillion
        let drift = (product - (product < 0 ? 999_999 : 0)) / 1_000_000
        return world.now &+ UInt64(bitPattern: drift)
    }

    fileprivate func worldDelay(_ delay: Nanoseconds) -> Nanoseconds {
        let bounded = min(delay, 1 << 50)
        return bounded * 1_000_000 / UInt64(1_000_000 + driftPartsPerMillion) + 1
    }

    // MARK: - Seams

    func seams(network: any Network, disk: any Disk, randomSeed: UInt64) -> Seams {
        Seams(
            clock: self, turns: loopTurns, work: self, network: network, disk: disk, executor: self,
            randomSeed: randomSeed)
    }
}

extension SimulatedLoop: Clock {
    public var now: Nanoseconds { turnTime ?? localTime }

    public var wallMilliseconds: Int64 {
        1_767_225_600_000 + Int64(localTime / 1_000_000) + wallOffsetMilliseconds
    }

    public func schedule(after delay: Nanoseconds, _ action: @escaping () -> Void) -> any ScheduledTimer {
        let timer = SimulatedTimer(loop: self, action: action)
        if isAlive { world.schedule(at: world.now + worldDelay(delay), .timer(timer)) }
        return timer
    }
}

final class SimulatedTimer: ScheduledTimer {
    private let loop: SimulatedLoop
    private var action: (() -> Void)?

    init(loop: SimulatedLoop, action: @escaping () -> Void) {
        self.loop = loop
        self.action = action
    }

    func fire() {
        guard action != nil, loop.isAlive else { return }
        loop.deliver { [self] in
            let due = action
            action = nil
            due?()
        }
    }

    func cancel() { action = nil }

    deinit {
        if let action, loop.keepsAbandonedTimers { abandonedForEver.append(action) }
    }
}

/// What tasks wait for that can never go on. To let go of it would make the language's runtime warn.
nonisolated(unsafe) private var abandonedForEver: [() -> Void] = []

extension SimulatedLoop: Work {
    public func perform<Output: Sendable>(
        _ body: @escaping @Sendable () -> Output, completion: @escaping (Output) -> Void
    ) {
        begin {
            let output = body()
            return { completion(output) }
        }
    }
}

extension SimulatedLoop: SerialExecutor, TaskExecutor {
    public func enqueue(_ job: consuming ExecutorJob) {
        guard phase != .dead else { return }
        jobs.append(UnownedJob(job))
        wake()
    }

    public func isIsolatingCurrentContext() -> Bool? { world.current === self }

    public func checkIsolated() { invariant(world.current === self, "code of a loop runs in its turns") }
}
