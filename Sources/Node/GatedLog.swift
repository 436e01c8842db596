import Logging
import Prelude
import Telemetry
import Workflow

/// Log lines of which somebody else decides how many there are: each kind goes through the gate. `make check` sees to it
/// that the node writes no others. Confined to its loop.
public final class GatedLog {
    private let logger: Logger
    private let clock: any Clock
    private var gate: LogGate

    public init(_ logger: Logger, clock: any Clock, limits: TelemetryLimits) {
        self.logger = logger
        self.clock = clock
        gate = LogGate(limits: limits)
    }

    /// The first line after some of its kind were held back tells how many.
    public func callAsFunction(
        _ level: Logger.Level, _ message: StaticString, _ metadata: @autoclosure () -> Logger.Metadata = [:]
    ) {
        guard logger.logLevel <= level, let heldBack = gate.admit(message, at: clock.now) else { return }
        var metadata = metadata()
        if heldBack > 0 { metadata["heldBack"] = "\(heldBack)" }
        logger.log(level: level, "\(message)", metadata: metadata)
    }

    /// A line about a run, with the trace that it belongs to.
    func callAsFunction(
        _ level: Logger.Level, _ message: StaticString, of run: WorkflowRun, _ more: Logger.Metadata
    ) {
        var metadata: Logger.Metadata = ["run": "\(run.id)", "workflow": "\(run.workflowID)"]
        if let trace = run.trace { metadata.merge(trace.logMetadata) { first, _ in first } }
        self(level, message, metadata.merging(more) { first, _ in first })
    }
}

extension TraceContext {
    /// As log lines name it: what OpenTelemetry calls the fields, too.
    public var logMetadata: Logger.Metadata { ["trace_id": "\(traceID)", "span_id": "\(parentID)"] }
}

extension Logger.MetadataProvider {
    /// Adds the trace of the run whose code logs: for `LoggingSystem.bootstrap(_:metadataProvider:)`.
    public static let workflowTrace = Logger.MetadataProvider { TraceContext.current?.logMetadata ?? [:] }
}
