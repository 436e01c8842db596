import CUV
import Glibc
import Prelude

/// TCP over libuv.
final class LoopNetwork: Network {
    private let loop: EventLoop

    init(loop: EventLoop) { self.loop = loop }

    /// A name is resolved at once, blocking. Of its addresses the first that can be bound is taken, IPv4 before
    /// IPv6, as most who are told a name expect. `::` listens for IPv4 as well.
    func listen(
        on address: HostPort, accept: @escaping (any Connection) -> Void
    ) throws(NetworkError) -> any Listener {
        var failure = NetworkError.cannotResolve(address.host, reason: "it has no address")
        for candidate in try NameResolution.bindable(address, loop) {
            do throws(NetworkError) {
                return try TCPListener(loop: loop, name: address, address: candidate, accept: accept)
            } catch {
                failure = error
            }
        }
        throw failure
    }

    func resolve(_ address: HostPort, completion: @escaping (Result<[HostPort], NetworkError>) -> Void) {
        if NameResolution.literal(address) != nil {
            _ = loop.clock.schedule(after: 0) { completion(.success([address])) }
            return
        }
        do throws(ReactorError) {
            _ = try NameResolution(loop: loop, address: address) { answer in
                completion(
                    answer.map { SocketAddress.interleaved($0).map(\.hostPort) }
                        .mapError { .cannotResolve(address.host, reason: $0.reason) })
            }
        } catch {
            let reason = error.reason
            _ = loop.clock.schedule(after: 0) {
                completion(.failure(.cannotResolve(address.host, reason: reason)))
            }
        }
    }

    /// When the loop closes meanwhile, completes with `closedLocally`; never when it is closed already.
    func connect(
        to address: HostPort, timeout: Nanoseconds,
        completion: @escaping (Result<any Connection, NetworkError>) -> Void
    ) {
        ConnectAttempt(loop: loop, target: address, completion: completion).start(timeout: timeout)
    }
}

extension NameResolution {
    /// The addresses of a name to listen on, in the order in which they are to be tried. Blocks on a name.
    static func bindable(_ address: HostPort, _ loop: EventLoop) throws(NetworkError) -> [SocketAddress] {
        guard loop.isOpen else { throw .cannotListen(address, reason: "the loop is closed") }
        if let literal = literal(address) { return [literal] }
        switch blocking(loop, address) {
        case .success(let found):
            return found.filter { $0.family == AF_INET } + found.filter { $0.family != AF_INET }
        case .failure(let error):
            throw .cannotResolve(address.host, reason: error.reason)
        }
    }
}
