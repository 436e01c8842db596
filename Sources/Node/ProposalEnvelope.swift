import Prelude
import Workflow

/// What stands in front of the payload of every entry that a node proposes: when the leader took it, and who waits.
///
///     version u8 | leader's Unix milliseconds i64 | origin node u64 | incarnation u64 | sequence u64 | payload
///
/// All integers are little-endian. The time is at a fixed place so that a leader stamps a forwarded proposal without
/// encoding it again. Entries that Raft itself appends have no data and no envelope.
struct ProposalEnvelope {
    static let version: UInt8 = 1
    static let byteCount = 33
    private static let timeOffset = 1

    var timeMilliseconds: Int64
    var origin: CommandOrigin
    var payload: ArraySlice<UInt8>

    static func encode(payload: [UInt8], origin: CommandOrigin) -> [UInt8] {
        var writer = ByteWriter(capacity: byteCount + payload.count)
        writer.append(version)
        writer.append(signed: 0)
        writer.append(fixed: origin.node.rawValue)
        writer.append(fixed: origin.incarnation.rawValue)
        writer.append(fixed: origin.sequence)
        writer.append(raw: payload)
        return writer.bytes
    }

    /// Writes the leader's time into an encoded envelope; leaves anything else as it is.
    static func stamp(_ data: inout [UInt8], timeMilliseconds: Int64) {
        guard data.count >= byteCount, data[0] == version else { return }
        let bits = UInt64(bitPattern: timeMilliseconds)
        for place in 0..<8 { data[timeOffset + place] = UInt8(truncatingIfNeeded: bits >> UInt64(8 * place)) }
    }

    init(decoding data: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(data)
        let version = try reader.byte()
        guard version == Self.version else {
            throw MalformedBytes(offset: 0, expected: "envelope version \(Self.version), found \(version)")
        }
        timeMilliseconds = try reader.signed()
        let node = NodeID(try reader.fixed64())
        let incarnation = Incarnation(try reader.fixed64())
        origin = CommandOrigin(node: node, incarnation: incarnation, sequence: try reader.fixed64())
        payload = data[Self.byteCount...]
    }
}
