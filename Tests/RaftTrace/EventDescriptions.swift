import Prelude
import Raft

extension RaftEvent {
    /// The log line of a trace; nil for what traces do not tell.
    func line(of id: NodeID) -> (level: TraceLevel, text: String)? {
        electionLine(id.hexadecimal) ?? logLine(id.hexadecimal) ?? replicationLine(id.hexadecimal)
            ?? proposalLine(id.hexadecimal)
    }

    private func electionLine(_ id: String) -> (TraceLevel, String)? {
        switch self {
        case .started(let voters, let state, let applied, let last):
            let peers = voters.map(\.hexadecimal).joined(separator: ",")
            return (
                .info,
                "newRaft \(id) [peers: [\(peers)], term: \(state.term), commit: \(state.commit), applied: \(applied), "
                    + "lastindex: \(last.index), lastterm: \(last.term)]"
            )
        case .switchedConfiguration(let state):
            return (.info, "\(id) switched to configuration \(state.configurationText)")
        case .becameFollower(let term): return (.info, "\(id) became follower at term \(term)")
        case .becamePreCandidate(let term): return (.info, "\(id) became pre-candidate at term \(term)")
        case .becameCandidate(let term): return (.info, "\(id) became candidate at term \(term)")
        case .becameLeader(let term): return (.info, "\(id) became leader at term \(term)")
        case .electionStarted(let term): return (.info, "\(id) is starting a new election at term \(term)")
        case .campaignRefused(.isLeader, _): return (.debug, "\(id) ignoring MsgHup because already leader")
        case .campaignRefused(.unpromotable, _): return (.warn, "\(id) is unpromotable and can not campaign")
        case .campaignRefused(.unappliedConfChange, let term):
            return (
                .warn,
                "\(id) cannot campaign at term \(term) since there are still pending configuration changes to apply"
            )
        case .voteRequested(let kind, let voter, let last, let term):
            return (
                .info,
                "\(id) [logterm: \(last.term), index: \(last.index)] sent \(kind.text) request to "
                    + "\(voter.hexadecimal) at term \(term)"
            )
        case .voteReceived(let kind, let voter, let granted, let term):
            let what = granted ? kind.text : kind.text + " rejection"
            return (.info, "\(id) received \(what) from \(voter.hexadecimal) at term \(term)")
        case .votesCounted(let kind, let granted, let rejected):
            return (.info, "\(id) has received \(granted) \(kind.text) votes and \(rejected) vote rejections")
        case .voteAnswered(let kind, let candidate, let answer, let last, let own, let state):
            let what =
                switch answer {
                case .granted: "cast \(kind.text) for"
                case .rejected: "rejected \(kind.text) from"
                case .ignored: "ignored \(kind.text) from"
                }
            var text =
                "\(id) [logterm: \(own.term), index: \(own.index), vote: \(state.vote.hexadecimal)] \(what) "
                + "\(candidate.hexadecimal) [logterm: \(last.term), index: \(last.index)] at term \(state.term)"
            if case .ignored(let ticks) = answer { text += ": lease is not expired (remaining ticks: \(ticks))" }
            return (.info, text)
        case .quorumLost: return (.warn, "\(id) stepped down to follower since quorum is not active")
        case .timeoutNow(let leader, let term, .follower):
            return (
                .info,
                "\(id) [term \(term)] received MsgTimeoutNow from \(leader.hexadecimal) and starts an election to get "
                    + "leadership."
            )
        case .timeoutNow(let leader, let term, let role):
            return (
                .debug, "\(id) [term \(term) state \(role.text)] ignored MsgTimeoutNow from \(leader.hexadecimal)"
            )
        case .forgotLeader(let leader, let term):
            return (.info, "\(id) forgetting leader \(leader.hexadecimal) at term \(term)")
        case .forgettingLeaderRefused: return (.error, "ignoring MsgForgetLeader due to ReadOnlyLeaseBased")
        case .higherTerm(let kind, let from, let term, let own):
            return (
                .info,
                "\(id) [term: \(own)] received a \(kind.text) message with higher term from \(from.hexadecimal) "
                    + "[term: \(term)]"
            )
        case .lowerTermIgnored(.storageAppendResponse, _, let term, let own):
            return (
                .info,
                "\(id) [term: \(own)] ignored entry appends from a MsgStorageAppendResp message with lower term "
                    + "[term: \(term)]"
            )
        case .lowerTermIgnored(let kind, let from, let term, let own):
            return (
                .info,
                "\(id) [term: \(own)] ignored a \(kind.text) message with lower term from \(from.hexadecimal) "
                    + "[term: \(term)]"
            )
        default: return nil
        }
    }

    private func logLine(_ id: String) -> (TraceLevel, String)? {
        switch self {
        case .conflictFound(let index, let existing, let replacing):
            return (
                .info,
                "found conflict at index \(index) [existing term: \(existing), conflicting term: \(replacing)]"
            )
        case .unstableReplaced(let from): return (.info, "replace the unstable entries from index \(from)")
        case .unstableTruncated(let from): return (.info, "truncate the unstable entries before index \(from)")
        case .stableIgnored(let position, .missing):
            return (.info, "entry at index \(position.index) missing from unstable log; ignoring")
        case .stableIgnored(let position, .matchedSnapshot):
            return (.info, "entry at index \(position.index) matched unstable snapshot; ignoring")
        case .stableIgnored(let position, .replacedMeanwhile(let term)):
            return (
                .info,
                "entry at (index,term)=(\(position.index),\(position.term)) mismatched with entry at "
                    + "(\(position.index),\(term)) in unstable log; ignoring"
            )
        case .appendRejected(let own, let previous, let from):
            return (
                .debug,
                "\(id) [logterm: \(own.term), index: \(own.index)] rejected MsgApp [logterm: \(previous.term), "
                    + "index: \(previous.index)] from \(from.hexadecimal)"
            )
        case .snapshotRestoreStarted(let log, let snapshot):
            return (
                .info,
                "log [committed=\(log.committed), applied=\(log.applied), applying=\(log.applying), "
                    + "unstable.offset=\(log.unstableOffset), "
                    + "unstable.offsetInProgress=\(log.unstableOffsetInProgress), "
                    + "len(unstable.Entries)=\(log.unstableCount)] starts to restore snapshot \(snapshot.text)"
            )
        case .snapshotFastForwarded(let commit, let last, let snapshot):
            return (.info, "\(id) \(extent(commit, last)) fast-forwarded commit to snapshot \(snapshot.text)")
        case .snapshotInstalled(let commit, let last, let snapshot):
            return (.info, "\(id) \(extent(commit, last)) restored snapshot \(snapshot.text)")
        case .snapshotHandled(let restored, let commit, let snapshot):
            return (
                .info, "\(id) [commit: \(commit)] \(restored ? "restored" : "ignored") snapshot \(snapshot.text)"
            )
        case .snapshotNotForThisNode(let state):
            return (
                .warn,
                "\(id) attempted to restore snapshot but it is not in the ConfState \(state.text); should never happen"
            )
        default: return nil
        }
    }

    private func extent(_ commit: LogIndex, _ last: LogPosition) -> String {
        "[commit: \(commit), lastindex: \(last.index), lastterm: \(last.term)]"
    }

    private func replicationLine(_ id: String) -> (TraceLevel, String)? {
        switch self {
        case .noProgress(let peer): return (.debug, "\(id) no progress available for \(peer.hexadecimal)")
        case .rejectionReceived(let hint, let from, let index):
            return (
                .debug,
                "\(id) received MsgAppResp(rejected, hint: (index \(hint.index), term \(hint.term))) from "
                    + "\(from.hexadecimal) for index \(index)"
            )
        case .progressDecreased(let peer):
            return (.debug, "\(id) decreased progress of \(peer.id.hexadecimal) to [\(peer.text)]")
        case .unreachable(let peer):
            return (
                .debug,
                "\(id) failed to send message to \(peer.id.hexadecimal) because it is unreachable [\(peer.text)]"
            )
        case .snapshotSent(let peer, let snapshot, let first, let commit):
            return (
                .debug,
                "\(id) [firstindex: \(first), commit: \(commit)] sent snapshot[index: \(snapshot.index), term: "
                    + "\(snapshot.term)] to \(peer.id.hexadecimal) [\(peer.text)]"
            )
        case .snapshotNotSent(let peer, .inactive):
            return (.debug, "ignore sending snapshot to \(peer.hexadecimal) since it is not recently active")
        case .snapshotNotSent(let peer, .unavailable):
            return (
                .debug,
                "\(id) failed to send snapshot to \(peer.hexadecimal) because snapshot is temporarily unavailable"
            )
        case .replicationPaused(let peer):
            return (
                .debug, "\(id) paused sending replication messages to \(peer.id.hexadecimal) [\(peer.text)]"
            )
        case .recoveredFromSnapshot(let peer):
            return (
                .debug,
                "\(id) recovered from needing snapshot, resumed sending replication messages to "
                    + "\(peer.id.hexadecimal) [\(peer.text)]"
            )
        case .snapshotReported(let peer, let succeeded):
            return (
                .debug,
                "\(id) snapshot \(succeeded ? "succeeded" : "failed"), resumed sending replication messages to "
                    + "\(peer.id.hexadecimal) [\(peer.text)]"
            )
        case .transfer(let step, let to, let term): return transferLine(id, step, to.hexadecimal, term)
        default: return nil
        }
    }

    private func transferLine(
        _ id: String, _ step: TransferStep, _ to: String, _ term: Term
    ) -> (TraceLevel, String) {
        switch step {
        case .started: (.info, "\(id) [term \(term)] starts to transfer leadership to \(to)")
        case .sentAtOnce:
            (.info, "\(id) sends MsgTimeoutNow to \(to) immediately as \(to) already has up-to-date log")
        case .sentAfterCatchingUp: (.info, "\(id) sent MsgTimeoutNow to \(to) after received MsgAppResp")
        case .aborted: (.info, "\(id) [term \(term)] abort previous transferring leadership to \(to)")
        case .alreadyUnderWay:
            (
                .info,
                "\(id) [term \(term)] transfer leadership to \(to) is in progress, ignores request to same node \(to)"
            )
        case .toLearner: (.debug, "\(id) is learner. Ignored transferring leadership")
        case .toSelf: (.debug, "\(id) is already leader. Ignored transferring leadership to self")
        }
    }

    private func proposalLine(_ id: String) -> (TraceLevel, String)? {
        switch self {
        case .proposalDropped(.noLeader, let term):
            return (.info, "\(id) no leader at term \(term); dropping proposal")
        case .proposalDropped(.notForwarded(let leader), let term):
            return (
                .info,
                "\(id) not forwarding to leader \(leader.hexadecimal) at term \(term); dropping proposal"
            )
        case .proposalDropped(.transferring(let to), let term):
            return (
                .debug,
                "\(id) [term \(term)] transfer leadership to \(to.hexadecimal) is in progress; dropping proposal"
            )
        case .proposalDropped(.tailTooLarge, _):
            return (
                .warn,
                "\(id) appending new entries to log would exceed uncommitted entry size limit; dropping proposal"
            )
        case .droppedWithoutLeader(let kind, let term):
            let what = kind == .readIndex ? "index reading" : "leader transfer"
            return (.info, "\(id) no leader at term \(term); dropping \(what) msg")
        case .confChangeRefused(let change, let state, let reason):
            return (
                .info, "\(id) ignoring conf change \(change.text) at config \(state.configurationText): \(reason)"
            )
        case .leavingJointConfiguration(let state):
            return (
                .info, "initiating automatic transition out of joint configuration \(state.configurationText)"
            )
        default: return nil
        }
    }
}

extension SnapshotMetadata {
    fileprivate var text: String { "[index: \(index), term: \(term)]" }
}

extension ConfChange {
    fileprivate var text: String {
        let transitionText =
            switch transition {
            case .auto: "ConfChangeTransitionAuto"
            case .jointImplicit: "ConfChangeTransitionJointImplicit"
            case .jointExplicit: "ConfChangeTransitionJointExplicit"
            }
        let changesText = changes.map { change in
            let kindText =
                switch change.kind {
                case .addVoter: "ConfChangeAddNode"
                case .remove: "ConfChangeRemoveNode"
                case .update: "ConfChangeUpdateNode"
                case .addLearner: "ConfChangeAddLearnerNode"
                }
            return " changes:{type:\(kindText) node_id:\(change.node)}"
        }
        return "transition:\(transitionText)" + changesText.joined()
    }
}
