import Glibc
import Prelude
import Reactor
import Wire

/// Our gRPC client against a server that somebody else wrote.
///
/// `grpc-interop-client PORT` calls the echo service of Tests/Python/test_grpc_client.py at 127.0.0.1:PORT, prints a line
/// for each check, and fails when one of them does.
@main
enum InteropCommand {
    static func main() throws {
        guard let port = CommandLine.arguments.dropFirst().first.flatMap({ UInt16($0) }) else {
            print("usage: grpc-interop-client PORT")
            exit(2)
        }
        let loop = try EventLoop()
        let client = InteropClient(loop: loop, target: HostPort(host: "localhost", port: port))
        client.run()
        loop.close()
        exit(client.failureCount == 0 ? 0 : 1)
    }
}

private final class InteropClient {
    private let loop: EventLoop
    private let channel: GRPCChannel
    private(set) var failureCount = 0

    private static let patience = Nanoseconds.seconds(120)

    init(loop: EventLoop, target: HostPort) {
        self.loop = loop
        channel = GRPCChannel(
            network: loop.network, clock: loop.clock, turns: loop.turns, target: target, limits: WireLimits(),
            random: SeededRandom(seed: 1))
    }

    func run() {
        unaryCalls()
        statuses()
        metadata()
        deadline()
        cancellation()
        stream()
        manyAtOnce()
        channel.close()
        nobodyListens()
    }

    private func check(_ condition: Bool, _ what: String) {
        print((condition ? "ok   " : "FAIL ") + what)
        if !condition { failureCount += 1 }
    }

    private func unary(
        _ path: String, _ request: [UInt8], metadata: Metadata = Metadata(), timeout: Nanoseconds? = patience,
        on other: GRPCChannel? = nil
    ) -> (result: Result<[UInt8], GRPCStatus>?, call: ClientCall) {
        var result: Result<[UInt8], GRPCStatus>?
        let call = (other ?? channel).unary(path, request, metadata: metadata, timeout: timeout) { result = $0 }
        _ = loop.run(until: { result != nil }, within: Self.patience)
        return (result, call)
    }

    private func unaryCalls() {
        for count in [0, 3, 1 << 20, 4 << 20] {
            let request = [UInt8](repeating: 9, count: count)
            check(unary("/echo.Echo/Unary", request).result == .success(request), "unary, \(count) bytes")
        }
    }

    private func statuses() {
        for code in GRPCCode.allCases where code != .ok {
            let expected = GRPCStatus(code, "größer als 100%")
            check(unary("/echo.Echo/Fail", [code.rawValue]).result == .failure(expected), "status \(code)")
        }
        guard case .failure(let status) = unary("/no/Such", []).result else {
            return check(false, "an unknown path fails")
        }
        check(status.code == .unimplemented, "an unknown path is unimplemented: \(status)")
    }

    private func metadata() {
        var sent = Metadata(["plain": "a b"])
        sent.add("x-bin", bytes: [UInt8](0...255))
        sent.add("x-bin", bytes: [])
        sent.add("two", "1")
        sent.add("two", "2")
        let (result, call) = unary("/echo.Echo/Metadata", [], metadata: sent)
        check(result == .success([]), "a call with metadata")
        for entry in sent.entries {
            check(call.responseMetadata.entries.contains(entry), "\(entry.name) comes back in the headers")
            check(call.responseTrailers.entries.contains(entry), "\(entry.name) comes back in the trailers")
        }
    }

    private func deadline() {
        guard case .failure(let status) = unary("/echo.Echo/Never", [], timeout: .milliseconds(300)).result else {
            return check(false, "a call past its deadline fails")
        }
        check(status.code == .deadlineExceeded, "deadline: \(status)")
    }

    private func cancellation() {
        check(serverHas(openCalls: 0), "the server is told of the deadline")
        var result: Result<[UInt8], GRPCStatus>?
        let call = channel.unary("/echo.Echo/Never", [], timeout: nil) { result = $0 }
        check(serverHas(openCalls: 1), "the server has a call that it never answers")
        call.cancel()
        _ = loop.run(until: { result != nil }, within: Self.patience)
        guard case .failure(let status)? = result else { return check(false, "a cancelled call fails") }
        check(status.code == .cancelled, "cancellation: \(status)")
        check(serverHas(openCalls: 0), "the server is told of it")
    }

    /// Asks until the server has that many calls that it never answers.
    private func serverHas(openCalls count: UInt8) -> Bool {
        let deadline = loop.clock.now + Self.patience
        while loop.clock.now < deadline {
            if unary("/echo.Echo/OpenCount", []).result == .success([count]) { return true }
        }
        return false
    }

    private func stream() {
        let stream = channel.stream("/echo.Echo/Stream", timeout: Self.patience)
        let piece = [UInt8](repeating: 5, count: 100_000)
        var sentCount = 0
        var receivedByteCount = 0
        var status: GRPCStatus?
        func pump() {
            while sentCount < 200 {
                sentCount += 1
                if !stream.send(piece) { return }
            }
            stream.halfClose()
        }
        stream.onMessage = { receivedByteCount += $0.count }
        stream.onEnd = { ended, _ in status = ended }
        stream.onWritable = pump
        pump()
        _ = loop.run(until: { status != nil }, within: Self.patience)
        check(status == .ok && receivedByteCount == 20_000_000, "20 MB both ways on one stream")
    }

    private func manyAtOnce() {
        var answered = 0
        var wrong = 0
        for number in 0..<1000 {
            let request = [UInt8(truncatingIfNeeded: number), UInt8(number >> 8)]
            channel.unary("/echo.Echo/Unary", request, timeout: Self.patience) { result in
                answered += 1
                if result != .success(request) { wrong += 1 }
            }
        }
        _ = loop.run(until: { answered == 1000 }, within: Self.patience)
        check(answered == 1000 && wrong == 0, "1000 calls at once: \(answered) answered, \(wrong) wrong")
    }

    private func nobodyListens() {
        let dead = GRPCChannel(
            network: loop.network, clock: loop.clock, turns: loop.turns, target: HostPort(host: "127.0.0.1", port: 1),
            limits: WireLimits(), random: SeededRandom(seed: 1))
        defer { dead.close() }
        guard case .failure(let status) = unary("/echo.Echo/Unary", [], on: dead).result else {
            return check(false, "a call to nobody fails")
        }
        check(status.code == .unavailable, "nobody listens: \(status)")
    }
}
