import Prelude

extension RaftCore {
    /// Entries may be applied before they are durable here when the application does both in one go.
    private var mayApplyUnstable: Bool { !configuration.asyncStorageWrites }

    /// Whether `ready` has anything to say.
    var hasReady: Bool {
        !messages.isEmpty || !messagesAfterAppend.isEmpty || log.unstable.hasNextEntries
            || log.hasNextCommittedEntries(allowUnstable: mayApplyUnstable) || hardState != handedOutHardState
            || softState != handedOutSoftState || log.unstable.hasNextSnapshot || !readStates.isEmpty
    }

    /// See `RawNode.ready`.
    mutating func takeReady(into ready: inout Ready) {
        invariant(!isAdvancePending, "advance() comes between two ready()")
        ready.entries = log.nextUnstableEntries()
        ready.committedEntries = log.nextCommittedEntries(allowUnstable: mayApplyUnstable)
        let snapshot = log.unstable.nextSnapshot
        ready.boxedSnapshot = snapshot
        // The room of what was handed out before serves again.
        if !ready.messages.isEmpty { ready.messages.removeAll(keepingCapacity: true) }
        swap(&ready.messages, &messages)
        if !ready.readStates.isEmpty { ready.readStates.removeAll(keepingCapacity: true) }
        swap(&ready.readStates, &readStates)
        takeChangedState(&ready)
        if configuration.asyncStorageWrites {
            addStorageMessages(to: &ready, snapshot)
        } else {
            addMessagesAfterAppend(to: &ready, snapshot)
        }
        log.acceptUnstable()
        if let last = ready.committedEntries.last {
            log.acceptApplying(
                last.index, byteCount: ready.committedEntries.byteCount, allowUnstable: mayApplyUnstable)
        }
    }

    private mutating func takeChangedState(_ ready: inout Ready) {
        let hardState = hardState
        let before = handedOutHardState
        ready.mustSync = !ready.entries.isEmpty || hardState.vote != before.vote || hardState.term != before.term
        ready.hardState = hardState == before ? nil : hardState
        handedOutHardState = hardState
        let softState = softState
        ready.softState = softState == handedOutSoftState ? nil : softState
        handedOutSoftState = softState
    }

    /// See `RawNode.advance`.
    mutating func advance() {
        invariant(!configuration.asyncStorageWrites, "asynchronous storage writes are confirmed by their responses")
        isAdvancePending = false
        var pending: [Message] = []
        swap(&pending, &onAdvance)
        // They come from this node itself, which sends nothing that it would refuse.
        for message in pending { try? step(message) }
    }

    // MARK: Storage work

    private mutating func addMessagesAfterAppend(to ready: inout Ready, _ snapshot: SnapshotBox?) {
        isAdvancePending = true
        for message in messagesAfterAppend {
            if message.to == id { onAdvance.append(message) } else { ready.messages.append(message) }
        }
        messagesAfterAppend.removeAll(keepingCapacity: true)
        if needsConfirmation(snapshot) { onAdvance.append(storageAppendResponse(snapshot)) }
        if !ready.committedEntries.isEmpty {
            onAdvance.append(contentsOf: storageApply(ready.committedEntries).responses)
        }
    }

    private mutating func addStorageMessages(to ready: inout Ready, _ snapshot: SnapshotBox?) {
        if ready.messages.isEmpty { ready.messages.reserveCapacity(2) }
        if !ready.entries.isEmpty || ready.hardState != nil || snapshot != nil || !messagesAfterAppend.isEmpty {
            ready.messages.append(storageAppend(ready.entries, ready.hardState, snapshot))
        }
        if !ready.committedEntries.isEmpty {
            ready.messages.append(storageApply(ready.committedEntries))
        }
    }

    private mutating func storageAppend(
        _ entries: [Entry], _ changed: HardState?, _ snapshot: SnapshotBox?
    ) -> Message {
        // The confirmation comes after the leader's acknowledgement of itself, which can then look up the entries where
        // they are fastest to find, in the unstable log.
        if needsConfirmation(snapshot) { messagesAfterAppend.append(storageAppendResponse(snapshot)) }
        // An absent hard state is all zeros, so that who writes it can tell.
        let hardState = changed ?? HardState()
        return Message(
            .storageAppend, entries, hardState, snapshot, from: id, responses: takeMessagesAfterAppend())
    }

    private func storageApply(_ entries: [Entry]) -> Message {
        Message(.storageApply, entries, HardState(), nil, from: id, responses: nil)
    }

    private mutating func takeMessagesAfterAppend() -> [Message]? {
        if messagesAfterAppend.isEmpty { return nil }
        var taken: [Message] = []
        swap(&taken, &messagesAfterAppend)
        return taken
    }

    private func needsConfirmation(_ snapshot: SnapshotBox?) -> Bool { !log.unstable.isEmpty || snapshot != nil }

    /// Confirms the end of the log as it is now, and only in the present term.
    ///
    /// A write that is confirmed could otherwise be taken for a later one of the same entry: appended, replaced in a
    /// later term, and then appended again by a third leader while the writes are still under way. So the last position
    /// of the log goes along, and a new one with every `Ready` for as long as there are unconfirmed entries: once a
    /// later term's `Ready` is out, only its own confirmation, which comes after all writes before it, counts.
    private func storageAppendResponse(_ snapshot: SnapshotBox?) -> Message {
        let last = log.unstable.isEmpty ? LogPosition(term: 0, index: 0) : log.lastPosition
        let message = Message(
            kind: .storageAppendResponse, to: id, from: .localAppendThread, term: term, logTerm: last.term,
            index: last.index)
        if let snapshot { return message.with(snapshot) }
        return message
    }
}
