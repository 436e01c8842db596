import HeapModule
import Prelude

/// Virtual time, and everything that is still to happen. One thread; the same seed gives the same course of events.
///
/// Events are ordered by time, and at the same time by when they were scheduled. Random numbers come in streams, one
/// for each concern, so that a draw more in one place does not shift all the others.
public final class SimulatedWorld {
    public let seed: UInt64
    public private(set) var now: Nanoseconds = .seconds(1)
    /// Events that have happened.
    public private(set) var stepCount: UInt64 = 0
    /// Over everything that has happened so far.
    public private(set) var traceHash: UInt64 = 0xCBF2_9CE4_8422_2325
    /// The loop whose code runs at the moment.
    var current: SimulatedLoop?
    /// Gets a line for everything that is traced, to find where two runs begin to differ.
    var traceSink: ((String) -> Void)?

    private var events = Heap<Event>()
    /// What happens at each event, by its slot: apart from the heap, which then moves nothing but numbers.
    private var occurrences: [Occurrence] = []
    private var freeSlots: [UInt32] = []
    /// Loops that have their turn as soon as the present event is over.
    private var prompt: SimulatedLoop?
    private var furtherPrompt: [SimulatedLoop] = []
    private var isInEvent = false
    private var nextSequence: UInt64 = 0

    public init(seed: UInt64) { self.seed = seed }

    /// A stream of random numbers for one concern.
    public func random(_ concern: String) -> SeededRandom {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in concern.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        var mixer = SeededRandom(seed: seed ^ hash)
        return SeededRandom(seed: mixer.next())
    }

    // MARK: - Events

    enum Occurrence {
        case turn(SimulatedLoop)
        case timer(SimulatedTimer)
        case arrival(SimulatedEndpoint)
        case action(() -> Void)
        case nothing
    }

    private struct Event: Comparable {
        let time: Nanoseconds
        let sequence: UInt64
        let slot: UInt32

        static func < (left: Event, right: Event) -> Bool {
            left.time < right.time || left.time == right.time && left.sequence < right.sequence
        }

        static func == (left: Event, right: Event) -> Bool { left.sequence == right.sequence }
    }

    func schedule(at time: Nanoseconds, _ occurrence: Occurrence) {
        let slot: UInt32
        if let free = freeSlots.popLast() {
            slot = free
            occurrences[Int(free)] = occurrence
        } else {
            slot = UInt32(occurrences.count)
            occurrences.append(occurrence)
        }
        events.insert(Event(time: max(time, now), sequence: nextSequence, slot: slot))
        nextSequence += 1
    }

    /// The loop's turn follows in this very event, as when a process is woken at once; false outside of events.
    func turnPromptly(_ loop: SimulatedLoop) -> Bool {
        guard isInEvent else { return false }
        if prompt == nil { prompt = loop } else { furtherPrompt.append(loop) }
        return true
    }

    func schedule(after delay: Nanoseconds, _ action: @escaping () -> Void) {
        schedule(at: now + min(delay, 1 << 60), .action(action))
    }

    /// Lets the next event happen; false when there is none before `end`, which is the time then.
    func step(until end: Nanoseconds) -> Bool {
        guard let next = events.min, next.time <= end else {
            now = max(now, end)
            return false
        }
        events.removeMin()
        now = next.time
        stepCount += 1
        let occurrence = occurrences[Int(next.slot)]
        occurrences[Int(next.slot)] = .nothing
        freeSlots.append(next.slot)
        isInEvent = true
        happen(occurrence)
        // A loop that wants another turn gets an event for it, so that time goes on.
        isInEvent = false
        if let loop = prompt {
            prompt = nil
            loop.turn()
        }
        if !furtherPrompt.isEmpty {
            let loops = furtherPrompt
            furtherPrompt = []
            for loop in loops { loop.turn() }
        }
        return true
    }

    private func happen(_ occurrence: Occurrence) {
        switch occurrence {
        case .turn(let loop): loop.turn()
        case .timer(let timer): timer.fire()
        case .arrival(let endpoint): endpoint.segmentArrived()
        case .action(let action): action()
        case .nothing: invariantBroken("an event happens once")
        }
    }

    // MARK: - Trace

    /// Mixes something that happened into the trace.
    func trace(_ value: UInt64, _ what: StaticString) {
        mix(value)
        traceSink?("\(stepCount) \(now) \(current?.host ?? "-") \(what) \(value)")
    }

    private func mix(_ value: UInt64) {
        traceHash = (traceHash ^ value) &* 0x9E37_79B9_7F4A_7C15
        traceHash ^= traceHash >> 29
    }

    func trace(_ bytes: UnsafeRawBufferPointer, from endpoint: SimulatedEndpoint) {
        traceSink?(
            "\(stepCount) \(now) \(endpoint.localHost) to \(endpoint.remoteAddress), connection \(endpoint.number): "
                + String(decoding: bytes, as: UTF8.self).debugDescription)
        mix(endpoint.number)
        var place = 0
        while place + 8 <= bytes.count {
            mix(bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self))
            place += 8
        }
        var rest: UInt64 = UInt64(bytes.count)
        while place < bytes.count {
            rest = rest << 8 | UInt64(bytes[place])
            place += 1
        }
        mix(rest)
    }
}

extension SeededRandom {
    /// True `perMille` times in a thousand.
    mutating func chance(perMille: Int) -> Bool { Int.random(in: 0..<1000, using: &self) < perMille }

    mutating func draw(_ range: ClosedRange<UInt64>) -> UInt64 { UInt64.random(in: range, using: &self) }
    mutating func draw(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }

    /// Spread evenly over orders of magnitude: short times are as likely as long ones.
    mutating func drawLogarithmic(_ range: ClosedRange<UInt64>) -> UInt64 {
        let low = 64 - max(1, range.lowerBound).leadingZeroBitCount
        let high = 64 - max(1, range.upperBound).leadingZeroBitCount
        let bits = draw(low...high)
        let top = bits >= 64 ? UInt64.max : (1 << UInt64(bits)) - 1
        let bottom = UInt64(1) << UInt64(bits - 1)
        return min(max(draw(bottom...max(bottom, top)), range.lowerBound), range.upperBound)
    }

    mutating func pick<Element>(_ elements: [Element]) -> Element? {
        elements.isEmpty ? nil : elements[Int.random(in: 0..<elements.count, using: &self)]
    }
}
