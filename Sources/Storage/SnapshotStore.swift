import Prelude
import Raft

/// Keeps the newest snapshot of each group, one file for each, written as a whole or not at all. The bytes are in
/// docs/disk-format.md. Confined to one loop.
public final class SnapshotStore {
    private let directory: String
    private let disk: any Disk
    private let work: any Work
    private let byteCountMax: UInt64
    /// Saves wait for each other, so that an older snapshot never replaces a newer one.
    private var waiting: [() -> Void] = []
    private var isSaving = false

    /// Creates the directory when it is missing and removes what a crash left half written. Blocks.
    public init(
        directory: String, disk: any Disk, work: any Work, limits: LogLimits = LogLimits()
    ) throws(StorageError) {
        self.directory = directory
        self.disk = disk
        self.work = work
        byteCountMax = limits.snapshotByteCountMax
        try onDisk { () throws(DiskError) in
            try disk.createDurableDirectory(directory)
            for name in try disk.list(directory) where SnapshotFile.isTemporary(name) {
                try disk.remove(filePath(directory, name))
            }
            // A process that was killed can have left a name in the memory of the system only.
            try disk.synchronizeDirectory(directory)
        }
    }

    /// The newest snapshot of `group`; nil when there is none. A damaged one is refused and not passed over: what it
    /// held may be nowhere else. Blocks.
    public func load(_ group: GroupID) throws(StorageError) -> Snapshot? {
        try Self.newest(of: group, in: directory, disk: disk)
    }

    /// As `load`, for whoever only looks.
    public static func newest(
        of group: GroupID, in directory: String, disk: any Disk
    ) throws(StorageError) -> Snapshot? {
        let files = try onDisk { () throws(DiskError) in try SnapshotFile.all(in: directory, of: group, disk: disk) }
        guard let newest = files.last else { return nil }
        return try SnapshotFile.load(newest, directory: directory, disk: disk)
    }

    /// The groups that have a snapshot, in order. Blocks.
    public func groups() throws(StorageError) -> [GroupID] {
        let names = try onDisk { () throws(DiskError) in try disk.list(directory) }
        return Set(names.compactMap { SnapshotFile(name: $0)?.group }).sorted()
    }

    /// Saves `snapshot` durably, then removes the group's older ones. `completion` runs once, on the loop, never before
    /// this call has returned. After `.noSpace` and `.tooLarge` the older snapshot is untouched; so it is after any
    /// other error, but the new one may or may not be there after a restart.
    public func save(
        _ group: GroupID, _ snapshot: Snapshot, completion: @escaping (Result<Void, StorageError>) -> Void
    ) {
        waiting.append { [self] in
            work.perform { [directory, disk, byteCountMax] in
                Self.save(group, snapshot, directory: directory, disk: disk, byteCountMax: byteCountMax)
            } completion: { [self] result in
                isSaving = false
                completion(result)
                saveNext()
            }
        }
        saveNext()
    }

    /// Removes the snapshots of `group` up to `index`: the state store holds more. `completion` as that of `save`.
    public func discard(
        _ group: GroupID, upTo index: LogIndex, completion: @escaping (Result<Void, StorageError>) -> Void
    ) {
        waiting.append { [self] in
            work.perform { [directory, disk] in
                do throws(DiskError) {
                    for file in try SnapshotFile.all(in: directory, of: group, disk: disk) where file.index <= index {
                        try disk.remove(filePath(directory, file.name))
                    }
                    return .success(())
                } catch {
                    return .failure(StorageError(error))
                }
            } completion: { [self] (result: Result<Void, StorageError>) in
                isSaving = false
                completion(result)
                saveNext()
            }
        }
        saveNext()
    }

    private func saveNext() {
        guard !isSaving, !waiting.isEmpty else { return }
        isSaving = true
        waiting.removeFirst()()
    }

    private static func save(
        _ group: GroupID, _ snapshot: Snapshot, directory: String, disk: any Disk, byteCountMax: UInt64
    ) -> Result<Void, StorageError> {
        guard UInt64(snapshot.data.count) <= byteCountMax else {
            return .failure(
                .tooLarge(
                    what: "the snapshot of group \(group)", byteCount: UInt64(snapshot.data.count),
                    byteCountMax: byteCountMax))
        }
        let saved = SnapshotFile(group: group, index: snapshot.metadata.index)
        let path = filePath(directory, saved.name)
        do throws(DiskError) {
            let files = try SnapshotFile.all(in: directory, of: group, disk: disk)
            if let newest = files.last, newest.index > saved.index { return .success(()) }
            let header = SnapshotFile.header(group, snapshot)
            try disk.replaceFile(path, with: [header, snapshot.data], by: path + SnapshotFile.temporarySuffix)
            for older in files where older.index < saved.index {
                try disk.remove(filePath(directory, older.name))
            }
            return .success(())
        } catch {
            return .failure(StorageError(error))
        }
    }
}

/// The name and the form of a snapshot's file: a header with the metadata and both checksums, then the data.
struct SnapshotFile: Equatable {
    var group: GroupID
    var index: LogIndex

    static let magic: [UInt8] = Array("RAFTOSNP".utf8)
    static let version: UInt32 = 1
    static let suffix = ".snapshot"
    static let temporarySuffix = ".new"
    /// Magic, version, byte count of the metadata, byte count and checksum of the data.
    private static let fixedByteCount = 28
    private static let metadataByteCountMax = 1 << 20

    init(group: GroupID, index: LogIndex) {
        self.group = group
        self.index = index
    }

    var name: String { "\(group)-\(index)\(Self.suffix)" }

    init?(name: String) {
        guard name.hasSuffix(Self.suffix) else { return nil }
        let parts = name.dropLast(Self.suffix.count).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, let group = UInt64(parts[0]), let index = UInt64(parts[1]) else { return nil }
        self.init(group: GroupID(group), index: LogIndex(index))
        guard self.name == name else { return nil }
    }

    static func isTemporary(_ name: String) -> Bool { name.hasSuffix(suffix + temporarySuffix) }

    /// The files of `group`, oldest first.
    static func all(
        in directory: String, of group: GroupID, disk: any Disk
    ) throws(DiskError) -> [SnapshotFile] {
        try disk.list(directory).compactMap(SnapshotFile.init(name:)).filter { $0.group == group }
            .sorted { $0.index < $1.index }
    }

    static func header(_ group: GroupID, _ snapshot: Snapshot) -> [UInt8] {
        var metadata = ByteWriter()
        metadata.append(fixed: group.rawValue)
        metadata.append(snapshot.metadata)

        var writer = ByteWriter()
        for byte in magic { writer.append(byte) }
        writer.append(fixed: version)
        writer.append(fixed: UInt32(metadata.bytes.count))
        writer.append(fixed: UInt64(snapshot.data.count))
        writer.append(fixed: crc32c(snapshot.data))
        for byte in metadata.bytes { writer.append(byte) }
        writer.append(fixed: crc32c(writer.bytes))
        return writer.bytes
    }

    static func load(
        _ name: SnapshotFile, directory: String, disk: any Disk
    ) throws(StorageError) -> Snapshot {
        let path = filePath(directory, name.name)
        let file = try onDisk { () throws(DiskError) in try disk.open(path, .readOnly) }
        defer { file.close() }
        let byteCount = try onDisk { () throws(DiskError) in try file.byteCount }
        func read(_ count: Int, at offset: Int) throws(StorageError) -> [UInt8] {
            guard UInt64(offset) + UInt64(count) <= byteCount else {
                throw .damaged(file: path, offset: byteCount, reason: "the file ends too early")
            }
            var bytes = [UInt8](repeating: 0, count: count)
            try onDisk { () throws(DiskError) in try file.readAll(into: &bytes, at: UInt64(offset), path: path) }
            return bytes
        }
        func damaged(_ offset: Int, _ reason: String) -> StorageError {
            .damaged(file: path, offset: UInt64(offset), reason: reason)
        }

        let fixed = try read(fixedByteCount, at: 0)
        guard fixed.starts(with: magic) else { throw damaged(0, "it does not begin as a snapshot does") }
        let (found, metadataByteCount, dataByteCount, dataChecksum) = fixed.withUnsafeBytes {
            (
                $0.load(UInt32.self, at: 8), Int($0.load(UInt32.self, at: 12)), $0.load(UInt64.self, at: 16),
                $0.load(UInt32.self, at: 24)
            )
        }
        guard metadataByteCount <= metadataByteCountMax else { throw damaged(12, "\(metadataByteCount) of metadata") }
        let header = try read(fixedByteCount + metadataByteCount + 4, at: 0)
        let checksum = header.withUnsafeBytes { $0.load(UInt32.self, at: $0.count - 4) }
        guard crc32c(Array(header.dropLast(4))) == checksum else {
            throw damaged(0, "the checksum of the header does not match")
        }
        guard found <= version else { throw .newerVersion(file: path, found: found, known: version) }
        guard dataByteCount == byteCount - UInt64(header.count) else {
            throw damaged(16, "\(dataByteCount) bytes of data in a file of \(byteCount)")
        }
        let data = try read(Int(dataByteCount), at: header.count)
        guard crc32c(data) == dataChecksum else {
            throw damaged(header.count, "the checksum of the data does not match")
        }
        do {
            var reader = ByteReader(Array(header[fixedByteCount..<header.count - 4]))
            let group = GroupID(try reader.fixed64())
            let metadata = try reader.snapshotMetadata()
            try reader.end()
            guard group == name.group, metadata.index == name.index else {
                throw damaged(fixedByteCount, "it holds the snapshot of group \(group) at \(metadata.index)")
            }
            return Snapshot(metadata: metadata, data: data)
        } catch let error as MalformedBytes {
            throw damaged(fixedByteCount + error.offset, "expected \(error.expected)")
        } catch let error as StorageError {
            throw error
        } catch {
            invariantBroken("reading metadata throws only these errors")
        }
    }
}
