import CSQLite
import Glibc
import Prelude

/// One connection to a SQLite database over a `StateVFS`. Used by one thread at a time.
final class StateDatabase {
    let path: String
    let vfs: StateVFS
    fileprivate var connection: OpaquePointer?
    private var statements: [String: StateStatement] = [:]

    static let writeAheadSuffix = "-wal"

    enum Journal {
        /// Changes come in transactions, each wholly or not at all.
        case writeAhead
        /// For a new file that counts only once it is whole.
        case none
    }

    /// Opens the database, and creates it when it is missing.
    init(
        _ path: String, disk: any Disk, cacheByteCount: Int, journal: Journal = .writeAhead
    ) throws(StorageError) {
        self.path = path
        vfs = StateVFS(disk: disk)
        try rewriteAheadLog(disk)
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX
        do throws(StorageError) {
            try check(sqlite3_open_v2(path, &connection, flags, vfs.name))
            sqlite3_extended_result_codes(connection, 1)
            // One connection: no shared memory is needed for the log beside the database. Before anything reads it.
            try run("PRAGMA locking_mode = EXCLUSIVE")
            var reserved = Int32(StateVFS.reservedByteCount)
            try check(sqlite3_file_control(connection, "main", SQLITE_FCNTL_RESERVE_BYTES, &reserved))
            try run("PRAGMA page_size = \(StateVFS.pageByteCount)")
            try run("PRAGMA cache_size = -\(max(64, cacheByteCount / 1024))")
            try run("PRAGMA temp_store = MEMORY")
            try run("PRAGMA journal_mode = \(journal == .writeAhead ? "WAL" : "OFF")")
            try run("PRAGMA synchronous = FULL")
            try run("PRAGMA wal_autocheckpoint = 0")
        } catch {
            close()
            throw error
        }
    }

    deinit { close() }

    var isOpen: Bool { connection != nil }

    func close() {
        statements = [:]
        sqlite3_close_v2(connection)
        connection = nil
    }

    /// What an earlier life wrote and could not synchronize can be read and is not on the disk: it is written once more
    /// before SQLite builds on it.
    private func rewriteAheadLog(_ disk: any Disk) throws(StorageError) {
        try onDisk { () throws(DiskError) in
            let file: any DiskFile
            do throws(DiskError) {
                file = try disk.open(path + Self.writeAheadSuffix, .readWrite)
            } catch {
                if error.kind == .notFound { return }
                throw error
            }
            defer { file.close() }
            let byteCount = try file.byteCount
            guard byteCount > 0 else { return }
            var offset: UInt64 = 0
            while offset < byteCount {
                var piece = [UInt8](repeating: 0, count: Int(min(byteCount - offset, 1 << 20)))
                try file.readAll(into: &piece, at: offset, path: path + Self.writeAheadSuffix)
                try file.write(piece, at: offset)
                offset += UInt64(piece.count)
            }
            try file.synchronizeData()
        }
    }

    /// SQLite notices pages that are missing at the end only when it needs them.
    func refuseShortened(_ disk: any Disk) throws(StorageError) {
        let (pageCount, byteCount) = try onDisk { () throws(DiskError) in
            let file = try disk.open(path, .readOnly)
            defer { file.close() }
            var header = [UInt8](repeating: 0, count: 32)
            try file.readAll(into: &header, at: 0, path: path)
            let count = header[28..<32].reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
            return (count, try file.byteCount)
        }
        guard byteCount >= pageCount * UInt64(StateVFS.pageByteCount) else {
            throw .damaged(file: path, offset: byteCount, reason: "it has had \(pageCount) pages")
        }
    }

    func run(_ sql: String) throws(StorageError) { try check(sqlite3_exec(connection, sql, nil, nil, nil)) }

    /// What was committed is in the database itself afterwards, and the log beside it is empty.
    func checkpoint() throws(StorageError) {
        try check(sqlite3_wal_checkpoint_v2(connection, nil, SQLITE_CHECKPOINT_TRUNCATE, nil, nil))
    }

    /// Runs `body` in a transaction: all of it holds, or nothing.
    func transaction(_ body: () throws(StorageError) -> Void) throws(StorageError) {
        try run("BEGIN IMMEDIATE")
        do throws(StorageError) {
            try body()
            try run("COMMIT")
        } catch {
            // SQLite may have rolled it back already.
            sqlite3_exec(connection, "ROLLBACK", nil, nil, nil)
            _ = vfs.takeFailure()
            throw error
        }
    }

    func statement(_ sql: String) throws(StorageError) -> StateStatement {
        if let known = statements[sql] { return known }
        var prepared: OpaquePointer?
        try check(sqlite3_prepare_v2(connection, sql, -1, &prepared, nil))
        guard let prepared else { throw refused(SQLITE_MISUSE) }
        let statement = StateStatement(prepared, database: self)
        statements[sql] = statement
        return statement
    }

    func execute(_ sql: String, _ values: StateValue...) throws(StorageError) {
        let statement = try statement(sql)
        try statement.bind(values)
        while try statement.step() {}
    }

    /// One number; 0 when the query has no row.
    func number(_ sql: String) throws(StorageError) -> Int64 {
        let statement = try statement(sql)
        try statement.bind([])
        defer { statement.reset() }
        return try statement.step() ? statement.integer(0) : 0
    }

    fileprivate func check(_ result: Int32) throws(StorageError) {
        guard result != SQLITE_OK, result != SQLITE_ROW, result != SQLITE_DONE else { return }
        throw refused(result)
    }

    fileprivate func refused(_ result: Int32) -> StorageError {
        if let failure = vfs.takeFailure() { return failure }
        let reason = connection.map { String(cString: sqlite3_errmsg($0)) } ?? "error \(result)"
        switch result & 0xFF {
        case SQLITE_CORRUPT, SQLITE_NOTADB: return .damaged(file: path, offset: 0, reason: reason)
        case SQLITE_FULL:
            return .noSpace(DiskError(kind: .noSpace, operation: "write", path: path, reason: reason))
        default: return .disk(DiskError(kind: .io, operation: "use", path: path, reason: reason))
        }
    }
}

/// A copy of a database while it is made, a bounded number of pages at a time. What the source's connection commits in
/// between goes into the pages that are there already: the copy is the source as it is when the last page is there.
final class DatabaseCopy {
    private let source: StateDatabase
    private let destination: StateDatabase
    private var backup: OpaquePointer?

    private static let cacheByteCount = 1 << 20

    /// Nothing is at `path` yet.
    init(of source: StateDatabase, to path: String, disk: any Disk) throws(StorageError) {
        self.source = source
        destination = try StateDatabase(path, disk: disk, cacheByteCount: Self.cacheByteCount, journal: .none)
        backup = sqlite3_backup_init(destination.connection, "main", source.connection, "main")
        guard backup != nil else { throw destination.refused(SQLITE_ERROR) }
    }

    /// True once it is whole, and nothing of it is open any more. Not to be called after that, nor after a throw.
    func step(pageCount: Int32) throws(StorageError) -> Bool {
        switch sqlite3_backup_step(backup, pageCount) {
        case SQLITE_OK: return false
        case SQLITE_DONE:
            let result = sqlite3_backup_finish(backup)
            backup = nil
            guard result == SQLITE_OK else { throw destination.refused(result) }
            destination.close()
            return true
        case let result:
            throw source.vfs.takeFailure() ?? destination.refused(result)
        }
    }

    func end() {
        sqlite3_backup_finish(backup)
        backup = nil
        destination.close()
    }

    deinit { end() }
}

/// A value of a column.
enum StateValue {
    case integer(Int64)
    case text(String)
    case bytes([UInt8])
    case null

    static func number(_ value: UInt64) -> StateValue { .integer(Int64(bitPattern: value)) }
}

/// A prepared statement. Belongs to its database and ends with it.
final class StateStatement {
    private let statement: OpaquePointer
    private unowned let database: StateDatabase

    fileprivate init(_ statement: OpaquePointer, database: StateDatabase) {
        self.statement = statement
        self.database = database
    }

    deinit { sqlite3_finalize(statement) }

    func reset() { sqlite3_reset(statement) }

    /// Begins anew with these parameters.
    func bind(_ values: [StateValue]) throws(StorageError) {
        sqlite3_reset(statement)
        // SQLite makes a copy.
        let transient = unsafeBitCast(-1, to: sqlite3_destructor_type.self)
        for (place, value) in values.enumerated() {
            let place = Int32(place + 1)
            let result: Int32
            switch value {
            case .integer(let number): result = sqlite3_bind_int64(statement, place, number)
            case .text(var text):
                result = text.withUTF8 { utf8 in
                    utf8.withMemoryRebound(to: CChar.self) { bytes in
                        let empty: CChar = 0
                        return withUnsafePointer(to: empty) {
                            sqlite3_bind_text(
                                statement, place, bytes.baseAddress ?? $0, Int32(bytes.count), transient)
                        }
                    }
                }
            case .bytes(let bytes):
                result =
                    bytes.isEmpty
                    ? sqlite3_bind_zeroblob(statement, place, 0)
                    : bytes.withUnsafeBytes {
                        sqlite3_bind_blob64(statement, place, $0.baseAddress, UInt64($0.count), transient)
                    }
            case .null: result = sqlite3_bind_null(statement, place)
            }
            try database.check(result)
        }
    }

    /// True when there is a row.
    func step() throws(StorageError) -> Bool {
        let result = sqlite3_step(statement)
        if result == SQLITE_ROW { return true }
        // The error's text is that of the last call: it is taken before the reset.
        defer { sqlite3_reset(statement) }
        try database.check(result)
        return false
    }

    func integer(_ column: Int32) -> Int64 { sqlite3_column_int64(statement, column) }
    func number(_ column: Int32) -> UInt64 { UInt64(bitPattern: integer(column)) }
    func isNull(_ column: Int32) -> Bool { sqlite3_column_type(statement, column) == SQLITE_NULL }

    func bytes(_ column: Int32) -> [UInt8] {
        // The bytes before their count: the first call may convert.
        guard let start = sqlite3_column_blob(statement, column) else { return [] }
        return Array(UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(statement, column))))
    }

    func text(_ column: Int32) -> String { String(decoding: bytes(column), as: UTF8.self) }
}
