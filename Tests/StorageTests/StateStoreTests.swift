import Foundation
import Prelude
import Raft
import Storage
import StorageTesting
import XCTest

final class StateStoreTests: XCTestCase {
    private let path = StateFixture.path

    func test_whatWasWrittenIsLoaded() throws {
        let disk = FaultDisk()
        let work = ManualWork()
        let store = try StateFixture.open(disk, work)
        XCTAssertNil(try store.load())
        let batches = StateFixture.batches
        try StateFixture.write(batches[0], to: store, work)
        let first = try XCTUnwrap(try store.load())
        XCTAssertEqual(first.head, batches[0].head)
        XCTAssertEqual(first.runs, batches[0].runs)
        XCTAssertEqual(first.records, batches[0].records)
        XCTAssertEqual(first.variables, batches[0].variables)
        XCTAssertEqual(first.answers, batches[0].answers)
        XCTAssertEqual(first.origins, batches[0].origins)
        for batch in batches.dropFirst() { try StateFixture.write(batch, to: store, work) }
        let last = try XCTUnwrap(try store.load())
        store.close()
        XCTAssertEqual(try StateFixture.loaded(disk), last)
    }

    func test_forgottenRunsStayInTheStore() throws {
        let work = ManualWork()
        let store = try StateFixture.open(FaultDisk(), work)
        var batch = StateFixture.batch(5)
        batch.runs = [StateFixture.run(3, ended: 5), StateFixture.run(4)]
        batch.records = [StateFixture.record(3, 0), StateFixture.record(4, 0)]
        batch.forgottenRuns = [3]
        try StateFixture.write(batch, to: store, work)
        var forgotten = StateFixture.run(3, ended: 5)
        forgotten.isRemembered = false
        let loaded = try XCTUnwrap(try store.load())
        XCTAssertEqual(loaded.runs, [StateFixture.run(4)])
        XCTAssertEqual(loaded.records, [StateFixture.record(4, 0)])
        // A snapshot replaces what the machine knows, and nothing else.
        batch = StateFixture.batch(9)
        batch.replacesMachine = true
        batch.runs = [StateFixture.run(8)]
        try StateFixture.write(batch, to: store, work)
        XCTAssertEqual(try store.load()?.runs, [StateFixture.run(8)])
        XCTAssertEqual(try store.load()?.records, [])

        var listed: [StoredRun] = []
        store.list(RunFilter(), limit: 10) { listed = (try? $0.get()) ?? [] }
        var found: (StoredRun, [StoredRunRecord])?
        store.run(3) { found = (try? $0.get()) ?? nil }
        work.runUntilIdle()
        XCTAssertEqual(listed, [StateFixture.run(8), forgotten])
        XCTAssertEqual(found?.0, forgotten)
        XCTAssertEqual(found?.1, [StateFixture.record(3, 0)])
    }

    func test_listingsFilterAndGoOn() throws {
        let work = ManualWork()
        let store = try StateFixture.open(MemoryDisk(), work)
        var batch = StateFixture.batch(100)
        batch.runs = (1...60).map { StateFixture.run($0, ended: $0 % 3 == 0 ? $0 + 1 : 0) }
        try StateFixture.write(batch, to: store, work)
        func list(_ filter: RunFilter, _ limit: Int) -> [UInt64] {
            var found: [UInt64] = []
            store.list(filter, limit: limit) { found = ((try? $0.get()) ?? []).map(\.index.rawValue) }
            work.runUntilIdle()
            return found
        }
        XCTAssertEqual(list(RunFilter(), 3), [60, 59, 58])
        XCTAssertEqual(list(RunFilter(before: 58), 2), [57, 56])
        XCTAssertEqual(list(RunFilter(statusCode: 2), 3), [60, 57, 54])
        XCTAssertEqual(list(RunFilter(type: "odd", statusCode: 2, before: 57), 2), [51, 45])
        XCTAssertEqual(list(RunFilter(workflowID: "workflow-7"), 9), [7])
        XCTAssertEqual(list(RunFilter(type: "none"), 9), [])
    }

    func test_oddTextsAndEmptyBytesComeBack() throws {
        let disk = FaultDisk()
        let work = ManualWork()
        let store = try StateFixture.open(disk, work)
        var batch = StateFixture.batch(4)
        var run = StateFixture.run(2)
        run.workflowID = "nul\u{0}, é, e\u{301}, '; DROP TABLE runs; --"
        run.type = ""
        run.input = StoredPayload(encoding: "", data: [])
        run.result = StoredPayload(encoding: "", data: [])
        batch.runs = [run]
        batch.variables = [
            StoredVariable(key: "é", value: [], revision: 1), StoredVariable(key: "e\u{301}", value: [0], revision: 2),
        ]
        batch.records = [StateFixture.record(2, 7, byteCount: 3 << 20)]
        try StateFixture.write(batch, to: store, work)
        store.close()
        let loaded = try XCTUnwrap(try StateFixture.loaded(disk))
        XCTAssertEqual(Array(try XCTUnwrap(loaded.runs.first).workflowID.utf8), Array(run.workflowID.utf8))
        XCTAssertEqual(loaded.runs, [run])
        XCTAssertEqual(loaded.records, batch.records)
        XCTAssertEqual(
            Set(loaded.variables.map { Array($0.key.utf8) }), Set(batch.variables.map { Array($0.key.utf8) }))
    }

    func test_aLaterVersionAndAnotherGroupAreRefused() throws {
        let disk = FaultDisk()
        let work = ManualWork()
        let store = try StateFixture.open(disk, work)
        try StateFixture.write(StateFixture.batches[0], to: store, work)
        store.close()
        let other = disk.copy()
        other.setContents("/data/state/2.state", try XCTUnwrap(disk.contents(path)))
        let foreign = try StateStore(2, directory: "/data/state", disk: other, work: work)
        XCTAssertThrowsError(try foreign.load()) { error in
            guard case StorageError.damaged = error else { return XCTFail("\(error)") }
        }
        foreign.close()
    }

    // MARK: - Crashes and faults

    private func expectedStates() throws -> [StoredState?] {
        let work = ManualWork()
        let store = try StateFixture.open(FaultDisk(), work)
        var states: [StoredState?] = [nil]
        for batch in StateFixture.batches {
            try StateFixture.write(batch, to: store, work)
            states.append(try store.load())
        }
        return states
    }

    /// Writes until something fails; returns how many batches were acknowledged.
    private func writeAll(_ disk: FaultDisk, retryingFullDisk: Bool = false) -> Int {
        let work = ManualWork()
        guard let store = try? StateFixture.open(disk, work) else { return 0 }
        defer { store.close() }
        for (done, batch) in StateFixture.batches.enumerated() {
            do {
                try StateFixture.write(batch, to: store, work)
            } catch StorageError.noSpace where retryingFullDisk {
                do { try StateFixture.write(batch, to: store, work) } catch { return done }
            } catch {
                return done
            }
        }
        return StateFixture.batches.count
    }

    private func assertOneOf(
        _ states: [StoredState?], from acknowledged: Int, _ disk: FaultDisk, _ what: String
    ) throws {
        let found = try StateFixture.loaded(disk)
        guard let place = states.firstIndex(of: found) else { return XCTFail("\(what): not a state that was written") }
        XCTAssertGreaterThanOrEqual(place, acknowledged, what)
        XCTAssertLessThanOrEqual(place, acknowledged + 1, what)
    }

    func test_aCrashAtAnyOperationLeavesWhatWasAcknowledged() throws {
        let states = try expectedStates()
        let whole = FaultDisk()
        XCTAssertEqual(writeAll(whole), StateFixture.batches.count)
        XCTAssertGreaterThan(whole.operationCount, 30)
        for operation in 1...whole.operationCount {
            for seed in 0..<2 as Range<UInt64> {
                let disk = FaultDisk(seed: seed &* 1000 &+ UInt64(operation))
                disk.inject(.from(operation))
                let acknowledged = writeAll(disk)
                if seed % 2 == 0 { disk.crash() } else { disk.killProcess() }
                disk.removeFaults()
                try assertOneOf(states, from: acknowledged, disk, "operation \(operation), seed \(seed)")
            }
        }
    }

    func test_oneFailedOperationNeverLeavesATornState() throws {
        let states = try expectedStates()
        let whole = FaultDisk()
        _ = writeAll(whole)
        for operation in 1...whole.operationCount {
            let disk = FaultDisk(seed: UInt64(operation))
            disk.inject(.at(operation))
            let acknowledged = writeAll(disk)
            disk.killProcess()
            disk.removeFaults()
            try assertOneOf(states, from: acknowledged, disk, "operation \(operation)")
        }
    }

    func test_aFullDiskAtAnyOperationIsToldAndTheSameBatchWritesLater() throws {
        let states = try expectedStates()
        let whole = FaultDisk()
        let beginning = FaultDisk()
        try StateFixture.open(beginning, ManualWork()).close()
        _ = writeAll(whole)
        for operation in beginning.operationCount + 1...whole.operationCount {
            let disk = FaultDisk(seed: UInt64(operation))
            disk.inject(.at(operation, .noSpace))
            let acknowledged = writeAll(disk, retryingFullDisk: true)
            disk.killProcess()
            disk.removeFaults()
            try assertOneOf(states, from: acknowledged, disk, "operation \(operation)")
        }
    }

    func test_aDiskFilledToTheBrimTakesTheBatchOnceThereIsRoom() throws {
        let disk = FaultDisk()
        let work = ManualWork()
        let store = try StateFixture.open(disk, work)
        try StateFixture.write(StateFixture.batches[0], to: store, work)
        let before = try store.load()
        disk.limitCapacity(to: disk.usedByteCount + 2000)
        for _ in 0..<3 {
            XCTAssertThrowsError(try StateFixture.write(StateFixture.batches[1], to: store, work)) { error in
                guard case StorageError.noSpace = error else { return XCTFail("\(error)") }
            }
            XCTAssertEqual(try store.load(), before)
        }
        disk.limitCapacity(to: nil)
        try StateFixture.write(StateFixture.batches[1], to: store, work)
        XCTAssertEqual(try store.load(), try expectedStates()[2])
    }

    func test_everyFlippedByteIsRefusedOrHarmless() throws {
        let disk = FaultDisk()
        XCTAssertEqual(writeAll(disk), StateFixture.batches.count)
        let expected = try StateFixture.loaded(disk)
        let file = try XCTUnwrap(disk.contents(path))
        XCTAssertEqual(file.count % 4096, 0)
        var refused = 0
        // A prime number of bytes between them, so that all places within a page have their turn; all bytes with `make crash`.
        let step = ProcessInfo.processInfo.environment["RAFTORAL_CRASH"] == "all" ? 1 : 37
        for offset in stride(from: 0, to: file.count, by: step) {
            let flipped = disk.copy()
            try flipped.remove(path + "-wal")
            flipped.flip(path, at: UInt64(offset), mask: UInt8(1 << (offset % 8)))
            do {
                let found = try StateFixture.loaded(flipped)
                XCTAssertEqual(found, expected, "byte \(offset)")
            } catch let StorageError.damaged(found, place, _) {
                XCTAssertEqual(found, path)
                XCTAssertEqual(place, UInt64(offset / 4096 * 4096), "byte \(offset)")
                refused += 1
            }
        }
        XCTAssertGreaterThan(refused, file.count / step / 3)
    }

    /// Loading does not read indices; damage there shows when a batch changes them.
    func test_damageFoundInUseIsRefusedFromThenOn() throws {
        let disk = FaultDisk()
        let work = ManualWork()
        let store = try StateFixture.open(disk, work)
        for batch in StateFixture.batches.dropLast() { try StateFixture.write(batch, to: store, work) }
        store.close()
        let file = try XCTUnwrap(disk.contents(path))
        let last = try XCTUnwrap(StateFixture.batches.last)
        var found = 0
        for offset in stride(from: 100, to: file.count, by: 4096) {
            let flipped = disk.copy()
            try flipped.remove(path + "-wal")
            flipped.flip(path, at: UInt64(offset), mask: 4)
            guard let store = try? StateFixture.open(flipped, work), (try? store.load()) != nil else { continue }
            do {
                try StateFixture.write(last, to: store, work)
            } catch let StorageError.damaged(damaged, place, _) {
                XCTAssertEqual(damaged, path)
                store.close()
                XCTAssertThrowsError(try StateFixture.open(flipped, work)) { error in
                    guard case StorageError.damaged(path, place, let reason) = error else {
                        return XCTFail("\(error)")
                    }
                    XCTAssertTrue(reason.contains(path + ".damaged"), reason)
                }
                found += 1
            }
        }
        XCTAssertGreaterThan(found, 0)
    }

    func test_aShorterFileIsRefused() throws {
        let disk = FaultDisk()
        _ = writeAll(disk)
        let file = try XCTUnwrap(disk.contents(path))
        for pages in 1..<file.count / 4096 {
            let cut = disk.copy()
            // Its truncation is not durable: after a crash it mends what is missing.
            try cut.remove(path + "-wal")
            cut.setContents(path, Array(file[..<(pages * 4096)]))
            XCTAssertThrowsError(try StateFixture.loaded(cut), "\(pages) pages") { error in
                guard case StorageError.damaged = error else { return XCTFail("\(error)") }
            }
        }
    }
}

extension StoredState: Equatable {
    public static func == (left: StoredState, right: StoredState) -> Bool {
        left.head == right.head && left.runs == right.runs && left.records == right.records
            && left.variables == right.variables && left.answers == right.answers
            && left.firstAnswer == right.firstAnswer && left.origins == right.origins && left.blob == right.blob
    }
}

enum StateFixture {
    static let path = "/data/state/1.state"

    static func open(_ disk: any Disk, _ work: ManualWork) throws -> StateStore {
        try StateStore(1, directory: "/data/state", disk: disk, work: work)
    }

    static func loaded(_ disk: any Disk) throws -> StoredState? {
        let store = try open(disk, ManualWork())
        defer { store.close() }
        return try store.load()
    }

    static func write(_ batch: StateBatch, to store: StateStore, _ work: ManualWork) throws {
        var result: Result<Void, StorageError>?
        store.apply(batch) { result = $0 }
        work.runUntilIdle()
        try XCTUnwrap(result).get()
    }

    /// Makes an image of the store at `path`; returns what it says that it holds.
    @discardableResult
    static func copy(
        _ store: StateStore, to path: String, _ disk: any Disk, _ work: ManualWork, byteCount: Int = 64 << 10,
        between: () throws -> Void = {}
    ) throws -> StateHead {
        let image = StateImage(path, disk: disk)
        while true {
            var result: Result<StateHead?, StorageError>?
            store.advance(image, byteCount: byteCount) { result = $0 }
            work.runUntilIdle()
            if let head = try XCTUnwrap(result).get() { return head }
            try between()
        }
    }

    static func run(_ index: UInt64, ended: UInt64 = 0) -> StoredRun {
        StoredRun(
            index: LogIndex(index), workflowID: "workflow-\(index)", type: index % 2 == 0 ? "even" : "odd",
            version: 1, status: ended == 0 ? "RUNNING" : "COMPLETED", statusCode: ended == 0 ? 1 : 2,
            input: StoredPayload(encoding: "json", data: Array("{\(index)}".utf8)), requestID: "request-\(index)",
            startedMilliseconds: Int64(index) * 10, owner: 1, ownerIncarnation: 3, epoch: 1, stalled: "",
            endedMilliseconds: Int64(ended) * 10, endedIndex: LogIndex(ended),
            result: ended == 0 ? nil : StoredPayload(encoding: "json", data: [1, 2, 3]), failure: "",
            isRemembered: true, trace: index % 2 == 0 ? "trace of \(index)" : "")
    }

    static func record(_ run: UInt64, _ position: UInt32, byteCount: Int = 300) -> StoredRunRecord {
        StoredRunRecord(
            run: LogIndex(run), position: position, kind: "step", kindCode: 0, key: "step-\(position)",
            value: StoredPayload(
                encoding: "json", data: (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ Int(position)) }),
            failure: "", attempt: 1, epoch: 1, index: LogIndex(run + UInt64(position)), timeMilliseconds: 77,
            fireAtMilliseconds: 0, isPending: false)
    }

    static func batch(_ index: UInt64) -> StateBatch {
        StateBatch(
            head: StateHead(
                metadata: SnapshotMetadata(
                    index: LogIndex(index), term: 2, confState: ConfState(voters: [1, 2], learners: [3])),
                digest: index &* 0x9E37_79B9_7F4A_7C15, revision: index))
    }

    /// A few batches with all kinds of rows.
    static let batches: [StateBatch] = (1...4).map { round in
        let first = UInt64(round) * 100
        var batch = batch(first + 50)
        batch.runs = (0..<8).map { run(first + $0) }
        if round > 1 { batch.runs.append(run(first - 99, ended: first)) }
        if round > 2 { batch.forgottenRuns = [LogIndex(first - 199)] }
        batch.records = (0..<8).flatMap { run in (0..<3).map { record(first + run, UInt32($0), byteCount: 900) } }
        batch.variables = [
            StoredVariable(key: "always", value: [UInt8(round)], revision: first),
            StoredVariable(key: "round-\(round)", value: [1, 2], revision: first + 1),
        ]
        if round > 1 { batch.removedVariables = ["round-\(round - 1)"] }
        batch.answers = (0..<3).map {
            StoredAnswer(
                sequence: UInt64(round * 3) + $0, kindCode: 0, requestID: "put-\(round)-\($0)", flag: false,
                revision: first)
        }
        batch.firstAnswer = UInt64(max(3, round * 3 - 2))
        batch.origins = [
            StoredOrigin(node: 1, window: [UInt8(round)]), StoredOrigin(node: NodeID(UInt64(round + 1)), window: [9]),
        ]
        return batch
    }
}
