import Prelude
import Raft

/// What a batch holds: records of the node, after the states of all groups when it is the first of its segment.
struct BatchContent {
    var kind: BatchKind = .normal
    var heads: [(GroupID, GroupState)] = []
    var records: [LogRecord] = []

    /// A record as its bytes follow the record header.
    private func small(_ record: LogRecord) -> [UInt8]? {
        var writer = ByteWriter(capacity: 24)
        switch record {
        case .entries: return nil
        case .hardState(_, let state): writer.append(state)
        case .snapshot(_, let metadata): writer.append(metadata)
        case .compacted(_, let index, let term): writer.append(LogPoint(index: index, term: term))
        }
        return writer.bytes
    }

    /// The batch with its length, and with the header of its segment before it where it is the first; nil when it is more
    /// than a batch can have.
    func measured(beginsSegment: Bool = false) -> MeasuredBatch? {
        let heads = heads.map { group, state in
            var writer = ByteWriter(capacity: 96)
            writer.append(state)
            return (group, writer.bytes)
        }
        let small = records.map(small)
        var body = heads.reduce(0) { $0 + LogFormat.recordHeaderByteCount + $1.1.count }
        for (record, bytes) in zip(records, small) {
            body += LogFormat.recordHeaderByteCount + (bytes?.count ?? Self.entriesByteCount(record))
        }
        guard body <= Int(Int32.max) else { return nil }
        let prefix = beginsSegment ? LogFormat.segmentHeaderByteCount : 0
        return MeasuredBatch(
            kind: kind, heads: heads, records: records, small: small, bodyByteCount: body, prefixByteCount: prefix)
    }

    private static func entriesByteCount(_ record: LogRecord) -> Int {
        guard case .entries(_, let entries) = record else { return 0 }
        return entries.reduce(8) { $0 + LogFormat.entryHeaderByteCount + $1.data.count }
    }
}

/// A batch whose length is known, ready to be written into memory.
struct MeasuredBatch {
    fileprivate let kind: BatchKind
    fileprivate let heads: [(GroupID, [UInt8])]
    fileprivate let records: [LogRecord]
    fileprivate let small: [[UInt8]?]
    fileprivate let bodyByteCount: Int
    fileprivate let prefixByteCount: Int

    var byteCount: Int { prefixByteCount + LogFormat.batchByteCount(body: bodyByteCount) }

    /// Fills `bytes`, which are to stand at `offset` of the file. `firstSequence` of the segment that it begins is its own.
    func write(to bytes: UnsafeMutableRawBufferPointer, sequence: UInt64, at offset: UInt64, segment number: UInt64 = 0)
    {
        invariant(bytes.count == byteCount, "a batch fills what was measured")
        if prefixByteCount > 0 {
            SegmentHeader(number: number, firstSequence: sequence)
                .write(to: UnsafeMutableRawBufferPointer(rebasing: bytes.prefix(prefixByteCount)))
        }
        var writer = RecordWriter(
            bytes: UnsafeMutableRawBufferPointer(rebasing: bytes.dropFirst(prefixByteCount)), sequence: sequence)
        for (group, bytes) in heads { writer.append(.groupState, group, bytes) }
        for (record, bytes) in zip(records, small) { writer.append(record, bytes) }
        writer.finish(
            BatchHeader(
                sequence: sequence, kind: kind, bodyByteCount: bodyByteCount,
                recordCount: heads.count + records.count, blankPartCount: 0),
            at: offset + UInt64(prefixByteCount))
    }
}

/// Fills the memory of one batch, record by record.
private struct RecordWriter {
    let bytes: UnsafeMutableRawBufferPointer
    /// The checksums of the records begin with the batch's sequence, so that a record of another batch is none here.
    let checksumStart: UInt32
    var end = LogFormat.batchHeaderByteCount

    init(bytes: UnsafeMutableRawBufferPointer, sequence: UInt64) {
        self.bytes = bytes
        checksumStart = crc32c(of: sequence)
    }

    mutating func append(_ type: RecordType, _ group: GroupID, _ payload: [UInt8]) {
        let start = end
        end += LogFormat.recordHeaderByteCount
        UnsafeMutableRawBufferPointer(rebasing: bytes[end...]).copyBytes(from: payload)
        end += payload.count
        finishRecord(from: start, type, group, entryCount: 0)
    }

    mutating func append(_ record: LogRecord, _ payload: [UInt8]?) {
        switch record {
        case .entries(let group, let entries): append(entries, of: group)
        case .hardState(let group, _): append(.hardState, group, payload ?? [])
        case .snapshot(let group, _): append(.snapshot, group, payload ?? [])
        case .compacted(let group, _, _): append(.compacted, group, payload ?? [])
        }
    }

    private mutating func append(_ entries: [Entry], of group: GroupID) {
        let start = end
        end += LogFormat.recordHeaderByteCount
        bytes.store(entries[0].index.rawValue, at: end)
        end += 8
        for entry in entries {
            bytes.store(entry.term.rawValue, at: end)
            bytes.store(UInt32(entry.data.count), at: end + 8)
            bytes.store(UInt32(entry.kind.rawValue), at: end + 12)
            end += LogFormat.entryHeaderByteCount
            entry.data.withUnsafeBytes {
                UnsafeMutableRawBufferPointer(rebasing: bytes[end...]).copyMemory(from: $0)
            }
            end += entry.data.count
        }
        finishRecord(from: start, .entries, group, entryCount: entries.count)
    }

    private func finishRecord(from start: Int, _ type: RecordType, _ group: GroupID, entryCount: Int) {
        bytes.store(UInt32(end - start), at: start + 4)
        bytes.store(UInt32(type.rawValue), at: start + 8)
        bytes.store(UInt32(entryCount), at: start + 12)
        bytes.store(group.rawValue, at: start + 16)
        let checksum = crc32c(UnsafeRawBufferPointer(rebasing: bytes[start + 4..<end]), continuing: checksumStart)
        bytes.store(checksum, at: start)
    }

    /// Writes what stands around the records, once they are all there.
    func finish(_ header: BatchHeader, at offset: UInt64) {
        let trailer = bytes.count - LogFormat.trailerByteCount
        UnsafeMutableRawBufferPointer(rebasing: bytes[end..<trailer]).initializeMemory(as: UInt8.self, repeating: 0)
        bytes.store(LogFormat.trailer, at: trailer)
        // Something that is not zero, for the count of blank parts: the part with the header is never blank.
        bytes.store(LogFormat.batchMagic, at: 4)
        var header = header
        header.blankPartCount = blankPartCount(UnsafeRawBufferPointer(bytes), at: offset)
        header.write(to: UnsafeMutableRawBufferPointer(rebasing: bytes.prefix(LogFormat.batchHeaderByteCount)))
    }
}

// MARK: - The small records

extension ByteWriter {
    mutating func append(_ state: HardState) {
        append(fixed: state.term.rawValue)
        append(fixed: state.vote.rawValue)
        append(fixed: state.commit.rawValue)
    }

    mutating func append(_ position: LogPoint) {
        append(fixed: position.index.rawValue)
        append(fixed: position.term.rawValue)
    }

    mutating func append(_ metadata: SnapshotMetadata) {
        append(LogPoint(index: metadata.index, term: metadata.term))
        let state = metadata.confState
        for list in [state.voters, state.learners, state.votersOutgoing, state.learnersNext] {
            append(varint: UInt64(list.count))
            for node in list { append(fixed: node.rawValue) }
        }
        append(state.autoLeave)
    }

    mutating func append(_ state: GroupState) {
        append(state.hardState)
        append(state.start)
        append(state.last)
        append(state.snapshot != nil)
        if let snapshot = state.snapshot { append(snapshot) }
    }
}

extension ByteReader {
    mutating func hardState() throws(MalformedBytes) -> HardState {
        HardState(term: Term(try fixed64()), vote: NodeID(try fixed64()), commit: LogIndex(try fixed64()))
    }

    mutating func position() throws(MalformedBytes) -> LogPoint {
        let start = offset
        let position = LogPoint(index: LogIndex(try fixed64()), term: Term(try fixed64()))
        // One more must still be an index.
        guard position.index.rawValue < .max else { throw MalformedBytes(offset: start, expected: "an index") }
        return position
    }

    mutating func snapshotMetadata() throws(MalformedBytes) -> SnapshotMetadata {
        let position = try position()
        var lists: [[NodeID]] = []
        for _ in 0..<4 {
            let count = try count(minimumByteCount: 8)
            var list: [NodeID] = []
            list.reserveCapacity(count)
            for _ in 0..<count { list.append(NodeID(try fixed64())) }
            lists.append(list)
        }
        let confState = ConfState(
            voters: lists[0], learners: lists[1], votersOutgoing: lists[2], learnersNext: lists[3],
            autoLeave: try bool())
        return SnapshotMetadata(index: position.index, term: position.term, confState: confState)
    }

    mutating func groupState() throws(MalformedBytes) -> GroupState {
        var state = GroupState()
        state.hardState = try hardState()
        state.start = try position()
        state.last = try position()
        state.snapshot = try bool() ? try snapshotMetadata() : nil
        return state
    }
}
