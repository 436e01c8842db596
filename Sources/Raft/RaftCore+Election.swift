import Prelude

/// Why a node campaigns. A vote that says `transfer` is granted in spite of a lease.
enum CampaignReason {
    case preElection
    case election
    case transfer

    static let transferContext = Array("CampaignTransfer".utf8)
}

extension RaftCore {
    /// Time to campaign, if this node may.
    mutating func hup() { hup(configuration.preVote ? .preElection : .election) }

    mutating func hup(_ reason: CampaignReason) {
        if role == .leader { return note(.campaignRefused(.isLeader, term)) }
        if !isPromotable { return note(.campaignRefused(.unpromotable, term)) }
        // What is committed may change who has to be asked.
        if log.hasUnappliedConfChange() { return note(.campaignRefused(.unappliedConfChange, term)) }
        note(.electionStarted(term))
        campaign(reason)
    }

    private mutating func campaign(_ reason: CampaignReason) {
        let kind: MessageKind
        let electionTerm: Term
        if reason == .preElection {
            becomePreCandidate()
            kind = .preVote
            electionTerm = term + 1
        } else {
            becomeCandidate()
            kind = .vote
            electionTerm = term
        }
        let last = log.lastPosition
        for voter in members.membership.voters.voters.ids {
            if voter == id {
                // Counts once it is durable.
                send(Message(kind: kind.voteResponse, to: id, term: electionTerm))
            } else {
                note(.voteRequested(kind, of: voter, last: last, term))
                send(
                    Message(
                        kind: kind, to: voter, term: electionTerm, logTerm: last.term, index: last.index,
                        context: reason == .transfer ? CampaignReason.transferContext : commitNews))
            }
        }
    }

    /// Somebody asks for a vote (Raft §5.2, §5.4.1), or whether it would get one.
    mutating func handleVote(_ message: Message) {
        let isPreVote = message.kind == .preVote
        if role != .leader { learnCommit(message.context) }
        let canVote =
            vote == message.from  // again
            || vote == .none && leader == .none
            || isPreVote && message.term > term
        let candidate = LogPosition(term: message.logTerm, index: message.index)
        // A learner votes too: it may be a voter already and not know yet, and then its vote is needed.
        if canVote && (log.isUpToDate(candidate) || hasBug(.votesForStaleLogs)) {
            noteVoteAnswer(message, .granted)
            // In the term of the request: a pre-vote is about a term that is not yet the own.
            send(Message(kind: message.kind.voteResponse, to: message.from, term: message.term))
            if !isPreVote {
                electionElapsed = 0
                vote = message.from
            }
        } else {
            rejectVote(message)
        }
    }

    mutating func rejectVote(_ message: Message) {
        noteVoteAnswer(message, .rejected)
        // A node that begins with a snapshot has a log, and perhaps no term of its own yet.
        let known = max(term, log.lastPosition.term)
        send(
            Message(
                kind: message.kind.voteResponse, to: message.from, term: known, reject: true, context: commitNews))
    }

    /// Index and term of what is committed here: requests for votes and rejections tell it.
    ///
    /// A node that has lost its commit index in a restart may still act on a configuration that was left long ago. It
    /// then asks for the vote of a node that is no voter any more and has a longer log; or it has the longest log, does
    /// not know the voter that it would need, and votes for none of those that know. Nobody else could ever tell it.
    private var commitNews: [UInt8] {
        var news = ByteWriter(capacity: 16)
        news.append(fixed: log.committed.rawValue)
        news.append(fixed: log.termOrZero(at: log.committed).rawValue)
        return news.bytes
    }

    /// An entry that is committed elsewhere and is in the own log is committed here too (Raft §5.3, Log Matching).
    private mutating func learnCommit(_ context: [UInt8]) {
        var reader = ByteReader(context)
        guard context != CampaignReason.transferContext,
            let index = try? reader.fixed64(), let term = try? reader.fixed64(), reader.isAtEnd
        else { return }
        _ = log.maybeCommit(LogPosition(term: Term(term), index: LogIndex(index)))
    }

    mutating func stepCandidate(_ message: Message) throws(RaftError) {
        switch message.kind {
        case .propose:
            note(.proposalDropped(.noLeader, term))
            throw .proposalDropped
        case .timeoutNow:
            note(.timeoutNow(from: message.from, term, role))
        case .append, .heartbeat, .snapshot:
            // Somebody else has won this term.
            becomeFollower(message.term, leader: message.from)
            try stepFollower(message)
        case .voteResponse where role == .candidate, .preVoteResponse where role == .preCandidate:
            poll(message)
        default:
            break
        }
    }

    private mutating func poll(_ message: Message) {
        note(.voteReceived(message.kind, from: message.from, granted: !message.reject, term))
        if votes[message.from] == nil { votes[message.from] = !message.reject }
        note(countedVotes(message.kind))
        if message.reject { learnCommit(message.context) }
        switch members.membership.voters.voteResult({ votes[$0] }) {
        case .pending:
            break
        case .won:
            if role == .preCandidate {
                campaign(.election)
            } else {
                becomeLeader()
                broadcastAppend()
            }
        case .lost:
            // In the own term: a pre-vote's response may name the next one.
            becomeFollower(term, leader: .none)
        }
    }

    private func countedVotes(_ kind: MessageKind) -> RaftEvent {
        // Of those who count now; others may have voted before they were removed.
        let voters = members.progress.ids.filter { members.progress[$0]?.isLearner == false }
        return .votesCounted(
            kind, granted: voters.count { votes[$0] == true }, rejected: voters.count { votes[$0] == false })
    }

    /// A leader that hears from no quorum steps down (Raft dissertation §6.2).
    mutating func checkQuorum() {
        let progress = members.progress
        let isActive =
            members.membership.voters.voteResult { id in
                // A voter that is being added or removed counts as long as it is in one half.
                progress[id].map { $0.isLearner ? nil : $0.recentActive } ?? nil
            } == .won
        if !isActive {
            note(.quorumLost)
            becomeFollower(term, leader: .none)
        }
        for position in 0..<members.progress.count where members.progress.ids[position] != id {
            members.progress[position].recentActive = false
        }
    }
}

extension MessageKind {
    fileprivate var voteResponse: MessageKind { self == .preVote ? .preVoteResponse : .voteResponse }
}
