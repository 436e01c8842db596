import CNGHTTP2
import Prelude

/// One call as one HTTP/2 stream: what is received and not yet taken, what is to be sent, the credit given to the peer.
public class HTTP2Stream {
    /// What follows the last byte of `outbox`.
    enum Ending { case open, endStream, trailers }

    /// Why a stream is over.
    enum Closure {
        /// Both sides ended it, or one reset it.
        case closed(HTTP2ErrorCode)
        case connectionLost(String)
    }

    let context: HTTP2Context
    /// nil before and after the stream's life.
    final var connection: HTTP2Connection? {
        get { uncountedConnection?.takeUnretainedValue() }
        set { uncountedConnection = newValue.map(Unmanaged.passUnretained) }
    }
    /// A connection that goes away takes itself out of here.
    final private var uncountedConnection: Unmanaged<HTTP2Connection>?
    final var streamID: Int32 = 0
    /// The place in the connection's table; the connection's alone to write.
    final var slot = -1
    var timerPlace = -1

    final var outbox = OutgoingMessages()
    final private(set) var ending = Ending.open
    /// nghttp2 asked for data when there was none: it waits to be told that there is some.
    final private var isStarved = false
    final private var isAboveWatermark = false
    /// The peer sends no more frames: the stream needs no window.
    final var isLastFrame = false
    /// The peer has ended its side.
    final var isPeerDone = false {
        didSet { isLastFrame = isPeerDone }
    }

    final var reader: MessageReader
    /// Received bytes that the peer's flow-control window has not got back yet.
    final private var uncreditedByteCount = 0
    /// What the connection and the context count as waiting here to be sent.
    final private var countedOutputByteCount = 0
    /// `outbox.byteCount` at the last look for stalled answers.
    final private var outputByteCountMark = 0
    final private var isDelivering = false
    final private var isDeliveryPostponed = false
    /// What the connection and the context count as buffered here.
    final private var bufferedByteCount = 0
    /// The message at the front of `reader` waits for being inflated.
    final private var inflation: MessageInflater.Ticket?
    final var isInflating: Bool { inflation != nil }

    init(context: HTTP2Context) {
        self.context = context
        reader = MessageReader(messageByteCountMax: context.limits.messageByteCountMax)
    }

    /// Nil without a connection. As `connection`, without counting references, which happens ten times for a call otherwise.
    /// Precondition: `body` does not end the connection, as nothing does within the call of a handler.
    @inline(__always)
    final func withConnection<Result>(_ body: (HTTP2Connection) -> Result) -> Result? {
        uncountedConnection.map { $0._withUnsafeGuaranteedRef(body) }
    }

    // MARK: What a kind of stream does

    /// Data arrived. Everything of `chunk` must be used or kept: nothing is handed over twice.
    func receive(_ chunk: UnsafeRawBufferPointer) {}
    /// The peer ends its side in order; no data follows.
    func receiveEnd() {}
    /// `receive` kept a pointer into what the connection read, which is about to go away.
    func keepHeldMessage() {}
    /// Adds the trailers after the last byte of `outbox`.
    func submitTrailers() {}
    /// `outbox` has come down again after `queue` returned false.
    func becameWritable() {}
    /// Nothing follows; the stream has left its connection. What it has buffered is its own to release.
    func ended(_ closure: Closure) {}
    func timerFired() {}
    /// Nothing is added to `outbox` any more, and it is the peer's to take.
    var isAnswered: Bool { false }

    // What `deliver` asks and tells.
    var isTaking: Bool { false }
    func take(_ message: UnsafeRawBufferPointer) {}
    /// The compressed message at the front of `reader` is inflated. Whoever does not take it now is told again later.
    func takeInflated(_ message: [UInt8]) {
        if isTaking {
            reader.dropCompressedMessage()
            message.withUnsafeBytes { take($0) }
        }
    }
    func takeEnd() {}
    func refuse(_ failure: MessageReader.Failure) {}
    func refuseForLackOfRoom() {}

    // MARK: Sending

    /// Call after bytes were added to `outbox`. False when there are more than should be.
    final func outboxGrew() -> Bool {
        feed()
        if outbox.byteCount > context.limits.streamOutputHighWatermarkByteCount { isAboveWatermark = true }
        return !isAboveWatermark
    }

    final func end(with ending: Ending) {
        self.ending = ending
        feed()
    }

    private final func feed() {
        _ = withConnection { connection in
            countOutput(connection)
            if isStarved {
                isStarved = false
                nghttp2_session_resume_data(connection.session, streamID)
            }
            connection.flushLater()
        }
    }

    /// The data source for this stream's HEADERS.
    final func dataProvider() -> nghttp2_data_provider {
        nghttp2_data_provider(
            source: nghttp2_data_source(ptr: Unmanaged.passUnretained(self).toOpaque()),
            read_callback: HTTP2Callbacks.readData)
    }

    /// nghttp2 asks how much it may send next; `moveData` follows when that is more than nothing.
    final func offerData(_ byteCountMax: Int, _ flags: inout UInt32) -> Int {
        let count = min(byteCountMax, outbox.byteCount)
        if count == outbox.byteCount {
            switch ending {
            case .open:
                if count == 0 {
                    isStarved = true
                    return Int(NGHTTP2_ERR_DEFERRED.rawValue)
                }
            case .endStream:
                flags |= NGHTTP2_DATA_FLAG_EOF.rawValue
            case .trailers:
                flags |= NGHTTP2_DATA_FLAG_EOF.rawValue | NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue
                submitTrailers()
            }
        }
        if count > 0 { flags |= NGHTTP2_DATA_FLAG_NO_COPY.rawValue }
        return count
    }

    /// Writes a DATA frame: the header that nghttp2 made, and the next bytes of `outbox`.
    final func moveData(_ byteCount: Int, after frameHeader: UnsafePointer<UInt8>, _ headerByteCount: Int) {
        let target = context.output.extend(by: headerByteCount + byteCount)
        target.copyMemory(from: frameHeader, byteCount: headerByteCount)
        outbox.move(byteCount, to: target + headerByteCount)
        countOutput()
        if isAboveWatermark, outbox.byteCount <= context.limits.streamOutputHighWatermarkByteCount / 2 {
            isAboveWatermark = false
            connection?.becameWritable(self)
        }
    }

    /// Call after `outbox` has changed.
    final func countOutput() { _ = withConnection(countOutput) }

    @inline(__always)
    private final func countOutput(_ connection: HTTP2Connection) {
        let growth = outbox.byteCount - countedOutputByteCount
        countedOutputByteCount += growth
        connection.outboundByteCount += growth
        context.outboundByteCount += growth
    }

    /// True when a complete answer lies here as it did at the last look.
    final func isStalledSinceLastLook() -> Bool {
        guard isAnswered, outbox.byteCount > 0 else {
            outputByteCountMark = 0
            return false
        }
        if outbox.byteCount == outputByteCountMark { return true }
        outputByteCountMark = outbox.byteCount
        return false
    }

    final func reset(_ error: HTTP2ErrorCode) {
        guard let connection else { return }
        nghttp2_submit_rst_stream(
            connection.session, UInt8(NGHTTP2_FLAG_NONE.rawValue), streamID, error.rawValue)
        connection.flushLater()
    }

    /// As it was before it had a connection.
    final func rewind() {
        stopReceiving()
        outbox.removeAll()
        ending = .open
        isStarved = false
        isAboveWatermark = false
        isPeerDone = false
        reader = MessageReader(messageByteCountMax: context.limits.messageByteCountMax)
    }

    // MARK: Receiving

    final func endReceiving() {
        isPeerDone = true
        receiveEnd()
    }

    /// Hands over the messages of what was kept and `chunk`, until nobody takes any more; then, when the peer is
    /// done, the end.
    final func deliver(_ chunk: UnsafeRawBufferPointer) {
        isDelivering = true
        defer { isDelivering = false }
        var rest = chunk
        var isDry = false
        while !isDry, isTaking, !isInflating {
            switch reader.next(&rest) {
            case .needMore: isDry = true
            case .inChunk(let message): take(message)
            case .assembled(let message): message.withUnsafeBytes { take($0) }
            case .compressed: inflate()
            case .failed(let failure): refuse(failure)
            }
        }
        reader.keep(rest)
        if !settle(received: chunk.count, isPaused: !isDry) { return refuseForLackOfRoom() }
        if isDry, isPeerDone { takeEnd() }
    }

    /// Inflates the message at the front of `reader`: now, or in turns to come.
    final func inflate() {
        let (outcome, ticket) = context.inflater.inflate(for: self)
        inflation = ticket
        settleInflation(outcome)
    }

    /// In a turn to come the message is inflated, or is found not to be one.
    final func inflated(_ outcome: MessageInflater.Outcome) {
        inflation = nil
        settleInflation(outcome)
        continueAfterInflation()
    }

    private final func settleInflation(_ outcome: MessageInflater.Outcome) {
        switch outcome {
        case .done(let message): takeInflated(message)
        case .failed(let failure): refuse(failure)
        case .waiting: break
        }
    }

    func continueAfterInflation() { deliver(UnsafeRawBufferPointer(start: nil, count: 0)) }

    /// Whoever stopped taking takes again: at the end of the turn, not inside the caller's call.
    final func deliverLater() {
        guard isTaking, !isDelivering, !isDeliveryPostponed, reader.bufferedByteCount > 0 || isPeerDone else { return }
        isDeliveryPostponed = true
        context.postpone { [weak self] in
            self?.isDeliveryPostponed = false
            self?.deliver(UnsafeRawBufferPointer(start: nil, count: 0))
        }
    }

    /// Keeps the books after the reader has seen `received` new bytes: those that are buffered although nobody may read
    /// them stay on the peer's account. False when more is buffered than should be.
    final func settle(received: Int, isPaused: Bool) -> Bool {
        let buffered = reader.bufferedByteCount
        let growth = buffered - bufferedByteCount
        if growth != 0 {
            bufferedByteCount = buffered
            context.inboundByteCount += growth
        }
        return withConnection { connection in
            connection.inboundByteCount += growth
            let owed = uncreditedByteCount + received
            if owed > 0 {
                let held = isPaused ? min(owed, buffered) : 0
                connection.settle(streamID, received: received, held: held - uncreditedByteCount, isEnded: isLastFrame)
                uncreditedByteCount = held
            }
            return growth <= 0 || hasRoom(connection)
        } ?? true
    }

    private final func hasRoom(_ connection: HTTP2Connection) -> Bool {
        connection.inboundByteCount <= context.limits.inboundByteCountPerConnectionMax
            && context.inboundByteCount <= context.limits.inboundByteCountMax
    }

    /// The stream is over, but what it has received may still be read.
    final func leaveConnection() {
        _ = withConnection { connection in
            connection.inboundByteCount -= bufferedByteCount
            connection.outboundByteCount -= countedOutputByteCount
            context.outboundByteCount -= countedOutputByteCount
            countedOutputByteCount = 0
            connection.settle(streamID, received: 0, held: -uncreditedByteCount, isEnded: true)
            uncreditedByteCount = 0
        }
        uncountedConnection = nil
    }

    /// Forgets what was received; what comes from now on is credited at once and not kept.
    final func stopReceiving() {
        inflation?.void()
        inflation = nil
        reader.removeAll()
        _ = settle(received: 0, isPaused: false)
    }
}

extension HTTP2Stream: TimerQueueMember {}
