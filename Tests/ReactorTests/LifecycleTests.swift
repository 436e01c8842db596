import Foundation
import Glibc
import Prelude
import XCTest

@testable import Reactor

/// Loops that come and go, and signals.
final class LifecycleTests: LoopTestCase {
    func testHundredsOfLoopsLeakNothing() throws {
        let before = openDescriptorCount()
        for round in 0..<300 {
            let loop = try EventLoop()
            var accepted: [any Connection] = []
            let listener = try loop.network.listen(on: HostPort(host: "127.0.0.1", port: 0)) { accepted.append($0) }
            var connected = false
            loop.network.connect(to: listener.address, timeout: .seconds(120)) { _ in connected = true }
            loop.network.connect(to: HostPort(host: "localhost", port: 1), timeout: .seconds(120)) { _ in }
            _ = loop.onSignal([SIGUSR1, SIGUSR2]) { _ in }
            _ = loop.clock.schedule(after: .seconds(100)) {}
            loop.work.perform({ round }, completion: { XCTAssertEqual($0, round) })
            loop.start { await Task.yield() }
            if round % 3 != 0 { XCTAssertTrue(loop.run(until: { connected && !accepted.isEmpty })) }
            loop.close()
        }
        XCTAssertEqual(openDescriptorCount(), before)
    }

    func testClosedLoopIsReleased() throws {
        weak var observed: EventLoop?
        do {
            let loop = try EventLoop()
            observed = loop
            var isDone = false
            loop.work.perform({}, completion: { isDone = true })
            loop.run { isDone }
            loop.start {}
            loop.close()
        }
        XCTAssertNil(observed)
    }

    func testLoopsOnTwoThreadsTalkToEachOther() throws {
        let roundCount = 500
        let here = loop
        let there = try EventLoop()
        var accepted: (any Connection)?
        let listener = try here.network.listen(on: HostPort(host: "127.0.0.1", port: 0)) { connection in
            let echo = Recorder()
            echo.onRead = { connection.write($0) }
            connection.handler = echo
            accepted = connection
        }
        let address = listener.address
        let client = LoopBound(EchoClient(roundCount: roundCount), to: there)
        nonisolated(unsafe) var hasEnded = false  // Used on this test's loop only.
        there.submit {
            client.value.start(on: there, to: address) { here.submit { hasEnded = true } }
        }
        let ended = expectation(description: "the other loop's thread has ended")
        Thread.detachNewThread {
            there.run()
            there.close()
            ended.fulfill()
        }
        wait("all rounds") { hasEnded }
        XCTAssertNotNil(accepted)
        there.stop()
        wait(for: [ended], timeout: 10)
    }

    private final class EchoClient: ConnectionHandler {
        private var remaining: Int
        private var connection: (any Connection)?
        private var completion: (() -> Void)?

        init(roundCount: Int) { remaining = roundCount }

        func start(on loop: EventLoop, to address: HostPort, completion: @escaping () -> Void) {
            self.completion = completion
            loop.network.connect(to: address, timeout: .seconds(120)) { [self] result in
                connection = try? result.get()
                connection?.handler = self
                connection?.write("x")
            }
        }

        func connectionDidRead(_ bytes: UnsafeRawBufferPointer) {
            remaining -= 1
            if remaining > 0 { connection?.write(bytes) } else { completion?() }
        }

        func connectionDidDrain() {}
        func connectionDidClose(_ reason: NetworkError) { connection = nil }
    }

    func testLoopWithoutDescriptorsThrows() throws {
        var before = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before)
        let open = openDescriptorCount()
        for spare in 0..<8 {
            var low = before
            low.rlim_cur = rlim_t(spare)
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &low)
            let result = Result { try EventLoop() }
            setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &before)
            switch result {
            case .success(let loop): loop.close()
            case .failure(let error): XCTAssertTrue("\(error)".contains("too many open files"), "\(error)")
            }
        }
        XCTAssertEqual(openDescriptorCount(), open)
    }

    func testTimeoutOfRunUntil() {
        let start = loop.clock.now
        XCTAssertFalse(loop.run(until: { false }, within: .milliseconds(20)))
        XCTAssertGreaterThanOrEqual(loop.clock.now - start, .milliseconds(20))
        XCTAssertTrue(loop.run(until: { true }, within: 0))
    }

    func testSignalsAreWatchedUntilCancelled() {
        var seen: [Int32] = []
        let watch = loop.onSignal([SIGUSR1, SIGUSR2, SIGUSR2]) { seen.append($0) }
        let bystander = loop.onSignal([SIGUSR1]) { _ in }
        kill(getpid(), SIGUSR1)
        wait("the first signal") { seen == [SIGUSR1] }
        kill(getpid(), SIGUSR2)
        wait("the second signal") { seen == [SIGUSR1, SIGUSR2] }
        watch.cancel()
        watch.cancel()
        kill(getpid(), SIGUSR1)
        loop.run(until: { false }, within: .milliseconds(10))
        XCTAssertEqual(seen, [SIGUSR1, SIGUSR2])
        bystander.cancel()
    }

    func testSeamsAreThoseOfTheLoop() {
        let seams = loop.seams(disk: FileDisk(), randomSeed: 42)
        XCTAssertEqual(seams.randomSeed, 42)
        var fired = false
        _ = seams.clock.schedule(after: 0) { fired = true }
        wait("a timer of the seams") { fired }
        XCTAssertTrue(seams.executor === loop)
        final class Confined { var isDone = false }
        let confined = Confined()
        let box = LoopBound(confined, to: seams.executor)
        seams.executor.start { box.value.isDone = true }
        wait("a task of the seams") { confined.isDone }
    }

    func testBrokenPipeDoesNotEndTheProcess() {
        var descriptors: [Int32] = [0, 0]
        XCTAssertEqual(pipe(&descriptors), 0)
        close(descriptors[0])
        XCTAssertEqual(write(descriptors[1], "x", 1), -1)
        XCTAssertEqual(errno, EPIPE)
        close(descriptors[1])
    }
}
