import Prelude

/// The network between all machines: who listens, who can reach whom, and how long bytes take.
///
/// Connections keep what TCP promises: bytes come in order, each once, or the connection breaks. What is lost
/// on the way shows as delay, a partition as silence until it heals.
final class SimulatedNetwork {
    let world: SimulatedWorld
    private var random: SeededRandom
    private var listeners: [HostPort: SimulatedListener] = [:]
    private var hosts: [String: HostState] = [:]
    /// Directions in which nothing passes.
    private var blocked: Set<Direction> = []
    private var routes: [Direction: Route] = [:]
    /// Ends whose outgoing bytes wait for a partition to heal, and ends whose other side's machine is down.
    private var stalled: [UInt64: SimulatedEndpoint] = [:]
    private var halfOpen: [UInt64: SimulatedEndpoint] = [:]
    private var nextEndpoint: UInt64 = 1
    private var nextPort: UInt16 = 40_000

    /// How rough the network is; drawn anew for each seed.
    var latencyRange: ClosedRange<UInt64> = 50_000...2_000_000
    var jitterPerMille: UInt64 = 300
    /// Of segments, which TCP sends again after a while.
    var lossPerMille = 0
    /// Of segments, that are read in several pieces.
    var chunkPerMille = 100
    /// Bytes on the way, or not yet read, beyond which a sender waits.
    var windowByteCount = 256 << 10

    struct Direction: Hashable {
        let from: String
        let to: String
    }

    /// How long bytes take in one direction. Connections keep theirs: each piece of bytes asks.
    final class Route {
        /// Drawn when it is first asked for.
        fileprivate var base: Nanoseconds?
        fileprivate var factor: UInt64?
    }

    private struct HostState { var isUp = true }

    init(world: SimulatedWorld) {
        self.world = world
        random = world.random("network")
    }

    /// What a machine sees of it.
    func interface(of loop: SimulatedLoop) -> any Network {
        hosts[loop.host] = HostState(isUp: true)
        return NetworkInterface(network: self, loop: loop)
    }

    // MARK: - Conditions

    func isBlocked(_ from: String, _ to: String) -> Bool {
        !blocked.isEmpty && blocked.contains(Direction(from: from, to: to))
    }

    func block(_ from: String, _ to: String) { blocked.insert(Direction(from: from, to: to)) }

    func unblock(_ from: String, _ to: String) {
        guard blocked.remove(Direction(from: from, to: to)) != nil else { return }
        resumeStalled()
    }

    func healAll() {
        blocked.removeAll()
        for route in routes.values { route.factor = nil }
        resumeStalled()
    }

    /// Multiplies the latency of one direction.
    func slowDown(_ from: String, _ to: String, by factor: UInt64?) {
        route(from, to).factor = factor
    }

    private func resumeStalled() {
        for (number, endpoint) in stalled.sorted(by: { $0.key < $1.key })
        where !isBlocked(endpoint.localHost, endpoint.remoteHost) {
            stalled[number] = nil
            // TCP tries again when its timer says so.
            world.schedule(after: random.draw(1_000_000...300_000_000)) { endpoint.retransmit() }
        }
    }

    func stall(_ endpoint: SimulatedEndpoint) { stalled[endpoint.number] = endpoint }

    func route(_ from: String, _ to: String) -> Route {
        let direction = Direction(from: from, to: to)
        if let known = routes[direction] { return known }
        let route = Route()
        routes[direction] = route
        return route
    }

    func latency(_ from: String, _ to: String) -> Nanoseconds { latency(route(from, to)) }

    func latency(_ route: Route) -> Nanoseconds {
        var base = route.base ?? random.drawLogarithmic(latencyRange)
        route.base = base
        if let factor = route.factor { base = min(base * factor, .seconds(2)) }
        var time = base + random.draw(0...(base * jitterPerMille / 1000))
        if lossPerMille > 0, random.chance(perMille: lossPerMille) {
            time += .milliseconds(200) << UInt64(random.draw(0...2))
        }
        return time
    }

    func splits() -> Bool { random.chance(perMille: chunkPerMille) }

    func splitPoint(of count: Int) -> Int { random.draw(1...max(1, count - 1)) }

    // MARK: - Machines

    func isUp(_ host: String) -> Bool { hosts[host]?.isUp == true }

    /// The process or the machine is gone. With `silently`, the others are told nothing until the machine is back.
    func hostDown(_ loop: SimulatedLoop, silently: Bool) {
        hosts[loop.host]?.isUp = !silently
        for (address, listener) in listeners where listener.loop === loop { listeners[address] = nil }
        let ends = loop.endpoints.sorted { $0.key < $1.key }.map(\.value)
        loop.endpoints = [:]
        for end in ends { end.vanish(silently: silently) }
    }

    func hostUp(_ host: String) {
        hosts[host] = HostState(isUp: true)
        for (number, endpoint) in halfOpen.sorted(by: { $0.key < $1.key }) where endpoint.remoteHost == host {
            halfOpen[number] = nil
            world.schedule(after: random.draw(1_000_000...500_000_000)) {
                endpoint.breakOff("connection reset by peer")
            }
        }
    }

    func noteHalfOpen(_ endpoint: SimulatedEndpoint) {
        if isUp(endpoint.remoteHost) {
            world.schedule(after: latency(endpoint.remoteHost, endpoint.localHost)) {
                endpoint.breakOff("connection reset by peer")
            }
        } else {
            halfOpen[endpoint.number] = endpoint
        }
    }

    /// Breaks the connection of `loop` that `choice` selects.
    func resetConnection(of loop: SimulatedLoop, choice: UInt64) {
        let ends = loop.endpoints.keys.sorted()
        guard !ends.isEmpty, let end = loop.endpoints[ends[Int(choice % UInt64(ends.count))]] else { return }
        end.peer?.breakOff("connection reset by peer")
        end.breakOff("connection reset by peer")
    }

    // MARK: - Listening and connecting

    fileprivate func listen(
        _ loop: SimulatedLoop, _ address: HostPort, _ accept: @escaping (any Connection) -> Void
    ) throws(NetworkError) -> any Listener {
        var address = address
        if address.port == 0 { address.port = freePort() }
        guard listeners[address] == nil else { throw .addressInUse(address) }
        let listener = SimulatedListener(network: self, loop: loop, address: address, accept: accept)
        listeners[address] = listener
        return listener
    }

    private func freePort() -> UInt16 {
        defer { nextPort += 1 }
        return nextPort
    }

    fileprivate func close(_ listener: SimulatedListener) {
        if listeners[listener.address] === listener { listeners[listener.address] = nil }
    }

    fileprivate func connect(
        _ loop: SimulatedLoop, _ address: HostPort, _ timeout: Nanoseconds,
        _ completion: @escaping (Result<any Connection, NetworkError>) -> Void
    ) {
        let attempt = Attempt(loop: loop, completion: completion)
        world.schedule(after: timeout) { attempt.end(.failure(.timedOut(address))) }
        world.schedule(after: latency(loop.host, address.host)) { [self] in
            arrive(attempt, from: loop, at: address)
        }
    }

    private func arrive(_ attempt: Attempt, from loop: SimulatedLoop, at address: HostPort) {
        guard !attempt.hasEnded, !isBlocked(loop.host, address.host), isUp(address.host) else { return }
        let back = latency(address.host, loop.host)
        guard let listener = listeners[address] else {
            world.schedule(after: back) { [self] in
                if isBlocked(address.host, loop.host) { return }
                attempt.end(.failure(.cannotConnect(address, reason: "connection refused")))
            }
            return
        }
        let (near, far) = makePair(loop, listener, address)
        far.loop.deliver { listener.acceptConnection(far) }
        world.schedule(after: back) { [self] in
            if attempt.hasEnded || !loop.isAlive || isBlocked(address.host, loop.host) {
                near.breakOff("connection timed out")
                far.breakOff("connection timed out")
            } else {
                attempt.end(.success(near))
            }
        }
    }

    private func makePair(
        _ loop: SimulatedLoop, _ listener: SimulatedListener, _ address: HostPort
    ) -> (SimulatedEndpoint, SimulatedEndpoint) {
        let local = HostPort(host: loop.host, port: freePort())
        let near = SimulatedEndpoint(number: nextEndpoint, network: self, loop: loop, remoteAddress: address)
        let far = SimulatedEndpoint(number: nextEndpoint + 1, network: self, loop: listener.loop, remoteAddress: local)
        nextEndpoint += 2
        near.peer = far
        far.peer = near
        loop.endpoints[near.number] = near
        listener.loop.endpoints[far.number] = far
        return (near, far)
    }

    private final class Attempt {
        private let loop: SimulatedLoop
        private var completion: ((Result<any Connection, NetworkError>) -> Void)?

        init(loop: SimulatedLoop, completion: @escaping (Result<any Connection, NetworkError>) -> Void) {
            self.loop = loop
            self.completion = completion
        }

        var hasEnded: Bool { completion == nil }

        func end(_ result: Result<any Connection, NetworkError>) {
            guard let completion else { return }
            self.completion = nil
            loop.deliver { completion(result) }
        }
    }
}

/// The network as the program on one machine sees it.
private final class NetworkInterface: Network {
    private let network: SimulatedNetwork
    private let loop: SimulatedLoop

    init(network: SimulatedNetwork, loop: SimulatedLoop) {
        self.network = network
        self.loop = loop
    }

    func listen(
        on address: HostPort, accept: @escaping (any Connection) -> Void
    ) throws(NetworkError) -> any Listener {
        try network.listen(loop, address, accept)
    }

    func resolve(_ address: HostPort, completion: @escaping (Result<[HostPort], NetworkError>) -> Void) {
        loop.deliver { completion(.success([address])) }
    }

    func connect(
        to address: HostPort, timeout: Nanoseconds,
        completion: @escaping (Result<any Connection, NetworkError>) -> Void
    ) {
        guard loop.isAlive else {
            return loop.deliver { completion(.failure(.broken(reason: "the machine is gone"))) }
        }
        network.connect(loop, address, timeout, completion)
    }
}

final class SimulatedListener: Listener {
    let address: HostPort
    let loop: SimulatedLoop
    private let network: SimulatedNetwork
    private var accept: ((any Connection) -> Void)?

    init(
        network: SimulatedNetwork, loop: SimulatedLoop, address: HostPort,
        accept: @escaping (any Connection) -> Void
    ) {
        self.network = network
        self.loop = loop
        self.address = address
        self.accept = accept
    }

    func acceptConnection(_ connection: SimulatedEndpoint) {
        guard let accept, !connection.isClosed else { return connection.breakOff("connection refused") }
        accept(connection)
    }

    func close() {
        network.close(self)
        accept = nil
    }
}
