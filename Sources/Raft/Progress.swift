import Prelude

public enum ProgressState: UInt8, Sendable {
    /// One append at a time, until the place where the logs match is found.
    case probe
    /// Appends are sent ahead of their acknowledgements.
    case replicate
    /// A snapshot is on its way; nothing is appended until it is applied.
    case snapshot
}

/// What a leader knows of one node of the configuration, itself included.
package struct Progress: Sendable {
    /// The last entry known to be durable there.
    package private(set) var match: LogIndex
    /// The first entry to send next; above `match` always.
    package private(set) var next: LogIndex
    package private(set) var state: ProgressState = .probe
    /// Heard of since the last check of the quorum.
    package var recentActive: Bool
    package var isLearner: Bool
    /// The index of the snapshot on its way. In state `snapshot` only.
    package private(set) var pendingSnapshot: LogIndex = 0
    /// No more appends until the next acknowledgement or heartbeat response.
    package private(set) var isFlowPaused = false
    package private(set) var inflights: Inflights
    /// The highest commit index sent since the follower may have lost messages.
    private var sentCommit: LogIndex = 0

    package init(match: LogIndex = 0, next: LogIndex, isLearner: Bool, recentActive: Bool, inflights: Inflights) {
        self.match = match
        self.next = next
        self.isLearner = isLearner
        self.recentActive = recentActive
        self.inflights = inflights
    }

    /// Whether sending is held back until the follower answers.
    package var isPaused: Bool { state == .snapshot || isFlowPaused }

    // MARK: Transitions

    private mutating func enter(_ state: ProgressState) {
        self.state = state
        isFlowPaused = false
        pendingSnapshot = 0
        inflights.removeAll()
    }

    package mutating func becomeProbe() {
        // The pending snapshot was delivered: probe from behind it.
        let snapshot = state == .snapshot ? pendingSnapshot : 0
        enter(.probe)
        next = max(match + 1, snapshot + 1)
        sentCommit = min(sentCommit, next - 1)
    }

    package mutating func becomeReplicate() {
        enter(.replicate)
        next = match + 1
    }

    package mutating func becomeSnapshot(at index: LogIndex) {
        enter(.snapshot)
        pendingSnapshot = index
        next = index + 1
        sentCommit = index
    }

    /// The snapshot did not arrive: probing begins where it would have without one.
    package mutating func snapshotFailed() { pendingSnapshot = 0 }

    // MARK: Sending

    /// Notes that `count` entries from `next` on are sent, with `byteCount` bytes of data.
    package mutating func sentEntries(_ count: Int, byteCount: UInt64) {
        switch state {
        case .replicate:
            if count > 0 {
                next = next + UInt64(count)
                inflights.add(next - 1, byteCount: byteCount)
            }
            // When the window is full, this message was a probe for what is in it.
            isFlowPaused = inflights.isFull
        case .probe:
            if count > 0 { isFlowPaused = true }
        case .snapshot:
            invariantBroken("no entries are sent while a snapshot is on its way")
        }
    }

    mutating func sent(_ count: Int, byteCount: UInt64, commit: LogIndex) {
        sentEntries(count, byteCount: byteCount)
        sentCommit = commit
    }

    package mutating func sentCommit(_ index: LogIndex) { sentCommit = index }

    /// Whether telling the follower this commit index can make it commit more: it cannot commit beyond the entries
    /// sent, and what was told once need not be told again.
    package func canBumpCommit(_ index: LogIndex) -> Bool { index > sentCommit && sentCommit < next - 1 }

    package mutating func pauseFlow() { isFlowPaused = true }
    package mutating func resumeFlow() { isFlowPaused = false }

    // MARK: Responses

    /// The follower has acknowledged `index`. False when that was known.
    package mutating func maybeUpdate(_ index: LogIndex) -> Bool {
        if index <= match { return false }
        match = index
        next = max(next, index + 1)
        isFlowPaused = false
        return true
    }

    package mutating func freeInflights(upTo index: LogIndex) { inflights.free(upTo: index) }

    /// The follower has rejected an append after `rejected`; `hint` is the last entry that may match. False when the
    /// rejection is out of date.
    package mutating func maybeDecrease(rejected: LogIndex, hint: LogIndex) -> Bool {
        if state == .replicate {
            if rejected <= match { return false }
            next = match + 1
        } else {
            // Probes go out one at a time, so that a current rejection names the last one.
            if next - 1 != rejected { return false }
            next = max(min(rejected, hint + 1), match + 1)
            isFlowPaused = false
        }
        // What was sent behind the rejected entry is lost, the commit index with it.
        sentCommit = min(sentCommit, next - 1)
        return true
    }
}

/// The progress of each node of the configuration, in order of their ids.
package struct ProgressMap: Sendable {
    package private(set) var ids: [NodeID] = []
    private var values: [Progress] = []

    package init() {}

    package var count: Int { ids.count }

    package func position(of id: NodeID) -> Int? {
        for position in ids.indices where ids[position] == id { return position }
        return nil
    }

    /// By position.
    package subscript(position: Int) -> Progress {
        _read { yield values[position] }
        _modify { yield &values[position] }
    }

    /// What this node has acknowledged; 0 when it is no member.
    func match(of id: NodeID) -> LogIndex { position(of: id).map { values[$0].match } ?? 0 }

    package subscript(id: NodeID) -> Progress? { position(of: id).map { values[$0] } }

    package func contains(_ id: NodeID) -> Bool { position(of: id) != nil }

    package mutating func set(_ id: NodeID, _ progress: Progress) {
        let place = ids.firstIndex { $0 >= id } ?? ids.endIndex
        if place < ids.endIndex && ids[place] == id {
            values[place] = progress
        } else {
            ids.insert(id, at: place)
            values.insert(progress, at: place)
        }
    }

    package mutating func remove(_ id: NodeID) {
        guard let place = position(of: id) else { return }
        ids.remove(at: place)
        values.remove(at: place)
    }

    package mutating func setLearner(_ id: NodeID, _ isLearner: Bool) {
        if let place = position(of: id) { values[place].isLearner = isLearner }
    }
}
