import Prelude
import XCTest

@testable import Wire

/// The server against a peer that writes its frames by hand.
final class GRPCServerTests: XCTestCase {
    private let path = "/echo.Echo/Unary"

    // MARK: What is no call

    func testRequestsThatAreNoCalls() throws {
        let rig = try Rig()
        rig.echo()
        let peer = rig.rawClient()
        let get = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "test")]
        XCTAssertEqual(rig.request(peer, get, nil, stream: 1)[":status"], "404")
        XCTAssertEqual(peer.data(stream: 1).last, UInt8(ascii: "\n"))
        XCTAssertEqual(peer.resets(stream: 1), [])
        let put = [("PUT", "405"), ("GET", "405")]
        for (number, (method, status)) in put.enumerated() {
            let fields = [(":method", method)] + RawPeer.requestFields(path).dropFirst()
            let stream = Int32(3 + 2 * number)
            XCTAssertEqual(rig.request(peer, fields, stream: stream)[":status"], status)
            XCTAssertEqual(peer.fields(stream: stream)["allow"], "POST")
        }
        let types = [
            ("application/grpc", "200"), ("application/grpc+proto", "200"), ("application/grpc;charset=utf-8", "200"),
            ("application/grpcx", "415"), ("application/grp", "415"), ("text/plain", "415"), ("", "415"),
        ]
        for (number, (type, status)) in types.enumerated() {
            let fields = RawPeer.requestFields(path).dropLast() + [("content-type", type)]
            let answer = rig.request(peer, Array(fields), stream: Int32(11 + 2 * number))
            XCTAssertEqual(answer[":status"], status, type)
        }
        XCTAssertEqual(rig.server.openCallCount, 0)
    }

    func testUnknownPathIsAnsweredByTrailersOnly() throws {
        let rig = try Rig()
        let peer = rig.rawClient()
        peer.sendHeaders(RawPeer.requestFields("/no/Such"), stream: 1)
        rig.world.run()
        XCTAssertEqual(peer.headerBlocks.count, 1)
        XCTAssertEqual(peer.fields(stream: 1)["grpc-status"], "12")
        XCTAssertEqual(peer.fields(stream: 1)["content-type"], "application/grpc")
        // The request was still going on.
        XCTAssertEqual(peer.resets(stream: 1), [.noError])
        peer.sendData(RawPeer.message(bytes(100)), stream: 1, isEnd: true)
        rig.world.run()
        XCTAssertNil(peer.closeReason)
        XCTAssertEqual(peer.goaways.count, 0)
    }

    // MARK: Messages

    func testUnaryAnswerIsWrittenInOnePiece() throws {
        let rig = try Rig()
        rig.echo()
        let (client, accepted) = rig.world.pair(to: rig.address)
        rig.server.accept(accepted)
        let peer = RawPeer(client)
        peer.sendPreface()
        rig.world.run()
        let before = accepted.writeCount
        let answer = rig.request(peer, RawPeer.requestFields(path))
        XCTAssertEqual(answer["grpc-status"], "0")
        XCTAssertEqual(peer.data(stream: 1), RawPeer.message([1, 2, 3]))
        XCTAssertEqual(accepted.writeCount, before + 1)
    }

    func testMalformedMessages() throws {
        let cases: [(name: String, data: [UInt8]?, encoding: String?, status: String)] = [
            ("no data at all", nil, nil, "12"),
            ("empty data", [], nil, "12"),
            ("a part of the prefix", [0, 0, 0], nil, "13"),
            ("less than announced", [0, 0, 0, 0, 5, 1, 2], nil, "13"),
            ("announced beyond the limit", [0, 0xFF, 0xFF, 0xFF, 0xFF, 1], nil, "8"),
            ("one byte beyond the limit", [0, 0, 0x40, 0, 1], nil, "8"),
            ("two messages", RawPeer.message([1]) + RawPeer.message([2]), nil, "12"),
            ("a message and a part", RawPeer.message([1]) + [0, 0], nil, "13"),
            ("compressed without an encoding", RawPeer.message([1], flag: 1), nil, "13"),
            ("compressed with identity", RawPeer.message([1], flag: 1), "identity", "13"),
            ("compressed with deflate", RawPeer.message([1], flag: 1), "deflate", "12"),
            ("plain with deflate", RawPeer.message([1]), "deflate", "0"),
            ("plain with gzip", RawPeer.message([1]), "gzip", "0"),
            ("unknown flag", RawPeer.message([1], flag: 2), nil, "13"),
        ]
        for chunk in [1, 1000] {
            for (name, data, encoding, status) in cases {
                let rig = try Rig()
                rig.echo()
                rig.world.chunkByteCountMax = chunk
                let peer = rig.rawClient()
                let fields = RawPeer.requestFields(path, encoding.map { [("grpc-encoding", $0)] } ?? [])
                let answer = rig.request(peer, fields, data)
                XCTAssertEqual(answer["grpc-status"], status, name)
                XCTAssertEqual(answer["grpc-accept-encoding"], "identity,gzip", name)
                XCTAssertNil(peer.closeReason, name)
                XCTAssertEqual(rig.server.openCallCount, 0, name)
                XCTAssertEqual(rig.server.context.inboundByteCount, 0, name)
            }
        }
    }

    func testMessageCutByFramesPaddingAndTrailers() throws {
        let rig = try Rig()
        rig.echo()
        let peer = rig.rawClient()
        peer.sendHeaders(RawPeer.requestFields(path), stream: 1)
        let message = RawPeer.message(bytes(300))
        // Padded frames: one byte of length, the data, the padding.
        peer.send(0, flags: 8, stream: 1, [7] + message[..<100] + [UInt8](repeating: 0, count: 7))
        peer.send(0, flags: 8, stream: 1, [0] + message[100...])
        peer.sendHeaders([("some", "trailer")], stream: 1, isEnd: true)
        rig.world.run()
        XCTAssertEqual(peer.fields(stream: 1)["grpc-status"], "0")
        XCTAssertEqual(peer.data(stream: 1), message)
    }

    func testAnswerBeyondTheLimitFails() throws {
        let rig = try Rig()
        rig.server.unary(path) { call, _ in call.respond(bytes((4 << 20) + 1)) }
        XCTAssertEqual(rig.request(rig.rawClient(), RawPeer.requestFields(path))["grpc-status"], "8")
    }

    // MARK: Deadlines

    func testTimeoutUnits() throws {
        let units: [(String, Nanoseconds?)] = [
            ("1n", 1), ("20u", 20_000), ("3m", .milliseconds(3)), ("1S", .seconds(1)), ("2M", .seconds(120)),
            ("1H", .seconds(3600)), ("99999999H", nil),
        ]
        for (text, timeout) in units {
            let rig = try Rig()
            var call: UnaryCall?
            rig.server.unary(path) { given, _ in call = given }
            let peer = rig.rawClient()
            peer.sendHeaders(RawPeer.requestFields(path, [("grpc-timeout", text)]), stream: 1)
            peer.sendData(RawPeer.message([]), stream: 1, isEnd: true)
            rig.world.run()
            XCTAssertNotNil(call, text)
            XCTAssertEqual(call?.deadline, timeout.map { rig.world.now + $0 }, text)
            XCTAssertNil(peer.fields(stream: 1)["grpc-status"])
        }
    }

    func testMalformedTimeouts() throws {
        for text in ["", "1", "S", "123456789S", "-1S", "1s", "1 S", "1.5S", "1SS", "x", "+1S"] {
            let rig = try Rig()
            rig.echo()
            let answer = rig.request(rig.rawClient(), RawPeer.requestFields(path, [("grpc-timeout", text)]))
            XCTAssertEqual(answer["grpc-status"], "3", "'\(text)'")
        }
    }

    func testDeadlineAtTheServer() throws {
        let rig = try Rig()
        var call: UnaryCall?
        var cancelCount = 0
        rig.server.unary(path) { given, _ in
            call = given
            given.onCancel = { cancelCount += 1 }
        }
        let peer = rig.rawClient()
        _ = rig.request(peer, RawPeer.requestFields(path, [("grpc-timeout", "50m")]))
        rig.world.advance(milliseconds: 49)
        XCTAssertEqual(cancelCount, 0)
        XCTAssertEqual(call?.isCancelled, false)
        rig.world.advance(milliseconds: 2)
        XCTAssertEqual(cancelCount, 1)
        XCTAssertEqual(call?.isCancelled, true)
        XCTAssertEqual(peer.fields(stream: 1)["grpc-status"], "4")
        call?.respond([1])
        rig.world.run()
        XCTAssertEqual(peer.data(stream: 1), [])
        XCTAssertEqual(rig.server.openCallCount, 0)
        XCTAssertEqual(cancelCount, 1)
        XCTAssertTrue(rig.server.context.timers.count <= 1, "the connection's keepalive alone")
    }

    func testDeadlineOfACallWhoseRequestIsIncomplete() throws {
        let rig = try Rig()
        rig.echo()
        let peer = rig.rawClient()
        peer.sendHeaders(RawPeer.requestFields(path, [("grpc-timeout", "5m")]), stream: 1)
        rig.world.advance(milliseconds: 6)
        XCTAssertEqual(peer.fields(stream: 1)["grpc-status"], "4")
        XCTAssertEqual(peer.resets(stream: 1), [.noError])
        XCTAssertEqual(rig.server.openCallCount, 0)
    }

    func testDeadlineOfAnAnswerThatIsNotTaken() throws {
        let rig = try Rig()
        rig.server.unary(path) { call, _ in call.respond(bytes(200_000)) }
        let peer = rig.rawClient()
        _ = rig.request(peer, RawPeer.requestFields(path, [("grpc-timeout", "5S")]))
        // The window of 65535 bytes is used up, and no WINDOW_UPDATE comes.
        XCTAssertEqual(peer.data(stream: 1).count, 65_535)
        XCTAssertEqual(rig.server.openCallCount, 1)
        rig.world.advance(.seconds(6))
        XCTAssertEqual(peer.resets(stream: 1), [.cancel])
        XCTAssertEqual(rig.server.openCallCount, 0)
    }

    // MARK: Cancellation

    func testResetTellsTheHandlerOnce() throws {
        let rig = try Rig()
        var cancelCount = 0
        var stream: ServerStream?
        rig.server.streaming(path) { given in
            stream = given
            given.onMessage = { _ in }
            given.onCancel = { cancelCount += 1 }
        }
        let peer = rig.rawClient()
        peer.sendHeaders(RawPeer.requestFields(path), stream: 1)
        rig.world.run()
        XCTAssertEqual(stream?.send([1]), true)
        rig.world.run()
        peer.sendReset(.cancel, stream: 1)
        rig.world.run()
        XCTAssertEqual(cancelCount, 1)
        XCTAssertEqual(stream?.isCancelled, true)
        XCTAssertEqual(stream?.send([2]), false)
        stream?.finish()
        rig.world.run()
        XCTAssertEqual(rig.server.openCallCount, 0)
        XCTAssertNil(peer.closeReason)
        XCTAssertEqual(cancelCount, 1)
    }

    func testLostConnectionCancelsEveryCall() throws {
        let rig = try Rig()
        var cancelCount = 0
        rig.server.unary(path) { call, _ in call.onCancel = { cancelCount += 1 } }
        let peer = rig.rawClient()
        for stream in stride(from: Int32(1), to: 21, by: 2) {
            _ = rig.request(peer, RawPeer.requestFields(path), stream: stream)
        }
        XCTAssertEqual(rig.server.openCallCount, 10)
        peer.connection.close()
        rig.world.run()
        XCTAssertEqual(cancelCount, 10)
        XCTAssertEqual(rig.server.openCallCount, 0)
        XCTAssertEqual(rig.server.connectionCount, 0)
    }

    func testCancelIsNotToldAfterTheAnswer() throws {
        let rig = try Rig()
        var cancelCount = 0
        rig.server.unary(path) { call, _ in
            call.onCancel = { cancelCount += 1 }
            call.respond(bytes(100_000))
        }
        let peer = rig.rawClient()
        _ = rig.request(peer, RawPeer.requestFields(path))
        XCTAssertEqual(rig.server.openCallCount, 1)
        peer.sendReset(.cancel, stream: 1)
        rig.world.run()
        XCTAssertEqual(rig.server.openCallCount, 0)
        XCTAssertEqual(cancelCount, 0)
    }

    // MARK: Headers

    func testHeaderListBeyondTheLimit() throws {
        let rig = try Rig()
        rig.echo()
        let peer = rig.rawClient()
        let long = String(repeating: "x", count: 4000)
        let fields = (0..<4).map { ("h\($0)", long) }
        XCTAssertEqual(rig.request(peer, RawPeer.requestFields(path, Array(fields[..<3])))["grpc-status"], "0")
        // 16 KiB fit into one frame only when they are not more than that.
        let block = RawPeer.headerBlock(RawPeer.requestFields(path, fields + [("last", "1234")]))
        peer.send(1, flags: 0, stream: 3, Array(block[..<8000]))
        peer.send(9, flags: RawPeer.endHeaders, stream: 3, Array(block[8000...]))
        peer.sendData(RawPeer.message([]), stream: 3, isEnd: true)
        rig.world.run()
        XCTAssertEqual(peer.fields(stream: 3)["grpc-status"], "8")
        XCTAssertNil(peer.closeReason)
    }
}
