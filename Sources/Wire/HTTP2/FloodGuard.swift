import Prelude

/// Bounds the frames of one peer that cost work and bring none: RST_STREAM, PING, SETTINGS, PRIORITY, empty DATA and
/// what breaks the protocol. A token bucket: `burst` at once, then `perSecond`.
struct FloodGuard {
    private let burst: UInt64
    private let interval: Nanoseconds
    /// The bucket, kept as the time at which it was or will be full (GCRA).
    private var fullTime: Nanoseconds = 0

    init(burst: UInt64, perSecond: UInt64) {
        self.burst = max(1, burst)
        self.interval = .seconds(1) / max(1, perSecond)
    }

    /// Takes one token; false when there is none left.
    mutating func admit(at now: Nanoseconds) -> Bool {
        let next = max(fullTime, now) + interval
        guard next - now <= burst * interval else { return false }
        fullTime = next
        return true
    }
}
