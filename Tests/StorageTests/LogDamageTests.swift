import Prelude
import Raft
import Storage
import StorageTesting
import XCTest

/// Bytes that are not what was written: cut off where they can be a torn write, refused anywhere else.
final class LogDamageTests: XCTestCase {
    /// A log of a few segments with several groups; the last batch is not followed by anything unless it was closed.
    private func makeLog(isClosed: Bool) throws -> (FaultDisk, LogFixture, LogModel) {
        let disk = FaultDisk()
        let fixture = LogFixture(disk: disk, segmentByteCount: 1024)
        let (log, _) = try fixture.open()
        var model = LogModel()
        var source = BatchSource(seed: 3)
        while log.segmentCount < 4 {
            let batch = source.batch(after: model)
            fixture.mustAppend(batch, to: log)
            model.apply(batch)
            fixture.work.runUntilIdle()
        }
        let last: [LogRecord] = [
            .entries(9, entries(1...3, byteCount: 300)), .hardState(9, HardState(term: 1, vote: 5, commit: 3)),
        ]
        fixture.mustAppend(last, to: log)
        model.apply(last)
        fixture.work.runUntilIdle()
        if isClosed { log.close(fixture.work) }
        return (disk.copy(), fixture, model)
    }

    func test_everyFlippedByteIsHarmlessOrRefused() throws {
        for isClosed in [false, true] {
            let (disk, fixture, model) = try makeLog(isClosed: isClosed)
            var refusedCount = 0
            for path in disk.paths {
                let bytes = try XCTUnwrap(disk.contents(path))
                let used = (bytes.lastIndex { $0 != 0 } ?? 0) + 70
                for offset in 0..<min(used, bytes.count) {
                    for mask in [0x01, 0x80, 0xFF] as [UInt8] {
                        let flipped = disk.copy()
                        flipped.flip(path, at: UInt64(offset), mask: mask)
                        var damaged = fixture
                        damaged.disk = flipped
                        do {
                            let (_, groups) = try damaged.open()
                            XCTAssertEqual(groups, model.groups, "\(path) \(offset) \(mask)")
                            if groups != model.groups { return }
                        } catch StorageError.damaged(let file, let place, _) {
                            refusedCount += 1
                            XCTAssertLessThan(Int(place), try XCTUnwrap(disk.contents(file)).count)
                        } catch {
                            return XCTFail("\(path) \(offset) \(mask): \(error)")
                        }
                        damaged.work.abandon()
                    }
                }
            }
            XCTAssertGreaterThan(refusedCount, 3000)
        }
    }

    func test_aLastBatchTornAtAnyByteIsCutOff() throws {
        // Into the room of the last segment, and at the head of the next one, after a seal.
        for segmentByteCount in [8192, 1024] as [UInt64] {
            var (disk, fixture, model) = try makeLog(isClosed: false)
            fixture.limits.segmentByteCount = segmentByteCount
            let batch: [LogRecord] = [.entries(9, entries(4...4, byteCount: 40))]
            let whole = disk.copy()
            fixture.disk = whole
            let (log, _) = try fixture.open()
            fixture.mustAppend(batch, to: log)
            fixture.work.runUntilIdle()
            // Each of the writes, in their order, cut short at every byte.
            for path in whole.paths {
                let after = try XCTUnwrap(whole.contents(path))
                let before = disk.contents(path) ?? []
                guard let start = after.indices.first(where: { after[$0] != ($0 < before.count ? before[$0] : 0) })
                else { continue }
                let end = try XCTUnwrap(after.lastIndex { $0 != 0 }) + 1
                for length in 0...end - start {
                    for isTruncated in [false, true] {
                        let torn = disk.copy()
                        let rest = isTruncated ? 0 : max(0, after.count - start - length)
                        torn.setContents(path, after[..<(start + length)] + [UInt8](repeating: 0, count: rest))
                        fixture.disk = torn
                        try checkTorn(fixture, torn, model, batch, "\(path) \(length) \(isTruncated)")
                    }
                }
                disk.setContents(path, after)
            }
            // At the end both writes were whole.
            fixture.disk = disk
            XCTAssertEqual(try fixture.open().1, model.applying(batch).groups)
        }
    }

    /// The log opens with the torn batch or without it, and what was cut off is not in the way of what follows.
    private func checkTorn(
        _ fixture: LogFixture, _ disk: FaultDisk, _ model: LogModel, _ batch: [LogRecord], _ context: String
    ) throws {
        var fixture = fixture
        fixture.work = ManualWork()
        guard let (log, found) = fixture.open(expecting: model, orElse: model.applying(batch), context) else { return }
        let index = (found.groups[9]?.last.index.rawValue ?? 0) + 1
        let next: [LogRecord] = [.entries(9, entries(index...index, term: 2, byteCount: 10))]
        fixture.mustAppend(next, to: log)
        fixture.work.abandon()
        disk.crash()
        _ = fixture.open(expecting: found.applying(next), context + ", next")
    }

    func test_aTornBatchIsThereOnceItsLastRecordIs() throws {
        let (disk, fixture, model) = try makeLog(isClosed: false)
        var roomy = fixture
        roomy.limits.segmentByteCount = 8192
        roomy.disk = disk
        let path = try XCTUnwrap(disk.paths.last { disk.contents($0)?.contains { $0 != 0 } == true })
        let before = try XCTUnwrap(disk.contents(path))
        let (log, _) = try roomy.open()
        let batch: [LogRecord] = [.entries(9, entries(4...4, byteCount: 40))]
        roomy.mustAppend(batch, to: log)
        let after = try XCTUnwrap(disk.contents(path))
        let start = try XCTUnwrap(after.indices.first { after[$0] != ($0 < before.count ? before[$0] : 0) })
        // Header, record header, first index, entry header, data; then padding and trailer.
        let body = 32 + 24 + 8 + 16 + 40
        for (length, expected) in [(body - 1, model), (body, model.applying(batch))] {
            let torn = disk.copy()
            torn.setContents(path, after[..<(start + length)] + [UInt8](repeating: 0, count: 100))
            roomy.disk = torn
            XCTAssertEqual(try roomy.open().1, expected.groups)
        }
    }

    func test_aLaterSegmentProvesThatAnEarlierOneIsDamaged() throws {
        let (disk, fixture, _) = try makeLog(isClosed: false)
        let first = try XCTUnwrap(disk.paths.first)
        let bytes = try XCTUnwrap(disk.contents(first))
        let end = try XCTUnwrap(bytes.lastIndex { $0 != 0 }) + 1
        // The seal and everything before it, sector by sector and byte by byte from the end.
        for kept in 0..<end {
            let damaged = disk.copy()
            damaged.setContents(first, Array(bytes[..<kept]))
            var fixture = fixture
            fixture.disk = damaged
            XCTAssertThrowsError(try fixture.open()) { error in
                guard case StorageError.damaged(file: first, _, _) = error else { return XCTFail("\(kept): \(error)") }
            }
        }
    }

    func test_aMissingSegmentIsNamed() throws {
        let (disk, fixture, _) = try makeLog(isClosed: true)
        for path in disk.paths.dropLast(2) {
            let damaged = disk.copy()
            try damaged.remove(path)
            var fixture = fixture
            fixture.disk = damaged
            XCTAssertThrowsError(try fixture.open(), path) { error in
                guard case StorageError.damaged = error else { return XCTFail("\(error)") }
            }
        }
    }

    func test_anythingAtAllIsReadWithoutATrap() throws {
        let (disk, fixture, _) = try makeLog(isClosed: false)
        var random = SeededRandom(seed: 1)
        for _ in 0..<2000 {
            let damaged = disk.copy()
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                let path = try XCTUnwrap(disk.paths.randomElement(using: &random))
                var bytes = try XCTUnwrap(disk.contents(path))
                let start = Int.random(in: 0..<max(1, bytes.count), using: &random)
                let end = min(bytes.count, start + Int.random(in: 0...700, using: &random))
                switch Int.random(in: 0..<4, using: &random) {
                case 0: for place in start..<end { bytes[place] = UInt8.random(in: 0...255, using: &random) }
                case 1: bytes.removeSubrange(start..<end)
                case 2: bytes.insert(contentsOf: bytes[start..<end], at: start)
                default: bytes.append(contentsOf: bytes.shuffled(using: &random))
                }
                damaged.setContents(path, bytes)
            }
            var fixture = fixture
            fixture.disk = damaged
            fixture.work = ManualWork()
            _ = try? fixture.open()
        }
    }
}
