import Prelude
import Raft

/// Keeps the state of one group in a SQLite file: what its machine knows, and every ended run for ever. Written behind
/// the log, in batches that each bring it to a later applied index; a crash leaves it at one of them.
///
/// Confined to one loop; the file is used on other threads, by one piece of work at a time.
public final class StateStore {
    public let group: GroupID
    private let work: any Work
    private let file: StateFile
    private var waiting: [() -> Void] = []
    private var isBusy = false
    private var isClosed = false
    /// Runs once nothing uses the file any more.
    private var onIdle: (() -> Void)?

    public static let suffix = ".state"

    /// The connection. Only one piece of work has it at a time, and the loop not at all after the start.
    private final class StateFile: @unchecked Sendable {
        var rows: StateRows
        let limits: StateLimits
        let group: GroupID
        let path: String
        let disk: any Disk
        /// Under way: they end before the database does.
        var images: [StateImage] = []

        init(_ rows: StateRows, group: GroupID, path: String, disk: any Disk, limits: StateLimits) {
            self.rows = rows
            self.limits = limits
            self.group = group
            self.path = path
            self.disk = disk
        }

        func close() {
            for image in images { image.end() }
            images = []
            rows.database.close()
        }

        /// Damage that no start looks for, such as that of an index, shows when the page is needed. From then on the file
        /// is refused at the start, so that the node is repaired and does not stop again and again.
        func noteDamage(_ error: StorageError) {
            guard case .damaged(let damaged, let offset, let reason) = error, damaged == path else { return }
            DamageNote(offset: offset, reason: reason).save(for: path, disk)
        }
    }

    /// Opens the file of `group` in `directory`, and creates what is missing. Blocks.
    public init(
        _ group: GroupID, directory: String, disk: any Disk, work: any Work, limits: StateLimits = StateLimits()
    ) throws(StorageError) {
        self.group = group
        self.work = work
        try onDisk { () throws(DiskError) in try disk.createDurableDirectory(directory) }
        let path = Self.path(of: group, in: directory)
        try DamageNote.refuseNoted(path, disk)
        file = StateFile(
            try Self.openNewest(group, directory: directory, disk: disk, limits: limits), group: group, path: path,
            disk: disk, limits: limits)
    }

    static func path(of group: GroupID, in directory: String) -> String {
        filePath(directory, "\(group)\(suffix)")
    }

    /// What the file of `group` in `directory` holds; nil when there is none. A batch that was committed when a crash
    /// came is brought into the file, apart from that nothing changes. A note of damage is passed over: each page that is
    /// needed is checked, and the damaged one may not be among them. Blocks.
    public static func read(
        _ group: GroupID, directory: String, disk: any Disk, limits: StateLimits = StateLimits()
    ) throws(StorageError) -> StoredState? {
        let names = try names(in: directory, disk)
        var newest: StoredState?
        if names.contains("\(group)\(suffix)") {
            newest = try read(group, path(of: group, in: directory), disk, limits)
        }
        for image in names.compactMap(IncomingImage.init(name:)) where image.group == group {
            guard image.index > newest?.head.metadata.index ?? 0 else { continue }
            newest = try read(group, filePath(directory, image.name), disk, limits)
        }
        return newest
    }

    /// Makes a durable store in `next` out of the one in `directory`: `batch`, the newest changes, is written to it, and then
    /// only the runs stay in it that no machine remembers. The store of a new cluster begins with that. The one in
    /// `directory` stays as it is; without one nothing is made, nor is anything left after an error. Blocks.
    public static func carryForgottenRuns(
        of group: GroupID, from directory: String, to next: String, _ batch: StateBatch, disk: any Disk,
        limits: StateLimits = StateLimits()
    ) throws(StorageError) {
        guard let source = try openNewestAsItIs(group, directory, disk, limits) else { return }
        defer { source.database.close() }
        try onDisk { () throws(DiskError) in try disk.createDurableDirectory(next) }
        let path = path(of: group, in: next)
        do throws(StorageError) {
            let copy = StateImage(path, disk: disk)
            while try !copy.copy(source, pageCount: .max) {}
            let rows = try open(path, disk, limits)
            defer { rows.database.close() }
            try rows.apply(batch, group: group)
            try rows.database.transaction { () throws(StorageError) in try rows.removeHead() }
            try rows.database.checkpoint()
            try onDisk { () throws(DiskError) in try disk.synchronizeDirectory(next) }
        } catch {
            try StateFiles.remove(path, disk)
            throw error
        }
    }

    private static func names(in directory: String, _ disk: any Disk) throws(StorageError) -> [String] {
        do throws(DiskError) { return try disk.list(directory) } catch {
            if error.kind == .notFound { return [] }
            throw StorageError(error)
        }
    }

    /// The store, or the image that would take its place.
    private static func openNewestAsItIs(
        _ group: GroupID, _ directory: String, _ disk: any Disk, _ limits: StateLimits
    ) throws(StorageError) -> StateRows? {
        var newest: StateRows?
        var index: LogIndex = 0
        let names = try names(in: directory, disk)
        if names.contains("\(group)\(suffix)") {
            let rows = try open(path(of: group, in: directory), disk, limits)
            newest = rows
            index = try rows.head(group: group)?.head.metadata.index ?? 0
        }
        for image in names.compactMap(IncomingImage.init(name:)) where image.group == group && image.index > index {
            newest?.database.close()
            newest = try open(filePath(directory, image.name), disk, limits)
            index = image.index
        }
        return newest
    }

    private static func read(
        _ group: GroupID, _ path: String, _ disk: any Disk, _ limits: StateLimits
    ) throws(StorageError) -> StoredState? {
        let rows = try open(path, disk, limits)
        defer { rows.database.close() }
        return try rows.load(group: group)
    }

    /// An image that another node sent takes the place of the store when it is newer: a crash came before it could.
    private static func openNewest(
        _ group: GroupID, directory: String, disk: any Disk, limits: StateLimits
    ) throws(StorageError) -> StateRows {
        let names = try onDisk { () throws(DiskError) in try disk.list(directory) }
        for name in names where IncomingImage.isPartial(name, of: group) {
            try onDisk { () throws(DiskError) in try disk.remove(filePath(directory, name)) }
        }
        let path = path(of: group, in: directory)
        let images = names.compactMap(IncomingImage.init(name:)).filter { $0.group == group }
        let rows = try open(path, disk, limits)
        guard let newest = images.max(by: { $0.index < $1.index }) else { return rows }
        let known: LogIndex
        do throws(StorageError) {
            known = try rows.head(group: group)?.head.metadata.index ?? 0
        } catch {
            rows.database.close()
            throw error
        }
        guard newest.index > known else {
            for image in images { try StateFiles.remove(filePath(directory, image.name), disk) }
            return rows
        }
        try replace(rows.database, path, by: filePath(directory, newest.name), disk)
        for image in images where image != newest { try StateFiles.remove(filePath(directory, image.name), disk) }
        return try open(path, disk, limits)
    }

    /// Closes the database, and gives the file at `image`, which is durable, its name. A crash leaves one or the other.
    private static func replace(
        _ database: StateDatabase, _ path: String, by image: String, _ disk: any Disk
    ) throws(StorageError) {
        // The log beside it is empty from here on: SQLite would take what is in it for a part of the new file.
        if database.isOpen { try database.checkpoint() }
        database.close()
        for name in [path + StateDatabase.writeAheadSuffix, path + DamageNote.suffix] {
            do throws(DiskError) { try disk.remove(name) } catch {
                if error.kind != .notFound { throw StorageError(error) }
            }
        }
        try onDisk { () throws(DiskError) in
            try disk.synchronizeDirectory(parentDirectory(of: path))
            do throws(DiskError) { try disk.rename(image, to: path) } catch {
                // It has it already: an attempt before this one found no room after that.
                if error.kind != .notFound { throw error }
            }
            try disk.synchronizeDirectory(parentDirectory(of: path))
        }
    }

    private static func open(
        _ path: String, _ disk: any Disk, _ limits: StateLimits
    ) throws(StorageError) -> StateRows {
        let database = try StateDatabase(path, disk: disk, cacheByteCount: limits.cacheByteCount)
        // A crash may have left committed transactions in the log beside the file.
        try database.checkpoint()
        try StateSchema.prepare(database)
        try database.refuseShortened(disk)
        return StateRows(database: database)
    }

    /// What the machine knew as of the newest batch; nil before the first one. Blocks: for the start only.
    public func load() throws(StorageError) -> StoredState? { try file.rows.load(group: group) }

    /// Writes the batch durably and as a whole. After `.noSpace` the store is as it was, and the same batch may be
    /// tried again; after any other error only a restart tells. `completion` runs once, on the loop, never before this
    /// call has returned.
    public func apply(_ batch: StateBatch, completion: @escaping (Result<Void, StorageError>) -> Void) {
        perform(completion) { file throws(StorageError) in
            try file.rows.apply(batch, group: file.group)
            // What is reported as written is in the database itself: the log beside it matters only until here.
            try file.rows.database.checkpoint()
        }
    }

    /// The image that `IncomingImage` has left at `path` takes the place of the file, whole or not at all. After
    /// `.noSpace` it may be tried again. `completion` as that of `apply`.
    public func adopt(_ path: String, completion: @escaping (Result<Void, StorageError>) -> Void) {
        perform(completion) { file throws(StorageError) in
            for image in file.images { image.end() }
            file.images = []
            try Self.replace(file.rows.database, file.path, by: path, file.disk)
            file.rows = try Self.open(file.path, file.disk, file.limits)
        }
    }

    /// Copies up to `byteCount` more bytes into `image`, which becomes the store as it is when the last one is there:
    /// batches that are written in between are taken over. The state that it holds, once it is whole and durable but for
    /// its name; nil before. After a failure nothing of the image is left. `completion` as that of `apply`.
    public func advance(
        _ image: StateImage, byteCount: Int, completion: @escaping (Result<StateHead?, StorageError>) -> Void
    ) {
        perform(completion) { file throws(StorageError) in
            if !file.images.contains(where: { $0 === image }) { file.images.append(image) }
            var isOver = true
            defer { if isOver { file.images.removeAll { $0 === image } } }
            let head = try image.advance(
                file.rows, group: file.group, pageCount: byteCount / StateVFS.pageByteCount)
            isOver = head != nil
            return head
        }
    }

    /// Up to `limit` runs, newest first, without their records.
    public func list(
        _ filter: RunFilter, limit: Int, completion: @escaping (Result<[StoredRun], StorageError>) -> Void
    ) {
        perform(completion) { file throws(StorageError) in try file.rows.list(filter, limit: limit) }
    }

    /// The run and its records; nil when there is none.
    public func run(
        _ index: LogIndex, completion: @escaping (Result<(StoredRun, [StoredRunRecord])?, StorageError>) -> Void
    ) {
        perform(completion) { file throws(StorageError) in
            let place = StateValue.number(index.rawValue)
            guard let run = try file.rows.runs(where: "run = ?", [place]).first else { return nil }
            return (run, try file.rows.records(where: "run = ? ORDER BY position", [place]))
        }
    }

    /// Ends what is under way, then closes the file. What waited behind it fails.
    public func close(completion: @escaping () -> Void = {}) {
        isClosed = true
        guard isBusy else {
            file.close()
            return completion()
        }
        onIdle = { [file] in
            file.close()
            completion()
        }
    }

    private func perform<Output: Sendable>(
        _ completion: @escaping (Result<Output, StorageError>) -> Void,
        _ body: @escaping @Sendable (StateFile) throws(StorageError) -> Output
    ) {
        waiting.append { [self] in
            if isClosed {
                work.perform {
                } completion: { [self] in
                    end()
                    completion(.failure(.closed))
                }
                return
            }
            work.perform { [file] in
                do throws(StorageError) {
                    return .success(try body(file))
                } catch {
                    file.noteDamage(error)
                    return .failure(error)
                }
            } completion: { [self] (result: Result<Output, StorageError>) in
                end()
                completion(result)
            }
        }
        next()
    }

    private func end() {
        isBusy = false
        if isClosed, let onIdle {
            self.onIdle = nil
            onIdle()
        }
        next()
    }

    private func next() {
        guard !isBusy, !waiting.isEmpty else { return }
        isBusy = true
        waiting.removeFirst()()
    }
}
