import Prelude
import Wire

/// Typed calls to one node over one connection.
public final class NodeClient {
    public let target: HostPort
    private let channel: GRPCChannel

    public init(seams: Seams, limits: WireLimits, target: HostPort, random: SeededRandom) {
        self.target = target
        channel = GRPCChannel(
            network: seams.network, clock: seams.clock, turns: seams.turns, target: target, limits: limits,
            random: random, credentials: seams.credentials)
    }

    /// Nil `timeout`: waits as long as the node does.
    public func call<Request: WireMessage, Response: WireMessage>(
        _ path: String, _ request: Request, _ response: Response.Type, timeout: Nanoseconds?
    ) async throws(GRPCStatus) -> Response {
        let result = await withCheckedContinuation { continuation in
            call(path, request, response, timeout: timeout) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    public func call<Request: WireMessage, Response: WireMessage>(
        _ path: String, _ request: Request, _ response: Response.Type, timeout: Nanoseconds?,
        completion: @escaping (Result<Response, GRPCStatus>) -> Void
    ) {
        call(path, request, response, timeout: timeout) { result, _ in completion(result) }
    }

    /// Tells besides whether the node may have received the request.
    func call<Request: WireMessage, Response: WireMessage>(
        _ path: String, _ request: Request, _ response: Response.Type, metadata: Metadata = Metadata(),
        timeout: Nanoseconds?, completion: @escaping (Result<Response, GRPCStatus>, _ wasSent: Bool) -> Void
    ) {
        weak var sent: ClientCall?
        sent = channel.unary(path, request.encoded(), metadata: metadata, timeout: timeout) { result in
            completion(result.flatMap(Self.decode), sent?.wasSent ?? true)
        }
    }

    public func close() { channel.close() }

    private static func decode<Response: WireMessage>(_ bytes: [UInt8]) -> Result<Response, GRPCStatus> {
        do throws(DecodingFailure) {
            return .success(try Response(decoding: bytes))
        } catch {
            return .failure(GRPCStatus(code: .internalError, message: "unreadable answer: \(error.description)"))
        }
    }
}
