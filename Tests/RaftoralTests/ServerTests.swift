import Raftoral
import XCTest

/// A server's handle: what becomes of calls under way when it is shut down.
final class ServerTests: LoopTestCase {
    private final class Held {
        var calls: [UnaryCall] = []
    }

    private var client: GRPCChannel?

    private func start(_ held: LoopBound<Held>, limits: WireLimits = WireLimits()) throws -> RunningServer {
        let loop = loop
        let server = try onLoop {
            try await RunningServer.start(on: loop, address: .anyPort, limits: limits) { server in
                server.unary("/test.Service/Hold") { call, _ in held.value.calls.append(call) }
                server.unary("/test.Service/Echo") { call, bytes in call.respond(bytes) }
            }
        }
        XCTAssertNotEqual(server.address.port, 0)
        client = GRPCChannel(
            network: loop.network, clock: loop.clock, turns: loop.turns, target: server.address, limits: limits,
            random: SeededRandom(seed: 1))
        return server
    }

    override func tearDown() {
        client?.close()
        client = nil
        super.tearDown()
    }

    private func call(_ method: String, _ completion: @escaping (Result<[UInt8], GRPCStatus>) -> Void) {
        _ = client?.unary("/test.Service/\(method)", [1, 2, 3], timeout: nil, completion: completion)
    }

    func testCallUnderWayIsFinishedAndNewOnesAreRefused() throws {
        let held = Held()
        let server = try start(LoopBound(held, to: loop))
        var answer: Result<[UInt8], GRPCStatus>?
        call("Hold") { answer = $0 }
        wait("the call") { held.calls.count == 1 }

        var isDown = false
        let down = LoopBound({ isDown = true }, to: loop)
        loop.start {
            await server.shutdown(grace: .seconds(20))
            down.value()
        }
        // Once the client has heard of the end, nobody gets in.
        var isRefused = false
        func knock() {
            call("Echo") { result in
                if case .failure = result { isRefused = true } else { knock() }
            }
        }
        knock()
        wait("a refusal", within: .seconds(120)) { isRefused }
        XCTAssertNil(answer)
        XCTAssertFalse(isDown)

        held.calls[0].respond([4, 5])
        wait("the answer and the end") { answer != nil && isDown }
        XCTAssertEqual(try answer?.get(), [4, 5])
    }

    func testGraceEnds() throws {
        let held = Held()
        let server = try start(LoopBound(held, to: loop))
        var answer: Result<[UInt8], GRPCStatus>?
        call("Hold") { answer = $0 }
        wait("the call") { held.calls.count == 1 }
        try onLoop { await server.shutdown(grace: .milliseconds(100)) }
        wait("the end of the call") { answer != nil }
        guard case .failure(let status)? = answer else { return XCTFail("nobody answered the call") }
        XCTAssertEqual(status.code, .unavailable)
    }

    func testSilentCallOutlivesManyPings() throws {
        let held = Held()
        var limits = WireLimits()
        limits.keepaliveIntervalMilliseconds = 60
        limits.keepaliveTimeoutMilliseconds = 120
        let server = try start(LoopBound(held, to: loop), limits: limits)
        var answer: Result<[UInt8], GRPCStatus>?
        call("Hold") { answer = $0 }
        wait("the call") { held.calls.count == 1 }
        XCTAssertFalse(loop.run(until: { answer != nil }, within: .milliseconds(1500)))
        held.calls.first?.respond([7])
        wait("the answer") { answer != nil }
        XCTAssertEqual(try answer?.get(), [7])
        try onLoop { await server.shutdown() }
    }

    func testAddressInUse() throws {
        let loop = loop
        let server = try start(LoopBound(Held(), to: loop))
        try onLoop {
            do throws(NetworkError) {
                _ = try await RunningServer.start(on: loop, address: server.address) { _ in }
                XCTFail("two servers at one address")
            } catch {
                XCTAssertEqual(error, .addressInUse(server.address))
            }
            await server.shutdown()
        }
    }

    func testNodeFinishesCallsUnderWay() throws {
        let (loop, nodes) = (loop, TestNodes(loop: loop))
        let node = try onLoop { try await nodes.start(bootstrap: true) }
        client = GRPCChannel(
            network: loop.network, clock: loop.clock, turns: loop.turns, target: node.address, limits: WireLimits(),
            random: SeededRandom(seed: 1))
        // In one turn: puts that have to go through the log, and then the shutdown.
        var answers: [Result<[UInt8], GRPCStatus>] = []
        for number in 0..<50 {
            let request = PutRequest(key: "key-\(number)", value: [1])
            _ = client?.unary(VariableServicePath.put, request.encoded(), timeout: nil) { answers.append($0) }
        }
        wait("the first answer") { !answers.isEmpty }
        try onLoop { await node.shutdown() }
        wait("all answers") { answers.count == 50 }
        for answer in answers {
            switch answer {
            case .success(let bytes): XCTAssertGreaterThan(try PutResponse(decoding: bytes).revision, 0)
            // Came after the last call that the server took.
            case .failure(let status): XCTAssertEqual(status.code, .unavailable)
            }
        }
    }

    func testWhoWaitsForAResultIsSentElsewhere() throws {
        let (loop, nodes) = (loop, TestNodes(loop: loop))
        let node = try onLoop { try await nodes.start(bootstrap: true) }
        client = GRPCChannel(
            network: loop.network, clock: loop.clock, turns: loop.turns, target: node.address, limits: WireLimits(),
            random: SeededRandom(seed: 1))
        let run = try onLoop {
            try await node.start(
                "fibonacci", input: ["n": 90, "stepDelayMilliseconds": 1000], returning: [String: Int].self)
        }
        var answer: Result<[UInt8], GRPCStatus>?
        let request = GetWorkflowResultRequest(workflowID: run.workflowID, runID: run.runID)
        _ = client?.unary(WorkflowServicePath.result, request.encoded(), timeout: nil) { answer = $0 }
        loop.run(until: { false }, within: .milliseconds(50))
        XCTAssertNil(answer)
        try onLoop { await node.shutdown() }
        wait("the answer") { answer != nil }
        guard case .failure(let status)? = answer else { return XCTFail("the run cannot have ended") }
        XCTAssertEqual(status.code, .unavailable)
    }
}
