import CMessages
import Prelude

/// Asks a leader for the bytes of an image of a state store from a place on.
public struct ReadImageRequest: WireMessage {
    public var groupID: GroupID
    public var imageID: UInt64
    public var offset: UInt64
    /// Who asks.
    public var fromNodeID: NodeID

    public init(groupID: GroupID, imageID: UInt64, offset: UInt64, fromNodeID: NodeID) {
        self.groupID = groupID
        self.imageID = imageID
        self.offset = offset
        self.fromNodeID = fromNodeID
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension ReadImageRequest: FieldTable {
    typealias Raw = Raftoral__ReadImageRequest

    static var blank: Self { Self(groupID: .directory, imageID: 0, offset: 0, fromNodeID: .none) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("group_id", &value.groupID, &raw.group_id)
        visitor.number(&value.imageID, &raw.image_id)
        visitor.number(&value.offset, &raw.offset)
        try visitor.identifier("from_node_id", &value.fromNodeID, &raw.from_node_id)
    }
}

/// A piece of an image.
public struct ReadImageResponse: WireMessage {
    /// Empty at the end of the image.
    public var data: [UInt8]
    /// CRC-32C of the data.
    public var checksum: UInt32

    public init(data: [UInt8], checksum: UInt32) {
        self.data = data
        self.checksum = checksum
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension ReadImageResponse: FieldTable {
    typealias Raw = Raftoral__ReadImageResponse

    static var blank: Self { Self(data: [], checksum: 0) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        visitor.bytes(&value.data, &raw.data)
        visitor.number(&value.checksum, &raw.checksum)
    }
}
