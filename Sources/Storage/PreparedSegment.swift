import Prelude

/// A segment file on its way from nothing to a file full of zeros whose name is durable. Its steps block, and belong
/// into work items; a value travels with the item that works on it.
struct PreparedSegment: Sendable {
    let number: UInt64
    let path: String
    var file: (any DiskFile)?
    /// Whether the directory that names it has been synchronized.
    var isLinked = false
    /// Zeros have been written up to here.
    var filledByteCount: UInt64 = 0

    init(number: UInt64, directory: String) {
        self.number = number
        path = filePath(directory, LogFormat.segmentName(number))
    }

    /// Does what is missing until there are zeros up to `byteCount`. May be called again after a failure.
    mutating func prepare(to byteCount: UInt64, disk: any Disk) throws(DiskError) {
        let file = try opened(by: disk)
        if !isLinked {
            try disk.synchronizeDirectory(parentDirectory(of: path))
            isLinked = true
        }
        try fillWithZeros(file, from: &filledByteCount, to: byteCount)
    }

    /// Makes the zeros durable, so that they do not weigh on the first batches. A full disk may show here at last;
    /// the file is given up then, for the system may have dropped what it could not write.
    mutating func synchronize(disk: any Disk) throws(DiskError) {
        do { try file?.synchronizeData() } catch {
            if error.kind == .noSpace {
                file?.close()
                self = PreparedSegment(number: number, directory: parentDirectory(of: path))
                // What stays behind is taken over, and filled anew, by the next attempt.
                try? disk.remove(path)
            }
            throw error
        }
    }

    private mutating func opened(by disk: any Disk) throws(DiskError) -> any DiskFile {
        if let file { return file }
        let opened: any DiskFile
        do {
            opened = try disk.open(path, .createNew)
        } catch  where error.kind == .exists {
            opened = try disk.open(path, .readWrite)
        }
        opened.preferDirectWrites()
        file = opened
        return opened
    }
}

/// One piece of what files are filled with.
private let zeros: AlignedBytes = {
    let zeros = AlignedBytes(byteCount: 256 << 10)
    zeros.memory.initializeMemory(as: UInt8.self, repeating: 0)
    return zeros
}()

/// Writes zeros from `start` to `end` and moves `start` along.
func fillWithZeros(_ file: any DiskFile, from start: inout UInt64, to end: UInt64) throws(DiskError) {
    while start < end {
        // Up to the end of a unit first; then pieces of whole units.
        let piece = zeros.memory.count - Int(start % UInt64(DiskUnit.byteCount))
        let count = Int(min(UInt64(piece), end - start))
        try file.write(UnsafeRawBufferPointer(rebasing: zeros.memory.prefix(count)), at: start)
        start += UInt64(count)
    }
}

extension DiskFile {
    func write(_ bytes: [UInt8], at offset: UInt64) throws(DiskError) {
        do { try bytes.withUnsafeBytes { try write($0, at: offset) } } catch let error as DiskError {
            throw error
        } catch {
            invariantBroken("a file throws only its own errors")
        }
    }
}
