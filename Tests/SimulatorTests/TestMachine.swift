import Logging
import Prelude
import Storage
import StorageTesting
import Wire
import Workflow
import XCTest

@_spi(Simulation) @testable import Node
@testable import Simulator

/// A machine with one node, over virtual time.
final class TestMachine {
    private(set) var outcome: Result<Node, NodeError>?
    private(set) var stopReason: NodeError?
    let loop: SimulatedLoop
    let disk: FaultDisk
    private let world: SimulatedWorld
    private let network: SimulatedNetwork
    private let machineDisk: MachineDisk
    private let work: HeldWork

    /// - Parameter network: nil for one without other machines.
    init(disk: FaultDisk, network: SimulatedNetwork? = nil, host: String = "n1") {
        self.disk = disk
        let network = network ?? SimulatedNetwork(world: SimulatedWorld(seed: 7))
        self.network = network
        world = network.world
        loop = SimulatedLoop(world: world, host: host)
        machineDisk = MachineDisk(disk, liesAboutSync: false)
        work = HeldWork(loop, disk: machineDisk)
    }

    /// Of the node, when it starts.
    var limits = TestMachine.limits

    /// The workflows that the node knows.
    var registry = WorkflowRegistry()

    /// The disk below the state stores stalls: what is written there does not end.
    var stallsStateStores: Bool {
        get { work.holds }
        set { work.holds = newValue }
    }

    var node: Node? { try? outcome?.get() }
    var address: HostPort { HostPort(host: loop.host, port: 7000) }

    var outcomeText: String {
        switch outcome {
        case .success: "it starts"
        case .failure(let error): "\(error)"
        case nil: "it neither starts nor fails"
        }
    }

    static var limits: Limits {
        var limits = Limits()
        limits.log.segmentByteCount = 4 << 10
        limits.log.recordByteCountMax = 1 << 10
        limits.log.batchByteCountMax = 2 << 10
        limits.log.fillByteCount = 1 << 10
        limits.log.reserveByteCount = 1 << 10
        limits.log.segmentCountMax = 3
        limits.workflow.payloadByteCountMax = 512
        limits.workflow.variableValueByteCountMax = 512
        limits.workflow.historyByteCountPerRunMax = 64 << 10
        limits.workflow.endedByteCountMax = 4 << 20
        limits.workflow.endedCountMax = 2
        limits.workflow.stateByteCountMax = 8 << 20
        limits.log.snapshotByteCountMax = 16 << 20
        limits.node.storeEntryCount = 15
        limits.node.unstoredEntryCountMax = 50
        limits.node.keptEntryCount = 4
        limits.node.backupPieceByteCount = 4 << 10
        limits.node.backupBytesPerSecondMax = 64 << 10
        limits.node.imagePieceByteCount = 16 << 10
        return limits
    }

    var now: Nanoseconds { world.now }

    private var seams: Seams {
        var seams = loop.seams(
            network: network.interface(of: loop), disk: machineDisk,
            randomSeed: loop.host.utf8.reduce(0) { $0 &* 31 &+ UInt64($1) })
        seams.work = work
        return seams
    }

    /// Runs a workflow to its end.
    func completePingPong(_ id: String) throws {
        let start = StartWorkflowRequest(
            workflowID: id, type: "ping_pong", input: Payload(data: Array(#"{"message":"ping"}"#.utf8)))
        let answer = ask { node throws(GRPCStatus) in
            _ = try await node.startWorkflow(start)
            return try await node.workflowResult(GetWorkflowResultRequest(workflowID: id))
        }
        XCTAssertEqual(try XCTUnwrap(answer).get().status, .completed)
    }

    /// Makes a new cluster out of what the stopped machine has.
    func recover(seed: UInt64 = 2) -> Result<NodeIdentity, NodeError>? {
        let recovery: ClusterRecovery
        do throws(NodeError) {
            recovery = try ClusterRecovery(dataDirectory: "/data", disk: machineDisk, limits: Self.limits)
        } catch {
            return .failure(error)
        }
        defer { recovery.close() }
        let bound = LoopBound(recovery, to: loop)
        return offline { seams, address throws(NodeError) in
            try await bound.value.carryOut(address: address, disk: seams.disk, work: seams.work, randomSeed: seed)
        }
    }

    /// Makes a new cluster out of a backup.
    func restore(_ file: String, seed: UInt64 = 2) -> Result<ClusterRestore.Outcome, NodeError>? {
        let limits = Self.limits
        return offline { seams, address throws(NodeError) in
            try await ClusterRestore.restore(
                file, into: "/data", address: address, disk: seams.disk, work: seams.work, randomSeed: seed,
                limits: limits)
        }
    }

    private func offline<Output: Sendable>(
        _ body: @escaping @Sendable (Seams, HostPort) async throws(NodeError) -> Output
    ) -> Result<Output, NodeError>? {
        let ended = Answer<Output, NodeError>()
        let bound = LoopBound((seams: seams, address: address, ended: ended), to: loop)
        loop.start {
            let (seams, address, ended) = bound.value
            do throws(NodeError) {
                ended.result = .success(try await body(seams, address))
            } catch {
                ended.result = .failure(error)
            }
        }
        pass { ended.result != nil }
        return ended.result
    }

    /// Resumes, or joins `peers`, or bootstraps when there are none; nil when nothing comes of it.
    func start(peers: [HostPort] = [], untilItLeads: Bool = true) -> Result<Node, NodeError>? {
        let seams = seams
        network.hostUp(loop.host)
        let configuration = NodeConfiguration(
            address: address, dataDirectory: "/data", bootstrap: peers.isEmpty, peers: peers, hostName: loop.host,
            limits: limits)
        let bound = LoopBound((test: self, seams: seams, registry: registry), to: loop)
        loop.start {
            let (test, seams, registry) = bound.value
            do throws(NodeError) {
                let node = try await Node.start(
                    configuration, seams: seams, registry: registry,
                    logger: Logger(label: "n1") { _ in
                        SwiftLogNoOpLogHandler()
                    })
                node.onStop = { [unowned test] in test.stopReason = $0 }
                test.outcome = .success(node)
            } catch {
                test.outcome = .failure(error)
            }
        }
        pass { outcome != nil }
        if let node, untilItLeads {
            pass { node.observedGroups.allSatisfy { $0.role == .leader && $0.appliedIndex == $0.lastIndex } }
        }
        return outcome
    }

    /// Lets time pass until the condition holds, for a minute at most.
    func pass(_ condition: () -> Bool) {
        let end = world.now + .seconds(60)
        while !condition(), stopReason == nil, world.now < end {
            for _ in 0..<20 where !condition() { _ = world.step(until: end) }
        }
    }

    /// True when the node acknowledges it.
    func put(_ key: String, _ value: String) -> Bool {
        guard case .success? = tryPut(key, value) else { return false }
        return true
    }

    /// What the node answers; nil when it does not.
    func tryPut(_ key: String, _ value: String) -> Result<Void, GRPCStatus>? {
        ask { node throws(GRPCStatus) in _ = try await node.put(PutRequest(key: key, value: Array(value.utf8))) }
    }

    /// A linearizable read.
    func tryGet(_ key: String) -> Result<Void, GRPCStatus>? {
        ask { node throws(GRPCStatus) in _ = try await node.get(GetRequest(key: key)) }
    }

    func ask<Output: Sendable>(
        _ call: @escaping @Sendable (Node) async throws(GRPCStatus) -> Output
    ) -> Result<Output, GRPCStatus>? {
        guard let node else { return nil }
        let answer = Answer<Output, GRPCStatus>()
        let bound = LoopBound((node: node, answer: answer), to: loop)
        loop.start {
            let (node, answer) = bound.value
            do throws(GRPCStatus) {
                answer.result = .success(try await call(node))
            } catch {
                answer.result = .failure(error)
            }
        }
        pass { answer.result != nil }
        return answer.result
    }

    private final class Answer<Output, Failure: Error> { var result: Result<Output, Failure>? }

    /// What the node has applied; nil when there is no such key.
    func value(of key: String) -> String? {
        node?.observedMachine(of: .firstWorkflows)?.variable(key).map { String(decoding: $0.value, as: UTF8.self) }
    }

    /// The states of all groups, as bytes.
    var state: [[UInt8]] { node.map { node in node.observedGroups.map { node.observedState(of: $0.id) } } ?? [] }

    func shutDown() {
        guard let node else { return }
        let answer = Answer<Void, GRPCStatus>()
        let bound = LoopBound((node: node, answer: answer), to: loop)
        loop.start {
            await bound.value.node.shutdown()
            bound.value.answer.result = .success(())
        }
        pass { answer.result != nil }
    }

    /// The process is gone.
    func end(losesPower: Bool = false) {
        if outcome == nil { loop.keepsAbandonedTimers = true }
        network.hostDown(loop, silently: false)
        let ended = node
        loop.crash { bodies in
            machineDisk.isGone = true
            for body in bodies { body() }
            if losesPower { disk.crash() } else { disk.killProcess() }
        } lastRites: {
            ended?.onStop = { _ in }
            ended?.abandon()
        }
        outcome = nil
    }
}

/// A loop's work. What has used a state store does not end while it is held.
private final class HeldWork: Work {
    private let loop: SimulatedLoop
    private let disk: MachineDisk
    private var held: [() -> Void] = []

    var holds = false {
        didSet {
            guard !holds else { return }
            for completion in held { loop.perform({}, completion: completion) }
            held = []
        }
    }

    init(_ loop: SimulatedLoop, disk: MachineDisk) {
        self.loop = loop
        self.disk = disk
    }

    func perform<Output: Sendable>(
        _ body: @escaping @Sendable () -> Output, completion: @escaping (Output) -> Void
    ) {
        let disk = disk
        loop.perform { [disk] in
            let output = body()
            return (output, disk.path.contains("/state/"))
        } completion: { [self] output, isOfStateStore in
            guard holds, isOfStateStore else { return completion(output) }
            held.append { completion(output) }
        }
    }
}

/// The runs in the state store of group 1, up to 100.
func storedRuns(in directory: String, on disk: FaultDisk) throws -> [StoredRun] {
    let work = ManualWork()
    let store = try StateStore(1, directory: directory, disk: disk, work: work)
    var found: Result<[StoredRun], StorageError>?
    store.list(RunFilter(), limit: 100) { found = $0 }
    work.runUntilIdle()
    store.close()
    return try XCTUnwrap(found).get()
}
