import Prelude

/// The directory in which a node keeps all that it must not forget, held by one process at a time.
///
/// It holds `identity`, `lock`, and the directories `log`, `state` and `snapshots`; with `.N` behind their names once another set
/// of data has taken the place of the first.
public final class DataDirectory {
    public let path: String
    /// Nil until the node has become a member of a cluster.
    public private(set) var identity: NodeIdentity?
    /// Why the identity cannot be read, for whoever asked to be told instead of refused.
    public private(set) var identityDamage: StorageError?
    private let disk: any Disk
    private let lock: any DiskLock

    /// Which of the sets of data beside the identity is in use; rises when another set takes the place of the one in use.
    private var generation: UInt32 = 0

    public var logPath: String { filePath(path, Self.dataName("log", generation)) }
    public var snapshotsPath: String { filePath(path, Self.dataName("snapshots", generation)) }
    public var statePath: String { filePath(path, Self.dataName("state", generation)) }

    /// Backups while they are made and handed out.
    public var backupPath: String { filePath(path, "backup") }

    static let lockName = "lock"
    /// The directories that hold what a node can fetch again.
    private static let dataNames = ["log", "snapshots", "state"]
    /// What a directory may hold that no node has made its own yet, a crash on the way there included.
    private static let namesBeforeIdentity: Set<String> = [
        lockName, IdentityFile.temporaryName, JoinTokenFile.name, JoinTokenFile.temporaryName, "lost+found", "backup",
    ]

    /// Creates the directory when it is missing, locks it, and reads the identity in it. Blocks.
    /// - Parameter takesDamagedIdentity: a damaged identity is no error; `identityDamage` tells of it.
    /// - Parameter mustExist: a missing directory is an error, and is not created.
    public static func open(
        _ path: String, disk: any Disk, takesDamagedIdentity: Bool = false, mustExist: Bool = false
    ) throws(StorageError) -> DataDirectory {
        try onDisk { () throws(DiskError) in
            if mustExist { _ = try disk.list(path) } else { try disk.createDurableDirectory(path) }
        }
        // Before the lock leaves a file in what may be somebody else's directory.
        try refuseForeign(path, disk)
        let lock: any DiskLock
        do {
            lock = try disk.lock(filePath(path, lockName))
        } catch  where error.kind == .locked {
            throw .lockedByAnotherProcess(directory: path)
        } catch {
            throw StorageError(error)
        }
        do {
            try refuseForeign(path, disk)
            // A process that was killed can have left the name of its identity in the memory of the system only.
            try onDisk { () throws(DiskError) in try disk.synchronizeDirectory(path) }
            let directory = DataDirectory(path: path, disk: disk, lock: lock)
            do throws(StorageError) {
                if let kept = try readIdentity(path, disk) {
                    directory.identity = kept.identity
                    directory.generation = kept.generation
                    try directory.dropUnusedData()
                }
            } catch .damaged(let file, let offset, let reason) where takesDamagedIdentity {
                directory.identityDamage = .damaged(file: file, offset: offset, reason: reason)
            }
            return directory
        } catch {
            lock.unlock()
            throw error
        }
    }

    private init(path: String, disk: any Disk, lock: any DiskLock) {
        self.path = path
        self.disk = disk
        self.lock = lock
    }

    private static func refuseForeign(_ path: String, _ disk: any Disk) throws(StorageError) {
        let names = try onDisk { () throws(DiskError) in try disk.list(path) }
        guard !names.contains(IdentityFile.name),
            let other = names.first(where: { !namesBeforeIdentity.contains($0) })
        else { return }
        throw .foreign(directory: path, found: other)
    }

    private static func readIdentity(_ path: String, _ disk: any Disk) throws(StorageError) -> KeptIdentity? {
        let path = filePath(path, IdentityFile.name)
        return try readSmallFile(path, disk, byteCountMax: IdentityFile.byteCountMax).map {
            bytes throws(StorageError) in
            try IdentityFile.decoded(bytes, path: path)
        }
    }

    /// Nil when there is no such file.
    private static func readSmallFile(
        _ path: String, _ disk: any Disk, byteCountMax: UInt64
    ) throws(StorageError) -> [UInt8]? {
        let file: any DiskFile
        do {
            file = try disk.open(path, .readOnly)
        } catch  where error.kind == .notFound {
            return nil
        } catch {
            throw StorageError(error)
        }
        defer { file.close() }
        let byteCount = try onDisk { () throws(DiskError) in try file.byteCount }
        guard byteCount <= byteCountMax else {
            throw .damaged(file: path, offset: byteCountMax, reason: "the file is too long")
        }
        var bytes = [UInt8](repeating: 0, count: Int(byteCount))
        try onDisk { () throws(DiskError) in try file.readAll(into: &bytes, at: 0, path: path) }
        return bytes
    }

    /// Replaces the identity, durably and as a whole: after a crash it is the old one or the new one. Must have
    /// returned before anything else is kept in the directory. Blocks.
    public func saveIdentity(_ identity: NodeIdentity) throws(StorageError) {
        try save(KeptIdentity(identity: identity, generation: generation))
    }

    private func save(_ kept: KeptIdentity) throws(StorageError) {
        let bytes = IdentityFile.encoded(kept)
        try onDisk { () throws(DiskError) in
            try disk.replaceFile(
                filePath(path, IdentityFile.name), with: [bytes],
                by: filePath(path, IdentityFile.temporaryName))
        }
        identity = kept.identity
        generation = kept.generation
    }

    /// The token by which a cluster recognises this directory when it asks to join again: the one that an earlier attempt
    /// has kept, or else `fresh`, durable before this returns. At most 64 bytes. Blocks.
    public func joinToken(or fresh: @autoclosure () -> String) throws(StorageError) -> String {
        let path = filePath(self.path, JoinTokenFile.name)
        if let bytes = try Self.readSmallFile(path, disk, byteCountMax: JoinTokenFile.byteCountMax) {
            return try JoinTokenFile.decoded(bytes, path: path)
        }
        let token = fresh()
        try onDisk { () throws(DiskError) in
            try disk.replaceFile(
                path, with: [JoinTokenFile.encoded(token)], by: filePath(self.path, JoinTokenFile.temporaryName))
        }
        return token
    }

    private func dropJoinToken() throws(StorageError) {
        do throws(DiskError) {
            try disk.remove(filePath(path, JoinTokenFile.name))
            try disk.synchronizeDirectory(path)
        } catch {
            if error.kind != .notFound { throw StorageError(error) }
        }
    }

    // MARK: Giving up

    /// The node that the directory held was given up: its data may be dropped, and nobody is it any more.
    public var isRetired: Bool { identity?.nodeID == NodeID.none }

    /// Gives up the node that the directory holds, durably. From then on nothing starts as that node again, however
    /// much of its data is still there: with a part of its log it would vote, and acknowledge, as if it had forgotten.
    /// Blocks.
    public func retire() throws(StorageError) {
        // Whoever is not that node any more is not its joiner either.
        try dropJoinToken()
        try saveIdentity(
            NodeIdentity(clusterID: "", nodeID: .none, incarnation: 0, advertisedAddress: "", groups: []))
        identityDamage = nil
    }

    /// Removes the data of a node that was given up. A crash on the way leaves a retired directory with less in it.
    /// Blocks.
    public func dropData() throws(StorageError) {
        invariant(isRetired, "only the data of a node that was given up is dropped")
        for name in Self.dataNames {
            try onDisk { () throws(DiskError) in
                try removeFiles(in: filePath(path, Self.dataName(name, generation)))
            }
        }
    }

    /// Removes what an earlier life has left of backups. Blocks.
    public func dropBackups() throws(StorageError) {
        try onDisk { () throws(DiskError) in try removeFiles(in: backupPath) }
    }

    /// A durable copy of `file` in this directory, to be dropped with `dropBackups`. Blocks.
    public func copyBackup(_ file: String) throws(StorageError) -> String {
        try dropBackups()
        let path = filePath(backupPath, "restored.sqlite")
        try onDisk { () throws(DiskError) in
            try disk.createDirectory(backupPath)
            let source = try disk.open(file, .readOnly)
            defer { source.close() }
            let copy = try disk.open(path, .createNew)
            defer { copy.close() }
            let byteCount = try source.byteCount
            var offset: UInt64 = 0
            while offset < byteCount {
                var piece = [UInt8](repeating: 0, count: Int(min(1 << 20, byteCount - offset)))
                try source.readAll(into: &piece, at: offset, path: file)
                try copy.write(piece, at: offset)
                offset += UInt64(piece.count)
            }
            try copy.synchronizeData()
        }
        return path
    }

    // MARK: Another set of data

    private static func dataName(_ name: String, _ generation: UInt32) -> String {
        generation == 0 ? name : "\(name).\(generation)"
    }

    /// Of the log in use; of the first one when the identity does not tell.
    static func logName(in path: String, disk: any Disk) -> String {
        let kept = try? readIdentity(path, disk)
        return dataName("log", kept?.generation ?? 0)
    }

    /// Where the set of data is made that is to take the place of the one in use.
    public struct NextData: Sendable {
        public let logPath: String
        public let snapshotsPath: String
        public let statePath: String
        fileprivate let generation: UInt32
    }

    /// Empty, whatever an earlier attempt has left. Nothing in use is touched. Blocks.
    public func prepareNextData() throws(StorageError) -> NextData {
        guard generation < .max else {
            throw .damaged(
                file: filePath(path, IdentityFile.name), offset: 0, reason: "the generation cannot be raised")
        }
        try dropUnusedData()
        return NextData(
            logPath: filePath(path, Self.dataName("log", generation + 1)),
            snapshotsPath: filePath(path, Self.dataName("snapshots", generation + 1)),
            statePath: filePath(path, Self.dataName("state", generation + 1)), generation: generation + 1)
    }

    /// From now on the directory is that of `identity`, with the data in `next`, which has to be durable: after a crash
    /// either all is as before or all of this holds. What was in use before is removed. Blocks.
    public func use(_ next: NextData, as identity: NodeIdentity) throws(StorageError) {
        try dropJoinToken()
        try save(KeptIdentity(identity: identity, generation: next.generation))
        try dropUnusedData()
    }

    /// Removes the sets of data that are not in use. Their directories stay, empty.
    private func dropUnusedData() throws(StorageError) {
        let unused = try onDisk { () throws(DiskError) in try disk.list(path) }.filter { name in
            Self.dataNames.contains { isGeneration(name, of: $0) && name != Self.dataName($0, generation) }
        }
        for name in unused { try onDisk { () throws(DiskError) in try removeFiles(in: filePath(path, name)) } }
    }

    private func isGeneration(_ name: String, of data: String) -> Bool {
        if name == data { return true }
        guard name.hasPrefix(data + "."), let number = UInt32(name.dropFirst(data.count + 1)) else { return false }
        return name == Self.dataName(data, number)
    }

    private func removeFiles(in directory: String) throws(DiskError) {
        let names: [String]
        do throws(DiskError) {
            names = try disk.list(directory)
        } catch {
            if error.kind == .notFound { return }
            throw error
        }
        for name in names { try disk.remove(filePath(directory, name)) }
        try disk.synchronizeDirectory(directory)
    }

    /// Begins the next life of the node: raises the incarnation by one, durably. Nil when there is no identity yet.
    /// To be called once after `open`, before the node serves. Blocks.
    public func beginIncarnation() throws(StorageError) -> Incarnation? {
        guard var identity else { return nil }
        guard identity.incarnation.rawValue < .max else {
            throw .damaged(
                file: filePath(path, IdentityFile.name), offset: 0, reason: "the incarnation cannot be raised")
        }
        identity.incarnation = Incarnation(identity.incarnation.rawValue + 1)
        try saveIdentity(identity)
        return identity.incarnation
    }

    /// Lets other processes have the directory.
    public func close() { lock.unlock() }
}

extension Disk {
    /// Writes a file under a temporary name and gives it its own once it is durable.
    func replaceFile(_ path: String, with parts: [[UInt8]], by temporaryPath: String) throws(DiskError) {
        do { try remove(temporaryPath) } catch  where error.kind == .notFound {}
        let file = try open(temporaryPath, .createNew)
        do {
            defer { file.close() }
            var offset: UInt64 = 0
            for part in parts {
                try file.write(part, at: offset)
                offset += UInt64(part.count)
            }
            try file.synchronizeData()
        }
        try rename(temporaryPath, to: path)
        try synchronizeDirectory(parentDirectory(of: path))
    }
}
