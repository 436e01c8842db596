import Foundation
import Glibc
import Logging
import Raftoral
import XCTest

/// A test case with one loop on the test's thread, closed after each test, and a check that nothing stays open.
class LoopTestCase: XCTestCase {
    private var storedLoop: EventLoop?
    private var descriptorCountBefore = 0

    var loop: EventLoop {
        guard let storedLoop else { preconditionFailure("the loop exists between setUp and tearDown") }
        return storedLoop
    }

    override func setUpWithError() throws {
        // The first loop of a process makes descriptors that stay: the thread pool's and the signal handler's.
        let first = try EventLoop()
        var isDone = false
        first.work.perform({}, completion: { isDone = true })
        first.run(until: { isDone })
        first.close()
        descriptorCountBefore = openDescriptorCount()
        storedLoop = try EventLoop()
    }

    override func tearDown() {
        storedLoop?.close()
        storedLoop = nil
        // Threads of the runtime and of the test runner open a descriptor now and then, for a moment.
        let deadline = DispatchTime.now() + .seconds(60)
        while openDescriptorCount() > descriptorCountBefore, DispatchTime.now() < deadline { sched_yield() }
        XCTAssertLessThanOrEqual(openDescriptorCount(), descriptorCountBefore, "descriptors leaked")
    }

    /// Drives the loop until the condition holds; a failure when it does not within the time.
    func wait(
        _ what: String, within timeout: Nanoseconds = .seconds(120), file: StaticString = #filePath, line: UInt = #line,
        until condition: () -> Bool
    ) {
        XCTAssertTrue(loop.run(until: condition, within: timeout), what, file: file, line: line)
    }

    /// Runs `body` on the loop to its end.
    func onLoop<Output: Sendable>(
        within timeout: Nanoseconds = .seconds(120), file: StaticString = #filePath, line: UInt = #line,
        _ body: @escaping @Sendable () async throws -> Output
    ) throws -> Output {
        let outcome = Outcome<Output>()
        let bound = LoopBound(outcome, to: loop)
        let task = loop.start {
            do { bound.value.result = .success(try await body()) } catch { bound.value.result = .failure(error) }
        }
        loop.run(until: { outcome.result != nil }, within: timeout)
        guard let result = outcome.result else {
            task.cancel()
            XCTFail("not within \(timeout / 1_000_000_000) s", file: file, line: line)
            throw TimedOut()
        }
        return try result.get()
    }

    private final class Outcome<Output> { var result: Result<Output, any Error>? }
    struct TimedOut: Error {}
}

func openDescriptorCount() -> Int { ((try? FileDisk().list("/proc/self/fd")) ?? []).count }

/// A fresh directory, removed at the end of the test.
func temporaryDirectory(_ test: XCTestCase) throws -> String {
    let url = FileManager.default.temporaryDirectory.appendingPathComponent("raftoral-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    test.addTeardownBlock { try? FileManager.default.removeItem(at: url) }
    return url.path
}

extension HostPort {
    static let anyPort = HostPort(host: "127.0.0.1", port: 0)
}

/// A port that was free a moment ago: for those that must not answer.
func silentAddress(on loop: EventLoop) throws -> HostPort {
    let listener = try loop.network.listen(on: .anyPort) { $0.close() }
    listener.close()
    return listener.address
}

/// Nodes of one test, all on one loop, with their data in memory.
struct TestNodes: Sendable {
    let loop: EventLoop
    var disk: @Sendable () -> any Disk = { MemoryDisk() }

    func start(
        bootstrap: Bool = false, peers: [HostPort] = [], nodeID: NodeID? = nil, address: HostPort = .anyPort,
        report: @escaping @Sendable (StartEvent) -> Void = { _ in },
        workflows: (inout WorkflowRegistry) throws -> Void = { SampleWorkflows.register(in: &$0) }
    ) async throws -> RunningNode {
        try await RunningNode.start(
            NodeConfiguration(
                address: address, dataDirectory: "/data", bootstrap: bootstrap, peers: peers, nodeID: nodeID,
                discoveryTimeoutSeconds: 20),
            on: loop, disk: disk(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, report: report,
            workflows: workflows)
    }

    func start(
        _ configuration: NodeConfiguration, adminAddress: HostPort? = nil, security: SecurityFiles = SecurityFiles()
    ) async throws -> RunningNode {
        try await RunningNode.start(
            configuration, on: loop, disk: disk(), adminAddress: adminAddress, security: security,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            workflows: { SampleWorkflows.register(in: &$0) })
    }

    /// `count` nodes, of which all are voters.
    func cluster(_ count: Int) async throws -> [RunningNode] {
        var nodes = [try await start(bootstrap: true)]
        for _ in 1..<count { nodes.append(try await start(peers: [nodes[0].address])) }
        try await waitForVoters(count, nodes)
        return nodes
    }
}

extension [RunningNode] {
    func shutdown() async {
        for node in reversed() { await node.shutdown() }
    }
}

extension RunningNode {
    var status: ClusterStatusResponse {
        get async throws { try await call { $0.status } }
    }
}

extension EventLoop {
    /// Looks again and again until `condition` holds, on the loop, which goes on meanwhile.
    func until(
        _ what: String, within timeout: Nanoseconds = .seconds(120),
        _ condition: @Sendable () async throws -> Bool
    ) async throws {
        let deadline = clock.now + timeout
        while try await !condition() {
            guard clock.now < deadline else { throw Unsettled(description: "not in time: \(what)") }
            await withCheckedContinuation { continuation in
                _ = clock.schedule(after: .milliseconds(5)) { continuation.resume() }
            }
        }
    }
}

struct Unsettled: Error, CustomStringConvertible {
    var description: String
}

extension TestNodes {
    /// Waits until every group has so many voters, in each node's eyes.
    func waitForVoters(_ count: Int, _ nodes: [RunningNode]) async throws {
        for node in nodes {
            try await loop.until("node \(node.id) sees \(count) voters") {
                let groups = try await node.status.groups
                return groups.count == 2 && groups.allSatisfy { $0.replicas.filter(\.isVoter).count == count }
            }
        }
    }

    /// The leader of the workflows, once all nodes agree on one.
    func leader(of nodes: [RunningNode]) async throws -> RunningNode {
        var found: RunningNode?
        let deadline = loop.clock.now + .seconds(120)
        while found == nil {
            guard loop.clock.now < deadline else { throw Unsettled(description: "no leader in time") }
            var leaders: Set<NodeID> = []
            for node in nodes {
                for group in try await node.status.groups where group.groupID == 1 {
                    leaders.insert(group.leaderNodeID)
                }
            }
            if leaders.count == 1 { found = nodes.first { leaders.contains($0.id) } }
            await withCheckedContinuation { continuation in
                _ = loop.clock.schedule(after: .milliseconds(5)) { continuation.resume() }
            }
        }
        guard let found else { throw Unsettled(description: "no leader") }
        return found
    }
}
