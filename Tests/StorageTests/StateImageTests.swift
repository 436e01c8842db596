import Prelude
import Raft
import StorageTesting
import XCTest

@testable import Storage

/// Copies of state stores, made while the stores are written to.
final class StateImageTests: XCTestCase {
    private let path = "/data/images/1.image"

    private func load(_ disk: any Disk, _ path: String) throws -> StoredState? {
        let database = try StateDatabase(path, disk: disk, cacheByteCount: 1 << 20)
        defer { database.close() }
        try StateSchema.prepare(database)
        try database.refuseShortened(disk)
        return try StateRows(database: database).load(group: 1)
    }

    func test_anImageIsTheStoreAsItIsWhenTheLastPageIsThere() throws {
        for pageCount in [1, 2, 3, 5, 1000] {
            let disk = FaultDisk()
            let work = ManualWork()
            let store = try StateFixture.open(disk, work)
            try StateFixture.write(StateFixture.batches[0], to: store, work)
            var next = 1
            let head = try StateFixture.copy(store, to: path, disk, work, byteCount: pageCount << 12) {
                // Also a batch that found no room at first, and one that is written while it is nearly whole.
                guard next < StateFixture.batches.count else { return }
                disk.inject(.at(disk.operationCount + 5, .noSpace))
                XCTAssertThrowsError(try StateFixture.write(StateFixture.batches[next], to: store, work))
                disk.removeFaults()
                try StateFixture.write(StateFixture.batches[next], to: store, work)
                next += 1
            }
            XCTAssertEqual(next, pageCount == 1000 ? 1 : StateFixture.batches.count)
            XCTAssertEqual(head, StateFixture.batches[next - 1].head)
            let known = try store.load()
            for batch in StateFixture.batches[next...] { try StateFixture.write(batch, to: store, work) }
            store.close()
            // Durable, and nothing beside it is needed.
            disk.removeFaults()
            disk.crash()
            XCTAssertEqual(try load(disk, path), known, "\(pageCount) pages")
        }
    }

    func test_aFailureLeavesTheStoreAsItIsAndNothingOfTheImage() throws {
        func make(_ disk: FaultDisk, failing operation: Int, _ kind: DiskError.Kind) throws -> Bool {
            let work = ManualWork()
            let store = try StateFixture.open(disk, work)
            for batch in StateFixture.batches.prefix(2) { try StateFixture.write(batch, to: store, work) }
            disk.inject(.at(disk.operationCount + operation, kind))
            let succeeded = (try? StateFixture.copy(store, to: path, disk, work, byteCount: 4 << 12)) != nil
            disk.removeFaults()
            if !succeeded { XCTAssertFalse(disk.paths.contains(path)) }
            // It can be made again, and the store goes on.
            try StateFixture.write(StateFixture.batches[2], to: store, work)
            try StateFixture.copy(store, to: path, disk, work)
            let known = try store.load()
            XCTAssertEqual(known?.head, StateFixture.batches[2].head)
            store.close()
            XCTAssertEqual(try load(disk, path), known)
            return succeeded
        }
        for kind in [DiskError.Kind.io, .noSpace] {
            var operation = 1
            while try !make(FaultDisk(seed: UInt64(operation)), failing: operation, kind) { operation += 1 }
            XCTAssertGreaterThan(operation, 20)
        }
    }

    func test_aStoreThatIsClosedEndsTheImage() throws {
        let disk = FaultDisk()
        let work = ManualWork()
        let store = try StateFixture.open(disk, work)
        try StateFixture.write(StateFixture.batches[0], to: store, work)
        let image = StateImage(path, disk: disk)
        store.advance(image, byteCount: 1 << 12) { _ in }
        work.runUntilIdle()
        XCTAssertTrue(disk.paths.contains(path))
        var result: Result<StateHead?, StorageError>?
        store.close()
        XCTAssertFalse(disk.paths.contains(path))
        store.advance(image, byteCount: 1 << 12) { result = $0 }
        work.runUntilIdle()
        XCTAssertThrowsError(try XCTUnwrap(result).get())
        XCTAssertNotNil(try StateFixture.loaded(disk))
    }
}
