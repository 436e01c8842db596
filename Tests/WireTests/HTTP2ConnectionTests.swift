import Prelude
import XCTest

@testable import Wire

/// What a connection does that is no call: flow control, keepalive, draining, and peers that mean ill.
final class HTTP2ConnectionTests: XCTestCase {
    private let path = "/echo.Echo/Unary"
    private let streamPath = "/s/Stream"

    // MARK: Flow control towards us

    func testPausedHandlerHoldsTheCallerBack() throws {
        var limits = WireLimits()
        limits.streamWindowByteCount = 65_536
        let rig = try Rig(server: limits)
        var stream: ServerStream?
        var taken = 0
        rig.server.streaming(streamPath) { given in
            stream = given
            given.isReadingPaused = true
            given.onMessage = { taken += $0.count }
            given.onHalfClose = { given.finish() }
        }
        rig.echo()
        let call = rig.channel.stream(streamPath)
        var status: GRPCStatus?
        call.onEnd = { ended, _ in status = ended }
        var writableCount = 0
        call.onWritable = { writableCount += 1 }
        var sent = 0
        for _ in 0..<100 {
            sent += 10_000
            if !call.send([UInt8](repeating: 1, count: 10_000)) { break }
        }
        XCTAssertEqual(sent, 270_000, "the watermark is 256 KiB")
        call.halfClose()
        rig.world.run()
        XCTAssertEqual(taken, 0)
        XCTAssertEqual(rig.server.context.inboundByteCount, 65_536, "what the window allows and no more")
        XCTAssertEqual(writableCount, 0)
        // Another call on the same connection is not held back.
        XCTAssertEqual(rig.unary(path, [1]), .success([1]))
        XCTAssertNil(status)
        stream?.isReadingPaused = false
        rig.world.run()
        XCTAssertEqual(taken, sent)
        XCTAssertEqual(writableCount, 1)
        XCTAssertEqual(status, .ok)
        XCTAssertEqual(rig.server.context.inboundByteCount, 0)
    }

    func testHandlerThatPausesAfterEachMessage() throws {
        for seed in 1...20 as ClosedRange<UInt64> {
            var limits = WireLimits()
            limits.streamWindowByteCount = 65_536
            limits.connectionWindowByteCount = 65_536
            let rig = try Rig(server: limits)
            rig.world.chunkByteCountMax = 3000
            rig.world.chunkRandom = SeededRandom(seed: seed)
            var sizes: [Int] = []
            rig.server.streaming(streamPath) { stream in
                stream.onMessage = { message in
                    sizes.append(message.count)
                    stream.isReadingPaused = true
                    rig.world.later(1) { stream.isReadingPaused = false }
                }
                stream.onHalfClose = { stream.finish() }
            }
            var random = SeededRandom(seed: seed)
            let calls = (0..<4).map { _ in rig.channel.stream(streamPath) }
            var sent: [Int] = []
            var endCount = 0
            for call in calls {
                call.onEnd = { status, _ in
                    XCTAssertEqual(status, .ok)
                    endCount += 1
                }
                for _ in 0..<50 {
                    sent.append(Int.random(in: 0...9000, using: &random))
                    call.send([UInt8](repeating: 7, count: sent[sent.count - 1]))
                }
                call.halfClose()
            }
            rig.world.advance(milliseconds: 1)
            XCTAssertEqual(endCount, 4, "seed \(seed)")
            XCTAssertEqual(sizes.sorted(), sent.sorted(), "seed \(seed)")
            XCTAssertEqual(rig.server.context.inboundByteCount, 0, "seed \(seed)")
        }
    }

    func testManyPausedStreamsHoldTheConnectionBack() throws {
        var limits = WireLimits()
        limits.streamWindowByteCount = 65_536
        limits.connectionWindowByteCount = 131_072
        let rig = try Rig(server: limits)
        var streams: [ServerStream] = []
        var taken = 0
        rig.server.streaming(streamPath) { stream in
            streams.append(stream)
            stream.isReadingPaused = true
            stream.onMessage = { taken += $0.count }
        }
        for _ in 0..<10 {
            let call = rig.channel.stream(streamPath)
            call.send([UInt8](repeating: 1, count: 100_000))
        }
        rig.world.run()
        // The window, and as much again that is held at the connection's cost.
        XCTAssertEqual(rig.server.context.inboundByteCount, 2 * 131_072)
        for stream in streams { stream.isReadingPaused = false }
        rig.world.run()
        XCTAssertEqual(taken, 1_000_000)
        XCTAssertEqual(rig.server.context.inboundByteCount, 0)
    }

    func testUnfinishedMessagesAreBounded() throws {
        var limits = WireLimits()
        limits.inboundByteCountPerConnectionMax = 300_000
        let rig = try Rig(server: limits)
        rig.echo()
        let peer = rig.rawClient()
        for number in 0..<4 {
            let stream = Int32(1 + 2 * number)
            peer.sendHeaders(RawPeer.requestFields(path), stream: stream)
            let message = RawPeer.message([UInt8](repeating: 1, count: 110_000))
            for start in stride(from: 0, to: 100_000, by: 10_000) {
                peer.sendData(Array(message[start..<start + 10_000]), stream: stream)
                rig.world.run()
            }
        }
        XCTAssertEqual((0..<4).map { peer.fields(stream: Int32(1 + 2 * $0))["grpc-status"] }, [nil, nil, nil, "8"])
        XCTAssertEqual(rig.server.context.inboundByteCount, 300_000)
        XCTAssertNil(peer.closeReason)
    }

    // MARK: Flow control towards the peer

    func testAnswerWaitsForTheWindow() throws {
        let rig = try Rig()
        var stream: ServerStream?
        var writableCount = 0
        rig.server.streaming(streamPath) { given in
            stream = given
            given.onMessage = { _ in }
            given.onWritable = { writableCount += 1 }
        }
        let peer = rig.rawClient()
        peer.sendHeaders(RawPeer.requestFields(streamPath), stream: 1)
        rig.world.run()
        var isWelcome = true
        var sent = 0
        while isWelcome {
            isWelcome = stream?.send([UInt8](repeating: 2, count: 50_000)) ?? false
            sent += 50_005
        }
        rig.world.run()
        XCTAssertEqual(sent, 300_030)
        XCTAssertEqual(peer.data(stream: 1).count, 65_535)
        XCTAssertEqual(writableCount, 0)
        for _ in 0..<4 {
            for id in [0, 1] as [Int32] { peer.send(8, stream: id, [0, 0, 0xC3, 0x50]) }
            rig.world.run()
        }
        XCTAssertEqual(peer.data(stream: 1).count, 65_535 + 200_000)
        XCTAssertEqual(writableCount, 1)
    }

    func testHandlerThatDoesNotStopWritingFails() throws {
        var limits = WireLimits()
        limits.streamOutputByteCountMax = 1 << 20
        let rig = try Rig(server: limits)
        var isCancelled = false
        rig.server.streaming(streamPath) { stream in
            stream.onMessage = { _ in }
            stream.onCancel = { isCancelled = true }
            for _ in 0..<100 { stream.send([UInt8](repeating: 2, count: 50_000)) }
        }
        let peer = rig.rawClient()
        peer.sendHeaders(RawPeer.requestFields(streamPath), stream: 1)
        rig.world.run()
        XCTAssertEqual(peer.fields(stream: 1)["grpc-status"], "8")
        XCTAssertEqual(rig.server.openCallCount, 0)
        XCTAssertFalse(isCancelled, "it was the handler's own doing")
    }

    /// Many calls that are each within their own bound.
    func testOutputThatWaitsIsBoundedPerConnectionAndInAll() throws {
        for isPerConnection in [true, false] {
            var limits = WireLimits()
            limits.outboundByteCountPerConnectionMax = isPerConnection ? 1 << 20 : 64 << 20
            limits.outboundByteCountMax = isPerConnection ? 64 << 20 : 1 << 20
            let rig = try Rig(server: limits)
            rig.server.unary(path) { call, _ in call.respond([UInt8](repeating: 1, count: 100_000)) }
            let peer = rig.rawClient()
            // No credit for the answers, but for what is left of the first 64 KiB.
            for stream in stride(from: Int32(1), to: 41, by: 2) {
                peer.sendHeaders(RawPeer.requestFields(path), stream: stream)
                peer.sendData(RawPeer.message([]), stream: stream, isEnd: true)
            }
            rig.world.run()
            let failed = stride(from: Int32(1), to: 41, by: 2).filter { peer.fields(stream: $0)["grpc-status"] == "8" }
            XCTAssertEqual(failed.count, 9, "ten answers fit, and what the windows took makes room for one more")
            XCTAssertEqual(rig.server.context.counters.unreadOutputCount, UInt64(failed.count))
            XCTAssertLessThanOrEqual(rig.server.context.outboundByteCount, 1 << 20)
            peer.connection.close()
            rig.world.run()
            XCTAssertEqual(rig.server.context.outboundByteCount, 0)
        }
    }

    func testPeerThatDoesNotReadIsNotReadFrom() throws {
        var limits = WireLimits()
        limits.outputHighWatermarkByteCount = 100_000
        let rig = try Rig(server: limits)
        var calls = 0
        rig.server.unary(path) { call, _ in
            calls += 1
            call.respond([UInt8](repeating: 3, count: 1000))
        }
        rig.world.socketByteCountMax = 10_000
        let peer = rig.rawClient()
        for id in [0] as [Int32] { peer.send(8, stream: id, [0x7F, 0, 0, 0]) }
        peer.connection.isReadingPaused = true
        var stream: Int32 = 1
        for _ in 0..<50 {
            for _ in 0..<20 {
                peer.sendHeaders(RawPeer.requestFields(path), stream: stream)
                peer.sendData(RawPeer.message([]), stream: stream, isEnd: true)
                stream += 2
            }
            rig.world.run()
        }
        XCTAssertLessThan(calls, 200)
        XCTAssertGreaterThan(calls, 90)
        peer.connection.isReadingPaused = false
        rig.world.run()
        XCTAssertEqual(calls, 1000)
        XCTAssertEqual(rig.server.openCallCount, 0)
        XCTAssertEqual(peer.fields(stream: stream - 2)["grpc-status"], "0")
    }

    func testLongAnswerThroughASmallWatermark() throws {
        var limits = WireLimits()
        limits.outputHighWatermarkByteCount = 20_000
        let rig = try Rig(server: limits)
        rig.server.unary(path) { call, _ in call.respond(bytes(1_000_000)) }
        for socket in [Int.max, 5_000, 0] {
            rig.world.socketByteCountMax = socket
            guard case .success(let answer) = rig.unary() else { return XCTFail("socket of \(socket) bytes") }
            XCTAssertTrue(answer == bytes(1_000_000))
        }
    }

    // MARK: Time

    func testSilentPeerIsCutAfterTheHandshakeTimeout() throws {
        for greeting in [[], Array("PRI * HT".utf8), RawPeer.preface] {
            let rig = try Rig()
            let peer = rig.rawClient(isGreeting: false)
            peer.connection.write(greeting)
            rig.world.advance(milliseconds: 9_999)
            XCTAssertNil(peer.closeReason)
            rig.world.advance(milliseconds: 2)
            XCTAssertEqual(peer.closeReason, .endOfStream)
            XCTAssertEqual(rig.server.connectionCount, 0)
        }
    }

    func testKeepaliveOfTheServer() throws {
        let rig = try Rig()
        let peer = rig.rawClient()
        rig.world.advance(milliseconds: 29_999)
        XCTAssertEqual(peer.frames(6).count, 0)
        rig.world.advance(milliseconds: 2)
        XCTAssertEqual(peer.frames(6).count, 1)
        peer.send(6, flags: 1, stream: 0, peer.frames(6)[0].payload)
        rig.world.advance(.seconds(35))
        XCTAssertNil(peer.closeReason)
        XCTAssertEqual(peer.frames(6).count, 2)
        rig.world.advance(.seconds(41))
        XCTAssertEqual(peer.closeReason, .endOfStream)
        XCTAssertEqual(rig.server.connectionCount, 0)
    }

    func testKeepaliveOfTheClientWithOpenCallsOnly() throws {
        let rig = try Rig()
        let server = try RawServer(rig)
        var result: Result<[UInt8], GRPCStatus>?
        let call = rig.channel.unary(path, [], timeout: nil) { result = $0 }
        rig.world.run()
        rig.world.advance(milliseconds: 30_001)
        XCTAssertEqual(server.peer.frames(6).count, 1)
        rig.world.advance(milliseconds: 10_001)
        guard case .failure(let status) = result else { return XCTFail("\(String(describing: result))") }
        XCTAssertEqual(status.code, .unavailable)
        XCTAssertTrue(status.message.contains("keepalive"), status.message)
        call.cancel()
        // A connection without calls is left alone.
        let other = rig.channel.unary(path, [], timeout: nil) { _ in }
        rig.world.advance(milliseconds: 10)
        other.cancel()
        rig.world.advance(.seconds(300))
        XCTAssertEqual(server.peers.count, 2)
        XCTAssertEqual(server.peer.frames(6).count, 0)
        XCTAssertNil(server.peer.closeReason)
    }

    func testPeerThatTakesNothingIsCut() throws {
        var limits = WireLimits()
        limits.outputHighWatermarkByteCount = 100_000
        let rig = try Rig(server: limits)
        rig.server.unary(path) { call, _ in call.respond([UInt8](repeating: 3, count: 50_000)) }
        rig.world.socketByteCountMax = 1000
        let peer = rig.rawClient()
        peer.send(8, stream: 0, [0x7F, 0, 0, 0])
        peer.connection.isReadingPaused = true
        for number in 0..<10 { _ = rig.request(peer, RawPeer.requestFields(path), stream: Int32(1 + 2 * number)) }
        XCTAssertEqual(rig.server.connectionCount, 1)
        rig.world.advance(.seconds(41))
        XCTAssertEqual(rig.server.connectionCount, 0)
        XCTAssertEqual(rig.server.openCallCount, 0)
    }

    // MARK: Numbers

    func testConnectionCountIsBounded() throws {
        var limits = WireLimits()
        limits.connectionCountMax = 3
        let rig = try Rig(server: limits)
        let peers = (0..<5).map { _ in rig.rawClient() }
        XCTAssertEqual(peers.filter { $0.closeReason == nil }.count, 3)
        XCTAssertEqual(rig.server.connectionCount, 3)
        peers[0].connection.close()
        rig.world.run()
        XCTAssertNil(rig.rawClient().closeReason)
    }

    func testConcurrentStreamsAreBounded() throws {
        var limits = WireLimits()
        limits.concurrentStreamCountMax = 10
        let rig = try Rig(server: limits)
        rig.server.unary(path) { _, _ in }
        let peer = rig.rawClient()
        for number in 0..<10 { _ = rig.request(peer, RawPeer.requestFields(path), stream: Int32(1 + 2 * number)) }
        XCTAssertEqual(rig.server.openCallCount, 10)
        _ = rig.request(peer, RawPeer.requestFields(path), stream: 21)
        XCTAssertEqual(rig.server.openCallCount, 0)
        XCTAssertEqual(peer.goaways.last?.error, .protocolError)
    }

    func testRapidResetsEndTheConnection() throws {
        let rig = try Rig()
        var cancelCount = 0
        rig.server.unary(path) { call, _ in call.onCancel = { cancelCount += 1 } }
        let peer = rig.rawClient()
        var stream: Int32 = 1
        while peer.closeReason == nil, stream < 20_000 {
            peer.sendHeaders(RawPeer.requestFields(path), stream: stream)
            peer.sendData(RawPeer.message([]), stream: stream, isEnd: true)
            peer.sendReset(.cancel, stream: stream)
            rig.world.run()
            stream += 2
        }
        XCTAssertEqual(peer.goaways.last?.error, .enhanceYourCalm)
        XCTAssertEqual(stream, 2 * 4096 + 1, "the burst less the SETTINGS")
        XCTAssertEqual(rig.server.connectionCount, 0)
        XCTAssertEqual(rig.server.openCallCount, 0)
    }

    func testControlFrameFloodsEndTheConnection() throws {
        let floods: [(UInt8, UInt8, Int32, [UInt8])] = [
            (6, 0, 0, [UInt8](repeating: 0, count: 8)), (4, 0, 0, []), (2, 0, 3, [0, 0, 0, 0, 16]), (0, 0, 1, []),
        ]
        for (type, flags, stream, payload) in floods {
            let rig = try Rig()
            rig.server.streaming(path) { $0.onMessage = { _ in } }
            let peer = rig.rawClient()
            peer.sendHeaders(RawPeer.requestFields(path), stream: 1)
            rig.world.run()
            var count = 0
            while peer.closeReason == nil, count < 6000 {
                peer.send(type, flags: flags, stream: stream, payload)
                if count % 100 == 0 { rig.world.run() }
                count += 1
            }
            rig.world.run()
            XCTAssertEqual(peer.goaways.last?.error, .enhanceYourCalm, "frame type \(type)")
            XCTAssertEqual(rig.server.openCallCount, 0)
        }
    }

    func testAllowedPaceOfResets() throws {
        let rig = try Rig()
        rig.server.unary(path) { _, _ in }
        let peer = rig.rawClient()
        var stream: Int32 = 1
        for _ in 0..<10_000 {
            peer.sendHeaders(RawPeer.requestFields(path), stream: stream)
            peer.sendReset(.cancel, stream: stream)
            stream += 2
            rig.world.advance(milliseconds: 4)
        }
        XCTAssertNil(peer.closeReason)
    }

    // MARK: Bytes that mean nothing

    func testForeignProtocolsCloseTheirConnectionOnly() throws {
        let rig = try Rig()
        rig.echo()
        XCTAssertEqual(rig.unary(), .success([1, 2, 3]))
        let words = [
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\u{16}\u{03}\u{01}\u{02}\u{00}", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
            "SSH-2.0-x\r\n",
        ]
        for word in words {
            let peer = rig.rawClient(isGreeting: false)
            peer.connection.write(Array(word.utf8))
            rig.world.run()
            XCTAssertEqual(peer.closeReason, .endOfStream, word)
        }
        XCTAssertEqual(rig.server.connectionCount, 1)
        XCTAssertEqual(rig.unary(), .success([1, 2, 3]))
    }

    /// Random bytes, random frames, and good conversations with broken bytes: the other connection never notices.
    func testHostileBytes() throws {
        let rig = try Rig()
        rig.echo()
        rig.server.streaming(streamPath) { stream in
            stream.onMessage = { stream.send($0) }
            stream.onHalfClose = { stream.finish() }
        }
        for seed in 0..<600 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            let peer = rig.rawClient(isGreeting: seed % 4 != 0)
            peer.connection.write(Self.hostileBytes(kind: seed % 4, &random, [path, streamPath]))
            rig.world.chunkByteCountMax = [1, 13, 1 << 16][Int(seed % 3)]
            rig.world.run()
            XCTAssertEqual(rig.unary(path, [UInt8(seed % 256)]), .success([UInt8(seed % 256)]), "seed \(seed)")
            peer.connection.close()
            rig.world.run()
            XCTAssertEqual(rig.server.openCallCount, 0, "seed \(seed)")
            XCTAssertEqual(rig.server.context.inboundByteCount, 0, "seed \(seed)")
        }
        XCTAssertEqual(rig.world.connectCount, 1)
    }

    private static func hostileBytes(kind: UInt64, _ random: inout SeededRandom, _ paths: [String]) -> [UInt8] {
        func noise(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) } }
        switch kind {
        case 0: return noise(500)
        case 1:
            return (0..<20).flatMap { _ in
                RawPeer.frame(
                    UInt8.random(in: 0...12, using: &random), flags: UInt8(truncatingIfNeeded: random.next()),
                    stream: Int32.random(in: 0...9, using: &random), noise(Int.random(in: 0...40, using: &random)))
            }
        default:
            var bytes: [UInt8] = []
            for stream in stride(from: Int32(1), to: 21, by: 2) {
                let path = paths[Int.random(in: 0..<paths.count, using: &random)]
                bytes += RawPeer.frame(
                    1, flags: 4, stream: stream, RawPeer.headerBlock(RawPeer.requestFields(path, [("a", "b")])))
                bytes += RawPeer.frame(
                    0, flags: 1, stream: stream, RawPeer.message(noise(Int.random(in: 0...300, using: &random))))
            }
            for _ in 0..<Int.random(in: 1...5, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8(truncatingIfNeeded: random.next())
            }
            if kind == 3 { bytes.removeLast(Int.random(in: 1..<bytes.count, using: &random)) }
            return bytes
        }
    }

    // MARK: Draining

    func testDrainLetsOpenCallsFinish() throws {
        let rig = try Rig()
        rig.echo()
        var held: UnaryCall?
        rig.server.unary("/s/Hold") { call, _ in held = call }
        rig.world.latency = .milliseconds(5)
        let peer = rig.rawClient()
        rig.world.advance(milliseconds: 50)
        _ = rig.request(peer, RawPeer.requestFields("/s/Hold"), stream: 1)
        rig.world.advance(milliseconds: 50)
        var isDrained = false
        rig.server.drain(grace: .seconds(10)) { isDrained = true }
        rig.world.advance(milliseconds: 5)
        XCTAssertEqual(peer.goaways.map(\.lastStreamID), [.max])
        XCTAssertEqual(peer.goaways.map(\.error), [.noError])
        // This one was on its way.
        _ = rig.request(peer, RawPeer.requestFields(path), stream: 3)
        peer.send(6, flags: 1, stream: 0, peer.frames(6)[0].payload)
        rig.world.advance(milliseconds: 50)
        XCTAssertEqual(peer.fields(stream: 3)["grpc-status"], "0")
        XCTAssertEqual(peer.goaways.map(\.lastStreamID), [.max, 3])
        XCTAssertTrue(rig.rawClient().closeReason == nil)
        rig.world.advance(milliseconds: 50)
        XCTAssertEqual(rig.server.connectionCount, 1, "no new connections")
        // Too late.
        _ = rig.request(peer, RawPeer.requestFields(path), stream: 5)
        rig.world.advance(milliseconds: 50)
        XCTAssertEqual(peer.fields(stream: 5), [:])
        XCTAssertFalse(isDrained)
        held?.respond([1])
        rig.world.advance(milliseconds: 50)
        XCTAssertEqual(peer.fields(stream: 1)["grpc-status"], "0")
        XCTAssertTrue(isDrained)
        XCTAssertEqual(peer.closeReason, .endOfStream)
    }

    func testDrainCutsAtTheEndOfTheGrace() throws {
        let rig = try Rig()
        var cancelCount = 0
        rig.server.unary(path) { call, _ in call.onCancel = { cancelCount += 1 } }
        let peer = rig.rawClient()
        _ = rig.request(peer, RawPeer.requestFields(path))
        var isDrained = false
        rig.server.drain(grace: .seconds(1)) { isDrained = true }
        XCTAssertFalse(isDrained)
        rig.world.advance(milliseconds: 999)
        XCTAssertFalse(isDrained)
        rig.world.advance(milliseconds: 2)
        XCTAssertTrue(isDrained)
        XCTAssertEqual(cancelCount, 1)
        XCTAssertEqual(peer.closeReason, .endOfStream)
    }

    func testDrainOfAServerWithoutConnections() throws {
        let rig = try Rig()
        var drainCount = 0
        rig.server.drain(grace: .seconds(1)) { drainCount += 1 }
        XCTAssertEqual(drainCount, 0)
        rig.world.run()
        XCTAssertEqual(drainCount, 1)
        rig.server.drain(grace: .seconds(1)) { drainCount += 1 }
        rig.world.advance(.seconds(2))
        XCTAssertEqual(drainCount, 2)
    }

    func testHandlersMayCutTheirOwnConnection() throws {
        let rig = try Rig()
        rig.server.unary("/s/Cut") { _, _ in rig.server.drain(grace: 0) {} }
        rig.echo()
        var results: [Result<[UInt8], GRPCStatus>] = []
        rig.channel.unary("/s/Cut", [], timeout: nil) { results.append($0) }
        rig.channel.unary(path, [], timeout: nil) { result in
            results.append(result)
            // Within what the connection reads.
            rig.channel.close()
        }
        rig.world.advance(.seconds(1))
        XCTAssertEqual(results.count, 2)
        XCTAssertEqual(rig.server.connectionCount, 0)
        XCTAssertEqual(rig.channel.state, .closed)
    }
}
