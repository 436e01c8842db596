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

    // MARK: - On the other node

    /// An image as its bytes, and what it holds.
    private func makeImage() throws -> (bytes: [UInt8], state: StoredState) {
        let disk = FaultDisk()
        let work = ManualWork()
        let store = try StateFixture.open(disk, work)
        for batch in StateFixture.batches { try StateFixture.write(batch, to: store, work) }
        try StateFixture.copy(store, to: path, disk, work)
        let state = try XCTUnwrap(try store.load())
        store.close()
        return (try XCTUnwrap(disk.contents(path)), state)
    }

    private func receive(
        _ bytes: [UInt8], _ metadata: SnapshotMetadata, _ disk: FaultDisk, byteCount: UInt64? = nil
    ) throws -> (path: String, state: StoredState) {
        let receiver = ImageReceiver(
            1, metadata, byteCount: byteCount ?? UInt64(bytes.count), directory: "/data/state", disk: disk)
        do {
            for start in stride(from: 0, to: bytes.count, by: 20_000) {
                try receiver.append(Array(bytes[start..<min(bytes.count, start + 20_000)]))
            }
            let state = try receiver.finish(checksum: StateFiles.checksumOf(bytes), limits: StateLimits())
            return (receiver.path, state)
        } catch {
            receiver.remove()
            throw error
        }
    }

    private func adopt(_ path: String, _ store: StateStore, _ work: ManualWork) throws {
        var result: Result<Void, StorageError>?
        store.adopt(path) { result = $0 }
        work.runUntilIdle()
        try XCTUnwrap(result).get()
    }

    private enum Progress { case nothing, received, adopted }

    /// A store with an older state receives the image, adopts it, and goes on.
    private func install(
        _ image: (bytes: [UInt8], state: StoredState), _ disk: FaultDisk, retryingFullDisk: Bool = false
    ) -> Progress {
        var progress = Progress.nothing
        func retrying<Value>(_ body: () throws -> Value) throws -> Value {
            do { return try body() } catch StorageError.noSpace where retryingFullDisk { return try body() }
        }
        do {
            let work = ManualWork()
            let store = try StateFixture.open(disk, work)
            defer { store.close() }
            try retrying { try StateFixture.write(StateFixture.batches[0], to: store, work) }
            let metadata = image.state.head.metadata
            let received = try retrying { try receive(image.bytes, metadata, disk) }
            XCTAssertTrue(received.state == image.state)
            progress = .received
            try retrying { try adopt(received.path, store, work) }
            progress = .adopted
            let adopted = try retrying { try store.load() }
            XCTAssertTrue(adopted == image.state)
            try retrying { try StateFixture.write(StateFixture.batch(1_000), to: store, work) }
            let later = try retrying { try store.load() }
            XCTAssertEqual(later?.head.metadata.index, 1_000)
        } catch {
            if retryingFullDisk { XCTFail("\(error)") }
        }
        return progress
    }

    private func check(
        _ disk: FaultDisk, _ image: (bytes: [UInt8], state: StoredState), _ progress: Progress, _ what: String
    ) throws {
        let index = image.state.head.metadata.index
        let looked = try StateStore.read(1, directory: "/data/state", disk: disk)
        let found = try StateFixture.loaded(disk)
        XCTAssertTrue(looked == found, "\(what): who only looks finds the same")
        let foundIndex = found?.head.metadata.index ?? 0
        if foundIndex == index { XCTAssertTrue(found == image.state, what) }
        XCTAssertTrue([0, 150, index, 1_000].contains(foundIndex), "\(what): \(foundIndex)")
        if progress != .nothing { XCTAssertGreaterThanOrEqual(foundIndex, index, what) }
        XCTAssertEqual(disk.paths.filter { $0.contains(".image") }, [], what)
    }

    func test_aCrashAtAnyOperationLeavesTheOldStateOrTheImage() throws {
        let image = try makeImage()
        let whole = FaultDisk()
        XCTAssertEqual(install(image, whole), .adopted)
        for operation in 1...whole.operationCount {
            let losesPower = operation % 3 != 0
            let disk = FaultDisk(seed: UInt64(operation))
            disk.inject(.from(operation))
            let progress = install(image, disk)
            losesPower ? disk.crash() : disk.killProcess()
            disk.removeFaults()
            try check(disk, image, progress, "operation \(operation), \(losesPower ? "power loss" : "kill")")
        }
    }

    func test_afterAFullDiskAtAnyOperationItIsTriedAgain() throws {
        let image = try makeImage()
        let whole = FaultDisk()
        let beginning = FaultDisk()
        try StateFixture.open(beginning, ManualWork()).close()
        _ = install(image, whole)
        for operation in beginning.operationCount + 1...whole.operationCount {
            let disk = FaultDisk(seed: UInt64(operation))
            disk.inject(.at(operation, .noSpace))
            XCTAssertEqual(install(image, disk, retryingFullDisk: true), .adopted, "operation \(operation)")
            disk.killProcess()
            try check(disk, image, .adopted, "operation \(operation)")
        }
    }

    func test_anImageThatIsNotWholeOrNotTheOneMeantIsRefused() throws {
        let image = try makeImage()
        let metadata = image.state.head.metadata
        func refused(_ bytes: [UInt8], _ metadata: SnapshotMetadata, line: UInt = #line) throws {
            let disk = FaultDisk()
            try StateFixture.open(disk, ManualWork()).close()
            XCTAssertThrowsError(try receive(bytes, metadata, disk), line: line) { error in
                guard case StorageError.damaged = error else { return XCTFail("\(error)", line: line) }
            }
            XCTAssertEqual(disk.paths, [StateFixture.path], line: line)
        }
        try refused(image.bytes, SnapshotMetadata(index: 7, term: metadata.term, confState: metadata.confState))
        try refused(Array(image.bytes.dropLast(4096)), metadata)
        try refused([UInt8](repeating: 7, count: 9_000), metadata)
        var flipped = image.bytes
        flipped[4096 + 17] ^= 1
        try refused(flipped, metadata)
        let receiver = ImageReceiver(1, metadata, byteCount: 0, directory: "/data/state", disk: FaultDisk())
        XCTAssertThrowsError(try receiver.finish(checksum: 0, limits: StateLimits()))
    }

    func test_oneForWhichThereIsNoRoomIsNotBegun() throws {
        let image = try makeImage()
        let disk = FaultDisk()
        let work = ManualWork()
        let store = try StateFixture.open(disk, work)
        for batch in StateFixture.batches { try StateFixture.write(batch, to: store, work) }
        disk.limitCapacity(to: disk.usedByteCount + UInt64(image.bytes.count) - 1)
        func expectNoSpace(_ body: () throws -> Void) {
            XCTAssertThrowsError(try body()) { error in
                guard case StorageError.noSpace = error else { return XCTFail("\(error)") }
            }
            XCTAssertEqual(disk.paths.filter { $0.contains(".image") }, [])
        }
        expectNoSpace { _ = try receive(image.bytes, image.state.head.metadata, disk) }
        expectNoSpace { try StateFixture.copy(store, to: path, disk, work) }
        store.close()
    }
}
