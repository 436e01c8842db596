import Prelude

extension RaftCore {
    /// See `RawNode.step`.
    mutating func receive(_ message: Message) throws(RaftError) {
        let fromStorage = message.from.isLocalThread
        if message.kind.isLocal && !fromStorage { throw .localMessage }
        if message.kind.isResponse && !fromStorage && !members.progress.contains(message.from) { throw .unknownPeer }
        try step(message)
    }

    /// See `RawNode.stepFromPeer`.
    mutating func receiveFromPeer(_ message: Message) throws(RaftError) {
        if message.from.isLocalThread || message.from == id { throw .localMessage }
        guard message.to == id else {
            throw .malformedMessage(reason: "a message for node \(message.to) came to node \(id)")
        }
        try receive(message)
    }

    /// Handles a proposal of this node: as a message of it would be, but a leader takes the entries as they are.
    mutating func receiveOwnProposal(_ entries: consuming [Entry]) throws(RaftError) {
        if role == .leader && !entries.isEmpty { return try propose(entries) }
        try step(Message(kind: .propose, from: id, entries: entries))
    }

    /// Handles one message. The term comes first (Raft §5.1), and then it is the role's turn.
    mutating func step(_ message: Message) throws(RaftError) {
        let isOwn = message.from == id || message.from.isLocalThread
        try message.validate(isOwn: isOwn)
        guard admitTerm(of: message) else { return }
        switch message.kind {
        case .hup:
            hup()
        case .storageAppendResponse:
            if message.index != 0 {
                confirmStable(LogPosition(term: message.logTerm, index: message.index))
            }
            if let snapshot = message.snapshot { try appliedSnapshot(snapshot) }
        case .storageApplyResponse:
            try applied(message.entries)
        case .vote, .preVote:
            handleVote(message)
        default:
            switch role {
            case .follower: try stepFollower(message)
            case .candidate, .preCandidate: try stepCandidate(message)
            case .leader: try stepLeader(message)
            }
        }
    }

    /// Takes over a higher term; answers or drops what is of a lower one. False when the message has been dealt with.
    private mutating func admitTerm(of message: Message) -> Bool {
        if message.term == 0 || message.term == term { return true }
        if message.term < term {
            if message.kind == .append && hasBug(.ignoresTermOnAppend) { return true }
            handleLowerTerm(message)
            return false
        }
        switch message.kind {
        case .vote, .preVote:
            // Raft dissertation §4.2.3: whoever hears from a leader neither raises its term nor votes, unless the
            // leader itself asked for the election.
            let forced = message.context == CampaignReason.transferContext
            let inLease =
                configuration.checkQuorum && leader != .none && electionElapsed < configuration.electionTicks
            if inLease && !forced {
                let ticks = configuration.electionTicks - electionElapsed
                noteVoteAnswer(message, .ignored(leaseTicks: ticks))
                return false
            }
            if message.kind == .vote {
                noteHigherTerm(message)
                becomeFollower(message.term, leader: .none)
            }
        case .preVoteResponse where !message.reject:
            // Names the term that the election would have. The own term is raised when there are enough of them.
            break
        case .append, .heartbeat, .snapshot:
            noteHigherTerm(message)
            becomeFollower(message.term, leader: message.from)
        default:
            noteHigherTerm(message)
            becomeFollower(message.term, leader: .none)
        }
        return true
    }

    private func noteHigherTerm(_ message: Message) {
        note(.higherTerm(message.kind, from: message.from, message.term, own: term))
    }

    private func noteLowerTerm(_ message: Message) {
        note(.lowerTermIgnored(message.kind, from: message.from, message.term, own: term))
    }

    func noteVoteAnswer(_ message: Message, _ answer: RaftEvent.VoteAnswer) {
        note(
            .voteAnswered(
                message.kind, to: message.from, answer,
                candidate: LogPosition(term: message.logTerm, index: message.index), own: log.lastPosition,
                hardState))
    }

    private mutating func handleLowerTerm(_ message: Message) {
        switch message.kind {
        case .heartbeat, .append:
            // With leases or pre-votes nobody else would tell a leader that came back from isolation, or a follower
            // with a higher term that cannot win, that its peer has another term: this response does.
            if configuration.checkQuorum || configuration.preVote {
                send(Message(kind: .appendResponse, to: message.from))
            } else {
                noteLowerTerm(message)
            }
        case .preVote:
            // Dropped, it could leave a candidate with a higher term but a shorter log waiting for ever.
            rejectVote(message)
        case .storageAppendResponse:
            // The entries may have been replaced in a later term and written again; a snapshot is good in any term.
            if message.index != 0 { noteLowerTerm(message) }
            if let snapshot = message.snapshot { try? appliedSnapshot(snapshot) }
        default:
            noteLowerTerm(message)
        }
    }

    // MARK: Completed storage work

    private mutating func confirmStable(_ position: LogPosition) {
        switch log.stableTo(position) {
        case .stable: break
        case .missing: note(.stableIgnored(position, .missing))
        case .matchedSnapshot: note(.stableIgnored(position, .matchedSnapshot))
        case .replacedMeanwhile(let term): note(.stableIgnored(position, .replacedMeanwhile(term)))
        }
    }

    private mutating func appliedSnapshot(_ snapshot: Snapshot) throws(RaftError) {
        let index = snapshot.metadata.index
        guard index <= log.committed else {
            throw .malformedMessage(reason: "snapshot \(index) was stored but never received")
        }
        log.stableSnapshotTo(index)
        applied(to: max(index, log.applied), byteCount: 0)
    }

    mutating func applied(_ entries: [Entry]) throws(RaftError) {
        guard let last = entries.last else { return }
        guard last.index <= log.applying else {
            throw .malformedMessage(reason: "entry \(last.index) was applied but never handed out")
        }
        applied(to: max(last.index, log.applied), byteCount: entries.byteCount)
        if leadership.uncommittedByteCount == 0 { return }
        leadership.uncommittedByteCount -= min(leadership.uncommittedByteCount, entries.payloadByteCount)
    }

    private mutating func applied(to index: LogIndex, byteCount: UInt64) {
        log.appliedTo(index, byteCount: byteCount)
        if members.membership.autoLeave && index >= leadership.pendingConfIndex && role == .leader {
            // An entry without data is never too large. It is dropped while leadership is being transferred; then the
            // next applied entry, or the next leader, tries again.
            do {
                try propose([Entry(kind: .confChangeV2)])
                note(.leavingJointConfiguration(members.membership.confState))
            } catch {}
        }
    }
}

extension Message {
    /// Far above every real number, and so far below the largest that sums do not overflow. A power of two.
    private static let numberEnd: UInt64 = 1 << 62

    /// Refuses what no correct node sends, so that the rest of the core need not think of it.
    fileprivate func validate(isOwn: Bool) throws(RaftError) {
        if !isOwn { try validateNumbers() }
        switch kind {
        case .append:
            try validateTerm()
            try validateEntries()
        case .snapshot:
            try validateTerm()
            try validateSnapshot()
        case .propose:
            if entries.isEmpty { throw .malformedMessage(reason: "a proposal without entries") }
        case .vote, .preVote, .appendResponse, .voteResponse, .preVoteResponse, .heartbeat, .heartbeatResponse,
            .timeoutNow, .readIndexResponse:
            try validateTerm()
        case .hup, .beat, .unreachable, .snapshotStatus, .checkQuorum, .transferLeader, .readIndex, .storageAppend,
            .storageAppendResponse, .storageApply, .storageApplyResponse, .forgetLeader:
            break
        }
    }

    private func validateNumbers() throws(RaftError) {
        // All at once: below a power of two is what has none of the bits from there on.
        let all = term.rawValue | logTerm.rawValue | index.rawValue | commit.rawValue | rejectHint.rawValue
        if all < Message.numberEnd { return }
        let largest = max(term.rawValue, logTerm.rawValue, index.rawValue, commit.rawValue, rejectHint.rawValue)
        throw .malformedMessage(reason: "number \(largest) is too large")
    }

    private func validateTerm() throws(RaftError) {
        if term == 0 { throw .malformedMessage(reason: "\(kind) without a term") }
        if from == .none { throw .malformedMessage(reason: "\(kind) without a sender") }
    }

    private func validateEntries() throws(RaftError) {
        var previous = LogPosition(term: logTerm, index: index)
        for entry in entries {
            guard entry.index == previous.index + 1, entry.term >= previous.term, entry.term <= term else {
                throw .malformedMessage(
                    reason:
                        "entry \(entry.term)/\(entry.index) after \(previous.term)/\(previous.index) in term \(term)")
            }
            previous = entry.position
        }
    }

    private func validateSnapshot() throws(RaftError) {
        guard let metadata = snapshot?.metadata, metadata.index != 0 else {
            throw .malformedMessage(reason: "a snapshot message without a snapshot")
        }
        guard metadata.index.rawValue < Message.numberEnd, metadata.term <= term else {
            throw .malformedMessage(reason: "snapshot \(metadata.term)/\(metadata.index) in term \(term)")
        }
    }
}
