import Raftoral

/// The loop's network with a resolver of the test's, that remembers what is dialled.
final class NamedNetwork: Network {
    private let inner: any Network
    /// What names stand for; all others for what the system says.
    var names: [String: [HostPort]] = [:]
    private(set) var dialled: [HostPort] = []

    init(over inner: any Network) { self.inner = inner }

    func listen(
        on address: HostPort, accept: @escaping (any Connection) -> Void
    ) throws(NetworkError) -> any Listener { try inner.listen(on: address, accept: accept) }

    func resolve(_ address: HostPort, completion: @escaping (Result<[HostPort], NetworkError>) -> Void) {
        guard let found = names[address.host] else { return inner.resolve(address, completion: completion) }
        // Asked of the system all the same: the answer comes later.
        inner.resolve(HostPort(host: "127.0.0.1", port: address.port)) { _ in completion(.success(found)) }
    }

    func connect(
        to address: HostPort, timeout: Nanoseconds, completion: @escaping (Result<any Connection, NetworkError>) -> Void
    ) {
        dialled.append(address)
        inner.connect(to: address, timeout: timeout, completion: completion)
    }
}
