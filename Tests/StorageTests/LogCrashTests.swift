import Foundation
import Prelude
import Raft
import Storage
import StorageTesting
import XCTest

/// The machine stops, the process dies, and operations fail, at every point.
final class LogCrashTests: XCTestCase {
    func test_acknowledgedBatchesOutliveEveryCrash() {
        // More of them: STORAGE_ROUNDS=10000 swift test --filter StorageTests
        let count = ProcessInfo.processInfo.environment["STORAGE_ROUNDS"].flatMap(UInt64.init) ?? 400
        for seed in 0..<count {
            guard run(seed: seed) else { return XCTFail("seed \(seed)") }
        }
    }

    /// Several lives of one log on one disk; false after a failure.
    private func run(seed: UInt64) -> Bool {
        let disk = FaultDisk(seed: seed)
        var random = SeededRandom(seed: seed &+ 1_000_000)
        var source = BatchSource(seed: seed)
        var fixture = LogFixture(disk: disk, seed: seed, segmentByteCount: 1536)
        var model = LogModel()
        var inFlight: LogModel?
        for life in 0..<4 {
            fixture.work = ManualWork(seed: random.next())
            // Now and then the machine stops while the log is being opened.
            if Int.random(in: 0..<4, using: &random) == 0 {
                disk.inject(.from(disk.operationCount + Int.random(in: 1...40, using: &random)))
                if let (_, found) = try? fixture.open() {
                    guard found == model.groups || found == inFlight?.groups else { return false }
                }
                fixture.work.abandon()
                disk.removeFaults()
                disk.crash()
            }
            guard let (log, found) = fixture.open(expecting: model, orElse: inFlight, "seed \(seed) life \(life)")
            else { return false }
            model = found
            inFlight = live(fixture, log, disk, &source, &random, &model)
            fixture.work.abandon()
        }
        return fixture.open(expecting: model, orElse: inFlight, "seed \(seed) at the end") != nil
    }

    /// Appends until the life ends; returns what the log may hold instead of `model`.
    private func live(
        _ fixture: LogFixture, _ log: DurableLog, _ disk: FaultDisk, _ source: inout BatchSource,
        _ random: inout SeededRandom, _ model: inout LogModel
    ) -> LogModel? {
        for _ in 0..<Int.random(in: 0..<30, using: &random) {
            // The log notes with the batch what it has been told is not needed any more.
            let mark = source.compaction(after: model).map { [$0] } ?? []
            if case .compacted(let id, let index, _) = mark.first { log.compact(id, upTo: index) }
            let batch = source.batch(after: model.applying(mark))
            var result: Result<Void, StorageError>?
            log.append(batch) { result = $0 }
            if Int.random(in: 0..<40, using: &random) == 0 {
                for _ in 0..<Int.random(in: 0..<4, using: &random) { fixture.work.step() }
                if result == nil {
                    let inFlight = model.applying(mark + batch)
                    Bool.random(using: &random) ? disk.crash() : disk.killProcess()
                    return inFlight
                }
            }
            while result == nil, fixture.work.step() {}
            guard case .success = result else {
                XCTFail("a batch failed without a fault")
                return nil
            }
            model.apply(mark + batch)
            for _ in 0..<Int.random(in: 0..<3, using: &random) { fixture.work.step() }
        }
        switch Int.random(in: 0..<3, using: &random) {
        case 0: log.close(fixture.work)
        case 1: disk.crash()
        default: disk.killProcess()
        }
        if Bool.random(using: &random) { disk.crash() } else { disk.killProcess() }
        return nil
    }

    // MARK: The n-th operation fails

    func test_everyFailingOperationLosesNothing() {
        for kind in [DiskError.Kind.io, .noSpace] {
            var operation = 1
            while let isComplete = run(failing: operation, kind) {
                if isComplete { break }
                operation += 1
            }
            XCTAssertGreaterThan(operation, 200, "the scenario has many operations")
        }
    }

    /// True when the scenario ended before the operation to fail came; nil after a failure of the test.
    private func run(failing operation: Int, _ kind: DiskError.Kind) -> Bool? {
        for ending in [Ending.crash, .kill] {
            let disk = FaultDisk(seed: UInt64(operation))
            disk.inject(.at(operation, kind))
            let fixture = LogFixture(disk: disk, segmentByteCount: 1024)
            var model = LogModel()
            var inFlight: LogModel?
            var source = BatchSource(seed: 7)
            for _ in 0..<2 {
                guard let (log, groups) = try? fixture.open() else { break }
                guard groups == model.groups else {
                    XCTFail("operation \(operation): \(groups)")
                    return nil
                }
                inFlight = fill(fixture, log, &source, &model)
                if inFlight != nil { break }
                log.close(fixture.work)
            }
            let isComplete = disk.operationCount < operation
            fixture.work.abandon()
            disk.removeFaults()
            ending == .crash ? disk.crash() : disk.killProcess()
            guard
                let (_, held) = fixture.open(expecting: model, orElse: inFlight, "operation \(operation) \(kind)")
            else { return nil }
            // What opening has found is acknowledged from then on, whatever the system had only in its memory.
            fixture.work.abandon()
            disk.crash()
            guard fixture.open(expecting: held, "operation \(operation) \(kind), crashed again") != nil else {
                return nil
            }
            if isComplete { return true }
        }
        return false
    }

    private enum Ending { case crash, kill }

    /// Sixteen batches; returns what may be there instead after a batch that failed for good.
    private func fill(
        _ fixture: LogFixture, _ log: DurableLog, _ source: inout BatchSource, _ model: inout LogModel
    ) -> LogModel? {
        for _ in 0..<16 {
            let mark = source.compaction(after: model).map { [$0] } ?? []
            if case .compacted(let id, let index, _) = mark.first { log.compact(id, upTo: index) }
            let batch = source.batch(after: model.applying(mark))
            var result = fixture.append(batch, to: log)
            if case .failure(.noSpace) = result { result = fixture.append(batch, to: log) }
            guard case .success = result else {
                guard let failure = log.failure else {
                    XCTFail("a batch failed and the log goes on: \(String(describing: result))")
                    return model
                }
                guard case .failure(failure) = fixture.append(batch, to: log) else {
                    XCTFail("a batch after a failure did not fail with it")
                    return model
                }
                return model.applying(mark + batch)
            }
            model.apply(mark + batch)
            fixture.work.runUntilIdle()
        }
        return nil
    }
}
