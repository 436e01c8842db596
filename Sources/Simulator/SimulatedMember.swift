import Logging
@_spi(Planted) @_spi(Simulation) import Node
import Prelude
import StorageTesting
import Workflow

/// One machine that may run a node: its disk, which outlives crashes, and the node's present life.
final class SimulatedMember {
    let slot: Int
    let host: String
    let disk: FaultDisk
    let log: EventLog
    private let simulation: Simulation
    private var random: SeededRandom

    private(set) var state = State.empty
    private(set) var loop: SimulatedLoop?
    private(set) var node: Node?
    private(set) var nodeID: NodeID?
    private var machineDisk: MachineDisk?
    private var life = 0
    private let driftPartsPerMillion: Int64
    private var wallOffsetMilliseconds: Int64

    enum State: Equatable {
        /// Has never been started.
        case empty
        case starting
        case running
        case down
        /// Left the cluster for good.
        case removed
    }

    init(slot: Int, simulation: Simulation) {
        self.slot = slot
        self.simulation = simulation
        host = "n\(slot + 1)"
        log = EventLog(world: simulation.world)
        random = simulation.world.random("member \(slot)")
        disk = FaultDisk(seed: random.next())
        let drift = Int64(simulation.profile.driftPartsPerMillionMax)
        driftPartsPerMillion = drift == 0 ? 0 : Int64.random(in: -drift...drift, using: &random)
        wallOffsetMilliseconds = Int64.random(in: -500...500, using: &random)
    }

    private var port: UInt16 = 7000
    /// The machine is gone for good.
    private(set) var isLost = false

    var address: HostPort { HostPort(host: host, port: port) }
    var isUp: Bool { state == .running || state == .starting }

    // MARK: - Life

    func start() {
        guard !isLost, state == .empty || state == .down else { return }
        life += 1
        log.note("starts life \(life)")
        let world = simulation.world
        let loop = SimulatedLoop(
            world: world, host: host, driftPartsPerMillion: driftPartsPerMillion,
            wallOffsetMilliseconds: wallOffsetMilliseconds)
        loop.workLatency = simulation.profile.workLatency
        loop.promptTurnsPerMille = simulation.profile.promptTurnsPerMille
        let machineDisk = MachineDisk(disk, liesAboutSync: simulation.options.bugs.contains(.lyingDisk))
        self.loop = loop
        self.machineDisk = machineDisk
        state = .starting
        if let nodeID { simulation.checker.lifeBegins(nodeID) }
        let interface = simulation.network.interface(of: loop)
        simulation.network.hostUp(host)
        let seams = loop.seams(network: interface, disk: machineDisk, randomSeed: random.next())
        let configuration = simulation.configuration(of: self)
        let bound = LoopBound((member: self, seams: seams, life: life), to: loop)
        loop.start {
            let (member, seams, life) = bound.value
            await member.run(configuration, seams, life)
        }
    }

    private func run(_ configuration: NodeConfiguration, _ seams: Seams, _ life: Int) async {
        let logger = Logger(label: host) { [log] _ in EventLogHandler(log: log) }
        do throws(NodeError) {
            let started = try await Node.start(
                configuration, seams: seams, registry: simulation.registry, logger: logger)
            guard life == self.life, state == .starting else { return started.abandon() }
            state = .running
            node = started
            simulation.joined(self, as: started.id, before: nodeID)
            nodeID = started.id
            let checker = simulation.checker
            let watch = checker.watch(started)
            loop?.onTurn = { checker.observe(started, watch) }
            log.note("serves as node \(started.id), incarnation \(started.incarnation)")
            started.onStop = { [unowned self] error in
                if life == self.life { stopped(because: error) }
            }
        } catch {
            if life == self.life, state == .starting { failedToStart(error) }
        }
    }

    private func failedToStart(_ error: NodeError) {
        log.note("does not start: \(error.summary)")
        end(silently: false, losesUnsynced: false)
        simulation.judgeStart(of: self, error)
        simulation.startLater(self)
    }

    private func stopped(because error: NodeError) {
        log.note("stops: \(error.summary)")
        if case .removed = error {
            end(silently: false, losesUnsynced: false)
            state = .removed
            return
        }
        simulation.judgeStop(of: self, error)
        simulation.world.schedule(after: 1) { [self] in
            end(silently: false, losesUnsynced: false)
            simulation.startLater(self)
        }
    }

    /// The machine or its process ends without warning.
    /// - Parameters:
    ///   - silently: the other machines are not told that their connections have ended.
    ///   - losesUnsynced: what was not synchronized is lost in part, as when the power fails.
    func end(silently: Bool, losesUnsynced: Bool) {
        guard isUp, let loop, let machineDisk else { return }
        log.note(losesUnsynced ? "loses power" : "ends")
        simulation.world.trace(UInt64(slot), "ends")
        if state == .starting { loop.keepsAbandonedTimers = true }
        state = .down
        let ended = node
        node = nil
        self.loop = nil
        self.machineDisk = nil
        simulation.network.hostDown(loop, silently: silently)
        wallOffsetMilliseconds = loop.wallOffsetMilliseconds
        loop.onTurn = {}
        loop.crash { bodies in
            for body in bodies { endWork(body, losesUnsynced: losesUnsynced, machineDisk) }
            if losesUnsynced { disk.crash() } else { disk.killProcess() }
            machineDisk.isGone = true
            disk.removeFaults()
        } lastRites: {
            ended?.onStop = { _ in }
            ended?.abandon()
        }
    }

    /// A write under way may have reached the disk, in part or wholly, or not at all.
    private func endWork(_ body: () -> Void, losesUnsynced: Bool, _ machineDisk: MachineDisk) {
        switch random.draw(0...2) {
        case 0: body()
        case 1:
            disk.inject(.from(disk.operationCount + random.draw(1...3)))
            body()
            disk.removeFaults()
        default:
            machineDisk.isGone = true
            body()
            machineDisk.isGone = false
        }
    }

    func pause() {
        guard isUp, let loop, loop.phase == .running else { return }
        log.note("is paused")
        loop.pause()
    }

    func resume() {
        guard let loop, loop.phase == .paused else { return }
        log.note("goes on")
        loop.resume()
    }

    func jumpClock(by milliseconds: Int64) {
        log.note("clock jumps by \(milliseconds) ms")
        loop?.wallOffsetMilliseconds += milliseconds
    }

    func setWorkLatency(_ latency: ClosedRange<UInt64>) { loop?.workLatency = latency }

    func shutDown() {
        guard state == .running, let node, let loop else { return }
        log.note("shuts down")
        let bound = LoopBound((member: self, node: node, life: life), to: loop)
        loop.start {
            let (member, node, life) = bound.value
            await node.shutdown()
            member.didShutDown(life)
        }
    }

    private func didShutDown(_ life: Int) {
        guard life == self.life, isUp else { return }
        simulation.world.schedule(after: 1) { [self] in
            guard life == self.life else { return }
            end(silently: false, losesUnsynced: false)
            simulation.startLater(self)
        }
    }

    /// From its next life on the node has another address.
    func move() {
        port += 1
        log.note("is at \(address) from now on")
    }

    func lose() {
        isLost = true
        log.note("is lost for good")
        end(silently: true, losesUnsynced: true)
    }

    func forgetCluster() { state = .removed }

    /// Its next life is that of another member.
    func forgetID() { nodeID = nil }
}

extension NodeError {
    var summary: String { String(description.prefix { $0 != "\n" }) }
}

/// The last things that happened to one node.
final class EventLog: @unchecked Sendable {
    // Sendable, because a simulation has one thread.
    private let world: SimulatedWorld
    private var lines: [String] = []
    private var next = 0
    static let lineCountMax = 40

    init(world: SimulatedWorld) { self.world = world }

    func note(_ text: String) {
        let line = "\(world.now / 1_000_000) ms  \(text)"
        if lines.count < Self.lineCountMax {
            lines.append(line)
        } else {
            lines[next % Self.lineCountMax] = line
        }
        next += 1
    }

    var tail: [String] {
        guard lines.count == Self.lineCountMax else { return lines }
        let start = next % Self.lineCountMax
        return Array(lines[start...] + lines[..<start])
    }
}

struct EventLogHandler: LogHandler {
    let log: EventLog
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.info

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    init(log: EventLog) { self.log = log }

    func log(event: LogEvent) {
        let details = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        log.note("\(event.message) \(details.joined(separator: " "))")
    }
}
