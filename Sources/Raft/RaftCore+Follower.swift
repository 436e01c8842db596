import Prelude

extension RaftCore {
    mutating func stepFollower(_ message: Message) throws(RaftError) {
        switch message.kind {
        case .propose:
            if leader == .none || configuration.disableProposalForwarding {
                note(.proposalDropped(leader == .none ? .noLeader : .notForwarded(leader), term))
                throw .proposalDropped
            }
            forwardToLeader(message)
        case .append:
            hearFromLeader(message)
            try handleAppend(message)
        case .heartbeat:
            hearFromLeader(message)
            try handleHeartbeat(message)
        case .snapshot:
            hearFromLeader(message)
            try handleSnapshot(message)
        case .transferLeader, .readIndex:
            if leader == .none { return note(.droppedWithoutLeader(message.kind, term)) }
            forwardToLeader(message)
        case .forgetLeader:
            // The lease of a leader rests on its followers not electing another.
            if configuration.readOnlyOption == .leaseBased { return note(.forgettingLeaderRefused) }
            if leader == .none { return }
            note(.forgotLeader(leader, term))
            leader = .none
        case .timeoutNow:
            // No pre-vote: this is no return from isolation, and every round trip counts.
            note(.timeoutNow(from: message.from, term, role))
            hup(.transfer)
        case .readIndexResponse:
            readStates.append(ReadState(index: message.index, context: message.context))
        default:
            break
        }
    }

    private mutating func hearFromLeader(_ message: Message) {
        electionElapsed = 0
        leader = message.from
    }

    private mutating func forwardToLeader(_ message: Message) {
        var forwarded = message
        forwarded.to = leader
        send(forwarded)
    }

    private mutating func handleAppend(_ message: Message) throws(RaftError) {
        if message.index < log.committed {
            // All up to the commit index matches for certain.
            send(Message(kind: .appendResponse, to: message.from, index: log.committed))
            return
        }
        let previous = LogPosition(term: message.logTerm, index: message.index)
        switch log.maybeAppend(after: previous, message.entries, leaderCommit: message.commit) {
        case .accepted(let last, let conflict, let truncation):
            note(conflict, truncation)
            send(Message(kind: .appendResponse, to: message.from, index: last))
        case .mismatch:
            rejectAppend(message)
        case .overwritesCommitted(let index):
            throw .logDiverged(reason: "leader \(message.from) replaces entry \(index), committed is \(log.committed)")
        }
    }

    private func note(_ conflict: RaftLog.Conflict?, _ truncation: UnstableLog.Truncation) {
        if let conflict {
            note(.conflictFound(conflict.index, existing: conflict.existing, replacing: conflict.replacing))
        }
        switch truncation {
        case .none: break
        case .all(let from): note(.unstableReplaced(from: from))
        case .tail(let from): note(.unstableTruncated(from: from))
        }
    }

    /// Tells the leader where to go on: no entry behind the hint can match, as its term there is above the one that
    /// the leader has at this place.
    private mutating func rejectAppend(_ message: Message) {
        note(
            .appendRejected(
                own: LogPosition(term: log.termOrZero(at: message.index), index: message.index),
                previous: LogPosition(term: message.logTerm, index: message.index), from: message.from))
        let hint = log.findConflict(byTerm: message.logTerm, from: min(message.index, log.lastIndex))
        send(
            Message(
                kind: .appendResponse, to: message.from, logTerm: hint.term, index: message.index, reject: true,
                rejectHint: hint.index))
    }

    private mutating func handleHeartbeat(_ message: Message) throws(RaftError) {
        guard message.commit <= log.lastIndex else {
            throw .logDiverged(
                reason: "leader \(message.from) has committed \(message.commit), this log ends at \(log.lastIndex)")
        }
        log.commit(to: message.commit)
        send(Message(kind: .heartbeatResponse, to: message.from, context: message.context))
    }

    private mutating func handleSnapshot(_ message: Message) throws(RaftError) {
        guard let snapshot = message.snapshot else { return }
        let isRestored = try restore(snapshot)
        note(.snapshotHandled(restored: isRestored, commit: log.committed, snapshot.metadata))
        let index = isRestored ? log.lastIndex : log.committed
        send(Message(kind: .appendResponse, to: message.from, index: index))
    }

    /// Replaces log and configuration by the snapshot's. False when it tells nothing new.
    private mutating func restore(_ snapshot: Snapshot) throws(RaftError) -> Bool {
        let metadata = snapshot.metadata
        if metadata.index <= log.committed { return false }
        let confState = metadata.confState
        // A snapshot that does not mention this node would leave it in no configuration.
        if !confState.contains(id) {
            note(.snapshotNotForThisNode(confState))
            return false
        }
        if log.matches(snapshot.position) {
            // All entries are here; only the news that they are committed was not.
            note(.snapshotFastForwarded(commit: log.committed, last: log.lastPosition, metadata))
            log.commit(to: metadata.index)
            return false
        }
        let restored: Members
        do {
            restored = try ConfigurationChanger(Members(), lastIndex: metadata.index, inflights: freshInflights)
                .restore(confState)
        } catch {
            throw .malformedMessage(reason: "snapshot \(metadata.index): \(error)")
        }
        note(.snapshotRestoreStarted(logState, metadata))
        log.restore(snapshot)
        votes.removeAll()
        if members.progress.count == 0 || !hasBug(.snapshotSkipsConfiguration) { switchTo(restored) }
        note(.snapshotInstalled(commit: log.committed, last: log.lastPosition, metadata))
        return true
    }

    private var logState: RaftEvent.LogState {
        RaftEvent.LogState(
            committed: log.committed, applied: log.applied, applying: log.applying,
            unstableOffset: log.unstable.offset, unstableOffsetInProgress: log.unstable.offsetInProgress,
            unstableCount: log.unstable.count)
    }
}
