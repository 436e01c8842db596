import DequeModule
import Prelude

/// The end of the log that is not known to be stable: entries from `offset` on, and maybe a snapshot before them.
///
/// What was handed out to be written is in progress until the storage has confirmed it; both parts stay readable here
/// until then. Entries may be replaced while older ones of the same index are being written, which is why a
/// confirmation names the term too.
package struct UnstableLog: ~Copyable {
    private var boxedSnapshot: SnapshotBox?
    /// Of the snapshot; 0 without one.
    private var snapshotIndex: LogIndex = 0
    private var snapshotTerm: Term = 0
    private var entries: Deque<Entry> = []
    /// The index of `entries.first`, or of the one that will be.
    package private(set) var offset: LogIndex
    private var isSnapshotInProgress = false
    /// Entries below this are being written.
    package private(set) var offsetInProgress: LogIndex

    init(offset: LogIndex) {
        self.offset = offset
        offsetInProgress = offset
    }

    package var count: Int { entries.count }
    /// The index behind the last entry.
    var end: LogIndex { offset + UInt64(entries.count) }
    var isEmpty: Bool { entries.isEmpty }

    var hasSnapshot: Bool { boxedSnapshot != nil }
    var snapshot: Snapshot? { boxedSnapshot?.value }

    /// The first index, where the snapshot decides it.
    var firstIndex: LogIndex? { hasSnapshot ? snapshotIndex + 1 : nil }

    /// The last index, where entries or the snapshot decide it.
    var lastIndex: LogIndex? {
        if !entries.isEmpty { return offset + UInt64(entries.count - 1) }
        return hasSnapshot ? snapshotIndex : nil
    }

    func term(at index: LogIndex) -> Term? {
        if index >= offset {
            let place = index - offset
            return place < UInt64(entries.count) ? entries[Int(place)].term : nil
        }
        return hasSnapshot && index == snapshotIndex ? snapshotTerm : nil
    }

    // MARK: What to write next

    var hasNextEntries: Bool { entries.count > inProgressCount }

    func nextEntries() -> [Entry] { copy(inProgressCount..<entries.count) }

    var hasNextSnapshot: Bool { hasSnapshot && !isSnapshotInProgress }

    var nextSnapshot: SnapshotBox? { isSnapshotInProgress ? nil : boxedSnapshot }

    /// All that is here has been handed out.
    mutating func acceptInProgress() {
        offsetInProgress = end
        if hasSnapshot { isSnapshotInProgress = true }
    }

    private var inProgressCount: Int { Int(offsetInProgress - offset) }

    // MARK: What has been written

    enum StableOutcome: Equatable {
        case stable
        case missing
        case matchedSnapshot
        case replacedMeanwhile(Term)
    }

    /// The entries up to `position` are stable, unless they have been replaced since.
    mutating func stableTo(_ position: LogPosition) -> StableOutcome {
        guard let term = term(at: position.index) else { return .missing }
        if position.index < offset { return .matchedSnapshot }
        if term != position.term { return .replacedMeanwhile(term) }
        let count = Int(position.index + 1 - offset)
        if count == 1 { entries.removeFirst() } else { entries.removeFirst(count) }
        offset = position.index + 1
        offsetInProgress = max(offsetInProgress, offset)
        return .stable
    }

    mutating func stableSnapshotTo(_ index: LogIndex) {
        if hasSnapshot && snapshotIndex == index {
            boxedSnapshot = nil
            isSnapshotInProgress = false
        }
    }

    // MARK: Changes

    mutating func restore(_ snapshot: Snapshot) {
        offset = snapshot.metadata.index + 1
        offsetInProgress = offset
        entries.removeAll()
        boxedSnapshot = SnapshotBox(snapshot)
        snapshotIndex = snapshot.metadata.index
        snapshotTerm = snapshot.metadata.term
        isSnapshotInProgress = false
    }

    enum Truncation: Equatable {
        case none
        /// Everything here was dropped.
        case all(from: LogIndex)
        /// The entries from the index on were dropped.
        case tail(from: LogIndex)
    }

    /// Appends entries, replacing what is there from where they begin. They leave no gap.
    mutating func truncateAndAppend(_ fresh: ArraySlice<Entry>) -> Truncation {
        guard let from = fresh.first?.index else { return .none }
        let end = end
        invariant(from <= end, "appended entries leave no gap")
        if from == end {
            if fresh.count == 1, let only = fresh.first {
                entries.append(only)
            } else {
                entries.append(contentsOf: fresh)
            }
            return .none
        }
        if from <= offset {
            entries.removeAll(keepingCapacity: true)
            entries.append(contentsOf: fresh)
            offset = from
            offsetInProgress = from
            return .all(from: from)
        }
        entries.removeLast(Int(end - from))
        entries.append(contentsOf: fresh)
        offsetInProgress = min(offsetInProgress, from)
        return .tail(from: from)
    }

    /// The entries of `low..<high` that fit into `byteCountMax`, at least one if there is one.
    func slice(_ low: LogIndex, _ high: LogIndex, byteCountMax: UInt64) -> [Entry] {
        let start = Int(low - offset)
        let end = Int(high - offset)
        if byteCountMax == .max { return copy(start..<end) }
        return copy(start..<start + entries[start..<end].countFitting(byteCountMax))
    }

    private func copy(_ places: Range<Int>) -> [Entry] {
        if places.isEmpty { return [] }
        return Array(entries[places])
    }
}
