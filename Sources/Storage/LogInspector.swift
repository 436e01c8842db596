import Prelude
import Raft

/// Reads a log without changing anything, for those who want to look into one. The node that owns it should be stopped.
public enum LogInspector {
    /// One entry, or one other record.
    public struct Item: Equatable, Sendable {
        public enum Kind: String, Sendable {
            case entry, hardState, snapshot, compacted
            /// The state of a group as the head of a segment repeats it.
            case groupState
        }

        /// The path of the segment.
        public var file: String
        /// Of the record in which it lies.
        public var offset: UInt64
        public var group: GroupID
        public var kind: Kind
        /// Of an entry, or of the last one that a snapshot or a compaction covers; for a hard state, what is committed.
        public var index: LogIndex
        public var term: Term
        /// Of the entry's data; of the whole record for other kinds.
        public var byteCount: Int
    }

    public struct Report: Equatable, Sendable {
        public var segmentCount = 0
        public var batchCount: UInt64 = 0
        public var recordCount = 0
        public var entryCount: UInt64 = 0
        public var byteCount: UInt64 = 0
        /// The log was closed in order, and nothing was written since.
        public var isClosed = false
        /// What the next start will cut off.
        public var torn: Torn?

        public struct Torn: Equatable, Sendable {
            public var file: String
            public var from: UInt64
            public var to: UInt64
        }
    }

    /// Calls `body` with the directory of the log in `directory`, which is a node's data directory or that of a log
    /// itself, while no node uses it. Blocks.
    public static func withLog(
        in directory: String, disk: any Disk, _ body: (String) throws(StorageError) -> Void
    ) throws(StorageError) {
        let names = try onDisk { () throws(DiskError) in try disk.list(directory) }
        guard names.contains(DataDirectory.lockName) else {
            guard names.contains(where: { LogFormat.segmentNumber($0) != nil }) || names.contains("log") else {
                throw .noLog(directory: directory)
            }
            return try body(names.contains("log") ? filePath(directory, "log") : directory)
        }
        let lock: any DiskLock
        do {
            lock = try disk.lock(filePath(directory, DataDirectory.lockName))
        } catch  where error.kind == .locked {
            throw .lockedByAnotherProcess(directory: directory)
        } catch {
            throw StorageError(error)
        }
        defer { lock.unlock() }
        let log = DataDirectory.logName(in: directory, disk: disk)
        guard names.contains(log) else { throw .noLog(directory: directory) }
        try body(filePath(directory, log))
    }

    /// Checks all that opening the log checks. Blocks.
    public static func verify(directory: String, disk: any Disk) throws(StorageError) -> Report {
        let recovery = try LogRecovery(directory: directory, disk: disk)
        var report = Report()
        let end = try read(directory: directory, disk: disk) { _, records, byteCount in
            report.batchCount += 1
            report.byteCount += byteCount
            report.recordCount += records.count
            for case .record(.entries(_, let entries)) in records.map(\.content) {
                report.entryCount += UInt64(entries.count)
            }
        }
        report.segmentCount = recovery.segments.count
        report.isClosed = end == .closed
        report.torn = recovery.torn.map {
            Report.Torn(file: $0.path, from: $0.range.lowerBound, to: $0.range.upperBound)
        }
        return report
    }

    /// Calls `visit` with everything in the log, in its order, until the first damage. Blocks.
    public static func dump(
        directory: String, disk: any Disk, _ visit: (Item) -> Void
    ) throws(StorageError) {
        _ = try read(directory: directory, disk: disk) { path, records, _ in
            for record in records { items(of: record, in: path).forEach(visit) }
        }
    }

    /// Gives the kind of the last batch.
    private static func read(
        directory: String, disk: any Disk, _ visit: (String, [LocatedRecord], UInt64) -> Void
    ) throws(StorageError) -> BatchKind {
        var last = BatchKind.normal
        for number in try SegmentList(directory: directory, disk: disk).numbers {
            let path = filePath(directory, LogFormat.segmentName(number))
            let file = try onDisk { () throws(DiskError) in try disk.open(path, .readOnly) }
            defer { file.close() }
            var reader = try SegmentReader(path: path, file: file, number: number, sequence: nil)
            while let records = try reader.next() {
                visit(path, records, UInt64(reader.lastBatch?.count ?? 0))
                last = reader.lastKind
            }
        }
        return last
    }

    private static func items(of located: LocatedRecord, in path: String) -> [Item] {
        func item(
            _ group: GroupID, _ kind: Item.Kind, _ index: LogIndex, _ term: Term, _ byteCount: Int? = nil
        ) -> Item {
            Item(
                file: path, offset: located.offset, group: group, kind: kind, index: index, term: term,
                byteCount: byteCount ?? located.byteCount)
        }
        switch located.content {
        case .record(.entries(let group, let entries)):
            return entries.map { item(group, .entry, $0.index, $0.term, $0.data.count) }
        case .record(.hardState(let group, let state)): return [item(group, .hardState, state.commit, state.term)]
        case .record(.snapshot(let group, let metadata)):
            return [item(group, .snapshot, metadata.index, metadata.term)]
        case .record(.compacted(let group, let index, let term)): return [item(group, .compacted, index, term)]
        case .groupState(let group, let state): return [item(group, .groupState, state.last.index, state.last.term)]
        }
    }
}
