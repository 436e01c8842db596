import Logging
import Node
import Prelude
import Raft
import Reactor
import Storage
import Wire

/// Raft messages between the nodes of a cluster, over `raftoral.RaftService`: what a node uses itself, for programs
/// that run Raft groups of their own or speak to nodes.
///
/// Confined to its loop. Delivery is what Raft asks for: in order on each connection, at most once, and lost when the
/// peer cannot be reached or takes nothing more; Raft repeats what matters.
public final class ClusterTransport {
    public let local: NodeConfig
    /// Peers of another cluster are refused, and refuse this one.
    public let clusterID: String
    /// A message for this node.
    public var onMessage: (Message, GroupID) -> Void = { _, _ in }
    /// Messages to the node were lost, or are likely to be.
    public var onUnreachable: (NodeID) -> Void = { _ in }

    private let loop: EventLoop
    private let seams: Seams
    private let limits: Limits
    private let links: PeerLinks
    private let snapshotRoom: SnapshotRoom
    private var addresses: [NodeID: HostPort] = [:]
    private var random: SeededRandom
    private var isClosed = false

    /// `local`: this node, with the address at which the others reach it. To be called on the loop, or before it runs.
    public init(
        local: NodeConfig, clusterID: String = "", peers: [NodeConfig] = [], on loop: EventLoop,
        limits: Limits = Limits(), logger: Logger = Logger(label: "raftoral.transport")
    ) {
        self.local = local
        self.clusterID = clusterID
        self.loop = loop
        self.limits = limits
        snapshotRoom = SnapshotRoom(byteCountMax: limits.log.snapshotByteCountMax, snapshotCountMax: 2)
        var generator = SystemRandomNumberGenerator()
        seams = loop.seams(disk: MemoryDisk(), randomSeed: generator.next())
        random = SeededRandom(seed: generator.next())
        links = PeerLinks(
            seams: seams, limits: limits, logger: logger,
            greeting: PeerGreeting(clusterID: clusterID, nodeID: local.nodeID, address: local.address))
        links.onUnreachable = { [weak self] in self?.onUnreachable($0) }
        links.onDropped = { [weak self] in self?.onUnreachable($0) }
        for peer in peers { add(peer) }
    }

    // MARK: - Nodes

    /// Adds a node, or gives one that is known another address: messages go there from now on.
    public func add(_ node: NodeConfig) { addresses[node.nodeID] = node.address }

    /// Forgets a node and closes the connection to it; false when it was not known.
    @discardableResult
    public func remove(_ node: NodeID) -> Bool {
        guard addresses.removeValue(forKey: node) != nil else { return false }
        links.retain { addresses[$0] != nil }
        return true
    }

    /// Nil: not known.
    public func address(of node: NodeID) -> HostPort? { addresses[node] }

    /// In ascending order.
    public var nodeIDs: [NodeID] { addresses.keys.sorted() }

    /// In the order of their ids.
    public var nodes: [NodeConfig] {
        addresses.map { NodeConfig(nodeID: $0.key, address: $0.value) }.sorted { $0.nodeID < $1.nodeID }
    }

    // MARK: - Sending

    /// Sends a message to the node that it names, over the one stream that stays open to it. False when that node is
    /// not known or the transport is closed.
    @discardableResult
    public func send(_ message: Message, group: GroupID) -> Bool {
        guard !isClosed, let address = addresses[message.to] else { return false }
        links.send(message, group: group, to: message.to, at: address)
        return true
    }

    /// Sends a message by a call of its own and waits until the node has taken it.
    ///
    /// Throws `NOT_FOUND` for a node that is not known, `FAILED_PRECONDITION` when the node refuses the message, and
    /// what the call fails with otherwise.
    public func deliver(
        _ message: Message, group: GroupID, timeout: Duration = .seconds(5)
    ) async throws(GRPCStatus) {
        let body = PeerMessage(group: group, message: message).encoded()
        let envelope = RaftEnvelope(
            raftMessage: body, clusterID: clusterID, fromNodeID: local.nodeID, toNodeID: message.to)
        let answer = try await call(
            message.to, RaftServicePath.sendMessage, envelope, MessageResponse.self, timeout: timeout)
        guard answer.success else { throw GRPCStatus(code: .failedPrecondition, message: answer.error) }
    }

    /// Asks a node who it is.
    public func discover(_ node: NodeID, timeout: Duration = .seconds(5)) async throws(GRPCStatus) -> DiscoveredPeer {
        let answer = try await call(
            node, RaftServicePath.discover, DiscoveryRequest(), DiscoveryResponse.self, timeout: timeout)
        return DiscoveredPeer(answer, askedAt: addresses[node] ?? local.address)
    }

    private func call<Request: WireMessage, Response: WireMessage>(
        _ node: NodeID, _ path: String, _ request: Request, _ response: Response.Type, timeout: Duration
    ) async throws(GRPCStatus) -> Response {
        guard !isClosed, let address = addresses[node] else {
            throw GRPCStatus(code: .notFound, message: "the transport knows of no node \(node)")
        }
        let client = NodeClient(
            seams: seams, limits: limits.wire, target: address, random: SeededRandom(seed: random.next()))
        defer { client.close() }
        return try await client.call(path, request, response, timeout: timeout.nanoseconds)
    }

    // MARK: - Receiving

    /// Serves `SendMessage` and `StreamMessages` of `raftoral.RaftService`: what comes goes to `onMessage`. Not for the
    /// server of a `Node`, which serves them itself.
    public func register(on server: GRPCServer) {
        server.unary(RaftServicePath.sendMessage) { [weak self] call, bytes in
            guard let self else { return call.fail(Self.gone) }
            do throws(DecodingFailure) {
                let envelope = try RaftEnvelope(decoding: bytes)
                let message = try PeerMessage(decoding: envelope.raftMessage)
                let problem = refusal(of: envelope) ?? take(message)
                call.respond(MessageResponse(success: problem == nil, error: problem ?? "").encoded())
            } catch {
                call.fail(GRPCStatus(code: .invalidArgument, message: error.description))
            }
        }
        server.streaming(RaftServicePath.streamMessages) { [weak self] stream in
            guard let self else { return stream.finish(Self.gone) }
            guard let greeting = PeerGreeting(stream.metadata), greeting.clusterID == clusterID else {
                return stream.finish(
                    GRPCStatus(code: .failedPrecondition, message: "not a node of cluster '\(clusterID)'"))
            }
            stream.onHalfClose = { [unowned stream] in stream.finish(.ok) }
            stream.readPeerMessages(
                room: snapshotRoom,
                isForUs: { [weak self] in self?.refusal(of: $0) == nil },
                take: { [weak self] message in self.map { $0.take(message) } ?? Self.gone.message })
        }
    }

    private static let gone = GRPCStatus(code: .unavailable, message: "the transport is closed")

    private func refusal(of envelope: RaftEnvelope) -> String? {
        if !envelope.clusterID.isEmpty, envelope.clusterID != clusterID {
            return "this node belongs to cluster '\(clusterID)', not '\(envelope.clusterID)'"
        }
        if envelope.toNodeID != .none, envelope.toNodeID != local.nodeID {
            return "this is node \(local.nodeID), not \(envelope.toNodeID)"
        }
        return nil
    }

    private func take(_ message: PeerMessage) -> String? {
        guard !isClosed else { return Self.gone.message }
        guard message.message.to == local.nodeID else {
            return "this is node \(local.nodeID), not \(message.message.to)"
        }
        onMessage(message.message, message.group)
        return nil
    }

    /// Closes all connections to peers. What is not yet sent is lost; nothing is received any more.
    public func close() {
        isClosed = true
        links.close()
    }
}
