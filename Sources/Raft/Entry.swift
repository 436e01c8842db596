import Prelude

/// Raw values are stored and sent: they never change.
public enum EntryKind: UInt8, Sendable {
    case normal = 0
    /// A configuration change of one step, as `ConfChange` with at most one change.
    case confChange = 1
    case confChangeV2 = 2

    var isConfChange: Bool { self != .normal }
}

/// One entry of the replicated log.
public struct Entry: Equatable, Sendable {
    public var term: Term
    public var index: LogIndex
    public var kind: EntryKind
    public var data: [UInt8]

    public init(term: Term = 0, index: LogIndex = 0, kind: EntryKind = .normal, data: [UInt8] = []) {
        self.term = term
        self.index = index
        self.kind = kind
        self.data = data
    }

    /// The bytes this entry takes as a protobuf message (kind, term, index, then data unless empty), which is what
    /// the limits of messages and of committed entries per `Ready` count.
    public var byteCount: UInt64 {
        // Three one-byte tags; the kind is one byte.
        let fixed = 4 + varintByteCount(term.rawValue) + varintByteCount(index.rawValue)
        if data.isEmpty { return fixed }
        let count = UInt64(data.count)
        return fixed + 1 + varintByteCount(count) + count
    }

    var position: LogPosition { LogPosition(term: term, index: index) }
}

/// A term and index: together they name one entry for good (Raft §5.3, Log Matching).
public struct LogPosition: Equatable, Sendable {
    public var term: Term
    public var index: LogIndex

    public init(term: Term, index: LogIndex) {
        self.term = term
        self.index = index
    }
}

private func varintByteCount(_ value: UInt64) -> UInt64 {
    UInt64((70 - (value | 1).leadingZeroBitCount) / 7)
}

extension Sequence<Entry> {
    var byteCount: UInt64 { reduce(0) { $0 + $1.byteCount } }
    /// Data only: what the limit of the uncommitted tail counts, so that empty entries are free.
    var payloadByteCount: UInt64 { reduce(0) { $0 + UInt64($1.data.count) } }
}

extension Collection<Entry> {
    /// How many entries from the start fit into `byteCountMax`; at least one, if there is one.
    func countFitting(_ byteCountMax: UInt64) -> Int {
        if byteCountMax == .max { return count }
        var sum: UInt64 = 0
        var fitting = 0
        for entry in self {
            sum += entry.byteCount
            if sum > byteCountMax && fitting > 0 { break }
            fitting += 1
        }
        return fitting
    }
}
