import Prelude
import Raft

/// The bytes of the log, as docs/disk-format.md has them. All integers are little-endian.
enum LogFormat {
    static let version: UInt32 = 1
    static let segmentMagic: [UInt8] = Array("RAFTOLOG".utf8)
    static let segmentHeaderByteCount = 64
    static let batchMagic: UInt32 = 0x4843_5442  // "BTCH"
    static let batchHeaderByteCount = 32
    /// Batches begin at multiples of this, so that no header lies in two sectors.
    static let batchAlignment = 32
    static let trailerByteCount = 8
    /// At the end of each batch. No byte of it is zero, so that a batch whose end was never written is told.
    static let trailer: UInt64 = 0xA5C3_96B5_5AD3_69E5
    static let recordHeaderByteCount = 24
    static let entryHeaderByteCount = 16
    /// What a disk writes wholly or not at all. Larger units are multiples of it.
    static let sectorByteCount = 512
    /// An empty batch: the room that each segment keeps for its seal.
    static let emptyBatchByteCount = batchByteCount(body: 0)

    static func batchByteCount(body byteCount: Int) -> Int {
        let unaligned = batchHeaderByteCount + byteCount + trailerByteCount
        return (unaligned + batchAlignment - 1) / batchAlignment * batchAlignment
    }

    static func segmentName(_ number: UInt64) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits + ".log"
    }

    /// The number of the segment with this file name; nil when it is not one.
    static func segmentNumber(_ name: String) -> UInt64? {
        guard name.hasSuffix(".log"), let number = UInt64(name.dropLast(4), radix: 16), number > 0,
            segmentName(number) == name
        else { return nil }
        return number
    }
}

enum BatchKind: UInt8, Sendable {
    case normal = 0
    /// The segment is complete; the next batch is in the next segment.
    case seal = 1
    /// The log was closed in order.
    case closed = 2
}

enum RecordType: UInt8, Sendable {
    case entries = 1
    case hardState = 2
    case snapshot = 3
    case compacted = 4
    /// At the head of a segment: all that is known of a group but its entries.
    case groupState = 5
}

struct SegmentHeader: Equatable, Sendable {
    var number: UInt64
    var firstSequence: UInt64

    func write(to bytes: UnsafeMutableRawBufferPointer) {
        bytes.initializeMemory(as: UInt8.self, repeating: 0)
        bytes.copyBytes(from: LogFormat.segmentMagic)
        bytes.store(LogFormat.version, at: 8)
        bytes.store(number, at: 16)
        bytes.store(firstSequence, at: 24)
        bytes.store(crc32c(UnsafeRawBufferPointer(rebasing: bytes.prefix(60))), at: 60)
    }

    /// The version of the format is checked after the checksum, whose place is the same in all versions.
    init?(_ bytes: UnsafeRawBufferPointer, version: inout UInt32) {
        guard bytes.count == LogFormat.segmentHeaderByteCount, bytes.prefix(8).elementsEqual(LogFormat.segmentMagic),
            crc32c(UnsafeRawBufferPointer(rebasing: bytes.prefix(60))) == bytes.load(UInt32.self, at: 60)
        else { return nil }
        version = bytes.load(UInt32.self, at: 8)
        number = bytes.load(UInt64.self, at: 16)
        firstSequence = bytes.load(UInt64.self, at: 24)
    }

    init(number: UInt64, firstSequence: UInt64) {
        self.number = number
        self.firstSequence = firstSequence
    }
}

struct BatchHeader: Equatable, Sendable {
    var sequence: UInt64
    var kind: BatchKind
    var bodyByteCount: Int
    var recordCount: Int
    /// Parts of the batch, cut at sector boundaries, that are all zeros as they were written.
    var blankPartCount: Int

    var byteCount: Int { LogFormat.batchByteCount(body: bodyByteCount) }

    func write(to bytes: UnsafeMutableRawBufferPointer) {
        bytes.store(LogFormat.batchMagic, at: 4)
        bytes.store(sequence, at: 8)
        bytes.store(UInt32(bodyByteCount), at: 16)
        bytes.store(UInt32(recordCount), at: 20)
        bytes.store(UInt32(blankPartCount), at: 24)
        bytes.store(UInt32(kind.rawValue), at: 28)
        bytes.store(crc32c(UnsafeRawBufferPointer(rebasing: bytes[4..<LogFormat.batchHeaderByteCount])), at: 0)
    }

    init(sequence: UInt64, kind: BatchKind, bodyByteCount: Int, recordCount: Int, blankPartCount: Int) {
        self.sequence = sequence
        self.kind = kind
        self.bodyByteCount = bodyByteCount
        self.recordCount = recordCount
        self.blankPartCount = blankPartCount
    }

    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count == LogFormat.batchHeaderByteCount, bytes.load(UInt32.self, at: 4) == LogFormat.batchMagic,
            crc32c(UnsafeRawBufferPointer(rebasing: bytes[4...])) == bytes.load(UInt32.self, at: 0),
            let kind = BatchKind(rawValue: bytes[28]), bytes.load(UInt32.self, at: 28) < 256
        else { return nil }
        self.init(
            sequence: bytes.load(UInt64.self, at: 8), kind: kind, bodyByteCount: Int(bytes.load(UInt32.self, at: 16)),
            recordCount: Int(bytes.load(UInt32.self, at: 20)), blankPartCount: Int(bytes.load(UInt32.self, at: 24)))
    }
}

/// How many parts of `bytes`, cut at the sector boundaries of the file in which they begin at `offset`, are all zeros.
func blankPartCount(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) -> Int {
    var count = 0
    var start = 0
    var end = LogFormat.sectorByteCount - Int(offset % UInt64(LogFormat.sectorByteCount))
    while start < bytes.count {
        let part = UnsafeRawBufferPointer(rebasing: bytes[start..<min(end, bytes.count)])
        if isZero(part) { count += 1 }
        start = end
        end += LogFormat.sectorByteCount
    }
    return count
}

func isZero(_ bytes: UnsafeRawBufferPointer) -> Bool {
    var place = 0
    while place + 32 <= bytes.count {
        let four =
            bytes.load(UInt64.self, at: place) | bytes.load(UInt64.self, at: place + 8)
            | bytes.load(UInt64.self, at: place + 16) | bytes.load(UInt64.self, at: place + 24)
        if four != 0 { return false }
        place += 32
    }
    while place < bytes.count {
        if bytes[place] != 0 { return false }
        place += 1
    }
    return true
}

extension UnsafeRawBufferPointer {
    /// Precondition: the value lies within the buffer.
    func load<Value: FixedWidthInteger & BitwiseCopyable>(_ type: Value.Type, at offset: Int) -> Value {
        Value(littleEndian: loadUnaligned(fromByteOffset: offset, as: type))
    }
}

extension UnsafeMutableRawBufferPointer {
    func store<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, at offset: Int) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
    }
}
