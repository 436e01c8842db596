import FoundationEssentials

/// Fails the run with exactly this message. A step that throws it is not tried again.
public struct WorkflowFailure: Error, Equatable, Sendable, CustomStringConvertible {
    public var message: String
    public init(_ message: String) { self.message = message }
    public var description: String { message }
}

/// Wraps an error of a step that trying again would not help.
public struct NonRetryable: Error, CustomStringConvertible {
    public var error: any Error
    public init(_ error: any Error) { self.error = error }
    public var description: String { describe(error) }
}

/// A step failed for good. Recorded: every replay gets the same one.
public struct StepFailed: Error, Equatable, Sendable, CustomStringConvertible {
    public var step: String
    /// How often its last owner tried.
    public var attempts: UInt32
    public var message: String

    public var description: String {
        "step \"\(step)\" failed after \(attempts) \(attempts == 1 ? "attempt" : "attempts"): \(message)"
    }
}

/// A context used where it cannot be: the call did nothing.
public enum WorkflowMisuse: Error, Equatable, Sendable, CustomStringConvertible {
    /// From a task that is not the run's own: `Task {}`, `Task.detached`, or another run.
    case outsideOfRun
    /// From the body of a step, whose calls a replay would not repeat.
    case insideStep
    /// What only the body of a step may do, outside of one.
    case outsideOfStep

    public var description: String {
        switch self {
        case .outsideOfRun:
            "a workflow context was used outside of its run's tasks; use async let or task groups, not Task {}"
        case .insideStep: "a workflow context was used inside the body of a step"
        case .outsideOfStep: "pause is for the bodies of steps; use sleep, which is durable"
        }
    }
}

func describe(_ error: any Error) -> String {
    switch error {
    case let failure as WorkflowFailure: failure.message
    case let wrapped as NonRetryable: describe(wrapped.error)
    case let localized as any LocalizedError: localized.errorDescription ?? "\(error)"
    default: "\(error)"
    }
}
