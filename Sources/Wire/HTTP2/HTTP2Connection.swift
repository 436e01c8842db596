import CNGHTTP2
import Prelude

/// One HTTP/2 connection: nghttp2's session between the bytes of a `Connection` and the streams of a server or
/// client.
///
/// Everything received is handled at once, by nghttp2's callbacks; everything to be sent waits for the turn's end,
/// when `flush` writes it in one piece.
///
/// Phases: `handshaking` until the peer's SETTINGS, `open`, `closing` from our last frame until the connection is
/// closed, `closed`. Invalid events: a callback of nghttp2 after `closed` would be our own bug; whatever the peer
/// does wrong is found by nghttp2, which answers with RST_STREAM or GOAWAY, or by `FloodGuard`; reads and timers that
/// come after the end are benign races and ignored.
class HTTP2Connection: ConnectionHandler {
    enum Phase { case handshaking, open, closing, closed }

    let context: HTTP2Context
    let transport: any Connection
    let remoteAddress: HostPort
    let session: OpaquePointer
    final private(set) var phase = Phase.handshaking
    final private(set) var streams: [HTTP2Stream] = []
    /// As `HTTP2Context.inboundByteCount`, of this connection.
    final var inboundByteCount = 0
    /// As `HTTP2Context.outboundByteCount`, of this connection.
    final var outboundByteCount = 0
    /// Of the header block that is arriving, as SETTINGS_MAX_HEADER_LIST_SIZE counts.
    final var headerBlockByteCount = 0
    /// A frame has come to its end since the last look. Bytes alone are no progress: who sends one now and then never
    /// gets to the end of a frame, nor can it answer a PING within one.
    final var hasCompletedFrame = false
    /// The stream that kept a pointer into what is being read. Not counted: it is one of `streams`.
    final private var holder: Unmanaged<HTTP2Stream>?

    /// Bytes that their streams hold without credit, and how much of that the connection's window lacks.
    final private var heldByteCount = 0
    final private var owedByteCount = 0

    final private var isWaitingForFlush = false
    final private var isInSession = false
    final private var failure: String?
    final private var writable: [HTTP2Stream] = []
    final private var answered: [Int32] = []
    final private var flood: FloodGuard
    final var keepalive = Keepalive()
    final var timerPlace = -1

    init(_ role: Role, transport: any Connection, context: HTTP2Context) throws(HTTP2Failure) {
        self.context = context
        self.transport = transport
        remoteAddress = transport.remoteAddress
        let limits = context.limits
        flood = FloodGuard(burst: limits.unproductiveFrameBurstMax, perSecond: limits.unproductiveFramesPerSecondMax)
        session = try Self.openSession(role, context.memory)
        nghttp2_session_set_user_data(session, Unmanaged.passUnretained(self).toOpaque())
        try submitSettings(role)
        startHandshakeTimer()
        flushLater()
    }

    deinit {
        for stream in streams { stream.connection = nil }
        nghttp2_session_del(session)
    }

    // MARK: What a kind of connection does

    /// The peer's first SETTINGS have come.
    func becameReady() {}
    /// A header block begins; its fields and its end follow before anything else.
    func beginHeaders(_ category: nghttp2_headers_category) {}
    func receiveHeader(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {}
    func endHeaders(_ streamID: Int32, _ stream: HTTP2Stream?, _ category: nghttp2_headers_category, isEnd: Bool) {}
    func receiveGoaway(lastStreamID: Int32, error: HTTP2ErrorCode, debugData: UnsafeRawBufferPointer) {}
    /// HEADERS that were submitted cannot be sent.
    func headersNotSent(_ streamID: Int32, error: Int32) {}
    func pongReceived(_ payload: UInt64) {}
    /// Whether a silent peer is asked for a sign of life.
    var isKeepaliveWanted: Bool { true }
    func streamLeft() {}
    /// Nothing follows; every stream has left.
    func closed(_ reason: String) {}

    // MARK: Streams

    final func add(_ stream: HTTP2Stream, id: Int32) {
        stream.connection = self
        stream.streamID = id
        stream.slot = streams.count
        streams.append(stream)
        nghttp2_session_set_stream_user_data(session, id, Unmanaged.passUnretained(stream).toOpaque())
    }

    final func stream(_ id: Int32) -> HTTP2Stream? {
        guard let pointer = nghttp2_session_get_stream_user_data(session, id) else { return nil }
        return Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue()
    }

    /// Takes `stream` out and tells it; nothing refers to it afterwards.
    final func remove(_ stream: HTTP2Stream, _ closure: HTTP2Stream.Closure) {
        invariant(stream.connection === self, "a stream leaves once")
        if holder?.toOpaque() == Unmanaged.passUnretained(stream).toOpaque() { holder = nil }
        let last = streams.removeLast()
        if last !== stream {
            streams[stream.slot] = last
            last.slot = stream.slot
        }
        stream.slot = -1
        stream.leaveConnection()
        if stream.timerPlace >= 0 { context.timers.remove(stream) }
        stream.ended(closure)
        streamLeft()
    }

    final func becameWritable(_ stream: HTTP2Stream) { writable.append(stream) }

    /// Gives the peer credit for what is not held any more. The connection's window is kept open in spite of held
    /// bytes until these exceed it, so that one paused stream does not stop the others.
    final func settle(_ streamID: Int32, received: Int, held: Int, isEnded: Bool) {
        heldByteCount += held
        owedByteCount += received
        // The window updates that this leads to are sent even when nothing else is to be said.
        flushLater()
        if received > held, !isEnded { nghttp2_session_consume_stream(session, streamID, received - held) }
        let due = owedByteCount - max(0, heldByteCount - Int(context.limits.connectionWindowByteCount))
        guard due > 0 else { return }
        owedByteCount -= due
        nghttp2_session_consume_connection(session, due)
    }

    // MARK: Bytes in

    final func connectionDidRead(_ bytes: UnsafeRawBufferPointer) {
        guard phase == .handshaking || phase == .open else { return }
        context.counters.receivedByteCount &+= UInt64(bytes.count)
        isInSession = true
        let result = nghttp2_session_mem_recv(
            session, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count)
        letGo()
        isInSession = false
        if hasCompletedFrame {
            hasCompletedFrame = false
            keepalive.progressTime = context.clock.now
        }
        if result < 0, failure == nil { noteReceiveError(nghttp2_error(Int32(result))) }
        if let failure { return abort(failure) }
        flushLater()
    }

    private final func noteReceiveError(_ error: nghttp2_error) {
        failure = String(cString: nghttp2_strerror(error.rawValue))
        switch error {
        // nghttp2 counts these itself: what it would have to acknowledge, and the parts of a header block.
        case NGHTTP2_ERR_FLOODED, NGHTTP2_ERR_TOO_MANY_CONTINUATIONS: context.counters.floodCount += 1
        default: context.counters.protocolErrorCount += 1
        }
    }

    /// `stream` keeps a pointer into what is being read.
    final func hold(_ stream: HTTP2Stream) {
        letGo()
        holder = Unmanaged.passUnretained(stream)
    }

    private final func letGo() {
        holder?._withUnsafeGuaranteedRef { $0.keepHeldMessage() }
        holder = nil
    }

    /// False for a field of a header block that is larger by far than was announced: whoever sends that means harm.
    final func admitHeader(byteCount: Int) -> Bool {
        headerBlockByteCount += byteCount
        guard headerBlockByteCount > context.limits.headerBlockByteCountMax else { return true }
        context.counters.headerBombCount += 1
        nghttp2_session_terminate_session(session, HTTP2ErrorCode.enhanceYourCalm.rawValue)
        return false
    }

    final func resetSent(_ error: HTTP2ErrorCode) {
        // These two are our own decisions: the answer came before the request's end, or nobody takes it.
        if error == .noError || error == .cancel { return }
        context.counters.inducedResetCount += 1
        countUnproductiveFrame()
    }

    /// The peer is told to go. What we tell it to go for is counted where that is decided.
    final func goAwaySent(_ error: HTTP2ErrorCode) {
        if error != .noError, error != .enhanceYourCalm { context.counters.protocolErrorCount += 1 }
    }

    /// A frame that costs work and brings none. Too many, and the peer is told to go.
    final func countUnproductiveFrame() {
        guard !flood.admit(at: context.clock.now) else { return }
        context.counters.floodCount += 1
        nghttp2_session_terminate_session(session, HTTP2ErrorCode.enhanceYourCalm.rawValue)
    }

    func receiveSettings() {
        guard phase == .handshaking else { return }
        phase = .open
        startKeepalive()
        becameReady()
    }

    // MARK: Bytes out

    final func flushLater() {
        guard !isWaitingForFlush, phase != .closed else { return }
        isWaitingForFlush = true
        context.flushLater(self)
    }

    /// Writes what nghttp2 has to say, as long as the transport takes it.
    final func flush() {
        isWaitingForFlush = false
        guard phase == .handshaking || phase == .open else { return }
        let output = context.output
        var isEverythingSent = fill(output)
        if isEverythingSent, resetAnswered() { isEverythingSent = fill(output) }
        write(output)
        if let failure { return abort(failure) }
        tellWritable()
        if nghttp2_session_want_read(session) == 0, nghttp2_session_want_write(session) == 0 {
            close()
        } else {
            // A peer that does not read its answers gets no more requests read.
            let isBlocked = !isEverythingSent && isTransportFull
            setReadingPaused(isBlocked)
            // The system took it all at once: nobody will tell that there is room.
            if !isEverythingSent, !isBlocked { flushLater() }
        }
    }

    /// The answer to the request is complete before the request: the rest of it is not wanted (RFC 9113 §8.1).
    final func resetWhenAnswered(_ streamID: Int32) { answered.append(streamID) }

    /// Only when the answer is out: nghttp2 sends nothing more on a stream that it is asked to reset. True when there
    /// was one.
    private final func resetAnswered() -> Bool {
        guard !answered.isEmpty else { return false }
        let count = answered.count
        answered.removeAll { streamID in
            switch nghttp2_session_get_stream_local_close(session, streamID) {
            case 0: return false
            case 1:
                nghttp2_submit_rst_stream(
                    session, UInt8(NGHTTP2_FLAG_NONE.rawValue), streamID, HTTP2ErrorCode.noError.rawValue)
            default: break
            }
            return true
        }
        return answered.count < count
    }

    private var isTransportFull: Bool {
        transport.bufferedByteCount >= context.limits.outputHighWatermarkByteCount
    }

    private final func setReadingPaused(_ isPaused: Bool) {
        guard keepalive.isReadingPaused != isPaused else { return }
        keepalive.isReadingPaused = isPaused
        transport.isReadingPaused = isPaused
    }

    /// False when the transport's watermark came before the end.
    private final func fill(_ output: OutputBuffer) -> Bool {
        let watermark = context.limits.outputHighWatermarkByteCount
        var buffered = transport.bufferedByteCount
        isInSession = true
        defer { isInSession = false }
        while failure == nil {
            guard buffered + output.count < watermark else { return false }
            var bytes: UnsafePointer<UInt8>?
            let count = nghttp2_session_mem_send(session, &bytes)
            if count < 0, failure == nil { failure = String(cString: nghttp2_strerror(Int32(count))) }
            guard count > 0, let bytes else { break }
            output.append(bytes, count)
            if output.count >= Self.writeByteCount {
                write(output)
                buffered = transport.bufferedByteCount
            }
        }
        return true
    }

    /// A write is made early when there is as much as this, so that a long answer does not grow the buffer.
    private static let writeByteCount = 256 << 10

    private final func write(_ output: OutputBuffer) {
        if output.count > 0 {
            context.counters.sentByteCount &+= UInt64(output.count)
            transport.write(output.bytes)
        }
        output.removeAll()
    }

    private final func tellWritable() {
        guard !writable.isEmpty else { return }
        let streams = writable
        writable = []
        for stream in streams where stream.connection != nil { stream.becameWritable() }
    }

    final func connectionDidDrain() {
        keepalive.progressTime = context.clock.now
        flushLater()
    }

    // MARK: The end

    /// After what is written already. The peer has a while to take it.
    private final func close() {
        phase = .closing
        removeStreams("the HTTP/2 session is over")
        transport.closeAfterFlush()
        startLingerTimer()
    }

    /// At once. Within a callback of nghttp2 only the intention is noted.
    final func abort(_ reason: String) {
        guard phase != .closed else { return }
        if failure == nil { failure = reason }
        if isInSession { return }
        transport.close()
        finish(failure ?? reason)
    }

    final func connectionDidClose(_ reason: NetworkError) { finish("\(reason)") }

    private final func finish(_ reason: String) {
        guard phase != .closed else { return }
        phase = .closed
        context.timers.remove(self)
        holder = nil
        writable = []
        removeStreams(reason)
        closed(reason)
    }

    private final func removeStreams(_ reason: String) {
        while let stream = streams.last { remove(stream, .connectionLost(reason)) }
    }
}
