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
    static func serve(_ bytes: UnsafeRawBufferPointer) {
        let connection = FuzzConnection()
        let server = GRPCServer(clock: connection, turns: connection, limits: WireLimits())
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
