import Prelude
import Storage

/// A disk that keeps apart what is durable and what is not, and that fails as it is told to.
///
/// As on a real one, sectors are written wholly or not at all, in any order, until a file is synchronized; names change
/// durably when their directory is; and what a failed `synchronizeData` was to write can still be read, and is lost all
/// the same when the machine stops. Created directories are durable at once, as those of `FileDisk` are.
public final class FaultDisk: Disk, @unchecked Sendable {
    // Sendable: everything mutable is reached under `mutex` only.
    let mutex = Lock()
    var current = Names()
    var durable = Names()
    /// Changes of names that are not durable yet, oldest first.
    var changes: [NameChange] = []
    var locked: Set<String> = []
    /// Files opened before the last stop are of an earlier generation and of no use.
    var generation = 0
    var random: SeededRandom
    var operationCountValue = 0
    var faults: [Fault] = []
    var capacity: UInt64?

    public init(seed: UInt64 = 0) { random = SeededRandom(seed: seed) }

    public struct Fault: Sendable {
        /// From 1: the operations of the disk and of its files, counted from its beginning.
        var operations: ClosedRange<Int>
        var kind: DiskError.Kind

        public static func at(_ operation: Int, _ kind: DiskError.Kind = .io) -> Fault {
            Fault(operations: operation...operation, kind: kind)
        }

        public static func from(_ operation: Int, _ kind: DiskError.Kind = .io) -> Fault {
            Fault(operations: operation...Int.max, kind: kind)
        }
    }

    // MARK: What tests ask for

    public var operationCount: Int { mutex.withLock { operationCountValue } }

    public func inject(_ fault: Fault) { mutex.withLock { faults.append(fault) } }

    public func removeFaults() { mutex.withLock { faults = [] } }

    /// The sum of the lengths of all files beyond which writing fails with `.noSpace`; nil for no bound.
    public func limitCapacity(to byteCount: UInt64?) { mutex.withLock { capacity = byteCount } }

    public var usedByteCount: UInt64 { mutex.withLock { used() } }

    /// The process dies: locks are free and open files of no use. What was written is there, synchronized or not.
    public func killProcess() {
        mutex.withLock { stop() }
    }

    /// The machine stops: of what was not synchronized, a part that the seed chooses is there afterwards.
    public func crash() {
        mutex.withLock {
            stop()
            loseNames()
            for file in durable.files { file.loseSectors(&random) }
            current = durable
        }
    }

    /// The bytes of a file as a process sees them; nil when there is none.
    public func contents(_ path: String) -> [UInt8]? {
        mutex.withLock {
            guard let file = current.file(path) else { return nil }
            return file.current.all
        }
    }

    /// Replaces a file, durably.
    public func setContents(_ path: String, _ bytes: [UInt8]) {
        mutex.withLock {
            let file = FaultFile()
            bytes.withUnsafeBytes { file.current.write($0, at: 0) }
            file.durable = file.current
            current.set(path, file)
            durable.set(path, file)
        }
    }

    /// Changes bits of a byte, as bad hardware does.
    public func flip(_ path: String, at offset: UInt64, mask: UInt8) {
        mutex.withLock {
            guard let file = current.file(path) else { return }
            file.current.flip(at: offset, mask: mask)
            file.durable.flip(at: offset, mask: mask)
        }
    }

    /// Another disk with the same durable files, and without faults.
    public func copy(seed: UInt64 = 0) -> FaultDisk {
        let copy = FaultDisk(seed: seed)
        mutex.withLock {
            copy.durable = durable.copied()
            copy.current = copy.durable
        }
        return copy
    }

    /// The paths of all files.
    public var paths: [String] { mutex.withLock { current.paths } }

    // MARK: Disk

    public func createDirectory(_ path: String) throws(DiskError) {
        try operate("create directory", path) { () throws(DiskError) in
            current.createDirectory(normalized(path))
            durable.createDirectory(normalized(path))
        }
    }

    public func list(_ directory: String) throws(DiskError) -> [String] {
        try operate("list", directory) { () throws(DiskError) in
            guard let names = current.directories[normalized(directory)] else { throw missing("list", directory) }
            return names.keys.sorted()
        }
    }

    public func open(_ path: String, _ mode: DiskOpenMode) throws(DiskError) -> any DiskFile {
        try operate("open", path) { () throws(DiskError) in
            let path = normalized(path)
            switch mode {
            case .readOnly, .readWrite:
                guard let file = current.file(path) else { throw missing("open", path) }
                return OpenFaultFile(disk: self, file: file, path: path, generation: generation)
            case .createNew:
                guard current.directories[parentDirectory(of: path)] != nil else { throw missing("open", path) }
                guard !current.exists(path) else {
                    throw DiskError(kind: .exists, operation: "open", path: path, reason: "the file exists")
                }
                if let capacity, used() >= capacity { throw full("open", path) }
                let file = FaultFile()
                change(.set(path, file))
                return OpenFaultFile(disk: self, file: file, path: path, generation: generation)
            }
        }
    }

    public func rename(_ from: String, to: String) throws(DiskError) {
        try operate("rename", from) { () throws(DiskError) in
            guard let file = current.file(normalized(from)) else { throw missing("rename", from) }
            change(.move(normalized(from), normalized(to), file))
        }
    }

    public func remove(_ path: String) throws(DiskError) {
        try operate("remove", path) { () throws(DiskError) in
            guard current.file(normalized(path)) != nil else { throw missing("remove", path) }
            change(.remove(normalized(path)))
        }
    }

    public func synchronizeDirectory(_ directory: String) throws(DiskError) {
        try operate("synchronize directory", directory) { () throws(DiskError) in
            let directory = normalized(directory)
            guard current.directories[directory] != nil else { throw missing("synchronize directory", directory) }
            for change in changes where change.touches(directory) { durable.apply(change) }
            changes.removeAll { $0.touches(directory) }
        }
    }

    public func lock(_ path: String) throws(DiskError) -> any DiskLock {
        try operate("lock", path) { () throws(DiskError) in
            let path = normalized(path)
            guard current.directories[parentDirectory(of: path)] != nil else { throw missing("lock", path) }
            guard locked.insert(path).inserted else {
                throw DiskError(kind: .locked, operation: "lock", path: path, reason: "it is locked already")
            }
            if current.file(path) == nil { change(.set(path, FaultFile())) }
            return FaultLock(disk: self, path: path, generation: generation)
        }
    }

    public func availableByteCount(_ directory: String) throws(DiskError) -> UInt64 {
        try operate("measure the space of", directory) { () throws(DiskError) in
            capacity.map { $0 - min($0, used()) } ?? 1 << 40
        }
    }

    // MARK: Inside

    private func operate<Value>(
        _ operation: String, _ path: String, _ body: () throws(DiskError) -> Value
    ) throws(DiskError) -> Value {
        try mutex.withLock { () throws(DiskError) in
            if let kind = nextFault() { throw failure(kind, operation, path) }
            return try body()
        }
    }

    /// Counts one operation, and tells whether it is to fail.
    func nextFault() -> DiskError.Kind? {
        operationCountValue += 1
        return faults.first { $0.operations.contains(operationCountValue) }?.kind
    }

    func failure(_ kind: DiskError.Kind, _ operation: String, _ path: String) -> DiskError {
        DiskError(kind: kind, operation: operation, path: path, reason: "injected fault")
    }

    func full(_ operation: String, _ path: String) -> DiskError {
        DiskError(kind: .noSpace, operation: operation, path: path, reason: "no space left")
    }

    private func missing(_ operation: String, _ path: String) -> DiskError {
        DiskError(kind: .notFound, operation: operation, path: path, reason: "no such file or directory")
    }

    private func change(_ change: NameChange) {
        current.apply(change)
        changes.append(change)
    }

    func used() -> UInt64 { current.files.reduce(0) { $0 + $1.current.byteCount } }

    private func stop() {
        generation += 1
        locked = []
    }

    /// Either the first of the changes have reached the disk, or any of them.
    private func loseNames() {
        if Bool.random(using: &random) {
            for change in changes.prefix(Int.random(in: 0...changes.count, using: &random)) { durable.apply(change) }
        } else {
            for change in changes where Bool.random(using: &random) { durable.apply(change) }
        }
        changes = []
    }
}

/// A change of the names in directories.
enum NameChange {
    case set(String, FaultFile)
    case move(String, String, FaultFile)
    case remove(String)

    func touches(_ directory: String) -> Bool {
        switch self {
        case .set(let path, _), .remove(let path): parentDirectory(of: path) == directory
        case .move(let from, let to, _): parentDirectory(of: from) == directory || parentDirectory(of: to) == directory
        }
    }
}

/// What names stand for which files.
struct Names {
    /// A name with nil is that of a directory.
    var directories: [String: [String: FaultFile?]] = ["/": [:], ".": [:]]

    /// In the order of their paths, so that the same seed always meets the same file.
    var paths: [String] {
        directories.flatMap { directory, names in
            names.filter { $0.value != nil }.keys.map { directory == "/" ? "/" + $0 : directory + "/" + $0 }
        }.sorted()
    }

    var files: [FaultFile] { paths.compactMap(file) }

    func exists(_ path: String) -> Bool { directories[parentDirectory(of: path)]?[fileName(path)] != nil }

    func file(_ path: String) -> FaultFile? { directories[parentDirectory(of: path)]?[fileName(path)] ?? nil }

    mutating func set(_ path: String, _ file: FaultFile) {
        createDirectory(parentDirectory(of: path))
        directories[parentDirectory(of: path)]?[fileName(path)] = file
    }

    mutating func createDirectory(_ path: String) {
        guard directories[path] == nil else { return }
        let above = parentDirectory(of: path)
        createDirectory(above)
        directories[above]?[fileName(path)] = .some(nil)
        directories[path] = [:]
    }

    mutating func apply(_ change: NameChange) {
        switch change {
        case .set(let path, let file): set(path, file)
        case .remove(let path): directories[parentDirectory(of: path)]?[fileName(path)] = nil
        case .move(let from, let to, let file):
            directories[parentDirectory(of: from)]?[fileName(from)] = nil
            set(to, file)
        }
    }

    func copied() -> Names {
        var copy = self
        for (directory, names) in directories {
            copy.directories[directory] = names.mapValues { $0.map(FaultFile.init(copying:)) }
        }
        return copy
    }
}

private final class FaultLock: DiskLock {
    private let disk: FaultDisk
    private let path: String
    private let generation: Int

    init(disk: FaultDisk, path: String, generation: Int) {
        self.disk = disk
        self.path = path
        self.generation = generation
    }

    deinit { unlock() }

    func unlock() {
        disk.mutex.withLock {
            if disk.generation == generation { disk.locked.remove(path) }
        }
    }
}
