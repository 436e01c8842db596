import DequeModule
import Prelude

/// What became of a proposal.
public enum ProposalOutcome: Equatable, Sendable {
    /// Applied to this node's machine, with what it came to.
    case applied(CommandResult)
    /// Not proposed, or its fate is unknown. It may be proposed again.
    case failed(ProposalFailure)
}

public enum ProposalFailure: Error, Equatable, Sendable {
    case noLeader
    case timedOut
    case overloaded
    case stopping
    case other(String)
}

/// Executes the runs that this life of this node owns. Confined to the loop.
///
/// It follows the machine: whatever effects say, what it does depends on what the machine holds when it is told. So it
/// does not matter whether effects come one by one or after a whole batch has been applied.
public final class WorkflowRuntime {
    let limits: WorkflowLimits
    let clock: any Clock
    let scheduler: RunScheduler
    let propose: (Command, @escaping (ProposalOutcome) -> Void) -> Void

    private let node: NodeID
    private let incarnation: Incarnation
    private var machine: WorkflowMachine
    private var registry: WorkflowRegistry
    private var random: SeededRandom
    private var isStopped = false
    private var executions: [RunID: RunExecution] = [:]
    private var queue: Deque<RunID> = []
    private var queued: Set<RunID> = []
    private var unregistered: Set<RunID> = []
    /// Executions that only waited for timers when they were last looked at.
    private var resting = SortedBuckets<RunID>()
    /// Runs whose place went to another run while they only wait for timers.
    private var parked: Set<RunID> = []

    /// Hears of what only this node can tell: why a run does not advance here.
    public var onMessage: ((RunID, String) -> Void)?
    /// Tasks of executions that have not ended yet, those of stopped executions included.
    public private(set) var taskCount = 0

    /// `propose` gets a command into the group's log and calls back on the loop, at once or later. It is given the
    /// same command again when that fails.
    public init(
        node: NodeID, incarnation: Incarnation, machine: WorkflowMachine, registry: WorkflowRegistry,
        executor: any LoopExecutor, clock: any Clock, random: SeededRandom,
        limits: WorkflowLimits = WorkflowLimits(),
        propose: @escaping (Command, @escaping (ProposalOutcome) -> Void) -> Void
    ) {
        self.node = node
        self.incarnation = incarnation
        self.machine = machine
        self.registry = registry
        self.clock = clock
        self.random = random
        self.limits = limits
        self.propose = propose
        scheduler = RunScheduler(loop: executor, jobCountPerTurnMax: limits.jobCountPerTurnMax)
    }

    /// What the machine's effects ask of this node. Effects of entries that were applied before this life of the
    /// node owned the run ask nothing.
    public func handle(_ effects: [Effect]) {
        guard !isStopped else { return }
        for effect in effects {
            switch effect {
            case .execute(let run), .ended(let run), .ownerChanged(let run, _, _), .stalled(let run),
                .forgotten(let run):
                reconcile(run)
            case .checkpointRecorded(let run, let position): executions[run]?.noteRecord(at: position)
            case .timerFired(let run, let position):
                executions[run]?.noteRecord(at: position)
                if parked.contains(run) { reconcile(run) }
            case .timerStarted(let run, _, _): executions[run]?.cameToRest()
            }
        }
        startQueued()
    }

    /// Takes up what the machine says this life of the node owns: after a machine has been restored.
    public func resume() {
        guard !isStopped else { return }
        for run in machine.runs(ownedBy: node) where run.ownerIncarnation == incarnation { reconcile(run.id) }
        startQueued()
    }

    /// Another machine takes the place of the one so far: the group's snapshot came from another node.
    public func replace(_ machine: WorkflowMachine) {
        // An execution has read from the machine that goes; replay on the new one brings it to the same place.
        dropAll()
        self.machine = machine
        resume()
    }

    /// Registers more workflows; runs that waited for them start.
    public func register(_ change: (inout WorkflowRegistry) -> Void) {
        change(&registry)
        let waiting = unregistered.sorted()
        unregistered.removeAll()
        for run in waiting { reconcile(run) }
        startQueued()
    }

    /// Ends every execution without a word to the cluster. Runs stay owned by this node until another takes over.
    public func stop() {
        isStopped = true
        dropAll()
    }

    private func dropAll() {
        for run in executions.keys.sorted() { drop(run) }
        queue.removeAll()
        queued.removeAll()
        unregistered.removeAll()
        parked.removeAll()
    }

    public var executingRunCount: Int { executions.count }
    public var queuedRunCount: Int { queued.count }
    public var parkedRunCount: Int { parked.count }

    /// Why a run that this node owns does not execute here; nil when it does, or is none of this node's.
    public func waitingReason(of id: RunID) -> String? {
        if unregistered.contains(id), let run = machine.run(id) {
            return "workflow \"\(run.type)\" version \(run.version) is not registered on node \(node)"
        }
        if parked.contains(id) { return "waits for a timer, without a place to execute" }
        return queued.contains(id) ? "waits for one of \(limits.executingRunCountMax) places to execute" : nil
    }

    // MARK: - Executions

    private func isMine(_ run: WorkflowRun) -> Bool {
        run.status == .running && run.owner == node && run.ownerIncarnation == incarnation && run.stalled.isEmpty
    }

    /// Makes what this node does about the run what the machine says.
    private func reconcile(_ id: RunID) {
        let run = machine.run(id).flatMap { isMine($0) ? $0 : nil }
        if let execution = executions[id] {
            if let run, run.epoch == execution.epoch { return }
            drop(id)
        }
        unregistered.remove(id)
        parked.remove(id)
        guard run != nil, queued.insert(id).inserted else { return }
        queue.append(id)
    }

    private func startQueued() {
        while !queue.isEmpty, makePlace(), let id = queue.popFirst() {
            queued.remove(id)
            guard let run = machine.run(id), isMine(run), executions[id] == nil else { continue }
            guard let definition = registry.definition(type: run.type, version: run.version) else {
                unregistered.insert(id)
                if let reason = waitingReason(of: id) { log(id, reason) }
                continue
            }
            let execution = RunExecution(run: run, runtime: self)
            executions[id] = execution
            taskCount += 1
            execution.start(definition)
        }
    }

    private func drop(_ id: RunID) {
        resting.remove(id)
        executions.removeValue(forKey: id)?.stop()
    }

    /// True when one more run can execute, if need be instead of one that only waits for its timers.
    private func makePlace() -> Bool {
        if executions.count < max(1, limits.executingRunCountMax) { return true }
        while let id = resting.first {
            resting.remove(id)
            guard executions[id]?.onlyWaitsForTimers == true else { continue }
            drop(id)
            parked.insert(id)
            return true
        }
        return false
    }

    // MARK: - Called by executions

    /// The machine says that the execution's epoch is over, or the run is.
    func lost(_ execution: RunExecution) {
        guard executions[execution.id] === execution else { return }
        drop(execution.id)
        startQueued()
    }

    func rested(_ execution: RunExecution) {
        guard executions[execution.id] === execution else { return }
        resting.insert(execution.id)
        startQueued()
    }

    func taskEnded() { taskCount -= 1 }

    func log(_ run: RunID, _ message: String) { onMessage?(run, message) }

    func randomNumber() -> UInt64 { random.next() }

    /// 10 ms, doubling up to 1.28 s, less up to a half of it drawn by lot: when the leader is gone, many wait.
    func proposalBackoff(failures: Int) -> Nanoseconds {
        let longest = Nanoseconds.milliseconds(10) << UInt64(min(failures, 7))
        return longest - random.next() % (longest / 2)
    }

    /// A failure or reason of a length that the machine takes.
    func bounded(_ text: String) -> String {
        if text.isEmpty { return "unknown" }
        guard text.utf8.count > limits.failureByteCountMax else { return text }
        // Cut at a character's start, which `decoding` would otherwise replace by something longer.
        var end = text.utf8.index(text.startIndex, offsetBy: limits.failureByteCountMax)
        while end > text.startIndex, end.samePosition(in: text.unicodeScalars) == nil {
            end = text.utf8.index(before: end)
        }
        return String(text[..<end])
    }
}
