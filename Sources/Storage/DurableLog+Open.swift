import Prelude
import Raft

extension DurableLog {
    /// Opens the log in `directory`, which is created when it is missing, and gives what it holds of each group.
    /// Blocks. A torn last batch is cut off; damage anywhere else is refused, and nothing is changed then.
    public static func open(
        directory: String, disk: any Disk, work: any Work, limits: LogLimits
    ) throws(StorageError) -> (DurableLog, [GroupID: RecoveredGroup]) {
        try onDisk { () throws(DiskError) in try disk.createDurableDirectory(directory) }
        let recovery = try LogRecovery(directory: directory, disk: disk)
        try onDisk { () throws(DiskError) in try repair(recovery, directory: directory, disk: disk) }

        var active: ActiveSegment?
        if let last = recovery.segments.last {
            let file = try onDisk { () throws(DiskError) in try disk.open(last.path, .readWrite) }
            file.preferDirectWrites()
            let byteCount = try onDisk { () throws(DiskError) in try file.byteCount }
            let unit = DiskUnit.floor(recovery.position)
            var tail = [UInt8](repeating: 0, count: Int(recovery.position - unit))
            try onDisk { () throws(DiskError) in try file.readAll(into: &tail, at: unit, path: last.path) }
            active = ActiveSegment(
                path: last.path, file: file, position: recovery.position, tail: tail, filledByteCount: byteCount,
                isSealed: recovery.isSealed, lastKind: recovery.lastKind)
        }
        let log = DurableLog(
            directory: directory, disk: disk, work: work, limits: limits, recovery: recovery, active: active,
            next: try preparedSegment(recovery, directory: directory, disk: disk))
        log.mayRemove = true
        log.maintain()
        return (log, recovery.groups)
    }

    /// Makes what was read durable, and zeros of what was torn.
    ///
    /// The last batch is written once more, as it is: a process that was killed, or whose fdatasync failed, can have
    /// left it in the memory of the system only, marked as written there. All batches before it were synchronized
    /// before it was begun.
    private static func repair(
        _ recovery: LogRecovery, directory: String, disk: any Disk
    ) throws(DiskError) {
        if let torn = recovery.torn {
            let file = try disk.open(torn.path, .readWrite)
            defer { file.close() }
            var start = torn.range.lowerBound
            try fillWithZeros(file, from: &start, to: torn.range.upperBound)
            try file.synchronizeData()
        }
        if let range = recovery.lastWrite, let last = recovery.segments.last {
            let file = try disk.open(last.path, .readWrite)
            defer { file.close() }
            var bytes = [UInt8](repeating: 0, count: range.count)
            try file.readAll(into: &bytes, at: range.lowerBound, path: last.path)
            try file.write(bytes, at: range.lowerBound)
            try file.synchronizeData()
        }
        for number in recovery.unused.dropFirst().reversed() {
            try disk.remove(filePath(directory, LogFormat.segmentName(number)))
        }
        try disk.synchronizeDirectory(directory)
    }

    private static func preparedSegment(
        _ recovery: LogRecovery, directory: String, disk: any Disk
    ) throws(StorageError) -> PreparedSegment {
        let number = recovery.unused.first ?? (recovery.segments.last?.number ?? 0) + 1
        var prepared = PreparedSegment(number: number, directory: directory)
        if !recovery.unused.isEmpty {
            let file = try onDisk { () throws(DiskError) in try disk.open(prepared.path, .readWrite) }
            file.preferDirectWrites()
            prepared.filledByteCount = try onDisk { () throws(DiskError) in try file.byteCount }
            prepared.file = file
            prepared.isLinked = true
        }
        return prepared
    }
}

extension DiskFile {
    func readAll(into bytes: inout [UInt8], at offset: UInt64, path: String) throws(DiskError) {
        do {
            let count = try bytes.withUnsafeMutableBytes { try read(into: $0, at: offset) }
            guard count == bytes.count else {
                throw DiskError(kind: .io, operation: "read", path: path, reason: "the file became shorter")
            }
        } catch let error as DiskError {
            throw error
        } catch {
            invariantBroken("a file throws only its own errors")
        }
    }
}
