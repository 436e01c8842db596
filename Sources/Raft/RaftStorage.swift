import Prelude

public enum RaftStorageError: Error, Equatable, Sendable {
    /// The entry was there once; only a snapshot covers it now.
    case compacted
    /// The entry is beyond the end of the log.
    case unavailable
    /// A snapshot at least as new exists.
    case snapshotOutOfDate
    /// A snapshot is being made; ask again later.
    case snapshotTemporarilyUnavailable
}

extension RaftStorageError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .compacted: "requested index is unavailable due to compaction"
        case .unavailable: "requested entry at index is unavailable"
        case .snapshotOutOfDate: "requested index is older than the existing snapshot"
        case .snapshotTemporarilyUnavailable: "snapshot is temporarily unavailable"
        }
    }
}

/// The part of the log that is stable, as the core reads it. It answers from memory: the core calls it while it
/// handles messages.
public protocol RaftStorage: AnyObject {
    func initialState() -> (HardState, ConfState)
    /// The entries of `from..<to`, cut off before the first that exceeds `byteCountMax` together with those before
    /// it, but never before the first entry. Throws `compacted` or `unavailable`.
    func entries(from: LogIndex, to: LogIndex, byteCountMax: UInt64) throws(RaftStorageError) -> [Entry]
    /// The term of the entry at an index of `firstIndex - 1 ... lastIndex`. Throws `compacted` or `unavailable`.
    func term(at index: LogIndex) throws(RaftStorageError) -> Term
    /// The index of the last entry, or `firstIndex - 1` when there is none.
    var lastIndex: LogIndex { get }
    /// The index of the first entry that is not compacted.
    var firstIndex: LogIndex { get }
    /// The newest snapshot. Throws `snapshotTemporarilyUnavailable` while one is being made.
    ///
    /// A node that was added after this snapshot was made cannot use it: make one when a configuration change has
    /// been applied, before anything is compacted that the snapshot before it did not cover.
    func snapshot() throws(RaftStorageError) -> Snapshot
}
