import Prelude
import StorageTesting

/// The disk as one life of a machine sees it: gone when the machine is, and, when a test plants that mistake, one that
/// says that data is durable when it is not.
final class MachineDisk: Disk, @unchecked Sendable {
    // Sendable, because a simulation has one thread.
    private let disk: FaultDisk
    private let liesAboutSync: Bool
    var isGone = false
    /// Of the newest operation.
    private(set) var path = ""

    init(_ disk: FaultDisk, liesAboutSync: Bool) {
        self.disk = disk
        self.liesAboutSync = liesAboutSync
    }

    fileprivate func check(_ operation: String, _ path: String) throws(DiskError) {
        self.path = path
        guard isGone else { return }
        throw DiskError(kind: .io, operation: operation, path: path, reason: "the machine is gone")
    }

    func createDirectory(_ path: String) throws(DiskError) {
        try check("create directory", path)
        try disk.createDirectory(path)
    }

    func list(_ directory: String) throws(DiskError) -> [String] {
        try check("list", directory)
        return try disk.list(directory)
    }

    func open(_ path: String, _ mode: DiskOpenMode) throws(DiskError) -> any DiskFile {
        try check("open", path)
        return MachineFile(try disk.open(path, mode), disk: self, path: path, liesAboutSync: liesAboutSync)
    }

    func rename(_ from: String, to: String) throws(DiskError) {
        try check("rename", from)
        try disk.rename(from, to: to)
    }

    func remove(_ path: String) throws(DiskError) {
        try check("remove", path)
        try disk.remove(path)
    }

    func synchronizeDirectory(_ directory: String) throws(DiskError) {
        try check("synchronize directory", directory)
        try disk.synchronizeDirectory(directory)
    }

    func lock(_ path: String) throws(DiskError) -> any DiskLock {
        try check("lock", path)
        return try disk.lock(path)
    }

    func availableByteCount(_ directory: String) throws(DiskError) -> UInt64 {
        try check("measure the space of", directory)
        return try disk.availableByteCount(directory)
    }
}

private final class MachineFile: DiskFile {
    private let file: any DiskFile
    private let disk: MachineDisk
    private let path: String
    private let liesAboutSync: Bool

    init(_ file: any DiskFile, disk: MachineDisk, path: String, liesAboutSync: Bool) {
        self.file = file
        self.disk = disk
        self.path = path
        self.liesAboutSync = liesAboutSync
    }

    var byteCount: UInt64 {
        get throws(DiskError) {
            try disk.check("measure", path)
            return try file.byteCount
        }
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        try disk.check("read", path)
        return try file.read(into: buffer, at: offset)
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskError) {
        try disk.check("write", path)
        try file.write(bytes, at: offset)
    }

    func synchronizeData() throws(DiskError) {
        try disk.check("synchronize", path)
        if !liesAboutSync { try file.synchronizeData() }
    }

    func truncate(to byteCount: UInt64) throws(DiskError) {
        try disk.check("truncate", path)
        try file.truncate(to: byteCount)
    }

    func close() { file.close() }
}
