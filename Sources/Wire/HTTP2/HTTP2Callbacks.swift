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
        nghttp2_session_callbacks_set_send_data_callback(callbacks, sendData)
        return Table(pointer: callbacks)
    }()

    private static var beginHeaders: nghttp2_on_begin_headers_callback {
        { _, frame, pointer in
            guard let frame else { return 0 }
            connectionBehind(pointer).beginHeaders(frame.pointee.headers.cat)
            return 0
        }
    }

    private static var receiveHeader: nghttp2_on_header_callback {
        { _, _, name, nameCount, value, valueCount, _, pointer in
            connectionBehind(pointer).receiveHeader(
                UnsafeRawBufferPointer(start: name, count: nameCount),
                UnsafeRawBufferPointer(start: value, count: valueCount))
            return 0
        }
    }

    private static var receiveData: nghttp2_on_data_chunk_recv_callback {
        { session, flags, streamID, bytes, count, pointer in
            let connection = connectionBehind(pointer)
            guard let stream = connection.stream(streamID) else {
                // Answered already and forgotten.
                nghttp2_session_consume(session, streamID, count)
                return 0
            }
            // No window is needed for a stream whose last frame this is.
            if flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0 { stream.isPeerDone = true }
            stream.receive(UnsafeRawBufferPointer(start: bytes, count: count))
            return 0
        }
    }

    private static var receiveFrame: nghttp2_on_frame_recv_callback {
        { _, frame, pointer in
            guard let frame else { return 0 }
            connectionBehind(pointer).receive(frame.pointee)
            return 0
        }
    }

    private static var receiveInvalidFrame: nghttp2_on_invalid_frame_recv_callback {
        { _, _, _, pointer in
            connectionBehind(pointer).countUnproductiveFrame()
            return 0
        }
    }

    private static var closeStream: nghttp2_on_stream_close_callback {
        { _, streamID, error, pointer in
            let connection = connectionBehind(pointer)
            if let stream = connection.stream(streamID) {
                connection.remove(stream, .closed(HTTP2ErrorCode(rawValue: error)))
            }
            return 0
        }
    }

    private static var frameNotSent: nghttp2_on_frame_not_send_callback {
        { _, frame, error, pointer in
            guard let frame, Int32(frame.pointee.hd.type) == Int32(NGHTTP2_HEADERS.rawValue) else { return 0 }
            connectionBehind(pointer).headersNotSent(
                frame.pointee.hd.stream_id, reason: String(cString: nghttp2_strerror(error)))
            return 0
        }
    }

    static var readData: nghttp2_data_source_read_callback {
        { _, _, _, byteCountMax, flags, source, _ in
            guard let flags, let pointer = source?.pointee.ptr else {
                return Int(NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue)
            }
            let stream = Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue()
            return stream.offerData(byteCountMax, &flags.pointee)
        }
    }

    private static var sendData: nghttp2_send_data_callback {
        { _, _, frameHeader, byteCount, source, connectionPointer in
            guard let frameHeader, let pointer = source?.pointee.ptr else {
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
            }
            let stream = Unmanaged<HTTP2Stream>.fromOpaque(pointer).takeUnretainedValue()
            let output = connectionBehind(connectionPointer).context.output
            output.append(frameHeader, frameHeaderByteCount)
            stream.moveData(byteCount, to: output)
            return 0
        }
    }
}

// Outside the enumeration, because a C function may capture nothing, not even a type.
private let frameHeaderByteCount = 9

@inline(__always)
private func connectionBehind(_ pointer: UnsafeMutableRawPointer?) -> HTTP2Connection {
    invariant(pointer != nil, "a session knows its connection")
    return Unmanaged<HTTP2Connection>.fromOpaque(pointer.unsafelyUnwrapped).takeUnretainedValue()
}

extension HTTP2Connection {
    fileprivate func receive(_ frame: nghttp2_frame) {
        let streamID = frame.hd.stream_id
        let isEnd = frame.hd.flags & UInt8(NGHTTP2_FLAG_END_STREAM.rawValue) != 0
        let isAck = frame.hd.flags & UInt8(NGHTTP2_FLAG_ACK.rawValue) != 0
        switch UInt32(frame.hd.type) {
        case NGHTTP2_DATA.rawValue:
            if isEnd {
                stream(streamID)?.endReceiving()
            } else if frame.hd.length == frame.data.padlen {
                countUnproductiveFrame()
            }
        case NGHTTP2_HEADERS.rawValue:
            let stream = stream(streamID)
            endHeaders(streamID, stream, frame.headers.cat, isEnd: isEnd)
        case NGHTTP2_SETTINGS.rawValue:
            guard !isAck else { return }
            countUnproductiveFrame()
            receiveSettings()
        case NGHTTP2_PING.rawValue:
            guard isAck else { return countUnproductiveFrame() }
            pongReceived(
                withUnsafeBytes(of: frame.ping.opaque_data) { UInt64(bigEndian: $0.loadUnaligned(as: UInt64.self)) })
        case NGHTTP2_GOAWAY.rawValue:
            receiveGoaway(
                lastStreamID: frame.goaway.last_stream_id, error: HTTP2ErrorCode(rawValue: frame.goaway.error_code),
                debugData: UnsafeRawBufferPointer(
                    start: frame.goaway.opaque_data, count: frame.goaway.opaque_data_len))
        case NGHTTP2_WINDOW_UPDATE.rawValue:
            break
        default:
            // RST_STREAM, PRIORITY and what else there may be.
            countUnproductiveFrame()
        }
    }
}
