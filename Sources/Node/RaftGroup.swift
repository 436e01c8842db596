import Prelude
@_spi(Planted) import Raft
import Storage
import Wire
import Workflow

/// One Raft group on this node: the core, its log in memory, its machine, and who waits for them.
///
/// Does no I/O: the node collects what is to be sent and written from `takeTurn`, and tells when it is durable.
final class RaftGroup {
    let id: GroupID
    let core: RawNode
    let log: MemoryStorage
    let machine: any ReplicatedMachine
    private let node: NodeID
    private let incarnation: Incarnation
    private let limits: Limits

    var proposals = PendingProposals()
    var reads = PendingReads()

    /// Far above what any node sends.
    private static let contextByteCountMax = 256

    /// Ownership changes that this node proposed and that are not yet applied.
    var claimsUnderWay: Set<RunID> = []
    var timersUnderWay = 0

    /// For the simulator and its tests.
    var observer: (any NodeObserver)? {
        didSet {
            // What was found on disk may be more than an earlier life had heard of.
            guard let term = try? log.term(at: log.lastIndex), log.lastIndex > 0 else { return }
            observer?.durable(node: node, group: id, index: log.lastIndex, term: term)
        }
    }
    var plantedBugs: NodePlantedBugs = []
    var plantedClock: (any Clock)?

    private(set) var configuration: ConfState
    private(set) var appliedIndex: LogIndex
    private(set) var appliedTerm: Term
    /// Over index, term and data of all applied entries: equal on all nodes at the same applied index.
    private(set) var appliedDigest: UInt64
    /// Of what this turn applies.
    private var turnEntryCount: UInt64 = 0
    private var turnByteCount: UInt64 = 0
    /// Of the newest batch for the state store, written or under way.
    private var storedIndex: LogIndex
    /// Data of the entries applied since.
    private var unstoredByteCount: UInt64 = 0
    /// The end of the log that this life began with.
    private let recoveredEnd: LogIndex
    /// What the core has been told to take, until the log says that it restarts after it.
    private(set) var incoming: IncomingState?
    /// Makes the snapshot that a follower is sent; nil as long as there is none.
    var onSnapshotWanted: (RaftGroup) -> Snapshot? = { _ in nil }
    private(set) var leadingSince: Nanoseconds = 0
    private var knownLeader: NodeID = .none
    private var knownTerm: Term = 0
    private var queuedVote = HardState()
    private var confChangeUnderWay: (term: Term, index: LogIndex)?
    private var spareReady = Ready()
    private var spareOutput = Output()

    /// What the node is to do for this group.
    struct Output {
        var messages: [Message] = []
        var writes: [Message] = []
        var effects: [Effect] = []
        var answers: [CallerAnswer] = []
        var configurationChanged = false

        /// Keeps the room of what is made anew in every turn.
        mutating func removeAll() {
            messages.removeAll(keepingCapacity: true)
            writes.removeAll(keepingCapacity: true)
            if !effects.isEmpty { effects = [] }
            if !answers.isEmpty { answers = [] }
            configurationChanged = false
        }
    }

    init(
        id: GroupID, node: NodeID, incarnation: Incarnation, recovered: GroupRecovery, machine: any ReplicatedMachine,
        limits: Limits, random: SeededRandom, plantedCoreBugs: PlantedBugs = []
    ) throws(NodeError) {
        self.id = id
        self.node = node
        self.incarnation = incarnation
        self.limits = limits
        self.machine = machine
        log = MemoryStorage()
        configuration = recovered.snapshot?.metadata.confState ?? ConfState()
        appliedIndex = recovered.snapshot?.metadata.index ?? 0
        appliedTerm = recovered.snapshot?.metadata.term ?? 0
        storedIndex = appliedIndex
        appliedDigest = 0
        do {
            if let snapshot = recovered.snapshot {
                if let stored = recovered.stored {
                    appliedDigest = stored.head.digest
                    try machine.restore(stored)
                } else {
                    let content = try GroupSnapshot(decoding: snapshot.data)
                    appliedDigest = content.digest
                    try machine.restore(content.machine)
                }
                try log.applySnapshot(Snapshot(metadata: snapshot.metadata, data: []))
            }
            log.append(recovered.entries)
            recoveredEnd = log.lastIndex
            log.setHardState(recovered.hardState)
            queuedVote = recovered.hardState
            var configuration = RaftConfiguration(
                id: node, applied: appliedIndex, limits: limits.raft, random: random)
            configuration.plantedBugs = plantedCoreBugs
            core = try RawNode(configuration, storage: log)
        } catch {
            throw .cannotRestore(group: id, reason: "\(error)")
        }
        log.snapshotSource = { [unowned self] in onSnapshotWanted(self) }
    }

    var isLeader: Bool { core.role == .leader }
    var leader: NodeID { core.leader }
    var isVoter: Bool { configuration.isVoter(node) }
    var members: [NodeID] {
        let all = configuration.voters + configuration.votersOutgoing + configuration.learners
        return Set(all + configuration.learnersNext).sorted()
    }

    // MARK: - In

    func tick(now: Nanoseconds) -> [CallerAnswer] {
        core.tick()
        proposals.proposeAgain(
            proposedBefore: now &- min(now, .milliseconds(limits.node.proposalRetryMilliseconds)), countMax: 1024)
        let expiredProposals = proposals.expire(now: now)
        let expiredReads = reads.expire(now: now)
        if expiredProposals.isEmpty, expiredReads.isEmpty { return [] }
        let reason = leader == .none ? "the group has no leader" : "no answer from the leader, node \(leader)"
        return expiredProposals.map { .command($0, .failure(.outcomeUnknown(reason))) }
            + expiredReads.map { .read($0, .failure(.notConfirmed(reason))) }
    }

    /// Hands waiting proposals to Raft, which appends them here or forwards them to the leader.
    func propose(now: Nanoseconds, wallMilliseconds: Int64) {
        while proposals.hasUnproposed, leader != .none {
            let batch = proposals.nextBatch(byteCountMax: limits.raft.messageByteCountMax, now: now)
            guard !batch.isEmpty else { return }
            var data = batch.map(\.data)
            if isLeader {
                for place in data.indices {
                    ProposalEnvelope.stamp(&data[place], timeMilliseconds: wallMilliseconds)
                }
            }
            do {
                try core.propose(data)
            } catch {
                // No leader after all, a transfer under way, or too much that is not committed: later.
                proposals.giveBack(batch)
                return
            }
        }
    }

    func askForReads(now: Nanoseconds) {
        guard leader != .none else { return }
        let retryAfter = Nanoseconds.milliseconds(limits.node.readRetryMilliseconds)
        guard let sequence = reads.nextQuestion(now: now, retryAfter: retryAfter) else { return }
        var context = ByteWriter(capacity: 24)
        context.append(fixed: node.rawValue)
        context.append(fixed: incarnation.rawValue)
        context.append(fixed: sequence)
        core.readIndex(context: context.bytes)
    }

    /// A message from a peer. Anything in it may be wrong; the core refuses what it cannot use.
    func step(_ message: Message, wallMilliseconds: Int64) {
        // The context of a read stays on the leader until the read is confirmed.
        guard message.context.count <= Self.contextByteCountMax else { return }
        var message = message
        if message.kind == .propose {
            // A forwarded proposal is for the leader; its sender proposes again when it hears of another one.
            guard isLeader, message.entries.allSatisfy(isProposable) else { return }
            for place in message.entries.indices {
                ProposalEnvelope.stamp(&message.entries[place].data, timeMilliseconds: wallMilliseconds)
            }
        }
        // A refusal (unknown peer, no leader, …) leaves the state as it was, and the protocol repeats what matters.
        try? core.stepFromPeer(message)
    }

    /// What nodes forward are commands, no larger than they take them. Changes of the configuration are the leader's own.
    private func isProposable(_ entry: Entry) -> Bool {
        entry.kind == .normal && entry.data.count <= ProposalEnvelope.byteCount + limits.node.commandByteCountMax
    }

    /// One change at a time: the core would turn a second one into an empty entry.
    func proposeConfChange(_ changes: [ConfChangeSingle]) throws(RaftError) {
        try core.proposeConfChange(ConfChange(changes: changes))
        confChangeUnderWay = (core.term, core.lastIndex)
    }

    var hasConfChangeUnderWay: Bool {
        guard let (term, index) = confChangeUnderWay else { return false }
        return core.term == term && appliedIndex < index
    }

    func progress(of node: NodeID) -> RaftStatus.PeerProgress? { core.status.progress.first { $0.id == node } }

    // MARK: - Out

    /// The Readies of one turn. With more to apply than a turn may, the core has more of them for the next one.
    func takeTurn(now: Nanoseconds, _ carryOut: (Output) throws -> Void) rethrows {
        turnEntryCount = 0
        turnByteCount = 0
        while core.hasReady, !hasAppliedItsShare {
            // Their room serves again.
            var (ready, output) = (Ready(), Output())
            swap(&ready, &spareReady)
            swap(&output, &spareOutput)
            collect(&ready, &output, now: now)
            try carryOut(output)
            ready.entries = []
            ready.committedEntries = []
            output.removeAll()
            swap(&ready, &spareReady)
            swap(&output, &spareOutput)
        }
    }

    private var hasAppliedItsShare: Bool {
        turnEntryCount >= limits.node.appliedEntryCountPerTurnMax
            || turnByteCount >= limits.node.appliedByteCountPerTurnMax
    }

    /// One Ready of the core. The committed entries in it are applied at once: the machine is memory only.
    private func collect(_ ready: inout Ready, _ output: inout Output, now: Nanoseconds) {
        core.takeReady(into: &ready)
        for state in ready.readStates { confirmRead(state) }
        for place in ready.messages.indices {
            // Moved out, not copied.
            var message = Message(kind: .hup)
            swap(&message, &ready.messages[place])
            switch message.to {
            case .localAppendThread: output.writes.append(consume message)
            case .localApplyThread: apply(message, &output)
            default: output.messages.append(consume message)
            }
        }
        for completion in reads.takeReady(applied: appliedIndex) {
            output.answers.append(.read(completion, .success(())))
        }
        noteLeader(now: now)
    }

    /// Proposals may have been lost with the old leader, or with an old term of the same one.
    private func noteLeader(now: Nanoseconds) {
        guard core.leader != knownLeader || core.term != knownTerm else { return }
        if core.leader == node, knownLeader != node || core.term != knownTerm { leadingSince = now }
        knownLeader = core.leader
        knownTerm = core.term
        if knownLeader != .none {
            proposals.proposeAllAgain()
            reads.askAgain()
        }
    }

    private func confirmRead(_ state: ReadState) {
        var reader = ByteReader(state.context)
        guard let asker = try? reader.fixed64(), let life = try? reader.fixed64(), let sequence = try? reader.fixed64(),
            asker == node.rawValue, life == incarnation.rawValue
        else { return }
        reads.confirm(sequence, index: state.index)
    }

    private func apply(_ message: Message, _ output: inout Output) {
        turnEntryCount += UInt64(message.entries.count)
        for entry in message.entries {
            invariant(entry.index == appliedIndex + 1, "entries are applied in order, each once")
            let before = (configuration: configuration, effectCount: output.effects.count)
            apply(entry, &output)
            appliedIndex = entry.index
            appliedTerm = entry.term
            unstoredByteCount += UInt64(entry.data.count)
            turnByteCount += UInt64(entry.data.count)
            appliedDigest = AppliedDigest.extend(appliedDigest, with: entry)
            if let observer {
                observer.applied(
                    AppliedObservation(
                        node: node, group: id, entry: entry, digest: appliedDigest,
                        effects: Array(output.effects[before.effectCount...]), configuration: before.configuration,
                        machine: workflowMachine))
            }
        }
        do throws(RaftError) {
            try core.stepApplied(message)
        } catch {
            invariantBroken("the core takes what it handed out to be applied: \(error)")
        }
    }

    private func apply(_ entry: Entry, _ output: inout Output) {
        switch entry.kind {
        case .normal: applyNormal(entry, &output)
        case .confChange, .confChangeV2:
            let change = (try? ConfChange(decoding: entry.data)) ?? ConfChange(changes: [])
            configuration = core.applyConfChange(change)
            output.configurationChanged = true
        }
    }

    private func applyNormal(_ entry: Entry, _ output: inout Output) {
        // A new leader's first entry is empty.
        guard !entry.data.isEmpty, let envelope = try? ProposalEnvelope(decoding: entry.data) else { return }
        let time = plantedClock?.wallMilliseconds ?? envelope.timeMilliseconds
        let place = AppliedEntry(group: id, index: entry.index, timeMilliseconds: time, origin: envelope.origin)
        let (result, effects) = machine.apply(envelope.payload, place)
        output.effects.append(contentsOf: effects)
        guard envelope.origin.node == node, envelope.origin.incarnation == incarnation,
            let completion = proposals.complete(envelope.origin.sequence)
        else { return }
        output.answers.append(.command(completion, .success(result)))
    }

    // MARK: - Durability

    /// A commit index alone is found again after a crash and needs no write of its own. Responses promise entries,
    /// terms and votes, and never a commit index.
    func changesOnlyCommit(_ message: Message) -> Bool {
        var isSame = true
        if let hardState = message.hardStateToWrite {
            isSame = hardState.term == queuedVote.term && hardState.vote == queuedVote.vote
            queuedVote = hardState
        }
        return isSame && message.entries.isEmpty && message.snapshot == nil
    }

    /// What the message asked to write is on disk: Raft may build on it, and the responses may leave.
    /// Returns those that go to other nodes.
    func written(_ message: Message) throws(NodeError) -> [Message] {
        if let snapshot = message.snapshot { try install(snapshot) }
        log.append(message.entries)
        if let hardState = message.hardStateToWrite { log.setHardState(hardState) }
        if let observer {
            if let snapshot = message.snapshot?.metadata {
                observer.durable(node: node, group: id, index: snapshot.index, term: snapshot.term)
                observer.installed(node: node, group: id, index: snapshot.index, digest: appliedDigest)
            }
            if let last = message.entries.last {
                observer.durable(node: node, group: id, index: last.index, term: last.term)
            }
        }
        for response in message.responses where response.to == node { stepOwn(response) }
        return message.responses.filter { $0.to != node }
    }

    private func stepOwn(_ response: Message) {
        do throws(RaftError) {
            try core.step(response)
        } catch .unknownPeer {
            // This node is no longer in its own configuration: its acknowledgement counts for nothing.
        } catch {
            invariantBroken("the core takes its own responses: \(error)")
        }
    }

    /// Steps a snapshot whose state is here and durable. False when the core has no use for it.
    func step(_ message: Message, with state: IncomingState) -> Bool {
        incoming = state
        try? core.stepFromPeer(message)
        if core.isRestoring { return true }
        incoming = nil
        return false
    }

    private func install(_ snapshot: Snapshot) throws(NodeError) {
        guard let state = incoming, state.metadata == snapshot.metadata else {
            throw .cannotRestore(group: id, reason: "the state at index \(snapshot.metadata.index) is not here")
        }
        incoming = nil
        do {
            if !plantedBugs.contains(.skipsRestoringSnapshots) { machine.take(state.machine) }
            try log.applySnapshot(Snapshot(metadata: snapshot.metadata, data: []))
        } catch {
            throw .cannotRestore(group: id, reason: "\(error)")
        }
        appliedDigest = state.digest
        configuration = snapshot.metadata.confState
        appliedIndex = snapshot.metadata.index
        appliedTerm = snapshot.metadata.term
        // Its file becomes the state store.
        storedIndex = appliedIndex
        unstoredByteCount = 0
        // The snapshot may hold what we proposed: the machine tells a repetition from the first time.
        proposals.proposeAllAgain()
    }

    // MARK: - The state store

    private var appliedMetadata: SnapshotMetadata {
        SnapshotMetadata(index: appliedIndex, term: appliedTerm, confState: configuration)
    }

    private var storeEntryCount: UInt64 {
        let count = limits.node.storeEntryCount
        return storedIndex < recoveredEnd ? min(count, limits.node.replayedStoreEntryCount) : count
    }

    var wantsStoring: Bool {
        appliedIndex - storedIndex >= storeEntryCount
            || unstoredByteCount >= limits.node.storeByteCount
    }

    /// What changed since the batch before is held in memory until the next one is taken: no more may come.
    var isAheadOfStore: Bool {
        appliedIndex - storedIndex >= limits.node.unstoredEntryCountMax
            || unstoredByteCount >= limits.node.unstoredByteCountMax
    }

    /// What brings the state store from the last batch up to the applied index.
    func takeBatch() -> StateBatch {
        storedIndex = appliedIndex
        unstoredByteCount = 0
        var batch = StateBatch(head: StateHead(metadata: appliedMetadata, digest: appliedDigest))
        machine.fill(&batch)
        return batch
    }

    /// The state store reaches to `index`: the log before it may go, but for what slow followers may still need
    /// (`keepsEntries`), and for what comes after an image that somebody is fetching (`held`). Returns the index up to
    /// which it went.
    func noteStored(upTo index: LogIndex, keepsEntries: Bool, held: LogIndex?) -> LogIndex? {
        // A snapshot may have been installed meanwhile, and the log begins after it.
        guard index >= log.firstIndex else { return nil }
        let kept = keepsEntries ? limits.node.keptEntryCount : 0
        var end = log.compactionEnd(before: index, countMax: kept, byteCountMax: limits.node.keptByteCount)
        if let held, held < end {
            let heldCount = min(index - held, limits.node.imageHeldEntryCountMax)
            end = min(
                end,
                log.compactionEnd(
                    before: index, countMax: heldCount, byteCountMax: limits.node.imageHeldByteCountMax))
        }
        guard end >= log.firstIndex, (try? log.compact(to: end)) != nil else { return nil }
        return end
    }
}

/// What an image that came from another node holds.
struct IncomingState {
    var metadata: SnapshotMetadata
    var digest: UInt64
    var machine: PreparedState
    /// Durable, beside the state store.
    var path: String
}

/// The data of the snapshot that a cluster begins with: the digest of all entries up to it, and the machine.
struct GroupSnapshot {
    private static let version: UInt8 = 1
    var digest: UInt64
    var machine: [UInt8]

    init(digest: UInt64, machine: [UInt8]) {
        self.digest = digest
        self.machine = machine
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: machine.count + 16)
        writer.append(Self.version)
        writer.append(fixed: digest)
        writer.append(string: machine)
        return writer.bytes
    }

    init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        guard try reader.byte() == Self.version else {
            throw MalformedBytes(offset: 0, expected: "group snapshot version \(Self.version)")
        }
        digest = try reader.fixed64()
        machine = try reader.string()
        try reader.end()
    }
}

/// Over index, term, kind and data, continued from entry to entry: tells states apart, and withstands no adversary.
enum AppliedDigest {
    static func extend(_ digest: UInt64, with entry: Entry) -> UInt64 {
        var hash = digest ^ 0xCBF2_9CE4_8422_2325
        func mix(_ word: UInt64) {
            hash = (hash ^ word) &* 0x9E37_79B9_7F4A_7C15
            hash ^= hash >> 32
        }
        mix(entry.index.rawValue)
        mix(entry.term.rawValue)
        mix(UInt64(entry.kind.rawValue) << 56 | UInt64(entry.data.count))
        entry.data.withUnsafeBytes { bytes in
            var place = 0
            while place + 8 <= bytes.count {
                mix(UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: place, as: UInt64.self)))
                place += 8
            }
            var rest: UInt64 = 0
            for byte in bytes[place...] { rest = rest << 8 | UInt64(byte) }
            mix(rest)
        }
        return hash
    }
}

extension RaftConfiguration {
    init(id: NodeID, applied: LogIndex, limits: RaftLimits, random: SeededRandom) {
        self.init(id: id, electionTicks: limits.electionTicks, heartbeatTicks: limits.heartbeatTicks, random: random)
        self.applied = applied
        asyncStorageWrites = true
        messageByteCountMax = limits.messageByteCountMax
        committedByteCountPerReadyMax = limits.committedByteCountPerReadyMax
        uncommittedByteCountMax = limits.uncommittedByteCountMax
        inflightMessageCountMax = limits.inflightMessageCountMax
        inflightByteCountMax = limits.inflightByteCountMax
        checkQuorum = true
        preVote = true
        stepDownOnRemoval = true
    }
}

extension Message {
    /// A storage message carries a hard state when any of its three numbers is set.
    var hardStateToWrite: HardState? {
        let state = HardState(term: term, vote: vote, commit: commit)
        return state.isEmpty ? nil : state
    }

    /// Of a storage message without entries: its hard state, if it has one.
    var withoutResponses: Message? {
        guard hardStateToWrite != nil else { return nil }
        var message = self
        message.responses = []
        return message
    }

    /// Of a storage message without entries: its responses, if it has any.
    var withoutHardState: Message? {
        guard !responses.isEmpty else { return nil }
        var message = self
        (message.term, message.vote, message.commit) = (0, .none, 0)
        return message
    }
}

/// What the data directory held for a group.
struct GroupRecovery {
    /// Without data when the state store has it.
    var snapshot: Snapshot?
    var stored: StoredState?
    var hardState = HardState()
    var entries: [Entry] = []
}
