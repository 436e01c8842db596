import DequeModule
import Logging
import Prelude
import Raft
import Telemetry
import Wire

/// This node's outgoing connections: one channel and one long-lived stream per peer, opened when there is something
/// to send.
package final class PeerLinks {
    private let seams: Seams
    private let limits: Limits
    private let logger: Logger
    private let greeting: Metadata
    private var links = FlatMap<NodeID, PeerLink>()
    private var random: SeededRandom

    /// The stream to this peer broke: what was on it is lost.
    package var onUnreachable: (NodeID) -> Void = { _ in }
    /// More waits for this peer than should: a message was dropped.
    package var onDropped: (NodeID) -> Void = { _ in }
    /// The last part of a snapshot has left, or was given up.
    package var onSnapshotSent: (NodeID, GroupID, _ succeeded: Bool) -> Void = { _, _, _ in }

    package init(seams: Seams, limits: Limits, logger: Logger, greeting: PeerGreeting) {
        self.seams = seams
        self.limits = limits
        self.logger = logger
        self.greeting = greeting.metadata
        random = SeededRandom(seed: seams.randomSeed ^ 0x5EED_0F11)
    }

    /// `disk`: what the peer is told of this node's disk.
    package func send(
        _ message: Message, group: GroupID, to peer: NodeID, at address: HostPort, disk: DiskCondition = .inOrder
    ) {
        let link = link(to: peer, at: address)
        link.lastSent = seams.clock.now
        link.send(message, group: group, disk: disk)
    }

    /// Opens the stream to a peer when there is none, so that it learns this node's address.
    package func greet(_ peer: NodeID, at address: HostPort) {
        let link = link(to: peer, at: address)
        link.lastSent = seams.clock.now
        link.greet()
    }

    /// A call of its own on the connection to the peer.
    func call(
        _ path: String, _ request: [UInt8], to peer: NodeID, at address: HostPort, timeout: Nanoseconds,
        completion: @escaping (Result<[UInt8], GRPCStatus>) -> Void
    ) {
        let link = link(to: peer, at: address)
        link.lastSent = seams.clock.now
        link.call(path, request, timeout: timeout, completion: completion)
    }

    /// Closes connections to nodes that are members no more, unless something was sent to them lately: whoever was
    /// removed is to hear it.
    package func retain(idleFor idle: Nanoseconds = 0, _ isMember: (NodeID) -> Bool) {
        let now = seams.clock.now
        // In order, as everything that reaches the network is: a simulation has to repeat itself.
        for (peer, link) in links
        where !isMember(peer) && now >= link.lastSent + idle {
            link.close()
            links[peer] = nil
        }
    }

    /// Where the peer was reached last.
    func address(of peer: NodeID) -> HostPort? { links[peer]?.address }

    package func close() {
        for (_, link) in links { link.close() }
        links = FlatMap()
    }

    private func link(to peer: NodeID, at address: HostPort) -> PeerLink {
        if let link = links[peer] {
            if link.address == address { return link }
            link.close()
        }
        let channel = GRPCChannel(
            network: seams.network, clock: seams.clock, turns: seams.turns, target: address, limits: limits.wire,
            random: SeededRandom(seed: random.next()), credentials: seams.credentials)
        let link = PeerLink(
            peer: peer, address: address, channel: channel, greeting: greeting, limits: limits.node,
            clock: seams.clock, logger: logger, gate: LogGate(limits: limits.telemetry))
        link.onUnreachable = { [unowned self] in onUnreachable(peer) }
        link.onDropped = { [unowned self] in onDropped(peer) }
        link.onSnapshotSent = { [unowned self] group, succeeded in onSnapshotSent(peer, group, succeeded) }
        links[peer] = link
        return link
    }
}

/// The stream to one peer.
final class PeerLink {
    let address: HostPort
    var lastSent: Nanoseconds = 0
    private let peer: NodeID
    private let channel: GRPCChannel
    private let greeting: Metadata
    private let limits: NodeLimits
    private let clock: any Clock
    private let logger: Logger
    private var gate: LogGate
    private var stream: ClientStream?
    /// So much waits in the stream that parts of snapshots wait here.
    private var isCongested = false
    /// Parts of snapshots that wait for the stream to take them.
    private var parts: Deque<(group: GroupID, bytes: [UInt8], isLast: Bool)> = []

    var onUnreachable: () -> Void = {}
    var onDropped: () -> Void = {}
    var onSnapshotSent: (GroupID, _ succeeded: Bool) -> Void = { _, _ in }

    init(
        peer: NodeID, address: HostPort, channel: GRPCChannel, greeting: Metadata, limits: NodeLimits,
        clock: any Clock, logger: Logger, gate: LogGate
    ) {
        self.peer = peer
        self.address = address
        self.channel = channel
        self.greeting = greeting
        self.limits = limits
        self.clock = clock
        self.logger = logger
        self.gate = gate
    }

    func send(_ message: Message, group: GroupID, disk: DiskCondition) {
        let stream = openStream()
        if message.kind == .snapshot {
            queueParts(of: message, group: group)
            pumpParts()
            return
        }
        // Raft repeats what matters; a queue without a bound would only make everything late.
        guard !stream.isEnded, stream.queuedByteCount < limits.peerQueueByteCountMax else { return onDropped() }
        let peerMessage = PeerMessage(group: group, message: message)
        let bytes = disk == .inOrder ? RaftEnvelope.encoded(carrying: peerMessage, to: peer) : nil
        isCongested = !stream.send(bytes ?? RaftEnvelope(peerMessage, to: peer, disk: disk).encoded())
    }

    func greet() { _ = openStream() }

    func call(
        _ path: String, _ request: [UInt8], timeout: Nanoseconds,
        completion: @escaping (Result<[UInt8], GRPCStatus>) -> Void
    ) {
        channel.unary(path, request, timeout: timeout, waitForReady: true, completion: completion)
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
            log("stream to peer ended", "\(status)")
            stream = nil
            isCongested = false
            giveUpParts()
            onUnreachable()
        }
        // A peer says something only when it refuses a message.
        opened.onMessage = { [weak self] bytes in
            guard let self, let answer = try? MessageResponse(decoding: bytes) else { return }
            log("peer refuses a message", "\(answer.error)")
        }
        stream = opened
        isCongested = false
        return opened
    }

    /// As often as the peer likes, but for the gate.
    private func log(_ what: StaticString, _ reason: String) {
        guard let heldBack = gate.admit(what, at: clock.now) else { return }
        logger.debug(
            "\(what)", metadata: ["peer": "\(peer)", "reason": "\(reason)", "heldBack": "\(heldBack)"])
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
    fileprivate init(_ message: PeerMessage, to peer: NodeID, disk: DiskCondition = .inOrder) {
        self.init(
            raftMessage: message.encoded(), fromNodeID: message.message.from, toNodeID: peer, disk: disk.rawValue)
    }
}

/// How a node introduces itself on a stream to a peer.
package struct PeerGreeting {
    package var clusterID: String
    package var nodeID: NodeID
    package var address: HostPort

    private static let clusterKey = "raftoral-cluster"
    private static let nodeKey = "raftoral-node"
    private static let addressKey = "raftoral-address"

    package init(clusterID: String, nodeID: NodeID, address: HostPort) {
        self.clusterID = clusterID
        self.nodeID = nodeID
        self.address = address
    }

    /// Nil when the metadata is not a node's.
    package init?(_ metadata: Metadata) {
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
