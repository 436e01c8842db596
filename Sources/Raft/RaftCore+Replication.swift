import Prelude

extension RaftCore {
    /// To all other members, with what each of them lacks.
    mutating func broadcastAppend() {
        for member in 0..<members.progress.count where members.progress.ids[member] != id { sendAppend(to: member) }
    }

    /// Even if there is nothing to append: the message carries the commit index.
    mutating func sendAppend(to member: Int) { _ = maybeSendAppend(to: member, evenIfEmpty: true) }

    /// False when nothing was sent: the flow is paused, or there was nothing to send.
    mutating func maybeSendAppend(to member: Int, evenIfEmpty: Bool) -> Bool {
        // Stored properties only: whatever else is asked of an element copies it.
        let state = members.progress[member].state
        if state == .snapshot || members.progress[member].isFlowPaused { return false }
        let next = members.progress[member].next
        let entries: [Entry]
        let previousTerm: Term
        do {
            previousTerm = try log.term(at: next - 1)
            // With a full window only the commit index goes out, see `handleHeartbeatResponse`.
            let isFull = state == .replicate && members.progress[member].inflights.isFull
            entries = isFull ? [] : try log.entries(from: next, byteCountMax: configuration.messageByteCountMax)
        } catch {
            // Compacted: only a snapshot helps.
            return maybeSendSnapshot(to: member)
        }
        if entries.isEmpty && !evenIfEmpty { return false }
        send(
            Message(
                kind: .append, to: members.progress.ids[member], logTerm: previousTerm, index: next - 1,
                entries: entries, commit: log.committed))
        members.progress[member].sent(entries.count, byteCount: entries.payloadByteCount, commit: log.committed)
        return true
    }

    /// To members whose next entry is compacted.
    mutating func sendAwaitedSnapshots() {
        guard role == .leader else { return }
        for member in 0..<members.progress.count where members.progress.ids[member] != id {
            guard members.progress[member].state == .probe, members.progress[member].next < log.firstIndex else {
                continue
            }
            members.progress[member].resumeFlow()
            sendAppend(to: member)
        }
    }

    private mutating func maybeSendSnapshot(to member: Int) -> Bool {
        // A snapshot is too large to be sent to who may not be there.
        let receiver = members.progress.ids[member]
        guard members.progress[member].recentActive else {
            note(.snapshotNotSent(to: receiver, .inactive))
            return false
        }
        guard let snapshot = try? log.snapshot() else {
            note(.snapshotNotSent(to: receiver, .unavailable))
            return false
        }
        invariant(!snapshot.isEmpty, "what is compacted is in a snapshot")
        // Who is not in the snapshot's configuration would refuse it. The application makes a newer one.
        guard snapshot.metadata.confState.contains(receiver) else {
            note(.snapshotNotSent(to: receiver, .outdatedConfiguration))
            return false
        }
        note(
            .snapshotSent(
                progressStatus(member), snapshot.metadata, firstIndex: log.firstIndex, commit: log.committed))
        members.progress[member].becomeSnapshot(at: snapshot.metadata.index)
        note(.replicationPaused(progressStatus(member)))
        send(Message(kind: .snapshot, to: receiver, snapshot: snapshot))
        return true
    }

    mutating func broadcastHeartbeat() {
        let context = leadership.reads.heartbeatContext
        for member in 0..<members.progress.count where members.progress.ids[member] != id {
            // Not beyond what is known to be there, so that the follower can follow without asking.
            let commit = min(members.progress[member].match, log.committed)
            send(
                Message(kind: .heartbeat, to: members.progress.ids[member], commit: commit, context: context))
            members.progress[member].sentCommit(commit)
        }
    }

    mutating func maybeCommit() -> Bool {
        let index = members.membership.voters.committedIndex { members.progress.match(of: $0) }
        if hasBug(.commitsOlderTermByCount) {
            return log.maybeCommit(LogPosition(term: log.termOrZero(at: index), index: index))
        }
        return log.maybeCommit(LogPosition(term: term, index: index))
    }
}
