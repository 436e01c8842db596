import CMessages
import Prelude
import Workflow

/// What a node is in a Raft group. Raw values are those of `raftoral.RaftRole`.
public enum NodeRole: UInt32, Sendable, CaseIterable {
    case follower = 0
    case candidate = 1
    case leader = 2
    case learner = 3
}

/// What the disk of a node can do at present, as its peers are told with every message.
public enum DiskCondition: UInt32, Sendable, CaseIterable {
    case inOrder = 0
    /// Writes take seconds.
    case slow = 1
    /// There is no room for commands.
    case full = 2
    /// Its own is in order, but no majority of a group that it leads has room for commands.
    case fullMajority = 3
}

/// What one node sends another: one Raft message, or one command proposed from there. `raftoral.RaftMessage`.
public struct RaftEnvelope: WireMessage {
    /// An encoded `PeerMessage`; empty when the envelope carries a command.
    public var raftMessage: [UInt8]
    /// A command proposed from another node.
    public var command: Command?
    /// The group that the command is proposed to. 0 with a command stands for group 1.
    public var groupID: GroupID
    /// Who waits for the command to be applied; makes a retry harmless.
    public var origin: CommandOrigin?
    /// When set: refused unless it is the receiver's cluster.
    public var clusterID: String
    public var fromNodeID: NodeID
    /// When set: refused unless it is the receiver.
    public var toNodeID: NodeID
    /// The raw value of the sender's `DiskCondition`; a later version may know more of them.
    public var disk: UInt32

    public init(
        raftMessage: [UInt8] = [], command: Command? = nil, groupID: GroupID = .directory,
        origin: CommandOrigin? = nil, clusterID: String = "", fromNodeID: NodeID = .none, toNodeID: NodeID = .none,
        disk: UInt32 = 0
    ) {
        self.raftMessage = raftMessage
        self.command = command
        self.groupID = groupID
        self.origin = origin
        self.clusterID = clusterID
        self.fromNodeID = fromNodeID
        self.toNodeID = toNodeID
        self.disk = disk
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension RaftEnvelope: FieldTable {
    typealias Raw = Raftoral__RaftMessage

    static var blank: Self { Self() }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        visitor.bytes(&value.raftMessage, &raw.raft_message)
        try visitor.message(&value.command, &raw.command)
        try visitor.identifier("group_id", &value.groupID, &raw.group_id)
        try visitor.message(&value.origin, &raw.origin)
        try visitor.text("cluster_id", &value.clusterID, &raw.cluster_id)
        try visitor.identifier("from_node_id", &value.fromNodeID, &raw.from_node_id)
        try visitor.identifier("to_node_id", &value.toNodeID, &raw.to_node_id)
        visitor.number(&value.disk, &raw.disk)
    }
}

/// The answer to a `RaftEnvelope`. On a stream only failures are answered.
public struct MessageResponse: WireMessage {
    public var success: Bool
    public var error: String

    public init(success: Bool, error: String = "") {
        self.success = success
        self.error = error
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension MessageResponse: FieldTable {
    typealias Raw = Raftoral__MessageResponse

    static var blank: Self { Self(success: false) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        visitor.flag(&value.success, &raw.success)
        try visitor.text("error", &value.error, &raw.error)
    }
}

extension CommandOrigin: FieldTable {
    typealias Raw = Raftoral__CommandOrigin

    static var blank: Self { CommandOrigin(node: .none, incarnation: 0, sequence: 0) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("node_id", &value.node, &raw.node_id)
        try visitor.identifier("incarnation", &value.incarnation, &raw.incarnation)
        visitor.number(&value.sequence, &raw.sequence)
    }
}

/// Asks a node who it is.
public struct DiscoveryRequest: WireMessage {
    public init() {}

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension DiscoveryRequest: FieldTable {
    typealias Raw = Raftoral__DiscoveryRequest

    static var blank: Self { Self() }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {}
}

/// Who answers a discovery, and what it knows of the cluster.
public struct DiscoveryResponse: WireMessage {
    public var nodeID: NodeID
    public var role: NodeRole
    /// The highest node id ever used, as far as the answering node knows.
    public var highestKnownNodeID: NodeID
    public var address: String
    /// Empty while the node is not yet in a cluster.
    public var clusterID: String
    /// `.none` when unknown.
    public var leaderNodeID: NodeID
    /// Empty when unknown.
    public var leaderAddress: String

    public init(
        nodeID: NodeID = .none, role: NodeRole = .follower, highestKnownNodeID: NodeID = .none, address: String = "",
        clusterID: String = "", leaderNodeID: NodeID = .none, leaderAddress: String = ""
    ) {
        self.nodeID = nodeID
        self.role = role
        self.highestKnownNodeID = highestKnownNodeID
        self.address = address
        self.clusterID = clusterID
        self.leaderNodeID = leaderNodeID
        self.leaderAddress = leaderAddress
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension DiscoveryResponse: FieldTable {
    typealias Raw = Raftoral__DiscoveryResponse

    static var blank: Self { Self() }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("node_id", &value.nodeID, &raw.node_id)
        try visitor.code("role", &value.role, &raw.role.rawValue)
        try visitor.identifier("highest_known_node_id", &value.highestKnownNodeID, &raw.highest_known_node_id)
        try visitor.text("address", &value.address, &raw.address)
        try visitor.text("cluster_id", &value.clusterID, &raw.cluster_id)
        try visitor.identifier("leader_node_id", &value.leaderNodeID, &raw.leader_node_id)
        try visitor.text("leader_address", &value.leaderAddress, &raw.leader_address)
    }
}
