import Prelude

/// One member of one group. Not thread-safe.
///
/// The loop is: feed it (`tick`, `step`, `propose`, …), and while `hasReady`, take a `ready` and do what it says.
public final class RawNode {
    // Without checks of exclusive access, which cost a tenth of the core's time: what the core calls, the storage and the
    // observer, does not call back.
    @exclusivity(unchecked) package private(set) var core: RaftCore

    /// `observer` is told what the core decides, for logs; it must not call back.
    public init(
        _ configuration: RaftConfiguration, storage: some RaftStorage, observer: ((RaftEvent) -> Void)? = nil
    ) throws(RaftError) {
        try configuration.validate()
        core = RaftCore(configuration, storage: storage, observer: observer)
        let (hardState, confState) = storage.initialState()
        try core.recover(hardState, confState)
    }

    // MARK: Input

    /// One tick of the clock has passed.
    public func tick() { core.tick() }

    /// Campaigns now, if this node may: not on a leader, nor on who is no voter.
    public func campaign() throws(RaftError) { try core.step(Message(kind: .hup, from: core.id)) }

    /// Asks for an entry with `data`. Taking it does not mean that it will be committed.
    public func propose(_ data: [UInt8]) throws(RaftError) {
        try core.receiveOwnProposal([Entry(data: data)])
    }

    /// Asks for entries that follow each other, all or none.
    public func propose(_ batch: [[UInt8]]) throws(RaftError) {
        if batch.isEmpty { return }
        try core.receiveOwnProposal(batch.map { Entry(data: $0) })
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
        try core.receive(message)
    }

    /// As `step`, for what came over the network: a message that claims to be from this node or from its storage, or
    /// that is not for this node, is refused. The caller has checked that the peer is who `from` says.
    public func stepFromPeer(_ message: Message) throws(RaftError) {
        try core.receiveFromPeer(message)
    }

    /// What a message to `NodeID.localApplyThread` carries is applied: as `step` of its responses, without making them.
    public func stepApplied(_ message: Message) throws(RaftError) {
        guard message.kind == .storageApply else { throw .localMessage }
        try core.applied(message.entries)
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

    /// A snapshot can be had from the storage, after it could not: whoever waits for one gets it.
    public func snapshotBecameAvailable() { core.sendAwaitedSnapshots() }

    /// Whether a snapshot as of there would take the place of this node's log, as long as nothing else changes that.
    public func needsSnapshot(_ metadata: SnapshotMetadata) -> Bool {
        let position = LogPosition(term: metadata.term, index: metadata.index)
        return metadata.index > core.log.committed && !core.log.matches(position)
            && metadata.confState.contains(core.id)
    }

    /// A snapshot was taken, and is not known to be durable yet.
    public var isRestoring: Bool { core.log.unstable.hasSnapshot }

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
    public var hasReady: Bool { core.hasReady }

    /// Hands out what is to be done. Without asynchronous storage writes `advance` has to follow before the next.
    public func ready() -> Ready {
        var ready = Ready()
        core.takeReady(into: &ready)
        return ready
    }

    /// As `ready()`, in place of what an earlier one said: who takes one after the other into the same variable, and
    /// keeps nothing of it, gives the room of its arrays back.
    public func takeReady(into ready: inout Ready) { core.takeReady(into: &ready) }

    /// What the last `Ready` asked for is done. Not with asynchronous storage writes.
    public func advance() { core.advance() }

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
