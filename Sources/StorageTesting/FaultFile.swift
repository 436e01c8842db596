import Prelude
import Storage

/// A file of a `FaultDisk`: what is durable, what a process sees, and what lies between. Reached under the disk's mutex.
final class FaultFile {
    var durable = SparseBytes()
    var current = SparseBytes()
    /// Since the last synchronization, oldest first.
    private var pending: [Change] = []

    static let sectorByteCount: UInt64 = 512

    private enum Change {
        case write([UInt8], at: UInt64)
        case truncate(UInt64)
    }

    init() {}

    init(copying other: FaultFile) {
        durable = other.durable
        current = other.durable
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) {
        current.write(bytes, at: offset)
        pending.append(.write(Array(bytes), at: offset))
    }

    func truncate(to byteCount: UInt64) {
        current.truncate(to: byteCount)
        pending.append(.truncate(byteCount))
    }

    func synchronize() {
        for change in pending { apply(change) }
        pending = []
    }

    /// The system takes what it could not write for written: it stays readable, and no later synchronization writes it.
    /// A part has reached the disk.
    func failToSynchronize(_ random: inout SeededRandom) { applyPart(&random) }

    /// The machine stops.
    func loseSectors(_ random: inout SeededRandom) {
        applyPart(&random)
        current = durable
    }

    private func apply(_ change: Change) {
        switch change {
        case .write(let bytes, let offset): bytes.withUnsafeBytes { durable.write($0, at: offset) }
        case .truncate(let byteCount): durable.truncate(to: byteCount)
        }
    }

    /// Each sector holds what it held after some of the writes to it, none and all included.
    private func applyPart(_ random: inout SeededRandom) {
        let lossPercent = [0, 5, 50, 95, 100][Int.random(in: 0..<5, using: &random)]
        var lost: Set<UInt64> = []
        for change in pending {
            guard case .write(let bytes, let offset) = change else {
                if Int.random(in: 0..<100, using: &random) >= lossPercent { apply(change) }
                continue
            }
            var done = 0
            while done < bytes.count {
                let at = offset + UInt64(done)
                let sector = at / Self.sectorByteCount
                let count = min(bytes.count - done, Int(Self.sectorByteCount - at % Self.sectorByteCount))
                if Int.random(in: 0..<100, using: &random) < lossPercent { lost.insert(sector) }
                if !lost.contains(sector) {
                    bytes.withUnsafeBytes {
                        durable.write(UnsafeRawBufferPointer(rebasing: $0[done..<done + count]), at: at)
                    }
                }
                done += count
            }
        }
        pending = []
    }
}

final class OpenFaultFile: DiskFile, @unchecked Sendable {
    // Sendable: `file` is reached under the disk's mutex only.
    private let disk: FaultDisk
    private let file: FaultFile
    private let path: String
    private let generation: Int

    init(disk: FaultDisk, file: FaultFile, path: String, generation: Int) {
        self.disk = disk
        self.file = file
        self.path = path
        self.generation = generation
    }

    var byteCount: UInt64 {
        get throws(DiskError) {
            try operate("measure") { () throws(DiskError) in file.current.byteCount }
        }
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        try operate("read") { () throws(DiskError) in file.current.read(into: buffer, at: offset) }
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskError) {
        try disk.mutex.withLock { () throws(DiskError) in
            try checkGeneration("write")
            if let kind = disk.nextFault() {
                // Any part may have been written.
                let count = Int.random(in: 0...bytes.count, using: &disk.random)
                file.write(UnsafeRawBufferPointer(rebasing: bytes.prefix(count)), at: offset)
                throw disk.failure(kind, "write", path)
            }
            let end = offset + UInt64(bytes.count)
            if let capacity = disk.capacity, end > file.current.byteCount {
                let room = capacity - min(capacity, disk.used()) + file.current.byteCount
                if end > room {
                    let count = Int(room - min(room, offset))
                    file.write(UnsafeRawBufferPointer(rebasing: bytes.prefix(count)), at: offset)
                    throw disk.full("write", path)
                }
            }
            file.write(bytes, at: offset)
        }
    }

    func synchronizeData() throws(DiskError) {
        try disk.mutex.withLock { () throws(DiskError) in
            try checkGeneration("synchronize")
            if let kind = disk.nextFault() {
                file.failToSynchronize(&disk.random)
                throw disk.failure(kind, "synchronize", path)
            }
            file.synchronize()
        }
    }

    func truncate(to byteCount: UInt64) throws(DiskError) {
        try operate("truncate") { () throws(DiskError) in file.truncate(to: byteCount) }
    }

    func close() {}

    private func operate<Value>(
        _ operation: String, _ body: () throws(DiskError) -> Value
    ) throws(DiskError) -> Value {
        try disk.mutex.withLock { () throws(DiskError) in
            try checkGeneration(operation)
            if let kind = disk.nextFault() { throw disk.failure(kind, operation, path) }
            return try body()
        }
    }

    private func checkGeneration(_ operation: String) throws(DiskError) {
        guard disk.generation == generation else {
            throw DiskError(kind: .io, operation: operation, path: path, reason: "its process has died")
        }
    }
}

extension SparseBytes {
    var all: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Int(byteCount))
        _ = bytes.withUnsafeMutableBytes { read(into: $0, at: 0) }
        return bytes
    }

    mutating func flip(at offset: UInt64, mask: UInt8) {
        var byte: UInt8 = 0
        guard withUnsafeMutableBytes(of: &byte, { read(into: $0, at: offset) }) == 1 else { return }
        byte ^= mask
        withUnsafeBytes(of: byte) { write($0, at: offset) }
    }
}
