import Prelude
import Raft
import Storage
import StorageTesting
import XCTest

final class DurableLogTests: XCTestCase {
    func test_whatIsAppendedIsRecovered() throws {
        let fixture = LogFixture(disk: MemoryDisk())
        let (log, empty) = try fixture.open()
        XCTAssertEqual(empty, [:])
        let state = HardState(term: 1, vote: 2, commit: 2)
        fixture.mustAppend([.entries(1, entries(1...3)), .hardState(1, state)], to: log)
        fixture.mustAppend([.entries(7, entries(1...1, term: 4))], to: log)
        log.close(fixture.work)

        let (_, groups) = try fixture.open()
        XCTAssertEqual(
            groups,
            [
                1: RecoveredGroup(hardState: state, entries: entries(1...3)),
                7: RecoveredGroup(entries: entries(1...1, term: 4)),
            ])
    }

    func test_segmentsRollOverAndEverythingIsThereAfterwards() throws {
        let fixture = LogFixture(disk: MemoryDisk())
        let (log, _) = try fixture.open()
        for index in 1...100 as ClosedRange<UInt64> {
            fixture.mustAppend(
                [
                    .entries(1, entries(index...index)), .entries(2, entries(index...index, term: 3)),
                    .hardState(1, HardState(term: 1, vote: 1, commit: LogIndex(index))),
                ], to: log)
        }
        XCTAssertGreaterThan(log.segmentCount, 5)
        log.close(fixture.work)
        let (reopened, groups) = try fixture.open()
        XCTAssertEqual(groups[1]?.entries, entries(1...100))
        XCTAssertEqual(groups[2]?.entries, entries(1...100, term: 3))
        XCTAssertEqual(groups[1]?.hardState.commit, 100)
        fixture.mustAppend([.entries(1, entries(101...101))], to: reopened)
        reopened.close(fixture.work)
        XCTAssertEqual(try fixture.open().1[1]?.entries, entries(1...101))
    }

    func test_laterEntriesReplaceASuffixAcrossSegments() throws {
        let fixture = LogFixture(disk: MemoryDisk())
        let (log, _) = try fixture.open()
        for index in 1...60 as ClosedRange<UInt64> {
            fixture.mustAppend([.entries(1, entries(index...index))], to: log)
        }
        XCTAssertGreaterThan(log.segmentCount, 1)
        fixture.mustAppend([.entries(1, entries(5...6, term: 2, byteCount: 300))], to: log)
        log.close(fixture.work)
        let (_, groups) = try fixture.open()
        XCTAssertEqual(groups[1]?.entries, entries(1...4) + entries(5...6, term: 2, byteCount: 300))
    }

    func test_aBatchLargerThanASegmentGetsOneOfItsOwn() throws {
        let fixture = LogFixture(disk: MemoryDisk())
        let (log, _) = try fixture.open()
        fixture.mustAppend([.entries(1, entries(1...1))], to: log)
        fixture.mustAppend([.entries(1, entries(2...2, byteCount: 10_000))], to: log)
        fixture.mustAppend([.entries(1, entries(3...3))], to: log)
        log.close(fixture.work)
        XCTAssertEqual(
            try fixture.open().1[1]?.entries,
            entries(1...1) + entries(2...2, byteCount: 10_000) + entries(3...3))
    }

    func test_compactionRemovesWholeSegmentsAndKeepsTheRest() throws {
        let disk = MemoryDisk()
        let fixture = LogFixture(disk: disk)
        let (log, _) = try fixture.open()
        let vote = HardState(term: 1, vote: 3, commit: 1)
        fixture.mustAppend(
            [.hardState(2, HardState(term: 9, vote: 1, commit: 0)), .entries(1, entries(1...1))], to: log)
        for index in 2...100 as ClosedRange<UInt64> {
            fixture.mustAppend([.entries(1, entries(index...index))], to: log)
        }
        let before = log.segmentCount
        log.compact(1, upTo: 80)
        fixture.mustAppend([.hardState(1, vote)], to: log)
        fixture.work.runUntilIdle()
        XCTAssertLessThan(log.segmentCount, before)
        XCTAssertEqual(
            try disk.list(fixture.directory).filter { $0 == "0000000000000001.log" }, [],
            "the oldest segment is gone")
        log.close(fixture.work)
        let (_, groups) = try fixture.open()
        XCTAssertEqual(groups[1]?.start, LogPoint(index: 80, term: 1))
        XCTAssertEqual(groups[1]?.entries, entries(81...100))
        XCTAssertEqual(groups[1]?.hardState, vote)
        XCTAssertEqual(groups[2]?.hardState.term, 9, "the votes of an idle group outlive its segment")
    }

    func test_theLogOfAGroupRestartsAfterASnapshot() throws {
        let fixture = LogFixture(disk: MemoryDisk())
        let (log, _) = try fixture.open()
        fixture.mustAppend([.entries(1, entries(1...5))], to: log)
        let metadata = SnapshotMetadata(
            index: 50, term: 3, confState: ConfState(voters: [1, 2], learners: [3], autoLeave: true))
        fixture.mustAppend(
            [
                .snapshot(1, metadata), .hardState(1, HardState(term: 3, vote: 0, commit: 50)),
                .entries(1, entries(51...52, term: 3)),
            ], to: log)
        log.close(fixture.work)
        let group = try fixture.open().1[1]
        XCTAssertEqual(group?.snapshot, metadata)
        XCTAssertEqual(group?.start, LogPoint(index: 50, term: 3))
        XCTAssertEqual(group?.entries, entries(51...52, term: 3))
    }
}

/// What is refused, what stops the log, and what can be asked of it.
final class DurableLogLimitTests: XCTestCase {
    func test_aFullDiskRefusesBatchesAndTheLogGoesOnOnceThereIsRoom() throws {
        let disk = FaultDisk()
        let fixture = LogFixture(disk: disk)
        let (log, _) = try fixture.open()
        disk.limitCapacity(to: 5000)
        var last: UInt64 = 0
        var isFull = false
        while !isFull {
            switch fixture.append([.entries(1, entries(last + 1...last + 1))], to: log) {
            case .success: last += 1
            case .failure(.noSpace): isFull = true
            default: return XCTFail("a full disk is told as such")
            }
            XCTAssertLessThan(last, 1000)
        }
        XCTAssertGreaterThan(last, 10)
        XCTAssertNil(log.failure)
        guard case .failure(.noSpace) = fixture.append([.entries(1, entries(last + 1...last + 1))], to: log) else {
            return XCTFail("still full")
        }
        disk.limitCapacity(to: nil)
        fixture.mustAppend([.entries(1, entries(last + 1...last + 5))], to: log)
        fixture.work.runUntilIdle()
        disk.crash()
        XCTAssertEqual(try fixture.open().1[1]?.entries, entries(1...last + 5))
    }

    func test_aFullDiskIsFreedByCompaction() throws {
        let disk = FaultDisk()
        let fixture = LogFixture(disk: disk)
        let (log, _) = try fixture.open()
        disk.limitCapacity(to: 9000)
        var last: UInt64 = 0
        while case .success = fixture.append([.entries(1, entries(last + 1...last + 1))], to: log) { last += 1 }
        // There is always room in the active segment for small batches, or there is none: then compaction has to be
        // noted with a batch that fits once something else has been freed.
        log.compact(1, upTo: LogIndex(last))
        disk.limitCapacity(to: 12_000)
        fixture.mustAppend([.hardState(1, HardState(term: 1, vote: 1, commit: LogIndex(last)))], to: log)
        fixture.work.runUntilIdle()
        XCTAssertEqual(log.segmentCount, 1)
        XCTAssertLessThan(disk.usedByteCount, 9000)
    }

    func test_theReserveIsLeftWhenTheDiskIsFull() throws {
        let disk = FaultDisk()
        var fixture = LogFixture(disk: disk, segmentByteCount: 64 << 10)
        fixture.limits.fillByteCount = 2048
        fixture.limits.reserveByteCount = 2048
        let (log, _) = try fixture.open()
        fixture.mustAppend([.entries(1, entries(1...1))], to: log)
        fixture.work.runUntilIdle()
        XCTAssertFalse(log.isShortOfSpace)
        disk.limitCapacity(to: disk.usedByteCount)
        var last: UInt64 = 1
        while !log.isShortOfSpace, last < 1000 {
            last += 1
            fixture.mustAppend([.entries(1, entries(last...last))], to: log)
            fixture.work.runUntilIdle()
        }
        // What is accepted by then still fits, and looking for space in vain changes nothing.
        log.lookForSpace()
        fixture.work.runUntilIdle()
        XCTAssertTrue(log.isShortOfSpace)
        for _ in 0..<10 {
            last += 1
            fixture.mustAppend([.entries(1, entries(last...last))], to: log)
        }
        fixture.work.runUntilIdle()
        XCTAssertTrue(log.isShortOfSpace)
        disk.limitCapacity(to: nil)
        log.lookForSpace()
        fixture.work.runUntilIdle()
        XCTAssertFalse(log.isShortOfSpace)
    }

    func test_zerosAheadLeaveTheRoomOfASegmentToOthers() throws {
        let disk = FaultDisk()
        var fixture = LogFixture(disk: disk, segmentByteCount: 64 << 10)
        fixture.limits.fillByteCount = 2048
        fixture.limits.reserveByteCount = 2048
        let (log, _) = try fixture.open()
        let capacity: UInt64 = 120 << 10
        disk.limitCapacity(to: capacity)
        var last: UInt64 = 0
        while disk.usedByteCount < 40 << 10, last < 2000 {
            last += 1
            fixture.mustAppend([.entries(1, entries(last...last))], to: log)
            fixture.work.runUntilIdle()
        }
        // The piece that went below it is the last one.
        XCTAssertGreaterThanOrEqual(capacity - UInt64(disk.usedByteCount), 64 << 10 - 4 * 2048)
        // What the log itself needs it gets: on through this segment and into the next.
        for _ in 0..<400 {
            last += 1
            fixture.mustAppend([.entries(1, entries(last...last))], to: log)
            fixture.work.runUntilIdle()
        }
        XCTAssertEqual(log.segmentCount, 2)
        XCTAssertFalse(log.isShortOfSpace)
        // With room again, the zeros go on.
        disk.limitCapacity(to: nil)
        let before = disk.usedByteCount
        log.lookForSpace()
        fixture.work.runUntilIdle()
        for _ in 0..<400 {
            last += 1
            fixture.mustAppend([.entries(1, entries(last...last))], to: log)
            fixture.work.runUntilIdle()
        }
        XCTAssertGreaterThan(UInt64(disk.usedByteCount), UInt64(before) + 48 << 10)
        log.close(fixture.work)
        XCTAssertEqual(try fixture.open().1[1]?.entries.count, Int(last))
    }

    func test_aGroupThatHoldsTheOldestSegmentIsNamed() throws {
        var fixture = LogFixture(disk: FaultDisk(), segmentByteCount: 1024)
        fixture.limits.segmentCountMax = 3
        let (log, _) = try fixture.open()
        fixture.mustAppend([.entries(7, entries(1...2))], to: log)
        var last: UInt64 = 0
        while log.segmentCount <= 5 {
            XCTAssertEqual(log.lastEntryHoldingOldestSegment(of: 7), log.segmentCount > 3 ? 2 : nil)
            last += 1
            fixture.mustAppend([.entries(1, entries(last...last, byteCount: 100))], to: log)
            log.compact(1, upTo: LogIndex(last - 1))
            fixture.work.runUntilIdle()
        }
        XCTAssertNil(log.lastEntryHoldingOldestSegment(of: 9))
        log.compact(7, upTo: 2)
        XCTAssertNil(log.lastEntryHoldingOldestSegment(of: 7))
        last += 1
        fixture.mustAppend([.entries(1, entries(last...last, byteCount: 100))], to: log)
        fixture.work.runUntilIdle()
        XCTAssertLessThanOrEqual(log.segmentCount, 3)
    }

    func test_afterAFailureEveryBatchFailsWithIt() throws {
        let disk = FaultDisk()
        let fixture = LogFixture(disk: disk)
        let (log, _) = try fixture.open()
        fixture.mustAppend([.entries(1, entries(1...1))], to: log)
        fixture.work.runUntilIdle()
        disk.inject(.at(disk.operationCount + 2))
        guard case .failure(let error) = fixture.append([.entries(1, entries(2...2))], to: log) else {
            return XCTFail("the failure was not told")
        }
        guard case .disk = error else { return XCTFail("\(error)") }
        let count = disk.operationCount
        for _ in 0..<3 {
            guard case .failure(error) = fixture.append([.entries(1, entries(2...2))], to: log) else {
                return XCTFail("a later batch did not fail")
            }
        }
        log.close(fixture.work)
        XCTAssertEqual(disk.operationCount, count, "nothing is written after a failure")
    }

    func test_aClosedLogTakesNothing() throws {
        let fixture = LogFixture(disk: MemoryDisk())
        let (log, _) = try fixture.open()
        log.close(fixture.work)
        guard case .failure(.closed) = fixture.append([.entries(1, entries(1...1))], to: log) else {
            return XCTFail("a closed log took a batch")
        }
    }

    func test_closingWaitsForTheBatchThatIsBeingWritten() throws {
        for seed in 0..<50 as Range<UInt64> {
            let disk = FaultDisk(seed: seed)
            let fixture = LogFixture(disk: disk, seed: seed, segmentByteCount: 1024)
            let (log, _) = try fixture.open()
            var events: [String] = []
            for index in 1...10 as ClosedRange<UInt64> {
                fixture.mustAppend([.entries(1, entries(index...index))], to: log)
            }
            log.append([.entries(1, entries(11...11))]) { _ in events.append("written") }
            log.close { events.append("closed") }
            fixture.work.runUntilIdle()
            XCTAssertEqual(events, ["written", "closed"])
            disk.crash()
            XCTAssertTrue(try LogInspector.verify(directory: fixture.directory, disk: disk).isClosed)
            XCTAssertEqual(try fixture.open().1[1]?.entries, entries(1...11))
        }
    }

    func test_openingAndClosingAgainAndAgainLeavesTheLogAsItIs() throws {
        let disk = FaultDisk()
        let fixture = LogFixture(disk: disk)
        let (log, _) = try fixture.open()
        fixture.mustAppend([.entries(1, entries(1...1))], to: log)
        log.close(fixture.work)
        let bytes = disk.contents(fixture.directory + "/0000000000000001.log")
        for _ in 0..<100 {
            let (log, groups) = try fixture.open()
            XCTAssertEqual(groups[1]?.entries, entries(1...1))
            log.close(fixture.work)
        }
        let used = disk.contents(fixture.directory + "/0000000000000001.log")?.lastIndex { $0 != 0 }
        XCTAssertEqual(used, bytes?.lastIndex { $0 != 0 })
    }

    func test_aSegmentOfANewerVersionIsRefusedByName() throws {
        let disk = FaultDisk()
        let fixture = LogFixture(disk: disk)
        let (log, _) = try fixture.open()
        fixture.mustAppend([.entries(1, entries(1...1))], to: log)
        log.close(fixture.work)
        let path = fixture.directory + "/0000000000000001.log"
        var bytes = try XCTUnwrap(disk.contents(path))
        bytes[8] = 7
        bytes.replaceSubrange(0..<64, with: withChecksum(Array(bytes[..<64])))
        disk.setContents(path, bytes)
        XCTAssertThrowsError(try fixture.open()) {
            XCTAssertEqual($0 as? StorageError, .newerVersion(file: path, found: 7, known: 1))
        }
    }

    func test_theInspectorTellsWhatIsThere() throws {
        let fixture = LogFixture(disk: MemoryDisk())
        let (log, _) = try fixture.open()
        fixture.mustAppend(
            [.entries(1, entries(1...3)), .hardState(1, HardState(term: 1, vote: 2, commit: 2))], to: log)
        fixture.mustAppend([.compacted(1, 2, 1)], to: log)
        fixture.mustAppend([.snapshot(2, SnapshotMetadata(index: 9, term: 4))], to: log)
        fixture.work.runUntilIdle()
        var report = try LogInspector.verify(directory: fixture.directory, disk: fixture.disk)
        XCTAssertFalse(report.isClosed)
        XCTAssertEqual(report.batchCount, 3)
        log.close(fixture.work)
        report = try LogInspector.verify(directory: fixture.directory, disk: fixture.disk)
        XCTAssertTrue(report.isClosed)
        XCTAssertEqual(report.batchCount, 4)
        XCTAssertEqual(report.entryCount, 3)
        XCTAssertEqual(report.segmentCount, 1)
        XCTAssertNil(report.torn)
        var lines: [String] = []
        try LogInspector.dump(directory: fixture.directory, disk: fixture.disk) { item in
            lines.append("\(item.offset) \(item.group) \(item.kind) \(item.index) \(item.term) \(item.byteCount)")
        }
        XCTAssertEqual(
            lines,
            [
                "96 1 entry 1 1 20", "96 1 entry 2 1 20", "96 1 entry 3 1 20", "236 1 hardState 2 1 48",
                "352 1 compacted 2 1 40", "448 2 snapshot 9 4 45",
            ])
    }
}
