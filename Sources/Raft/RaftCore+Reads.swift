import Prelude

extension RaftCore {
    /// A read that wants to see all that was committed before it came (Raft §8, dissertation §6.4).
    mutating func handleRead(from reader: NodeID, context: [UInt8]) {
        let read = PendingReads.Read(from: reader, context: context, index: log.committed)
        if hasBug(.readsWithoutQuorum) {
            answer(read)
        } else if log.termOrZero(at: log.committed) != term {
            // Only an entry of its own term tells a leader what its predecessors had committed. That holds for a single
            // voter, too: after a restart it may not remember how far it had committed what it acknowledged.
            if hasRoomForReads { leadership.reads.postpone(read) }
        } else {
            confirm(read)
        }
    }

    private var hasRoomForReads: Bool { leadership.reads.count < configuration.pendingReadCountMax }

    private mutating func confirm(_ read: PendingReads.Read) {
        if members.membership.voters.isSingleton { return answer(read) }
        switch configuration.readOnlyOption {
        case .leaseBased:
            answer(read)
        case .safe:
            guard hasRoomForReads else { return }
            leadership.reads.add(read)
            broadcastHeartbeat()
        }
    }

    mutating func releasePostponedReads() {
        if leadership.reads.postponed.isEmpty || log.termOrZero(at: log.committed) != term { return }
        for var read in leadership.reads.takePostponed() {
            read.index = log.committed
            confirm(read)
        }
    }

    mutating func confirmReads(from member: NodeID, context: [UInt8]) {
        let confirmed = leadership.reads.confirm(
            from: member, context: context, leader: id, quorum: members.membership.voters)
        for read in confirmed { answer(read) }
    }

    /// The quorum has changed, and a smaller one may have confirmed what a larger one had not. A leader that is left
    /// alone hears from nobody any more.
    mutating func recheckReads() {
        let context = leadership.reads.heartbeatContext
        if !context.isEmpty { confirmReads(from: id, context: context) }
    }

    private mutating func answer(_ read: PendingReads.Read) {
        if read.from == .none || read.from == id {
            readStates.append(ReadState(index: read.index, context: read.context))
        } else {
            send(Message(kind: .readIndexResponse, to: read.from, index: read.index, context: read.context))
        }
    }
}
