import Prelude

/// Memory that can be written to a disk as it is: its address is a multiple of the disk's unit.
final class AlignedBytes: @unchecked Sendable {
    // Sendable: who fills it lets it be until the work item that writes it has come back.
    let memory: UnsafeMutableRawBufferPointer

    init(byteCount: Int) { memory = .allocate(byteCount: byteCount, alignment: DiskUnit.byteCount) }

    deinit { memory.deallocate() }
}

/// A batch with what belongs to it on the disk: its first unit has the end of the batches before it, its last one zeros
/// after it. So whole units are written, none of which has to be read before, and past the system's memory.
struct SegmentPiece: Sendable {
    private let bytes: AlignedBytes
    private let byteCount: Int
    /// Where it begins in the file.
    private let offset: UInt64
    /// Where the batch ends in the file.
    private let end: UInt64

    /// - Parameters:
    ///   - tail: what stands in the file between the beginning of the unit and `position`.
    ///   - room: the end of the zeros in the file. A batch that ends in the last unit before it has no zeros after it.
    init(
        _ batch: MeasuredBatch, sequence: UInt64, at position: UInt64, tail: [UInt8], room: UInt64,
        segment number: UInt64 = 0, memory: (_ byteCount: Int) -> AlignedBytes
    ) {
        offset = position - UInt64(tail.count)
        end = position + UInt64(batch.byteCount)
        let padded = DiskUnit.ceiling(end)
        byteCount = Int((padded <= room ? padded : end) - offset)
        bytes = memory(byteCount)
        bytes.memory.copyBytes(from: tail)
        let batchEnd = tail.count + batch.byteCount
        batch.write(
            to: UnsafeMutableRawBufferPointer(rebasing: bytes.memory[tail.count..<batchEnd]), sequence: sequence,
            at: position, segment: number)
        UnsafeMutableRawBufferPointer(rebasing: bytes.memory[batchEnd..<byteCount])
            .initializeMemory(as: UInt8.self, repeating: 0)
    }

    func write(to file: any DiskFile) throws(DiskError) {
        try file.write(UnsafeRawBufferPointer(rebasing: bytes.memory.prefix(byteCount)), at: offset)
    }

    /// The `tail` of the next one.
    var tail: [UInt8] {
        let start = max(DiskUnit.floor(end), offset) - offset
        return Array(bytes.memory[Int(start)..<Int(end - offset)])
    }
}
