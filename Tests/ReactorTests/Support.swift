import CUV
import CUVShims
import Foundation
import Glibc
import Prelude
import XCTest

@testable import Reactor

/// A test case with one loop, closed after each test, and a check that nothing stays open.
class LoopTestCase: XCTestCase {
    private var storedLoop: EventLoop?
    private var descriptorCountBefore = 0
    var limits: ReactorLimits { ReactorLimits() }

    var loop: EventLoop {
        guard let storedLoop else { preconditionFailure("the loop exists between setUp and tearDown") }
        return storedLoop
    }

    override func setUpWithError() throws {
        // The first loop of a process makes descriptors that stay: the thread pool's and the signal handler's.
        let first = try EventLoop()
        var isDone = false
        first.work.perform({}, completion: { isDone = true })
        first.run { isDone }
        first.close()
        descriptorCountBefore = openDescriptorCount()
        storedLoop = try EventLoop(limits: limits)
    }

    override func tearDown() {
        storedLoop?.close()
        storedLoop = nil
        // Threads of the runtime and of the test runner open a descriptor now and then, for a moment.
        let deadline = DispatchTime.now() + .seconds(60)
        while openDescriptorCount() > descriptorCountBefore, DispatchTime.now() < deadline { sched_yield() }
        XCTAssertLessThanOrEqual(openDescriptorCount(), descriptorCountBefore, "descriptors leaked")
    }

    /// Drives the loop until the condition holds; a failure when it does not within the time.
    func wait(
        _ what: String, within timeout: Nanoseconds = .seconds(120), file: StaticString = #filePath,
        line: UInt = #line, until condition: () -> Bool
    ) {
        XCTAssertTrue(loop.run(until: condition, within: timeout), what, file: file, line: line)
    }
}

extension EventLoop {
    /// With the condition as trailing closure.
    func run(_ condition: () -> Bool) { run(until: condition) }
}

func openDescriptorCount() -> Int {
    ((try? FileDisk().list("/proc/self/fd")) ?? []).count
}

/// Collects what a connection reports.
final class Recorder: ConnectionHandler {
    var received: [UInt8] = []
    var drainCount = 0
    var closings: [NetworkError] = []
    var onRead: ((UnsafeRawBufferPointer) -> Void)?
    var onClose: (() -> Void)?

    func connectionDidRead(_ bytes: UnsafeRawBufferPointer) {
        XCTAssertTrue(closings.isEmpty, "nothing follows the close")
        if let onRead { onRead(bytes) } else { received.append(contentsOf: bytes) }
    }

    func connectionDidDrain() {
        XCTAssertTrue(closings.isEmpty, "nothing follows the close")
        drainCount += 1
    }

    func connectionDidClose(_ reason: NetworkError) {
        closings.append(reason)
        onClose?()
    }
}

extension Connection {
    func write(_ bytes: [UInt8]) { bytes.withUnsafeBytes { write($0) } }
    func write(_ text: String) { write(Array(text.utf8)) }
}

/// A fresh directory, removed at the end of the test.
func temporaryDirectory(_ test: XCTestCase) throws -> String {
    var template = Array("/tmp/reactor-test-XXXXXX".utf8CString)
    let directory = try XCTUnwrap(mkdtemp(&template).map { String(cString: $0) })
    test.addTeardownBlock { try? FileManager.default.removeItem(atPath: directory) }
    return directory
}

/// The descriptor under a connection, to do to it what a peer's system would.
func fileDescriptor(of connection: TCPConnection, _ descriptor: inout Int32) -> Int32 {
    uv_fileno(raftoral_uv_handle(connection.tcp), &descriptor)
}

/// A socket of a client outside of any loop, connected.
func bareClient(connectedTo address: HostPort) throws -> Int32 {
    let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    let target = try XCTUnwrap(NameResolution.literal(address))
    XCTAssertEqual(target.withPointer { connect(client, $0, $1) }, 0)
    return client
}
