import Foundation
import Prelude
import Synchronization
import XCTest

@testable import Reactor

final class ExecutorTests: LoopTestCase {
    private actor Other {
        var count = 0
        func add(_ loop: EventLoop) -> Bool {
            count += 1
            return loop.isOnLoop
        }
    }

    private final class Flag: Sendable {
        private let value = Atomic<Int>(0)
        var count: Int { value.load(ordering: .acquiring) }
        var isSet: Bool { count > 0 }
        func set() { value.add(1, ordering: .releasing) }
    }

    func testEveryStepOfATaskRunsOnTheLoop() throws {
        let loop = loop
        let done = Flag()
        let off = Flag()
        let other = Other()
        loop.start {
            for _ in 0..<100 {
                if !loop.isOnLoop { off.set() }
                await Task.yield()
                if await !other.add(loop) { off.set() }
                async let part = loop.isOnLoop
                if await !part { off.set() }
                await withTaskGroup(of: Bool.self) { group in
                    for _ in 0..<4 { group.addTask { loop.isOnLoop } }
                    for await isOnLoop in group where !isOnLoop { off.set() }
                }
            }
            done.set()
        }
        wait("the task") { done.isSet }
        XCTAssertFalse(off.isSet, "a step ran on another thread")
        XCTAssertFalse(loop.isOnLoop, "nobody runs the loop now")
    }

    func testNoJobGoesThroughTheGlobalPool() throws {
        let loop = loop
        let done = Flag()
        let other = Other()
        let before = try GlobalEnqueueCounter.install()
        loop.start {
            for _ in 0..<1000 {
                await Task.yield()
                _ = await other.add(loop)
                await withCheckedContinuation { continuation in loop.submit { continuation.resume() } }
            }
            done.set()
        }
        wait("the task") { done.isSet }
        XCTAssertEqual(GlobalEnqueueCounter.count, before)
        // The counter does count.
        let elsewhere = Flag()
        Task.detached {
            elsewhere.set()
            loop.submit {}
        }
        wait("a detached task") { elsewhere.isSet }
        XCTAssertGreaterThan(GlobalEnqueueCounter.count, before)
    }

    func testContinuationResumedFromOtherThreads() throws {
        let loop = loop
        let done = Flag()
        let off = Flag()
        loop.start {
            for _ in 0..<200 {
                await withCheckedContinuation { continuation in
                    Thread.detachNewThread { continuation.resume() }
                }
                if !loop.isOnLoop { off.set() }
            }
            done.set()
        }
        wait("the continuations") { done.isSet }
        XCTAssertFalse(off.isSet)
    }

    func testSubmittedActionsRunOnTheLoopInOrder() throws {
        let loop = loop
        let seen = Lock()
        nonisolated(unsafe) var order: [Int] = []  // Under `seen`.
        let finished = Flag()
        for thread in 0..<4 {
            Thread.detachNewThread {
                for step in 0..<1000 {
                    loop.submit { seen.withLock { order.append(thread * 1000 + step) } }
                }
                loop.submit { finished.set() }
            }
        }
        wait("all actions") { finished.count == 4 }
        let all = seen.withLock { order }
        XCTAssertEqual(all.count, 4000)
        for thread in 0..<4 {
            let own = all.filter { $0 / 1000 == thread }
            XCTAssertEqual(own, own.sorted(), "the order of one thread is kept")
        }
    }

    func testJobsThatEnqueueJobsDoNotStarveTimersAndTurns() throws {
        let loop = loop
        let stop = Flag()
        let spinner = loop.start {
            var count = 0
            while !stop.isSet {
                await Task.yield()
                count += 1
            }
            return count
        }
        var firings = 0
        var turns = 0
        let request = loop.turns.register { turns += 1 }
        func again() {
            request.request()
            firings += 1
            if firings < 20 { _ = loop.clock.schedule(after: .milliseconds(1), again) } else { stop.set() }
        }
        again()
        let done = Flag()
        nonisolated(unsafe) var yields = 0  // Written before `done` is set, read after.
        loop.start {
            yields = await spinner.value
            done.set()
        }
        wait("the timers beside the spinning task") { done.isSet }
        XCTAssertGreaterThan(turns, 15)
        XCTAssertGreaterThan(yields, loop.limits.jobCountPerTurnMax)
    }

    func testLoopRunsOnTheThreadThatRunsIt() throws {
        let loop = loop
        let ended = Flag()
        Thread.detachNewThread {
            loop.run()
            ended.set()
        }
        let task = loop.start { () -> Bool in
            await Task.yield()
            return loop.isOnLoop
        }
        let answered = expectation(description: "the task ended on the loop")
        Task {
            let value = await task.value
            XCTAssertTrue(value)
            loop.stop()
            answered.fulfill()
        }
        wait(for: [answered], timeout: 120)
        while !ended.isSet { sched_yield() }
        XCTAssertFalse(loop.isOnLoop)
    }

    func testStopBeforeRunEndsTheNextRun() throws {
        loop.stop()
        loop.run()
        var ran = false
        loop.submit {}
        _ = loop.clock.schedule(after: 0) { [loop] in
            ran = true
            loop.stop()
        }
        loop.run()
        XCTAssertTrue(ran, "a stop counts once")
    }

    func testLoopBoundValueOpensOnTheLoop() throws {
        final class Confined { var count = 0 }
        let confined = Confined()
        let box = LoopBound(confined, to: loop)
        let done = Flag()
        loop.start {
            for _ in 0..<10 {
                box.value.count += 1
                await Task.yield()
            }
            done.set()
        }
        wait("the task") { done.isSet }
        XCTAssertEqual(confined.count, 10)
    }

    func testEnqueueAfterCloseIsHarmless() throws {
        let loop = loop
        let resumed = Flag()
        nonisolated(unsafe) var kept: CheckedContinuation<Void, Never>?  // Read after the loop has stopped.
        loop.start {
            await withCheckedContinuation { kept = $0 }
            resumed.set()
        }
        wait("the suspension") { kept != nil }
        loop.close()
        loop.close()
        kept?.resume()
        loop.submit { resumed.set() }
        loop.stop()
        loop.start { resumed.set() }
        XCTAssertFalse(resumed.isSet)
    }

    func testSubmitRacesWithClose() throws {
        for _ in 0..<50 {
            let loop = try EventLoop()
            let started = Flag()
            let finished = Flag()
            Thread.detachNewThread {
                started.set()
                for _ in 0..<200 { loop.submit {} }
                finished.set()
            }
            loop.run(until: { started.isSet }, within: .milliseconds(1))
            loop.close()
            while !finished.isSet { sched_yield() }
        }
    }
}

private let globalEnqueueCount = Atomic<Int>(0)

/// Counts the jobs that go to the global pool of Swift concurrency, by the runtime's hook. Once installed it
/// stays, and passes every job on.
private enum GlobalEnqueueCounter {
    private typealias Original = @convention(c) (OpaquePointer) -> Void
    private typealias Hook = @convention(c) (OpaquePointer, Original) -> Void

    static var count: Int { globalEnqueueCount.load(ordering: .acquiring) }

    /// The count so far.
    static func install() throws -> Int {
        let place = try XCTUnwrap(dlsym(nil, "swift_task_enqueueGlobal_hook"))
        // The runtime calls it by Swift's convention, which for two pointers is that of C.
        place.assumingMemoryBound(to: Hook?.self).pointee = { job, original in
            globalEnqueueCount.add(1, ordering: .releasing)
            original(job)
        }
        return count
    }
}
