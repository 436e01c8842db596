import Prelude

/// What a `TimerQueue` wakes: a call at its deadline, a connection for its keepalive.
protocol TimerQueueMember: AnyObject {
    /// Where the queue keeps the member; -1 outside. The queue's alone to write.
    var timerPlace: Int { get set }
    /// The time has come. The member is out of the queue already.
    func timerFired()
}

/// Many deadlines on one timer of the clock: a binary heap whose members know their places, so that a call
/// that ends in time leaves at once instead of lingering until its deadline.
final class TimerQueue {
    private struct Entry {
        var time: Nanoseconds
        var member: any TimerQueueMember
    }

    private let clock: any Clock
    private var heap: [Entry] = []
    private var armedTime: Nanoseconds = .max
    private var timer: (any ScheduledTimer)?
    private var isFiring = false

    init(clock: any Clock) { self.clock = clock }

    deinit { timer?.cancel() }

    var count: Int { heap.count }

    /// Wakes `member` at `time`, instead of an earlier set time. The queue keeps it alive until then.
    func set(_ member: any TimerQueueMember, at time: Nanoseconds) {
        if member.timerPlace >= 0 {
            let place = member.timerPlace
            heap[place].time = time
            siftDown(siftUp(place))
        } else {
            member.timerPlace = heap.count
            heap.append(Entry(time: time, member: member))
            siftUp(heap.count - 1)
        }
        arm()
    }

    /// Harmless when `member` is not in the queue.
    func remove(_ member: any TimerQueueMember) {
        let place = member.timerPlace
        guard place >= 0 else { return }
        member.timerPlace = -1
        let last = heap.removeLast()
        guard place < heap.count else { return }
        heap[place] = last
        last.member.timerPlace = place
        siftDown(siftUp(place))
    }

    /// The clock's timer is never moved later: a wake-up too early costs less than a timer call per request.
    private func arm() {
        guard !isFiring, let first = heap.first, first.time < armedTime else { return }
        timer?.cancel()
        armedTime = first.time
        let now = clock.now
        timer = clock.schedule(after: first.time > now ? first.time - now : 0) { [weak self] in self?.fire() }
    }

    private func fire() {
        timer = nil
        armedTime = .max
        isFiring = true
        let now = clock.now
        while let first = heap.first, first.time <= now {
            remove(first.member)
            first.member.timerFired()
        }
        isFiring = false
        arm()
    }

    @discardableResult
    private func siftUp(_ start: Int) -> Int {
        var place = start
        let entry = heap[place]
        while place > 0 {
            let parent = (place - 1) / 2
            guard entry.time < heap[parent].time else { break }
            put(heap[parent], at: place)
            place = parent
        }
        put(entry, at: place)
        return place
    }

    private func siftDown(_ start: Int) {
        var place = start
        let entry = heap[place]
        while true {
            var child = 2 * place + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1].time < heap[child].time { child += 1 }
            guard heap[child].time < entry.time else { break }
            put(heap[child], at: place)
            place = child
        }
        put(entry, at: place)
    }

    private func put(_ entry: Entry, at place: Int) {
        heap[place] = entry
        entry.member.timerPlace = place
    }
}

/// A member of a `TimerQueue` that runs a closure.
final class TimerAction: TimerQueueMember {
    var timerPlace = -1
    private let action: () -> Void

    init(_ action: @escaping () -> Void) { self.action = action }

    func timerFired() { action() }
}
