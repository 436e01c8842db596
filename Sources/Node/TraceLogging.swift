import Logging
import Workflow

extension TraceContext {
    /// As log lines name it: what OpenTelemetry calls the fields, too.
    public var logMetadata: Logger.Metadata { ["trace_id": "\(traceID)", "span_id": "\(parentID)"] }
}

extension Logger.MetadataProvider {
    /// Adds the trace of the run whose code logs: for `LoggingSystem.bootstrap(_:metadataProvider:)`.
    public static let workflowTrace = Logger.MetadataProvider { TraceContext.current?.logMetadata ?? [:] }
}
