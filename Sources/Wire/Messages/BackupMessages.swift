import CMessages
import Prelude

// The calls of `raftoral.ClusterService` by which a backup is made and read.

/// Makes a backup of everything acknowledged before this call.
public struct BeginBackupRequest: WireMessage {
    public init() {}

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension BeginBackupRequest: FieldTable {
    typealias Raw = Raftoral__BeginBackupRequest

    static var blank: Self { Self() }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {}
}

/// A backup that can be read from now on, from the same node.
public struct BeginBackupResponse: WireMessage {
    public var backupID: UInt64
    public var byteCount: UInt64
    /// CRC-32C of the whole file.
    public var checksum: UInt32
    /// Of group 1: everything up to here is in it.
    public var appliedIndex: LogIndex
    /// Who made it.
    public var nodeID: NodeID

    public init(backupID: UInt64, byteCount: UInt64, checksum: UInt32, appliedIndex: LogIndex, nodeID: NodeID) {
        self.backupID = backupID
        self.byteCount = byteCount
        self.checksum = checksum
        self.appliedIndex = appliedIndex
        self.nodeID = nodeID
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension BeginBackupResponse: FieldTable {
    typealias Raw = Raftoral__BeginBackupResponse

    static var blank: Self { Self(backupID: 0, byteCount: 0, checksum: 0, appliedIndex: 0, nodeID: .none) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        visitor.number(&value.backupID, &raw.backup_id)
        visitor.number(&value.byteCount, &raw.byte_count)
        visitor.number(&value.checksum, &raw.checksum)
        try visitor.identifier("applied_index", &value.appliedIndex, &raw.applied_index)
        try visitor.identifier("node_id", &value.nodeID, &raw.node_id)
    }
}

/// Asks for the bytes of a backup from a place on.
public struct ReadBackupRequest: WireMessage {
    public var backupID: UInt64
    public var offset: UInt64

    public init(backupID: UInt64, offset: UInt64) {
        self.backupID = backupID
        self.offset = offset
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension ReadBackupRequest: FieldTable {
    typealias Raw = Raftoral__ReadBackupRequest

    static var blank: Self { Self(backupID: 0, offset: 0) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        visitor.number(&value.backupID, &raw.backup_id)
        visitor.number(&value.offset, &raw.offset)
    }
}

/// A piece of a backup.
public struct ReadBackupResponse: WireMessage {
    /// Empty at the end of the file.
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

extension ReadBackupResponse: FieldTable {
    typealias Raw = Raftoral__ReadBackupResponse

    static var blank: Self { Self(data: [], checksum: 0) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        visitor.bytes(&value.data, &raw.data)
        visitor.number(&value.checksum, &raw.checksum)
    }
}

/// The backup is not needed any more.
public struct EndBackupRequest: WireMessage {
    public var backupID: UInt64

    public init(backupID: UInt64) {
        self.backupID = backupID
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension EndBackupRequest: FieldTable {
    typealias Raw = Raftoral__EndBackupRequest

    static var blank: Self { Self(backupID: 0) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        visitor.number(&value.backupID, &raw.backup_id)
    }
}

/// It is gone.
public struct EndBackupResponse: WireMessage {
    public init() {}

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension EndBackupResponse: FieldTable {
    typealias Raw = Raftoral__EndBackupResponse

    static var blank: Self { Self() }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {}
}
