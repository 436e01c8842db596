import CNGHTTP2
import Prelude

/// One of our calls to another server. Confined to the loop's thread.
public class ClientCall: HTTP2Stream {
    public final let path: String
    public final let metadata: Metadata
    /// By our clock.
    public final let deadline: Nanoseconds?
    final let isWaitingForReady: Bool
    final private(set) var answer = ClientAnswer.waiting
    final private var encoding = MessageEncoding.identity
    private let isEncoding: Bool
    final private var isRetried = false
    /// Among the waiting calls of the channel, whose alone it is to write.
    final var isQueued = false
    final private weak var channel: GRPCChannel?

    private var capturedMetadata = CapturedMetadata()
    private var capturedTrailers = CapturedMetadata()
    /// What came before the first message.
    public final private(set) lazy var responseMetadata = capturedMetadata.decoded()
    /// What came with the status. Complete when the call is.
    public final private(set) lazy var responseTrailers = capturedTrailers.decoded()

    public final var isEnded: Bool { answer == .ended }
    /// Something of the call has gone out: the server may have acted on it.
    public final internal(set) var wasSent = false

    init(
        _ path: String, _ metadata: Metadata, timeout: Nanoseconds?, isWaitingForReady: Bool, isCompressed: Bool,
        channel: GRPCChannel
    ) {
        self.path = path
        isEncoding = isCompressed
        self.metadata = metadata
        self.isWaitingForReady = isWaitingForReady
        self.channel = channel
        if let timeout {
            let (sum, overflow) = channel.context.clock.now.addingReportingOverflow(timeout)
            deadline = overflow ? nil : sum
        } else {
            deadline = nil
        }
        super.init(context: channel.context)
    }

    // MARK: What a kind of call does

    func answerBegan() {}
    /// The status has come, but messages before it wait for being taken.
    var hasStatus: Bool { false }
    /// Called once, last.
    func completed(_ status: GRPCStatus) {}
    /// Puts the request back into `outbox`; false when it is gone.
    func prepareRetry() -> Bool { false }

    // MARK: Ending

    /// Gives the call up: it completes with CANCELLED at the end of the turn, and the server is told.
    public final func cancel() { fail(GRPCStatus(.cancelled, "cancelled by the caller")) }

    /// Ends the call from our side. Completes at the end of the turn, not inside the caller's call.
    final func fail(_ status: GRPCStatus) {
        guard answer != .ended else { return }
        answer = .ended
        leave(.cancel)
        context.postpone { self.completed(status) }
    }

    /// The peer, or the time, has ended the call.
    private final func complete(_ status: GRPCStatus) {
        guard answer != .ended else { return }
        answer = .ended
        context.timers.remove(self)
        stopReceiving()
        completed(status)
    }

    /// Nothing more is sent or received.
    private final func leave(_ error: HTTP2ErrorCode) {
        context.timers.remove(self)
        stopReceiving()
        outbox.removeAll()
        if connection != nil {
            reset(error)
        } else if isQueued {
            channel?.forgetWaiting()
        }
    }

    override final func timerFired() {
        fail(GRPCStatus(.deadlineExceeded, "no answer before the deadline"))
    }

    override final func ended(_ closure: Closure) {
        guard answer != .ended, !hasStatus else { return }
        switch closure {
        case .closed(.refusedStream) where answer == .waiting && !isRetried && prepareRetry():
            // The server has not looked at it (RFC 9113 §8.7): once more, on the connection that is good then.
            isRetried = true
            wasSent = false
            channel?.start(self)
        case .closed(.noError): complete(GRPCStatus(.internalError, "the stream ended without a status"))
        case .closed(let error): complete(GRPCStatus(resetBy: error))
        case .connectionLost(let reason):
            complete(GRPCStatus(.unavailable, "connection to \(channelName) lost: \(reason)"))
        }
    }

    private final var channelName: String { channel.map { "\($0.target)" } ?? "the server" }

    // MARK: The request

    final func addFields(to fields: inout HeaderFields, authority: String) {
        fields.add(GRPCHeaders.requestPseudo)
        fields.add(":authority", authority.utf8)
        fields.add(":path", path.utf8)
        fields.add(GRPCHeaders.request)
        if isEncoding { fields.add(GRPCHeaders.gzip) }
        if let deadline {
            let now = context.clock.now
            fields.add("grpc-timeout", GRPCTimeout.format(deadline > now ? deadline - now : 0).utf8, .never)
        }
        fields.add(metadata)
    }

    final func admit(messageByteCount byteCount: Int) -> Bool {
        let limits = context.limits
        guard answer != .ended else { return false }
        if byteCount > limits.messageByteCountMax {
            fail(
                GRPCStatus(
                    .resourceExhausted, "the request has \(byteCount) bytes, more than \(limits.messageByteCountMax)"))
            return false
        }
        if outbox.byteCount + byteCount > limits.streamOutputByteCountMax {
            fail(GRPCStatus(.resourceExhausted, "the server does not read its requests fast enough"))
            return false
        }
        return true
    }

    final func queue(_ message: UnsafeRawBufferPointer, isCompressed: Bool) {
        if isEncoding, isCompressed, let packed = context.deflater.deflate(message) {
            outbox.append(message: packed, isCompressed: true)
        } else {
            outbox.append(message: message)
        }
    }

    final func queue(_ message: [UInt8], isCompressed: Bool) {
        if isEncoding, isCompressed {
            message.withUnsafeBytes { queue($0, isCompressed: true) }
        } else {
            outbox.append(message: message)
        }
    }

    // MARK: The answer

    final func receive(_ headers: ResponseHeaders, isEnd: Bool) {
        guard headers.byteCount <= context.limits.headerListByteCountMax else {
            return fail(
                GRPCStatus(
                    .resourceExhausted, "the answer has more than \(context.limits.headerListByteCountMax) header bytes"
                ))
        }
        switch answer.receive(headers, isEnd: isEnd) {
        case .ignore: break
        case .begin:
            encoding = headers.encoding
            reader.acceptsGzip = encoding == .gzip
            capturedMetadata = headers.metadata
            answerBegan()
        case .end(let status):
            capturedTrailers = headers.metadata
            isPeerDone = true
            receiveStatus(status)
        case .fail(let status): fail(status)
        }
    }

    /// Messages may still wait for being taken.
    func receiveStatus(_ status: GRPCStatus) { conclude(status) }

    final func conclude(_ status: GRPCStatus) {
        let status =
            status.isOK && reader.bufferedByteCount > 0
            ? GRPCStatus(.internalError, "the answer ends within a message") : status
        complete(status)
        guard ending == .open || outbox.byteCount > 0 else { return }
        // The request's rest is not wanted. Usually the server says so itself, in what was read with the status.
        outbox.removeAll()
        context.postpone { if self.connection != nil { self.reset(.cancel) } }
    }

    override func receiveEnd() {
        // DATA that ends the stream: no trailers follow.
        guard answer != .ended else { return }
        conclude(GRPCStatus(.unknown, "the answer ends without a gRPC status"))
    }

    override func receive(_ chunk: UnsafeRawBufferPointer) {
        if answer == .waiting { fail(GRPCStatus(.internalError, "data before the headers of an answer")) }
        deliver(chunk)
    }

    override func refuse(_ failure: MessageReader.Failure) {
        switch failure {
        case .compressed:
            fail(
                GRPCStatus(
                    .internalError,
                    encoding == .unknown
                        ? "the answer's grpc-encoding is not supported"
                        : "a message is flagged as compressed, but grpc-encoding is not set"))
        case .unknownFlag(let flag): fail(GRPCStatus(.internalError, "a message begins with the unknown flag \(flag)"))
        case .tooLarge(let byteCount):
            fail(
                GRPCStatus(
                    .resourceExhausted,
                    "a message of \(byteCount) bytes, more than \(context.limits.messageByteCountMax)"))
        case .notGzip, .inflatesTooLarge, .noMemory: fail(failure.status(context.limits))
        }
    }

    override func refuseForLackOfRoom() {
        fail(GRPCStatus(.resourceExhausted, "too many received bytes wait for their handlers"))
    }
}

/// A call of ours with one request and one answer.
final class UnaryClientCall: ClientCall {
    private let request: [UInt8]
    private let isCompressed: Bool
    private var response: [UInt8]?
    /// Came while the answer was being inflated.
    private var heldStatus: GRPCStatus?
    private var completion: ((Result<[UInt8], GRPCStatus>) -> Void)?

    init(
        _ path: String, _ request: [UInt8], _ metadata: Metadata, timeout: Nanoseconds?, isWaitingForReady: Bool,
        isCompressed: Bool, channel: GRPCChannel, completion: @escaping (Result<[UInt8], GRPCStatus>) -> Void
    ) {
        self.request = request
        self.isCompressed = isCompressed
        self.completion = completion
        super.init(
            path, metadata, timeout: timeout, isWaitingForReady: isWaitingForReady, isCompressed: isCompressed,
            channel: channel)
        if admit(messageByteCount: request.count) { _ = prepareRetry() }
    }

    override func prepareRetry() -> Bool {
        rewind()
        queue(request, isCompressed: isCompressed)
        end(with: .endStream)
        return true
    }

    override var isTaking: Bool { answer != .ended }

    override func take(_ message: UnsafeRawBufferPointer) {
        guard response == nil else {
            return fail(GRPCStatus(.unimplemented, "the answer to a unary call has more than one message"))
        }
        response = Array(message)
    }

    override func receiveStatus(_ status: GRPCStatus) {
        if isInflating { heldStatus = status } else { conclude(status) }
    }

    override var hasStatus: Bool { heldStatus != nil }

    override func takeEnd() {
        guard let status = heldStatus else { return }
        heldStatus = nil
        conclude(status)
    }

    override func completed(_ status: GRPCStatus) {
        guard let completion else { return }
        self.completion = nil
        switch (status.isOK, response) {
        case (true, let response?): completion(.success(response))
        case (true, nil):
            completion(.failure(GRPCStatus(.unimplemented, "the answer to a unary call has no message")))
        case (false, _): completion(.failure(status))
        }
    }
}
