import Foundation
import Prelude
import XCTest

@testable import Workflow

/// A log without consensus: what is proposed is applied to the replicas of every node, in order of arrival, and the
/// effects go to their runtimes. Faults are up to the test.
final class TestCluster {
    final class Node {
        let id: NodeID
        var incarnation: Incarnation = 1
        var machine: WorkflowMachine
        var runtime: WorkflowRuntime?
        var messages: [String] = []

        init(id: NodeID, machine: WorkflowMachine) {
            self.id = id
            self.machine = machine
        }
    }

    struct Proposal {
        var command: Command
        var origin: CommandOrigin?
        var node: NodeID
        var completion: (ProposalOutcome) -> Void
    }

    let loop = TestLoop()
    let clock = TestClock()
    var limits = WorkflowLimits()
    var registry: WorkflowRegistry
    var nodes: [Node] = []
    var inbox: [Proposal] = []
    private(set) var log: [(Command, ApplyContext, CommandResult)] = []
    private(set) var index: LogIndex = 0
    private var sequence: UInt64 = 0
    /// Decides what becomes of a proposal; nil lets it into the log.
    var fault: ((Command) -> ProposalFailure?)?
    /// The proposal is applied, and its proposer is told that it failed.
    var losesAnswer: ((Command) -> Bool)?

    init(nodeCount: Int = 3, limits: WorkflowLimits = WorkflowLimits(), registry: WorkflowRegistry) {
        self.limits = limits
        self.registry = registry
        for place in 1...nodeCount {
            let machine = WorkflowMachine(group: 1, limits: limits)
            nodes.append(Node(id: NodeID(UInt64(place)), machine: machine))
        }
        for node in nodes { startRuntime(of: node) }
    }

    subscript(id: NodeID) -> Node { nodes[Int(id.rawValue) - 1] }

    func startRuntime(of node: Node) {
        let id = node.id
        let runtime = WorkflowRuntime(
            node: id, incarnation: node.incarnation, machine: node.machine, registry: registry, executor: loop,
            clock: clock, random: SeededRandom(seed: id.rawValue), limits: limits
        ) { [unowned self] command, completion in
            propose(command, from: id, completion)
        }
        runtime.onMessage = { [unowned node] in node.messages.append("\($0): \($1)") }
        node.runtime = runtime
    }

    func propose(_ command: Command, from node: NodeID, _ completion: @escaping (ProposalOutcome) -> Void) {
        sequence += 1
        let origin = CommandOrigin(node: node, incarnation: self[node].incarnation, sequence: sequence)
        inbox.append(Proposal(command: command, origin: origin, node: node, completion: completion))
    }

    /// Applies a command at once, as the leader would, and returns what it came to.
    @discardableResult
    func apply(_ command: Command, origin: CommandOrigin? = nil) -> CommandResult {
        index = index + 1
        let context = ApplyContext(
            group: 1, index: index, timeMilliseconds: clock.wallMilliseconds, origin: origin)
        var results: [CommandResult] = []
        for node in nodes {
            let (result, effects) = node.machine.apply(command, context)
            results.append(result)
            node.runtime?.handle(effects)
        }
        XCTAssertEqual(Set(results.map { "\($0)" }).count, 1, "replicas agree")
        log.append((command, context, results[0]))
        return results[0]
    }

    /// Lets one proposal through. False when there is none.
    func commitOne() -> Bool {
        guard !inbox.isEmpty else { return false }
        let proposal = inbox.removeFirst()
        // What a dead node had under way is lost with it.
        guard self[proposal.node].runtime != nil else { return true }
        if let failure = fault?(proposal.command) {
            proposal.completion(.failed(failure))
            return true
        }
        let isLost = losesAnswer?(proposal.command) ?? false
        let result = apply(proposal.command, origin: proposal.origin)
        proposal.completion(isLost ? .failed(.timedOut) : .applied(result))
        return true
    }

    /// Runs code, the log, timers and time until nothing more happens. `observe` runs after each committed entry.
    func run(until limitNanoseconds: Nanoseconds = .seconds(86_400), _ observe: () -> Bool = { true }) {
        for _ in 0..<200_000 {
            XCTAssertTrue(loop.run(), "the loop never ran dry")
            if commitOne() {
                guard observe() else { return }
                continue
            }
            let due = nodes[0].machine.dueTimers(at: clock.wallMilliseconds, limit: 100)
            if !due.isEmpty {
                for fire in due { apply(.timerFire(fire)) }
                guard observe() else { return }
                continue
            }
            guard let next = nextTime(), next <= limitNanoseconds else { return }
            clock.advance(to: next)
        }
        XCTFail("the cluster never came to rest")
    }

    private func nextTime() -> Nanoseconds? {
        let durable = nodes[0].machine.nextTimerMilliseconds.map {
            clock.now + .milliseconds(UInt64(max(0, $0 - clock.wallMilliseconds)))
        }
        return [durable, clock.nextDue].compactMap { $0 }.min()
    }

    func start(
        _ type: String, version: UInt32 = 1, _ input: String = "null", id: String = "w", owner: NodeID = 1,
        requestID: String = ""
    ) -> CommandResult {
        apply(
            .start(
                Command.Start(
                    workflowID: id, type: type, version: version, input: Payload(data: Array(input.utf8)),
                    owner: owner, ownerIncarnation: self[owner].incarnation, requestID: requestID)))
    }

    func startRun(_ type: String, _ input: String = "null", id: String = "w", owner: NodeID = 1) throws -> RunID {
        guard case .started(let run, _) = start(type, input, id: id, owner: owner) else {
            throw TestFailure("the run did not start")
        }
        return run
    }

    /// The node dies with all it had in memory but its replica, which the log would bring back.
    func crash(_ id: NodeID) {
        self[id].runtime?.stop()
        self[id].runtime = nil
        loop.run()
    }

    func restart(_ id: NodeID) throws {
        let node = self[id]
        node.incarnation = Incarnation(node.incarnation.rawValue + 1)
        node.machine = try WorkflowMachine(snapshot: node.machine.snapshot(), limits: limits)
        startRuntime(of: node)
        node.runtime?.resume()
    }

    @discardableResult
    func changeOwner(_ id: RunID, to owner: NodeID) throws -> CommandResult {
        let run = try run(id)
        return apply(
            .ownerChange(
                Command.OwnerChange(
                    run: id, oldOwner: run.owner, newOwner: owner, newOwnerIncarnation: self[owner].incarnation,
                    reason: .nodeFailure, epoch: run.epoch)))
    }

    func run(_ id: RunID, on node: NodeID = 1) throws -> WorkflowRun {
        guard let run = self[node].machine.run(id) else { throw TestFailure("no run \(id)") }
        return run
    }

    /// Status, result and failure in one text.
    func outcome(_ id: RunID) throws -> String {
        let run = try run(id)
        let result = run.result.map { String(decoding: $0.data, as: UTF8.self) } ?? ""
        return "\(run.status) \(result)\(run.failure)"
    }

    func expectEqualReplicas() {
        let snapshots = nodes.map { $0.machine.snapshot() }
        XCTAssertTrue(snapshots.allSatisfy { $0 == snapshots[0] }, "replicas are equal")
    }
}

struct TestFailure: Error {
    var reason: String
    init(_ reason: String) { self.reason = reason }
}

/// Counts what happened outside of the history, by name.
final class Ledger: @unchecked Sendable {
    private let lock = NSLock()
    private var events: [String] = []

    func note(_ event: String) { lock.withLock { events.append(event) } }
    var all: [String] { lock.withLock { events } }
    func count(_ event: String) -> Int { all.count { $0 == event } }
}
