import Prelude

extension RaftCore {
    mutating func stepLeader(_ message: Message) throws(RaftError) {
        switch message.kind {
        case .beat:
            broadcastHeartbeat()
        case .checkQuorum:
            checkQuorum()
        case .propose:
            try propose(message.entries)
        case .readIndex:
            handleRead(from: message.from, context: message.context)
        case .appendResponse, .heartbeatResponse, .snapshotStatus, .unreachable, .transferLeader:
            // These are about one member. Responses of former members are dropped.
            guard let member = members.progress.position(of: message.from) else {
                return note(.noProgress(of: message.from))
            }
            try stepLeader(message, about: member)
        default:
            break
        }
    }

    private mutating func stepLeader(_ message: Message, about member: Int) throws(RaftError) {
        switch message.kind {
        case .appendResponse:
            members.progress[member].recentActive = true
            if message.reject {
                handleRejection(message, of: member)
            } else {
                guard message.index <= log.lastIndex else {
                    throw .malformedMessage(
                        reason: "\(message.from) acknowledges \(message.index), the log ends at \(log.lastIndex)")
                }
                handleAcknowledgement(message, of: member)
            }
        case .heartbeatResponse:
            handleHeartbeatResponse(message, of: member)
        case .snapshotStatus:
            handleSnapshotStatus(of: member, failed: message.reject)
        case .unreachable:
            // An append was probably lost with whatever could not be sent.
            if members.progress[member].state == .replicate { members.progress[member].becomeProbe() }
            note(.unreachable(progressStatus(member)))
        case .transferLeader:
            transferLeadership(to: message.from, member)
        default:
            break
        }
    }

    // MARK: Proposals

    mutating func propose(_ entries: consuming [Entry]) throws(RaftError) {
        // A leader that was removed serves on until its successor is found, but takes nothing new; nor does one that is
        // about to hand over.
        if !members.progress.contains(id) { throw .proposalDropped }
        if leadership.transferee != .none {
            note(.proposalDropped(.transferring(leadership.transferee), term))
            throw .proposalDropped
        }
        for place in entries.indices where entries[place].kind.isConfChange {
            try admitConfChange(&entries[place], at: log.lastIndex + UInt64(place) + 1)
        }
        if !append(entries) { throw .proposalDropped }
        broadcastAppend()
    }

    /// Only one configuration change at a time may be on its way (Raft dissertation §4.1): one that must not be made
    /// now is replaced by an empty entry.
    private mutating func admitConfChange(_ entry: inout Entry, at index: LogIndex) throws(RaftError) {
        let change: ConfChange
        do {
            change = try ConfChange(decoding: entry.data)
        } catch {
            throw .malformedMessage(reason: "configuration change: \(error)")
        }
        if !configuration.disableConfChangeValidation, let reason = refusal(of: change) {
            note(.confChangeRefused(change, members.membership.confState, reason: reason))
            entry = Entry()
        } else {
            leadership.pendingConfIndex = index
        }
    }

    /// Appends entries of the own term, unless the uncommitted tail is too large.
    mutating func append(_ entries: consuming [Entry]) -> Bool {
        let byteCount = entries.payloadByteCount
        let tail = leadership.uncommittedByteCount
        if tail > 0 && byteCount > 0 && tail + byteCount > configuration.uncommittedByteCountMax {
            note(.proposalDropped(.tailTooLarge, term))
            return false
        }
        leadership.uncommittedByteCount = tail + byteCount

        let first = log.lastIndex + 1
        for place in entries.indices {
            entries[place].term = term
            entries[place].index = first + UInt64(place)
        }
        log.append(entries)
        // The own acknowledgement counts once the entries are durable.
        send(Message(kind: .appendResponse, to: id, index: log.lastIndex))
        return true
    }

    // MARK: Responses

    private mutating func handleRejection(_ message: Message, of member: Int) {
        note(
            .rejectionReceived(
                hint: LogPosition(term: message.logTerm, index: message.rejectHint), from: message.from,
                message.index))
        var hint = message.rejectHint
        if message.logTerm > 0 {
            // The follower's term at the hint is known: what is above it here cannot match either. So each side skips
            // all entries of terms that the other does not have, and the search takes a step per term, not per entry.
            hint = log.findConflict(byTerm: message.logTerm, from: hint).index
        }
        guard members.progress[member].maybeDecrease(rejected: message.index, hint: hint) else { return }
        note(.progressDecreased(progressStatus(member)))
        if members.progress[member].state == .replicate { members.progress[member].becomeProbe() }
        sendAppend(to: member)
    }

    private mutating func handleAcknowledgement(_ message: Message, of member: Int) {
        // What is known already still brings a probed follower back to replication.
        guard
            members.progress[member].maybeUpdate(message.index)
                || members.progress[member].match == message.index && members.progress[member].state == .probe
        else { return }
        switch members.progress[member].state {
        case .probe:
            members.progress[member].becomeReplicate()
        case .snapshot:
            // Whichever snapshot it was: if the log can go on from here, it does.
            if members.progress[member].match + 1 >= log.firstIndex {
                note(.recoveredFromSnapshot(progressStatus(member)))
                members.progress[member].becomeProbe()
                members.progress[member].becomeReplicate()
            }
        case .replicate:
            members.progress[member].freeInflights(upTo: message.index)
        }
        let isSelf = message.from == id
        // An acknowledgement of what is committed commits nothing further.
        if message.index > log.committed && maybeCommit() {
            releasePostponedReads()
            broadcastAppend()
        } else if !isSelf && members.progress[member].canBumpCommit(log.committed) {
            // The next heartbeat would tell too, but later.
            sendAppend(to: member)
        }
        if !isSelf {
            // The window may have opened for several messages.
            while maybeSendAppend(to: member, evenIfEmpty: false) {}
        }
        if message.from == leadership.transferee && members.progress[member].match == log.lastIndex {
            note(.transfer(.sentAfterCatchingUp, to: message.from, term))
            send(Message(kind: .timeoutNow, to: message.from))
        }
    }

    private mutating func handleHeartbeatResponse(_ message: Message, of member: Int) {
        members.progress[member].recentActive = true
        members.progress[member].resumeFlow()
        // Also with a full window: an empty append finds out whether all that filled it was lost. And also to a probed
        // follower that has everything, for its acknowledgement brings it back to replication.
        if members.progress[member].match < log.lastIndex || members.progress[member].state == .probe {
            sendAppend(to: member)
        }
        if configuration.readOnlyOption == .safe && !message.context.isEmpty {
            confirmReads(from: message.from, context: message.context)
        }
    }

    private mutating func handleSnapshotStatus(of member: Int, failed: Bool) {
        guard members.progress[member].state == .snapshot else { return }
        if failed { members.progress[member].snapshotFailed() }
        members.progress[member].becomeProbe()
        note(.snapshotReported(progressStatus(member), succeeded: !failed))
        // Wait for the follower to apply it or, if it failed, for the next heartbeat.
        members.progress[member].pauseFlow()
    }

    // MARK: Leadership transfer (Raft dissertation §3.10)

    private mutating func transferLeadership(to transferee: NodeID, _ member: Int) {
        if members.progress[member].isLearner { return note(.transfer(.toLearner, to: transferee, term)) }
        if leadership.transferee != .none {
            let before = leadership.transferee
            if before == transferee { return note(.transfer(.alreadyUnderWay, to: transferee, term)) }
            abortTransfer()
            note(.transfer(.aborted, to: before, term))
        }
        if transferee == id { return note(.transfer(.toSelf, to: transferee, term)) }
        note(.transfer(.started, to: transferee, term))
        // It has one election timeout from now.
        electionElapsed = 0
        leadership.transferee = transferee
        if members.progress[member].match == log.lastIndex {
            send(Message(kind: .timeoutNow, to: transferee))
            note(.transfer(.sentAtOnce, to: transferee, term))
        } else {
            sendAppend(to: member)
        }
    }

    mutating func abortTransfer() { leadership.transferee = .none }
}
