import Prelude
import Raft

/// The terms of a group's entries by where each begins, so that the log can tell the term at an index without keeping
/// the entries.
struct TermMap {
    /// Rising in both.
    private var beginnings: [LogPoint] = []

    init() {}

    init(_ group: RecoveredGroup) {
        beginnings = [group.start]
        take(group.entries)
    }

    mutating func note(_ record: LogRecord) {
        switch record {
        case .entries(_, let entries): take(entries)
        case .snapshot(_, let metadata): beginnings = [LogPoint(index: metadata.index, term: metadata.term)]
        case .compacted(_, let index, _): forget(before: index)
        case .hardState: break
        }
    }

    private mutating func take(_ entries: [Entry]) {
        guard let first = entries.first else { return }
        while let last = beginnings.last, last.index >= first.index { beginnings.removeLast() }
        for entry in entries where entry.term != beginnings.last?.term {
            beginnings.append(LogPoint(index: entry.index, term: entry.term))
        }
    }

    private mutating func forget(before index: LogIndex) {
        let needed = beginnings.lastIndex { $0.index <= index } ?? 0
        beginnings.removeFirst(needed)
    }

    /// Precondition: the log holds the index, or starts after it.
    func term(at index: LogIndex) -> Term? { beginnings.last { $0.index <= index }?.term }
}
