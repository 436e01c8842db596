import DequeModule
import Logging
import Prelude
import Raft
import Wire

/// This node's outgoing connections: one channel and one long-lived stream per peer, opened when there is something
/// to send.
final class PeerLinks {
    private let seams: Seams
    private let limits: Limits
    private let logger: Logger
    private let greeting: Metadata
    private var links: [NodeID: PeerLink] = [:]
    private var random: SeededRandom

    /// Messages to this peer were lost, or are likely to be.
    var onUnreachable: (NodeID) -> Void = { _ in }
    /// The last part of a snapshot has left, or was given up.
    var onSnapshotSent: (NodeID, GroupID, _ succeeded: Bool) -> Void = { _, _, _ in }

    init(seams: Seams, limits: Limits, logger: Logger, greeting: PeerGreeting) {
        self.seams = seams
        self.limits = limits
        self.logger = logger
        self.greeting = greeting.metadata
        random = SeededRandom(seed: seams.randomSeed ^ 0x5EED_0F11)
    }

    func send(_ message: Message, group: GroupID, to peer: NodeID, at address: HostPort) {
        link(to: peer, at: address).send(message, group: group)
    }

    /// Closes connections to nodes that are members no more.
    func retain(_ isMember: (NodeID) -> Bool) {
        // In order, as everything that reaches the network is: a simulation has to repeat itself.
        for (peer, link) in links.sorted(by: { $0.key < $1.key }) where !isMember(peer) {
            link.close()
            links[peer] = nil
        }
    }

    func close() {
        for (_, link) in links.sorted(by: { $0.key < $1.key }) { link.close() }
        links = [:]
    }

    private func link(to peer: NodeID, at address: HostPort) -> PeerLink {
        if let link = links[peer] {
            if link.address == address { return link }
            link.close()
        }
        let channel = GRPCChannel(
            network: seams.network, clock: seams.clock, turns: seams.turns, target: address, limits: limits.wire,
            random: SeededRandom(seed: random.next()))
        let link = PeerLink(
            peer: peer, address: address, channel: channel, greeting: greeting, limits: limits.node, logger: logger)
        link.onUnreachable = { [unowned self] in onUnreachable(peer) }
        link.onSnapshotSent = { [unowned self] group, succeeded in onSnapshotSent(peer, group, succeeded) }
        links[peer] = link
        return link
    }
}

/// The stream to one peer.
final class PeerLink {
    let address: HostPort
    private let peer: NodeID
    private let channel: GRPCChannel
    private let greeting: Metadata
    private let limits: NodeLimits
    private let logger: Logger
    private var stream: ClientStream?
    private var isCongested = false
    /// Parts of snapshots that wait for the stream to take them.
    private var parts: Deque<(group: GroupID, bytes: [UInt8], isLast: Bool)> = []

    var onUnreachable: () -> Void = {}
    var onSnapshotSent: (GroupID, _ succeeded: Bool) -> Void = { _, _ in }

    init(
        peer: NodeID, address: HostPort, channel: GRPCChannel, greeting: Metadata, limits: NodeLimits, logger: Logger
    ) {
        self.peer = peer
        self.address = address
        self.channel = channel
        self.greeting = greeting
        self.limits = limits
        self.logger = logger
    }

    func send(_ message: Message, group: GroupID) {
        let stream = openStream()
        if message.kind == .snapshot {
            queueParts(of: message, group: group)
            pumpParts()
            return
        }
        // Raft repeats what matters; a queue without a bound would only make everything late.
        guard !isCongested else {
            onUnreachable()
            return
        }
        let envelope = RaftEnvelope(PeerMessage(group: group, message: message), to: peer)
        isCongested = !stream.send(envelope.encoded())
    }

    func close() {
        giveUpParts()
        stream?.onEnd = nil
        stream?.cancel()
        stream = nil
        channel.close()
    }

    private func openStream() -> ClientStream {
        if let stream { return stream }
        let opened = channel.stream(RaftServicePath.streamMessages, metadata: greeting, timeout: nil)
        opened.onWritable = { [weak self] in
            self?.isCongested = false
            self?.pumpParts()
        }
        opened.onEnd = { [weak self, weak opened] status, _ in
            guard let self, let opened, stream === opened else { return }
            logger.debug("stream to peer ended", metadata: ["peer": "\(peer)", "status": "\(status)"])
            stream = nil
            isCongested = false
            giveUpParts()
            onUnreachable()
        }
        stream = opened
        isCongested = false
        return opened
    }

    private func queueParts(of message: Message, group: GroupID) {
        // A newer snapshot replaces one that is still waiting.
        parts.removeAll { $0.group == group }
        for part in PeerMessage.snapshotParts(of: message, group: group, byteCountMax: limits.snapshotPartByteCount) {
            let envelope = RaftEnvelope(part, to: peer)
            let isLast = part.snapshotPart + 1 == part.snapshotPartCount
            parts.append((group, envelope.encoded(), isLast))
        }
    }

    private func pumpParts() {
        while !isCongested, let stream, let part = parts.popFirst() {
            isCongested = !stream.send(part.bytes)
            if part.isLast { onSnapshotSent(part.group, true) }
        }
    }

    private func giveUpParts() {
        let groups = Set(parts.map(\.group)).sorted()
        parts.removeAll()
        for group in groups { onSnapshotSent(group, false) }
    }
}

extension RaftEnvelope {
    fileprivate init(_ message: PeerMessage, to peer: NodeID) {
        self.init(raftMessage: message.encoded(), fromNodeID: message.message.from, toNodeID: peer)
    }
}

/// How a node introduces itself on a stream to a peer.
struct PeerGreeting {
    var clusterID: String
    var nodeID: NodeID
    var address: HostPort

    private static let clusterKey = "raftoral-cluster"
    private static let nodeKey = "raftoral-node"
    private static let addressKey = "raftoral-address"

    init(clusterID: String, nodeID: NodeID, address: HostPort) {
        self.clusterID = clusterID
        self.nodeID = nodeID
        self.address = address
    }

    /// Nil when the metadata is not a node's.
    init?(_ metadata: Metadata) {
        guard let cluster = metadata[Self.clusterKey], let node = metadata[Self.nodeKey].flatMap({ UInt64($0) }),
            let address = metadata[Self.addressKey].flatMap({ HostPort($0) })
        else { return nil }
        self.init(clusterID: cluster, nodeID: NodeID(node), address: address)
    }

    var metadata: Metadata {
        var metadata = Metadata()
        metadata.add(Self.clusterKey, clusterID)
        metadata.add(Self.nodeKey, nodeID.description)
        metadata.add(Self.addressKey, address.description)
        return metadata
    }
}
