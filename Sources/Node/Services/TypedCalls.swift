import Prelude
import Wire
import Workflow

extension GRPCServer {
    /// A unary method with typed messages: a body that is not a `Request` is refused with `INVALID_ARGUMENT`.
    func unary<Request: WireMessage>(
        _ path: String, _ type: Request.Type, _ handler: @escaping (UnaryCall, Request) -> Void
    ) {
        unary(path) { call, bytes in
            do {
                handler(call, try Request(decoding: bytes))
            } catch let failure as DecodingFailure {
                call.fail(GRPCStatus(code: .invalidArgument, message: failure.description))
            } catch {
                call.fail(GRPCStatus(code: .internalError, message: "\(error)"))
            }
        }
    }
}

/// Whoever asked for something, over the wire or from within the process. Takes one answer; later ones are ignored.
protocol ServiceCall: AnyObject {
    /// The caller waits no more; not called when that is so already.
    var onCancel: (() -> Void)? { get set }
    var isCancelled: Bool { get }
    /// What the caller sent along, or nil.
    var trace: TraceContext? { get }
    func respond(_ bytes: [UInt8])
    func fail(_ status: GRPCStatus)
}

extension UnaryCall: ServiceCall {
    var trace: TraceContext? { TraceContext(metadata) }
}

extension TraceContext {
    /// Nil when none was sent along. Several `traceparent` are none; several `tracestate` are one list.
    public init?(_ metadata: Metadata) {
        let parents = metadata.texts(TraceContext.traceparentName)
        guard parents.count == 1 else { return nil }
        let states = metadata.texts(TraceContext.tracestateName).joined(separator: ",")
        self.init(traceparent: parents[0], tracestate: states)
    }
}

extension Metadata {
    /// As callers send it along.
    public init(_ trace: TraceContext) {
        self.init()
        add(TraceContext.traceparentName, trace.traceparent)
        if !trace.tracestate.isEmpty { add(TraceContext.tracestateName, trace.tracestate) }
    }
}

extension ServiceCall {
    func respond(_ message: some WireMessage) { respond(message.encoded()) }

    func fail(_ code: GRPCCode, _ message: String) { fail(GRPCStatus(code: code, message: message)) }

    func fail(_ failure: CommandFailure) { fail(failure.status) }
}

extension CommandFailure {
    var status: GRPCStatus {
        switch self {
        case .overloaded(let reason): GRPCStatus(code: .resourceExhausted, message: reason)
        case .diskFull(let reason): GRPCStatus(code: .resourceExhausted, message: reason)
        case .tooLarge(let reason): GRPCStatus(code: .invalidArgument, message: reason)
        case .outcomeUnknown(let reason):
            GRPCStatus(
                code: .unavailable,
                message:
                    "\(reason). It is not known whether the command took effect: repeat it with the same request_id")
        case .notConfirmed(let reason):
            GRPCStatus(code: .unavailable, message: "\(reason): try again, or ask another node")
        case .shuttingDown:
            GRPCStatus(code: .unavailable, message: "this node is shutting down: ask another one")
        }
    }
}
