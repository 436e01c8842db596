import Prelude
import Telemetry

/// What the connections of one server or channel did. Plain numbers, because they are counted for every read.
struct WireCounters {
    var acceptedConnectionCount: UInt64 = 0
    /// Closed at once: too many, or the server leaves.
    var refusedConnectionCount: UInt64 = 0
    /// Connections cut because the other side was silent: in the handshake, or after a PING.
    var timeoutCount: UInt64 = 0
    /// Connections ended because of frames that cost work and bring none.
    var floodCount: UInt64 = 0
    /// Connections ended for a header block far beyond the announced limit.
    var headerBombCount: UInt64 = 0
    /// Connections ended because what came was no HTTP/2, or broke its rules.
    var protocolErrorCount: UInt64 = 0
    /// Streams that we reset for what the other side did wrong; too many count as a flood.
    var inducedResetCount: UInt64 = 0
    /// Answers given up because nothing of them was taken.
    var stalledAnswerCount: UInt64 = 0
    /// Calls that failed because too much waited to be taken by their caller, or by all.
    var unreadOutputCount: UInt64 = 0
    /// Requests that no handler saw: unknown path, no gRPC, malformed.
    var refusedRequestCount: UInt64 = 0
    /// Messages given up because they inflate beyond the limit of messages.
    var inflationBombCount: UInt64 = 0
    var receivedByteCount: UInt64 = 0
    var sentByteCount: UInt64 = 0
}

/// The calls of one path. Confined to the loop.
final class RouteMetrics {
    var startedCount: UInt64 = 0
    /// By the raw value of the status code.
    private(set) var endedCounts = [UInt64](repeating: 0, count: GRPCCode.allCases.count)
    let seconds = MetricHistogram()

    func ended(_ code: GRPCCode, after span: Nanoseconds, isTimed: Bool) {
        endedCounts[Int(code.rawValue)] += 1
        if isTimed { seconds.observe(span) }
    }
}

extension GRPCServer {
    /// Connections, calls by method and status, and their durations. The labels are the paths that are registered.
    public func collect(into exposition: inout Exposition) {
        collectConnections(into: &exposition)
        for route in routes.all {
            let metrics = route.metrics
            let labels = [("method", route.path)]
            exposition.counter(
                "raftoral_grpc_server_started_total", "Calls that began, by method.", metrics.startedCount, labels)
            for code in GRPCCode.allCases {
                let count = metrics.endedCounts[Int(code.rawValue)]
                guard count > 0 || code == .ok else { continue }
                exposition.counter(
                    "raftoral_grpc_server_handled_total", "Calls that ended, by method and status.", count,
                    labels + [("code", code.name)])
            }
            if route.isUnary {
                exposition.histogram(
                    "raftoral_grpc_server_handling_seconds", "Time from the headers of a unary call to its status.",
                    metrics.seconds, labels)
            }
        }
    }

    private func collectConnections(into exposition: inout Exposition) {
        let counters = context.counters
        exposition.gauge("raftoral_wire_connections", "Open connections of callers.", connectionCount)
        exposition.gauge("raftoral_wire_open_calls", "Calls under way.", openCallCount)
        exposition.gauge(
            "raftoral_wire_inbound_buffered_bytes", "Received and not yet taken by a handler.",
            context.inboundByteCount)
        exposition.counter(
            "raftoral_wire_connections_accepted_total", "Connections taken.", counters.acceptedConnectionCount)
        exposition.counter(
            "raftoral_wire_connections_refused_total", "Connections closed at once: too many, or the node leaves.",
            counters.refusedConnectionCount)
        exposition.counter(
            "raftoral_wire_timeouts_total", "Connections cut because the other side was silent.",
            counters.timeoutCount)
        exposition.counter(
            "raftoral_wire_floods_total", "Connections ended for frames that only cost work.", counters.floodCount)
        exposition.counter(
            "raftoral_wire_header_bombs_total", "Connections ended for headers far beyond the limit.",
            counters.headerBombCount)
        exposition.counter(
            "raftoral_wire_protocol_errors_total",
            "Connections ended because what came was no HTTP/2, or broke its rules.",
            counters.protocolErrorCount)
        exposition.counter(
            "raftoral_wire_induced_resets_total", "Streams reset for what their callers did wrong.",
            counters.inducedResetCount)
        exposition.counter(
            "raftoral_wire_stalled_answers_total", "Answers given up because nothing of them was taken.",
            counters.stalledAnswerCount)
        exposition.counter(
            "raftoral_wire_unread_output_total", "Calls failed because too much waited to be taken.",
            counters.unreadOutputCount)
        exposition.counter(
            "raftoral_wire_inflation_bombs_total", "Compressed messages given up for what they inflate to.",
            counters.inflationBombCount)
        exposition.gauge(
            "raftoral_wire_outbound_buffered_bytes", "Waiting in calls to be sent.", context.outboundByteCount)
        exposition.counter(
            "raftoral_wire_requests_refused_total", "Requests that no method saw: unknown path, not gRPC, malformed.",
            counters.refusedRequestCount)
        exposition.counter(
            "raftoral_wire_received_bytes_total", "Bytes of HTTP/2 received from callers.", counters.receivedByteCount)
        exposition.counter(
            "raftoral_wire_sent_bytes_total", "Bytes of HTTP/2 sent to callers.", counters.sentByteCount)
    }

    /// The services of which a method is registered, sorted.
    public var serviceNames: [String] {
        let names = routes.all.compactMap { $0.path.split(separator: "/").first.map(String.init) }
        return Set(names).sorted()
    }
}

extension GRPCCode {
    /// As gRPC's own documents write it.
    var name: String {
        switch self {
        case .ok: "OK"
        case .cancelled: "CANCELLED"
        case .unknown: "UNKNOWN"
        case .invalidArgument: "INVALID_ARGUMENT"
        case .deadlineExceeded: "DEADLINE_EXCEEDED"
        case .notFound: "NOT_FOUND"
        case .alreadyExists: "ALREADY_EXISTS"
        case .permissionDenied: "PERMISSION_DENIED"
        case .resourceExhausted: "RESOURCE_EXHAUSTED"
        case .failedPrecondition: "FAILED_PRECONDITION"
        case .aborted: "ABORTED"
        case .outOfRange: "OUT_OF_RANGE"
        case .unimplemented: "UNIMPLEMENTED"
        case .internalError: "INTERNAL"
        case .unavailable: "UNAVAILABLE"
        case .dataLoss: "DATA_LOSS"
        case .unauthenticated: "UNAUTHENTICATED"
        }
    }
}
