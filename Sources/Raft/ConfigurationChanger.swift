import Prelude

/// A configuration together with the progress of its members: they change as one.
package struct Members: Sendable {
    package var membership = Membership()
    package var progress = ProgressMap()

    package init() {}
}

/// Computes configurations from configurations. Pure: what it is given stays as it is when it throws.
package struct ConfigurationChanger {
    package var members: Members
    /// New members are probed from here: the leader's last index.
    package var lastIndex: LogIndex
    package var inflights: Inflights

    package init(_ members: Members, lastIndex: LogIndex, inflights: Inflights) {
        self.members = members
        self.lastIndex = lastIndex
        self.inflights = inflights
    }

    /// At most one voter comes or goes: any two majorities of the old and the new configuration overlap
    /// (Raft dissertation §4.1).
    package func simple(_ changes: [ConfChangeSingle]) throws(MembershipError) -> Members {
        if members.membership.isJoint { throw .simpleChangeWhileJoint }
        var changed = members
        try apply(changes, to: &changed)
        let before = members.membership.voters.incoming.voters
        let after = changed.membership.voters.incoming.voters
        let differing = before.union(after).ids.count { before.contains($0) != after.contains($0) }
        if differing > 1 { throw .severalVotersWithoutJoint }
        return try changed.checked()
    }

    /// The present voters become the outgoing half; the changes are made to the incoming one (Raft §6).
    package func enterJoint(
        autoLeave: Bool, _ changes: [ConfChangeSingle]
    ) throws(MembershipError) -> Members {
        if members.membership.isJoint { throw .alreadyJoint }
        if members.membership.voters.incoming.voters.isEmpty { throw .zeroVotersCannotBeJoint }
        var changed = members
        changed.membership.voters.outgoing = changed.membership.voters.incoming
        try apply(changes, to: &changed)
        changed.membership.autoLeave = autoLeave
        return try changed.checked()
    }

    /// Drops the outgoing half; its members that have no place in the incoming one are gone.
    package func leaveJoint() throws(MembershipError) -> Members {
        if !members.membership.isJoint { throw .notJoint }
        var changed = members
        for id in changed.membership.learnersNext.ids {
            changed.membership.learners.insert(id)
            changed.progress.setLearner(id, true)
        }
        changed.membership.learnersNext = NodeSet()
        for id in changed.membership.voters.outgoing.voters.ids
        where !changed.membership.voters.incoming.voters.contains(id) && !changed.membership.learners.contains(id) {
            changed.progress.remove(id)
        }
        changed.membership.voters.outgoing = MajorityQuorum()
        changed.membership.autoLeave = false
        return try changed.checked()
    }

    package func apply(_ change: ConfChange) throws(MembershipError) -> Members {
        switch change.course {
        case .simple: try simple(change.changes)
        case .enterJoint(let autoLeave): try enterJoint(autoLeave: autoLeave, change.changes)
        case .leaveJoint: try leaveJoint()
        }
    }

    /// Builds up the configuration that `state` describes from nothing.
    package func restore(_ state: ConfState) throws(MembershipError) -> Members {
        func change(_ kind: ConfChangeSingle.Kind, _ ids: [NodeID]) -> [ConfChangeSingle] {
            ids.map { ConfChangeSingle(kind: kind, node: $0) }
        }
        let incoming = change(.addVoter, state.voters) + change(.addLearner, state.learners + state.learnersNext)
        var changer = self
        changer.members = Members()
        if state.isJoint {
            // The outgoing half is first made the only one, and then turned into the incoming one.
            for step in change(.addVoter, state.votersOutgoing) { changer.members = try changer.simple([step]) }
            changer.members = try changer.enterJoint(
                autoLeave: state.autoLeave, change(.remove, state.votersOutgoing) + incoming)
        } else {
            for step in incoming { changer.members = try changer.simple([step]) }
        }
        if !changer.members.membership.confState.describesSame(as: state) {
            throw .inconsistent("configuration \(state) contradicts itself")
        }
        return changer.members
    }

    // MARK: One change

    private func apply(_ changes: [ConfChangeSingle], to members: inout Members) throws(MembershipError) {
        // Node 0 stands for a change that the application has called off.
        for change in changes where change.node != .none {
            // Messages to these are work for the storage.
            if change.node.isLocalThread { throw .inconsistent("node id \(change.node) is reserved") }
            switch change.kind {
            case .addVoter: makeVoter(change.node, &members)
            case .addLearner: makeLearner(change.node, &members)
            case .remove: remove(change.node, &members)
            case .update: break
            }
        }
        if members.membership.voters.incoming.voters.isEmpty { throw .removedAllVoters }
    }

    private func makeVoter(_ id: NodeID, _ members: inout Members) {
        members.membership.learners.remove(id)
        members.membership.learnersNext.remove(id)
        members.membership.voters.incoming.voters.insert(id)
        if members.progress.contains(id) {
            members.progress.setLearner(id, false)
        } else {
            members.progress.set(id, newProgress(isLearner: false))
        }
    }

    private func makeLearner(_ id: NodeID, _ members: inout Members) {
        guard let progress = members.progress[id] else {
            members.membership.learners.insert(id)
            members.progress.set(id, newProgress(isLearner: true))
            return
        }
        if progress.isLearner { return }
        remove(id, &members)
        members.progress.set(id, progress)
        if members.membership.voters.outgoing.voters.contains(id) {
            members.membership.learnersNext.insert(id)
        } else {
            members.progress.setLearner(id, true)
            members.membership.learners.insert(id)
        }
    }

    private func remove(_ id: NodeID, _ members: inout Members) {
        guard members.progress.contains(id) else { return }
        members.membership.voters.incoming.voters.remove(id)
        members.membership.learners.remove(id)
        members.membership.learnersNext.remove(id)
        if !members.membership.voters.outgoing.voters.contains(id) { members.progress.remove(id) }
    }

    private func newProgress(isLearner: Bool) -> Progress {
        // Counted as active: the check of the quorum comes before it could have answered.
        Progress(next: max(lastIndex, 1), isLearner: isLearner, recentActive: true, inflights: inflights)
    }
}

extension Members {
    /// The rules that every configuration obeys.
    package func checked() throws(MembershipError) -> Members {
        let incoming = membership.voters.incoming.voters
        let outgoing = membership.voters.outgoing.voters
        func check(_ holds: Bool, _ breach: @autoclosure () -> String) throws(MembershipError) {
            if !holds { throw .inconsistent(breach()) }
        }
        for id in incoming.ids + outgoing.ids + membership.learners.ids + membership.learnersNext.ids {
            try check(progress.contains(id), "no progress for \(id)")
        }
        for id in membership.learnersNext.ids {
            try check(outgoing.contains(id), "\(id) is to become a learner, but is no outgoing voter")
            try check(progress[id]?.isLearner == false, "\(id) is to become a learner, but is one already")
        }
        for id in membership.learners.ids {
            try check(!outgoing.contains(id), "\(id) is a learner and an outgoing voter")
            try check(!incoming.contains(id), "\(id) is a learner and a voter")
            try check(progress[id]?.isLearner == true, "\(id) is a learner, but is not marked as one")
        }
        if !membership.isJoint {
            try check(membership.learnersNext.isEmpty, "learners are to come, but the configuration is not joint")
            try check(!membership.autoLeave, "the configuration is to be left, but is not joint")
        }
        return self
    }
}

extension ConfState {
    /// Equal but for the order of the lists.
    func describesSame(as other: ConfState) -> Bool {
        voters.sorted() == other.voters.sorted() && learners.sorted() == other.learners.sorted()
            && votersOutgoing.sorted() == other.votersOutgoing.sorted()
            && learnersNext.sorted() == other.learnersNext.sorted() && autoLeave == other.autoLeave
    }
}
