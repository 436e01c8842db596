import Raftoral
import XCTest

/// A program that talks to a cluster elsewhere.
final class ClientTests: LoopTestCase {
    private var nodes: TestNodes { TestNodes(loop: loop) }
    private struct Fibonacci: Codable, Sendable, Equatable { var result: Int }

    func testWorkflowsAndVariablesThroughAnyNode() throws {
        let (loop, nodes) = (loop, nodes)
        try onLoop {
            let cluster = try await nodes.cluster(3)
            let client = RaftoralClient(peers: cluster.map(\.address), on: loop)
            let handle = try await client.start("fibonacci", input: ["n": 20], returning: Fibonacci.self, id: "answer")
            let result = try await handle.result(timeout: .seconds(60))
            XCTAssertEqual(result, Fibonacci(result: 6765))
            let described = try await client.workflow("answer", returning: Fibonacci.self).describe()
            XCTAssertEqual(described.summary.status, .completed)
            let revision = try await client.put("color", Array("green".utf8))
            XCTAssertGreaterThan(revision, 0)
            let color = try await client.get("color")
            XCTAssertEqual(color, Array("green".utf8))
            let nothing = try await client.get("nothing")
            XCTAssertNil(nothing)
            await client.close()
            await cluster.shutdown()
        }
    }

    func testADeadPeerCostsNothingButAMomentAndTheClusterIsFoundFromOneOfManyNames() throws {
        let (loop, nodes) = (loop, nodes)
        try onLoop {
            let cluster = try await nodes.cluster(1)
            // Nobody listens on port 1 of this machine.
            let dead = (1...5).map { HostPort(host: "127.0.0.\($0)", port: 1) }
            let client = RaftoralClient(peers: dead + [cluster[0].address], on: loop)
            for number in 0..<20 {
                let revision = try await client.put("k\(number)", [1])
                XCTAssertGreaterThan(revision, 0)
            }
            await client.close()
            await cluster.shutdown()
        }
    }

    func testCallsGoOnThroughTheLossOfANode() throws {
        let (loop, nodes) = (loop, nodes)
        try onLoop {
            let cluster = try await nodes.cluster(3)
            let client = RaftoralClient(peers: cluster.map(\.address), on: loop, timeout: .seconds(60))
            for number in 0..<30 {
                if number == 10 { await cluster[0].shutdown() }
                let result: Fibonacci = try await client.run("fibonacci", input: ["n": 10])
                XCTAssertEqual(result, Fibonacci(result: 55))
            }
            await client.close()
            await Array(cluster.dropFirst()).shutdown()
        }
    }

    func testWithoutAnyNodeTheCallFailsAndSaysWhy() throws {
        let loop = loop
        try onLoop {
            var limits = Limits()
            limits.client.retryMilliseconds = 300
            let client = RaftoralClient(peers: [HostPort(host: "127.0.0.1", port: 1)], on: loop, limits: limits)
            do throws(WorkflowCallError) {
                _ = try await client.put("k", [1])
                XCTFail("nobody is there")
            } catch {
                guard case .call(let status) = error else { return XCTFail("\(error)") }
                XCTAssertEqual(status.code, .unavailable)
                XCTAssertTrue(status.message.contains("127.0.0.1:1"), status.message)
            }
            await client.close()
        }
    }
}
