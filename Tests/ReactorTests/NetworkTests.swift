import Glibc
import Prelude
import XCTest

@testable import Reactor

/// Open connections over the loopback interface.
final class NetworkTests: LoopTestCase {
    /// A connected pair: the end that connected, and the accepted one, neither with a handler yet.
    private func pair() throws -> (client: any Connection, server: any Connection, listener: any Listener) {
        var accepted: (any Connection)?
        let listener = try loop.network.listen(on: HostPort(host: "127.0.0.1", port: 0)) { accepted = $0 }
        var connected: (any Connection)?
        loop.network.connect(to: listener.address, timeout: .seconds(120)) { connected = try? $0.get() }
        wait("a pair of connections") { accepted != nil && connected != nil }
        return (try XCTUnwrap(connected), try XCTUnwrap(accepted), listener)
    }

    func testEcho() throws {
        let (client, server, listener) = try pair()
        XCTAssertEqual(client.remoteAddress, listener.address)
        XCTAssertEqual(server.remoteAddress.host, "127.0.0.1")
        XCTAssertNotEqual(listener.address.port, 0)
        let answers = Recorder()
        let echo = Recorder()
        echo.onRead = { server.write($0) }
        client.handler = answers
        server.handler = echo
        client.write("hello")
        client.write(", world")
        wait("the echo") { answers.received.count == 12 }
        XCTAssertEqual(answers.received, Array("hello, world".utf8))
        XCTAssertEqual(client.bufferedByteCount, 0)
        XCTAssertEqual(answers.drainCount, 0, "nothing was left to drain")
    }

    func testAcceptedConnectionReadsNothingUntilItHasAHandler() throws {
        let (client, server, _) = try pair()
        client.handler = Recorder()
        client.write("early")
        let recorder = Recorder()
        for _ in 0..<5 { loop.run(until: { false }, within: .milliseconds(1)) }
        server.handler = recorder
        XCTAssertEqual(recorder.received, [])
        wait("what was sent early") { recorder.received == Array("early".utf8) }
    }

    func testBigTransferMeetsASlowReader() throws {
        let (client, server, _) = try pair()
        let byteCount = 32 << 20
        var random = SeededRandom(seed: 7)
        let block = (0..<(1 << 20)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        let sender = Recorder()
        let reader = Recorder()
        client.handler = sender
        server.isReadingPaused = true
        server.handler = reader
        for _ in 0..<(byteCount / block.count) { client.write(block) }
        let buffered = client.bufferedByteCount
        XCTAssertGreaterThan(buffered, 0)
        XCTAssertLessThanOrEqual(buffered, byteCount)
        loop.run(until: { false }, within: .milliseconds(20))
        XCTAssertGreaterThan(client.bufferedByteCount, 0, "nobody reads")
        XCTAssertEqual(sender.drainCount, 0)
        var receivedByteCount = 0
        var isEqual = true
        reader.onRead = { bytes in
            for byte in bytes {
                if byte != block[receivedByteCount % block.count] { isEqual = false }
                receivedByteCount += 1
            }
        }
        server.isReadingPaused = false
        wait("the whole transfer") { receivedByteCount == byteCount && sender.drainCount == 1 }
        XCTAssertTrue(isEqual, "bytes arrive in order")
        XCTAssertEqual(client.bufferedByteCount, 0)
        client.write("x")
        wait("one more byte") { receivedByteCount == byteCount + 1 }
        XCTAssertEqual(sender.drainCount, 1, "drained only when something had been left")
    }

    func testPauseInsideReadStopsReading() throws {
        let (client, server, _) = try pair()
        client.handler = Recorder()
        var readCount = 0
        let reader = Recorder()
        reader.onRead = { _ in
            readCount += 1
            server.isReadingPaused = true
        }
        server.handler = reader
        client.write([UInt8](repeating: 1, count: 256 << 10))
        wait("the first read") { readCount == 1 }
        loop.run(until: { false }, within: .milliseconds(10))
        XCTAssertEqual(readCount, 1)
        server.isReadingPaused = false
        wait("the second read") { readCount == 2 }
    }

    func testOneFastSenderDoesNotHoldTheLoop() throws {
        let (client, server, _) = try pair()
        let block = [UInt8](repeating: 9, count: 8 << 20)
        let sender = Recorder()
        client.handler = sender
        var byTurn: [UInt64: Int] = [:]
        let reader = Recorder()
        var total = 0
        reader.onRead = { [loop] bytes in
            byTurn[loop.turnNumber, default: 0] += bytes.count
            total += bytes.count
        }
        server.handler = reader
        client.write(block)
        wait("all") { total == block.count }
        let most = byTurn.values.max() ?? 0
        let limits = ReactorLimits()
        XCTAssertLessThan(most, limits.readByteCountPerTurnMax + limits.readBufferByteCount)
        XCTAssertGreaterThan(byTurn.count, 4)
    }

    func testCloseTellsBothSidesOnceAndNotAtOnce() throws {
        let (client, server, _) = try pair()
        let near = Recorder()
        let far = Recorder()
        client.handler = near
        server.handler = far
        client.close()
        client.close()
        client.write("too late")
        XCTAssertEqual(near.closings, [])
        wait("both ends") { !near.closings.isEmpty && !far.closings.isEmpty }
        XCTAssertEqual(near.closings, [.closedLocally])
        XCTAssertEqual(far.closings, [.endOfStream])
        server.write("too late")
        server.close()
        loop.run(until: { false }, within: .milliseconds(5))
        XCTAssertEqual(far.closings, [.endOfStream])
        XCTAssertEqual(far.received, [])
    }

    func testHandlerOfAClosedConnectionIsToldLater() throws {
        let (client, server, _) = try pair()
        server.handler = Recorder()
        client.close()
        loop.run(until: { false }, within: .milliseconds(5))
        let late = Recorder()
        client.handler = late
        XCTAssertEqual(late.closings, [])
        wait("the late news") { late.closings == [.closedLocally] }
    }

    func testCloseInsideRead() throws {
        let (client, server, _) = try pair()
        let near = Recorder()
        client.handler = near
        let far = Recorder()
        var readCount = 0
        far.onRead = { _ in
            readCount += 1
            server.close()
        }
        server.handler = far
        client.write([UInt8](repeating: 0, count: 1 << 20))
        wait("both ends") { !near.closings.isEmpty && !far.closings.isEmpty }
        XCTAssertEqual(readCount, 1)
        XCTAssertEqual(far.closings, [.closedLocally])
        // Closed with bytes unread: the system resets the connection.
        guard case .broken = near.closings.first else { return XCTFail("\(near.closings)") }
        XCTAssertEqual(near.closings.count, 1)
    }

    func testCloseAfterFlushSendsEverything() throws {
        let (client, server, _) = try pair()
        let near = Recorder()
        let far = Recorder()
        client.handler = near
        server.isReadingPaused = true
        server.handler = far
        let bytes = [UInt8](repeating: 3, count: 16 << 20)
        client.write(bytes)
        client.closeAfterFlush()
        client.write("too late")
        // Input that nobody reads any more must not turn the orderly end into a reset.
        server.write("unread")
        loop.run(until: { false }, within: .milliseconds(10))
        XCTAssertEqual(near.closings, [])
        var byteCount = 0
        far.onRead = { byteCount += $0.count }
        server.isReadingPaused = false
        wait("both ends") { !near.closings.isEmpty && !far.closings.isEmpty }
        XCTAssertEqual(byteCount, bytes.count)
        XCTAssertEqual(near.closings, [.closedLocally])
        XCTAssertEqual(far.closings, [.endOfStream])
        XCTAssertEqual(near.received, [])
    }

    func testCloseAfterFlushOfAnIdleConnection() throws {
        let (client, server, _) = try pair()
        let near = Recorder()
        let far = Recorder()
        client.handler = near
        server.handler = far
        client.closeAfterFlush()
        XCTAssertEqual(near.closings, [])
        wait("both ends") { !near.closings.isEmpty && !far.closings.isEmpty }
        XCTAssertEqual(near.closings, [.closedLocally])
        XCTAssertEqual(far.closings, [.endOfStream])
    }

    func testHalfClosedPeerStillGetsWhatWasBuffered() throws {
        let (client, server, _) = try pair()
        let near = Recorder()
        let far = Recorder()
        client.isReadingPaused = true
        client.handler = near
        server.handler = far
        // Ends its output while the answer is still under way; libuv shuts the output down only.
        let bytes = [UInt8](repeating: 5, count: 16 << 20)
        server.write(bytes)
        let halfClosed = try XCTUnwrap(client as? TCPConnection)
        var descriptor: Int32 = -1
        XCTAssertEqual(fileDescriptor(of: halfClosed, &descriptor), 0)
        XCTAssertEqual(shutdown(descriptor, Int32(SHUT_WR)), 0)
        wait("the end as the handler sees it") { far.closings == [.endOfStream] }
        server.write("too late")
        var byteCount = 0
        near.onRead = { byteCount += $0.count }
        client.isReadingPaused = false
        wait("the end") { near.closings == [.endOfStream] }
        XCTAssertEqual(byteCount, bytes.count)
    }

    func testResetPeer() throws {
        let (client, server, _) = try pair()
        let near = Recorder()
        let far = Recorder()
        client.handler = near
        server.handler = far
        var descriptor: Int32 = -1
        XCTAssertEqual(fileDescriptor(of: try XCTUnwrap(client as? TCPConnection), &descriptor), 0)
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        client.close()
        wait("the reset") { !far.closings.isEmpty }
        guard case .broken = far.closings.first else { return XCTFail("\(far.closings)") }
        server.write("to nobody")
        loop.run(until: { false }, within: .milliseconds(5))
        XCTAssertEqual(far.closings.count, 1)
    }

    func testWriteToAResetPeerIsToldOnceAndLater() throws {
        let (client, server, _) = try pair()
        // Pauses, so that only writing can find out.
        server.isReadingPaused = true
        let far = Recorder()
        server.handler = far
        client.handler = Recorder()
        var descriptor: Int32 = -1
        XCTAssertEqual(fileDescriptor(of: try XCTUnwrap(client as? TCPConnection), &descriptor), 0)
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        client.close()
        loop.run(until: { false }, within: .milliseconds(5))
        server.write("a")
        XCTAssertEqual(far.closings, [])
        wait("the break") { far.closings.count == 1 }
        guard case .broken = far.closings.first else { return XCTFail("\(far.closings)") }
    }

    func testLastWordsOfAPeerThatBreaksOffAreRead() throws {
        let (client, server, _) = try pair()
        let near = Recorder()
        client.handler = near
        server.handler = Recorder()
        client.write("unread")
        server.write("last words")
        // With input unread, the system resets the connection at once; the client finds out when it writes.
        server.close()
        client.write("a")
        client.write("b")
        XCTAssertEqual(near.closings, [])
        wait("the end") { !near.closings.isEmpty }
        XCTAssertEqual(near.received, Array("last words".utf8))
        guard case .broken = near.closings.first else { return XCTFail("\(near.closings)") }
    }

    func testManyConnectionsAtOnce() throws {
        var servers: [any Connection] = []
        let echo = Recorder()
        echo.onRead = { _ in }
        let listener = try loop.network.listen(on: HostPort(host: "127.0.0.1", port: 0)) { connection in
            let handler = Recorder()
            handler.onRead = { connection.write($0) }
            connection.handler = handler
            servers.append(connection)
        }
        let clientCount = 300
        var clients: [(any Connection, Recorder)] = []
        for _ in 0..<clientCount {
            loop.network.connect(to: listener.address, timeout: .seconds(120)) { result in
                guard let connection = try? result.get() else { return XCTFail("\(result)") }
                let recorder = Recorder()
                connection.handler = recorder
                connection.write("ping")
                clients.append((connection, recorder))
            }
        }
        wait("all answers") {
            clients.count == clientCount && clients.allSatisfy { $0.1.received == Array("ping".utf8) }
        }
        XCTAssertEqual(servers.count, clientCount)
        listener.close()
    }

    func testClosedListenerLeavesItsConnectionsOpen() throws {
        let (client, server, listener) = try pair()
        listener.close()
        listener.close()
        let far = Recorder()
        server.handler = far
        client.handler = Recorder()
        client.write("still there")
        wait("the bytes") { far.received == Array("still there".utf8) }
        var outcome: Result<any Connection, NetworkError>?
        loop.network.connect(to: listener.address, timeout: .seconds(120)) { outcome = $0 }
        wait("the refusal") { outcome != nil }
        guard case .failure(.cannotConnect) = outcome else { return XCTFail("\(String(describing: outcome))") }
    }

    func testConnectionsAreToldWhenTheLoopCloses() throws {
        let (client, server, _) = try pair()
        let near = Recorder()
        let far = Recorder()
        client.handler = near
        server.handler = far
        loop.close()
        XCTAssertEqual(near.closings, [.closedLocally])
        XCTAssertEqual(far.closings, [.closedLocally])
        client.write("nobody")
        client.close()
        client.closeAfterFlush()
        client.isReadingPaused = true
        XCTAssertEqual(client.bufferedByteCount, 0)
    }
}
