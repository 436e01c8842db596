import Prelude

/// What a backup says of itself.
public struct BackupInfo: Equatable, Sendable {
    public var clusterID: String
    /// Who made it, and with which version of the program.
    public var node: NodeID
    public var program: String
    public var createdMilliseconds: Int64
    /// The members of the cluster and the ids that are spent, in the cluster's own form.
    public var directory: [UInt8]

    public init(clusterID: String, node: NodeID, program: String, createdMilliseconds: Int64, directory: [UInt8]) {
        self.clusterID = clusterID
        self.node = node
        self.program = program
        self.createdMilliseconds = createdMilliseconds
        self.directory = directory
    }
}

/// A backup: a SQLite file with the tables of a state store, one more about itself, and views for people.
/// docs/disk-format.md has the columns.
public enum BackupFile {
    public static let format: Int64 = 1
    private static let cacheByteCount = 8 << 20

    private static let schema = """
        CREATE TABLE backup (
            only INTEGER PRIMARY KEY CHECK (only = 1), format INTEGER NOT NULL, cluster_id TEXT NOT NULL,
            node INTEGER NOT NULL, program TEXT NOT NULL, created_ms INTEGER NOT NULL, directory BLOB NOT NULL);
        CREATE VIEW workflows AS SELECT
            run, workflow_id, type, version, status, CAST(input AS TEXT) AS input, CAST(result AS TEXT) AS result,
            failure, datetime(started_ms / 1000, 'unixepoch') AS started,
            iif(ended_ms > 0, datetime(ended_ms / 1000, 'unixepoch'), NULL) AS ended, owner, request_id FROM runs;
        CREATE VIEW steps AS SELECT
            records.run AS run, workflow_id, position, kind, key AS step, CAST(value AS TEXT) AS value,
            records.failure AS failure, attempt, pending, datetime(time_ms / 1000, 'unixepoch') AS time
            FROM records JOIN runs ON runs.run = records.run;
        """

    /// Makes a backup of the image of a state store at `path`, in its place. Durable, with nothing beside it, when this
    /// returns. Blocks.
    public static func make(of path: String, info: BackupInfo, disk: any Disk) throws(StorageError) {
        let database = try StateDatabase(path, disk: disk, cacheByteCount: cacheByteCount)
        defer { database.close() }
        try database.transaction { () throws(StorageError) in
            try database.run(schema)
            try database.execute(
                "INSERT INTO backup VALUES (1, ?, ?, ?, ?, ?, ?)", .integer(format), .text(info.clusterID),
                .number(info.node.rawValue), .text(info.program), .integer(info.createdMilliseconds),
                .bytes(info.directory))
        }
        // So that the one file is all of it, and whoever opens it need not write beside it.
        try database.run("PRAGMA journal_mode = DELETE")
    }

    /// Makes the file of a state store out of a backup that `read` has checked, and moves it to `directory`, durably. It
    /// holds the ended runs for ever, and nothing that the machine of another cluster knew: the first batch of the new
    /// one brings that. Blocks.
    public static func makeStore(
        of path: String, group: GroupID, in directory: String, disk: any Disk
    ) throws(StorageError) {
        try leaveEndedRuns(in: path, disk)
        try onDisk { () throws(DiskError) in
            try disk.createDurableDirectory(directory)
            try disk.rename(path, to: StateStore.path(of: group, in: directory))
            try disk.synchronizeDirectory(directory)
        }
    }

    /// What a backup holds, checked to the last page. `path` is taken over: it may be written to. Blocks.
    public static func read(
        _ path: String, group: GroupID, disk: any Disk
    ) throws(StorageError) -> (state: StoredState, info: BackupInfo) {
        let database = try StateDatabase(path, disk: disk, cacheByteCount: cacheByteCount)
        defer { database.close() }
        let isBackup = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'backup'"
        guard try database.number(isBackup) == 1 else {
            throw .damaged(file: path, offset: 0, reason: "it is not a backup")
        }
        let found = try database.number("SELECT format FROM backup")
        guard found <= format else {
            throw .newerVersion(file: path, found: UInt32(clamping: found), known: UInt32(format))
        }
        try StateSchema.prepare(database)
        try database.refuseShortened(disk)
        try check(database)
        let about = try database.statement("SELECT cluster_id, node, program, created_ms, directory FROM backup")
        try about.bind([])
        defer { about.reset() }
        guard try about.step(), let state = try StateRows(database: database).load(group: group) else {
            throw .damaged(file: path, offset: 0, reason: "the backup was not completed")
        }
        return (
            state,
            BackupInfo(
                clusterID: about.text(0), node: NodeID(about.number(1)), program: about.text(2),
                createdMilliseconds: about.integer(3), directory: about.bytes(4))
        )
    }

    private static func leaveEndedRuns(in path: String, _ disk: any Disk) throws(StorageError) {
        let database = try StateDatabase(path, disk: disk, cacheByteCount: cacheByteCount)
        defer { database.close() }
        try database.transaction { () throws(StorageError) in
            try database.run("DROP VIEW IF EXISTS workflows; DROP VIEW IF EXISTS steps; DROP TABLE backup;")
            try StateRows(database: database).removeHead()
        }
        try database.checkpoint()
    }

    private static func check(_ database: StateDatabase) throws(StorageError) {
        let check = try database.statement("PRAGMA quick_check(1)")
        try check.bind([])
        defer { check.reset() }
        guard try check.step(), check.text(0) == "ok" else {
            throw .damaged(file: database.path, offset: 0, reason: check.text(0))
        }
    }
}

/// Writes a file under a temporary name, piece by piece, and gives it its own name once it is whole and durable.
public final class IncomingFile {
    private let path: String
    let temporaryPath: String
    private let disk: any Disk
    private let file: any DiskFile
    public private(set) var byteCount: UInt64 = 0
    public private(set) var checksum: UInt32 = 0

    public static let temporarySuffix = ".part"

    public init(_ path: String, disk: any Disk) throws(StorageError) {
        self.path = path
        self.disk = disk
        temporaryPath = path + Self.temporarySuffix
        file = try onDisk { [temporaryPath] () throws(DiskError) in
            do throws(DiskError) { try disk.remove(temporaryPath) } catch { if error.kind != .notFound { throw error } }
            return try disk.open(temporaryPath, .createNew)
        }
    }

    public func append(_ piece: [UInt8]) throws(StorageError) {
        try onDisk { () throws(DiskError) in try file.write(piece, at: byteCount) }
        byteCount += UInt64(piece.count)
        checksum = StateFiles.checksumOf(piece, continuing: checksum)
    }

    public func finish() throws(StorageError) {
        try onDisk { () throws(DiskError) in
            try file.synchronizeData()
            file.close()
            try disk.rename(temporaryPath, to: path)
            try disk.synchronizeDirectory(parentDirectory(of: path))
        }
    }

    func close() { file.close() }

    public func abandon() {
        file.close()
        try? disk.remove(temporaryPath)
    }
}
