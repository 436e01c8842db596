import Prelude

/// One member of one group: a core, and the bookkeeping of what it has handed out. Not thread-safe.
///
/// The loop is: feed it (`tick`, `step`, `propose`, …), and while `hasReady`, take a `ready` and do what it says.
public final class RawNode {
    package private(set) var core: RaftCore
    private let asyncStorageWrites: Bool
    private var handedOutSoftState: SoftState
    private var handedOutHardState: HardState
    /// Without asynchronous storage writes: what the node tells itself when a `Ready` is done.
    private var onAdvance: [Message] = []
    private var isAdvancePending = false

    public init(_ configuration: RaftConfiguration, storage: some RaftStorage) throws(RaftError) {
        core = try RaftCore(configuration, storage: storage)
        asyncStorageWrites = configuration.asyncStorageWrites
        handedOutSoftState = core.softState
        handedOutHardState = core.hardState
    }

    // MARK: Input

    /// One tick of the clock has passed.
    public func tick() { core.tick() }

    /// Campaigns now, if this node may: not on a leader, nor on who is no voter.
    public func campaign() throws(RaftError) { try core.step(Message(kind: .hup, from: core.id)) }

    /// Asks for an entry with `data`. Taking it does not mean that it will be committed.
    public func propose(_ data: [UInt8]) throws(RaftError) {
        try core.step(Message(kind: .propose, from: core.id, entries: [Entry(data: data)]))
    }

    /// Asks for entries that follow each other, all or none.
    public func propose(_ batch: [[UInt8]]) throws(RaftError) {
        if batch.isEmpty { return }
        try core.step(Message(kind: .propose, from: core.id, entries: batch.map { Entry(data: $0) }))
    }

    /// Asks for a change of the configuration. A leader that cannot make it now appends an empty entry instead.
    /// `kind` is either of the two kinds for configuration changes; the older one takes a single change only.
    public func proposeConfChange(_ change: ConfChange, kind: EntryKind = .confChangeV2) throws(RaftError) {
        guard kind == .confChangeV2 || kind == .confChange && change.changes.count == 1 else {
            throw .malformedMessage(reason: "an entry of kind \(kind) cannot carry this configuration change")
        }
        try core.step(
            Message(kind: .propose, from: core.id, entries: [Entry(kind: kind, data: change.encoded())]))
    }

    /// To be called when an entry that changes the configuration is applied, in the order of the log. Returns the
    /// configuration from there on. A change that cannot be made, which the log of a correct leader never holds,
    /// changes nothing.
    public func applyConfChange(_ change: ConfChange) -> ConfState { core.applyConfChange(change) }

    /// Handles a message: from another node, or a response of the own storage work.
    public func step(_ message: Message) throws(RaftError) {
        let fromStorage = message.from.isLocalThread
        if message.kind.isLocal && !fromStorage { throw .localMessage }
        if message.kind.isResponse && !fromStorage && !core.members.progress.contains(message.from) {
            throw .unknownPeer
        }
        try core.step(message)
    }

    /// As `step`, for what came over the network: a message that claims to be from this node or from its storage, or
    /// that is not for this node, is refused. The caller has checked that the peer is who `from` says.
    public func stepFromPeer(_ message: Message) throws(RaftError) {
        if message.from.isLocalThread || message.from == core.id { throw .localMessage }
        guard message.to == core.id else {
            throw .malformedMessage(reason: "a message for node \(message.to) came to node \(core.id)")
        }
        try step(message)
    }

    /// Asks for an index to read at: comes back as a `ReadState` with `context`, or not at all, when there is no leader
    /// or messages are lost; then ask again.
    public func readIndex(context: [UInt8]) {
        try? core.step(Message(kind: .readIndex, context: context))
    }

    /// Asks the leader to hand over to `transferee`, which has one election timeout for it.
    public func transferLeadership(to transferee: NodeID) {
        try? core.step(Message(kind: .transferLeader, from: transferee))
    }

    /// A message to this peer could not be sent.
    public func reportUnreachable(_ peer: NodeID) { try? core.step(Message(kind: .unreachable, from: peer)) }

    /// The snapshot for this peer was delivered or, after which another will be sent, was not.
    public func reportSnapshot(_ peer: NodeID, succeeded: Bool) {
        try? core.step(Message(kind: .snapshotStatus, from: peer, reject: !succeeded))
    }

    /// A follower forgets its leader, of whose death it was told, so that it may vote at once. Nothing happens on
    /// others, nor with lease-based reads.
    public func forgetLeader() throws(RaftError) { try core.step(Message(kind: .forgetLeader)) }

    /// Fixes the election timeout until the next change of role or term. For traces.
    package func setRandomizedElectionTicks(_ ticks: Int) { core.randomizedElectionTicks = ticks }

    // MARK: Output

    /// Whether `ready` has anything to say.
    public var hasReady: Bool {
        if !core.messages.isEmpty || !core.messagesAfterAppend.isEmpty { return true }
        if core.log.unstable.hasNextEntries || core.log.hasNextCommittedEntries(allowUnstable: !asyncStorageWrites) {
            return true
        }
        if core.hardState != handedOutHardState || core.softState != handedOutSoftState { return true }
        return core.log.unstable.hasNextSnapshot || !core.readStates.isEmpty
    }

    /// Hands out what is to be done. Without asynchronous storage writes `advance` has to follow before the next.
    public func ready() -> Ready {
        invariant(!isAdvancePending, "advance() comes between two ready()")
        var ready = Ready()
        ready.entries = core.log.unstable.nextEntries()
        ready.committedEntries = core.log.nextCommittedEntries(allowUnstable: !asyncStorageWrites)
        ready.snapshot = core.log.unstable.nextSnapshot
        swap(&ready.messages, &core.messages)
        swap(&ready.readStates, &core.readStates)

        let hardState = core.hardState
        ready.mustSync =
            !ready.entries.isEmpty || hardState.vote != handedOutHardState.vote
            || hardState.term != handedOutHardState.term
        if hardState != handedOutHardState {
            ready.hardState = hardState
            handedOutHardState = hardState
        }
        if core.softState != handedOutSoftState {
            ready.softState = core.softState
            handedOutSoftState = core.softState
        }
        if asyncStorageWrites { addStorageMessages(to: &ready) } else { addMessagesAfterAppend(to: &ready) }

        core.log.acceptUnstable()
        if let last = ready.committedEntries.last {
            core.log.acceptApplying(
                last.index, byteCount: ready.committedEntries.byteCount, allowUnstable: !asyncStorageWrites)
        }
        return ready
    }

    /// What the last `Ready` asked for is done. Not with asynchronous storage writes.
    public func advance() {
        invariant(!asyncStorageWrites, "with asynchronous storage writes their responses take the place of advance()")
        isAdvancePending = false
        var messages: [Message] = []
        swap(&messages, &onAdvance)
        // They come from this node itself, which sends nothing that it would refuse.
        for message in messages { try? core.step(message) }
    }

    private func addMessagesAfterAppend(to ready: inout Ready) {
        isAdvancePending = true
        for message in core.messagesAfterAppend {
            if message.to == core.id { onAdvance.append(message) } else { ready.messages.append(message) }
        }
        core.messagesAfterAppend.removeAll(keepingCapacity: true)
        if let response = storageAppendResponse(to: ready) { onAdvance.append(response) }
        if !ready.committedEntries.isEmpty { onAdvance.append(storageApplyResponse(to: ready)) }
    }

    private func addStorageMessages(to ready: inout Ready) {
        if !ready.entries.isEmpty || ready.hardState != nil || ready.snapshot != nil
            || !core.messagesAfterAppend.isEmpty
        {
            // An absent hard state is all zeros, so that who writes it can tell.
            let hardState = ready.hardState ?? HardState()
            var message = Message(
                kind: .storageAppend, to: .localAppendThread, from: core.id, term: hardState.term,
                entries: ready.entries, commit: hardState.commit, vote: hardState.vote, snapshot: ready.snapshot)
            // The confirmation comes after the leader's acknowledgement of itself, which can then look up the entries
            // where they are fastest to find, in the unstable log.
            swap(&message.responses, &core.messagesAfterAppend)
            if let response = storageAppendResponse(to: ready) { message.responses.append(response) }
            ready.messages.append(message)
        }
        if !ready.committedEntries.isEmpty {
            ready.messages.append(
                Message(
                    kind: .storageApply, to: .localApplyThread, from: core.id, entries: ready.committedEntries,
                    responses: [storageApplyResponse(to: ready)]))
        }
    }

    /// Confirms the end of the log as it is now, and only in the present term.
    ///
    /// A write that is confirmed could otherwise be taken for a later one of the same entry: appended, replaced in a
    /// later term, and then appended again by a third leader while the writes are still under way. So the last position
    /// of the log goes along, and a new one with every `Ready` for as long as there are unconfirmed entries: once a
    /// later term's `Ready` is out, only its own confirmation, which comes after all writes before it, counts.
    private func storageAppendResponse(to ready: Ready) -> Message? {
        if core.log.unstable.isEmpty && ready.snapshot == nil { return nil }
        var message = Message(
            kind: .storageAppendResponse, to: core.id, from: .localAppendThread, term: core.term,
            snapshot: ready.snapshot)
        if !core.log.unstable.isEmpty {
            let last = core.log.lastPosition
            message.index = last.index
            message.logTerm = last.term
        }
        return message
    }

    private func storageApplyResponse(to ready: Ready) -> Message {
        Message(
            kind: .storageApplyResponse, to: core.id, from: .localApplyThread, entries: ready.committedEntries)
    }

    // MARK: Status

    public var id: NodeID { core.id }
    public var role: Role { core.role }
    public var leader: NodeID { core.leader }
    public var term: Term { core.term }
    public var commitIndex: LogIndex { core.log.committed }
    public var appliedIndex: LogIndex { core.log.applied }
    public var lastIndex: LogIndex { core.log.lastIndex }
    public var configuration: ConfState { core.members.membership.confState }

    public var status: RaftStatus {
        let progress = core.members.progress
        return RaftStatus(
            id: core.id, hardState: core.hardState, softState: core.softState, applied: core.log.applied,
            configuration: configuration, transferee: core.leadership.transferee,
            progress: core.role == .leader
                ? progress.ids.indices.map { RaftStatus.PeerProgress(progress.ids[$0], progress[$0]) } : [])
    }
}
