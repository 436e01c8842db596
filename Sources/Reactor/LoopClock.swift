import CUV
import Glibc
import HeapModule
import Prelude
import Telemetry

/// Timers in one heap. The loop asks for the next deadline before it polls, and runs what is due afterwards;
/// libuv sees a single timer, however many there are here.
final class LoopClock: Clock {
    private var heap = Heap<Entry>()
    private var cancelledCount = 0
    private var nextSequence: UInt64 = 0
    private var turnTime: Nanoseconds?
    private var isTurning = false
    /// How late timers ran.
    let lag = MetricHistogram(bounds: MetricHistogram.secondsBounds)

    var now: Nanoseconds {
        if let turnTime { return turnTime }
        let time = uv_hrtime()
        if isTurning { turnTime = time }
        return time
    }

    var wallMilliseconds: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
    }

    func schedule(after delay: Nanoseconds, _ action: @escaping () -> Void) -> any ScheduledTimer {
        let timer = LoopTimer(clock: self, action: action)
        // Counted from this very moment: with the turn's cached time, which is older, it could fire early.
        let (deadline, isBeyondTime) = uv_hrtime().addingReportingOverflow(delay)
        heap.insert(Entry(deadline: isBeyondTime ? .max : deadline, sequence: nextSequence, timer: timer))
        nextSequence += 1
        return timer
    }

    /// When the loop has to wake; nil when nothing is scheduled.
    func nextDeadline() -> Nanoseconds? {
        while let first = heap.min {
            if first.timer.isScheduled { return first.deadline }
            heap.removeMin()
            cancelledCount -= 1
        }
        return nil
    }

    /// Runs what is due. What these actions schedule is due later, however short its delay, so that input and
    /// output come in between.
    func runDue() {
        let time = now
        while let first = heap.min, first.deadline <= time {
            heap.removeMin()
            if let action = first.timer.takeAction() {
                lag.observe(time - first.deadline)
                action()
            } else {
                cancelledCount -= 1
            }
        }
    }

    func removeAll() {
        for entry in heap.unordered { _ = entry.timer.takeAction() }
        heap = Heap()
        cancelledCount = 0
    }

    /// From here to `endTurn` time is read at most once.
    func beginTurn() {
        isTurning = true
        turnTime = nil
    }

    func endTurn() {
        isTurning = false
        turnTime = nil
    }

    /// Cancelled entries stay in the heap until they come to its top or make up half of it: cancelling costs a
    /// constant on average, and memory stays within twice of what is scheduled.
    fileprivate func timerWasCancelled() {
        cancelledCount += 1
        if cancelledCount > 64, cancelledCount > heap.count / 2 {
            heap = Heap(heap.unordered.filter(\.timer.isScheduled))
            cancelledCount = 0
        }
    }

    var heapCountForTests: Int { heap.count }

    private struct Entry: Comparable {
        let deadline: Nanoseconds
        let sequence: UInt64
        let timer: LoopTimer

        static func < (left: Entry, right: Entry) -> Bool {
            (left.deadline, left.sequence) < (right.deadline, right.sequence)
        }

        static func == (left: Entry, right: Entry) -> Bool { left.sequence == right.sequence }
    }
}

private final class LoopTimer: ScheduledTimer {
    private let clock: LoopClock
    private var action: (() -> Void)?

    init(clock: LoopClock, action: @escaping () -> Void) {
        self.clock = clock
        self.action = action
    }

    var isScheduled: Bool { action != nil }

    func takeAction() -> (() -> Void)? {
        defer { action = nil }
        return action
    }

    func cancel() {
        if takeAction() != nil { clock.timerWasCancelled() }
    }
}
