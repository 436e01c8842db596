import Prelude

/// Holds back log lines that a peer can cause at will: of each kind a few at once, then one per interval. Confined to
/// its loop.
///
/// The line that gets through tells how many of its kind did not.
public struct LogGate {
    private struct Bucket {
        var fullTime: Nanoseconds = 0
        var suppressedCount: UInt64 = 0
    }

    private let burst: UInt64
    private let interval: Nanoseconds
    private var buckets: [StaticKey: Bucket] = [:]

    /// Names a kind of line by the place in the program that writes it, so that there are no more kinds than places.
    private struct StaticKey: Hashable {
        let address: Int
    }

    public init(limits: TelemetryLimits = TelemetryLimits()) {
        burst = max(1, limits.logBurstCount)
        interval = .milliseconds(max(1, limits.logIntervalMilliseconds))
    }

    /// Nil: hold the line back. Otherwise how many were held back since the last one that was not.
    public mutating func admit(_ kind: StaticString, at now: Nanoseconds) -> UInt64? {
        let key = StaticKey(address: Int(bitPattern: kind.utf8Start))
        var bucket = buckets[key] ?? Bucket()
        defer { buckets[key] = bucket }
        let next = max(bucket.fullTime, now) + interval
        guard next - now <= burst * interval else {
            bucket.suppressedCount += 1
            return nil
        }
        bucket.fullTime = next
        defer { bucket.suppressedCount = 0 }
        return bucket.suppressedCount
    }
}
