import Prelude
import Raft

/// Why the bytes after a batch's header are not its records.
struct BodyProblem {
    var offset: UInt64
    var reason: String
}

extension BatchHeader {
    /// Appends the records of the batch, whose bytes are all in `bytes`, or says what is wrong with them.
    func decodeBody(
        _ bytes: UnsafeRawBufferPointer, at start: UInt64, _ records: inout [LocatedRecord]
    ) -> BodyProblem? {
        let bodyEnd = LogFormat.batchHeaderByteCount + bodyByteCount
        let checksumStart = crc32c(of: sequence)
        var place = LogFormat.batchHeaderByteCount
        for _ in 0..<recordCount {
            func problem(_ reason: String) -> BodyProblem {
                BodyProblem(offset: start + UInt64(place), reason: reason)
            }
            guard bodyEnd - place >= LogFormat.recordHeaderByteCount else {
                return problem("batch \(sequence) ends before its last record")
            }
            let count = Int(bytes.load(UInt32.self, at: place + 4))
            guard count >= LogFormat.recordHeaderByteCount, count <= bodyEnd - place else {
                return problem("a record of \(count) bytes does not fit into batch \(sequence)")
            }
            let record = UnsafeRawBufferPointer(rebasing: bytes[place..<place + count])
            guard
                crc32c(UnsafeRawBufferPointer(rebasing: record[4...]), continuing: checksumStart)
                    == record.load(UInt32.self, at: 0)
            else { return problem("the checksum of a record of batch \(sequence) does not match") }
            do {
                let content = try StoredRecord(record)
                records.append(LocatedRecord(offset: start + UInt64(place), byteCount: count, content: content))
            } catch {
                return problem("a record of batch \(sequence) has a valid checksum and \(error)")
            }
            place += count
        }
        guard place == bodyEnd else {
            return BodyProblem(
                offset: start + UInt64(place), reason: "batch \(sequence) goes on after its last record")
        }
        return nil
    }
}

extension StoredRecord {
    /// Decodes a whole record whose checksum has been checked.
    fileprivate init(_ bytes: UnsafeRawBufferPointer) throws(MalformedBytes) {
        let group = GroupID(bytes.load(UInt64.self, at: 16))
        let payload = UnsafeRawBufferPointer(rebasing: bytes[LogFormat.recordHeaderByteCount...])
        guard bytes.load(UInt32.self, at: 8) < 256, let type = RecordType(rawValue: bytes[8]) else {
            throw MalformedBytes(offset: 8, expected: "a known type of record")
        }
        if type == .entries {
            let count = Int(bytes.load(UInt32.self, at: 12))
            self = .record(.entries(group, try Self.entries(payload, count: count)))
            return
        }
        var reader = ByteReader(Array(payload))
        switch type {
        case .hardState: self = .record(.hardState(group, try reader.hardState()))
        case .snapshot: self = .record(.snapshot(group, try reader.snapshotMetadata()))
        case .compacted:
            let position = try reader.position()
            self = .record(.compacted(group, position.index, position.term))
        case .groupState: self = .groupState(group, try reader.groupState())
        case .entries: invariantBroken("entries are decoded above")
        }
        try reader.end()
    }

    private static func entries(
        _ payload: UnsafeRawBufferPointer, count: Int
    ) throws(MalformedBytes) -> [Entry] {
        guard count > 0, payload.count >= 8, count <= (payload.count - 8) / LogFormat.entryHeaderByteCount else {
            throw MalformedBytes(offset: 12, expected: "as many entries as it has room for")
        }
        let first = payload.load(UInt64.self, at: 0)
        guard first > 0, first <= UInt64.max - UInt64(count) else {
            throw MalformedBytes(offset: 24, expected: "an index of an entry")
        }
        var entries: [Entry] = []
        entries.reserveCapacity(count)
        var place = 8
        for number in 0..<UInt64(count) {
            guard payload.count - place >= LogFormat.entryHeaderByteCount,
                case let byteCount = Int(payload.load(UInt32.self, at: place + 8)),
                byteCount <= payload.count - place - LogFormat.entryHeaderByteCount,
                case let rawKind = payload.load(UInt32.self, at: place + 12),
                let kind = UInt8(exactly: rawKind).flatMap(EntryKind.init(rawValue:))
            else { throw MalformedBytes(offset: place, expected: "an entry") }
            let start = place + LogFormat.entryHeaderByteCount
            entries.append(
                Entry(
                    term: Term(payload.load(UInt64.self, at: place)), index: LogIndex(first + number), kind: kind,
                    data: Array(payload[start..<start + byteCount])))
            place = start + byteCount
        }
        guard place == payload.count else { throw MalformedBytes(offset: place, expected: "the end") }
        return entries
    }
}
