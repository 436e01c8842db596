import Prelude
import Wire

/// Asks peers who they are.
public final class Discovery {
    public typealias Answer = (peer: HostPort, result: Result<DiscoveredPeer, GRPCStatus>)

    private let seams: Seams
    private let limits: Limits
    private var random: SeededRandom

    /// How long one peer may take for one answer.
    static let attemptTimeout = Nanoseconds.milliseconds(1_500)
    static let firstBackoff = Nanoseconds.milliseconds(100)
    static let backoffMax = Nanoseconds.seconds(2)

    public init(seams: Seams, limits: Limits) {
        self.seams = seams
        self.limits = limits
        random = SeededRandom(seed: seams.randomSeed ^ 0xD15C_0FE5)
    }

    /// Asks every peer once, all at the same time; the answers stand in the order of `peers`. A name that stands for
    /// several addresses is several peers.
    public func askOnce(_ peers: [HostPort]) async -> [Answer] {
        let peers = await withCheckedContinuation { continuation in
            seams.network.resolveAll(peers) { continuation.resume(returning: $0) }
        }
        return await withCheckedContinuation { continuation in
            var results = [Result<DiscoveredPeer, GRPCStatus>?](repeating: nil, count: peers.count)
            var left = peers.count
            if left == 0 { continuation.resume(returning: []) }
            for (place, peer) in peers.enumerated() {
                ask(peer) { result in
                    results[place] = result
                    left -= 1
                    guard left == 0 else { return }
                    continuation.resume(
                        returning: zip(peers, results).compactMap { peer, result in
                            result.map { (peer, $0) }
                        })
                }
            }
        }
    }

    /// Asks again, with growing pauses, until `isEnough` or the deadline; returns the last round's answers.
    /// `report` gets every answer that is new: a peer that keeps failing for the same reason is told once.
    public func ask(
        _ peers: [HostPort], until deadline: Nanoseconds, report: (Answer) -> Void = { _ in },
        isEnough: ([DiscoveredPeer]) -> Bool
    ) async -> [DiscoveredPeer] {
        var told: [HostPort: String] = [:]
        var backoff = Self.firstBackoff
        while true {
            let answers = await askOnce(peers)
            for answer in answers {
                let text =
                    switch answer.result {
                    case .success(let found): "found \(found.nodeID) \(found.role)"
                    case .failure(let status): status.message
                    }
                if told.updateValue(text, forKey: answer.peer) != text { report(answer) }
            }
            let found = answers.compactMap { try? $0.result.get() }
            guard !isEnough(found), seams.clock.now + backoff < deadline else { return found }
            await pause(backoff / 2 + UInt64.random(in: 0...backoff / 2, using: &random))
            backoff = min(backoff * 3 / 2, Self.backoffMax)
        }
    }

    func pause(_ time: Nanoseconds) async {
        await withCheckedContinuation { continuation in
            _ = seams.clock.schedule(after: time) { continuation.resume() }
        }
    }

    /// A client for one peer; close it after use.
    func client(_ peer: HostPort) -> NodeClient {
        NodeClient(seams: seams, limits: limits.wire, target: peer, random: SeededRandom(seed: random.next()))
    }

    private func ask(_ peer: HostPort, completion: @escaping (Result<DiscoveredPeer, GRPCStatus>) -> Void) {
        let client = client(peer)
        let start = seams.clock.now
        client.call(
            RaftServicePath.discover, DiscoveryRequest(), DiscoveryResponse.self, timeout: Self.attemptTimeout
        ) { [clock = seams.clock] result in
            client.close()
            completion(result.map { DiscoveredPeer($0, askedAt: peer, latency: clock.now - start) })
        }
    }
}

extension DiscoveredPeer {
    package init(_ answer: DiscoveryResponse, askedAt address: HostPort, latency: Nanoseconds = 0) {
        self.init(
            address: address, nodeID: answer.nodeID, role: answer.role,
            highestKnownNodeID: answer.highestKnownNodeID, clusterID: answer.clusterID,
            leaderAddress: HostPort(answer.leaderAddress), latency: latency)
    }
}
