import Foundation
import Prelude
import XCTest

@testable import Reactor

final class ClockTests: LoopTestCase {
    func testTimersFireInOrderOfTheirDeadlines() {
        var order: [Int] = []
        for (name, delay) in [(3, 30), (1, 10), (2, 20), (0, 0)] {
            _ = loop.clock.schedule(after: .milliseconds(UInt64(delay))) { order.append(name) }
        }
        XCTAssertEqual(order, [], "never before schedule has returned")
        wait("all timers") { order.count == 4 }
        XCTAssertEqual(order, [0, 1, 2, 3])
    }

    func testEqualDelaysFireInOrderOfScheduling() {
        var order: [Int] = []
        for name in 0..<1000 { _ = loop.clock.schedule(after: .milliseconds(2)) { order.append(name) } }
        wait("all timers") { order.count == 1000 }
        XCTAssertEqual(order, Array(0..<1000))
    }

    func testNoTimerFiresEarly() {
        var earliest: Int64 = .max
        var firedCount = 0
        var random = SeededRandom(seed: 3)
        for _ in 0..<500 {
            let delay = Nanoseconds.random(in: 0...40_000_000, using: &random)
            let start = DispatchTime.now().uptimeNanoseconds
            _ = loop.clock.schedule(after: delay) {
                earliest = min(earliest, Int64(DispatchTime.now().uptimeNanoseconds - start) - Int64(delay))
                firedCount += 1
            }
        }
        wait("all timers") { firedCount == 500 }
        XCTAssertGreaterThanOrEqual(earliest, 0)
    }

    func testTimersRearmedFromWithinDoNotDriftBeyondTheirDelays() {
        var ticks = 0
        let start = loop.clock.now
        func tick() {
            ticks += 1
            if ticks < 50 { _ = loop.clock.schedule(after: .milliseconds(2), tick) }
        }
        _ = loop.clock.schedule(after: .milliseconds(2), tick)
        wait("fifty ticks") { ticks == 50 }
        XCTAssertGreaterThanOrEqual(loop.clock.now - start, .milliseconds(100))
    }

    func testCancelledTimerDoesNotFireAndReleasesItsAction() {
        final class Token {}
        var token: Token? = Token()
        weak let observed = token
        var fired: [String] = []
        let timer = loop.clock.schedule(after: .milliseconds(1)) { [token] in
            fired.append("cancelled \(String(describing: token))")
        }
        token = nil
        XCTAssertNotNil(observed)
        timer.cancel()
        timer.cancel()
        XCTAssertNil(observed, "what the action held is free at once")
        let last = loop.clock.schedule(after: .milliseconds(5)) { fired.append("last") }
        wait("the timer after it") { !fired.isEmpty }
        XCTAssertEqual(fired, ["last"])
        last.cancel()
    }

    func testTimerCancelledByOneThatIsDueWithIt() {
        var fired: [Int] = []
        var second: (any ScheduledTimer)?
        _ = loop.clock.schedule(after: 0) {
            fired.append(1)
            second?.cancel()
        }
        second = loop.clock.schedule(after: 0) { fired.append(2) }
        _ = loop.clock.schedule(after: .milliseconds(3)) { fired.append(3) }
        wait("the third") { fired.contains(3) }
        XCTAssertEqual(fired, [1, 3])
    }

    func testZeroDelaysInAChainDoNotStarveInput() throws {
        var accepted = false
        let listener = try loop.network.listen(on: HostPort(host: "127.0.0.1", port: 0)) { _ in accepted = true }
        var count = 0
        func again() {
            count += 1
            if !accepted { _ = loop.clock.schedule(after: 0, again) }
        }
        again()
        loop.network.connect(to: listener.address, timeout: .seconds(120)) { _ in }
        wait("a connection beside the chain") { accepted }
        XCTAssertGreaterThan(count, 1)
    }

    func testDelayBeyondTheEndOfTimeNeverFires() {
        var fired = false
        let forever = loop.clock.schedule(after: .max) { fired = true }
        _ = loop.clock.schedule(after: .max / 2) { fired = true }
        XCTAssertFalse(loop.run(until: { fired }, within: .milliseconds(10)))
        forever.cancel()
    }

    func testHundredThousandTimers() {
        let count = 100_000
        var firedCount = 0
        var isOrdered = true
        // Each deadline lies between two readings of the clock; what fired has passed at least this one.
        var passed: Nanoseconds = 0
        var random = SeededRandom(seed: 11)
        let start = DispatchTime.now().uptimeNanoseconds
        for _ in 0..<count {
            let delay = Nanoseconds.random(in: 0...200_000_000, using: &random)
            var latest: Nanoseconds = 0
            let earliest = DispatchTime.now().uptimeNanoseconds + delay
            _ = loop.clock.schedule(after: delay) {
                if latest < passed { isOrdered = false }
                passed = max(passed, earliest)
                firedCount += 1
            }
            latest = DispatchTime.now().uptimeNanoseconds + delay
        }
        let scheduled = DispatchTime.now().uptimeNanoseconds
        wait("all timers", within: .seconds(60)) { firedCount == count }
        XCTAssertTrue(isOrdered)
        let cost = (scheduled - start) / UInt64(count)
        print("scheduling one of \(count) timers: \(cost) ns")
    }

    func testCancelledTimersDoNotPileUp() {
        for _ in 0..<100_000 { loop.clock.schedule(after: .seconds(3600)) {}.cancel() }
        XCTAssertLessThan(loop.loopClock.heapCountForTests, 200)
        let kept = (0..<1000).map { _ in loop.clock.schedule(after: .seconds(3600)) {} }
        for _ in 0..<10_000 { loop.clock.schedule(after: .seconds(1800)) {}.cancel() }
        XCTAssertLessThan(loop.loopClock.heapCountForTests, 2200)
        var fired = false
        _ = loop.clock.schedule(after: .milliseconds(1)) { fired = true }
        wait("a timer among them") { fired }
        for timer in kept { timer.cancel() }
    }

    func testNowStandsStillWithinATurn() {
        var times: [Nanoseconds] = []
        _ = loop.clock.schedule(after: 0) { [loop] in
            times.append(loop.clock.now)
            let end = DispatchTime.now().uptimeNanoseconds + 2_000_000
            while DispatchTime.now().uptimeNanoseconds < end {}
            times.append(loop.clock.now)
            _ = loop.clock.schedule(after: 0) { times.append(loop.clock.now) }
        }
        wait("both timers") { times.count == 3 }
        XCTAssertEqual(times[0], times[1])
        XCTAssertGreaterThanOrEqual(times[2], times[0] + .milliseconds(2))
        XCTAssertLessThan(times[2], loop.clock.now, "outside of a turn the time is read anew")
    }

    func testWallClock() {
        let foundation = Int64(Date().timeIntervalSince1970 * 1000)
        XCTAssertLessThan(abs(loop.clock.wallMilliseconds - foundation), 5_000)
    }

    func testTimersAreReleasedWhenTheLoopCloses() throws {
        final class Token {}
        weak var observed: Token?
        do {
            let token = Token()
            observed = token
            _ = loop.clock.schedule(after: .seconds(3600)) { _ = token }
        }
        XCTAssertNotNil(observed)
        loop.close()
        XCTAssertNil(observed)
    }
}
