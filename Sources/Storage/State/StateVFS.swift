import CSQLite
import Glibc
import Prelude

/// SQLite's files over the `Disk` seam. Every page of a database carries a CRC-32C in its last bytes, checked each time
/// that the page is read: what was damaged is refused with its file and offset. The bytes are in docs/disk-format.md.
///
/// One for each open database, used by one thread at a time.
final class StateVFS {
    static let pageByteCount = 4096
    /// At the end of each page, kept free by SQLite: the checksum, then zeros.
    static let reservedByteCount = 8
    static let checksumOffset = pageByteCount - reservedByteCount

    let disk: any Disk
    /// What the disk, or a checksum, refused first since the last `takeFailure`: SQLite's codes do not tell enough.
    private var failure: StorageError?
    private let table: UnsafeMutablePointer<sqlite3_vfs>
    private let nameBytes: UnsafeMutablePointer<CChar>

    private static let count = Counter()

    private final class Counter: @unchecked Sendable {
        // Sendable: `value` is reached under `mutex` only.
        private let mutex = Lock()
        private var value = 0
        func next() -> Int {
            mutex.withLock {
                value += 1
                return value
            }
        }
    }

    init(disk: any Disk) {
        self.disk = disk
        let name = Array("raftoral-\(Self.count.next())".utf8CString)
        nameBytes = .allocate(capacity: name.count)
        nameBytes.initialize(from: name, count: name.count)
        table = .allocate(capacity: 1)
        var vfs = sqlite3_vfs()
        vfs.iVersion = 1
        vfs.szOsFile = Int32(MemoryLayout<StateVFSHandle>.size)
        vfs.mxPathname = 4096
        vfs.zName = UnsafePointer(nameBytes)
        vfs.xOpen = { StateVFS.open($0, $1, $2, $3, $4) }
        vfs.xDelete = { StateVFS.delete($0, $1, $2) }
        vfs.xAccess = { StateVFS.access($0, $1, $3) }
        vfs.xFullPathname = { StateVFS.fullPath($1, $2, $3) }
        vfs.xRandomness = { _, count, bytes in
            guard let bytes else { return 0 }
            memset(bytes, 0, Int(count))
            return count
        }
        vfs.xSleep = { _, _ in 0 }
        vfs.xCurrentTime = { _, days in
            days?.pointee = 2_440_587.5
            return SQLITE_OK
        }
        table.initialize(to: vfs)
        table.pointee.pAppData = Unmanaged.passUnretained(self).toOpaque()
        let result = sqlite3_vfs_register(table, 0)
        invariant(result == SQLITE_OK, "SQLite takes every file system")
    }

    /// Nothing of it is open any more.
    deinit {
        sqlite3_vfs_unregister(table)
        table.deallocate()
        nameBytes.deallocate()
    }

    var name: UnsafePointer<CChar> { UnsafePointer(nameBytes) }

    func takeFailure() -> StorageError? {
        defer { failure = nil }
        return failure
    }

    func fail(_ error: StorageError) { if failure == nil { failure = error } }

    func fail(_ error: DiskError) { fail(StorageError(error)) }

    // MARK: What SQLite calls

    private static func of(_ vfs: UnsafeMutablePointer<sqlite3_vfs>?) -> StateVFS? {
        vfs?.pointee.pAppData.map { Unmanaged<StateVFS>.fromOpaque($0).takeUnretainedValue() }
    }

    private static func open(
        _ vfs: UnsafeMutablePointer<sqlite3_vfs>?, _ path: UnsafePointer<CChar>?,
        _ file: UnsafeMutablePointer<sqlite3_file>?, _ flags: Int32, _ outFlags: UnsafeMutablePointer<Int32>?
    ) -> Int32 {
        guard let vfs = of(vfs), let file else { return SQLITE_CANTOPEN }
        file.pointee.pMethods = nil
        // Temporary files have no name; SQLite is told to keep what is temporary in memory.
        guard let path else { return SQLITE_CANTOPEN }
        do throws(DiskError) {
            let name = String(cString: path)
            let opened = try vfs.openFile(name, mayCreate: flags & SQLITE_OPEN_CREATE != 0)
            let isDatabase = flags & SQLITE_OPEN_MAIN_DB != 0
            let context = StateVFSFile(opened, path: name, isDatabase: isDatabase, vfs: vfs)
            UnsafeMutableRawPointer(file).assumingMemoryBound(to: StateVFSHandle.self).pointee =
                StateVFSHandle(
                    base: sqlite3_file(pMethods: StateVFSFile.methods), context: Unmanaged.passRetained(context))
            outFlags?.pointee = flags
            return SQLITE_OK
        } catch {
            vfs.fail(error)
            return SQLITE_CANTOPEN
        }
    }

    private func openFile(_ path: String, mayCreate: Bool) throws(DiskError) -> any DiskFile {
        do throws(DiskError) {
            return try disk.open(path, .readWrite)
        } catch {
            guard mayCreate, error.kind == .notFound else { throw error }
            let file = try disk.open(path, .createNew)
            try disk.synchronizeDirectory(parentDirectory(of: path))
            return file
        }
    }

    private static func delete(
        _ vfs: UnsafeMutablePointer<sqlite3_vfs>?, _ path: UnsafePointer<CChar>?, _ isDurable: Int32
    ) -> Int32 {
        guard let vfs = of(vfs), let path else { return SQLITE_IOERR }
        do throws(DiskError) {
            let name = String(cString: path)
            try vfs.disk.remove(name)
            if isDurable != 0 { try vfs.disk.synchronizeDirectory(parentDirectory(of: name)) }
            return SQLITE_OK
        } catch {
            if error.kind == .notFound { return raftoralExtended(SQLITE_IOERR, 23) }
            vfs.fail(error)
            return raftoralExtended(SQLITE_IOERR, 10)
        }
    }

    private static func access(
        _ vfs: UnsafeMutablePointer<sqlite3_vfs>?, _ path: UnsafePointer<CChar>?, _ exists: UnsafeMutablePointer<Int32>?
    ) -> Int32 {
        guard let vfs = of(vfs), let path else { return raftoralExtended(SQLITE_IOERR, 13) }
        do throws(DiskError) {
            try vfs.disk.open(String(cString: path), .readOnly).close()
            exists?.pointee = 1
        } catch {
            guard error.kind == .notFound else {
                vfs.fail(error)
                return raftoralExtended(SQLITE_IOERR, 13)
            }
            exists?.pointee = 0
        }
        return SQLITE_OK
    }

    private static func fullPath(
        _ path: UnsafePointer<CChar>?, _ byteCountMax: Int32, _ out: UnsafeMutablePointer<CChar>?
    ) -> Int32 {
        guard let path, let out, strlen(path) < Int(byteCountMax) else { return SQLITE_CANTOPEN }
        strcpy(out, path)
        return SQLITE_OK
    }
}

/// SQLite's extended codes are macros that Swift does not see.
func raftoralExtended(_ code: Int32, _ detail: Int32) -> Int32 { code | detail << 8 }

/// What SQLite keeps for an open file: its own part first.
struct StateVFSHandle {
    var base: sqlite3_file
    var context: Unmanaged<StateVFSFile>
}

/// One open file of SQLite's.
final class StateVFSFile {
    private let file: any DiskFile
    private let path: String
    private let isDatabase: Bool
    private let vfs: StateVFS
    private var page = [UInt8](repeating: 0, count: StateVFS.pageByteCount)

    init(_ file: any DiskFile, path: String, isDatabase: Bool, vfs: StateVFS) {
        self.file = file
        self.path = path
        self.isDatabase = isDatabase
        self.vfs = vfs
    }

    /// Lives as long as the process.
    nonisolated(unsafe) static let methods: UnsafePointer<sqlite3_io_methods> = {
        var methods = sqlite3_io_methods()
        methods.iVersion = 1
        methods.xClose = { StateVFSFile.close($0) }
        methods.xRead = { file, buffer, count, offset in
            guard let buffer else { return SQLITE_IOERR }
            let bytes = UnsafeMutableRawBufferPointer(start: buffer, count: Int(count))
            return StateVFSFile.of(file)?.read(bytes, at: offset) ?? SQLITE_IOERR
        }
        methods.xWrite = { file, bytes, count, offset in
            let bytes = UnsafeRawBufferPointer(start: bytes, count: Int(count))
            return StateVFSFile.of(file)?.write(bytes, at: offset) ?? SQLITE_IOERR
        }
        methods.xTruncate = { file, byteCount in
            StateVFSFile.of(file)?.attempt(6) { file throws(DiskError) in
                try file.truncate(to: UInt64(max(0, byteCount)))
            } ?? SQLITE_IOERR
        }
        methods.xSync = { file, _ in
            StateVFSFile.of(file)?.attempt(4) { file throws(DiskError) in try file.synchronizeData() } ?? SQLITE_IOERR
        }
        methods.xFileSize = { file, out in
            StateVFSFile.of(file)?.attempt(7) { file throws(DiskError) in
                out?.pointee = Int64(clamping: try file.byteCount)
            } ?? SQLITE_IOERR
        }
        // The data directory is locked as a whole, and each database has one connection.
        methods.xLock = { _, _ in SQLITE_OK }
        methods.xUnlock = { _, _ in SQLITE_OK }
        methods.xCheckReservedLock = { _, isReserved in
            isReserved?.pointee = 0
            return SQLITE_OK
        }
        methods.xFileControl = { _, _, _ in SQLITE_NOTFOUND }
        methods.xSectorSize = { _ in 512 }
        methods.xDeviceCharacteristics = { _ in SQLITE_IOCAP_POWERSAFE_OVERWRITE }
        let pointer = UnsafeMutablePointer<sqlite3_io_methods>.allocate(capacity: 1)
        pointer.initialize(to: methods)
        return UnsafePointer(pointer)
    }()

    private static func handle(_ file: UnsafeMutablePointer<sqlite3_file>?) -> UnsafeMutablePointer<StateVFSHandle>? {
        file.map { UnsafeMutableRawPointer($0).assumingMemoryBound(to: StateVFSHandle.self) }
    }

    private static func of(_ file: UnsafeMutablePointer<sqlite3_file>?) -> StateVFSFile? {
        handle(file)?.pointee.context.takeUnretainedValue()
    }

    private static func close(_ file: UnsafeMutablePointer<sqlite3_file>?) -> Int32 {
        guard let handle = handle(file) else { return SQLITE_IOERR }
        handle.pointee.context.takeUnretainedValue().file.close()
        handle.pointee.context.release()
        return SQLITE_OK
    }

    private func attempt(_ detail: Int32, _ body: (any DiskFile) throws(DiskError) -> Void) -> Int32 {
        do throws(DiskError) {
            try body(file)
            return SQLITE_OK
        } catch {
            vfs.fail(error)
            return error.kind == .noSpace ? SQLITE_FULL : raftoralExtended(SQLITE_IOERR, detail)
        }
    }

    private func read(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int64) -> Int32 {
        guard offset >= 0 else { return SQLITE_IOERR }
        if isDatabase { return readDatabase(bytes, at: UInt64(offset)) }
        return read(bytes, from: UInt64(offset))
    }

    private func read(_ bytes: UnsafeMutableRawBufferPointer, from offset: UInt64) -> Int32 {
        var done = 0
        let result = attempt(1) { file throws(DiskError) in done = try file.read(into: bytes, at: offset) }
        guard result == SQLITE_OK else { return result }
        guard done < bytes.count else { return SQLITE_OK }
        // SQLite takes zeros for what is beyond the end.
        for place in done..<bytes.count { bytes[place] = 0 }
        return raftoralExtended(SQLITE_IOERR, 2)
    }

    /// Whole pages, or a piece of the header in the first one.
    private func readDatabase(_ bytes: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Int32 {
        let pageByteCount = UInt64(StateVFS.pageByteCount)
        if bytes.count == StateVFS.pageByteCount, offset % pageByteCount == 0 {
            let result = read(bytes, from: offset)
            return result == SQLITE_OK ? check(UnsafeRawBufferPointer(bytes), at: offset) : result
        }
        guard offset + UInt64(bytes.count) <= 100 else {
            vfs.fail(.damaged(file: path, offset: offset, reason: "its pages are not those of a state store"))
            return raftoralExtended(SQLITE_IOERR, 32)
        }
        // SQLite looks at the header before it mends what a crash has torn; the whole page is checked when it is used.
        return read(bytes, from: offset)
    }

    private func check(_ page: UnsafeRawBufferPointer, at offset: UInt64) -> Int32 {
        let stored = page.loadUnaligned(fromByteOffset: StateVFS.checksumOffset, as: UInt64.self).littleEndian
        if stored == UInt64(Self.checksum(page, at: offset)) { return SQLITE_OK }
        vfs.fail(.damaged(file: path, offset: offset, reason: "the checksum of the page does not match"))
        return raftoralExtended(SQLITE_IOERR, 32)
    }

    /// Bound to its place, so that a page in the place of another one is found, too.
    private static func checksum(_ page: UnsafeRawBufferPointer, at offset: UInt64) -> UInt32 {
        crc32c(UnsafeRawBufferPointer(rebasing: page[..<StateVFS.checksumOffset]), continuing: crc32c(of: offset))
    }

    private func write(_ bytes: UnsafeRawBufferPointer, at offset: Int64) -> Int32 {
        guard offset >= 0 else { return SQLITE_IOERR }
        let offset = UInt64(offset)
        guard isDatabase else {
            return attempt(3) { file throws(DiskError) in try file.write(bytes, at: offset) }
        }
        guard bytes.count == StateVFS.pageByteCount, offset % UInt64(StateVFS.pageByteCount) == 0 else {
            vfs.fail(.damaged(file: path, offset: offset, reason: "its pages are not those of a state store"))
            return SQLITE_IOERR
        }
        return page.withUnsafeMutableBytes { page in
            page.copyMemory(from: bytes)
            let sum = UInt64(Self.checksum(UnsafeRawBufferPointer(page), at: offset)).littleEndian
            page.storeBytes(of: sum, toByteOffset: StateVFS.checksumOffset, as: UInt64.self)
            return attempt(3) { file throws(DiskError) in try file.write(UnsafeRawBufferPointer(page), at: offset) }
        }
    }
}
