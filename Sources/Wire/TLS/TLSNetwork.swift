import Prelude
import Telemetry

/// What a process presents and whom it trusts, as server and as client.
public struct TLSSettings: Sendable, Equatable {
    /// To clients. Nil: this process serves nobody by TLS.
    public var server: TLSCredentials?
    public var clients: TLSClientAuthentication
    /// To other nodes, in both directions; they have to have certificates of its CA. Nil: nodes come as clients do.
    public var peers: TLSCredentials?
    /// When this process connects to somebody. Nil: in cleartext.
    public var client: TLSCredentials?

    public init(
        server: TLSCredentials? = nil, clients: TLSClientAuthentication = .none, peers: TLSCredentials? = nil,
        client: TLSCredentials? = nil
    ) {
        self.server = server
        self.clients = clients
        self.peers = peers
        self.client = client
    }
}

/// A network whose connections are TLS, over one whose connections are not. Confined to the loop.
///
/// New settings count for new connections; open ones go on with those that they began with.
public final class TLSNetwork: Network {
    private let inner: any Network
    private let clock: any Clock
    private let limits: WireLimits
    private var server: TLSContext?
    private var client: TLSContext?
    private var isPeer = false
    /// What the addresses were resolved from.
    private var names: [HostPort: String] = [:]
    /// Those of callers that are under way, numbered as they came.
    private var handshakes: [UInt64: TLSConnection] = [:]
    private var handshakeNumber: UInt64 = 0
    /// None before it is under way.
    private var oldestHandshake: UInt64 = 0
    private let outcomes: (done: MetricCounter, failed: MetricCounter, refused: MetricCounter)
    private let expiry: MetricGauge

    /// An incoming connection that came to nothing, and why. A peer can cause many of these.
    public var onRefused: (HostPort, String) -> Void = { _, _ in }

    public init(
        over inner: any Network, clock: any Clock, limits: WireLimits, settings: TLSSettings,
        metrics: MetricsRegistry = MetricsRegistry()
    ) throws(TLSFailure) {
        self.inner = inner
        self.clock = clock
        self.limits = limits
        let name = "raftoral_tls_handshakes_total"
        let help = "TLS handshakes of callers, by outcome."
        outcomes = (
            metrics.counter(name, help: help, labels: [("outcome", "done")]),
            metrics.counter(name, help: help, labels: [("outcome", "failed")]),
            metrics.counter(name, help: help, labels: [("outcome", "refused")])
        )
        expiry = metrics.gauge(
            "raftoral_tls_certificate_expiry_seconds", help: "When this node's certificate expires, in Unix time.")
        try update(settings)
    }

    /// On failure everything stays as it was.
    public func update(_ settings: TLSSettings) throws(TLSFailure) {
        let time = clock.wallMilliseconds / 1000
        let peers = try settings.peers.map { credentials throws(TLSFailure) in
            try TLSContext(server: credentials, clients: .required, peers: nil, time: time)
        }
        let server = try settings.server.map { credentials throws(TLSFailure) in
            try TLSContext(server: credentials, clients: settings.clients, peers: peers, time: time)
        }
        let client = try (settings.peers ?? settings.client).map { credentials throws(TLSFailure) in
            try TLSContext(client: credentials, time: time)
        }
        self.server = server
        self.client = client
        isPeer = settings.peers != nil
        let ends = [server, peers].compactMap { $0?.validity?.upperBound }
        if let end = ends.min() { expiry.set(Double(end)) }
    }

    public func listen(
        on address: HostPort, accept: @escaping (any Connection) -> Void
    ) throws(NetworkError) -> any Listener {
        try inner.listen(on: address) { [weak self] transport in
            guard let self else { return transport.close() }
            guard let server else { return accept(transport) }
            take(transport, server, accept)
        }
    }

    private func take(_ transport: any Connection, _ server: TLSContext, _ accept: @escaping (any Connection) -> Void) {
        if handshakes.count >= limits.handshakeCountMax { giveUpOldestHandshake() }
        let remote = transport.remoteAddress
        let timeout = Nanoseconds.milliseconds(limits.handshakeTimeoutMilliseconds)
        let number = handshakeNumber
        handshakeNumber += 1
        let connection = TLSConnection(
            transport, context: server, host: nil, asPeer: false, clock: clock, timeout: timeout
        ) { [weak self] result in
            self?.handshakes[number] = nil
            switch result {
            case .success(let connection):
                self?.outcomes.done.increment()
                accept(connection)
            case .failure(let reason):
                if reason == Self.crowded {
                    self?.outcomes.refused.increment()
                } else {
                    self?.outcomes.failed.increment()
                }
                self?.onRefused(remote, "\(reason)")
            }
        }
        guard let connection else { return transport.close() }
        handshakes[number] = connection
    }

    private static let crowded = NetworkError.broken(reason: "TLS: too many handshakes are under way")

    /// The one that has had most time: whoever means well needs little, so that those who say nothing push out each
    /// other.
    private func giveUpOldestHandshake() {
        while oldestHandshake < handshakeNumber {
            defer { oldestHandshake += 1 }
            guard let connection = handshakes[oldestHandshake] else { continue }
            return connection.giveUp(Self.crowded)
        }
    }

    public func resolve(_ address: HostPort, completion: @escaping (Result<[HostPort], NetworkError>) -> Void) {
        guard client != nil else { return inner.resolve(address, completion: completion) }
        inner.resolve(address) { [weak self] result in
            if case .success(let found) = result { self?.note(found, as: address.host) }
            completion(result)
        }
    }

    /// A certificate names the name that was asked for, not the addresses that it stands for.
    private func note(_ addresses: [HostPort], as name: String) {
        if names.count + addresses.count > limits.resolvedNameCountMax { names.removeAll() }
        for address in addresses where address.host != name { names[address] = name }
    }

    public func connect(
        to address: HostPort, timeout: Nanoseconds,
        completion: @escaping (Result<any Connection, NetworkError>) -> Void
    ) {
        guard let client else { return inner.connect(to: address, timeout: timeout, completion: completion) }
        let start = clock.now
        inner.connect(to: address, timeout: timeout) { [weak self] result in
            guard let self else { return completion(.failure(.closedLocally)) }
            switch result {
            case .failure(let error): completion(.failure(error))
            case .success(let transport):
                let left = timeout - min(timeout, clock.now - start)
                secure(transport, client, address, timeout: left, completion)
            }
        }
    }

    private func secure(
        _ transport: any Connection, _ client: TLSContext, _ address: HostPort, timeout: Nanoseconds,
        _ completion: @escaping (Result<any Connection, NetworkError>) -> Void
    ) {
        let connection = TLSConnection(
            transport, context: client, host: names[address] ?? address.host, asPeer: isPeer, clock: clock,
            timeout: timeout
        ) { result in completion(result.map { $0 as any Connection }) }
        guard connection != nil else {
            transport.close()
            return completion(
                .failure(.cannotConnect(address, reason: "TLS: no memory, or \(address.host) is no name")))
        }
    }
}
