import Prelude
import XCTest

@testable import Wire

/// The channel: against our server, and against one that writes its frames by hand.
final class GRPCClientTests: XCTestCase {
    private let path = "/echo.Echo/Unary"
    private typealias Outcome = Result<[UInt8], GRPCStatus>

    private func failure(_ result: Result<[UInt8], GRPCStatus>?) -> GRPCStatus? {
        if case .failure(let status) = result { status } else { nil }
    }

    // MARK: The request as it goes out

    func testRequestHeaders() throws {
        let rig = try Rig()
        let server = try RawServer(rig)
        var metadata = Metadata(["key": "value"])
        metadata.add("raw-bin", bytes: [0, 255, 1])
        rig.channel.unary(path, [9], metadata: metadata, timeout: .milliseconds(1500)) { _ in }
        rig.world.run()
        let fields = server.peer.fields(stream: 1)
        XCTAssertEqual(fields[":method"], "POST")
        XCTAssertEqual(fields[":scheme"], "http")
        XCTAssertEqual(fields[":path"], path)
        XCTAssertEqual(fields[":authority"], rig.address.description)
        XCTAssertEqual(fields["te"], "trailers")
        XCTAssertEqual(fields["content-type"], "application/grpc")
        XCTAssertEqual(fields["grpc-timeout"], "1500000u")
        XCTAssertEqual(fields["key"], "value")
        XCTAssertEqual(fields["raw-bin"], "AP8B")
        XCTAssertEqual(server.peer.data(stream: 1), RawPeer.message([9]))
        XCTAssertEqual(server.peer.frames(0).map(\.flags), [RawPeer.endStream])
    }

    func testMetadataBothWays() throws {
        let rig = try Rig()
        rig.server.unary(path) { call, _ in
            XCTAssertEqual(call.metadata.texts("two"), ["1", "2"])
            XCTAssertEqual(call.metadata.bytes("some-bin"), [[1, 2, 3], []])
            XCTAssertEqual(call.metadata.count, 4)
            call.responseMetadata = call.metadata
            call.responseTrailers.add("tail-bin", bytes: [UInt8](0...255))
            call.respond([])
        }
        var metadata = Metadata(["two": "1", "TWO": "2"])
        metadata.add("some-bin", bytes: [1, 2, 3])
        metadata.add("some-bin", bytes: [])
        let call = rig.channel.unary(path, [], metadata: metadata, timeout: nil) { _ in }
        rig.world.run()
        XCTAssertEqual(call.responseMetadata, metadata)
        XCTAssertEqual(call.responseTrailers.bytes("tail-bin"), [[UInt8](0...255)])
    }

    // MARK: Answers of all kinds

    private func answer(
        _ fields: [(String, String)], data: [UInt8] = [], trailers: [(String, String)]? = nil,
        reset: HTTP2ErrorCode? = nil
    ) throws -> Result<[UInt8], GRPCStatus>? {
        let rig = try Rig()
        let server = try RawServer(rig)
        var result: Result<[UInt8], GRPCStatus>?
        rig.channel.unary(path, [1], timeout: nil) { result = $0 }
        rig.world.run()
        let isBare = data.isEmpty && trailers == nil && reset == nil
        if !fields.isEmpty { server.peer.sendHeaders(fields, stream: 1, isEnd: isBare) }
        if !data.isEmpty { server.peer.sendData(data, stream: 1, isEnd: trailers == nil && reset == nil) }
        if let trailers { server.peer.sendHeaders(trailers, stream: 1, isEnd: true) }
        if let reset { server.peer.sendReset(reset, stream: 1) }
        rig.world.run()
        XCTAssertNotNil(result)
        XCTAssertEqual(rig.channel.context.inboundByteCount, 0)
        return result
    }

    private let good = [(":status", "200"), ("content-type", "application/grpc")]

    func testOrderlyAnswers() throws {
        let message = RawPeer.message([5])
        XCTAssertEqual(try answer(good, data: message, trailers: [("grpc-status", "0")]), .success([5]))
        XCTAssertEqual(
            try answer(good + [("grpc-status", "5"), ("grpc-message", "a%20b%C3%BC%zz")]),
            .failure(GRPCStatus(.notFound, "a bü%zz")))
        XCTAssertEqual(
            failure(try answer(good, data: message, trailers: [("grpc-status", "16")]))?.code, .unauthenticated)
    }

    func testDisorderlyAnswers() throws {
        let message = RawPeer.message([5])
        let ok = [("grpc-status", "0")]
        let cases: [(GRPCCode, Result<[UInt8], GRPCStatus>?)] = [
            (.unimplemented, try answer(good, trailers: ok)),
            (.unimplemented, try answer(good, data: message + message, trailers: ok)),
            (.internalError, try answer(good, data: message + [0], trailers: ok)),
            (.internalError, try answer(good, data: RawPeer.message([5], flag: 1), trailers: ok)),
            (.resourceExhausted, try answer(good, data: [0, 0xFF, 0, 0, 0], trailers: ok)),
            (.unknown, try answer(good, data: message, trailers: [("grpc-status", "99")])),
            (.unknown, try answer(good, data: message, trailers: [("grpc-status", "x")])),
            (.unknown, try answer(good, data: message, trailers: [("other", "x")])),
            (.unknown, try answer(good, data: message)),
            (.unknown, try answer([(":status", "200"), ("content-type", "text/html")], data: [1], trailers: ok)),
        ]
        for (number, (code, result)) in cases.enumerated() {
            XCTAssertEqual(failure(result)?.code, code, "case \(number)")
        }
    }

    func testHTTPStatuses() throws {
        let statuses: [(String, GRPCCode)] = [
            ("400", .internalError), ("401", .unauthenticated), ("403", .permissionDenied), ("404", .unimplemented),
            ("429", .unavailable), ("502", .unavailable), ("503", .unavailable), ("504", .unavailable),
            ("500", .unknown),
            ("302", .unknown),
        ]
        for (status, code) in statuses {
            XCTAssertEqual(failure(try answer([(":status", status)]))?.code, code, status)
            XCTAssertEqual(failure(try answer([(":status", status)], data: [1, 2, 3]))?.code, code, status)
        }
        // A gRPC status is worth more than an HTTP status.
        XCTAssertEqual(failure(try answer([(":status", "503"), ("grpc-status", "7")]))?.code, .permissionDenied)
    }

    func testResets() throws {
        let resets: [(HTTP2ErrorCode, GRPCCode)] = [
            (.noError, .internalError), (.protocolError, .internalError), (.internalError, .internalError),
            (.flowControlError, .internalError), (.settingsTimeout, .internalError), (.frameSizeError, .internalError),
            (.cancel, .cancelled), (.compressionError, .internalError), (.connectError, .internalError),
            (.enhanceYourCalm, .resourceExhausted), (.inadequateSecurity, .permissionDenied),
        ]
        for (error, code) in resets {
            XCTAssertEqual(failure(try answer([], reset: error))?.code, code, error.description)
            XCTAssertEqual(failure(try answer(good, reset: error))?.code, code, error.description)
        }
        XCTAssertEqual(failure(try answer(good, reset: .refusedStream))?.code, .unavailable)
    }

    func testRefusedCallIsTriedOnceMore() throws {
        let rig = try Rig()
        let server = try RawServer(rig)
        var result: Outcome?
        rig.channel.unary(path, [1, 2], timeout: nil) { result = $0 }
        rig.world.run()
        server.peer.sendReset(.refusedStream, stream: 1)
        rig.world.run()
        XCTAssertNil(result)
        XCTAssertEqual(server.peer.data(stream: 3), RawPeer.message([1, 2]))
        server.peer.sendReset(.refusedStream, stream: 3)
        rig.world.run()
        XCTAssertEqual(failure(result)?.code, .unavailable)
    }

    func testAnswerBeforeTheRequestsEnd() throws {
        let rig = try Rig()
        rig.server.streaming("/s/Early") { stream in stream.finish(GRPCStatus(.permissionDenied, "no")) }
        let call = rig.channel.stream("/s/Early")
        var status: GRPCStatus?
        call.onEnd = { ended, _ in status = ended }
        for _ in 0..<20 { call.send(bytes(100_000)) }
        rig.world.run()
        XCTAssertEqual(status, GRPCStatus(.permissionDenied, "no"))
        XCTAssertFalse(call.send([1]))
        rig.echo()
        XCTAssertEqual(rig.unary(), .success([1, 2, 3]))
    }

    // MARK: Cancellation and deadlines

    func testCancelReachesTheServer() throws {
        let rig = try Rig()
        let server = try RawServer(rig)
        var result: Outcome?
        let call = rig.channel.unary(path, [], timeout: nil) { result = $0 }
        rig.world.run()
        call.cancel()
        XCTAssertNil(result)
        rig.world.run()
        XCTAssertEqual(failure(result)?.code, .cancelled)
        XCTAssertEqual(server.peer.resets(stream: 1), [.cancel])
        result = nil
        call.cancel()
        rig.world.run()
        XCTAssertNil(result)
    }

    func testCancelTellsTheHandlerOnce() throws {
        let rig = try Rig()
        var cancelCount = 0
        rig.server.streaming("/s/Hold") { stream in
            stream.onMessage = { _ in }
            stream.onCancel = { cancelCount += 1 }
        }
        let call = rig.channel.stream("/s/Hold")
        call.send([1])
        rig.world.run()
        call.cancel()
        rig.world.run()
        XCTAssertEqual(cancelCount, 1)
        XCTAssertEqual(rig.server.openCallCount, 0)
    }

    func testCancelBeforeAnythingWasSent() throws {
        let rig = try Rig()
        rig.echo()
        XCTAssertEqual(rig.unary(), .success([1, 2, 3]))
        var results: [Outcome] = []
        let first = rig.channel.unary(path, [7], timeout: nil) { results.append($0) }
        rig.channel.unary(path, [8], timeout: nil) { results.append($0) }
        first.cancel()
        rig.world.run()
        XCTAssertEqual(results.count, 2)
        XCTAssertTrue(results.contains(.success([8])))
        XCTAssertEqual(rig.server.openCallCount, 0)
        XCTAssertEqual(rig.unary(), .success([1, 2, 3]))
    }

    func testDeadline() throws {
        let rig = try Rig()
        rig.world.latency = .milliseconds(1)
        var cancelCount = 0
        rig.server.unary(path) { call, _ in call.onCancel = { cancelCount += 1 } }
        var result: Outcome?
        rig.channel.unary(path, [], timeout: .milliseconds(100)) { result = $0 }
        rig.world.advance(milliseconds: 99)
        XCTAssertNil(result)
        rig.world.advance(milliseconds: 1)
        XCTAssertEqual(failure(result)?.code, .deadlineExceeded)
        rig.world.advance(milliseconds: 5)
        XCTAssertEqual(cancelCount, 1)
        XCTAssertEqual(rig.server.openCallCount, 0)
    }

    func testDeadlineWhileWaitingForAConnection() throws {
        let rig = try Rig()
        rig.world.latency = .seconds(1)
        var results: [Outcome] = []
        rig.channel.unary(path, [], timeout: .milliseconds(100)) { results.append($0) }
        rig.channel.unary(path, [], timeout: 0) { results.append($0) }
        rig.world.advance(milliseconds: 1)
        XCTAssertEqual(results.map { failure($0)?.code }, [.deadlineExceeded])
        rig.world.advance(milliseconds: 100)
        XCTAssertEqual(results.map { failure($0)?.code }, [.deadlineExceeded, .deadlineExceeded])
    }

    // MARK: The connection

    func testStatesOfAChannel() throws {
        let rig = try Rig()
        rig.echo()
        rig.world.latency = .milliseconds(1)
        var states: [GRPCChannel.State] = []
        rig.channel.onStateChange = { states.append($0) }
        XCTAssertEqual(rig.channel.state, .idle)
        var result: Outcome?
        rig.channel.unary(path, [1], timeout: nil) { result = $0 }
        XCTAssertEqual(rig.channel.state, .connecting)
        rig.world.advance(milliseconds: 10)
        XCTAssertEqual(result, .success([1]))
        rig.channel.close()
        rig.world.advance(milliseconds: 10)
        XCTAssertEqual(states, [.connecting, .ready, .closed])
        rig.channel.unary(path, [1], timeout: nil) { result = $0 }
        rig.world.run()
        XCTAssertEqual(failure(result)?.code, .unavailable)
        XCTAssertEqual(rig.server.connectionCount, 0)
    }

    func testRefusedConnectionFailsFastAndBacksOff() throws {
        let rig = try Rig()
        rig.echo()
        rig.world.refusedAddresses = [rig.address]
        let first = failure(rig.unary())
        XCTAssertEqual(first?.code, .unavailable)
        XCTAssertTrue(first?.message.contains(rig.address.description) == true, "\(first.debugDescription)")
        XCTAssertTrue(first?.message.contains("connection refused") == true, "\(first.debugDescription)")
        XCTAssertEqual(rig.channel.state, .backoff)
        XCTAssertEqual(failure(rig.unary())?.code, .unavailable)
        XCTAssertEqual(rig.world.connectCount, 1)
        // One that waits keeps the attempts going, ever more slowly, until there is a server.
        var waited: Outcome?
        rig.channel.unary(path, [4], timeout: nil, waitForReady: true) { waited = $0 }
        rig.world.advance(.seconds(10))
        XCTAssertNil(waited)
        XCTAssertTrue((8...13).contains(rig.world.connectCount), "\(rig.world.connectCount) attempts")
        rig.world.refusedAddresses = []
        rig.world.advance(.milliseconds(2401))
        XCTAssertEqual(waited, .success([4]))
        XCTAssertEqual(rig.channel.state, .ready)
    }

    func testBackoffDoublesAndIsReset() {
        var limits = WireLimits()
        limits.reconnectBackoffMillisecondsMin = 100
        limits.reconnectBackoffMillisecondsMax = 1000
        var backoff = Backoff(limits, SeededRandom(seed: 3))
        for step in [100, 200, 400, 800, 1000, 1000] as [UInt64] {
            let pause = backoff.next() / 1_000_000
            XCTAssertTrue((step * 8 / 10...step * 12 / 10).contains(pause), "\(pause) for \(step)")
        }
        backoff.reset()
        XCTAssertLessThanOrEqual(backoff.next(), .milliseconds(120))
    }

    func testServerThatAcceptsAndSaysNothing() throws {
        let rig = try Rig()
        rig.listener.close()
        var accepted: [any Connection] = []
        _ = try rig.world.listen(on: rig.address) { accepted.append($0) }
        var result: Outcome?
        rig.channel.unary(path, [], timeout: nil) { result = $0 }
        rig.world.advance(.seconds(9))
        XCTAssertNil(result)
        rig.world.advance(.seconds(2))
        XCTAssertEqual(failure(result)?.code, .unavailable)
        XCTAssertEqual(accepted.count, 1)
    }

    func testLostConnection() throws {
        let rig = try Rig()
        rig.echo()
        rig.server.unary("/s/Hold") { _, _ in }
        XCTAssertEqual(rig.unary(), .success([1, 2, 3]))
        rig.world.advance(.seconds(1))
        var held: Outcome?
        rig.channel.unary("/s/Hold", [], timeout: nil) { held = $0 }
        rig.world.run()
        for connection in rig.server.openConnections { connection.close() }
        rig.world.run()
        XCTAssertEqual(failure(held)?.code, .unavailable)
        XCTAssertEqual(rig.channel.state, .idle)
        XCTAssertEqual(rig.unary(), .success([1, 2, 3]))
        XCTAssertEqual(rig.world.connectCount, 2)
    }

    func testRollingRestartLosesNoCall() throws {
        let rig = try Rig()
        rig.world.latency = .milliseconds(1)
        rig.echo()
        var counts = (ok: 0, failed: 0)
        func call(_ rest: Int) {
            guard rest > 0 else { return }
            rig.channel.unary(path, [1], timeout: .seconds(5)) { result in
                if case .success = result { counts.ok += 1 } else { counts.failed += 1 }
            }
            rig.world.later(.milliseconds(1) / 4) { call(rest - 1) }
        }
        call(2000)
        rig.world.advance(milliseconds: 100)
        // A second server takes over the address; the first one drains.
        rig.listener.close()
        let second = GRPCServer(clock: rig.world, turns: rig.world, limits: WireLimits())
        second.unary(path) { call, request in call.respond(request) }
        _ = try rig.world.listen(on: rig.address) { second.accept($0) }
        var isDrained = false
        rig.server.drain(grace: .seconds(5)) { isDrained = true }
        rig.world.advance(.seconds(1))
        XCTAssertTrue(isDrained)
        XCTAssertEqual(counts.ok, 2000)
        XCTAssertEqual(counts.failed, 0)
        XCTAssertEqual(rig.world.connectCount, 2)
        XCTAssertEqual(second.connectionCount, 1)
    }

    func testCallsBeyondTheServersStreamsWait() throws {
        var serverLimits = WireLimits()
        serverLimits.concurrentStreamCountMax = 3
        var clientLimits = WireLimits()
        clientLimits.queuedCallCountMax = 5
        let rig = try Rig(server: serverLimits, client: clientLimits)
        var calls: [UnaryCall] = []
        rig.server.unary(path) { call, _ in calls.append(call) }
        var results: [Outcome] = []
        rig.channel.unary(path, [], timeout: nil) { results.append($0) }
        rig.world.run()
        let started = (0..<9).map { _ in rig.channel.unary(path, [], timeout: nil) { results.append($0) } }
        rig.world.run()
        XCTAssertEqual(calls.count, 3)
        XCTAssertEqual(results.map { failure($0)?.code }, [.resourceExhausted, .resourceExhausted])
        // One that is given up makes room for another.
        started[2].cancel()
        rig.channel.unary(path, [], timeout: nil) { results.append($0) }
        rig.world.run()
        XCTAssertEqual(results.count, 3)
        var answered = 0
        while answered < calls.count {
            calls[answered].respond([])
            answered += 1
            rig.world.run()
        }
        XCTAssertEqual(answered, 8)
        XCTAssertEqual(results.filter { $0 == .success([]) }.count, 8)
    }

    func testChannelThatIsDropped() throws {
        let world = TestWorld()
        let server = GRPCServer(clock: world, turns: world, limits: WireLimits())
        server.unary(path) { _, _ in }
        let listener = try world.listen(on: HostPort(host: "127.0.0.1", port: 0)) { server.accept($0) }
        for isConnected in [true, false] {
            var result: Outcome?
            var channel: GRPCChannel? = GRPCChannel(
                network: world, clock: world, turns: world, target: listener.address, limits: WireLimits(),
                random: SeededRandom(seed: 1))
            weak let dropped = channel
            channel?.unary(path, [], timeout: nil) { result = $0 }
            if isConnected { world.run() }
            XCTAssertNil(result)
            channel = nil
            XCTAssertNil(dropped)
            world.run()
            XCTAssertEqual(failure(result)?.code, .unavailable)
            XCTAssertEqual(server.connectionCount, 0)
        }
    }

    func testNothingIsKeptAlive() throws {
        weak var server: GRPCServer?
        weak var channel: GRPCChannel?
        weak var call: ClientCall?
        weak var stream: ServerStream?
        let world = TestWorld()
        do {
            let rig = try Rig(world: world)
            rig.echo()
            rig.server.streaming("/s/Stream") { given in
                stream = given
                given.onMessage = { given.send($0) }
                given.onCancel = { given.finish() }
            }
            server = rig.server
            channel = rig.channel
            let open = rig.channel.stream("/s/Stream")
            open.onMessage = { _ in open.halfClose() }
            open.send([1])
            call = open
            XCTAssertEqual(rig.unary(), .success([1, 2, 3]))
            XCTAssertNotNil(stream)
            rig.channel.close()
            rig.server.drain(grace: 0) {}
            rig.listener.close()
            world.advance(.seconds(1))
        }
        XCTAssertNil(call)
        XCTAssertNil(stream)
        XCTAssertNil(channel)
        XCTAssertNil(server)
    }

    func testTooManyPingsMakeTheKeepaliveSlower() throws {
        let rig = try Rig()
        let server = try RawServer(rig)
        rig.channel.unary(path, [], timeout: nil) { _ in }
        rig.world.run()
        let calm: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 11] + Array("too_many_pings".utf8)
        server.peer.send(7, stream: 0, calm)
        rig.world.run()
        rig.channel.unary(path, [], timeout: nil) { _ in }
        rig.world.run()
        XCTAssertEqual(server.peers.count, 2)
        rig.world.advance(.seconds(59))
        XCTAssertEqual(server.peer.frames(6).count, 0)
        rig.world.advance(.seconds(2))
        XCTAssertEqual(server.peer.frames(6).count, 1)
    }

    func testPausedReaderGetsEverythingThatCameBeforeTheEnd() throws {
        let rig = try Rig()
        rig.server.streaming("/s/Many") { stream in
            stream.onMessage = { _ in
                for number in 0..<100 as Range<UInt8> { stream.send([number]) }
                stream.finish(GRPCStatus(.outOfRange, "done"))
            }
        }
        let call = rig.channel.stream("/s/Many")
        var received: [[UInt8]] = []
        var status: GRPCStatus?
        call.isReadingPaused = true
        call.onMessage = { received.append(Array($0)) }
        call.onEnd = { ended, _ in status = ended }
        call.send([])
        call.halfClose()
        rig.world.run()
        XCTAssertEqual(rig.server.openCallCount, 0)
        XCTAssertEqual(received.count, 0)
        XCTAssertNil(status)
        call.isReadingPaused = false
        XCTAssertEqual(received.count, 0)
        rig.world.run()
        XCTAssertEqual(received, (0..<100).map { [$0] })
        XCTAssertEqual(status, GRPCStatus(.outOfRange, "done"))
        XCTAssertEqual(rig.channel.context.inboundByteCount, 0)
    }

    func testStreamWhoseMessagesNobodyWants() throws {
        let rig = try Rig()
        rig.server.streaming("/s/Some") { stream in
            stream.send([1, 2, 3])
            stream.finish()
        }
        let call = rig.channel.stream("/s/Some")
        var status: GRPCStatus?
        call.onEnd = { ended, _ in status = ended }
        rig.world.run()
        XCTAssertEqual(status, .ok)
        XCTAssertEqual(rig.channel.context.inboundByteCount, 0)
    }

    func testHostileServers() throws {
        for seed in 0..<300 as Range<UInt64> {
            let rig = try Rig()
            let server = try RawServer(rig)
            var random = SeededRandom(seed: seed)
            var results: [Outcome] = []
            for _ in 0..<3 { rig.channel.unary(path, [1], timeout: .seconds(1)) { results.append($0) } }
            let stream = rig.channel.stream(path, timeout: .seconds(1))
            var endCount = 0
            stream.onMessage = { _ in }
            stream.onEnd = { _, _ in endCount += 1 }
            rig.world.run()
            for _ in 0..<30 {
                let count = Int.random(in: 0...40, using: &random)
                let payload = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                server.peer.send(
                    UInt8.random(in: 0...9, using: &random), flags: UInt8(truncatingIfNeeded: random.next()),
                    stream: Int32.random(in: 0...9, using: &random), payload)
                rig.world.run()
            }
            rig.world.advance(.seconds(2))
            XCTAssertEqual(results.count, 3, "seed \(seed)")
            XCTAssertEqual(endCount, 1, "seed \(seed)")
            XCTAssertEqual(rig.channel.context.inboundByteCount, 0, "seed \(seed)")
        }
    }

    func testMessagesOverTheLimit() throws {
        var limits = WireLimits()
        limits.messageByteCountMax = 1000
        let rig = try Rig(client: limits)
        rig.server.unary(path) { call, request in call.respond(bytes(Int(request[0]) * 10)) }
        XCTAssertEqual(failure(rig.unary(path, bytes(1001)))?.code, .resourceExhausted)
        XCTAssertEqual(failure(rig.unary(path, [101]))?.code, .resourceExhausted)
        guard case .success(let answer) = rig.unary(path, [100]) else { return XCTFail("1000 bytes are allowed") }
        XCTAssertEqual(answer.count, 1000)
    }
}
