import Prelude

/// What kept the storage from doing its work. Each description says what happened, to what, and what to do next.
public enum StorageError: Error, Equatable, Sendable {
    /// The disk refused an operation. What was being written is not acknowledged, and its log takes nothing more.
    case disk(DiskError)
    /// The disk is full. Nothing was written, and the same may be tried again later.
    case noSpace(DiskError)
    /// Bytes that had been acknowledged are not what was written.
    case damaged(file: String, offset: UInt64, reason: String)
    /// A later version of this program wrote the file.
    case newerVersion(file: String, found: UInt32, known: UInt32)
    /// Another process uses the directory.
    case lockedByAnotherProcess(directory: String)
    /// The directory holds files, and none that says that it is a data directory.
    case foreign(directory: String, found: String)
    /// More than one file or batch can hold.
    case tooLarge(what: String, byteCount: UInt64, byteCountMax: UInt64)
    /// The directory holds no log.
    case noLog(directory: String)
    /// The log has been closed.
    case closed
}

extension StorageError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .disk(let error):
            "\(error); check the disk, then start the node again: it resumes from what it acknowledged"
        case .noSpace(let error):
            "\(error); nothing was written: free some space, and writing resumes"
        case .damaged(let file, let offset, let reason):
            "\(file) is damaged at byte \(offset): \(reason); nothing was changed: check the disk, then start the "
                + "node with --repair-from-peers and --peers, and it fetches its data again from its cluster"
        case .newerVersion(let file, let found, let known):
            "\(file) has format version \(found), and this program knows versions up to \(known): "
                + "use the version of the program that wrote it, or a later one"
        case .lockedByAnotherProcess(let directory):
            "\(directory) is in use by another process: stop that one, or give this node a directory of its own"
        case .foreign(let directory, let found):
            "\(directory) is not a data directory, as it holds \(found) and no identity file: "
                + "give an empty directory, or one that a node has used before"
        case .tooLarge(let what, let byteCount, let byteCountMax):
            "\(what) has \(byteCount) bytes, and the limit is \(byteCountMax): nothing was written"
        case .noLog(let directory):
            "\(directory) holds no log: give the data directory of a node"
        case .closed:
            "the log is closed: open it again"
        }
    }
}

/// Carries a disk's error over into this module's, with a full disk told from the rest where `body` changes nothing
/// that was there before.
func onDisk<Value>(
    _ body: () throws(DiskError) -> Value
) throws(StorageError) -> Value {
    do { return try body() } catch { throw StorageError(error) }
}

extension StorageError {
    init(_ error: DiskError) { self = error.kind == .noSpace ? .noSpace(error) : .disk(error) }
}

/// Joins a directory and a name in it.
func filePath(_ directory: String, _ name: String) -> String {
    directory.hasSuffix("/") ? directory + name : directory + "/" + name
}

/// The directory that holds `path`.
package func parentDirectory(of path: String) -> String {
    var bytes = path.utf8[...]
    while bytes.count > 1, bytes.last == UInt8(ascii: "/") { bytes = bytes.dropLast() }
    guard let slash = bytes.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == bytes.startIndex ? "/" : String(Substring(bytes[..<slash]))
}

extension Disk {
    /// Creates `directory` when it is missing and makes its name durable.
    func createDurableDirectory(_ directory: String) throws(DiskError) {
        try createDirectory(directory)
        // A directory above that may not be opened was there before this process.
        do { try synchronizeDirectory(parentDirectory(of: directory)) } catch  where error.kind == .permissionDenied {}
    }
}
