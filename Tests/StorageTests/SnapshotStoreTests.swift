import Prelude
import Raft
import Storage
import StorageTesting
import XCTest

final class SnapshotStoreTests: XCTestCase {
    private let directory = "/data/snapshots"

    private func snapshot(_ index: UInt64, byteCount: Int = 1000) -> Snapshot {
        Snapshot(
            metadata: SnapshotMetadata(
                index: LogIndex(index), term: 2,
                confState: ConfState(voters: [1, 2], learners: [3], votersOutgoing: [4], learnersNext: [5])),
            data: (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ Int(index)) })
    }

    private func store(_ disk: any Disk, _ work: ManualWork) throws -> SnapshotStore {
        try SnapshotStore(directory: directory, disk: disk, work: work)
    }

    private func save(_ snapshot: Snapshot, of group: GroupID, in store: SnapshotStore, _ work: ManualWork)
        -> Result<Void, StorageError>?
    {
        var result: Result<Void, StorageError>?
        store.save(group, snapshot) { result = $0 }
        work.runUntilIdle()
        return result
    }

    func test_theNewestOfEachGroupIsKept() throws {
        let disk = MemoryDisk()
        let work = ManualWork()
        let store = try store(disk, work)
        XCTAssertNil(try store.load(1))
        for (group, index) in [(1, 5), (1, 80), (2, 7)] as [(GroupID, UInt64)] {
            XCTAssertNotNil(try save(snapshot(index), of: group, in: store, work)?.get())
        }
        XCTAssertEqual(try store.load(1), snapshot(80))
        XCTAssertEqual(try store.load(2), snapshot(7))
        XCTAssertNil(try store.load(3))
        XCTAssertEqual(try store.groups(), [1, 2])
        XCTAssertEqual(try disk.list(directory), ["1-80.snapshot", "2-7.snapshot"])
    }

    func test_anOlderOneNeverReplacesANewerOne() throws {
        let work = ManualWork(seed: 4)
        let store = try store(MemoryDisk(), work)
        var order: [UInt64] = []
        for index in [9, 5, 12, 3] as [UInt64] {
            store.save(1, snapshot(index)) { _ in order.append(index) }
        }
        work.runUntilIdle()
        XCTAssertEqual(order, [9, 5, 12, 3])
        XCTAssertEqual(try store.load(1), snapshot(12))
    }

    func test_oneThatIsTooLargeIsRefused() throws {
        let work = ManualWork()
        var limits = LogLimits()
        limits.snapshotByteCountMax = 100
        let store = try SnapshotStore(directory: directory, disk: MemoryDisk(), work: work, limits: limits)
        guard case .failure(.tooLarge) = save(snapshot(1, byteCount: 101), of: 1, in: store, work) else {
            return XCTFail("not refused")
        }
    }

    func test_everyFlippedByteAndEveryLengthIsRefused() throws {
        let disk = FaultDisk()
        let work = ManualWork()
        _ = save(snapshot(5, byteCount: 60), of: 1, in: try store(disk, work), work)
        let path = directory + "/1-5.snapshot"
        let bytes = try XCTUnwrap(disk.contents(path))
        for offset in bytes.indices {
            let flipped = disk.copy()
            flipped.flip(path, at: UInt64(offset), mask: 0x40)
            try assertDamaged(flipped, path)
            let cut = disk.copy()
            cut.setContents(path, Array(bytes[..<offset]))
            try assertDamaged(cut, path)
        }
        let misnamed = disk.copy()
        try misnamed.rename(path, to: directory + "/1-6.snapshot")
        try assertDamaged(misnamed, directory + "/1-6.snapshot")
    }

    private func assertDamaged(_ disk: FaultDisk, _ path: String) throws {
        let store = try store(disk, ManualWork())
        XCTAssertThrowsError(try store.load(1)) {
            guard case StorageError.damaged(file: path, _, _) = $0 else { return XCTFail("\($0)") }
        }
    }

    func test_afterAnyFailureAndAnyCrashTheOldOrTheNewOneIsThere() throws {
        var operation = 1
        var isComplete = false
        while !isComplete {
            for seed in 0..<4 as Range<UInt64> {
                let disk = FaultDisk(seed: seed &* 1000 &+ UInt64(operation))
                let work = ManualWork()
                let store = try store(disk, work)
                _ = save(snapshot(5), of: 1, in: store, work)
                let before = disk.operationCount
                disk.inject(.at(before + operation, seed == 0 ? .noSpace : .io))
                var allowed = [snapshot(5), snapshot(6)]
                if case .success = save(snapshot(6), of: 1, in: store, work) { allowed.removeFirst() }
                isComplete = disk.operationCount - before < operation
                disk.removeFaults()
                seed == 3 ? disk.killProcess() : disk.crash()
                var reopened = try self.store(disk, work)
                let found = try XCTUnwrap(try reopened.load(1))
                XCTAssertTrue(allowed.contains(found), "operation \(operation)")
                disk.crash()
                reopened = try self.store(disk, work)
                XCTAssertEqual(try reopened.load(1), found, "what has been loaded stays, operation \(operation)")
                XCTAssertFalse(try disk.list(directory).contains { $0.hasSuffix(".new") })
                // And it goes on from there.
                XCTAssertNotNil(try save(snapshot(7), of: 1, in: reopened, work)?.get())
                XCTAssertEqual(try reopened.load(1), snapshot(7))
            }
            operation += 1
        }
        XCTAssertGreaterThan(operation, 5)
    }
}
