import Prelude
import Synchronization

/// A number that only rises. From any thread.
public final class MetricCounter: Sendable {
    private let bits = Atomic<UInt64>(0)

    public init() {}

    public var value: Double { Double(bitPattern: bits.load(ordering: .relaxed)) }

    public func increment(by amount: Double = 1) {
        // What is not a number or would bring it down has no meaning for a counter.
        guard amount > 0, amount.isFinite else { return }
        bits.add(amount)
    }

    public func reset() { bits.store(0, ordering: .relaxed) }
}

/// A number that rises and falls. From any thread.
public final class MetricGauge: Sendable {
    private let bits = Atomic<UInt64>(0)

    public init() {}

    public var value: Double { Double(bitPattern: bits.load(ordering: .relaxed)) }

    public func set(_ value: Double) { bits.store(value.bitPattern, ordering: .relaxed) }
    public func increment(by amount: Double = 1) { bits.add(amount) }
}

/// How often values fell below each of some bounds. From any thread.
public final class MetricHistogram: Sendable {
    /// Upper bounds, rising; a last bucket takes what is above all of them.
    public let bounds: [Double]
    private let counts: Counts
    private let sumBits = Atomic<UInt64>(0)

    /// Seconds, from a tenth of a millisecond to ten seconds: what calls, writes and elections take.
    public static let secondsBounds: [Double] = [
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
    ]

    /// `bounds` are sorted; those that are no finite numbers are left out.
    public init(bounds: [Double] = secondsBounds) {
        self.bounds = bounds.filter(\.isFinite).sorted()
        counts = Counts(self.bounds.count + 1)
    }

    public func observe(_ value: Double) {
        guard !value.isNaN else { return }
        // A handful of bounds: cheaper than a binary search.
        var place = 0
        while place < bounds.count, value > bounds[place] { place += 1 }
        counts.increment(place)
        sumBits.add(value)
    }

    public func observe(_ span: Nanoseconds) { observe(Double(span) / 1e9) }

    /// Of each bucket alone, the last one for what is above all bounds; and the sum of all values.
    public var state: (counts: [UInt64], sum: Double) {
        ((0...bounds.count).map { counts[$0] }, Double(bitPattern: sumBits.load(ordering: .relaxed)))
    }
}

/// Atomic numbers in a row.
private final class Counts: @unchecked Sendable {
    // Unchecked, because a pointer is not Sendable; all that is done through this one is atomic.
    private let start: UnsafeMutablePointer<Atomic<UInt64>>
    private let count: Int

    init(_ count: Int) {
        self.count = count
        start = .allocate(capacity: count)
        for place in 0..<count { (start + place).initialize(to: Atomic(0)) }
    }

    deinit {
        start.deinitialize(count: count)
        start.deallocate()
    }

    func increment(_ place: Int) { start[place].wrappingAdd(1, ordering: .relaxed) }

    subscript(place: Int) -> UInt64 { start[place].load(ordering: .relaxed) }
}

extension Atomic where Value == UInt64 {
    /// Adds to a number that is kept as its bits.
    fileprivate borrowing func add(_ amount: Double) {
        var old = load(ordering: .relaxed)
        while true {
            let new = (Double(bitPattern: old) + amount).bitPattern
            let (isExchanged, found) = weakCompareExchange(expected: old, desired: new, ordering: .relaxed)
            if isExchanged { return }
            old = found
        }
    }
}
