import Prelude

/// How often and at what pace a step is tried. The pauses are not durable: a new owner begins with the first attempt.
public struct RetryPolicy: Equatable, Sendable {
    public var attemptCountMax: UInt32
    /// Before the second attempt.
    public var initialBackoff: Duration
    /// By which each pause is longer than the one before.
    public var backoffFactor: Double
    public var backoffMax: Duration

    public init(
        attemptCountMax: UInt32 = 3, initialBackoff: Duration = .milliseconds(100), backoffFactor: Double = 2,
        backoffMax: Duration = .seconds(10)
    ) {
        self.attemptCountMax = attemptCountMax
        self.initialBackoff = initialBackoff
        self.backoffFactor = backoffFactor
        self.backoffMax = backoffMax
    }

    /// Three attempts, 100 ms and 200 ms apart.
    public static let `default` = RetryPolicy()
    /// One attempt.
    public static let none = RetryPolicy(attemptCountMax: 1)

    /// The pause after the given attempt, counted from 1.
    func backoff(after attempt: UInt32) -> Nanoseconds {
        let longest = Double(backoffMax.nanoseconds)
        var pause = Double(initialBackoff.nanoseconds)
        for _ in 1..<max(1, min(attempt, 64)) where pause < longest { pause *= max(1, backoffFactor) }
        return Nanoseconds(exactly: min(pause, longest).rounded()) ?? backoffMax.nanoseconds
    }
}

extension Duration {
    /// Rounded up; 0 when negative, the largest number when there is no larger one.
    package var nanoseconds: Nanoseconds {
        guard self > .zero else { return 0 }
        let (seconds, attoseconds) = components
        let (whole, isOverflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, isLarger) = whole.addingReportingOverflow(UInt64((attoseconds + 999_999_999) / 1_000_000_000))
        return isOverflow || isLarger ? .max : sum
    }

    /// Rounded up; 0 when negative.
    var milliseconds: UInt64 {
        guard self > .zero else { return 0 }
        let (seconds, attoseconds) = components
        let (whole, isOverflow) = UInt64(seconds).multipliedReportingOverflow(by: 1000)
        let part = UInt64((attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
        let (sum, isLarger) = whole.addingReportingOverflow(part)
        return isOverflow || isLarger ? .max : sum
    }
}

/// Names one attempt of one step, for use as an idempotency key in other systems.
///
/// The description is the same for all attempts of the step by any owner, which is what makes a charge or a booking
/// happen once; `attemptDescription` differs between attempts.
public struct StepToken: Hashable, Sendable, CustomStringConvertible {
    public var run: RunID
    public var position: UInt32
    public var epoch: Epoch
    /// From 1 in each epoch.
    public var attempt: UInt32

    public var description: String { "\(run)-\(position)" }
    public var attemptDescription: String { "\(run)-\(position)-\(epoch)-\(attempt)" }
}
