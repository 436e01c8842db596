import CNGHTTP2
import Prelude

/// What unary and streaming calls have in common at the server. Confined to the loop's thread.
public class ServerCall: HTTP2Stream {
    let route: Route
    private let captured: CapturedMetadata
    private let requestEncoding: MessageEncoding
    private let acceptsGzip: Bool
    private var isAnswerEncoded = false
    final private(set) var answer = ServerAnswer.nothing
    final private var status = GRPCStatus.ok
    private let startTime: Nanoseconds

    /// When the caller stops waiting, by the server's clock.
    public final let deadline: Nanoseconds?
    public final let remoteAddress: HostPort
    /// The caller reset the call or is gone, or the deadline has passed: an answer has no effect any more.
    public final private(set) var isCancelled = false
    /// Called once when that happens before the call has been answered. A handler that sets it late looks at
    /// `isCancelled` first.
    public final var onCancel: (() -> Void)?
    /// Whether answers are compressed, for callers that understand it. Looked at for each message; what it is when the
    /// answer begins decides whether any can be.
    public final var compression = MessageCompression.inKind
    /// The last message that was handed over came compressed.
    public final internal(set) var isRequestCompressed = false
    /// Sent before the first message.
    public final var responseMetadata = Metadata()
    /// Sent with the status.
    public final var responseTrailers = Metadata()
    public final private(set) lazy var metadata = captured.decoded()

    public final var path: String { route.path }

    init(_ headers: UnsafePointer<RequestHeaders>, route: Route, connection: ServerConnection) {
        self.route = route
        captured = headers.pointee.metadata
        requestEncoding = headers.pointee.encoding
        acceptsGzip = headers.pointee.acceptsGzip
        remoteAddress = connection.remoteAddress
        startTime = connection.context.clock.now
        route.metrics.startedCount += 1
        if case .after(let timeout) = headers.pointee.timeout {
            let (sum, overflow) = connection.context.clock.now.addingReportingOverflow(timeout)
            deadline = overflow ? nil : sum
        } else {
            deadline = nil
        }
        super.init(context: connection.context)
        reader.acceptsGzip = requestEncoding == .gzip
    }

    // MARK: Answering

    /// Sends the headers if that has not happened yet; false when the call is over.
    final func begin() -> Bool {
        switch answer.send() {
        case .ignore: return false
        case .queue: return true
        case .beginAndQueue: break
        }
        return withConnection { connection in
            var provider = dataProvider()
            isAnswerEncoded = acceptsGzip && isCompressing
            if responseMetadata.isEmpty, !isAnswerEncoded {
                let fields = GRPCHeaders.response
                nghttp2_submit_response(connection.session, streamID, fields.start, fields.count, &provider)
            } else {
                var fields = HeaderFields()
                fields.add(GRPCHeaders.response)
                if isAnswerEncoded { fields.add(GRPCHeaders.gzip) }
                fields.add(responseMetadata)
                fields.withFields { _ = nghttp2_submit_response(connection.session, streamID, $0, $1, &provider) }
            }
            connection.flushLater()
            return true
        } ?? false
    }

    private var isCompressing: Bool {
        switch compression {
        case .never: false
        case .inKind: requestEncoding == .gzip
        case .always: true
        }
    }

    final func queue(_ message: [UInt8]) {
        let packed = isAnswerEncoded ? message.withUnsafeBytes { compressed($0) } : nil
        outbox.append(message: packed ?? message, isCompressed: packed != nil)
    }

    final func queue(_ message: UnsafeRawBufferPointer) {
        if isAnswerEncoded, let packed = compressed(message) {
            outbox.append(message: packed, isCompressed: true)
        } else {
            outbox.append(message: message)
        }
    }

    /// Nil: it goes as it is.
    private final func compressed(_ message: UnsafeRawBufferPointer) -> [UInt8]? {
        switch compression {
        case .never: return nil
        case .always: return context.deflater.deflate(message)
        case .inKind:
            guard message.count >= context.limits.compressedByteCountMin,
                context.deflater.admit(message.count, turn: context.turnNumber),
                let packed = context.deflater.deflate(message), packed.count < message.count
            else { return nil }
            return packed
        }
    }

    /// Whether `byteCount` more may be sent. If not, the call has failed.
    final func admit(messageByteCount byteCount: Int) -> Bool {
        let limits = context.limits
        if byteCount > limits.messageByteCountMax {
            conclude(
                GRPCStatus(
                    .resourceExhausted, "the answer has \(byteCount) bytes, more than \(limits.messageByteCountMax)"))
            return false
        }
        if outbox.byteCount + byteCount > limits.streamOutputByteCountMax || !hasRoomForOutput(byteCount) {
            context.counters.unreadOutputCount += 1
            outbox.removeAll()
            conclude(GRPCStatus(.resourceExhausted, "the caller does not read its answers fast enough"))
            return false
        }
        return true
    }

    private final func hasRoomForOutput(_ byteCount: Int) -> Bool {
        let ofConnection = (withConnection(\.outboundByteCount) ?? 0) + byteCount
        return ofConnection <= context.limits.outboundByteCountPerConnectionMax
            && context.outboundByteCount + byteCount <= context.limits.outboundByteCountMax
    }

    override final var isAnswered: Bool { answer == .ended }

    /// The status goes out after the messages that wait; nothing can be added.
    final func conclude(_ status: GRPCStatus) {
        let action = answer.finish()
        guard action != .ignore else { return }
        self.status = status
        route.metrics.ended(status.code, after: context.clock.now - startTime, isTimed: route.isUnary)
        switch action {
        case .trailersOnly: submitTrailersOnly()
        case .trailers: end(with: .trailers)
        case .ignore: break
        }
        stopReceiving()
        countOutput()
        if deadline != nil, outbox.byteCount == 0 { context.timers.remove(self) }
        onCancel = nil
    }

    private final func submitTrailersOnly() {
        guard let connection else { return }
        GRPCHeaders.submitTrailersOnly(
            status, responseMetadata, responseTrailers, to: connection, streamID, isPeerDone: isPeerDone)
    }

    override final func submitTrailers() {
        _ = withConnection {
            GRPCHeaders.submitTrailers(status, responseTrailers, to: $0, streamID, isPeerDone: isPeerDone)
        }
    }

    // MARK: Failing

    final func status(for failure: MessageReader.Failure) -> GRPCStatus {
        switch failure {
        case .compressed where requestEncoding == .unknown:
            GRPCStatus(
                .unimplemented, "messages with this grpc-encoding are not supported: use \(MessageEncoding.accepted)")
        case .compressed:
            GRPCStatus(.internalError, "a message is flagged as compressed, but grpc-encoding is not set")
        case .unknownFlag(let flag):
            GRPCStatus(.internalError, "a message begins with the unknown flag \(flag)")
        case .tooLarge(let byteCount):
            GRPCStatus(
                .resourceExhausted, "a message of \(byteCount) bytes, more than \(context.limits.messageByteCountMax)")
        case .notGzip, .inflatesTooLarge, .noMemory: failure.status(context.limits)
        }
    }

    final func failOverloaded() {
        conclude(GRPCStatus(.resourceExhausted, "too many received bytes wait for their handlers"))
    }

    /// The handler is told, once, and only when it still had something to say.
    private final func cancel(_ status: GRPCStatus) {
        guard answer != .ended else { return }
        isCancelled = true
        let tell = onCancel
        outbox.removeAll()
        conclude(status)
        tell?()
    }

    override final func timerFired() {
        if answer == .ended {
            // Answered, but the caller has not taken the answer in time.
            reset(.cancel)
        } else {
            cancel(GRPCStatus(.deadlineExceeded, "the deadline passed before the answer"))
        }
    }

    override final func ended(_ closure: Closure) {
        cancel(GRPCStatus(.cancelled))
        finished()
    }

    /// The stream is gone: what refers to the handler can go too.
    func finished() {}
}
