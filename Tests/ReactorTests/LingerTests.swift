import Glibc
import Prelude
import XCTest

@testable import Reactor

/// Closing connections whose other side does not play along.
final class LingerTests: LoopTestCase {
    override var limits: ReactorLimits {
        var limits = ReactorLimits()
        limits.lingerMilliseconds = 50
        return limits
    }

    /// The accepted end, and the bare socket of a client.
    private func pairWithBareClient() throws -> (server: any Connection, client: Int32) {
        var accepted: (any Connection)?
        let listener = try loop.network.listen(on: HostPort(host: "127.0.0.1", port: 0)) { accepted = $0 }
        let client = try bareClient(connectedTo: listener.address)
        wait("the accepted end") { accepted != nil }
        listener.close()
        return (try XCTUnwrap(accepted), client)
    }

    func testFlushToAPeerThatReadsNothingIsCut() throws {
        let (server, client) = try pairWithBareClient()
        defer { close(client) }
        let recorder = Recorder()
        server.handler = recorder
        server.write([UInt8](repeating: 0, count: 32 << 20))
        let start = loop.clock.now
        server.closeAfterFlush()
        XCTAssertGreaterThan(server.bufferedByteCount, 0)
        wait("the cut") { !recorder.closings.isEmpty }
        XCTAssertEqual(recorder.closings, [.closedLocally])
        XCTAssertGreaterThanOrEqual(loop.clock.now - start, .milliseconds(50))
    }

    func testPeerThatNeverEndsIsCut() throws {
        let (server, client) = try pairWithBareClient()
        defer { close(client) }
        let recorder = Recorder()
        server.handler = recorder
        server.write("bye")
        let before = openDescriptorCount()
        server.closeAfterFlush()
        wait("the news") { recorder.closings == [.closedLocally] }
        XCTAssertEqual(openDescriptorCount(), before, "lingers")
        wait("the cut") { openDescriptorCount() == before - 1 }
        XCTAssertEqual(recorder.closings, [.closedLocally])
        var bytes = [UInt8](repeating: 0, count: 16)
        XCTAssertEqual(recv(client, &bytes, 16, 0), 3)
        XCTAssertEqual(recv(client, &bytes, 16, 0), 0, "an orderly end")
    }

    func testHalfClosedPeerThatReadsNothingIsCut() throws {
        let (server, client) = try pairWithBareClient()
        defer { close(client) }
        let recorder = Recorder()
        server.handler = recorder
        server.write([UInt8](repeating: 0, count: 32 << 20))
        let before = openDescriptorCount()
        shutdown(client, Int32(SHUT_WR))
        wait("the news") { recorder.closings == [.endOfStream] }
        wait("the cut") { openDescriptorCount() == before - 1 }
        XCTAssertEqual(recorder.closings, [.endOfStream])
    }

    func testCloseWhileLingering() throws {
        let (server, client) = try pairWithBareClient()
        defer { close(client) }
        let recorder = Recorder()
        server.handler = recorder
        server.closeAfterFlush()
        server.closeAfterFlush()
        wait("the news") { recorder.closings == [.closedLocally] }
        server.close()
        loop.run(until: { false }, within: .milliseconds(5))
        XCTAssertEqual(recorder.closings, [.closedLocally])
    }

    func testInputDuringTheFlushIsThrownAway() throws {
        let (server, client) = try pairWithBareClient()
        defer { close(client) }
        let recorder = Recorder()
        server.handler = recorder
        server.closeAfterFlush()
        let bytes = [UInt8](repeating: 7, count: 100_000)
        XCTAssertEqual(send(client, bytes, bytes.count, Int32(MSG_NOSIGNAL)), bytes.count)
        wait("the news") { recorder.closings == [.closedLocally] }
        XCTAssertEqual(recorder.received, [])
    }
}
