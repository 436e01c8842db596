import Prelude

/// Who this node is, kept in the data directory.
public struct NodeIdentity: Equatable, Sendable {
    public var clusterID: String
    public var nodeID: NodeID
    /// Rises by one each time the directory is opened to serve.
    public var incarnation: Incarnation
    public var advertisedAddress: String
    /// The groups that this node hosts.
    public var groups: [GroupID]

    public init(
        clusterID: String, nodeID: NodeID, incarnation: Incarnation, advertisedAddress: String, groups: [GroupID]
    ) {
        self.clusterID = clusterID
        self.nodeID = nodeID
        self.incarnation = incarnation
        self.advertisedAddress = advertisedAddress
        self.groups = groups
    }
}

/// What the identity file holds.
struct KeptIdentity: Equatable {
    var identity: NodeIdentity
    /// Which of the sets of data in the directory is this node's.
    var generation: UInt32
}

/// The form of the identity file: magic, version, byte count, payload, checksum of all before.
enum IdentityFile {
    static let name = "identity"
    static let temporaryName = "identity.new"
    static let magic: [UInt8] = Array("RAFTOIDN".utf8)
    /// 2 adds the generation, and is written where there is one: without it, earlier programs can read the file.
    static let version: UInt32 = 2
    /// Far above any identity: what is larger is none, and is not read.
    static let byteCountMax: UInt64 = 1 << 20
    private static let headerByteCount = 16

    static func encoded(_ kept: KeptIdentity) -> [UInt8] {
        let identity = kept.identity
        var payload = ByteWriter()
        payload.append(text: identity.clusterID)
        payload.append(fixed: identity.nodeID.rawValue)
        payload.append(fixed: identity.incarnation.rawValue)
        payload.append(text: identity.advertisedAddress)
        payload.append(varint: UInt64(identity.groups.count))
        for group in identity.groups { payload.append(fixed: group.rawValue) }
        if kept.generation > 0 { payload.append(fixed: kept.generation) }

        var file = ByteWriter()
        for byte in magic { file.append(byte) }
        file.append(fixed: kept.generation > 0 ? version : 1)
        file.append(fixed: UInt32(payload.bytes.count))
        for byte in payload.bytes { file.append(byte) }
        file.append(fixed: crc32c(file.bytes))
        return file.bytes
    }

    static func decoded(_ bytes: [UInt8], path: String) throws(StorageError) -> KeptIdentity {
        func damaged(_ offset: Int, _ reason: String) -> StorageError {
            .damaged(file: path, offset: UInt64(offset), reason: reason)
        }
        guard bytes.count >= headerByteCount + 4 else { throw damaged(bytes.count, "the file ends too early") }
        guard bytes.starts(with: magic) else { throw damaged(0, "it does not begin as an identity file does") }
        let (found, payloadByteCount, checksum) = bytes.withUnsafeBytes {
            ($0.load(UInt32.self, at: 8), $0.load(UInt32.self, at: 12), $0.load(UInt32.self, at: $0.count - 4))
        }
        guard Int(payloadByteCount) == bytes.count - headerByteCount - 4 else {
            throw damaged(12, "\(payloadByteCount) bytes of identity in a file of \(bytes.count)")
        }
        guard crc32c(Array(bytes.dropLast(4))) == checksum else {
            throw damaged(bytes.count - 4, "the checksum does not match")
        }
        guard found <= version else { throw .newerVersion(file: path, found: found, known: version) }
        do {
            return try payload(Array(bytes[headerByteCount..<bytes.count - 4]), version: found)
        } catch {
            throw damaged(headerByteCount + error.offset, "expected \(error.expected)")
        }
    }

    private static func payload(_ bytes: [UInt8], version: UInt32) throws(MalformedBytes) -> KeptIdentity {
        var reader = ByteReader(bytes)
        let clusterID = try reader.text()
        let nodeID = NodeID(try reader.fixed64())
        let incarnation = Incarnation(try reader.fixed64())
        let advertisedAddress = try reader.text()
        let count = try reader.count(minimumByteCount: 8)
        var groups: [GroupID] = []
        for _ in 0..<count { groups.append(GroupID(try reader.fixed64())) }
        let generation = version > 1 ? try reader.fixed32() : 0
        try reader.end()
        let identity = NodeIdentity(
            clusterID: clusterID, nodeID: nodeID, incarnation: incarnation, advertisedAddress: advertisedAddress,
            groups: groups)
        return KeptIdentity(identity: identity, generation: generation)
    }
}
