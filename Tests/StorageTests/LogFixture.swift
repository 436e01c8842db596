import Prelude
import Raft
import Storage
import StorageTesting
import XCTest

/// A log with a fake for everything around it.
struct LogFixture {
    var disk: any Disk
    var work: ManualWork
    var limits = LogLimits()
    let directory = "/data/log"

    init(disk: any Disk, seed: UInt64? = nil, segmentByteCount: UInt64 = 2048) {
        self.disk = disk
        work = ManualWork(seed: seed)
        limits.segmentByteCount = segmentByteCount
        limits.fillByteCount = 512
    }

    func open() throws -> (DurableLog, [GroupID: RecoveredGroup]) {
        try DurableLog.open(directory: directory, disk: disk, work: work, limits: limits)
    }

    /// Appends and waits; nil when the batch did not complete, as after a crash of the disk.
    func append(_ records: [LogRecord], to log: DurableLog) -> Result<Void, StorageError>? {
        var result: Result<Void, StorageError>?
        log.append(records) { result = $0 }
        while result == nil, work.step() {}
        return result
    }

    func mustAppend(_ records: [LogRecord], to log: DurableLog, line: UInt = #line) {
        guard case .success = append(records, to: log) else { return XCTFail("the batch failed", line: line) }
    }
}

func entries(
    _ range: ClosedRange<UInt64>, term: Term = 1, byteCount: Int = 20
) -> [Entry] {
    range.map { index in
        Entry(
            term: term, index: LogIndex(index), kind: .normal,
            data: (0..<byteCount).map { UInt8(truncatingIfNeeded: Int(index) &* 31 &+ $0 &+ 1) })
    }
}

extension DurableLog {
    /// Closes, and lets what is under way end.
    func close(_ work: ManualWork) {
        close()
        work.runUntilIdle()
    }
}
