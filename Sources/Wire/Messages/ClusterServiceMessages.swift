import CMessages
import Prelude

/// Asks the leader of group 0 for an id and a place as a learner.
public struct JoinRequest: WireMessage {
    /// Where the other nodes reach the joiner.
    public var address: String
    /// `.none`: assigned by the leader.
    public var nodeID: NodeID
    /// The same request id gets the same node id.
    public var requestID: String
    /// Over all discovery answers; the new id is above it.
    public var highestKnownNodeID: NodeID
    /// The joiner's; 0 stands for 1.
    public var protocolLevel: UInt32

    public init(
        address: String, nodeID: NodeID = .none, requestID: String = "", highestKnownNodeID: NodeID = .none,
        protocolLevel: UInt32 = 0
    ) {
        self.address = address
        self.nodeID = nodeID
        self.requestID = requestID
        self.highestKnownNodeID = highestKnownNodeID
        self.protocolLevel = protocolLevel
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension JoinRequest: FieldTable {
    typealias Raw = Raftoral__JoinRequest

    static var blank: Self { Self(address: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("address", &value.address, &raw.address)
        try visitor.identifier("node_id", &value.nodeID, &raw.node_id)
        try visitor.text("request_id", &value.requestID, &raw.request_id)
        try visitor.identifier("highest_known_node_id", &value.highestKnownNodeID, &raw.highest_known_node_id)
        visitor.number(&value.protocolLevel, &raw.protocol_level)
    }
}

/// A node and where the others reach it.
public struct ClusterMember: WireMessage {
    public var nodeID: NodeID
    public var address: String
    /// As the node itself announced it; 0: it has not come yet.
    public var protocolLevel: UInt32

    public init(nodeID: NodeID, address: String, protocolLevel: UInt32 = 0) {
        self.nodeID = nodeID
        self.address = address
        self.protocolLevel = protocolLevel
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension ClusterMember: FieldTable {
    typealias Raw = Raftoral__ClusterMember

    static var blank: Self { Self(nodeID: .none, address: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("node_id", &value.nodeID, &raw.node_id)
        try visitor.text("address", &value.address, &raw.address)
        visitor.number(&value.protocolLevel, &raw.protocol_level)
    }
}

/// The joiner's place in the cluster.
public struct JoinResponse: WireMessage {
    public var nodeID: NodeID
    public var clusterID: String
    public var members: [ClusterMember]
    public var groupIDs: [GroupID]

    public init(nodeID: NodeID, clusterID: String, members: [ClusterMember] = [], groupIDs: [GroupID] = []) {
        self.nodeID = nodeID
        self.clusterID = clusterID
        self.members = members
        self.groupIDs = groupIDs
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension JoinResponse: FieldTable {
    typealias Raw = Raftoral__JoinResponse

    static var blank: Self { Self(nodeID: .none, clusterID: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("node_id", &value.nodeID, &raw.node_id)
        try visitor.text("cluster_id", &value.clusterID, &raw.cluster_id)
        try visitor.messages(&value.members, &raw.members, &raw.n_members)
        try visitor.identifiers("group_ids", &value.groupIDs, &raw.group_ids, &raw.n_group_ids)
    }
}

/// Asks a node for its view of the cluster.
public struct ClusterStatusRequest: WireMessage {
    public init() {}

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension ClusterStatusRequest: FieldTable {
    typealias Raw = Raftoral__ClusterStatusRequest

    static var blank: Self { Self() }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {}
}

/// One node's part in a group.
public struct GroupReplica: WireMessage {
    public var nodeID: NodeID
    public var isVoter: Bool
    /// 0 when the answering node does not lead the group.
    public var matchIndex: LogIndex
    public var isRecentlyActive: Bool
    /// Since the last message from it; -1 when not known.
    public var lastContactMilliseconds: Int64

    public init(
        nodeID: NodeID, isVoter: Bool = false, matchIndex: LogIndex = 0, isRecentlyActive: Bool = false,
        lastContactMilliseconds: Int64 = 0
    ) {
        self.nodeID = nodeID
        self.isVoter = isVoter
        self.matchIndex = matchIndex
        self.isRecentlyActive = isRecentlyActive
        self.lastContactMilliseconds = lastContactMilliseconds
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension GroupReplica: FieldTable {
    typealias Raw = Raftoral__GroupReplica

    static var blank: Self { Self(nodeID: .none) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("node_id", &value.nodeID, &raw.node_id)
        visitor.flag(&value.isVoter, &raw.voter)
        try visitor.identifier("match_index", &value.matchIndex, &raw.match_index)
        visitor.flag(&value.isRecentlyActive, &raw.recently_active)
        visitor.number(&value.lastContactMilliseconds, &raw.last_contact_milliseconds)
    }
}

/// One group as the answering node sees it.
public struct GroupStatus: WireMessage {
    public var groupID: GroupID
    /// Of the answering node.
    public var role: NodeRole
    public var term: Term
    public var leaderNodeID: NodeID
    public var commitIndex: LogIndex
    public var appliedIndex: LogIndex
    public var firstIndex: LogIndex
    public var lastIndex: LogIndex
    /// Hexadecimal; equal on all nodes at the same applied index.
    public var appliedDigest: String
    public var replicas: [GroupReplica]

    public init(
        groupID: GroupID, role: NodeRole = .follower, term: Term = 0, leaderNodeID: NodeID = .none,
        commitIndex: LogIndex = 0, appliedIndex: LogIndex = 0, firstIndex: LogIndex = 0, lastIndex: LogIndex = 0,
        appliedDigest: String = "", replicas: [GroupReplica] = []
    ) {
        self.groupID = groupID
        self.role = role
        self.term = term
        self.leaderNodeID = leaderNodeID
        self.commitIndex = commitIndex
        self.appliedIndex = appliedIndex
        self.firstIndex = firstIndex
        self.lastIndex = lastIndex
        self.appliedDigest = appliedDigest
        self.replicas = replicas
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension GroupStatus: FieldTable {
    typealias Raw = Raftoral__GroupStatus

    static var blank: Self { Self(groupID: .directory) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("group_id", &value.groupID, &raw.group_id)
        try visitor.code("role", &value.role, &raw.role.rawValue)
        try visitor.identifier("term", &value.term, &raw.term)
        try visitor.identifier("leader_node_id", &value.leaderNodeID, &raw.leader_node_id)
        try visitor.identifier("commit_index", &value.commitIndex, &raw.commit_index)
        try visitor.identifier("applied_index", &value.appliedIndex, &raw.applied_index)
        try visitor.identifier("first_index", &value.firstIndex, &raw.first_index)
        try visitor.identifier("last_index", &value.lastIndex, &raw.last_index)
        try visitor.text("applied_digest", &value.appliedDigest, &raw.applied_digest)
        try visitor.messages(&value.replicas, &raw.replicas, &raw.n_replicas)
    }
}

/// The cluster as the answering node sees it.
public struct ClusterStatusResponse: WireMessage {
    public var nodeID: NodeID
    public var clusterID: String
    public var address: String
    public var version: String
    public var members: [ClusterMember]
    public var groups: [GroupStatus]
    /// What every member knows.
    public var protocolLevel: UInt32

    public init(
        nodeID: NodeID, clusterID: String, address: String = "", version: String = "", members: [ClusterMember] = [],
        groups: [GroupStatus] = [], protocolLevel: UInt32 = 0
    ) {
        self.nodeID = nodeID
        self.clusterID = clusterID
        self.address = address
        self.version = version
        self.members = members
        self.groups = groups
        self.protocolLevel = protocolLevel
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension ClusterStatusResponse: FieldTable {
    typealias Raw = Raftoral__ClusterStatusResponse

    static var blank: Self { Self(nodeID: .none, clusterID: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("node_id", &value.nodeID, &raw.node_id)
        try visitor.text("cluster_id", &value.clusterID, &raw.cluster_id)
        try visitor.text("address", &value.address, &raw.address)
        try visitor.text("version", &value.version, &raw.version)
        try visitor.messages(&value.members, &raw.members, &raw.n_members)
        try visitor.messages(&value.groups, &raw.groups, &raw.n_groups)
        visitor.number(&value.protocolLevel, &raw.protocol_level)
    }
}

/// Removes a node from the cluster for good.
public struct RemoveRequest: WireMessage {
    public var nodeID: NodeID
    /// Even when too few living voters would stay.
    public var isForced: Bool
    /// By the node that was asked, to the leader of group 0.
    public var isForwarded: Bool

    public init(nodeID: NodeID, isForced: Bool = false, isForwarded: Bool = false) {
        self.nodeID = nodeID
        self.isForced = isForced
        self.isForwarded = isForwarded
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension RemoveRequest: FieldTable {
    typealias Raw = Raftoral__RemoveRequest

    static var blank: Self { Self(nodeID: .none) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("node_id", &value.nodeID, &raw.node_id)
        visitor.flag(&value.isForced, &raw.force)
        visitor.flag(&value.isForwarded, &raw.forwarded)
    }
}

/// The node is out of the directory.
public struct RemoveResponse: WireMessage {
    public init() {}

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension RemoveResponse: FieldTable {
    typealias Raw = Raftoral__RemoveResponse

    static var blank: Self { Self() }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {}
}

/// Hands the leadership of a group to another of its voters.
public struct TransferLeaderRequest: WireMessage {
    public var groupID: GroupID
    /// The node that is to lead.
    public var nodeID: NodeID

    public init(groupID: GroupID, nodeID: NodeID) {
        self.groupID = groupID
        self.nodeID = nodeID
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension TransferLeaderRequest: FieldTable {
    typealias Raw = Raftoral__TransferLeaderRequest

    static var blank: Self { Self(groupID: .directory, nodeID: .none) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("group_id", &value.groupID, &raw.group_id)
        try visitor.identifier("node_id", &value.nodeID, &raw.node_id)
    }
}

/// The transfer has been asked for.
public struct TransferLeaderResponse: WireMessage {
    public init() {}

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension TransferLeaderResponse: FieldTable {
    typealias Raw = Raftoral__TransferLeaderResponse

    static var blank: Self { Self() }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {}
}
