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
        fixture.mustAppend([.compacted(1, 80, 1), .hardState(1, vote)], to: log)
        log.compact(1, upTo: 80)
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
