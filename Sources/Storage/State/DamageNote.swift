import Prelude

/// Beside a file in which damage was found while it was in use, what was found: `FILE.damaged`, a line of text.
///
/// The node refuses the file from then on, until it is repaired from its peers, which removes the note with the data, or
/// somebody who knows that the file is whole removes the note.
struct DamageNote {
    static let suffix = ".damaged"
    private static let byteCountMax: UInt64 = 1024

    var offset: UInt64
    var reason: String

    private static func path(for file: String) -> String { file + suffix }

    /// Blocks. When there is no writing it the next life finds the damage anew.
    func save(for file: String, _ disk: any Disk) {
        let path = Self.path(for: file)
        let line = Array("\(offset) \(reason)".utf8.prefix(Int(Self.byteCountMax)))
        try? disk.replaceFile(path, with: [line], by: path + ".new")
    }

    /// Throws `.damaged` when there is a note for `file`. Blocks.
    static func refuseNoted(_ file: String, _ disk: any Disk) throws(StorageError) {
        let note: any DiskFile
        do throws(DiskError) {
            note = try disk.open(path(for: file), .readOnly)
        } catch {
            if error.kind == .notFound { return }
            throw StorageError(error)
        }
        defer { note.close() }
        let byteCount = try onDisk { () throws(DiskError) in try note.byteCount }
        var bytes = [UInt8](repeating: 0, count: Int(min(byteCount, byteCountMax)))
        try onDisk { () throws(DiskError) in try note.readAll(into: &bytes, at: 0, path: path(for: file)) }
        let parts = String(decoding: bytes, as: UTF8.self).split(separator: " ", maxSplits: 1)
        throw .damaged(
            file: file, offset: parts.first.flatMap { UInt64($0) } ?? 0,
            reason:
                "\(parts.count > 1 ? String(parts[1]) : "it could not be read"), as \(path(for: file)) says, found in use"
        )
    }
}
