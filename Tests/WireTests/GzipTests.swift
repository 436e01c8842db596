import Prelude
import XCTest

@testable import Wire

/// Compressed messages, both ways, and what hides in them.
final class GzipTests: XCTestCase {
    private let path = "/echo.Echo/Unary"
    private let announced = [("grpc-encoding", "gzip")]

    private func gzip(_ bytes: [UInt8]) -> [UInt8] {
        bytes.withUnsafeBytes { MessageDeflater(byteCountPerTurnMax: 0).deflate($0) } ?? []
    }

    private func zeros(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }

    /// Nothing of a call is left.
    private func checkEmpty(_ rig: Rig, _ what: String, file: StaticString = #filePath, line: UInt = #line) {
        XCTAssertEqual(rig.server.openCallCount, 0, what, file: file, line: line)
        XCTAssertEqual(rig.server.context.inboundByteCount, 0, what, file: file, line: line)
        XCTAssertEqual(rig.server.context.inflater.waitingCount, 0, what, file: file, line: line)
        XCTAssertEqual(rig.channel.context.inboundByteCount, 0, what, file: file, line: line)
    }

    // MARK: What is well

    func testOurOwnClientAndServerInEverySizeOfPieces() throws {
        for chunk in [1, 7, 1000, 1 << 20] {
            let rig = try Rig()
            rig.echo()
            rig.world.chunkByteCountMax = chunk
            for size in [0, 1, 1023, 1024, 5000, 100_000] {
                for message in [zeros(size), bytes(size)] {
                    var answer: Result<[UInt8], GRPCStatus>?
                    rig.channel.unary(path, message, timeout: nil, isCompressed: true) { answer = $0 }
                    rig.world.run()
                    XCTAssertEqual(answer, .success(message), "size \(size) in pieces of \(chunk)")
                }
            }
            checkEmpty(rig, "pieces of \(chunk)")
        }
    }

    func testTheLargestMessageTakesManyTurnsOnBothSides() throws {
        let rig = try Rig()
        rig.echo()
        let message = zeros(WireLimits().messageByteCountMax)
        var answer: Result<[UInt8], GRPCStatus>?
        let before = rig.server.context.turnNumber
        rig.channel.unary(path, message, timeout: nil, isCompressed: true) { answer = $0 }
        rig.world.run()
        XCTAssertEqual(answer, .success(message))
        let turns = UInt64(message.count / WireLimits().inflatedByteCountPerTurnMax)
        XCTAssertGreaterThanOrEqual(rig.server.context.turnNumber - before, turns)
        checkEmpty(rig, "4 MiB")
    }

    func testStreamsMixCompressedAndPlainMessagesInTheirOrder() throws {
        for perTurn in [1, 500, 1 << 20] {
            var limits = WireLimits()
            limits.inflatedByteCountPerTurnMax = perTurn
            let rig = try Rig(server: limits, client: limits)
            rig.server.streaming("/s/Echo") { stream in
                stream.onMessage = { _ = stream.send($0) }
                stream.onHalfClose = { stream.finish() }
            }
            let sent = (0..<30).map { bytes($0 * 100, seed: UInt64($0)) }
            var received: [[UInt8]] = []
            var status: GRPCStatus?
            let call = rig.channel.stream("/s/Echo", isCompressed: true)
            call.onMessage = { received.append(Array($0)) }
            call.onEnd = { ended, _ in status = ended }
            for (number, message) in sent.enumerated() {
                call.isCompressing = number % 3 != 0
                _ = call.send(message)
            }
            call.halfClose()
            rig.world.run()
            XCTAssertEqual(status, .ok)
            XCTAssertEqual(received, sent, "\(perTurn) bytes each turn")
            checkEmpty(rig, "\(perTurn) bytes each turn")
        }
    }

    func testAPausedStreamGetsItsCompressedMessagesLater() throws {
        var limits = WireLimits()
        limits.inflatedByteCountPerTurnMax = 10
        let rig = try Rig(server: limits)
        var received: [[UInt8]] = []
        var stream: ServerStream?
        rig.server.streaming("/s/Take") { call in
            stream = call
            call.onMessage = {
                received.append(Array($0))
                call.isReadingPaused = true
            }
            call.onHalfClose = { call.finish() }
        }
        let sent = (0..<5).map { zeros(1000 + $0) }
        let call = rig.channel.stream("/s/Take", isCompressed: true)
        for message in sent { _ = call.send(message) }
        call.halfClose()
        rig.world.run()
        for count in 1...sent.count {
            XCTAssertEqual(received.count, count)
            stream?.isReadingPaused = false
            rig.world.run()
        }
        XCTAssertEqual(received, sent)
        checkEmpty(rig, "paused")
    }

    // MARK: Answers in kind

    func testAnswersAreCompressedForThoseWhoCompressAndUnderstandIt() throws {
        let accepts = ("grpc-accept-encoding", "identity, deflate,gzip")
        let cases: [(name: String, fields: [(String, String)], size: Int, isCompressed: Bool)] = [
            ("in kind", announced + [accepts], 5000, true),
            ("too small", announced + [accepts], 1000, false),
            ("nothing announced", [accepts], 5000, false),
            ("not understood", announced, 5000, false),
            ("another one understood", announced + [("grpc-accept-encoding", "deflate, gzipped")], 5000, false),
        ]
        for (name, fields, size, isCompressed) in cases {
            let rig = try Rig()
            rig.echo()
            let peer = rig.rawClient()
            let answer = rig.request(peer, RawPeer.requestFields(path, fields), RawPeer.message(zeros(size)))
            XCTAssertEqual(answer["grpc-status"], "0", name)
            XCTAssertEqual(
                answer["grpc-encoding"], fields.count == 2 && name != "another one understood" ? "gzip" : nil, name)
            let data = peer.data(stream: 1)
            XCTAssertEqual(data.first, isCompressed ? 1 : 0, name)
            XCTAssertEqual(
                data, isCompressed ? RawPeer.message(gzip(zeros(size)), flag: 1) : RawPeer.message(zeros(size)), name)
        }
    }

    func testOnlySoMuchIsCompressedInATurn() throws {
        var limits = WireLimits()
        limits.compressedByteCountPerTurnMax = 10_000
        let rig = try Rig(server: limits)
        rig.echo()
        let peer = rig.rawClient()
        let fields = RawPeer.requestFields(path, announced + [("grpc-accept-encoding", "gzip")])
        // All in one write: one turn.
        var frames: [UInt8] = []
        let streams = (0..<5).map { Int32(1 + 2 * $0) }
        for stream in streams {
            frames += RawPeer.frame(1, flags: RawPeer.endHeaders, stream: stream, RawPeer.headerBlock(fields))
            frames += RawPeer.frame(0, flags: RawPeer.endStream, stream: stream, RawPeer.message(zeros(4000)))
        }
        peer.connection.write(frames)
        rig.world.run()
        XCTAssertEqual(streams.map { peer.data(stream: $0).first }, [1, 1, 0, 0, 0])
        XCTAssertEqual(streams.map { peer.fields(stream: $0)["grpc-status"] }, .init(repeating: "0", count: 5))
    }

    func testAHandlerDecidesForEachMessage() throws {
        let rig = try Rig()
        rig.server.streaming("/s/Three") { stream in
            stream.compression = .always
            _ = stream.send([1])
            stream.compression = .never
            _ = stream.send([2])
            stream.compression = .always
            _ = stream.send([3])
            stream.finish()
        }
        let peer = rig.rawClient()
        let fields = RawPeer.requestFields("/s/Three", [("grpc-accept-encoding", "gzip")])
        XCTAssertEqual(rig.request(peer, fields, nil)["grpc-encoding"], "gzip")
        XCTAssertEqual(
            peer.data(stream: 1),
            RawPeer.message(gzip([1]), flag: 1) + RawPeer.message([2]) + RawPeer.message(gzip([3]), flag: 1))
    }

    // MARK: What is wrong

    func testMalformedCompressedMessages() throws {
        let good = gzip(bytes(3000))
        var damaged = good
        damaged[damaged.count - 6] ^= 1
        let limit = WireLimits().messageByteCountMax
        let cases: [(name: String, message: [UInt8], status: String)] = [
            ("good", good, "0"),
            ("of the limit's size", gzip(zeros(limit)), "0"),
            ("one byte more", gzip(zeros(limit + 1)), "8"),
            ("a bomb", gzip(zeros(100 << 20)), "8"),
            ("nothing", [], "13"),
            ("no gzip", bytes(100), "13"),
            ("a wrong checksum", damaged, "13"),
            ("cut", Array(good.dropLast()), "13"),
            ("the header only", Array(good.prefix(10)), "13"),
            ("something behind it", good + [0], "13"),
            ("two members", good + good, "13"),
            ("zlib instead of gzip", [0x78, 0x9C] + good.dropFirst(10), "13"),
        ]
        for isStreaming in [false, true] {
            for (name, message, status) in cases {
                let rig = try Rig()
                rig.server.unary(path) { call, _ in call.respond([]) }
                rig.server.streaming("/s/Take") { stream in
                    stream.onMessage = { _ in }
                    stream.onHalfClose = { stream.finish() }
                }
                let fields = RawPeer.requestFields(isStreaming ? "/s/Take" : path, announced)
                let data = RawPeer.message(message, flag: 1)
                let peer = rig.rawClient()
                peer.sendHeaders(fields, stream: 1)
                for start in stride(from: 0, to: data.count, by: 16_384) {
                    let part = Array(data[start..<min(start + 16_384, data.count)])
                    peer.sendData(part, stream: 1, isEnd: start + part.count == data.count)
                }
                rig.world.run()
                XCTAssertEqual(peer.fields(stream: 1)["grpc-status"], status, name)
                XCTAssertEqual(peer.fields(stream: 1)["grpc-accept-encoding"], "identity,gzip", name)
                XCTAssertNil(peer.closeReason, name)
                XCTAssertEqual(rig.server.context.counters.inflationBombCount, status == "8" ? 1 : 0, name)
                checkEmpty(rig, name)
            }
        }
    }

    func testAServersBombsEndTheCallAndNothingElse() throws {
        let cases: [(name: String, message: [UInt8], encoding: String?, code: GRPCCode?)] = [
            ("good", gzip([1, 2]), "gzip", nil),
            ("a bomb", gzip(zeros(20 << 20)), "gzip", .resourceExhausted),
            ("no gzip", [1, 2, 3], "gzip", .internalError),
            ("not announced", gzip([1]), nil, .internalError),
            ("unknown", gzip([1]), "br", .internalError),
        ]
        for (name, message, encoding, code) in cases {
            let rig = try Rig()
            let server = try RawServer(rig)
            var result: Result<[UInt8], GRPCStatus>?
            rig.channel.unary(path, [1], timeout: nil) { result = $0 }
            rig.world.run()
            let fields = [(":status", "200"), ("content-type", "application/grpc")]
            server.peer.sendHeaders(fields + (encoding.map { [("grpc-encoding", $0)] } ?? []), stream: 1)
            let data = RawPeer.message(message, flag: 1)
            for start in stride(from: 0, to: data.count, by: 16_384) {
                server.peer.sendData(Array(data[start..<min(start + 16_384, data.count)]), stream: 1)
            }
            server.peer.sendHeaders([("grpc-status", "0")], stream: 1, isEnd: true)
            rig.world.run()
            switch result {
            case .success(let answer): XCTAssertEqual(code == nil ? answer : nil, [1, 2], name)
            case .failure(let status): XCTAssertEqual(status.code, code, name)
            case nil: XCTFail("\(name): no end")
            }
            XCTAssertEqual(rig.channel.context.inboundByteCount, 0, name)
        }
    }

    // MARK: Work and memory

    func testABombHoldsUpNobodyWhoDoesNotCompress() throws {
        var limits = WireLimits()
        limits.inflatedByteCountPerTurnMax = 100
        let rig = try Rig(server: limits)
        rig.server.unary(path) { call, _ in call.respond([]) }
        var answeredAt: UInt64?
        rig.server.unary("/e/Plain") { call, _ in
            answeredAt = rig.server.context.turnNumber
            call.respond([])
        }
        // Both are read before a turn, the bomb first.
        let before = rig.server.context.turnNumber
        func read(_ path: String, _ fields: [(String, String)], _ message: [UInt8]) throws -> RawPeer {
            let (client, accepted) = rig.world.pair(to: rig.address)
            rig.server.accept(accepted)
            let frames =
                RawPeer.preface + RawPeer.frame(4, flags: 0, stream: 0, [])
                + RawPeer.frame(
                    1, flags: RawPeer.endHeaders, stream: 1,
                    RawPeer.headerBlock(RawPeer.requestFields(path, fields)))
                + RawPeer.frame(0, flags: RawPeer.endStream, stream: 1, message)
            let handler = try XCTUnwrap(accepted.handler)
            frames.withUnsafeBytes { handler.connectionDidRead($0) }
            return RawPeer(client)
        }
        let bomber = try read(path, announced, RawPeer.message(gzip(zeros(1 << 20)), flag: 1))
        let other = try read("/e/Plain", [], RawPeer.message([]))
        rig.world.run()
        XCTAssertEqual(bomber.fields(stream: 1)["grpc-status"], "0")
        XCTAssertEqual(other.fields(stream: 1)["grpc-status"], "0")
        XCTAssertEqual(answeredAt, before)
        XCTAssertGreaterThan(rig.server.context.turnNumber - before, 1 << 20 / 100)
    }

    func testMessagesThatWaitToBeInflatedCountAsReceivedAndGoWithTheirCalls() throws {
        var limits = WireLimits()
        limits.inflatedByteCountPerTurnMax = 1
        let rig = try Rig(server: limits)
        rig.echo()
        // Everything of one read is handled before a turn: nothing is inflated yet.
        let (client, accepted) = rig.world.pair(to: rig.address)
        rig.server.accept(accepted)
        let peer = RawPeer(client)
        peer.sendPreface()
        rig.world.run()
        let message = RawPeer.message(gzip(bytes(500)), flag: 1)
        var read: [UInt8] = []
        let streams = (0..<20).map { Int32(1 + 2 * $0) }
        for stream in streams {
            let block = RawPeer.headerBlock(RawPeer.requestFields(path, announced))
            read += RawPeer.frame(1, flags: RawPeer.endHeaders, stream: stream, block)
            read += RawPeer.frame(0, flags: RawPeer.endStream, stream: stream, message)
        }
        let handler = try XCTUnwrap(accepted.handler)
        read.withUnsafeBytes { handler.connectionDidRead($0) }
        XCTAssertEqual(rig.server.context.inboundByteCount, streams.count * message.count)
        XCTAssertEqual(rig.server.context.inflater.waitingCount, streams.count)
        // Half of the calls are given up while they wait, the one that is being inflated among them.
        var resets: [UInt8] = []
        for stream in streams.prefix(10) {
            resets += RawPeer.frame(RawPeer.FrameType.reset, flags: 0, stream: stream, [0, 0, 0, 8])
        }
        resets.withUnsafeBytes { handler.connectionDidRead($0) }
        XCTAssertEqual(rig.server.context.inboundByteCount, 10 * message.count)
        rig.world.run()
        for stream in streams.suffix(10) {
            XCTAssertEqual(peer.data(stream: stream), RawPeer.message(bytes(500)), "stream \(stream)")
        }
        checkEmpty(rig, "given up")
    }
}
