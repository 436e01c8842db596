import Prelude

/// A disk in memory, for nodes that are not to leave anything behind. What is written is there until the value goes
/// away; synchronizing does nothing.
public final class MemoryDisk: Disk, @unchecked Sendable {
    // Sendable: `content` is reached under `mutex` only.
    private let mutex = Lock()
    private var content = Content()

    private struct Content {
        /// Names by directory. A name with nil is that of a directory.
        var directories: [String: [String: MemoryFile?]] = ["/": [:], ".": [:]]
        var locked: Set<String> = []
    }

    public init() {}

    public func createDirectory(_ path: String) throws(DiskError) {
        try mutex.withLock { () throws(DiskError) in try create(normalized(path)) }
    }

    private func create(_ path: String) throws(DiskError) {
        guard content.directories[path] == nil else { return }
        let above = parentDirectory(of: path)
        try create(above)
        if let existing = content.directories[above]?[fileName(path)], existing != nil {
            throw DiskError(kind: .exists, operation: "create directory", path: path, reason: "a file has this name")
        }
        content.directories[above]?[fileName(path)] = .some(nil)
        content.directories[path] = [:]
    }

    public func list(_ directory: String) throws(DiskError) -> [String] {
        try mutex.withLock { () throws(DiskError) in
            guard let names = content.directories[normalized(directory)] else {
                throw DiskError(kind: .notFound, operation: "list", path: directory, reason: "no such directory")
            }
            return names.keys.sorted()
        }
    }

    public func open(_ path: String, _ mode: DiskOpenMode) throws(DiskError) -> any DiskFile {
        try mutex.withLock { () throws(DiskError) in
            let (directory, name) = split(path)
            guard let names = content.directories[directory] else { throw missing("open", path) }
            switch mode {
            case .createNew:
                guard names[name] == nil else {
                    throw DiskError(kind: .exists, operation: "open", path: path, reason: "the file exists")
                }
                let file = MemoryFile()
                content.directories[directory]?[name] = file
                return OpenMemoryFile(file, path: path, isReadOnly: false)
            case .readOnly, .readWrite:
                guard let found = names[name], let file = found else { throw missing("open", path) }
                return OpenMemoryFile(file, path: path, isReadOnly: mode == .readOnly)
            }
        }
    }

    public func rename(_ from: String, to: String) throws(DiskError) {
        try mutex.withLock { () throws(DiskError) in
            let (fromDirectory, fromName) = split(from)
            let (toDirectory, toName) = split(to)
            guard let found = content.directories[fromDirectory]?[fromName], let file = found,
                content.directories[toDirectory] != nil
            else { throw missing("rename", from) }
            content.directories[fromDirectory]?[fromName] = nil
            content.directories[toDirectory]?[toName] = file
        }
    }

    public func remove(_ path: String) throws(DiskError) {
        try mutex.withLock { () throws(DiskError) in
            let (directory, name) = split(path)
            guard let found = content.directories[directory]?[name], found != nil else { throw missing("remove", path) }
            content.directories[directory]?[name] = nil
        }
    }

    public func synchronizeDirectory(_ directory: String) throws(DiskError) {
        try mutex.withLock { () throws(DiskError) in
            guard content.directories[normalized(directory)] != nil else {
                throw missing("synchronize directory", directory)
            }
        }
    }

    public func lock(_ path: String) throws(DiskError) -> any DiskLock {
        try mutex.withLock { () throws(DiskError) in
            let (directory, name) = split(path)
            guard content.directories[directory] != nil else { throw missing("lock", path) }
            guard content.locked.insert(normalized(path)).inserted else {
                throw DiskError(kind: .locked, operation: "lock", path: path, reason: "it is locked already")
            }
            if content.directories[directory]?[name] == nil { content.directories[directory]?[name] = MemoryFile() }
            return MemoryLock(disk: self, path: normalized(path))
        }
    }

    fileprivate func unlock(_ path: String) {
        mutex.withLock { _ = content.locked.remove(path) }
    }

    public func availableByteCount(_ directory: String) throws(DiskError) -> UInt64 { 1 << 40 }

    private func split(_ path: String) -> (directory: String, name: String) {
        let path = normalized(path)
        return (parentDirectory(of: path), fileName(path))
    }

    private func missing(_ operation: String, _ path: String) -> DiskError {
        DiskError(kind: .notFound, operation: operation, path: path, reason: "no such file or directory")
    }
}

private final class MemoryLock: DiskLock, Sendable {
    private let disk: MemoryDisk
    private let path: String
    private let mutex = Lock()
    // Under `mutex`.
    nonisolated(unsafe) private var isHeld = true

    init(disk: MemoryDisk, path: String) {
        self.disk = disk
        self.path = path
    }

    deinit { unlock() }

    func unlock() {
        let wasHeld = mutex.withLock {
            defer { isHeld = false }
            return isHeld
        }
        if wasHeld { disk.unlock(path) }
    }
}

/// What a file holds. It lives on without a name while somebody has it open.
private final class MemoryFile: @unchecked Sendable {
    // Sendable: `bytes` is reached under `mutex` only.
    let mutex = Lock()
    var bytes = SparseBytes()
}

private final class OpenMemoryFile: DiskFile {
    private let file: MemoryFile
    private let path: String
    private let isReadOnly: Bool

    init(_ file: MemoryFile, path: String, isReadOnly: Bool) {
        self.file = file
        self.path = path
        self.isReadOnly = isReadOnly
    }

    var byteCount: UInt64 {
        get throws(DiskError) { file.mutex.withLock { file.bytes.byteCount } }
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        file.mutex.withLock { file.bytes.read(into: buffer, at: offset) }
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskError) {
        try checkWritable("write")
        file.mutex.withLock { file.bytes.write(bytes, at: offset) }
    }

    func synchronizeData() throws(DiskError) {}

    func truncate(to byteCount: UInt64) throws(DiskError) {
        try checkWritable("truncate")
        file.mutex.withLock { file.bytes.truncate(to: byteCount) }
    }

    func close() {}

    private func checkWritable(_ operation: String) throws(DiskError) {
        if isReadOnly {
            throw DiskError(kind: .io, operation: operation, path: path, reason: "the file was opened for reading")
        }
    }
}
