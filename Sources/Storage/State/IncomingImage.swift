import Prelude
import Raft

/// The name of an image of a state store that came from another node, beside the store whose place it is to take.
struct IncomingImage: Equatable {
    var group: GroupID
    var index: LogIndex

    static let suffix = ".image"

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

    /// What a crash left of an image that was not whole yet, and what SQLite kept beside one.
    static func isPartial(_ name: String, of group: GroupID) -> Bool {
        name.hasPrefix("\(group)-") && !name.hasSuffix(suffix)
    }
}

/// Receives an image of a group's state store piece by piece. Used by one piece of work at a time.
public final class ImageReceiver: @unchecked Sendable {
    // Sendable: as above.
    public let path: String
    private let group: GroupID
    private let metadata: SnapshotMetadata
    private let byteCount: UInt64
    private let disk: any Disk
    private var file: IncomingFile?

    /// - Parameters:
    ///   - byteCount: of the image.
    ///   - directory: of the state store.
    public init(
        _ group: GroupID, _ metadata: SnapshotMetadata, byteCount: UInt64, directory: String, disk: any Disk
    ) {
        self.group = group
        self.metadata = metadata
        self.byteCount = byteCount
        self.disk = disk
        path = filePath(directory, IncomingImage(group: group, index: metadata.index).name)
    }

    /// Blocks.
    public func append(_ piece: [UInt8]) throws(StorageError) {
        if file == nil {
            try StateFiles.requireRoom(for: byteCount, at: path, disk)
            file = try IncomingFile(path, disk: disk)
        }
        try file?.append(piece)
    }

    /// Checks the whole, and gives it its name, durably. What it holds. Blocks.
    public func finish(checksum: UInt32, limits: StateLimits) throws(StorageError) -> StoredState {
        guard let file, file.byteCount == byteCount, file.checksum == checksum else {
            throw .damaged(file: path, offset: 0, reason: "what arrived is not what was sent")
        }
        let state = try load(file.temporaryPath, limits)
        guard state.head.metadata == metadata else {
            throw .damaged(file: path, offset: 0, reason: "it is as of \(state.head.metadata.index)")
        }
        try file.finish()
        self.file = nil
        return state
    }

    private func load(_ path: String, _ limits: StateLimits) throws(StorageError) -> StoredState {
        let database = try StateDatabase(path, disk: disk, cacheByteCount: limits.cacheByteCount)
        defer { database.close() }
        try StateSchema.prepare(database)
        try database.refuseShortened(disk)
        guard let state = try StateRows(database: database).load(group: group) else {
            throw .damaged(file: path, offset: 0, reason: "it holds no state")
        }
        return state
    }

    /// What there is of it goes, whole or not. Blocks.
    public func remove() {
        file?.abandon()
        file = nil
        try? StateFiles.remove(path + IncomingFile.temporarySuffix, disk)
        try? StateFiles.remove(path, disk)
    }

    /// What there is of it goes at the next start.
    public func close() {
        file?.close()
        file = nil
    }
}
