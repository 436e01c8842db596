import Prelude

/// The whole log, stable and unstable, and how far it is committed and applied.
///
/// `applied <= applying <= committed <= lastIndex`.
package struct RaftLog: ~Copyable {
    private let storage: any RaftStorage
    package private(set) var unstable: UnstableLog
    package private(set) var committed: LogIndex
    /// Handed out to be applied up to here.
    package private(set) var applying: LogIndex
    package private(set) var applied: LogIndex

    /// Bounds the committed entries that are handed out and not yet applied.
    private let applyingByteCountMax: UInt64
    private var applyingByteCount: UInt64 = 0
    private var isApplyingPaused = false

    /// The entries of the last append, which are the end of the log, as the one array that they came in: handed out as
    /// it is, to each follower, to the storage, and to be applied. Empty when it was too large to be kept.
    private var newest: [Entry] = []
    private var newestByteCount: UInt64 = 0
    private static let newestByteCountMax: UInt64 = 256 << 10

    init(storage: any RaftStorage, applyingByteCountMax: UInt64) {
        self.storage = storage
        self.applyingByteCountMax = applyingByteCountMax
        unstable = UnstableLog(offset: storage.lastIndex + 1)
        // Whatever was compacted was applied before.
        committed = storage.firstIndex - 1
        applying = committed
        applied = committed
    }

    // MARK: Extent

    package var firstIndex: LogIndex { unstable.firstIndex ?? storage.firstIndex }
    package var lastIndex: LogIndex { unstable.lastIndex ?? storage.lastIndex }

    /// The term of an entry; also of the one before the first, which is known for matching.
    package func term(at index: LogIndex) throws(RaftStorageError) -> Term {
        if let term = unstable.term(at: index) { return term }
        if index >= unstable.offset { throw .unavailable }
        // A snapshot that is still to be written replaces all that is stored.
        if unstable.hasSnapshot { throw .compacted }
        return try storage.term(at: index)
    }

    /// As `term(at:)`, with 0 for what is out of range.
    package func termOrZero(at index: LogIndex) -> Term { (try? term(at: index)) ?? 0 }

    package func matches(_ position: LogPosition) -> Bool { (try? term(at: position.index)) == position.term }

    package var lastPosition: LogPosition {
        let last = lastIndex
        return LogPosition(term: termOrZero(at: last), index: last)
    }

    /// Raft §5.4.1: whose last entry has the later term, or the same term and a log at least as long.
    func isUpToDate(_ candidate: LogPosition) -> Bool {
        let last = lastPosition
        return candidate.term > last.term || candidate.term == last.term && candidate.index >= last.index
    }

    // MARK: Appending

    enum AppendOutcome: Equatable {
        case accepted(lastIndex: LogIndex, conflict: Conflict?, truncation: UnstableLog.Truncation)
        /// There is no entry at the place where the new ones are to follow, or one of another term.
        case mismatch
        case overwritesCommitted(LogIndex)
    }

    struct Conflict: Equatable {
        var index: LogIndex
        var existing: Term
        var replacing: Term
    }

    /// A follower's append (Raft Figure 2, AppendEntries): entries that follow `previous`, of which those that are
    /// here already are kept.
    mutating func maybeAppend(
        after previous: LogPosition, _ entries: [Entry], leaderCommit: LogIndex
    ) -> AppendOutcome {
        if !matches(previous) { return .mismatch }
        let last = previous.index + UInt64(entries.count)
        var conflict: Conflict?
        var truncation = UnstableLog.Truncation.none
        if let fresh = entries.firstIndex(where: { !matches($0.position) }) {
            let index = entries[fresh].index
            if index <= committed { return .overwritesCommitted(index) }
            if index <= lastIndex {
                conflict = Conflict(
                    index: index, existing: termOrZero(at: index), replacing: entries[fresh].term)
            }
            truncation = append(entries, from: fresh)
        }
        commit(to: min(leaderCommit, last))
        return .accepted(lastIndex: last, conflict: conflict, truncation: truncation)
    }

    /// Appends the entries from position `start` of the array on.
    @discardableResult
    mutating func append(_ entries: [Entry], from start: Int = 0) -> UnstableLog.Truncation {
        guard start < entries.count else { return .none }
        invariant(entries[start].index > committed, "no committed entry is replaced")
        newestByteCount = start == 0 ? entries.byteCount : .max
        newest = newestByteCount <= RaftLog.newestByteCountMax ? entries : []
        return unstable.truncateAndAppend(entries[start...])
    }

    /// The newest entries as one array, if they are exactly those of `low..<high` and fit.
    private func newest(_ low: LogIndex, _ high: LogIndex, byteCountMax: UInt64) -> [Entry]? {
        guard let first = newest.first, first.index == low, low + UInt64(newest.count) == high,
            newestByteCount <= byteCountMax
        else { return nil }
        return newest
    }

    /// The last entry at or before `index` whose term is not above `term`: behind it, this log and one that has `term`
    /// at `index` differ for certain. The term is 0 where it is not known (compacted, or beyond the end).
    func findConflict(byTerm term: Term, from index: LogIndex) -> LogPosition {
        var index = index
        while index > 0 {
            guard let own = try? self.term(at: index) else { return LogPosition(term: 0, index: index) }
            if own <= term { return LogPosition(term: own, index: index) }
            index = index - 1
        }
        return LogPosition(term: 0, index: 0)
    }

    // MARK: Committing and applying

    /// Never moves back. The entry is in the log.
    mutating func commit(to index: LogIndex) {
        if index <= committed { return }
        invariant(index <= lastIndex, "what is committed is in the log")
        committed = index
    }

    /// Commits up to an entry that a quorum has, if it is of the given term: Raft §5.4.2, an entry of an older term
    /// commits only together with one of the present term.
    mutating func maybeCommit(_ position: LogPosition) -> Bool {
        guard position.term != 0, position.index > committed, matches(position) else { return false }
        commit(to: position.index)
        return true
    }

    /// At the start: what the application has applied before.
    mutating func restoreCommitted(_ index: LogIndex) { committed = index }

    mutating func appliedTo(_ index: LogIndex, byteCount: UInt64) {
        invariant(index <= committed && index >= applied, "what is applied is committed and does not go back")
        applied = index
        applying = max(applying, index)
        applyingByteCount -= min(applyingByteCount, byteCount)
        isApplyingPaused = applyingByteCount >= applyingByteCountMax
    }

    mutating func acceptApplying(_ index: LogIndex, byteCount: UInt64, allowUnstable: Bool) {
        invariant(index <= committed, "what is handed out to be applied is committed")
        applying = index
        applyingByteCount += byteCount
        // Paused at the bound, and also when the bound has cut off what could have been handed out.
        isApplyingPaused =
            applyingByteCount >= applyingByteCountMax || index < appliableIndex(allowUnstable: allowUnstable)
    }

    func hasNextCommittedEntries(allowUnstable: Bool) -> Bool {
        !isApplyingPaused && !unstable.hasSnapshot && applying < appliableIndex(allowUnstable: allowUnstable)
    }

    func nextCommittedEntries(allowUnstable: Bool) -> [Entry] {
        guard hasNextCommittedEntries(allowUnstable: allowUnstable) else { return [] }
        return committedSlice(
            applying + 1, appliableIndex(allowUnstable: allowUnstable) + 1,
            byteCountMax: applyingByteCountMax - applyingByteCount)
    }

    private func appliableIndex(allowUnstable: Bool) -> LogIndex {
        allowUnstable ? committed : min(committed, unstable.offset - 1)
    }

    /// Whether a committed, not yet applied entry changes the configuration.
    func hasUnappliedConfChange() -> Bool {
        var low = applied + 1
        let high = committed + 1
        // In pages, so that a long backlog does not come into memory at once.
        while low < high {
            let page = committedSlice(low, high, byteCountMax: applyingByteCountMax)
            if page.contains(where: \.kind.isConfChange) { return true }
            low = low + UInt64(page.count)
        }
        return false
    }

    // MARK: Reading

    func snapshot() throws(RaftStorageError) -> Snapshot {
        if let snapshot = unstable.snapshot { return snapshot }
        return try storage.snapshot()
    }

    /// The entries from `index` to the end that fit into `byteCountMax`, at least one if there is one.
    func entries(from index: LogIndex, byteCountMax: UInt64) throws(RaftStorageError) -> [Entry] {
        let end = lastIndex + 1
        return index < end ? try slice(index, end, byteCountMax: byteCountMax) : []
    }

    private func committedSlice(_ low: LogIndex, _ high: LogIndex, byteCountMax: UInt64) -> [Entry] {
        do {
            let entries = try slice(low, high, byteCountMax: byteCountMax)
            invariant(!entries.isEmpty, "the storage gives at least one entry of those it has")
            return entries
        } catch {
            invariantBroken("entries that are not applied are not compacted: \(error)")
        }
    }

    private func slice(
        _ low: LogIndex, _ high: LogIndex, byteCountMax: UInt64
    ) throws(RaftStorageError) -> [Entry] {
        if low < firstIndex { throw .compacted }
        if let entries = newest(low, high, byteCountMax: byteCountMax) { return entries }
        let offset = unstable.offset
        if low >= offset { return unstable.slice(low, high, byteCountMax: byteCountMax) }
        let cut = min(high, offset)
        var entries = try storage.entries(from: low, to: cut, byteCountMax: byteCountMax)
        // When the storage gave less than all, the next entry did not fit.
        if high <= offset || UInt64(entries.count) < cut - low { return entries }
        if byteCountMax == .max {
            entries += unstable.slice(offset, high, byteCountMax: byteCountMax)
            return entries
        }
        let byteCount = entries.byteCount
        if byteCount >= byteCountMax { return entries }
        let rest = byteCountMax - byteCount
        let more = unstable.slice(offset, high, byteCountMax: rest)
        // A single entry comes back even if it does not fit.
        if more.count > 1 || more.byteCount <= rest { entries += more }
        return entries
    }

    // MARK: Stability

    /// What is to be written next.
    func nextUnstableEntries() -> [Entry] {
        guard unstable.hasNextEntries else { return [] }
        return newest(unstable.offsetInProgress, unstable.end, byteCountMax: .max) ?? unstable.nextEntries()
    }

    mutating func acceptUnstable() { unstable.acceptInProgress() }
    mutating func stableTo(_ position: LogPosition) -> UnstableLog.StableOutcome { unstable.stableTo(position) }
    mutating func stableSnapshotTo(_ index: LogIndex) { unstable.stableSnapshotTo(index) }

    /// Replaces the whole log by a snapshot, which still has to be written.
    mutating func restore(_ snapshot: Snapshot) {
        committed = snapshot.metadata.index
        newest = []
        unstable.restore(snapshot)
    }
}
