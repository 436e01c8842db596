import Prelude

extension WorkflowMachine {
    func apply(
        _ start: Command.Start, _ context: ApplyContext, _ effects: inout [Effect]
    ) throws(Refusal) -> CommandResult {
        if !start.requestID.isEmpty, let known = runsByRequest[ExactText(start.requestID)] {
            return .started(known.id, workflowID: known.workflowID)
        }
        try check(start, context)
        let run = WorkflowRun(start, context)
        insert(run)
        noteChange(of: run)
        effects.append(.execute(run.id))
        return .started(run.id, workflowID: run.workflowID)
    }

    private func check(_ start: Command.Start, _ context: ApplyContext) throws(Refusal) {
        try require(identifier: start.workflowID, "workflow id")
        try require(identifier: start.type, "workflow type")
        try require(.identifierByteCount, start.requestID.utf8.count, max: limits.identifierByteCountMax)
        try require(payload: start.input)
        if start.owner == .none { throw .invalid("the run has no owner") }
        if context.group != group { throw .invalid("the start is for group \(context.group), this is \(group)") }
        if runs[context.index] != nil { throw .invalid("log entry \(context.index) has started a run already") }
        if let last = newest[ExactText(start.workflowID)], last.status == .running { throw .alreadyExists(last.id) }
        try require(.runningCount, count(of: .running) + 1, max: limits.runningCountMax)
        // Runs in flight keep the last eighth to come to their ends in.
        try require(
            .stateByteCount, stateByteCount + WorkflowRun.byteCount(of: start),
            max: limits.stateByteCountMax / 8 * 7)
    }

    func apply(
        _ end: Command.End, _ context: ApplyContext, _ effects: inout [Effect]
    ) throws(Refusal) -> CommandResult {
        let run = try owned(end.run, end.epoch)
        guard end.status.isEnded else { throw .invalid("a run cannot end as \(end.status)") }
        // The code of a stalled run does not match its history: what it came to means nothing.
        if !run.stalled.isEmpty, end.status == .completed || end.status == .failed { throw .runStalled(run.id) }
        try require(payload: end.result)
        try require(.failureByteCount, end.failure.utf8.count, max: limits.failureByteCountMax)
        removeFromRunning(run)
        run.status = end.status
        run.result = end.result
        run.failure = end.failure
        run.endedMilliseconds = context.timeMilliseconds
        run.endedIndex = context.index
        charge(run, (end.result?.byteCount ?? 0) + end.failure.utf8.count)
        insertIntoEnded(run)
        noteChange(of: run)
        effects.append(.ended(run.id))
        forgetOldest(&effects)
        return .ended
    }

    func apply(_ change: Command.OwnerChange, _ effects: inout [Effect]) throws(Refusal) -> CommandResult {
        let run = try owned(change.run, change.epoch)
        guard run.owner == change.oldOwner else { throw .staleEpoch(current: run.epoch) }
        if change.newOwner == .none { throw .invalid("the run's new owner is none") }
        removeFromOwner(run)
        effects.append(.ownerChanged(run.id, oldOwner: run.owner, oldIncarnation: run.ownerIncarnation))
        run.owner = change.newOwner
        run.ownerIncarnation = change.newOwnerIncarnation
        run.epoch = Epoch(run.epoch.rawValue + 1)
        // The new owner may run other code than the one that did not match.
        charge(run, -run.stalled.utf8.count)
        run.stalled = ""
        insertIntoOwner(run)
        noteChange(of: run)
        effects.append(.execute(run.id))
        return .ownerChanged(run.epoch)
    }

    func apply(_ stall: Command.Stall, _ effects: inout [Effect]) throws(Refusal) -> CommandResult {
        let run = try owned(stall.run, stall.epoch)
        if stall.reason.isEmpty { throw .invalid("the reason of the stall is empty") }
        try require(.failureByteCount, stall.reason.utf8.count, max: limits.failureByteCountMax)
        guard run.stalled.isEmpty else { return .alreadyRecorded }
        run.stalled = stall.reason
        charge(run, stall.reason.utf8.count)
        noteChange(of: run)
        effects.append(.stalled(run.id))
        return .stalled
    }

    /// The run, when `epoch` is its current one and it is not over.
    func owned(_ id: RunID, _ epoch: Epoch) throws(Refusal) -> WorkflowRun {
        let run = try running(id)
        guard run.epoch == epoch || ignoresEpochs else { throw .staleEpoch(current: run.epoch) }
        return run
    }

    func running(_ id: RunID) throws(Refusal) -> WorkflowRun {
        guard id.group == group, let run = runs[id.index] else { throw .unknownRun(id) }
        guard run.status == .running else { throw .runEnded(id, run.status) }
        return run
    }

    func charge(_ run: WorkflowRun, _ byteCount: Int) {
        run.byteCount += byteCount
        runByteCount += byteCount
    }
}

// The indexes over the runs.
extension WorkflowMachine {
    func insert(_ run: WorkflowRun) {
        runs[run.id.index] = run
        newest[ExactText(run.workflowID)] = run
        if !run.requestID.isEmpty { runsByRequest[ExactText(run.requestID)] = run }
        order.insert(run.id.index)
        runByteCount += run.byteCount
        if run.status == .running {
            orderByStatus[Int(run.status.rawValue)].insert(run.id.index)
            insertIntoOwner(run)
        } else {
            insertIntoEnded(run)
        }
    }

    func removeFromRunning(_ run: WorkflowRun) {
        orderByStatus[Int(run.status.rawValue)].remove(run.id.index)
        removeFromOwner(run)
        for record in run.records where record.isPending {
            timers.remove(PendingTimer(record, of: run))
        }
    }

    func insertIntoEnded(_ run: WorkflowRun) {
        orderByStatus[Int(run.status.rawValue)].insert(run.id.index)
        ended.append(run.id.index)
        endedByteCount += run.byteCount
    }

    /// Forgets ended runs until they are within their limits. The last to end stays.
    func forgetOldest(_ effects: inout [Effect]) {
        while ended.count > 1, ended.count > limits.endedCountMax || endedByteCount > limits.endedByteCountMax {
            guard let run = runs.removeValue(forKey: ended.removeFirst()) else { continue }
            order.remove(run.id.index)
            orderByStatus[Int(run.status.rawValue)].remove(run.id.index)
            let workflow = ExactText(run.workflowID)
            if newest[workflow] === run { newest[workflow] = nil }
            if !run.requestID.isEmpty { runsByRequest[ExactText(run.requestID)] = nil }
            endedByteCount -= run.byteCount
            runByteCount -= run.byteCount
            noteForgotten(run)
            effects.append(.forgotten(run.id))
        }
    }

    func insertIntoOwner(_ run: WorkflowRun) {
        if let place = lifePlace(run) {
            ownership[run.owner]?[place].runs.insert(run.id.index)
        } else {
            let later = ownership[run.owner]?.firstIndex { $0.incarnation > run.ownerIncarnation }
            var life = OwnedRuns(incarnation: run.ownerIncarnation)
            life.runs.insert(run.id.index)
            ownership[run.owner, default: []].insert(life, at: later ?? ownership[run.owner]?.count ?? 0)
        }
    }

    func removeFromOwner(_ run: WorkflowRun) {
        guard let place = lifePlace(run) else { return }
        ownership[run.owner]?[place].runs.remove(run.id.index)
        guard ownership[run.owner]?[place].runs.isEmpty == true else { return }
        ownership[run.owner]?.remove(at: place)
        if ownership[run.owner]?.isEmpty == true { ownership[run.owner] = nil }
    }

    private func lifePlace(_ run: WorkflowRun) -> Int? {
        ownership[run.owner]?.firstIndex { $0.incarnation == run.ownerIncarnation }
    }
}

extension PendingTimer {
    init(_ record: WorkflowRecord, of run: WorkflowRun) {
        self.init(fireAtMilliseconds: record.fireAtMilliseconds, run: run.id.index, position: record.position)
    }
}
