import Prelude
import Raft

/// A copy of a state store in a file of its own, made piece by piece by `StateStore.advance`.
public final class StateImage: @unchecked Sendable {
    // Sendable: apart from `path`, only the store's work, one piece at a time, touches it.
    public let path: String
    private let disk: any Disk
    private var copy: DatabaseCopy?

    public init(_ path: String, disk: any Disk) {
        self.path = path
        self.disk = disk
    }

    /// The state that the image holds; nil as long as it is not whole and durable. Blocks.
    func advance(_ rows: StateRows, group: GroupID, pageCount: Int) throws(StorageError) -> StateHead? {
        do throws(StorageError) {
            guard try copy(rows, pageCount: pageCount) else { return nil }
            guard let head = try rows.head(group: group)?.head else {
                throw .damaged(file: rows.database.path, offset: 0, reason: "it holds no state")
            }
            return head
        } catch {
            end()
            throw error
        }
    }

    /// True once it is whole and durable. Blocks.
    func copy(_ rows: StateRows, pageCount: Int) throws(StorageError) -> Bool {
        if copy == nil { copy = try begin(rows) }
        let isWhole = try copy?.step(pageCount: Int32(clamping: max(1, pageCount)))
        // Piece by piece: all at once would hold up whoever else synchronizes something on this disk.
        try synchronize()
        if isWhole == true { copy = nil }
        return isWhole == true
    }

    private func begin(_ rows: StateRows) throws(StorageError) -> DatabaseCopy {
        try onDisk { () throws(DiskError) in try disk.createDirectory(parentDirectory(of: path)) }
        try StateFiles.remove(path, disk)
        let pageCount = try rows.database.number("PRAGMA page_count")
        try StateFiles.requireRoom(for: UInt64(max(0, pageCount)) * UInt64(StateVFS.pageByteCount), at: path, disk)
        return try DatabaseCopy(of: rows.database, to: path, disk: disk)
    }

    private func synchronize() throws(StorageError) {
        try onDisk { () throws(DiskError) in
            let file: any DiskFile
            do throws(DiskError) {
                file = try disk.open(path, .readWrite)
            } catch {
                // Nothing has been written to it yet.
                if error.kind == .notFound { return }
                throw error
            }
            defer { file.close() }
            try file.synchronizeData()
        }
    }

    /// What there is of it goes.
    func end() {
        copy = nil
        try? StateFiles.remove(path, disk)
    }
}

/// The files of SQLite databases as files.
public enum StateFiles {
    /// Refuses at once what would fill the disk to the brim, which has others to serve.
    static func requireRoom(for byteCount: UInt64, at path: String, _ disk: any Disk) throws(StorageError) {
        let available = try onDisk { () throws(DiskError) in
            try disk.availableByteCount(parentDirectory(of: path))
        }
        guard available > byteCount else {
            throw .noSpace(
                DiskError(
                    kind: .noSpace, operation: "write", path: path,
                    reason: "it will have \(byteCount) bytes, and \(available) are free"))
        }
    }

    /// Removes the file and what SQLite keeps beside it. Harmless when there is none. Blocks.
    public static func remove(_ path: String, _ disk: any Disk) throws(StorageError) {
        for name in [path, path + StateDatabase.writeAheadSuffix, path + "-journal"] {
            do throws(DiskError) { try disk.remove(name) } catch {
                if error.kind != .notFound { throw StorageError(error) }
            }
        }
    }

    /// How many bytes it has, and their checksum. Blocks.
    public static func measure(_ path: String, disk: any Disk) throws(StorageError) -> (UInt64, checksum: UInt32) {
        var checksum: UInt32 = 0
        var offset: UInt64 = 0
        while true {
            let piece = try readPiece(path, at: offset, byteCountMax: 1 << 20, disk: disk)
            if piece.isEmpty { return (offset, checksum) }
            checksum = checksumOf(piece, continuing: checksum)
            offset += UInt64(piece.count)
        }
    }

    /// Fewer bytes at the end of the file only. Blocks.
    public static func readPiece(
        _ path: String, at offset: UInt64, byteCountMax: Int, disk: any Disk
    ) throws(StorageError) -> [UInt8] {
        try onDisk { () throws(DiskError) in
            let file = try disk.open(path, .readOnly)
            defer { file.close() }
            let byteCount = try file.byteCount
            guard offset < byteCount else { return [] }
            var piece = [UInt8](repeating: 0, count: Int(min(UInt64(byteCountMax), byteCount - offset)))
            try file.readAll(into: &piece, at: offset, path: path)
            return piece
        }
    }

    public static func checksumOf(_ bytes: [UInt8], continuing checksum: UInt32 = 0) -> UInt32 {
        bytes.withUnsafeBytes { crc32c($0, continuing: checksum) }
    }
}
