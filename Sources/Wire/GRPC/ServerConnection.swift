import CNGHTTP2
import Prelude

/// One caller's connection: turns header blocks into calls.
final class ServerConnection: HTTP2Connection {
    private enum Drain { case none, noticed, announced }

    private let server: GRPCServer
    /// Behind a pointer, because every access to a struct within an object is checked for exclusivity while it lasts, and
    /// each field of each request would pay for that.
    private let headers: UnsafeMutablePointer<RequestHeaders>
    private let headerListByteCountMax: Int
    private var drain = Drain.none
    /// The place in the server's table; the server's alone to write.
    var place = 0

    init(_ transport: any Connection, server: GRPCServer) throws(HTTP2Failure) {
        self.server = server
        headerListByteCountMax = server.context.limits.headerListByteCountMax
        headers = .allocate(capacity: 1)
        headers.initialize(to: RequestHeaders())
        try super.init(.server, transport: transport, context: server.context)
    }

    deinit {
        headers.deinitialize(count: 1)
        headers.deallocate()
    }

    // MARK: Requests

    override func beginHeaders(_ category: nghttp2_headers_category) { headers.pointee = RequestHeaders() }

    override func receiveHeader(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        if name == ":path" {
            headers.pointee.setPath(value, server.routes.find(value))
        } else {
            headers.pointee.add(name, value, byteCountMax: headerListByteCountMax)
        }
    }

    override func endHeaders(
        _ streamID: Int32, _ stream: HTTP2Stream?, _ category: nghttp2_headers_category, isEnd: Bool
    ) {
        guard category == NGHTTP2_HCAT_REQUEST else {
            // Trailers of a request mean nothing to gRPC but its end.
            if isEnd { stream?.endReceiving() }
            return
        }
        guard headers.pointee.byteCount <= headerListByteCountMax else {
            return refuse(
                streamID, isEnd,
                GRPCStatus(
                    .resourceExhausted, "more than \(headerListByteCountMax) bytes of headers"))
        }
        switch headers.pointee.method {
        case .post: break
        case .get where !headers.pointee.isGRPC: return refuse(streamID, isEnd, .notFound)
        case .get, .missing, .other: return refuse(streamID, isEnd, .methodNotAllowed)
        }
        guard headers.pointee.isGRPC else { return refuse(streamID, isEnd, .unsupportedMediaType) }
        guard headers.pointee.timeout != .malformed else {
            return refuse(streamID, isEnd, GRPCStatus(.invalidArgument, "malformed grpc-timeout"))
        }
        guard let route = headers.pointee.route else {
            let path = String(decoding: headers.pointee.unknownPath, as: UTF8.self)
            return refuse(streamID, isEnd, GRPCStatus(.unimplemented, "unknown method \(path)"))
        }
        if let authorize = server.authorize, let refusal = authorize(caller(of: route)) {
            return refuse(streamID, isEnd, refusal)
        }
        open(route, streamID, isEnd)
    }

    private func caller(of route: Route) -> Caller {
        Caller(
            path: route.path, identity: (transport as? TLSConnection)?.identity ?? TLSIdentity(),
            metadata: headers.pointee.metadata.decoded(), remoteAddress: remoteAddress)
    }

    private func open(_ route: Route, _ streamID: Int32, _ isEnd: Bool) {
        if case .streaming(let handler) = route.kind {
            begin(ServerStream(headers, route: route, connection: self), streamID, isEnd, handler)
        } else {
            begin(UnaryCall(headers, route: route, connection: self), streamID, isEnd) { _ in }
        }
    }

    private func begin<Call: ServerCall>(
        _ call: Call, _ streamID: Int32, _ isEnd: Bool, _ handler: (Call) -> Void
    ) {
        add(call, id: streamID)
        server.openCallCount += 1
        if let deadline = call.deadline { context.timers.set(call, at: deadline) }
        handler(call)
        if isEnd { call.endReceiving() }
    }

    private func refuse(_ streamID: Int32, _ isEnd: Bool, _ status: GRPCStatus) {
        context.counters.refusedRequestCount += 1
        GRPCHeaders.submitTrailersOnly(
            status, Metadata(), Metadata(), to: self, streamID, isPeerDone: isEnd)
    }

    private func refuse(_ streamID: Int32, _ isEnd: Bool, _ answer: PlainAnswer.Kind) {
        context.counters.refusedRequestCount += 1
        let stream = PlainAnswer(context: context)
        add(stream, id: streamID)
        server.openCallCount += 1
        stream.isPeerDone = isEnd
        stream.submit(answer)
    }

    override func streamLeft() {
        server.openCallCount -= 1
    }

    // MARK: The end

    /// Tells the peer to open no more calls. What it opened before it learnt that is served (RFC 9113 §6.8): only after
    /// its answer to a PING the last stream is named.
    func startDrain() {
        guard drain == .none else { return }
        drain = .noticed
        nghttp2_submit_shutdown_notice(session)
        sendPing(Self.drainPayload)
        waitForPong()
    }

    override func pongReceived(_ payload: UInt64) {
        guard payload == Self.drainPayload, drain == .noticed else { return }
        drain = .announced
        nghttp2_submit_goaway(
            session, UInt8(NGHTTP2_FLAG_NONE.rawValue), nghttp2_session_get_last_proc_stream_id(session),
            HTTP2ErrorCode.noError.rawValue, nil, 0)
    }

    override func closed(_ reason: String) { server.remove(self) }
}
