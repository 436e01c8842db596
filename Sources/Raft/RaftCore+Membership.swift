import Prelude

extension RaftCore {
    /// Why a leader does not append this change now; nil when it does.
    func refusal(of change: ConfChange) -> String? {
        let isJoint = members.membership.isJoint
        let leavesJoint = change.changes.isEmpty
        if leadership.pendingConfIndex > log.applied {
            return "possible unapplied conf change at index \(leadership.pendingConfIndex) (applied to \(log.applied))"
        }
        if isJoint && !leavesJoint { return "must transition out of joint config first" }
        if !isJoint && leavesJoint { return "not in joint state; refusing empty conf change" }
        do {
            // All changes are applied, so this is the configuration that it will meet.
            _ = try changer.apply(change)
            return nil
        } catch {
            return "\(error)"
        }
    }

    private var changer: ConfigurationChanger {
        ConfigurationChanger(members, lastIndex: log.lastIndex, inflights: freshInflights)
    }

    /// A committed change is being applied. One that cannot be made changes nothing, on every node alike.
    mutating func applyConfChange(_ change: ConfChange) -> ConfState {
        guard let changed = try? changer.apply(change) else { return members.membership.confState }
        return switchTo(changed)
    }

    @discardableResult
    mutating func switchTo(_ changed: Members) -> ConfState {
        members = changed
        let confState = members.membership.confState
        note(.switchedConfiguration(confState))
        guard role == .leader else { return confState }
        guard let own = members.progress[id], !own.isLearner else {
            if configuration.stepDownOnRemoval { becomeFollower(term, leader: .none) }
            return confState
        }
        if maybeCommit() {
            // A smaller quorum may have what the larger one had not.
            releasePostponedReads()
            broadcastAppend()
        } else {
            // New members need not wait for the next proposal or heartbeat.
            for member in 0..<members.progress.count where members.progress.ids[member] != id {
                _ = maybeSendAppend(to: member, evenIfEmpty: false)
            }
        }
        recheckReads()
        if !members.membership.voters.contains(leadership.transferee) { abortTransfer() }
        return confState
    }
}
