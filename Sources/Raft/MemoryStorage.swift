import DequeModule
import Prelude

/// The stable log in memory: what the durable log holds, as the core reads it.
public final class MemoryStorage: RaftStorage {
    // Without checks of exclusive access, which are dear here, where the core asks all the time: no method below calls
    // anything that could come back to this object.
    @exclusivity(unchecked) private var hardState = HardState()
    @exclusivity(unchecked) private var newestSnapshot = Snapshot()
    /// The entry before the first: the last one compacted, or the start of the log.
    @exclusivity(unchecked) private var compacted = LogPosition(term: 0, index: 0)
    @exclusivity(unchecked) private var log: Deque<Entry> = []

    /// Makes the snapshot that a follower is sent, as of now; nil when that is not possible at the moment. Without it
    /// the newest one recorded here is sent. Must not change this object.
    public var snapshotSource: (() -> Snapshot?)?

    public init() {}

    public func initialState() -> (HardState, ConfState) { (hardState, newestSnapshot.metadata.confState) }

    public var firstIndex: LogIndex { compacted.index + 1 }
    public var lastIndex: LogIndex { compacted.index + UInt64(log.count) }

    public func term(at index: LogIndex) throws(RaftStorageError) -> Term {
        if index < compacted.index { throw .compacted }
        if index > lastIndex { throw .unavailable }
        return index == compacted.index ? compacted.term : log[position(of: index)].term
    }

    public func entries(
        from: LogIndex, to: LogIndex, byteCountMax: UInt64
    ) throws(RaftStorageError) -> [Entry] {
        if from <= compacted.index { throw .compacted }
        if to > lastIndex + 1 { throw .unavailable }
        let wanted = log[position(of: from)..<max(position(of: from), position(of: to))]
        return Array(wanted.prefix(wanted.countFitting(byteCountMax)))
    }

    public func snapshot() throws(RaftStorageError) -> Snapshot {
        guard let snapshotSource else { return newestSnapshot }
        guard let snapshot = snapshotSource() else { throw .snapshotTemporarilyUnavailable }
        return snapshot
    }

    public func setHardState(_ state: HardState) { hardState = state }

    /// Appends entries that follow the log, or replaces its tail by them from where they begin. What is compacted
    /// already is skipped.
    public func append(_ entries: [Entry]) {
        guard let first = entries.first, let last = entries.last, last.index >= firstIndex else { return }
        if entries.count == 1 && first.index == lastIndex + 1 { return log.append(first) }
        invariant(first.index <= lastIndex + 1, "appended entries leave no gap")
        var fresh = entries[...]
        if first.index < firstIndex { fresh = fresh.dropFirst(Int(firstIndex - first.index)) }
        let start = position(of: max(first.index, firstIndex))
        log.removeLast(log.count - start)
        log.append(contentsOf: fresh)
    }

    /// Records a snapshot of the own state machine as of `index`, an index of the log.
    @discardableResult
    public func createSnapshot(
        at index: LogIndex, confState: ConfState, data: [UInt8]
    ) throws(RaftStorageError) -> Snapshot {
        if index <= newestSnapshot.metadata.index { throw .snapshotOutOfDate }
        let term = try term(at: index)
        newestSnapshot = Snapshot(
            metadata: SnapshotMetadata(index: index, term: term, confState: confState), data: data)
        return newestSnapshot
    }

    /// Replaces everything by a snapshot.
    public func applySnapshot(_ snapshot: Snapshot) throws(RaftStorageError) {
        if snapshot.metadata.index <= newestSnapshot.metadata.index { throw .snapshotOutOfDate }
        newestSnapshot = snapshot
        compacted = snapshot.position
        log.removeAll()
    }

    /// Forgets the entries up to `index`. The caller has applied them.
    public func compact(to index: LogIndex) throws(RaftStorageError) {
        if index <= compacted.index { throw .compacted }
        let term = try term(at: index)
        log.removeFirst(Int(index - compacted.index))
        compacted = LogPosition(term: term, index: index)
    }

    /// Where the entries up to `index` can be compacted so that the last `countMax` of them stay, or fewer when their
    /// data has more than `byteCountMax` bytes. `index` is one of the log, or the one before it.
    public func compactionEnd(before index: LogIndex, countMax: UInt64, byteCountMax: UInt64) -> LogIndex {
        var end = index
        var byteCount: UInt64 = 0
        while end > compacted.index, index - end < countMax {
            byteCount += UInt64(log[position(of: end)].data.count)
            if byteCount > byteCountMax { break }
            end = end - 1
        }
        return end
    }

    private func position(of index: LogIndex) -> Int { Int(index - firstIndex) }
}
