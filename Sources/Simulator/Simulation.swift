@_spi(Planted) @_spi(Simulation) import Node
import Prelude
@_spi(Planted) import Raft
import Storage
import Workflow

/// What came of one run.
public struct SimulationOutcome: Sendable {
    public var seed: UInt64
    public var violation: Violation?
    public var traceHash: UInt64
    public var stepCount: UInt64
    /// How much virtual time has passed.
    public var virtualTime: Nanoseconds
    public var statistics: SimulationStatistics
    public var schedule: [Fault]
    /// The last events of each node.
    public var tails: [(host: String, lines: [String])]

    public var isPassed: Bool { violation == nil }
}

public struct SimulationStatistics: Sendable {
    public var workflowsStarted = 0
    public var workflowsEnded = 0
    public var variableOperations = 0
    public var unknownOutcomes = 0
    public var entries = 0
    public var leaders = 0
    public var installedSnapshots = 0
    public var faults = 0
    public var lives = 0
    public var flippedBytes = 0
    /// Whose data was damaged, and that others took the place of.
    public var replacedMachines = 0
    /// Whose data was damaged, and that have fetched it again as other members.
    public var repairedMachines = 0
    /// Histories of variables that would have taken too long to judge.
    public var undecidedHistories = 0
}

extension RegisterOperation {
    /// What the operation writes; nil when it writes nothing.
    fileprivate var value: String? {
        switch action {
        case .put(let value), .compareAndSwap(_, let value): value
        case .get, .delete: nil
        }
    }
}

/// A cluster, its clients and its faults, over virtual time.
final class Simulation {
    let options: SimulationOptions
    let profile: FaultProfile
    let world: SimulatedWorld
    let network: SimulatedNetwork
    let checker: InvariantChecker
    let effects = SideEffects()
    let registry: WorkflowRegistry
    let schedule: [Fault]
    private(set) var members: [SimulatedMember] = []
    private(set) var clients: [SimulatedClient] = []
    private(set) lazy var operators = OperatorMachine(self)
    var statistics = SimulationStatistics()
    /// Faults go on, or have ended.
    private(set) var isRough = false
    private var usedIDs: [NodeID: Int] = [:]
    /// Who was moved to another address last.
    var lastMoved: SimulatedMember?
    /// Who is being removed from the cluster, and since when. One at a time.
    var leaving: (member: SimulatedMember, since: Nanoseconds)?
    var damage: Damage?
    /// Until when whoever begins to lead is cut off.
    var deposesUntil: Nanoseconds = 0
    var random: SeededRandom

    init(_ options: SimulationOptions) {
        self.options = options
        world = SimulatedWorld(seed: options.seed)
        world.traceSink = options.traceSink
        var draw = world.random("profile")
        let drawn = options.isStorm ? FaultProfile.storm(drawnFrom: &draw) : FaultProfile(drawnFrom: &draw)
        var profile = options.profile ?? drawn
        profile.weights = options.weights ?? profile.weights
        self.profile = profile
        var faults = world.random("schedule")
        schedule = Fault.schedule(profile, seconds: options.faultSeconds, &faults)
        network = SimulatedNetwork(world: world)
        network.latencyRange = profile.latency
        network.lossPerMille = profile.lossPerMille
        network.chunkPerMille = profile.chunkPerMille
        checker = InvariantChecker(world: world)
        random = world.random("driver")
        var registry = WorkflowRegistry()
        SimulatedWorkflow.register(in: &registry, effects)
        options.register?(&registry, effects)
        self.registry = registry
        checker.onLeader = { [unowned self] in depose($0) }
    }

    // MARK: - The run

    func run() -> SimulationOutcome {
        form()
        clients = (0..<options.clientCount).map { SimulatedClient(number: $0, simulation: self) }
        for client in clients { client.begin() }
        inflictFaults()
        recover()
        endTogether()
        checkEnd()
        if checker.violation == nil { checkVariables() }
        surviveOutage()
        statistics.entries = checker.entryCount
        statistics.leaders = checker.leaderCount
        statistics.installedSnapshots = checker.installedSnapshotCount
        let outcome = SimulationOutcome(
            seed: options.seed, violation: checker.violation, traceHash: world.traceHash, stepCount: world.stepCount,
            virtualTime: world.now, statistics: statistics, schedule: schedule,
            tails: members.map { ($0.host, $0.log.tail) } + clients.map { ($0.host, $0.log.tail) })
        dismantle()
        return outcome
    }

    /// Lets time pass until `condition` holds, which is looked at now and then; false when it did not in time.
    @discardableResult
    func pass(_ time: Nanoseconds, until condition: () -> Bool = { false }) -> Bool {
        let end = world.now + time
        while checker.violation == nil {
            if condition() { return true }
            let pause = min(end, world.now + .milliseconds(50))
            while checker.violation == nil, world.step(until: pause) {}
            if world.now >= end { return condition() }
        }
        return false
    }

    private func form() {
        for _ in 0..<options.nodeCount { addMember() }
        members[0].start()
        pass(.seconds(10)) { members[0].state == .running }
        for member in members.dropFirst() { member.start() }
        let isFormed = pass(.seconds(60)) {
            members.allSatisfy { $0.state == .running } && members.allSatisfy(isVoterEverywhere)
        }
        if !isFormed, checker.violation == nil { checker.fail("liveness", "the cluster does not form") }
    }

    private func isVoterEverywhere(_ member: SimulatedMember) -> Bool {
        guard let node = member.node else { return false }
        return node.observedGroups.allSatisfy { $0.configuration.voters.contains(node.id) }
    }

    private func inflictFaults() {
        isRough = true
        let begin = world.now
        for (place, fault) in schedule.enumerated() where !options.leftOut.contains(place) {
            world.schedule(after: fault.at) { [unowned self] in
                guard isRough else { return }
                statistics.faults += 1
                inflict(fault)
            }
        }
        let end = begin + .seconds(options.faultSeconds)
        var compareAt = begin
        while world.now < end, checker.violation == nil {
            pass(min(.seconds(3), end - world.now))
            switchOffRemoved()
            replaceDamaged()
            guard world.now >= compareAt else { continue }
            checker.compareStates(members.compactMap(\.node))
            compareAt = world.now + .seconds(profile.compareSeconds)
        }
        isRough = false
    }

    /// All faults end, and everything starts again.
    private func recover() {
        network.healAll()
        for member in members {
            member.disk.removeFaults()
            member.disk.limitCapacity(to: nil)
            member.setWorkLatency(profile.workLatency)
            member.resume()
            if member.state == .down { member.start() }
        }
        for client in clients { client.stopAsking() }
        let hasRecovered = pass(.seconds(options.recoverySeconds)) {
            switchOffRemoved()
            replaceDamaged()
            return clients.allSatisfy(\.isIdle) && isDamageDealtWith && hasOneLeaderPerGroup && allAppliedTheSame
                && (!options.isStorm || hasSettled)
        }
        if !hasRecovered, checker.violation == nil { checker.fail("liveness", whatIsMissing) }
    }

    var active: [SimulatedMember] { members.filter { $0.state != .empty && $0.state != .removed } }

    private var hasOneLeaderPerGroup: Bool {
        let nodes = active.map(\.node)
        guard let groups = nodes.first??.observedGroups.map(\.id) else { return false }
        return groups.allSatisfy { group in
            nodes.count { $0?.observedGroups.contains { $0.id == group && $0.role == .leader } == true } == 1
        }
    }

    private var allAppliedTheSame: Bool {
        let nodes = active.map(\.node)
        guard let first = nodes.first??.observedGroups.map(\.appliedIndex) else { return false }
        return nodes.allSatisfy { node in
            node?.observedGroups.map(\.appliedIndex) == first
                && node?.observedGroups.allSatisfy { $0.appliedIndex == $0.lastIndex } == true
        }
    }

    private var whatIsMissing: String {
        let nodes = active.map { member in
            guard let node = member.node else { return "\(member.host) is \(member.state)" }
            let groups = node.observedGroups.map {
                "\($0.id): \($0.role) term \($0.term) leader \($0.leader) applied \($0.appliedIndex) "
                    + "commit \($0.commitIndex) last \($0.lastIndex) voters \($0.configuration.voters)"
            }
            return "\(member.host) is node \(node.id) [\(groups.joined(separator: "; "))]"
        }
        let waiting = clients.compactMap(\.waitingFor)
        return "no recovery within \(options.recoverySeconds) s: " + (nodes + waiting).joined(separator: ", ")
    }

    private func endTogether() {
        guard checker.violation == nil else { return }
        checker.compareStates(members.compactMap(\.node), bytes: true)
    }

    private func checkEnd() {
        guard checker.violation == nil else { return }
        guard let machine = active.first?.node?.observedMachine(of: .firstWorkflows) else {
            return checker.fail("liveness", "no node is left")
        }
        checker.compareRecords(with: machine)
        for client in clients { client.checkWorkflows(machine) }
        if let problem = options.endProblem?(effects) { checker.fail("the outside world is right at the end", problem) }
    }

    /// An operation whose outcome is unknown may never have taken effect. Most histories can be explained without those
    /// that nobody saw anything of, which is quick to find out; only the others need the whole search.
    private func checkVariables() {
        let history = clients.flatMap(\.history).filter { $0.action != .get || $0.outcome != nil }
        let seen = Set(
            history.compactMap { operation -> String? in
                guard case .read(let value?, _) = operation.outcome else { return nil }
                return value
            })
        let seenOnly = history.filter { $0.outcome != nil || $0.value.map(seen.contains) == true }
        let withDeletes = history.filter { $0.outcome != nil || $0.value.map(seen.contains) != false }
        var search = LinearizabilityChecker()
        search.stepCountMax = 100_000
        for attempt in [seenOnly, withDeletes] where search.check(attempt) == .linearizable { return }
        search.stepCountMax = 400_000
        switch search.check(history) {
        case .linearizable: break
        case .undecided: statistics.undecidedHistories += 1
        case .violated(let key, let stuckAt): checker.fail("linearizability", "variable \(key): \(stuckAt)")
        }
    }

    /// All machines lose power and come back: what was acknowledged is there.
    private func surviveOutage() {
        guard checker.violation == nil else { return }
        for member in active { member.end(silently: true, losesUnsynced: true) }
        for member in active { member.start() }
        let hasRecovered = pass(.seconds(options.recoverySeconds)) {
            active.allSatisfy { $0.state == .running } && hasOneLeaderPerGroup && allAppliedTheSame
        }
        if !hasRecovered, checker.violation == nil { checker.fail("liveness", whatIsMissing) }
        endTogether()
        checkEnd()
    }

    private func dismantle() {
        for member in members { member.end(silently: true, losesUnsynced: false) }
        for client in clients { client.end() }
    }

    // MARK: - Members

    @discardableResult
    func addMember() -> SimulatedMember {
        let member = SimulatedMember(slot: members.count, simulation: self)
        members.append(member)
        return member
    }

    func configuration(of member: SimulatedMember) -> NodeConfiguration {
        let others = members.filter { $0 !== member && $0.nodeID != nil && $0.state != .removed }
        let isRepairing = isRepairing(member)
        let isFirst = member.slot == 0 && !isRepairing
        var configuration = NodeConfiguration(
            address: member.address, dataDirectory: "/data", bootstrap: isFirst,
            peers: isFirst ? [] : others.map(\.address), discoveryTimeoutSeconds: 10, hostName: member.host,
            limits: limits)
        configuration.repairsFromPeers = isRepairing
        configuration.observer = checker
        configuration.plantedBugs = options.nodeBugs
        configuration.plantedCoreBugs = options.coreBugs
        return configuration
    }

    /// Small, so that snapshots, segments and windows come to their ends often.
    private var limits: Limits {
        var limits = Limits()
        limits.log.segmentByteCount = 128 << 10
        limits.log.recordByteCountMax = 32 << 10
        limits.log.batchByteCountMax = 64 << 10
        limits.log.fillByteCount = 32 << 10
        limits.log.reserveByteCount = 16 << 10
        limits.log.snapshotByteCountMax = 16 << 20
        limits.raft.messageByteCountMax = 16 << 10
        limits.raft.tickMilliseconds = profile.tickMilliseconds
        limits.raft.electionTicks = Int(max(6, 600 / profile.tickMilliseconds))
        limits.raft.committedByteCountPerReadyMax = 4 << 10
        limits.node.appliedByteCountPerTurnMax = 8 << 10
        limits.node.appliedEntryCountPerTurnMax = 16
        limits.node.replayedStoreEntryCount = max(1, profile.snapshotEntryCount / 4)
        limits.node.storeEntryCount = profile.snapshotEntryCount
        limits.node.unstoredEntryCountMax = 4 * profile.snapshotEntryCount
        limits.node.keptEntryCount = profile.keptEntryCount
        limits.node.imagePieceByteCount = 16 << 10
        limits.node.imageBytesPerSecondMax = 1 << 20
        limits.workflow.payloadByteCountMax = 16 << 10
        limits.workflow.variableValueByteCountMax = 16 << 10
        limits.workflow.historyByteCountPerRunMax = 64 << 10
        limits.workflow.endedByteCountMax = 4 << 20
        limits.workflow.stateByteCountMax = 8 << 20
        return limits
    }

    func startLater(_ member: SimulatedMember) {
        world.schedule(after: .milliseconds(random.draw(200...2_000))) { [unowned self] in
            if member.state == .down, checker.violation == nil { member.start() }
        }
    }

    func joined(_ member: SimulatedMember, as id: NodeID, before: NodeID?) {
        statistics.lives += 1
        startedUnharmed(member)
        startedRepaired(member)
        if let before, before != id {
            checker.fail("a node keeps its id", "\(member.host) was node \(before) and is node \(id)")
        }
        if let owner = usedIDs.updateValue(member.slot, forKey: id), owner != member.slot {
            checker.fail("node ids are never used twice", "node id \(id): \(members[owner].host) and \(member.host)")
        }
    }

    /// A node that was stopped by whatever accident has to start again.
    func judgeStart(of member: SimulatedMember, _ error: NodeError) {
        switch error {
        case .storage(let error):
            if isExpected(error, of: member) { return giveUp(member, error) }
            switch error {
            case .damaged, .newerVersion, .foreign:
                checker.fail("a node starts after a crash", "\(member.host): \(error)")
            default: break
            }
        case .cannotRestore, .foreignCluster, .nodeIDExists, .invalidLimits, .invalidAddress:
            checker.fail("a node starts after a crash", "\(member.host): \(error.summary)")
        case .protocolTooOld, .noPeersFound, .joinRefused, .cannotRepair, .cannotRecover, .cannotUseBackup, .cannotBind,
            .cannotBindAdmin,
            .cannotSecure, .nothingToDo, .removed, .stopped:
            break
        }
    }

    func judgeStop(of member: SimulatedMember, _ error: NodeError) {
        guard case .cannotRestore = error else { return }
        checker.fail("a node takes its leader's snapshot", "\(member.host): \(error.summary)")
    }
}

/// Runs one seed.
public func simulate(_ options: SimulationOptions) -> SimulationOutcome { Simulation(options).run() }
