import Foundation
import Prelude
import Synchronization
import XCTest

@testable import Reactor

final class WorkTests: LoopTestCase {
    func testBodyRunsOffAndCompletionOnTheLoop() {
        let loop = loop
        var outcome: (bodyOnLoop: Bool, completionOnLoop: Bool)?
        loop.work.perform({ loop.isOnLoop }, completion: { outcome = ($0, loop.isOnLoop) })
        XCTAssertNil(outcome)
        wait("the completion") { outcome != nil }
        XCTAssertEqual(outcome?.bodyOnLoop, false)
        XCTAssertEqual(outcome?.completionOnLoop, true)
    }

    func testManyItems() {
        let count = 2000
        var sum = 0
        var completions = 0
        for number in 0..<count {
            loop.work.perform({ number * 2 }) { output in
                sum += output
                completions += 1
            }
        }
        wait("all completions") { completions == count }
        XCTAssertEqual(sum, count * (count - 1))
    }

    func testWorkStartedByACompletion() {
        var depth = 0
        func next() {
            loop.work.perform({ 1 }) { step in
                depth += step
                if depth < 50 { next() }
            }
        }
        next()
        wait("the chain") { depth == 50 }
    }

    func testItemsRunSideBySide() {
        // Each body waits for the other: only two threads can end it.
        let meeting = Meeting()
        var completions = 0
        for _ in 0..<2 { loop.work.perform({ meeting.join() }, completion: { completions += $0 ? 1 : 0 }) }
        wait("both") { completions == 2 }
    }

    func testThreadsAreAsManyAsAreNeededAndNoMoreThanTheLimit() {
        let gate = DoneFlag()
        let running = Atomic<Int>(0)
        let countMax = loop.limits.workThreadCountMax
        var completions = 0
        for _ in 0..<countMax + 2 {
            loop.work.perform {
                running.add(1, ordering: .acquiringAndReleasing)
                while !gate.isSet { sched_yield() }
            } completion: {
                completions += 1
            }
        }
        // Nothing wakes the loop meanwhile, so it is not the loop that waits.
        let end = loop.clock.now + .seconds(120)
        while running.load(ordering: .acquiring) < countMax, loop.clock.now < end { sched_yield() }
        XCTAssertEqual(running.load(ordering: .acquiring), countMax)
        XCTAssertEqual(loop.workThreads.count, countMax)
        XCTAssertEqual(completions, 0)
        gate.set()
        wait("all completions") { completions == countMax + 2 }
        XCTAssertEqual(loop.workThreads.count, countMax)
    }

    func testClosingTheLoopWaitsForWork() {
        let isDone = DoneFlag()
        var completed = false
        loop.work.perform({ isDone.set() }, completion: { completed = true })
        loop.close()
        XCTAssertTrue(isDone.isSet)
        XCTAssertTrue(completed)
        loop.work.perform({ isDone.set() }, completion: { XCTFail("the loop is closed") })
    }

    private final class DoneFlag: Sendable {
        private let value = Atomic<Bool>(false)
        var isSet: Bool { value.load(ordering: .acquiring) }
        func set() { value.store(true, ordering: .releasing) }
    }

    /// Lets two threads wait for each other.
    private final class Meeting: Sendable {
        private let count = Atomic<Int>(0)

        func join() -> Bool {
            count.add(1, ordering: .acquiringAndReleasing)
            let deadline = DispatchTime.now().uptimeNanoseconds + 10_000_000_000
            while count.load(ordering: .acquiring) < 2 {
                if DispatchTime.now().uptimeNanoseconds > deadline { return false }
                sched_yield()
            }
            return true
        }
    }
}
