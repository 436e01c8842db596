import CNGHTTP2
import Prelude

extension HTTP2Connection {
    enum Role { case server, client }

    static func openSession(_ role: Role, _ memory: SessionMemory) throws(HTTP2Failure) -> OpaquePointer {
        var option: OpaquePointer?
        try nghttp2(nghttp2_option_new(&option), "nghttp2_option_new")
        defer { nghttp2_option_del(option) }
        // Credit is given by the streams, when their handlers have taken what came.
        nghttp2_option_set_no_auto_window_update(option, 1)
        nghttp2_option_set_no_closed_streams(option, 1)
        // `FloodGuard` counts resets by our own clock.
        nghttp2_option_set_stream_reset_rate_limit(option, .max, .max)

        var functions = memory.functions
        var session: OpaquePointer?
        switch role {
        case .server:
            try nghttp2(
                nghttp2_session_server_new3(&session, HTTP2Callbacks.table, nil, option, &functions),
                "nghttp2_session_server_new3")
        case .client:
            try nghttp2(
                nghttp2_session_client_new3(&session, HTTP2Callbacks.table, nil, option, &functions),
                "nghttp2_session_client_new3")
        }
        guard let session else {
            throw HTTP2Failure(code: NGHTTP2_ERR_NOMEM.rawValue, operation: "nghttp2_session_new3")
        }
        return session
    }

    func submitSettings(_ role: Role) throws(HTTP2Failure) {
        let limits = context.limits
        var settings = [
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue),
                value: UInt32(limits.streamWindowByteCount)),
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE.rawValue),
                value: UInt32(limits.headerListByteCountMax)),
        ]
        switch role {
        case .server:
            settings.append(
                nghttp2_settings_entry(
                    settings_id: Int32(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS.rawValue),
                    value: limits.concurrentStreamCountMax))
        case .client:
            settings.append(
                nghttp2_settings_entry(settings_id: Int32(NGHTTP2_SETTINGS_ENABLE_PUSH.rawValue), value: 0))
        }
        try nghttp2(
            nghttp2_submit_settings(session, UInt8(NGHTTP2_FLAG_NONE.rawValue), settings, settings.count),
            "nghttp2_submit_settings")
        try nghttp2(
            nghttp2_session_set_local_window_size(
                session, UInt8(NGHTTP2_FLAG_NONE.rawValue), 0, limits.connectionWindowByteCount),
            "nghttp2_session_set_local_window_size")
    }
}
