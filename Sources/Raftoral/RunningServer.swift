import Prelude
import Reactor
import Wire

/// A gRPC server that listens. Sendable: its calls hop to its loop.
public final class RunningServer: Sendable {
    /// Where it listens; the port is the one that was taken when 0 was asked for.
    public let address: HostPort
    private let loop: EventLoop
    private let bound: LoopBound<(server: GRPCServer, listener: any Listener)>

    private init(_ server: GRPCServer, _ listener: any Listener, _ loop: EventLoop) {
        address = listener.address
        self.loop = loop
        bound = LoopBound((server, listener), to: loop)
    }

    /// Listens on `address` and serves what `register` puts in. `register` and the handlers run on the loop, which has
    /// to run for this to return.
    public static func start(
        on loop: EventLoop, address: HostPort, limits: WireLimits = WireLimits(),
        register: @escaping @Sendable (GRPCServer) -> Void
    ) async throws(NetworkError) -> RunningServer {
        let result = await loop.hop(with: LoopBound((), to: loop)) { () -> Result<RunningServer, NetworkError> in
            let server = GRPCServer(clock: loop.clock, turns: loop.turns, limits: limits)
            register(server)
            do throws(NetworkError) {
                let listener = try loop.network.listen(on: address) { server.accept($0) }
                return .success(RunningServer(server, listener, loop))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// Takes no new connections and calls, lets the open calls finish, closes. What is left after `grace` is cut.
    public func shutdown(grace: Duration = .seconds(5)) async {
        let grace = grace.nanoseconds
        await loop.hop(with: bound) { bound in
            bound.listener.close()
            await withCheckedContinuation { continuation in
                bound.server.drain(grace: grace) { continuation.resume() }
            }
        }
    }
}
