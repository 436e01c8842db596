import Foundation
import Glibc
import Prelude
import XCTest

@testable import Reactor

final class FileDiskTests: XCTestCase {
    private let disk = FileDisk()

    private func assert(
        _ kind: DiskError.Kind, file: StaticString = #filePath, line: UInt = #line, _ body: () throws -> Void
    ) {
        XCTAssertThrowsError(try body(), file: file, line: line) { error in
            guard let error = error as? DiskError else { return XCTFail("\(error)", file: file, line: line) }
            XCTAssertEqual(error.kind, kind, error.description, file: file, line: line)
            XCTAssertFalse(error.reason.isEmpty, file: file, line: line)
        }
    }

    private func write(_ text: String, _ file: any DiskFile, at offset: UInt64 = 0) throws {
        try Array(text.utf8).withUnsafeBytes { try file.write($0, at: offset) }
    }

    private func read(_ file: any DiskFile, _ count: Int, at offset: UInt64 = 0) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let got = try bytes.withUnsafeMutableBytes { try file.read(into: $0, at: offset) }
        return Array(bytes[..<got])
    }

    func testWriteReadTruncate() throws {
        let path = try temporaryDirectory(self) + "/file"
        let file = try disk.open(path, .createNew)
        XCTAssertEqual(try file.byteCount, 0)
        try write("hello world", file)
        try write("HELLO", file)
        try file.synchronizeData()
        XCTAssertEqual(try file.byteCount, 11)
        XCTAssertEqual(try read(file, 100), Array("HELLO world".utf8))
        XCTAssertEqual(try read(file, 5, at: 6), Array("world".utf8))
        XCTAssertEqual(try read(file, 5, at: 11), [])
        XCTAssertEqual(try read(file, 5, at: 1 << 40), [])
        XCTAssertEqual(try read(file, 0), [])
        try file.truncate(to: 4)
        XCTAssertEqual(try read(file, 100), Array("HELL".utf8))
        try file.truncate(to: 6)
        XCTAssertEqual(try read(file, 100), Array("HELL".utf8) + [0, 0])
        try file.write(UnsafeRawBufferPointer(start: nil, count: 0), at: 0)
        try write("gap", file, at: 1 << 20)
        XCTAssertEqual(try file.byteCount, 1 << 20 + 3)
        file.close()
        let again = try disk.open(path, .readOnly)
        XCTAssertEqual(try read(again, 3, at: 1 << 20), Array("gap".utf8))
        assert(.io) { try write("x", again) }
    }

    /// Whole units go past the system's memory where the file system allows it; nobody can tell by what is read.
    func testDirectWritesAreReadLikeAllOthers() throws {
        let path = try temporaryDirectory(self) + "/file"
        let file = try disk.open(path, .createNew)
        file.preferDirectWrites()
        file.preferDirectWrites()
        var random = SeededRandom(seed: 1)
        var model = [UInt8](repeating: 0, count: 64 << 10)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 16 << 10, alignment: DiskUnit.byteCount)
        defer { memory.deallocate() }
        func unit(_ count: Int) -> Int { Int.random(in: 0..<count, using: &random) * DiskUnit.byteCount }
        memory.initializeMemory(as: UInt8.self, repeating: 0)
        for _ in 0..<4 { try file.write(UnsafeRawBufferPointer(memory), at: UInt64(16 << 10)) }
        for round in 0..<200 {
            // Half of them are of whole units; the others begin, end or lie elsewhere.
            let isWhole = round % 2 == 0
            let shift = isWhole ? 0 : Int.random(in: 0..<100, using: &random)
            let start = unit(12) + (isWhole ? 0 : Int.random(in: 0..<100, using: &random))
            let count = max(1, unit(3) + (isWhole ? DiskUnit.byteCount : Int.random(in: 0..<100, using: &random)))
            for place in 0..<count { memory[shift + place] = UInt8(truncatingIfNeeded: round + place) }
            let bytes = UnsafeRawBufferPointer(rebasing: memory[shift..<shift + count])
            try file.write(bytes, at: UInt64(start))
            model.replaceSubrange(start..<start + count, with: bytes)
            if round % 7 == 0 { try file.synchronizeData() }
        }
        let length = Int(try file.byteCount)
        XCTAssertEqual(try read(file, 64 << 10), Array(model[..<length]))
        file.close()
        XCTAssertEqual(try read(try disk.open(path, .readOnly), 64 << 10), Array(model[..<length]))
        assert(.io) { try file.write(UnsafeRawBufferPointer(memory), at: 0) }
    }

    func testOpenModes() throws {
        let path = try temporaryDirectory(self) + "/file"
        assert(.notFound) { _ = try disk.open(path, .readOnly) }
        assert(.notFound) { _ = try disk.open(path, .readWrite) }
        _ = try disk.open(path, .createNew)
        assert(.exists) { _ = try disk.open(path, .createNew) }
        let file = try disk.open(path, .readWrite)
        try write("x", file)
        XCTAssertNotEqual(fcntl(try descriptor(of: path), F_GETFD) & FD_CLOEXEC, 0)
    }

    /// The number of the descriptor that has `path` open.
    private func descriptor(of path: String) throws -> Int32 {
        let names = try disk.list("/proc/self/fd")
        let name = try XCTUnwrap(
            names.first { (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\($0)")) == path })
        return try XCTUnwrap(Int32(name))
    }

    func testClosedFileRefuses() throws {
        let path = try temporaryDirectory(self) + "/file"
        let file = try disk.open(path, .createNew)
        file.close()
        file.close()
        assert(.io) { try write("x", file) }
        assert(.io) { _ = try read(file, 1) }
        assert(.io) { try file.synchronizeData() }
        assert(.io) { try file.truncate(to: 0) }
        assert(.io) { _ = try file.byteCount }
    }

    func testOffsetsBeyondWhatAFileCanHave() throws {
        let file = try disk.open(try temporaryDirectory(self) + "/file", .createNew)
        assert(.io) { try write("x", file, at: .max) }
        assert(.io) { try write("x", file, at: UInt64(Int64.max)) }
        assert(.io) { _ = try read(file, 1, at: .max) }
        assert(.io) { try file.truncate(to: .max) }
        assert(.io) { try file.truncate(to: UInt64(Int64.max)) }
    }

    func testDirectories() throws {
        let root = try temporaryDirectory(self)
        let deep = root + "/a/b//c/"
        try disk.createDirectory(deep)
        try disk.createDirectory(deep)
        try disk.createDirectory("/")
        try disk.createDirectory(".")
        for name in ["z", "a", "m"] { _ = try disk.open(deep + name, .createNew) }
        XCTAssertEqual(try disk.list(deep), ["a", "m", "z"])
        XCTAssertEqual(try disk.list(root), ["a"])
        try disk.synchronizeDirectory(deep)
        assert(.exists) { try disk.createDirectory(deep + "a") }
        assert(.io) { try disk.createDirectory(deep + "a/below/a/file") }
        assert(.notFound) { _ = try disk.list(root + "/none") }
        assert(.io) { _ = try disk.list(deep + "a") }
        assert(.notFound) { try disk.synchronizeDirectory(root + "/none") }
        assert(.io) { try disk.synchronizeDirectory(deep + "a") }
    }

    func testRenameAndRemove() throws {
        let root = try temporaryDirectory(self)
        try write("new", try disk.open(root + "/new", .createNew))
        try write("old", try disk.open(root + "/old", .createNew))
        try disk.rename(root + "/new", to: root + "/old")
        XCTAssertEqual(try disk.list(root), ["old"])
        XCTAssertEqual(try read(try disk.open(root + "/old", .readOnly), 9), Array("new".utf8))
        try disk.remove(root + "/old")
        assert(.notFound) { try disk.remove(root + "/old") }
        assert(.notFound) { try disk.rename(root + "/old", to: root + "/new") }
        assert(.io) { try disk.remove(root) }
    }

    func testFullDevice() throws {
        let file = try disk.open("/dev/full", .readWrite)
        assert(.noSpace) { try write("x", file) }
    }

    func testFileThatMayNotGrowFailsAfterAPartWasWritten() throws {
        let file = try disk.open(try temporaryDirectory(self) + "/file", .createNew)
        signal(SIGXFSZ, SIG_IGN)
        var before = rlimit()
        getrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &before)
        var low = before
        low.rlim_cur = 1000
        setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &low)
        defer { setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &before) }
        assert(.io) { try write(String(repeating: "x", count: 5000), file) }
        XCTAssertEqual(try file.byteCount, 1000)
    }

    func testErrorKinds() {
        let kinds: [(Int32, DiskError.Kind)] = [
            (ENOSPC, .noSpace), (EDQUOT, .noSpace), (ENOENT, .notFound), (EEXIST, .exists),
            (EACCES, .permissionDenied), (EPERM, .permissionDenied), (EROFS, .permissionDenied), (EIO, .io),
            (EMFILE, .io), (ENOTDIR, .io),
        ]
        for (number, kind) in kinds {
            XCTAssertEqual(DiskError(errno: number, "open", "/x").kind, kind)
        }
        XCTAssertEqual(
            DiskError(errno: ENOSPC, "write", "/x/log").description, "cannot write /x/log: no space left on device")
    }

    func testPathsThatAreNone() throws {
        let root = try temporaryDirectory(self)
        for path in ["", root + "/none/file", root + "/\u{0}file", String(repeating: "x/", count: 5000)] {
            XCTAssertThrowsError(try disk.open(path, .createNew))
            XCTAssertThrowsError(try disk.open(path, .readOnly))
            XCTAssertThrowsError(try disk.list(path))
            XCTAssertThrowsError(try disk.remove(path))
            XCTAssertThrowsError(try disk.rename(path, to: root + "/x"))
            XCTAssertThrowsError(try disk.synchronizeDirectory(path))
            XCTAssertThrowsError(try disk.availableByteCount(path))
            XCTAssertThrowsError(try disk.lock(path))
        }
        assert(.notFound) { try disk.createDirectory("") }
        assert(.io) { try disk.createDirectory(root + "/\u{0}") }
        XCTAssertEqual(try disk.list(root), [])
    }

    func testFifoInPlaceOfAFileDoesNotHang() throws {
        let path = try temporaryDirectory(self) + "/fifo"
        XCTAssertEqual(mkfifo(path, 0o600), 0)
        let file = try disk.open(path, .readOnly)
        assert(.io) { _ = try read(file, 1) }
    }

    func testAvailableByteCount() throws {
        XCTAssertGreaterThan(try disk.availableByteCount(try temporaryDirectory(self)), 0)
    }

    func testLockExcludesAnotherOpen() throws {
        let path = try temporaryDirectory(self) + "/lock"
        let held = try disk.lock(path)
        assert(.locked) { _ = try disk.lock(path) }
        held.unlock()
        held.unlock()
        let second = try disk.lock(path)
        withExtendedLifetime(second) { assert(.locked) { _ = try disk.lock(path) } }
    }

    func testDroppedLockIsFree() throws {
        let path = try temporaryDirectory(self) + "/lock"
        do { _ = try disk.lock(path) }
        try disk.lock(path).unlock()
    }

    func testLockExcludesAnotherProcessAndDiesWithIt() throws {
        let path = try temporaryDirectory(self) + "/lock"
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/flock")
        // Becomes `cat`, which holds the lock and echoes once it does.
        process.arguments = ["--no-fork", "--exclusive", path, "cat"]
        let input = Pipe()
        let output = Pipe()
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        input.fileHandleForWriting.write(Data("held".utf8))
        XCTAssertEqual(output.fileHandleForReading.readData(ofLength: 4), Data("held".utf8))
        assert(.locked) { _ = try disk.lock(path) }
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        let held = try disk.lock(path)
        // And the other way round: flock(1) finds it taken.
        let second = Process()
        second.executableURL = URL(fileURLWithPath: "/usr/bin/flock")
        second.arguments = ["--nonblock", "--exclusive", path, "true"]
        try second.run()
        second.waitUntilExit()
        XCTAssertEqual(second.terminationStatus, 1)
        held.unlock()
    }
}
