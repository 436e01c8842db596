import Glibc
import Prelude
import Reactor
import Telemetry
import Wire

/// A gRPC server that echoes raw bytes: what benchmarks and tests with foreign clients run against.
///
/// `grpc-echo-server [PORT [MILLISECONDS]]`, the second for all time limits of connections, prints the port it listens on and runs until it is killed. `/echo.Echo/Unary` answers
/// with the request, `/echo.Echo/Stream` with every message, `/echo.Echo/Fail` with the status whose number is the
/// first byte, `/echo.Echo/Never` not at all, `/echo.Echo/Metadata` with the request's metadata as headers and as
/// trailers, `/echo.Echo/Counters` with the server's metrics. `/bench.Echo/Unary` and `/bench.Echo/Stream` decode the message (a text and bytes, as
/// `google.protobuf.Any` has them) and encode it again: Benchmarks/echo.proto.
@main
enum EchoServer {
    static func main() throws {
        let port = CommandLine.arguments.dropFirst().first.flatMap { UInt16($0) } ?? 0
        let loop = try EventLoop()
        var limits = WireLimits()
        if let milliseconds = CommandLine.arguments.dropFirst(2).first.flatMap(UInt64.init) {
            limits.handshakeTimeoutMilliseconds = milliseconds
            limits.keepaliveIntervalMilliseconds = milliseconds
            limits.keepaliveTimeoutMilliseconds = milliseconds
        }
        let server = GRPCServer(clock: loop.clock, turns: loop.turns, limits: limits)
        serve(server)
        serveDecoded(server)
        let listener = try loop.network.listen(on: HostPort(host: "127.0.0.1", port: port)) { server.accept($0) }
        print(listener.address.port)
        fflush(nil)
        loop.run()
    }

    private static func serve(_ server: GRPCServer) {
        server.unary("/echo.Echo/Unary") { call, request in call.respond(request) }
        server.streaming("/echo.Echo/Stream") { stream in
            stream.onMessage = { message in if !stream.send(message) { stream.isReadingPaused = true } }
            stream.onWritable = { stream.isReadingPaused = false }
            stream.onHalfClose = { stream.finish() }
        }
        server.unary("/echo.Echo/Fail") { call, request in
            let code = request.first.flatMap { GRPCCode(rawValue: $0) } ?? .unknown
            call.fail(GRPCStatus(code == .ok ? .unknown : code, "failed as asked: größer als 100%"))
        }
        server.unary("/echo.Echo/Never") { call, _ in call.onCancel = { cancelCount += 1 } }
        server.unary("/echo.Echo/Counters") { [unowned server] call, _ in
            var exposition = Exposition()
            server.collect(into: &exposition)
            call.respond(Array(exposition.text.utf8))
        }
        server.unary("/echo.Echo/CancelCount") { call, _ in call.respond(Array(String(cancelCount).utf8)) }
        server.unary("/echo.Echo/Metadata") { call, _ in
            call.responseMetadata = call.metadata
            call.responseTrailers = call.metadata
            call.respond([])
        }
    }

    private static func serveDecoded(_ server: GRPCServer) {
        server.unary("/bench.Echo/Unary") { call, request in
            do {
                call.respond(try PutRequest(decoding: request).encoded())
            } catch {
                call.fail(GRPCStatus(.invalidArgument, "\(error)"))
            }
        }
        server.streaming("/bench.Echo/Stream") { stream in
            stream.onMessage = { bytes in
                guard let message = try? PutRequest(decoding: bytes) else {
                    return stream.finish(GRPCStatus(.invalidArgument, "not an echo message"))
                }
                if !stream.send(message.encoded()) { stream.isReadingPaused = true }
            }
            stream.onWritable = { stream.isReadingPaused = false }
            stream.onHalfClose = { stream.finish() }
        }
    }

    // One thread runs the loop, and only its handlers use this.
    nonisolated(unsafe) private static var cancelCount = 0
}
