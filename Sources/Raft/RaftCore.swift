import Prelude

/// The consensus of one node: messages and ticks in, messages out. It reads the stable log through `RaftStorage` and
/// touches nothing else.
///
/// The extensions hold the parts: `+Step` terms and dispatch, `+Election`, `+Follower`, `+Leader`, `+Replication`,
/// `+Membership`, `+Reads`, `+Ready` what is handed out.
package struct RaftCore: ~Copyable {
    let configuration: RaftConfiguration
    package let id: NodeID
    private let observer: ((RaftEvent) -> Void)?

    package internal(set) var term: Term = 0
    package internal(set) var vote: NodeID = .none
    package internal(set) var leader: NodeID = .none
    package internal(set) var role = Role.follower
    package internal(set) var log: RaftLog
    package internal(set) var members = Members()

    /// To be sent at once.
    var messages: [Message] = []
    /// To be sent, or delivered to this node itself, once everything before is stable.
    var messagesAfterAppend: [Message] = []
    var readStates: [ReadState] = []

    // What the last `Ready` said, see `+Ready`.
    var handedOutSoftState = SoftState(leader: .none, role: .follower)
    var handedOutHardState = HardState()
    /// Without asynchronous storage writes: what the node tells itself when a `Ready` is done.
    var onAdvance: [Message] = []
    var isAdvancePending = false

    var votes: [NodeID: Bool] = [:]
    var leadership = Leadership()

    var random: SeededRandom
    /// Ticks since the last sign of a leader or granted vote or, on a leader, since the last check of the quorum.
    var electionElapsed = 0
    var heartbeatElapsed = 0
    var randomizedElectionTicks = 0

    /// What only a leader has; begins anew with every change of role or term.
    struct Leadership {
        var transferee = NodeID.none
        /// The newest entry that may be a configuration change: no other is taken until it is applied.
        var pendingConfIndex: LogIndex = 0
        /// An estimate from below of the data appended and not yet applied.
        var uncommittedByteCount: UInt64 = 0
        var reads = PendingReads()
    }

    /// Begins with nothing; `recover` follows. The configuration is valid.
    init(
        _ configuration: RaftConfiguration, storage: any RaftStorage, observer: ((RaftEvent) -> Void)?
    ) {
        self.configuration = configuration
        self.observer = observer
        id = configuration.id
        random = configuration.random
        log = RaftLog(storage: storage, applyingByteCountMax: configuration.committedByteCountPerReadyMax)
    }

    /// Takes over what is stored.
    mutating func recover(_ hardState: HardState, _ confState: ConfState) throws(RaftError) {
        do {
            let changer = ConfigurationChanger(Members(), lastIndex: log.lastIndex, inflights: freshInflights)
            switchTo(try changer.restore(confState))
        } catch {
            throw .invalidConfiguration(reason: "stored configuration: \(error)")
        }
        term = hardState.term
        vote = hasBug(.forgetsVoteOnRestart) ? .none : hardState.vote
        // What was applied or compacted was committed, even if the commit index was not stored in time.
        let committed = max(hardState.commit, configuration.applied, log.committed)
        guard committed <= log.lastIndex else {
            throw .invalidConfiguration(
                reason: "entries up to \(committed) were committed, but the stored log ends at \(log.lastIndex)")
        }
        log.restoreCommitted(committed)
        if configuration.applied > 0 {
            guard configuration.applied >= log.applied else {
                throw .invalidConfiguration(
                    reason: "applied index \(configuration.applied) is below \(log.applied), what was compacted")
            }
            log.appliedTo(configuration.applied, byteCount: 0)
        }
        becomeFollower(term, leader: .none)
        handedOutSoftState = softState
        handedOutHardState = self.hardState
        note(
            .started(
                voters: members.membership.voters.voters.ids, self.hardState, applied: log.applied,
                last: log.lastPosition))
    }

    /// Events are made only for who listens.
    func note(_ event: @autoclosure () -> RaftEvent) {
        if let observer { observer(event()) }
    }

    func progressStatus(_ member: Int) -> RaftStatus.PeerProgress {
        RaftStatus.PeerProgress(members.progress.ids[member], members.progress[member])
    }

    func hasBug(_ bug: PlantedBugs) -> Bool { configuration.plantedBugs.contains(bug) }

    var freshInflights: Inflights {
        Inflights(
            countMax: configuration.inflightMessageCountMax, byteCountMax: configuration.inflightByteCountMax)
    }

    package var hardState: HardState { HardState(term: term, vote: vote, commit: log.committed) }
    package var softState: SoftState { SoftState(leader: leader, role: role) }

    /// Whether this node may campaign: it is a voter, and what it knows of the configuration is applied.
    var isPromotable: Bool {
        guard let own = members.progress.position(of: id) else { return false }
        return !members.progress[own].isLearner && !log.unstable.hasSnapshot
    }

    // MARK: Time

    mutating func tick() {
        if role == .leader { tickLeader() } else { tickElection() }
    }

    private mutating func tickElection() {
        electionElapsed += 1
        if isPromotable && electionElapsed >= randomizedElectionTicks {
            electionElapsed = 0
            hup()
        }
    }

    private mutating func tickLeader() {
        heartbeatElapsed += 1
        electionElapsed += 1
        if electionElapsed >= configuration.electionTicks {
            electionElapsed = 0
            if configuration.checkQuorum { checkQuorum() }
            // A transfer that took this long has failed.
            if role == .leader { abortTransfer() }
        }
        if role == .leader && heartbeatElapsed >= configuration.heartbeatTicks {
            heartbeatElapsed = 0
            broadcastHeartbeat()
        }
    }

    // MARK: Roles

    /// What every change of role or term begins with.
    mutating func reset(_ newTerm: Term) {
        if term != newTerm {
            term = newTerm
            vote = .none
        }
        leader = .none
        electionElapsed = 0
        heartbeatElapsed = 0
        randomizedElectionTicks =
            configuration.electionTicks + Int(random.next() % UInt64(configuration.electionTicks))
        votes.removeAll()
        leadership = Leadership()

        if hasBug(.keepsProgressOnLeadership) { return }
        let last = log.lastIndex
        for position in 0..<members.progress.count {
            let isSelf = members.progress.ids[position] == id
            members.progress[position] = Progress(
                match: isSelf ? last : 0, next: last + 1, isLearner: members.progress[position].isLearner,
                recentActive: false, inflights: freshInflights)
        }
    }

    mutating func becomeFollower(_ newTerm: Term, leader newLeader: NodeID) {
        reset(newTerm)
        leader = newLeader
        role = .follower
        note(.becameFollower(term))
    }

    mutating func becomeCandidate() {
        invariant(role != .leader, "a leader does not become a candidate")
        reset(term + 1)
        vote = id
        role = .candidate
        note(.becameCandidate(term))
    }

    /// Changes neither the term nor the vote: only the answers to come do.
    mutating func becomePreCandidate() {
        invariant(role != .leader, "a leader does not become a pre-candidate")
        votes.removeAll()
        leader = .none
        role = .preCandidate
        note(.becamePreCandidate(term))
    }

    mutating func becomeLeader() {
        invariant(role == .candidate, "only an elected candidate becomes a leader")
        reset(term)
        leader = id
        role = .leader
        if let own = members.progress.position(of: id) {
            members.progress[own].becomeReplicate()
            members.progress[own].recentActive = true
        }
        // There may be a configuration change in the tail that is not applied yet. Waiting for the whole tail is
        // cheaper than looking for it.
        leadership.pendingConfIndex = log.lastIndex
        // Raft §8: a leader commits an entry of its own term to find out what is committed.
        let accepted = append([Entry()])
        invariant(accepted, "an entry without data is always accepted")
        note(.becameLeader(term))
    }

    // MARK: Sending

    /// Fills in the sender and, for all that has one, the term.
    mutating func send(_ message: consuming Message) {
        if message.from == .none { message.from = id }
        switch message.kind {
        case .vote, .voteResponse, .preVote, .preVoteResponse:
            // These name the term they are about, which is not always the own.
            invariant(message.term != 0, "votes have a term")
        case .propose, .readIndex:
            message.term = 0
        default:
            message.term = term
        }
        switch message.kind {
        case .appendResponse where hasBug(.acknowledgesBeforeDurable) && message.to != id:
            messages.append(message)
        case .appendResponse, .voteResponse, .preVoteResponse:
            // These promise that something is durable.
            if messagesAfterAppend.isEmpty { messagesAfterAppend.reserveCapacity(4) }
            messagesAfterAppend.append(message)
        default:
            invariant(message.to != id, "only what waits for the storage is sent to oneself")
            // Room for one to each member, and two for the storage.
            if messages.isEmpty { messages.reserveCapacity(members.progress.count + 2) }
            messages.append(message)
        }
    }
}
