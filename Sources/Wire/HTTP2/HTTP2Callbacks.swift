import CNGHTTP2
import Prelude

/// What nghttp2 calls. Each finds the connection and the stream by the pointers that nghttp2 keeps for us and hands on;
/// the connection outlives its session's calls, and a stream leaves its connection before nghttp2 forgets it.
///
/// Submitting frames from here is allowed, receiving and sending is not: both wait for the end of the turn.
enum HTTP2Callbacks {
    struct Table: @unchecked Sendable {
        // Sendable: filled once, then only read, by nghttp2 when it opens a session.
        let pointer: OpaquePointer?
    }

    static var table: OpaquePointer? { shared.pointer }

    private static let shared: Table = {
        var callbacks: OpaquePointer?
        guard nghttp2_session_callbacks_new(&callbacks) == 0 else { return Table(pointer: nil) }
        nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, beginHeaders)
        nghttp2_session_callbacks_set_on_header_callback(callbacks, receiveHeader)
        nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, receiveFrame)
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, receiveData)
        nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks, receiveInvalidFrame)
        nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, closeStream)
        nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, frameNotSent)
        nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, frameSent)
        nghttp2_session_callbacks_set_send_data_callback(callbacks, sendData)
        return Table(pointer: callbacks)
    }()

    private static var beginHeaders: nghttp2_on_begin_headers_callback {
        { _, frame, pointer in
            guard let frame else { return 0 }
            return withConnection(pointer) { connection in
                connection.headerBlockByteCount = 0
                connection.beginHeaders(frame.pointee.headers.cat)
            }
        }
    }

    private static var receiveHeader: nghttp2_on_header_callback {
        { _, _, name, nameCount, value, valueCount, _, pointer in
            var isBomb = false
            _ = withConnection(pointer) { connection in
                isBomb = !connection.admitHeader(byteCount: nameCount + valueCount + 32)
                guard !isBomb else { return }
                connection.receiveHeader(
                    UnsafeRawBufferPointer(start: name, count: nameCount),
                    UnsafeRawBufferPointer(start: value, count: valueCount))
            }
            // The rest of this block is decompressed for the sake of the table, but neither checked nor told.
            return isBomb ? NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue : 0
        }
    }

    private static var receiveData: nghttp2_on_data_chunk_recv_callback {
        { session, flags, streamID, bytes, count, _ in
            guard let stream = nghttp2_session_get_stream_user_data(session, streamID) else {
                // Answered already and forgotten.
                nghttp2_session_consume(session, streamID, count)
                return 0
            }
            return withStream(stream) { stream in
                // More of this frame may follow, but no other one.
                if flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0 { stream.isLastFrame = true }
                stream.receive(UnsafeRawBufferPointer(start: bytes, count: count))
            }
        }
    }

    private static var receiveFrame: nghttp2_on_frame_recv_callback {
        { _, frame, pointer in
            guard let frame else { return 0 }
            return withConnection(pointer) { $0.receive(frame) }
        }
    }

    private static var receiveInvalidFrame: nghttp2_on_invalid_frame_recv_callback {
        { _, _, _, pointer in withConnection(pointer) { $0.countUnproductiveFrame() } }
    }

    private static var closeStream: nghttp2_on_stream_close_callback {
        { _, streamID, error, pointer in
            withConnection(pointer) { connection in
                guard let stream = connection.stream(streamID) else { return }
                connection.remove(stream, .closed(HTTP2ErrorCode(rawValue: error)))
            }
        }
    }

    private static var frameNotSent: nghttp2_on_frame_not_send_callback {
        { _, frame, error, pointer in
            guard let frame, UInt32(frame.pointee.hd.type) == NGHTTP2_HEADERS.rawValue else { return 0 }
            return withConnection(pointer) {
                $0.headersNotSent(frame.pointee.hd.stream_id, error: error)
            }
        }
    }

    /// CVE-2025-8671: a peer that makes us reset its streams pays for it as for resets of its own.
    private static var frameSent: nghttp2_on_frame_send_callback {
        { _, frame, pointer in
            guard let frame else { return 0 }
            switch nghttp2_frame_type(UInt32(frame.pointee.hd.type)) {
            case NGHTTP2_RST_STREAM:
                return withConnection(pointer) {
                    $0.resetSent(HTTP2ErrorCode(rawValue: frame.pointee.rst_stream.error_code))
                }
            case NGHTTP2_GOAWAY:
                return withConnection(pointer) {
                    $0.goAwaySent(HTTP2ErrorCode(rawValue: frame.pointee.goaway.error_code))
                }
            default: return 0
            }
        }
    }

    static var readData: nghttp2_data_source_read_callback {
        { _, _, _, byteCountMax, flags, source, _ in
            guard let flags, let pointer = source?.pointee.ptr else {
                return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
            }
            var result = 0
            _ = withStream(pointer) { result = $0.offerData(byteCountMax, &flags.pointee) }
            return result
        }
    }

    private static var sendData: nghttp2_send_data_callback {
        { _, _, frameHeader, byteCount, source, _ in
            guard let frameHeader, let pointer = source?.pointee.ptr else {
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
            }
            return withStream(pointer) { $0.moveData(byteCount, after: frameHeader, frameHeaderByteCount) }
        }
    }
}

// Outside the enumeration, because a C function may capture nothing, not even a type.
private let frameHeaderByteCount = 9

// Neither retains: the connection is alive while its session is called, a stream until it has left its connection.
@inline(__always)
private func withConnection(_ pointer: UnsafeMutableRawPointer?, _ body: (HTTP2Connection) -> Void) -> Int32 {
    invariant(pointer != nil, "a session knows its connection")
    Unmanaged<HTTP2Connection>.fromOpaque(pointer.unsafelyUnwrapped)._withUnsafeGuaranteedRef(body)
    return 0
}

@inline(__always)
private func withStream(_ pointer: UnsafeMutableRawPointer, _ body: (HTTP2Stream) -> Void) -> Int32 {
    Unmanaged<HTTP2Stream>.fromOpaque(pointer)._withUnsafeGuaranteedRef(body)
    return 0
}

extension HTTP2Connection {
    fileprivate func receive(_ frame: UnsafePointer<nghttp2_frame>) {
        hasCompletedFrame = true
        let header = frame.pointee.hd
        let streamID = header.stream_id
        let isEnd = header.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
        let isAck = header.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0
        switch UInt32(header.type) {
        case NGHTTP2_DATA.rawValue:
            if isEnd {
                guard let stream = nghttp2_session_get_stream_user_data(session, streamID) else { return }
                _ = withStream(stream) { $0.endReceiving() }
            } else if header.length == frame.pointee.data.padlen {
                countUnproductiveFrame()
            }
        case NGHTTP2_HEADERS.rawValue:
            let stream = stream(streamID)
            endHeaders(streamID, stream, frame.pointee.headers.cat, isEnd: isEnd)
        case NGHTTP2_SETTINGS.rawValue:
            guard !isAck else { return }
            countUnproductiveFrame()
            receiveSettings()
        case NGHTTP2_PING.rawValue:
            guard isAck else { return countUnproductiveFrame() }
            pongReceived(
                withUnsafeBytes(of: frame.pointee.ping.opaque_data) {
                    UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self))
                })
        case NGHTTP2_GOAWAY.rawValue:
            receiveGoaway(
                lastStreamID: frame.pointee.goaway.last_stream_id,
                error: HTTP2ErrorCode(rawValue: frame.pointee.goaway.error_code),
                debugData: UnsafeRawBufferPointer(
                    start: frame.pointee.goaway.opaque_data, count: frame.pointee.goaway.opaque_data_len))
        case NGHTTP2_WINDOW_UPDATE.rawValue:
            break
        default:
            // RST_STREAM, PRIORITY and what else there may be.
            countUnproductiveFrame()
        }
    }
}
