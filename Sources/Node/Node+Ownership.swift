import Prelude
import Raft
import Wire
import Workflow

// Who executes which run. Like the membership, this is brought about by looking at what is: a run whose owner is gone
// gets another one, a run that this node owns from an earlier life is claimed for this one.

extension Node {
    func perform(_ effects: [Effect], of group: RaftGroup) {
        runtimes[group.id]?.handle(effects)
        for effect in effects {
            switch effect {
            case .ended(let run): resultWaiters.runEnded(run)
            case .ownerChanged: reconcileAt = 0
            default: continue
            }
        }
    }

    /// Runs that this node owned in an earlier life, or that the leader handed to it, become this life's by a new epoch:
    /// whatever the earlier life still has under way is refused from then on.
    func claimOwnRuns(in group: RaftGroup) {
        guard group.leader != .none, phase == .running, !directory.isRemoved(id), let machine = group.workflowMachine
        else { return }
        guard group.claimsUnderWay.count < limits.node.claimBatchCountMax else { return }
        let unclaimed = machine.runs(ownedBy: id, except: incarnation, limit: limits.node.claimBatchCountMax)
        for run in unclaimed where !group.claimsUnderWay.contains(run.id) {
            changeOwner(of: run, to: id, incarnation: incarnation, reason: .nodeFailure, in: group)
        }
    }

    /// The leader hands the runs of nodes that it does not hear of to those that it does.
    func reassignRuns(of group: RaftGroup, now: Nanoseconds) {
        guard phase == .running, let machine = group.workflowMachine else { return }
        // A new leader has to hear of everybody first.
        guard now >= group.leadingSince + .milliseconds(limits.node.ownerFailureMilliseconds) else { return }
        let alive = directory.state.members.map(\.nodeID).filter { isAlive($0, now) }
        guard !alive.isEmpty else { return }
        for owner in machine.owners where !alive.contains(owner) {
            guard group.claimsUnderWay.count < limits.node.claimBatchCountMax else { return }
            for run in machine.runs(ownedBy: owner, limit: limits.node.claimBatchCountMax)
            where !group.claimsUnderWay.contains(run.id) {
                let heir = alive[Int(run.id.index.rawValue % UInt64(alive.count))]
                // The heir claims the run for its present life; nobody here knows which that is.
                let life = heir == id ? incarnation : 0
                changeOwner(of: run, to: heir, incarnation: life, reason: .nodeFailure, in: group)
            }
        }
    }

    private func changeOwner(
        of run: WorkflowRun, to owner: NodeID, incarnation: Incarnation, reason: OwnerChangeReason, in group: RaftGroup
    ) {
        let change = Command.OwnerChange(
            run: run.id, oldOwner: run.owner, newOwner: owner, newOwnerIncarnation: incarnation, reason: reason,
            epoch: run.epoch)
        let id = run.id
        group.claimsUnderWay.insert(id)
        log(
            .info, "changing owner", of: run,
            ["from": "\(run.owner)", "to": "\(owner)", "reason": "\(reason)"])
        propose(Command.ownerChange(change).encoded(), to: group) { [unowned group] _ in
            // Whatever the answer: the next look sees what is.
            group.claimsUnderWay.remove(id)
        }
    }

    /// The leader fires what is due. A timer that is fired twice is harmless.
    func fireTimers() {
        for group in groups where group.isLeader {
            guard let machine = group.workflowMachine, let next = machine.nextTimerMilliseconds else { continue }
            let wall = seams.clock.wallMilliseconds
            guard next <= wall, group.timersUnderWay == 0 else { continue }
            for timer in machine.dueTimers(at: wall, limit: limits.node.timerBatchCountMax) {
                group.timersUnderWay += 1
                propose(Command.timerFire(timer).encoded(), to: group) { [unowned group] _ in group.timersUnderWay -= 1
                }
            }
        }
    }

    /// The runtime's way to the log.
    func proposeForRuntime(
        _ command: Command, in group: RaftGroup, completion: @escaping (ProposalOutcome) -> Void
    ) {
        propose(command.encoded(), to: group) { result in
            switch result {
            case .success(.workflow(let answer)): completion(.applied(answer))
            case .success(.undecodable(let reason)): completion(.failed(.other(reason)))
            case .success(.directory): completion(.failed(.other("answered by another machine")))
            // It would be too large the next time, too: the run must not try for ever.
            case .failure(.tooLarge(let reason)): completion(.applied(.refused(.invalid(reason))))
            case .failure(let failure): completion(.failed(failure.forRuntime))
            }
        }
    }

    /// A snapshot took the place of the machine: effects that lie in between were never seen here.
    func noteInstalledSnapshot(of group: RaftGroup) {
        if let machine = group.workflowMachine { runtimes[group.id]?.replace(machine) }
        resultWaiters.recheck()
        reconcileAt = 0
    }
}

extension CommandFailure {
    fileprivate var forRuntime: ProposalFailure {
        switch self {
        case .overloaded, .diskFull: .overloaded
        case .tooLarge(let reason): .other(reason)
        case .outcomeUnknown, .notConfirmed: .timedOut
        case .shuttingDown: .stopping
        }
    }
}

extension RaftGroup {
    var workflowMachine: WorkflowMachine? { (machine as? WorkflowGroupMachine)?.machine }
}
