import Prelude
import XCTest

@testable import Wire

/// A server and a channel over a network in memory.
final class Rig {
    let world: TestWorld
    let server: GRPCServer
    let channel: GRPCChannel
    let address: HostPort
    let listener: any Listener

    init(
        server serverLimits: WireLimits = WireLimits(), client clientLimits: WireLimits = WireLimits(),
        world: TestWorld = TestWorld()
    ) throws {
        self.world = world
        server = GRPCServer(clock: world, turns: world, limits: serverLimits)
        let server = server
        listener = try world.listen(on: HostPort(host: "127.0.0.1", port: 0)) { server.accept($0) }
        address = listener.address
        channel = GRPCChannel(
            network: world, clock: world, turns: world, target: address, limits: clientLimits,
            random: SeededRandom(seed: 1))
    }

    func echo(_ path: String = "/echo.Echo/Unary") {
        server.unary(path) { call, request in call.respond(request) }
    }

    /// Calls and lets everything happen that needs no time.
    func unary(
        _ path: String = "/echo.Echo/Unary", _ request: [UInt8] = [1, 2, 3], metadata: Metadata = Metadata(),
        timeout: Nanoseconds? = nil
    ) -> Result<[UInt8], GRPCStatus>? {
        var result: Result<[UInt8], GRPCStatus>?
        channel.unary(path, request, metadata: metadata, timeout: timeout) { result = $0 }
        XCTAssertNil(result, "completion before the call has returned")
        world.run()
        return result
    }
}

func bytes(_ count: Int, seed: UInt64 = 7) -> [UInt8] {
    var random = SeededRandom(seed: seed)
    return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
}

final class GRPCCallTests: XCTestCase {
    func testUnaryCall() throws {
        let rig = try Rig()
        rig.echo()
        XCTAssertEqual(rig.unary(), .success([1, 2, 3]))
        XCTAssertEqual(rig.unary("/echo.Echo/Unary", []), .success([]))
        XCTAssertEqual(rig.channel.state, .ready)
        XCTAssertEqual(rig.server.openCallCount, 0)
        XCTAssertEqual(rig.world.connectCount, 1)
    }

    func testUnaryCallInEverySizeOfPieces() throws {
        for (index, chunk) in [1, 2, 3, 7, 100, 16_384, 1 << 20].enumerated() {
            let rig = try Rig()
            rig.echo()
            rig.world.chunkByteCountMax = chunk
            if index % 2 == 1 { rig.world.chunkRandom = SeededRandom(seed: UInt64(chunk)) }
            for size in [0, 1, 4, 5, 6, 4095, 4096, 4097, 16_379, 16_384, 16_385, 100_000] {
                let request = bytes(size)
                let result = rig.unary("/echo.Echo/Unary", request)
                guard case .success(let answer) = result else { return XCTFail("\(String(describing: result))") }
                XCTAssertTrue(answer == request, "size \(size) in pieces of \(chunk)")
            }
            XCTAssertEqual(rig.server.openCallCount, 0)
            XCTAssertEqual(rig.server.context.inboundByteCount, 0)
            XCTAssertEqual(rig.channel.context.inboundByteCount, 0)
        }
    }

    func testLargestMessageInBothDirections() throws {
        let rig = try Rig()
        rig.echo()
        let request = bytes(4 << 20)
        for _ in 0..<5 {
            guard case .success(let answer) = rig.unary("/echo.Echo/Unary", request) else { return XCTFail("failed") }
            XCTAssertTrue(answer == request)
        }
    }

    func testBidirectionalStreaming() throws {
        let rig = try Rig()
        rig.server.streaming("/s/Echo") { stream in
            stream.onMessage = { stream.send($0) }
            stream.onHalfClose = {
                stream.responseTrailers.add("count", "3")
                stream.finish()
            }
        }
        let call = rig.channel.stream("/s/Echo")
        var received: [[UInt8]] = []
        var end: (GRPCStatus, Metadata)?
        call.onMessage = { received.append(Array($0)) }
        call.onEnd = { end = ($0, $1) }
        call.send([1])
        call.send([])
        rig.world.run()
        XCTAssertEqual(received, [[1], []])
        call.send(bytes(200_000))
        rig.world.run()
        XCTAssertEqual(received.count, 3)
        XCTAssertNil(end)
        call.halfClose()
        rig.world.run()
        XCTAssertEqual(end?.0, .ok)
        XCTAssertEqual(end?.1["count"], "3")
        XCTAssertTrue(received[2] == bytes(200_000))
        XCTAssertEqual(rig.server.openCallCount, 0)
    }

    func testStreamsInEverySizeOfPieces() throws {
        for chunk in [1, 2, 5, 100, 10_000] {
            let rig = try Rig()
            rig.world.chunkByteCountMax = chunk
            rig.server.streaming("/s/Echo") { stream in
                stream.onMessage = { stream.send($0) }
                stream.onHalfClose = { stream.finish() }
            }
            let sent = [[1], [], bytes(3000), bytes(20_000), [2]]
            let call = rig.channel.stream("/s/Echo")
            var received: [[UInt8]] = []
            var status: GRPCStatus?
            call.onMessage = { received.append(Array($0)) }
            call.onEnd = { ended, _ in status = ended }
            for message in sent { call.send(message) }
            call.halfClose()
            rig.world.run()
            XCTAssertTrue(received == sent, "pieces of \(chunk)")
            XCTAssertEqual(status, .ok, "pieces of \(chunk)")
        }
    }

    func testServerStreaming() throws {
        let rig = try Rig()
        rig.server.streaming("/s/Count") { stream in
            stream.onMessage = { request in
                for number in 0..<request[0] { stream.send([number]) }
                stream.finish()
            }
        }
        let call = rig.channel.stream("/s/Count")
        var received: [[UInt8]] = []
        var status: GRPCStatus?
        call.onMessage = { received.append(Array($0)) }
        call.onEnd = { ended, _ in status = ended }
        call.send([200])
        call.halfClose()
        rig.world.run()
        XCTAssertEqual(received, (0..<200).map { [$0] })
        XCTAssertEqual(status, .ok)
    }

    func testClientStreaming() throws {
        let rig = try Rig()
        rig.server.streaming("/s/Sum") { stream in
            var sum: UInt8 = 0
            stream.onMessage = { sum &+= $0[0] }
            stream.onHalfClose = {
                stream.send([sum])
                stream.finish()
            }
        }
        let call = rig.channel.stream("/s/Sum")
        var received: [[UInt8]] = []
        var status: GRPCStatus?
        call.onMessage = { received.append(Array($0)) }
        call.onEnd = { ended, _ in status = ended }
        for number in 1...10 as ClosedRange<UInt8> { call.send([number]) }
        call.halfClose()
        rig.world.run()
        XCTAssertEqual(received, [[55]])
        XCTAssertEqual(status, .ok)
    }

    func testManyCallsAtOnce() throws {
        let rig = try Rig()
        rig.echo()
        var answers = 0
        for number in 0..<5000 {
            let request = withUnsafeBytes(of: number) { Array($0) }
            rig.channel.unary("/echo.Echo/Unary", request, timeout: nil) { result in
                XCTAssertEqual(result, .success(request))
                answers += 1
            }
        }
        rig.world.run()
        XCTAssertEqual(answers, 5000)
        XCTAssertEqual(rig.server.openCallCount, 0)
    }

    func testAnswerLater() throws {
        let rig = try Rig()
        var calls: [UnaryCall] = []
        rig.server.unary("/s/Later") { call, _ in calls.append(call) }
        var results: [Result<[UInt8], GRPCStatus>] = []
        for _ in 0..<3 { rig.channel.unary("/s/Later", [], timeout: nil) { results.append($0) } }
        rig.world.run()
        XCTAssertEqual(calls.count, 3)
        XCTAssertEqual(rig.server.openCallCount, 3)
        for (number, call) in calls.reversed().enumerated() {
            call.respond([UInt8(number)])
            call.respond([99])
            call.fail(GRPCStatus(.aborted))
        }
        rig.world.run()
        XCTAssertEqual(results, [.success([0]), .success([1]), .success([2])])
    }

    func testFailingHandlerAndUnknownPath() throws {
        let rig = try Rig()
        let message = "not found: größer 100% \u{1F600}\n"
        rig.server.unary("/s/Fail") { call, _ in call.fail(GRPCStatus(.notFound, message)) }
        XCTAssertEqual(rig.unary("/s/Fail"), .failure(GRPCStatus(.notFound, message)))
        XCTAssertEqual(rig.unary("/s/None"), .failure(GRPCStatus(.unimplemented, "unknown method /s/None")))
        XCTAssertEqual(rig.server.openCallCount, 0)
    }
}
