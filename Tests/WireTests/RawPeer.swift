import CNGHTTP2
import Prelude
import XCTest

@testable import Wire

/// One end of a connection that speaks HTTP/2 frame by frame, right or wrong, as a test says.
final class RawPeer: ConnectionHandler {
    struct Frame: Equatable {
        var type: UInt8
        var flags: UInt8
        var streamID: Int32
        var payload: [UInt8]
    }

    enum FrameType {
        static let data: UInt8 = 0
        static let headers: UInt8 = 1
        static let reset: UInt8 = 3
        static let settings: UInt8 = 4
        static let ping: UInt8 = 6
        static let goaway: UInt8 = 7
        static let windowUpdate: UInt8 = 8
    }

    static let endStream: UInt8 = 1
    static let endHeaders: UInt8 = 4
    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    let connection: TestConnection
    private(set) var frames: [Frame] = []
    private(set) var closeReason: NetworkError?
    /// Every header block of the other side, decoded in order of arrival.
    private(set) var headerBlocks: [(streamID: Int32, fields: [String: String])] = []
    private var received: [UInt8] = []
    private var isPrefaceExpected: Bool
    private var inflater: OpaquePointer?
    var isAnsweringSettings = true

    /// A server gets the client's preface first.
    init(_ connection: TestConnection, isServer: Bool = false) {
        self.connection = connection
        isPrefaceExpected = isServer
        nghttp2_hd_inflate_new(&inflater)
        connection.handler = self
    }

    deinit { nghttp2_hd_inflate_del(inflater) }

    func connectionDidDrain() {}
    func connectionDidClose(_ reason: NetworkError) { closeReason = reason }

    func connectionDidRead(_ bytes: UnsafeRawBufferPointer) {
        received.append(contentsOf: bytes)
        if isPrefaceExpected {
            guard received.count >= Self.preface.count else { return }
            received.removeFirst(Self.preface.count)
            isPrefaceExpected = false
        }
        while received.count >= 9 {
            let length = Int(received[0]) << 16 | Int(received[1]) << 8 | Int(received[2])
            guard received.count >= 9 + length else { return }
            let id = received[5..<9].reduce(0) { $0 << 8 | Int32($1) }
            take(Frame(type: received[3], flags: received[4], streamID: id, payload: Array(received[9..<9 + length])))
            received.removeFirst(9 + length)
        }
    }

    private func take(_ frame: Frame) {
        frames.append(frame)
        if frame.type == FrameType.headers { headerBlocks.append((frame.streamID, inflate(frame.payload))) }
        if frame.type == FrameType.settings, frame.flags & 1 == 0, isAnsweringSettings {
            send(FrameType.settings, flags: 1, stream: 0, [])
        }
    }

    private func inflate(_ block: [UInt8]) -> [String: String] {
        var fields: [String: String] = [:]
        var block = block
        block.withUnsafeMutableBufferPointer { bytes in
            var offset = 0
            while true {
                var field = nghttp2_nv()
                var flags: Int32 = 0
                let count = nghttp2_hd_inflate_hd2(
                    inflater, &field, &flags, bytes.baseAddress! + offset, bytes.count - offset, 1)
                guard count >= 0 else { return XCTFail("bad header block") }
                offset += count
                if flags & Int32(NGHTTP2_HD_INFLATE_EMIT.rawValue) != 0 {
                    let name = String(
                        decoding: UnsafeBufferPointer(start: field.name, count: field.namelen), as: UTF8.self)
                    fields[name] = String(
                        decoding: UnsafeBufferPointer(start: field.value, count: field.valuelen), as: UTF8.self)
                }
                if flags & Int32(NGHTTP2_HD_INFLATE_FINAL.rawValue) != 0 {
                    nghttp2_hd_inflate_end_headers(inflater)
                    return
                }
            }
        }
        return fields
    }

    // MARK: Sending

    func send(_ type: UInt8, flags: UInt8 = 0, stream: Int32, _ payload: [UInt8]) {
        connection.write(Self.frame(type, flags: flags, stream: stream, payload))
    }

    static func frame(_ type: UInt8, flags: UInt8 = 0, stream: Int32, _ payload: [UInt8]) -> [UInt8] {
        let length = payload.count
        let head = [
            UInt8(truncatingIfNeeded: length >> 16), UInt8(truncatingIfNeeded: length >> 8),
            UInt8(truncatingIfNeeded: length), type, flags,
        ]
        return head + withUnsafeBytes(of: UInt32(bitPattern: stream).bigEndian) { Array($0) } + payload
    }

    /// The client's first words.
    func sendPreface() {
        connection.write(Self.preface)
        send(FrameType.settings, stream: 0, [])
    }

    static func headerBlock(_ fields: [(String, String)]) -> [UInt8] {
        // HPACK literals without indexing (RFC 7541 §6.2.2), with lengths as integers of seven bits and more.
        func string(_ text: String) -> [UInt8] {
            var rest = text.utf8.count
            guard rest >= 127 else { return [UInt8(rest)] + Array(text.utf8) }
            var bytes: [UInt8] = [127]
            rest -= 127
            while rest >= 128 {
                bytes.append(UInt8(rest & 127) | 128)
                rest >>= 7
            }
            return bytes + [UInt8(rest)] + Array(text.utf8)
        }
        return fields.flatMap { [0] + string($0.0) + string($0.1) }
    }

    static func requestFields(_ path: String, _ more: [(String, String)] = []) -> [(String, String)] {
        [
            (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test"), ("te", "trailers"),
            ("content-type", "application/grpc"),
        ] + more
    }

    func sendHeaders(_ fields: [(String, String)], stream: Int32, isEnd: Bool = false) {
        send(
            FrameType.headers, flags: Self.endHeaders | (isEnd ? Self.endStream : 0), stream: stream,
            Self.headerBlock(fields))
    }

    func sendData(_ bytes: [UInt8], stream: Int32, isEnd: Bool = false) {
        send(FrameType.data, flags: isEnd ? Self.endStream : 0, stream: stream, bytes)
    }

    func sendReset(_ error: HTTP2ErrorCode, stream: Int32) {
        send(FrameType.reset, stream: stream, withUnsafeBytes(of: error.rawValue.bigEndian) { Array($0) })
    }

    static func message(_ bytes: [UInt8], flag: UInt8 = 0) -> [UInt8] {
        [flag] + withUnsafeBytes(of: UInt32(bytes.count).bigEndian) { Array($0) } + bytes
    }

    // MARK: Looking

    func frames(_ type: UInt8, stream: Int32? = nil) -> [Frame] {
        frames.filter { $0.type == type && (stream == nil || $0.streamID == stream) }
    }

    /// The fields of all header blocks of a stream together.
    func fields(stream: Int32) -> [String: String] {
        headerBlocks.filter { $0.streamID == stream }.reduce(into: [:]) { $0.merge($1.fields) { _, new in new } }
    }

    func data(stream: Int32) -> [UInt8] { frames(FrameType.data, stream: stream).flatMap(\.payload) }

    /// The error of each RST_STREAM of a stream.
    func resets(stream: Int32) -> [HTTP2ErrorCode] {
        frames(FrameType.reset, stream: stream).map { HTTP2ErrorCode(rawValue: Self.integer($0.payload[0..<4])) }
    }

    var goaways: [(lastStreamID: Int32, error: HTTP2ErrorCode)] {
        frames(FrameType.goaway).map {
            (
                Int32(Self.integer($0.payload[0..<4])),
                HTTP2ErrorCode(rawValue: Self.integer($0.payload[4..<8]))
            )
        }
    }

    private static func integer(_ bytes: ArraySlice<UInt8>) -> UInt32 { bytes.reduce(0) { $0 << 8 | UInt32($1) } }
}

extension Rig {
    /// A raw client of the server, with the preface exchanged.
    func rawClient(isGreeting: Bool = true) -> RawPeer {
        let (client, accepted) = world.pair(to: address)
        server.accept(accepted)
        let peer = RawPeer(client)
        peer.isAnsweringSettings = isGreeting
        if isGreeting { peer.sendPreface() }
        world.run()
        return peer
    }

    /// Sends one request and returns when nothing more happens.
    func request(
        _ peer: RawPeer, _ fields: [(String, String)], _ data: [UInt8]? = RawPeer.message([1, 2, 3]), stream: Int32 = 1
    ) -> [String: String] {
        peer.sendHeaders(fields, stream: stream, isEnd: data == nil)
        if let data { peer.sendData(data, stream: stream, isEnd: true) }
        world.run()
        return peer.fields(stream: stream)
    }
}

/// A raw server that a channel connects to.
final class RawServer {
    private(set) var peers: [RawPeer] = []
    var peer: RawPeer { peers[peers.count - 1] }

    /// Takes the place of the rig's own server.
    init(_ rig: Rig, maxConcurrentStreams: UInt32? = nil) throws {
        rig.listener.close()
        _ = try rig.world.listen(on: rig.address) { [weak self] connection in
            guard let connection = connection as? TestConnection else { return }
            let peer = RawPeer(connection, isServer: true)
            var settings: [UInt8] = []
            if let maxConcurrentStreams {
                settings = [0, 3] + withUnsafeBytes(of: maxConcurrentStreams.bigEndian) { Array($0) }
            }
            peer.send(RawPeer.FrameType.settings, stream: 0, settings)
            self?.peers.append(peer)
        }
    }
}
