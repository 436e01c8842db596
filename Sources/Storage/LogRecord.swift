import Prelude
import Raft

/// One thing to remember about one group. The records of a batch become durable together or not at all.
public enum LogRecord: Equatable, Sendable {
    /// Contiguous entries, not empty. What the log of the group had from the first one's index on is replaced.
    case entries(GroupID, [Entry])
    case hardState(GroupID, HardState)
    /// The log of the group restarts after the snapshot; what it had before is gone. The snapshot itself must be
    /// durable already.
    case snapshot(GroupID, SnapshotMetadata)
    /// The entries up to this index are not needed any more; the term is that of the entry at the index. The log
    /// writes it by itself after `DurableLog.compact`.
    case compacted(GroupID, LogIndex, Term)

    var group: GroupID {
        switch self {
        case .entries(let group, _), .hardState(let group, _), .snapshot(let group, _), .compacted(let group, _, _):
            group
        }
    }
}

/// A place in a group's log, with the term of the entry there. (0, 0) is before the log.
public struct LogPoint: Equatable, Sendable {
    public var index: LogIndex
    public var term: Term

    public init(index: LogIndex = 0, term: Term = 0) {
        self.index = index
        self.term = term
    }
}

/// What the log holds about one group.
public struct RecoveredGroup: Equatable, Sendable {
    public var hardState: HardState
    /// The snapshot from which the log of the group last restarted. A later one may be in the snapshot store.
    public var snapshot: SnapshotMetadata?
    /// Where the entries begin: the later of the snapshot and of what was compacted.
    public var start: LogPoint
    /// Contiguous, from `start.index + 1`.
    public var entries: [Entry]

    public init(
        hardState: HardState = HardState(), snapshot: SnapshotMetadata? = nil, start: LogPoint = LogPoint(),
        entries: [Entry] = []
    ) {
        self.hardState = hardState
        self.snapshot = snapshot
        self.start = start
        self.entries = entries
    }

    public var last: LogPoint {
        entries.last.map { LogPoint(index: $0.index, term: $0.term) } ?? start
    }
}

/// What the log has to know of a group to check what is appended, and to repeat at the head of each segment so that
/// no group depends on an older one for more than its entries.
struct GroupState: Equatable, Sendable {
    var hardState = HardState()
    var snapshot: SnapshotMetadata?
    var start = LogPoint()
    var last = LogPoint()

    /// Takes in `record`, or says which rule it breaks and changes nothing.
    mutating func take(_ record: LogRecord) -> String? {
        switch record {
        case .entries(_, let entries):
            guard let first = entries.first, let end = entries.last else { return "no entries in a record of entries" }
            guard first.index > start.index, first.index <= last.index + 1 else {
                return "entries from \(first.index) on do not follow a log of \(start.index + 1)...\(last.index)"
            }
            if let problem = Self.problem(in: entries) { return problem }
            // The term before the first one is known only where nothing is replaced.
            let isAppended = first.index == last.index + 1
            guard first.term >= (isAppended ? last.term : start.term) else {
                return "the term goes back to \(first.term) at entry \(first.index)"
            }
            last = LogPoint(index: end.index, term: end.term)
        case .hardState(_, let next):
            guard next.term >= hardState.term else {
                return "the term of the hard state goes back from \(hardState.term) to \(next.term)"
            }
            hardState = next
        case .snapshot(_, let metadata):
            guard metadata.index > start.index else {
                return "a snapshot at \(metadata.index) does not lead a log that starts after \(start.index)"
            }
            snapshot = metadata
            start = LogPoint(index: metadata.index, term: metadata.term)
            last = start
        case .compacted(_, let index, let term):
            guard index <= last.index else { return "compacted up to \(index), beyond the last entry \(last.index)" }
            guard index > start.index else { return nil }
            start = LogPoint(index: index, term: term)
        }
        return nil
    }

    private static func problem(in entries: [Entry]) -> String? {
        var before = entries[0]
        for entry in entries.dropFirst() {
            guard entry.index == before.index + 1 else { return "entry \(entry.index) follows \(before.index)" }
            guard entry.term >= before.term else { return "the term goes back to \(entry.term) at \(entry.index)" }
            before = entry
        }
        return nil
    }
}
