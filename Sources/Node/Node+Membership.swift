import Prelude
import Raft
import Wire
import Workflow

// The directory (group 0) says who is in the cluster. The leader of every group brings the configuration of its group
// there, one change at a time, by looking at what is, not at what happened: a lost change is made on the next look.

extension Node {
    func reconcile(now: Nanoseconds) {
        if isToldRemoved || directory.isRemoved(id) && isReleased(now) { return stop(because: .removed(id)) }
        guard directory.state.protocolLevel <= configuration.protocolLevel else {
            return stop(
                because: .protocolTooOld(known: configuration.protocolLevel, needed: directory.state.protocolLevel))
        }
        announceOneself()
        dropUnseenMembers(now: now)
        forgetFormerMembers(now)
        askWhetherRemoved(now)
        watchDisk(now)
        for group in groups where group.isLeader {
            reconcileConfiguration(of: group, now: now)
        }
        for group in groups where group.machine is WorkflowGroupMachine {
            claimOwnRuns(in: group)
            if group.isLeader { reassignRuns(of: group, now: now) }
        }
    }

    private func reconcileConfiguration(of group: RaftGroup, now: Nanoseconds) {
        guard !group.hasConfChangeUnderWay, !isSettled(group) else { return }
        let changes: [ConfChangeSingle]
        switch plan(for: group, now: now).next {
        case .none: return
        case .handOver(let heir):
            group.core.transferLeadership(to: heir)
            return requestTurn()
        case .change(let wanted): changes = wanted
        }
        do {
            try group.proposeConfChange(changes)
            let text = changes.map { "\($0.kind) \($0.node)" }.joined(separator: ", ")
            log(.info, "changing configuration", ["group": "\(group.id)", "change": "\(text)"])
            requestTurn()
        } catch {
            // A transfer under way or too much that is not committed: the next look tries again.
            log(.debug, "configuration change put off", ["group": "\(group.id)", "reason": "\(error)"])
        }
    }

    private func isSettled(_ group: RaftGroup) -> Bool {
        MembershipPlan.isSettled(
            group.configuration, leader: id, wanted: directory.state.members.map(\.nodeID),
            removed: removedNodeIDs)
    }

    /// With this node itself when it was told so: its own copy of the directory may never hear of it.
    private var removedNodeIDs: [NodeID] { directory.state.removedNodeIDs + (isToldToHandOver ? [id] : []) }

    func plan(for group: RaftGroup, now: Nanoseconds) -> MembershipPlan {
        let members = group.members
        let patience = Nanoseconds.milliseconds(limits.node.silentVoterMilliseconds)
        return MembershipPlan(
            leader: id, wanted: Set(directory.state.members.map(\.nodeID)),
            removed: Set(removedNodeIDs), configuration: group.configuration,
            fresh: Set(members.filter { isFresh($0, now) }),
            caughtUp: Set(members.filter { group.isCaughtUp($0, limits: limits.node) && isAlive($0, now) }),
            // A new leader has heard of nobody yet.
            longSilent: now < group.leadingSince + patience
                ? [] : Set(members.filter { now >= (lastHeard[$0] ?? 0) + patience && $0 != id }),
            voterCountMax: limits.node.voterCountMax)
    }

    /// Heard of a moment ago, by this node. Two seconds, after which a silent node counts as dead, would be too long:
    /// the majority could be gone that a removal relies on.
    func isFresh(_ node: NodeID, _ now: Nanoseconds) -> Bool {
        if node == id { return true }
        guard let heard = lastHeard[node] else { return false }
        let heartbeat = limits.raft.tickMilliseconds * UInt64(limits.raft.heartbeatTicks)
        return now < heard + .milliseconds(limits.node.freshContactHeartbeatCount * heartbeat)
    }

    /// The first group in which too few living voters would stay, as this node, which has to lead group 0, sees it.
    func groupThatWouldStop(without node: NodeID) -> (group: GroupID, forecast: RemovalForecast)? {
        let now = seams.clock.now
        let removed = Set(directory.state.removedNodeIDs)
        for group in groups {
            let forecast = RemovalForecast(group.configuration, removing: node, removed: removed) { isFresh($0, now) }
            if !forecast.keepsQuorum { return (group.id, forecast) }
        }
        return nil
    }

    /// A joiner whose answer was lost, and that never asked again, has left a member that nobody is.
    private func dropUnseenMembers(now: Nanoseconds) {
        guard let group = groups[.directory], group.isLeader else {
            unseenSince = [:]
            return
        }
        let unseen = directory.state.members.filter { member in
            member.protocolLevel == 0 && member.nodeID != id && !isAlive(member.nodeID, now)
                && !groups.contains { $0.configuration.isVoter(member.nodeID) }
        }
        unseenSince = unseenSince.filter { known in unseen.contains { $0.nodeID == known.key } }
        for member in unseen {
            let since = unseenSince[member.nodeID] ?? now
            unseenSince[member.nodeID] = since
            guard now >= since + .milliseconds(limits.node.unseenMemberMilliseconds), group.proposals.count == 0
            else { continue }
            log(.warning, "dropping a member that never came", ["node": "\(member.nodeID)"])
            let removal = DirectoryCommand.Remove(nodeID: member.nodeID)
            propose(DirectoryCommand.remove(removal).encoded(), to: group) { _ in }
        }
    }

    /// The groups go on counting a removed node until their configurations are without it: in a cluster of two nothing
    /// could ever be committed again if it stopped before. Then it stays for a moment, to tell what was committed last.
    /// It may never hear that it is out; so it does not wait for that for ever once no leader speaks to it.
    private func isReleased(_ now: Nanoseconds) -> Bool {
        let isMember = groups.contains { $0.members.contains(id) }
        if groups.contains(where: { $0.isLeader || $0.leader != .none && $0.members.contains(id) }) {
            unneededSince = nil
            return false
        }
        let since = unneededSince ?? now
        unneededSince = since
        let electionTimeout = Nanoseconds.milliseconds(limits.raft.tickMilliseconds) * UInt64(limits.raft.electionTicks)
        return now >= since + (isMember ? 20 : 2) * electionTimeout
    }

    /// A node that was removed while it was away is not spoken to any more. After a while without a leader it asks the
    /// members that it knows, one after the other.
    private func askWhetherRemoved(_ now: Nanoseconds) {
        guard phase == .running, let group = groups[.directory], group.leader == .none, directory.member(id) != nil
        else {
            leaderlessSince = nil
            return
        }
        let since = leaderlessSince ?? now
        leaderlessSince = since
        let pause = Nanoseconds.milliseconds(limits.node.proposalTimeoutMilliseconds)
        guard now >= since + pause, now >= askedWhetherRemovedAt + pause else { return }
        askedWhetherRemovedAt = now
        let others = directory.state.members.filter { $0.nodeID != id }.compactMap { HostPort($0.address) }
        guard let target = others.randomElement(using: &random) else { return }
        let client = NodeClient(
            seams: seams, limits: limits.wire, target: target, random: SeededRandom(seed: random.next()))
        client.call(
            ClusterServicePath.status, ClusterStatusRequest(), ClusterStatusResponse.self,
            timeout: Discovery.attemptTimeout
        ) { [weak self] result in
            client.close()
            guard let self, phase == .running, let answer = try? result.get(), isWithoutUs(answer) else { return }
            // Not here, inside a callback of the connection.
            isToldToHandOver = true
            // With leaders that are none of ours nobody needs our votes.
            isToldRemoved = answer.groups.allSatisfy { $0.leaderNodeID != .none && $0.leaderNodeID != self.id }
        }
    }

    /// Whether a state of the directory that follows the one that has this node has it no more.
    private func isWithoutUs(_ answer: ClusterStatusResponse) -> Bool {
        guard answer.clusterID == clusterID, let group = groups[.directory], group.leader == .none,
            directory.member(id) != nil, let theirs = answer.groups.first(where: { $0.groupID == .directory })
        else { return false }
        return theirs.appliedIndex >= group.appliedIndex && !answer.members.contains { $0.nodeID == id }
    }

    func isMember(_ node: NodeID) -> Bool {
        directory.isMember(node) || groups.contains { $0.members.contains(node) }
    }

    private func forgetFormerMembers(_ now: Nanoseconds) {
        links.retain(idleFor: .milliseconds(limits.node.ownerFailureMilliseconds)) { isMember($0) }
        // Nearly always there is nobody to forget, and looking for whom is cheaper than making the tables anew.
        for (node, _) in lastHeard where !isMember(node) { lastHeard[node] = nil }
        for (node, _) in disk.peers where !isMember(node) { disk.peers[node] = nil }
        for (node, _) in greetedAddresses where !isMember(node) && inboundStreams[node] == nil {
            greetedAddresses[node] = nil
        }
    }

    /// Of members only: who else is heard of could be anybody, and any number.
    func noteHeard(_ node: NodeID) {
        if lastHeard[node] != nil || isMember(node) { lastHeard[node] = seams.clock.now }
    }

    /// Heard of lately, by this node.
    func isAlive(_ node: NodeID, _ now: Nanoseconds) -> Bool {
        if node == id { return true }
        guard let heard = lastHeard[node] else { return false }
        return now < heard + .milliseconds(limits.node.ownerFailureMilliseconds)
    }

    /// A node announces its address and what it knows, once it is there and whenever that has changed.
    private func announceOneself() {
        guard let group = groups[.directory], let member = directory.member(id) else { return }
        let address = advertisedText
        let level = configuration.protocolLevel
        guard member.address != address || member.protocolLevel != level else { return }
        guard group.leader != .none else {
            // Nobody speaks to an address that is no longer ours. A stream that we open tells the new one.
            if member.address != address { greetMembers() }
            return
        }
        guard group.proposals.count == 0 else { return }
        let change = DirectoryCommand.SetAddress(nodeID: id, address: address, protocolLevel: level)
        propose(DirectoryCommand.setAddress(change).encoded(), to: group) { _ in }
    }

    private func greetMembers() {
        for member in directory.state.members where member.nodeID != id {
            if let address = address(of: member.nodeID) { links.greet(member.nodeID, at: address) }
        }
    }

    // MARK: - Losing the leader

    /// A peer's connection to us is gone. When it was the leader's, we do not wait for the election timeout: we forget
    /// it, so that we grant pre-votes, and stand for election after a short random time. Pre-vote makes a false alarm
    /// harmless: whoever still hears the leader refuses.
    func noteLostStream(from peer: NodeID) {
        for group in groups where group.leader == peer && !group.isLeader {
            guard (try? group.core.forgetLeader()) != nil, group.isVoter else { continue }
            let delay = UInt64.random(in: 1...limits.node.suspicionMilliseconds, using: &random)
            _ = seams.clock.schedule(after: .milliseconds(delay)) { [weak self, id = group.id] in
                guard let self, let group = groups[id], phase == .running, group.leader == .none else { return }
                try? group.core.campaign()
                requestTurn()
            }
        }
        requestTurn()
    }
}

extension RaftGroup {
    func isCaughtUp(_ node: NodeID, limits: NodeLimits) -> Bool {
        guard let progress = progress(of: node), progress.recentActive else { return false }
        return progress.match > 0 && progress.match + limits.caughtUpEntryCount >= core.lastIndex
    }
}
