import Node
import Prelude
import Reactor
import Storage
import Wire

/// Asks every peer who it is, all at the same time; the answers stand in the order of `peers`, without those that did
/// not answer. With `patience`, asks again with growing pauses until one answers or that much time has passed.
///
/// The id for a node that joins these peers is expected to be `nextNodeID` of the answers; what the cluster assigns
/// counts.
public func discoverPeers(
    _ peers: [HostPort], on loop: EventLoop, patience: Duration? = nil, limits: Limits = Limits()
) async -> [DiscoveredPeer] {
    await loop.hop(with: LoopBound((), to: loop)) {
        var generator = SystemRandomNumberGenerator()
        let seams = loop.seams(disk: MemoryDisk(), randomSeed: generator.next())
        let discovery = Discovery(seams: seams, limits: limits)
        guard let patience else {
            return await discovery.askOnce(peers).compactMap { try? $0.result.get() }
        }
        let deadline = loop.clock.now + patience.nanoseconds
        return await discovery.ask(peers, until: deadline) { !$0.isEmpty }
    }
}
