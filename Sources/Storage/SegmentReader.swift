import Prelude
import Raft

/// A record as it is found in a segment.
enum StoredRecord: Equatable {
    case record(LogRecord)
    case groupState(GroupID, GroupState)
}

struct LocatedRecord: Equatable {
    var offset: UInt64
    var byteCount: Int
    var content: StoredRecord

    var isGroupState: Bool { if case .groupState = content { true } else { false } }
}

/// How a segment ends.
enum SegmentEnd: Equatable {
    /// Prepared, and never written to.
    case unused
    /// Zeros follow the last batch.
    case open
    /// The last batch says that the next one is in the next segment.
    case sealed
    /// What lies between the offsets can be the beginning of a write that was never acknowledged, and nothing follows.
    case torn(from: UInt64, to: UInt64)
}

/// Reads one segment batch by batch and judges how it ends. Reads only; never traps on any bytes.
struct SegmentReader {
    private(set) var window: FileWindow
    private(set) var header: SegmentHeader?
    /// The end of the last whole batch.
    private(set) var position: UInt64 = 0
    /// The beginning of the last whole batch.
    private(set) var lastBatch: Range<UInt64>?
    private(set) var lastKind = BatchKind.normal
    /// Of the next batch.
    private(set) var sequence: UInt64
    private(set) var end: SegmentEnd?
    private let number: UInt64

    /// `sequence` is that of the segment's first batch; nil when the segment itself says it.
    init(
        path: String, file: any DiskFile, number: UInt64, sequence: UInt64?
    ) throws(StorageError) {
        window = try FileWindow(path: path, file: file)
        self.number = number
        self.sequence = sequence ?? 0
        try readHeader(expected: sequence)
    }

    private mutating func readHeader(expected: UInt64?) throws(StorageError) {
        let count = UInt64(LogFormat.segmentHeaderByteCount)
        var version: UInt32 = 0
        var isHeaderZero = true
        var found: SegmentHeader?
        if window.byteCount >= count {
            found = try window.with(0..<count) { bytes in
                isHeaderZero = isZero(bytes)
                return SegmentHeader(bytes, version: &version)
            }
        }
        guard let found else {
            let rest = try window.remainder(from: isHeaderZero ? 0 : count, after: (expected ?? 1) - 1)
            if isHeaderZero {
                if let later = rest.laterBatch {
                    throw damage(at: 0, "no segment header before batch \(later.sequence) at byte \(later.offset)")
                }
                end = rest.end.map { .torn(from: 0, to: $0) } ?? .unused
            } else {
                guard rest.isBlank else { throw damage(at: 0, "the segment header's checksum does not match") }
                end = .torn(from: 0, to: count)
            }
            return
        }
        guard version <= LogFormat.version else {
            throw .newerVersion(file: window.path, found: version, known: LogFormat.version)
        }
        guard found.number == number else { throw damage(at: 16, "the header is that of segment \(found.number)") }
        guard found.firstSequence > 0, found.firstSequence < .max / 2,
            expected == nil || found.firstSequence == expected
        else {
            throw damage(at: 24, "the segment begins with batch \(found.firstSequence), not \(sequence)")
        }
        header = found
        sequence = found.firstSequence
        position = count
    }

    /// The records of the next batch; nil at the segment's end, which `end` then tells.
    mutating func next() throws(StorageError) -> [LocatedRecord]? {
        guard end == nil else { return nil }
        let start = position
        guard let batch = try readHeader(at: start) else { return nil }
        guard batch.sequence == sequence else {
            throw damage(at: start, "batch \(batch.sequence) where batch \(sequence) should be")
        }
        let range = start..<start + UInt64(batch.byteCount)
        var records: [LocatedRecord] = []
        var problem: BodyProblem?
        var isPartMissing = true
        if range.upperBound <= window.byteCount {
            try window.with(range) { bytes in
                problem = batch.decodeBody(bytes, at: start, &records)
                if problem != nil { isPartMissing = Self.isPartMissing(bytes, batch, at: start) }
            }
        } else {
            problem = BodyProblem(offset: start, reason: "the file ends within batch \(sequence)")
        }
        if let problem {
            let after = min(range.upperBound, window.byteCount)
            guard isPartMissing, try window.remainder(from: after, after: sequence).isBlank else {
                throw damage(at: problem.offset, problem.reason)
            }
            tear(from: start, to: after)
            return nil
        }
        position = range.upperBound
        lastBatch = range
        lastKind = batch.kind
        sequence += 1
        if batch.kind == .seal { try finishSealed() }
        return records
    }

    /// The header of the batch at `start`; nil where there is none, with `end` set.
    private mutating func readHeader(at start: UInt64) throws(StorageError) -> BatchHeader? {
        let range = start..<min(start + UInt64(LogFormat.batchHeaderByteCount), window.byteCount)
        var isHeaderZero = true
        var header: BatchHeader?
        if !range.isEmpty {
            try window.with(range) { bytes in
                isHeaderZero = isZero(bytes)
                header = BatchHeader(bytes)
            }
        }
        if let header { return header }
        // A disk writes sectors wholly or not at all, and the header lies in one: when it is not zeros, it was written,
        // or cut short with nothing behind it.
        let rest = try window.remainder(from: isHeaderZero ? start : range.upperBound, after: sequence)
        if isHeaderZero {
            if let later = rest.laterBatch {
                throw damage(
                    at: start,
                    "zeros where batch \(sequence) should be, and batch \(later.sequence) follows at byte \(later.offset)"
                )
            }
            if let garbageEnd = rest.end {
                tear(from: start, to: garbageEnd)
            } else if lastBatch == nil {
                tear(from: start, to: start)
            } else {
                end = .open
            }
            return nil
        }
        guard rest.isBlank else { throw damage(at: start, "the checksum of the header of batch \(sequence) is wrong") }
        tear(from: start, to: range.upperBound)
        return nil
    }

    /// The header of a segment is written with its first batch: without that one there is nothing to keep.
    private mutating func tear(from start: UInt64, to garbageEnd: UInt64) {
        end = .torn(from: lastBatch == nil ? 0 : start, to: garbageEnd)
        if lastBatch == nil { position = 0 }
    }

    private mutating func finishSealed() throws(StorageError) {
        let rest = try window.remainder(from: position, after: sequence)
        if rest.end != nil { throw damage(at: position, "bytes after the seal of the segment") }
        end = .sealed
    }

    /// Whether the bytes lack something that every whole batch has: a part that the writer counted as not blank, or
    /// the trailer. A flipped bit takes neither away.
    private static func isPartMissing(_ bytes: UnsafeRawBufferPointer, _ batch: BatchHeader, at start: UInt64) -> Bool {
        bytes.load(UInt64.self, at: bytes.count - LogFormat.trailerByteCount) == 0
            || blankPartCount(bytes, at: start) > batch.blankPartCount
    }

    private func damage(at offset: UInt64, _ reason: String) -> StorageError {
        .damaged(file: window.path, offset: offset, reason: reason)
    }
}
