import Prelude
import Storage
import XCTest

final class MemoryDiskTests: XCTestCase {
    func test_pathsOfOneFileBecomeOne() {
        for path in ["/a/b", "/a//b", "/a/b/", "/./a/b", "/a/./b", "/a/b/.", "//a/b"] {
            XCTAssertEqual(normalized(path), "/a/b", path)
        }
        for (path, one) in [
            ("/", "/"), ("/.", "/"), ("", "."), (".", "."), ("./a", "a"), ("a/b", "a/b"), ("/a/.b", "/a/.b"),
            ("/a/b.", "/a/b."), ("/a/..", "/a/.."), ("/a/1.state", "/a/1.state"),
        ] {
            XCTAssertEqual(normalized(path), one, path)
        }
        XCTAssertEqual(fileName("/a/1.state"), "1.state")
        XCTAssertEqual(fileName("state"), "state")
    }

    func test_filesHoldWhatIsWrittenToThem() throws {
        let disk = MemoryDisk()
        try disk.createDirectory("/a/b/")
        let file = try disk.open("/a//b/file", .createNew)
        var random = SeededRandom(seed: 1)
        var expected: [UInt8] = []
        for _ in 0..<300 {
            let offset = Int.random(in: 0...20_000, using: &random)
            let bytes = [UInt8](
                repeating: UInt8.random(in: 0...2, using: &random), count: Int.random(in: 0...9000, using: &random))
            if Int.random(in: 0..<10, using: &random) == 0 {
                try file.truncate(to: UInt64(offset))
                expected =
                    Array(expected.prefix(offset)) + [UInt8](repeating: 0, count: max(0, offset - expected.count))
            } else {
                try bytes.withUnsafeBytes { try file.write($0, at: UInt64(offset)) }
                expected += [UInt8](repeating: 0, count: max(0, offset + bytes.count - expected.count))
                expected.replaceSubrange(offset..<offset + bytes.count, with: bytes)
            }
            var found = [UInt8](repeating: 9, count: expected.count + 10)
            let count = try found.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
            XCTAssertEqual(count, expected.count)
            XCTAssertTrue(found.prefix(count).elementsEqual(expected))
            XCTAssertEqual(try file.byteCount, UInt64(expected.count))
        }
    }

    func test_namesFollowTheRulesOfADisk() throws {
        let disk = MemoryDisk()
        XCTAssertThrowsError(try disk.list("/a")) { XCTAssertEqual(($0 as? DiskError)?.kind, .notFound) }
        XCTAssertThrowsError(try disk.open("/a/x", .createNew)) { XCTAssertEqual(($0 as? DiskError)?.kind, .notFound) }
        try disk.createDirectory("/a")
        try disk.createDirectory("/a")
        XCTAssertThrowsError(try disk.open("/a/x", .readOnly)) { XCTAssertEqual(($0 as? DiskError)?.kind, .notFound) }
        let x = try disk.open("/a/x", .createNew)
        XCTAssertThrowsError(try disk.open("/a/x", .createNew)) { XCTAssertEqual(($0 as? DiskError)?.kind, .exists) }
        XCTAssertThrowsError(try disk.createDirectory("/a/x")) { XCTAssertEqual(($0 as? DiskError)?.kind, .exists) }
        try [1].withUnsafeBytes { try x.write($0, at: 0) }
        try disk.rename("/a/x", to: "/a/y")
        XCTAssertEqual(try disk.list("/a"), ["y"])
        XCTAssertEqual(try disk.list("/"), ["a"])
        try disk.remove("/a/y")
        XCTAssertEqual(try x.byteCount, 8, "a file lives on while it is open")
        XCTAssertThrowsError(try disk.remove("/a/y")) { XCTAssertEqual(($0 as? DiskError)?.kind, .notFound) }
        XCTAssertThrowsError(try disk.remove("/a")) { XCTAssertEqual(($0 as? DiskError)?.kind, .notFound) }
    }

    func test_aFileOpenedForReadingIsNotWritten() throws {
        let disk = MemoryDisk()
        _ = try disk.open("x", .createNew)
        let file = try disk.open("x", .readOnly)
        XCTAssertThrowsError(try [1].withUnsafeBytes { try file.write($0, at: 0) })
        XCTAssertThrowsError(try file.truncate(to: 0))
    }

    func test_aLockIsFreeOnceItsHolderIsGone() throws {
        let disk = MemoryDisk()
        var lock: (any DiskLock)? = try disk.lock("lock")
        XCTAssertThrowsError(try disk.lock("./lock")) { XCTAssertEqual(($0 as? DiskError)?.kind, .locked) }
        lock?.unlock()
        let other = try disk.lock("lock")
        lock = nil
        XCTAssertThrowsError(try disk.lock("lock"), "an old holder does not take the lock from the new one")
        other.unlock()
    }
}
