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

    // MARK: - A resolver that never answers

    func testTheDeadlineHoldsWhileNamesAreResolved() throws {
        let loop = loop
        try onLoop {
            let status = await loop.statusOfGet(at: "nowhere.example:5001", timeout: .milliseconds(50))
            XCTAssertEqual(status?.code, .deadlineExceeded)
            XCTAssertTrue(status?.message.contains("nowhere.example:5001") ?? false, "\(status as Any)")
        }
    }

    func testWithoutADeadlineANameThatIsNotResolvedFailsAfterAWhile() throws {
        let loop = loop
        try onLoop {
            var limits = Limits()
            limits.client.attemptMilliseconds = 50
            limits.client.retryMilliseconds = 0
            let status = await loop.statusOfGet(at: "nowhere.example:5001", timeout: nil, limits: limits)
            XCTAssertEqual(status?.code, .unavailable)
        }
    }

    func testOpenCallsAreBoundedAndTheirEndMakesRoom() throws {
        let loop = loop
        try onLoop {
            var limits = Limits()
            limits.client.openCallCountMax = 3
            let channel = loop.clusterChannel(to: "nowhere.example:5001", limits)
            for _ in 0..<2 {
                var codes: [GRPCCode] = []
                for _ in 0..<5 {
                    channel.get(timeout: .milliseconds(50)) { codes.append($0?.code ?? .ok) }
                }
                while codes.count < 5 { await Task.yield() }
                XCTAssertEqual(
                    codes, [.resourceExhausted, .resourceExhausted] + .init(repeating: .deadlineExceeded, count: 3))
            }
            channel.close()
        }
    }
}

/// No name is ever resolved, and nobody can be reached.
private final class SilentNetwork: Network {
    func listen(
        on address: HostPort, accept: @escaping (any Connection) -> Void
    ) throws(NetworkError) -> any Listener { throw .permissionDenied(address) }

    func resolve(_ address: HostPort, completion: @escaping (Result<[HostPort], NetworkError>) -> Void) {}

    func connect(
        to address: HostPort, timeout: Nanoseconds, completion: @escaping (Result<any Connection, NetworkError>) -> Void
    ) { completion(.failure(.timedOut(address))) }
}

extension EventLoop {
    fileprivate func clusterChannel(to peer: String, _ limits: Limits) -> ClusterChannel {
        var seams = seams(disk: MemoryDisk(), randomSeed: 1)
        seams.network = SilentNetwork()
        return ClusterChannel(peers: [HostPort(peer)].compactMap { $0 }, seams: seams, limits: limits)
    }

    fileprivate func statusOfGet(
        at peer: String, timeout: Nanoseconds?, limits: Limits = Limits()
    ) async -> GRPCStatus? {
        let channel = clusterChannel(to: peer, limits)
        defer { channel.close() }
        return await withCheckedContinuation { continuation in
            channel.get(timeout: timeout) { continuation.resume(returning: $0) }
        }
    }
}

extension ClusterChannel {
    fileprivate func get(timeout: Nanoseconds?, completion: @escaping (GRPCStatus?) -> Void) {
        call(
            VariableServicePath.get, GetRequest(key: "k", stale: true), GetResponse.self, kind: .read, timeout: timeout
        ) { result in
            switch result {
            case .success: completion(nil)
            case .failure(let status): completion(status)
            }
        }
    }
}
