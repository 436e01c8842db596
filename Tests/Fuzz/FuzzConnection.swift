import Prelude
import Wire

/// A caller's connection whose bytes come from the fuzzer, the echo server behind it, and a loop of its own.
final class FuzzConnection: Connection, Clock, Turns {
    private final class Timer: ScheduledTimer { func cancel() {} }

    private final class Request: TurnRequest {
        let turn: () -> Void
        var isRequested = false
        init(_ turn: @escaping () -> Void) { self.turn = turn }
        func request() { isRequested = true }
        func unregister() { isRequested = false }
    }

    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + [0, 0, 0, 4, 0, 0, 0, 0, 0]

    /// The bytes follow the preface and an empty SETTINGS frame, in two reads.
    static func serve(_ bytes: UnsafeRawBufferPointer) { serve(bytes, WireLimits()) }

    /// The bytes are the compressed message of a unary call, or, by the first of them, of a stream; the message begins as
    /// gzip does. The limits are small, so that all of them are met.
    static func serveCompressed(_ bytes: UnsafeRawBufferPointer) {
        guard let first = bytes.first else { return }
        let message: [UInt8] = [0x1F, 0x8B, 8] + bytes.dropFirst()
        let path = first & 1 == 0 ? "/e/U" : "/e/S"
        let fields = [
            (":method", "POST"), (":scheme", "http"), (":path", path), ("content-type", "application/grpc"),
            ("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip"),
        ]
        // HPACK literals without indexing (RFC 7541 §6.2.2).
        var block: [UInt8] = []
        for (name, value) in fields {
            block.append(0)
            for text in [name, value] { block += [UInt8(text.utf8.count)] + Array(text.utf8) }
        }
        var data: [UInt8] = [1]
        withUnsafeBytes(of: UInt32(message.count).bigEndian) { data.append(contentsOf: $0) }
        data += message
        var frames = frame(1, flags: 4, block)
        var rest = data[...]
        while !rest.isEmpty {
            let part = rest.prefix(16 << 10)
            rest = rest.dropFirst(part.count)
            frames += frame(0, flags: rest.isEmpty ? 1 : 0, Array(part))
        }
        var limits = WireLimits()
        limits.messageByteCountMax = 8 << 10
        limits.inflatedByteCountPerTurnMax = 1 << 10
        limits.compressedByteCountMin = 16
        frames.withUnsafeBytes { serve($0, limits) }
    }

    /// On stream 1.
    private static func frame(_ type: UInt8, flags: UInt8, _ payload: [UInt8]) -> [UInt8] {
        let count = withUnsafeBytes(of: UInt32(payload.count).bigEndian) { Array($0.dropFirst()) }
        return count + [type, flags, 0, 0, 0, 1] + payload
    }

    private static func serve(_ bytes: UnsafeRawBufferPointer, _ limits: WireLimits) {
        let connection = FuzzConnection()
        let server = GRPCServer(clock: connection, turns: connection, limits: limits)
        server.unary("/e/U") { call, request in call.respond(request) }
        server.streaming("/e/S") { stream in
            stream.onMessage = { message in if !stream.send(message) { stream.isReadingPaused = true } }
            stream.onHalfClose = { stream.finish() }
        }
        server.accept(connection)
        connection.turn()
        preface.withUnsafeBytes { connection.read($0) }
        connection.read(UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count / 2)]))
        connection.read(UnsafeRawBufferPointer(rebasing: bytes[(bytes.count / 2)...]))
        connection.close()
        connection.turn()
    }

    private var requests: [Request] = []
    private var isClosed = false

    private func read(_ bytes: UnsafeRawBufferPointer) {
        if !isClosed, !bytes.isEmpty { handler?.connectionDidRead(bytes) }
        turn()
    }

    /// Everything that is asked for, within reason.
    private func turn() {
        for _ in 0..<16 {
            for request in requests where request.isRequested {
                request.isRequested = false
                request.turn()
            }
        }
        if isClosed, let told = handler {
            handler = nil
            told.connectionDidClose(.closedLocally)
        }
    }

    var now: Nanoseconds { .seconds(1) }
    var wallMilliseconds: Int64 { 0 }
    func schedule(after delay: Nanoseconds, _ action: @escaping () -> Void) -> any ScheduledTimer { Timer() }

    func register(_ turn: @escaping () -> Void) -> any TurnRequest {
        let request = Request(turn)
        requests.append(request)
        return request
    }

    var remoteAddress: HostPort { HostPort(host: "127.0.0.1", port: 1) }
    var handler: (any ConnectionHandler)?
    func write(_ bytes: UnsafeRawBufferPointer) {}
    var bufferedByteCount: Int { 0 }
    var isReadingPaused = false
    func closeAfterFlush() { isClosed = true }
    func close() { isClosed = true }
}
