import Logging
import Prelude
import Raft
import Wire

// A full disk refuses commands and lets reads go on; a slow one makes everybody wait who waits for its node. Neither
// should lead while somebody else can. Both are told to the peers with every message, and end by themselves.

/// What a node knows of its own disk and of those of its peers.
struct DiskWatch {
    /// Of the present node, as it was told to the log of events last.
    fileprivate var reported = DiskCondition.inOrder
    /// When the last slow write ended.
    fileprivate var lastSlowWrite: Nanoseconds?
    fileprivate var lookedForSpaceAt: Nanoseconds = 0
    /// Of peers that are not in order, as they last said.
    var peers: [NodeID: DiskCondition] = [:]
    /// Files beside the log that found no room, by what they are.
    fileprivate var full: Set<String> = []
}

extension Node {
    /// Nothing more is accepted until there is room again.
    var isDiskFull: Bool { writes.isWaitingForSpace || durableLog.isShortOfSpace || !disk.full.isEmpty }

    /// Something beside the log, such as a state store, found no room (`isFull`), or has found some again.
    func noteSpace(for user: String, isFull: Bool) {
        if isFull { disk.full.insert(user) } else { disk.full.remove(user) }
    }

    func diskCondition(_ now: Nanoseconds) -> DiskCondition {
        if isDiskFull { return .full }
        if let since = writes.writingSince, now >= since + .milliseconds(limits.node.slowWriteMilliseconds) {
            return .slow
        }
        if let last = disk.lastSlowWrite, now < last + .milliseconds(limits.node.slowDiskMemoryMilliseconds) {
            return .slow
        }
        return .inOrder
    }

    func noteWrite(took time: Nanoseconds) {
        if time >= .milliseconds(limits.node.slowWriteMilliseconds) { disk.lastSlowWrite = seams.clock.now }
    }

    /// What a peer says of its disk. What this version does not know of is no reason to trust it with leading.
    func noteDisk(_ raw: UInt32, of peer: NodeID) {
        let condition = DiskCondition(rawValue: raw) ?? .slow
        if condition == .inOrder {
            if disk.peers[peer] != nil { disk.peers[peer] = nil }
        } else if isMember(peer) {
            disk.peers[peer] = condition
        }
    }

    /// Whether the peer's disk is in order, as far as is known.
    func isFit(_ peer: NodeID) -> Bool { disk.peers[peer] == nil }

    /// Whose full disk keeps a command for `group` from being accepted: this node's or that of the leader, or the first
    /// of those without which there is no majority.
    func fullDisk(of group: RaftGroup) -> NodeID? {
        guard group.isLeader else {
            let condition = disk.peers[group.leader]
            return condition == .full || condition == .fullMajority ? group.leader : nil
        }
        return isDiskFull ? id : neededFullVoter(of: group)
    }

    /// A command that no majority has room for would only use up their reserves.
    private func neededFullVoter(of group: RaftGroup) -> NodeID? {
        guard !disk.peers.isEmpty else { return nil }
        let voters = group.configuration.voters
        let full = voters.filter { disk.peers[$0] == .full }
        return 2 * (voters.count - full.count) > voters.count ? nil : full.min()
    }

    /// What the peers are told: a leader without a majority that has room takes no commands either. Only a disk's own
    /// condition counts towards majorities: two leaders that hear of each other's would otherwise wait for ever.
    func toldDiskCondition(_ now: Nanoseconds) -> DiskCondition {
        let own = diskCondition(now)
        guard own == .inOrder, !disk.peers.isEmpty else { return own }
        return groups.contains { $0.isLeader && neededFullVoter(of: $0) != nil } ? .fullMajority : own
    }

    /// Called a few times a second.
    func watchDisk(_ now: Nanoseconds) {
        let condition = diskCondition(now)
        if condition != disk.reported { report(condition) }
        if now >= disk.lookedForSpaceAt + .milliseconds(limits.node.fullDiskRetryMilliseconds) {
            disk.lookedForSpaceAt = now
            durableLog.lookForSpace()
        }
        guard condition != .inOrder else { return }
        for group in groups where group.isLeader {
            guard let heir = group.heir(where: { isFit($0) }) else { continue }
            group.core.transferLeadership(to: heir)
            requestTurn()
        }
    }

    private func report(_ condition: DiskCondition) {
        disk.reported = condition
        switch condition {
        case .full, .fullMajority: log(.warning, "the disk is full: commands are refused until there is space again")
        case .slow: log(.warning, "the disk is slow: this node leads nothing that another one can lead")
        case .inOrder: log(.notice, "the disk is in order again")
        }
    }
}
