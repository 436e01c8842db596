import CNGHTTP2
import Prelude

/// A channel's connection to its server.
final class ClientConnection: HTTP2Connection {
    private weak var channel: GRPCChannel?
    private var headers = ResponseHeaders()
    private var streamCountMax = 0
    let startTime: Nanoseconds

    init(_ transport: any Connection, channel: GRPCChannel) throws(HTTP2Failure) {
        self.channel = channel
        startTime = channel.context.clock.now
        try super.init(.client, transport: transport, context: channel.context)
    }

    var hasFreeStream: Bool { phase == .open && streams.count < streamCountMax }

    /// False when the connection has no stream numbers left.
    func open(_ call: ClientCall, authority: String) -> Bool {
        var fields = HeaderFields()
        call.addFields(to: &fields, authority: authority)
        var provider = call.dataProvider()
        let id = fields.withFields { start, count in
            nghttp2_submit_request(
                session, nil, start, count, &provider, Unmanaged.passUnretained(call).toOpaque())
        }
        guard id > 0 else { return false }
        call.wasSent = true
        add(call, id: id)
        flushLater()
        return true
    }

    /// Opens no more calls; the connection closes when the open ones have ended.
    func retire() {
        nghttp2_submit_goaway(
            session, UInt8(NGHTTP2_FLAG_NONE.rawValue), 0, HTTP2ErrorCode.noError.rawValue, nil, 0)
        flushLater()
    }

    override func becameReady() {
        readSettings()
        channel?.connectionBecameReady(self)
    }

    override func receiveSettings() {
        super.receiveSettings()
        readSettings()
    }

    private func readSettings() {
        streamCountMax = Int(
            nghttp2_session_get_remote_settings(session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS))
        channel?.openWaitingLater()
    }

    override func beginHeaders(_ category: nghttp2_headers_category) { headers = ResponseHeaders() }

    override func receiveHeader(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        headers.add(name, value, byteCountMax: context.limits.headerListByteCountMax)
    }

    override func endHeaders(
        _ streamID: Int32, _ stream: HTTP2Stream?, _ category: nghttp2_headers_category, isEnd: Bool
    ) {
        (stream as? ClientCall)?.receive(headers, isEnd: isEnd)
    }

    override func headersNotSent(_ streamID: Int32, error: Int32) {
        guard let stream = streams.first(where: { $0.streamID == streamID }) else { return }
        // The server began to leave between the call and its sending: it has not seen the call.
        let isLeaving = error == NGHTTP2_ERR_START_STREAM_NOT_ALLOWED.rawValue
        let reason = String(cString: nghttp2_strerror(error))
        (stream as? ClientCall)?.fail(
            GRPCStatus(
                isLeaving ? .unavailable : .internalError, "the request's headers cannot be sent: \(reason)"))
        // Whether nghttp2 closes the stream depends on how far it got: it must not find it any more if it does.
        nghttp2_session_set_stream_user_data(session, streamID, nil)
        remove(stream, .closed(.cancel))
    }

    override func receiveGoaway(lastStreamID: Int32, error: HTTP2ErrorCode, debugData: UnsafeRawBufferPointer) {
        let isTooManyPings = error == .enhanceYourCalm && debugData == "too_many_pings"
        channel?.connectionIsLeaving(self, isTooManyPings: isTooManyPings)
    }

    override var isKeepaliveWanted: Bool { !streams.isEmpty }

    override func streamLeft() { channel?.openWaitingLater() }

    override func closed(_ reason: String) { channel?.connectionClosed(self, reason) }
}
