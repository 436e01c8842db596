import Prelude

/// Reads a file from its beginning to its end through a window, so that memory is bounded by the largest piece asked
/// for and not by the file.
struct FileWindow {
    let path: String
    let file: any DiskFile
    let byteCount: UInt64
    private var window: [UInt8] = []
    private var start: UInt64 = 0
    private static let readAheadByteCount: UInt64 = 1 << 20

    init(path: String, file: any DiskFile) throws(StorageError) {
        self.path = path
        self.file = file
        byteCount = try onDisk { () throws(DiskError) in try file.byteCount }
    }

    /// Calls `body` with the bytes of `range`. Precondition: the file holds them.
    mutating func with<Value>(
        _ range: Range<UInt64>, _ body: (UnsafeRawBufferPointer) throws(StorageError) -> Value
    ) throws(StorageError) -> Value {
        invariant(range.upperBound <= byteCount, "only bytes of the file are asked for")
        if range.lowerBound < start || range.upperBound > start + UInt64(window.count) { try load(range) }
        let place = Int(range.lowerBound - start)
        do {
            return try window.withUnsafeBytes { bytes in
                try body(UnsafeRawBufferPointer(rebasing: bytes[place..<place + range.count]))
            }
        } catch let error as StorageError {
            throw error
        } catch {
            invariantBroken("a window throws only its own errors")
        }
    }

    private mutating func load(_ range: Range<UInt64>) throws(StorageError) {
        let wanted = max(UInt64(range.count), Self.readAheadByteCount)
        let count = Int(min(wanted, byteCount - range.lowerBound))
        if window.count != count { window = [UInt8](repeating: 0, count: count) }
        start = range.lowerBound
        let path = path
        let file = file
        do {
            let read = try window.withUnsafeMutableBytes { try file.read(into: $0, at: range.lowerBound) }
            guard read == count else {
                throw DiskError(kind: .io, operation: "read", path: path, reason: "the file became shorter")
            }
        } catch let error as DiskError {
            window = []
            throw StorageError(error)
        } catch {
            invariantBroken("a file throws only its own errors")
        }
    }
}

/// What lies from some offset to the end of a file.
struct Remainder {
    /// The end of the last byte that is not zero; nil when all are zeros.
    var end: UInt64?
    /// The first header of a batch with a higher sequence than the one asked for.
    var laterBatch: (offset: UInt64, sequence: UInt64)?

    var isBlank: Bool { end == nil }
}

extension FileWindow {
    /// Looks at everything from `offset`, a multiple of the batch alignment, for bytes that are not zero and for
    /// batches later than `sequence`.
    mutating func remainder(from offset: UInt64, after sequence: UInt64) throws(StorageError) -> Remainder {
        var found = Remainder()
        var place = offset
        let step: UInt64 = 64 << 10
        while place < byteCount {
            let range = place..<min(place + step, byteCount)
            try with(range) { bytes in
                if !isZero(bytes) { Self.look(at: bytes, from: place, after: sequence, &found) }
            }
            place = range.upperBound
        }
        return found
    }

    private static func look(
        at bytes: UnsafeRawBufferPointer, from offset: UInt64, after sequence: UInt64, _ found: inout Remainder
    ) {
        for place in stride(from: 0, to: bytes.count, by: LogFormat.batchAlignment) {
            let end = min(place + LogFormat.batchHeaderByteCount, bytes.count)
            let slot = UnsafeRawBufferPointer(rebasing: bytes[place..<end])
            guard let last = slot.lastIndex(where: { $0 != 0 }) else { continue }
            found.end = offset + UInt64(place + last + 1)
            if found.laterBatch == nil, let header = BatchHeader(slot), header.sequence > sequence {
                found.laterBatch = (offset + UInt64(place), header.sequence)
            }
        }
    }
}
