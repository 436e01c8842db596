import DequeModule
import Glibc
import Prelude
import Reactor
import Wire

/// `grpc.testing.TestService` on our server, for the interoperability tests that official gRPC clients bring.
///
/// `grpc-interop-server [PORT]` prints the port it listens on and runs until it is killed. `UnimplementedCall` is left
/// out, as those tests want it.
@main
enum InteropServer {
    static func main() throws {
        let port = CommandLine.arguments.dropFirst().first.flatMap { UInt16($0) } ?? 0
        let loop = try EventLoop()
        let limits = WireLimits()
        let server = GRPCServer(clock: loop.clock, turns: loop.turns, limits: limits)
        TestService(clock: loop.clock, limits: limits).register(on: server)
        let listener = try loop.network.listen(on: HostPort(host: "127.0.0.1", port: port)) { server.accept($0) }
        print(listener.address.port)
        fflush(nil)
        loop.run()
    }
}

final class TestService {
    private let clock: any Clock
    private let limits: WireLimits
    /// Responses that one call may owe.
    static let owedResponseCountMax = 100_000

    init(clock: any Clock, limits: WireLimits) {
        self.clock = clock
        self.limits = limits
    }

    func register(on server: GRPCServer) {
        server.unary("/grpc.testing.TestService/EmptyCall") { call, _ in
            echoMetadata(of: call)
            call.respond([])
        }
        server.unary("/grpc.testing.TestService/UnaryCall") { [self] call, bytes in unary(call, Array(bytes)) }
        server.streaming("/grpc.testing.TestService/StreamingInputCall") { input($0) }
        server.streaming("/grpc.testing.TestService/StreamingOutputCall") { [self] in output($0, .oneRequest) }
        server.streaming("/grpc.testing.TestService/FullDuplexCall") { [self] in output($0, .fullDuplex) }
        server.streaming("/grpc.testing.TestService/HalfDuplexCall") { [self] in output($0, .halfDuplex) }
    }

    private func unary(_ call: UnaryCall, _ bytes: [UInt8]) {
        guard let request = try? SimpleRequest(bytes) else { return call.fail(malformed) }
        echoMetadata(of: call)
        if let status = request.status?.status { return call.fail(status) }
        if let expected = request.expectsCompressed, expected != call.isRequestCompressed {
            return call.fail(unexpected(isCompressed: call.isRequestCompressed))
        }
        guard (0..<limits.messageByteCountMax - 64).contains(request.responseByteCount) else {
            return call.fail(wrongSize)
        }
        call.compression = request.isResponseCompressed ? .always : .never
        call.respond(response(byteCount: request.responseByteCount))
    }

    private func output(_ stream: ServerStream, _ kind: OutputCall.Kind) {
        echoMetadata(of: stream)
        let call = OutputCall(stream, kind, clock, limits)
        stream.onMessage = { call.take(Array($0)) }
        stream.onHalfClose = { call.requestsEnded() }
        stream.onWritable = { call.sendNext() }
        stream.onEnd = { call.cancel() }
    }
}

private func input(_ stream: ServerStream) {
    var byteCount = 0
    echoMetadata(of: stream)
    stream.onMessage = { [unowned stream] bytes in
        guard let request = try? StreamingInputCallRequest(Array(bytes)) else { return stream.finish(malformed) }
        if let expected = request.expectsCompressed, expected != stream.isRequestCompressed {
            return stream.finish(unexpected(isCompressed: stream.isRequestCompressed))
        }
        byteCount = (byteCount + request.payloadByteCount) & Int(Int32.max)
    }
    stream.onHalfClose = { [unowned stream] in
        _ = stream.send(streamingInputCallResponse(byteCount: byteCount))
        stream.finish()
    }
}

/// A call whose answers its requests describe.
private final class OutputCall {
    enum Kind { case oneRequest, fullDuplex, halfDuplex }

    private unowned let stream: ServerStream
    private let kind: Kind
    private let clock: any Clock
    private let limits: WireLimits
    private var owed: Deque<ResponseParameters> = []
    private var status: GRPCStatus?
    private var haveRequestsEnded = false
    private var timer: (any ScheduledTimer)?

    init(_ stream: ServerStream, _ kind: Kind, _ clock: any Clock, _ limits: WireLimits) {
        self.stream = stream
        self.kind = kind
        self.clock = clock
        self.limits = limits
        // So that some of the answers can be compressed, if they are to be.
        stream.compression = .always
        stream.sendMetadata()
    }

    func take(_ bytes: [UInt8]) {
        guard let request = try? StreamingOutputCallRequest(bytes) else { return stream.finish(malformed) }
        guard request.responses.allSatisfy({ (0..<limits.messageByteCountMax - 64).contains($0.byteCount) }) else {
            return stream.finish(wrongSize)
        }
        guard owed.count + request.responses.count <= TestService.owedResponseCountMax else {
            return stream.finish(GRPCStatus(.resourceExhausted, "too many responses are asked for"))
        }
        owed.append(contentsOf: request.responses)
        status = status ?? request.status?.status
        if kind == .fullDuplex { sendNext() }
    }

    func requestsEnded() {
        haveRequestsEnded = true
        sendNext()
    }

    func cancel() {
        timer?.cancel()
        timer = nil
        owed = []
    }

    /// Sends what is owed, each after its interval, as long as the caller takes it.
    func sendNext() {
        guard timer == nil, kind != .halfDuplex || haveRequestsEnded else { return }
        while let next = owed.first {
            if next.intervalMicroseconds > 0 {
                timer = clock.schedule(after: 1_000 * next.intervalMicroseconds) { [self] in
                    timer = nil
                    guard !owed.isEmpty else { return }
                    owed[0].intervalMicroseconds = 0
                    sendNext()
                }
                return
            }
            owed.removeFirst()
            stream.compression = next.isCompressed ? .always : .never
            if !stream.send(response(byteCount: next.byteCount)) { return }
        }
        if let status { return stream.finish(status) }
        if haveRequestsEnded { stream.finish() }
    }
}

/// The two pairs that callers ask to have back.
private func echoMetadata(of call: ServerCall) {
    if let value = call.metadata["x-grpc-test-echo-initial"] {
        call.responseMetadata.add("x-grpc-test-echo-initial", value)
    }
    for value in call.metadata.bytes("x-grpc-test-echo-trailing-bin") {
        call.responseTrailers.add("x-grpc-test-echo-trailing-bin", bytes: value)
    }
}

private let malformed = GRPCStatus(.invalidArgument, "the request is malformed")
private let wrongSize = GRPCStatus(.invalidArgument, "a response of this size cannot be sent")

private func unexpected(isCompressed: Bool) -> GRPCStatus {
    GRPCStatus(.invalidArgument, "the request is \(isCompressed ? "" : "not ")compressed, unlike what it expects")
}
