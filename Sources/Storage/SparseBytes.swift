/// The bytes of a file, in pages; pages of zeros take no memory.
package struct SparseBytes: Sendable {
    package private(set) var byteCount: UInt64 = 0
    private var pages: [UInt64: [UInt8]] = [:]
    package static let pageByteCount = 4096

    package init() {}

    package var pageCount: Int { pages.count }

    package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Int {
        guard offset < byteCount else { return 0 }
        let count = Int(min(UInt64(buffer.count), byteCount - offset))
        forEachPart(of: offset, count: count) { page, place, range in
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[range])
            if let bytes = pages[page] {
                bytes.withUnsafeBytes {
                    part.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[place..<place + range.count]))
                }
            } else {
                part.initializeMemory(as: UInt8.self, repeating: 0)
            }
        }
        return count
    }

    package mutating func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) {
        forEachPart(of: offset, count: bytes.count) { page, place, range in
            let part = UnsafeRawBufferPointer(rebasing: bytes[range])
            if pages[page] == nil, isZero(part) { return }
            pages[page, default: [UInt8](repeating: 0, count: Self.pageByteCount)].withUnsafeMutableBytes {
                UnsafeMutableRawBufferPointer(rebasing: $0[place..<place + range.count]).copyMemory(from: part)
            }
        }
        byteCount = max(byteCount, offset + UInt64(bytes.count))
    }

    package mutating func truncate(to count: UInt64) {
        let pageByteCount = UInt64(Self.pageByteCount)
        if count < byteCount {
            pages = pages.filter { $0.key * pageByteCount < count }
            let kept = Int(count % pageByteCount)
            if kept > 0 {
                _ = pages[count / pageByteCount]?.withUnsafeMutableBytes {
                    UnsafeMutableRawBufferPointer(rebasing: $0[kept...]).initializeMemory(as: UInt8.self, repeating: 0)
                }
            }
        }
        byteCount = count
    }

    /// Calls `body` with each page's number, the place in the page, and the range of the bytes that lies there.
    private func forEachPart(of offset: UInt64, count: Int, _ body: (UInt64, Int, Range<Int>) -> Void) {
        var done = 0
        while done < count {
            let at = offset + UInt64(done)
            let place = Int(at % UInt64(Self.pageByteCount))
            let part = min(count - done, Self.pageByteCount - place)
            body(at / UInt64(Self.pageByteCount), place, done..<done + part)
            done += part
        }
    }
}

/// Without repeated or trailing slashes, and without `.` as a part.
package func normalized(_ path: String) -> String {
    if isNormalized(path) { return path }
    let parts = path.split(separator: "/").filter { $0 != "." }
    if path.hasPrefix("/") { return "/" + parts.joined(separator: "/") }
    return parts.isEmpty ? "." : parts.joined(separator: "/")
}

private func isNormalized(_ path: String) -> Bool {
    let (slash, dot) = (UInt8(ascii: "/"), UInt8(ascii: "."))
    var beginsPart = false
    var isDot = false
    for byte in path.utf8 {
        if byte == slash, beginsPart || isDot { return false }
        isDot = byte == dot && beginsPart
        beginsPart = byte == slash
    }
    return !beginsPart && !isDot && path.utf8.first == slash
}

/// What follows the last slash of a normalized path.
package func fileName(_ path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return path }
    return String(path[path.utf8.index(after: slash)...])
}
