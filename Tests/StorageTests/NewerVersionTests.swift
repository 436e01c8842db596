import Prelude
import Raft
import StorageTesting
import XCTest

@testable import Storage

/// Data of a later version of the program is refused by name, and never taken for damage.
final class NewerVersionTests: XCTestCase {
    private func expectNewer(
        _ file: String, found: UInt32, known: UInt32, line: UInt = #line, _ body: () throws -> Void
    ) {
        XCTAssertThrowsError(try body(), line: line) { error in
            XCTAssertEqual(
                error as? StorageError, .newerVersion(file: file, found: found, known: known), line: line)
            XCTAssertTrue("\(error)".contains("use the version of the program that wrote it, or a later one"))
        }
    }

    private func run(_ sql: String, on path: String, _ disk: any Disk) throws {
        let database = try StateDatabase(path, disk: disk, cacheByteCount: 1 << 20)
        defer { database.close() }
        try database.run(sql)
        try database.checkpoint()
    }

    func test_aSnapshot() throws {
        let disk = FaultDisk()
        let work = ManualWork()
        let store = try SnapshotStore(directory: "/data/snapshots", disk: disk, work: work)
        let snapshot = Snapshot(
            metadata: SnapshotMetadata(index: 5, term: 2, confState: ConfState(voters: [1])), data: [1, 2, 3])
        store.save(1, snapshot) { _ in }
        work.runUntilIdle()
        let path = "/data/snapshots/1-5.snapshot"
        var bytes = try XCTUnwrap(disk.contents(path))
        let headerEnd = bytes.count - snapshot.data.count
        bytes[8] = 2
        bytes.replaceSubrange(..<headerEnd, with: withChecksum(Array(bytes[..<headerEnd])))
        disk.setContents(path, bytes)
        expectNewer(path, found: 2, known: 1) { _ = try store.load(1) }
    }

    func test_aStateStore() throws {
        let disk = FaultDisk()
        let work = ManualWork()
        let store = try StateFixture.open(disk, work)
        try StateFixture.write(StateFixture.batch(5), to: store, work)
        store.close()
        try run("PRAGMA user_version = 9", on: StateFixture.path, disk)
        expectNewer(StateFixture.path, found: 9, known: 1) { _ = try StateFixture.open(disk, work) }
    }

    func test_aBackup() throws {
        let disk = FaultDisk()
        let info = BackupInfo(clusterID: "c", node: 3, program: "1.0", createdMilliseconds: 7, directory: [1])
        let path = "/backup/b.sqlite"
        let work = ManualWork()
        let store = try StateFixture.open(disk, work)
        for batch in StateFixture.batches { try StateFixture.write(batch, to: store, work) }
        try StateFixture.copy(store, to: path, disk, work)
        store.close()
        try StateFiles.remove(StateFixture.path, disk)
        try BackupFile.make(of: path, info: info, disk: disk)
        XCTAssertEqual(disk.paths, [path], "the one file is all of it")
        let (state, found) = try BackupFile.read(path, group: 1, disk: disk)
        XCTAssertEqual(found, info)
        XCTAssertEqual(state.head, StateFixture.batches.last?.head)
        XCTAssertFalse(state.runs.isEmpty)
        try run("UPDATE backup SET format = 2", on: path, disk)
        expectNewer(path, found: 2, known: 1) { _ = try BackupFile.read(path, group: 1, disk: disk) }
    }
}
