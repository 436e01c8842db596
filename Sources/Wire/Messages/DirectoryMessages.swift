import CMessages
import Prelude

/// What the machine of group 0, the directory of the cluster, applies. `raftoral.state.DirectoryCommand`.
public enum DirectoryCommand: WireMessage {
    case add(Add)
    case remove(Remove)
    case setAddress(SetAddress)

    public struct Add: Equatable, Sendable {
        public var address: String
        /// `.none`: the machine assigns the next one.
        public var nodeID: NodeID
        /// The same request id gets the same node id.
        public var requestID: String
        /// An id that the machine assigns is above this one.
        public var aboveNodeID: NodeID
        /// Up to which level the joiner knows the protocol; 0 stands for 1.
        public var protocolLevel: UInt32

        public init(
            address: String, nodeID: NodeID = .none, requestID: String = "", aboveNodeID: NodeID = .none,
            protocolLevel: UInt32 = 0
        ) {
            self.address = address
            self.nodeID = nodeID
            self.requestID = requestID
            self.aboveNodeID = aboveNodeID
            self.protocolLevel = protocolLevel
        }
    }

    public struct Remove: Equatable, Sendable {
        public var nodeID: NodeID

        public init(nodeID: NodeID) { self.nodeID = nodeID }
    }

    /// What a member announces of itself.
    public struct SetAddress: Equatable, Sendable {
        public var nodeID: NodeID
        public var address: String
        /// Up to which level it knows the protocol; 0 leaves what is known.
        public var protocolLevel: UInt32

        public init(nodeID: NodeID, address: String, protocolLevel: UInt32 = 0) {
            self.nodeID = nodeID
            self.address = address
            self.protocolLevel = protocolLevel
        }
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

/// The snapshot of group 0. `raftoral.state.DirectoryState`.
public struct DirectoryState: WireMessage {
    public var clusterID: String
    /// Ever assigned; ids are never used twice.
    public var highestNodeID: NodeID
    public var members: [DirectoryMember]
    public var groupIDs: [GroupID]
    /// Spent for ever.
    public var removedNodeIDs: [NodeID]
    /// What every member knows; never falls.
    public var protocolLevel: UInt32

    public init(
        clusterID: String = "", highestNodeID: NodeID = .none, members: [DirectoryMember] = [],
        groupIDs: [GroupID] = [], removedNodeIDs: [NodeID] = [], protocolLevel: UInt32 = 0
    ) {
        self.clusterID = clusterID
        self.highestNodeID = highestNodeID
        self.members = members
        self.groupIDs = groupIDs
        self.removedNodeIDs = removedNodeIDs
        self.protocolLevel = protocolLevel
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

public struct DirectoryMember: Equatable, Sendable {
    public var nodeID: NodeID
    public var address: String
    /// With which the member joined.
    public var requestID: String
    /// As the member itself announced it; 0: it has not come yet.
    public var protocolLevel: UInt32

    public init(nodeID: NodeID, address: String, requestID: String = "", protocolLevel: UInt32 = 0) {
        self.protocolLevel = protocolLevel
        self.nodeID = nodeID
        self.address = address
        self.requestID = requestID
    }
}

// MARK: - Codec

extension DirectoryCommand: ProtobufMapped {
    static func store(_ value: Self, in raw: inout Raftoral__State__DirectoryCommand, _ writer: inout FieldWriter) {
        switch value {
        case .add(let add):
            raw.command_case = RAFTORAL__STATE__DIRECTORY_COMMAND__COMMAND_ADD
            raw.add = writer.store(add)
        case .remove(let remove):
            raw.command_case = RAFTORAL__STATE__DIRECTORY_COMMAND__COMMAND_REMOVE
            raw.remove = writer.store(remove)
        case .setAddress(let setAddress):
            raw.command_case = RAFTORAL__STATE__DIRECTORY_COMMAND__COMMAND_SET_ADDRESS
            raw.set_address = writer.store(setAddress)
        }
    }

    static func load(
        _ raw: inout Raftoral__State__DirectoryCommand, _ reader: inout FieldReader
    ) throws(DecodingFailure) -> Self {
        switch raw.command_case {
        case RAFTORAL__STATE__DIRECTORY_COMMAND__COMMAND_ADD:
            .add(try reader.load(raw.add, as: Add.self))
        case RAFTORAL__STATE__DIRECTORY_COMMAND__COMMAND_REMOVE:
            .remove(try reader.load(raw.remove, as: Remove.self))
        case RAFTORAL__STATE__DIRECTORY_COMMAND__COMMAND_SET_ADDRESS:
            .setAddress(try reader.load(raw.set_address, as: SetAddress.self))
        default: throw reader.failure(.noKnownAlternative)
        }
    }
}

extension DirectoryCommand.Add: FieldTable {
    typealias Raw = Raftoral__State__DirectoryAdd

    static var blank: Self { Self(address: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("address", &value.address, &raw.address)
        try visitor.identifier("node_id", &value.nodeID, &raw.node_id)
        try visitor.text("request_id", &value.requestID, &raw.request_id)
        try visitor.identifier("above_node_id", &value.aboveNodeID, &raw.above_node_id)
        visitor.number(&value.protocolLevel, &raw.protocol_level)
    }
}

extension DirectoryCommand.Remove: FieldTable {
    typealias Raw = Raftoral__State__DirectoryRemove

    static var blank: Self { Self(nodeID: .none) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("node_id", &value.nodeID, &raw.node_id)
    }
}

extension DirectoryCommand.SetAddress: FieldTable {
    typealias Raw = Raftoral__State__DirectorySetAddress

    static var blank: Self { Self(nodeID: .none, address: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("node_id", &value.nodeID, &raw.node_id)
        try visitor.text("address", &value.address, &raw.address)
        visitor.number(&value.protocolLevel, &raw.protocol_level)
    }
}

extension DirectoryState: FieldTable {
    typealias Raw = Raftoral__State__DirectoryState

    static var blank: Self { Self() }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("cluster_id", &value.clusterID, &raw.cluster_id)
        try visitor.identifier("highest_node_id", &value.highestNodeID, &raw.highest_node_id)
        try visitor.messages(&value.members, &raw.members, &raw.n_members)
        try visitor.identifiers("group_ids", &value.groupIDs, &raw.group_ids, &raw.n_group_ids)
        try visitor.identifiers(
            "removed_node_ids", &value.removedNodeIDs, &raw.removed_node_ids, &raw.n_removed_node_ids)
        visitor.number(&value.protocolLevel, &raw.protocol_level)
    }
}

extension DirectoryMember: FieldTable {
    typealias Raw = Raftoral__State__DirectoryMember

    static var blank: Self { Self(nodeID: .none, address: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("node_id", &value.nodeID, &raw.node_id)
        try visitor.text("address", &value.address, &raw.address)
        try visitor.text("request_id", &value.requestID, &raw.request_id)
        visitor.number(&value.protocolLevel, &raw.protocol_level)
    }
}
