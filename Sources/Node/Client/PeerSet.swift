import Prelude

/// Which node a client asks next: what is known of each peer, and the choice. Pure: time and chance come in.
struct PeerSet {
    struct Peer {
        let address: HostPort
        /// Who answered there, or is said to be there.
        var node = NodeID.none
        /// Of the answers to `Discover`; the newest counts a quarter. Nil: it has not answered yet.
        var latency: Nanoseconds?
        /// Since it last answered.
        var failureCount: UInt64 = 0
        /// Left alone until then.
        var restsUntil: Nanoseconds = 0
    }

    private(set) var peers: [Peer] = []
    /// As the peers' newest answers have it; nil when they know of none.
    private(set) var leader: HostPort?
    /// Other names of nodes that are peers already, by which one each: a node gets one connection.
    private var aliases: [HostPort: HostPort] = [:]
    private let limits: ClientLimits
    private var random: SeededRandom

    init(limits: ClientLimits, random: SeededRandom) {
        self.limits = limits
        self.random = random
    }

    var addresses: [HostPort] { peers.map(\.address) }

    /// The peers are these from now on; what is known of those that stay is kept.
    mutating func replace(with addresses: [HostPort]) {
        let known = Dictionary(peers.map { ($0.address, $0) }, uniquingKeysWith: { first, _ in first })
        let named = Set(addresses)
        aliases = aliases.filter { named.contains($0.key) && named.contains($0.value) }
        var seen = Set(aliases.keys)
        peers = addresses.prefix(limits.peerCountMax).filter { seen.insert($0).inserted }.map {
            known[$0] ?? Peer(address: $0)
        }
    }

    mutating func answered(
        _ address: HostPort, as node: NodeID = .none, after latency: Nanoseconds, leader: HostPort?,
        leaderNode: NodeID = .none
    ) {
        let address = unified(address, node)
        if let leader {
            let known = peers.first { leaderNode != .none && $0.node == leaderNode }?.address ?? leader
            self.leader = known
            // Nearest to the log, so worth knowing even where the list of peers does not name it.
            if place(of: known) == nil, peers.count < limits.peerCountMax {
                peers.append(Peer(address: known, node: leaderNode))
            }
        }
        succeeded(address)
        guard let place = place(of: address) else { return }
        peers[place].latency = peers[place].latency.map { $0 - $0 / 4 + latency / 4 } ?? latency
    }

    /// The address under which the node is a peer, when two are the same node: the one that answered first.
    private mutating func unified(_ address: HostPort, _ node: NodeID) -> HostPort {
        guard node != .none, let place = place(of: address) else { return address }
        peers[place].node = node
        guard let other = peers.first(where: { $0.node == node && $0.address != address }) else { return address }
        let (kept, alias) = other.latency == nil ? (address, other.address) : (other.address, address)
        peers.removeAll { $0.address == alias }
        aliases[alias] = kept
        if leader == alias { leader = kept }
        return kept
    }

    mutating func succeeded(_ address: HostPort) {
        guard let place = place(of: address) else { return }
        peers[place].failureCount = 0
        peers[place].restsUntil = 0
    }

    /// It did not answer: it rests for a while that doubles with each failure, drawn from ±50 % around that, so that many
    /// clients do not return in step.
    mutating func failed(_ address: HostPort, now: Nanoseconds) {
        if leader == address { leader = nil }
        // Perhaps its other names lead to it.
        aliases = aliases.filter { $0.value != address }
        guard let place = place(of: address) else { return }
        let doublings = min(peers[place].failureCount, 16)
        let rest = min(
            Nanoseconds.milliseconds(limits.peerRestMillisecondsMin) << doublings,
            .milliseconds(limits.peerRestMillisecondsMax))
        peers[place].failureCount += 1
        peers[place].restsUntil = now + rest / 2 + UInt64.random(in: 0...rest, using: &random)
    }

    /// The nearest peer that is not at rest and not in `tried`, or the leader when it is one and wanted; when all the
    /// others rest, the one that has rested longest. Nil when all were tried.
    mutating func next(prefersLeader: Bool, tried: Set<HostPort>, now: Nanoseconds) -> HostPort? {
        let open = peers.filter { !tried.contains($0.address) }
        let awake = open.filter { $0.restsUntil <= now }
        if prefersLeader, let leader, awake.contains(where: { $0.address == leader }) { return leader }
        guard !awake.isEmpty else { return open.min { $0.restsUntil < $1.restsUntil }?.address }
        let near = awake.compactMap(\.latency).min()
        // Among peers that are about as near as the nearest the choice is drawn, so that clients spread.
        let limit = near.map { $0 + max($0 / 2, .milliseconds(limits.equalLatencyMilliseconds)) }
        let candidates = awake.filter { peer in
            guard let limit else { return true }
            return peer.latency.map { $0 <= limit } ?? false
        }
        return candidates.randomElement(using: &random)?.address
    }

    private func place(of address: HostPort) -> Int? { peers.firstIndex { $0.address == address } }
}
