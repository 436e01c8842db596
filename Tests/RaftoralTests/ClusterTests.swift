import Raftoral
import XCTest

/// Three nodes in one process, on one loop.
final class ClusterTests: LoopTestCase {
    private var nodes: TestNodes { TestNodes(loop: loop) }
    private struct Fibonacci: Codable, Sendable, Equatable { var result: Int }

    func testWorkflowsRunOnEveryNode() throws {
        let nodes = nodes
        try onLoop {
            let cluster = try await nodes.cluster(3)
            for (place, node) in cluster.enumerated() {
                let run = try await node.start("fibonacci", input: ["n": 20], returning: Fibonacci.self)
                // Awaited at another node than the one that executes.
                let other = cluster[(place + 1) % 3]
                let result = try await other.workflow(run.workflowID, runID: run.runID, returning: Fibonacci.self)
                    .result(timeout: .seconds(120))
                XCTAssertEqual(result, Fibonacci(result: 6765))
                let described = try await run.describe()
                XCTAssertEqual(described.summary.ownerNodeID, node.id)
                XCTAssertEqual(described.checkpoints.map(\.position), Array(0..<20))
            }
            await cluster.shutdown()
        }
    }

    func testStateIsTheSameEverywhere() throws {
        let (loop, nodes) = (loop, nodes)
        try onLoop {
            let cluster = try await nodes.cluster(3)
            for number in 0..<60 {
                let node = cluster[number % 3]
                _ = try await node.call { node throws(GRPCStatus) in
                    try await node.put(PutRequest(key: "key-\(number % 7)", value: [UInt8(number)]))
                }
            }
            try await loop.until("all have applied the same") {
                var seen: Set<[UInt64]> = []
                for node in cluster { seen.insert(try await node.status.groups.map(\.appliedIndex.rawValue)) }
                return seen.count == 1
            }
            var digests: Set<[String]> = []
            for node in cluster { digests.insert(try await node.status.groups.map(\.appliedDigest)) }
            XCTAssertEqual(digests.count, 1)
            await cluster.shutdown()
        }
    }

    func testLeaderLeavesInTheMiddleOfItsRun() throws {
        let nodes = nodes
        try onLoop {
            let cluster = try await nodes.cluster(3)
            let leader = try await nodes.leader(of: cluster)
            let others = cluster.filter { $0.id != leader.id }
            let run = try await leader.start(
                "fibonacci", input: ["n": 30, "stepDelayMilliseconds": 20], returning: Fibonacci.self)
            let elsewhere = others[0].workflow(run.workflowID, runID: run.runID, returning: Fibonacci.self)
            try await nodes.loop.until("some steps are recorded") {
                try await elsewhere.describe().checkpoints.count > 3
            }
            await leader.shutdown()
            let result = try await elsewhere.result(timeout: .seconds(120))
            XCTAssertEqual(result, Fibonacci(result: 832_040))
            let described = try await elsewhere.describe()
            XCTAssertEqual(described.checkpoints.map(\.position), Array(0..<30))
            XCTAssertGreaterThan(Set(described.checkpoints.map(\.epoch)).count, 1)
            await others.shutdown()
        }
    }

    func testNodeResumesFromItsDirectory() throws {
        let loop = loop
        let directory = try temporaryDirectory(self)
        let configuration = NodeConfiguration(address: .anyPort, dataDirectory: directory + "/node", bootstrap: true)
        try onLoop {
            let first = try await RunningNode.start(configuration, on: loop) { SampleWorkflows.register(in: &$0) }
            let run = try await first.start(
                "fibonacci", input: ["n": 30, "stepDelayMilliseconds": 20], returning: Fibonacci.self, id: "kept")
            try await loop.until("some steps are recorded") { try await run.describe().checkpoints.count > 3 }
            await first.shutdown()

            let second = try await RunningNode.start(configuration, on: loop) { SampleWorkflows.register(in: &$0) }
            XCTAssertEqual(second.id, first.id)
            XCTAssertEqual(second.clusterID, first.clusterID)
            let result = try await second.workflow("kept", returning: Fibonacci.self).result(timeout: .seconds(120))
            XCTAssertEqual(result, Fibonacci(result: 832_040))
            await second.shutdown()
        }
    }

    func testRemovedNodeStops() throws {
        let (loop, nodes) = (loop, nodes)
        let stopped = LoopBound(Reasons(), to: loop)
        try onLoop {
            let first = try await nodes.start(bootstrap: true)
            let second = try await RunningNode.start(
                NodeConfiguration(address: .anyPort, dataDirectory: "/data", peers: [first.address]), on: loop,
                disk: MemoryDisk(), onStop: { stopped.value.reasons.append("\($0)") }, workflows: { _ in })
            try await nodes.waitForVoters(2, [first])
            let transport = ClusterTransport(local: NodeConfig(nodeID: 9, address: first.address), on: loop)
            transport.close()
            let client = NodeClient(
                seams: loop.seams(disk: MemoryDisk(), randomSeed: 1), limits: WireLimits(), target: first.address,
                random: SeededRandom(seed: 1))
            _ = try await client.call(
                ClusterServicePath.remove, RemoveRequest(nodeID: second.id), RemoveResponse.self, timeout: .seconds(120)
            )
            client.close()
            try await loop.until("the removed node stops") { !stopped.value.reasons.isEmpty }
            XCTAssertTrue(stopped.value.reasons[0].contains("was removed from its cluster"))
            try await nodes.waitForVoters(1, [first])
            await second.shutdown()
            await first.shutdown()
        }
    }

    private final class Reasons { var reasons: [String] = [] }
}
