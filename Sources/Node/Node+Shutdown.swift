import Prelude
import Raft
import Wire

extension Node {
    /// Leaves in order: no new calls, leadership handed over, calls under way finished, all within `grace`.
    /// Nil: the configured grace.
    public func shutdown(grace: Nanoseconds? = nil) async {
        guard phase == .running else { return }
        phase = .draining
        let deadline = seams.clock.now + (grace ?? .milliseconds(limits.node.shutdownGraceMilliseconds))
        listener.close()
        resultWaiters.failAll()
        health.leave()
        var isDrained = false
        server.drain(grace: deadline - seams.clock.now) { isDrained = true }
        handOverLeadership()
        await wait(until: deadline) { [unowned self] in
            groups.allSatisfy { !$0.isLeader || $0.heir == nil } && server.openCallCount <= inboundStreams.count
        }
        // Only the peers' own streams are left; they would never end by themselves.
        for (_, stream) in inboundStreams {
            stream.finish(GRPCStatus(code: .unavailable, message: "node \(id) is shutting down"))
        }
        // The answers of the last calls are still on their way, and peers are told of the end; who does not listen
        // any more is not waited for long.
        let farewell = min(deadline, seams.clock.now + .milliseconds(limits.node.farewellMilliseconds))
        await wait(until: deadline) { [unowned self] in
            isDrained || server.openCallCount == 0 && seams.clock.now >= farewell
        }
        await withCheckedContinuation { continuation in close { continuation.resume() } }
    }

    func handOverLeadership() {
        for group in groups where group.isLeader {
            guard let heir = group.heir(where: { isFit($0) }) ?? group.heir else { continue }
            group.core.transferLeadership(to: heir)
        }
        requestTurn()
    }

    /// Waits until `condition` holds or `deadline` passes; looks once a turn, and turns come at least once a tick.
    func wait(until deadline: Nanoseconds, _ condition: @escaping () -> Bool) async {
        if condition() || phase == .stopped { return }
        await withCheckedContinuation { continuation in
            conditionWaiters.append(
                ConditionWaiter(deadline: deadline, condition: condition, resume: { continuation.resume() }))
            requestTurn()
        }
    }

    func resumeConditionWaiters(now: Nanoseconds) {
        guard !conditionWaiters.isEmpty else { return }
        let done = conditionWaiters.filter { phase == .stopped || now >= $0.deadline || $0.condition() }
        guard !done.isEmpty else { return }
        conditionWaiters.removeAll { waiter in done.contains { $0 === waiter } }
        for waiter in done { waiter.resume() }
    }
}

final class ConditionWaiter {
    let deadline: Nanoseconds
    let condition: () -> Bool
    let resume: () -> Void

    init(deadline: Nanoseconds, condition: @escaping () -> Bool, resume: @escaping () -> Void) {
        self.deadline = deadline
        self.condition = condition
        self.resume = resume
    }
}

extension RaftGroup {
    /// The voter that is best fit to lead after this node.
    var heir: NodeID? { heir { _ in true } }

    /// The voter that is best fit among those that `isFit` names.
    func heir(where isFit: (NodeID) -> Bool) -> NodeID? {
        let candidates = core.status.progress.filter {
            $0.id != core.id && $0.recentActive && configuration.voters.contains($0.id) && isFit($0.id)
        }
        return candidates.max { ($0.match, $1.id) < ($1.match, $0.id) }?.id
    }
}
