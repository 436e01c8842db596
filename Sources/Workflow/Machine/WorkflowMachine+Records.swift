import Prelude

extension WorkflowMachine {
    func apply(
        _ checkpoint: Command.Checkpoint, _ context: ApplyContext, _ effects: inout [Effect]
    ) throws(Refusal) -> CommandResult {
        let run = try owned(checkpoint.run, checkpoint.epoch)
        let record = WorkflowRecord(
            position: checkpoint.position, kind: RecordKind(checkpoint.kind), key: checkpoint.key,
            value: checkpoint.value, failure: checkpoint.failure, attempt: checkpoint.attempt,
            epoch: checkpoint.epoch, index: context.index, timeMilliseconds: context.timeMilliseconds,
            fireAtMilliseconds: 0, isPending: false)
        guard try insert(record, into: run) == nil else { return .alreadyRecorded }
        effects.append(.checkpointRecorded(run.id, position: checkpoint.position))
        return .recorded
    }

    func apply(
        _ timer: Command.TimerStart, _ context: ApplyContext, _ effects: inout [Effect]
    ) throws(Refusal) -> CommandResult {
        let run = try owned(timer.run, timer.epoch)
        let duration = Int64(clamping: timer.durationMilliseconds)
        let (sum, isOverflow) = context.timeMilliseconds.addingReportingOverflow(duration)
        let record = WorkflowRecord(
            position: timer.position, kind: .timer, key: timer.key, value: nil, failure: "", attempt: 1,
            epoch: timer.epoch, index: context.index, timeMilliseconds: context.timeMilliseconds,
            fireAtMilliseconds: isOverflow ? .max : sum, isPending: true)
        if let known = try insert(record, into: run) {
            return known.isPending ? .timerStarted(fireAtMilliseconds: known.fireAtMilliseconds) : .timerFired
        }
        timers.insert(PendingTimer(record, of: run))
        effects.append(
            .timerStarted(run.id, position: record.position, fireAtMilliseconds: record.fireAtMilliseconds))
        return .timerStarted(fireAtMilliseconds: record.fireAtMilliseconds)
    }

    func apply(
        _ fire: Command.TimerFire, _ context: ApplyContext, _ effects: inout [Effect]
    ) throws(Refusal) -> CommandResult {
        let run = try running(fire.run)
        let place = run.place(of: fire.position)
        guard place < run.records.count, run.records[place].position == fire.position,
            run.records[place].kind == .timer
        else { throw .unknownTimer(position: fire.position) }
        guard run.records[place].isPending else { return .timerFired }
        let fireAt = run.records[place].fireAtMilliseconds
        guard context.timeMilliseconds >= fireAt else { throw .timerNotDue(fireAtMilliseconds: fireAt) }
        timers.remove(PendingTimer(run.records[place], of: run))
        run.records[place].isPending = false
        run.records[place].index = context.index
        run.records[place].timeMilliseconds = context.timeMilliseconds
        noteRecord(at: fire.position, of: run)
        effects.append(.timerFired(run.id, position: fire.position))
        return .timerFired
    }

    /// Inserts the record and returns nil, or returns what is recorded there under the same kind and key.
    private func insert(_ record: WorkflowRecord, into run: WorkflowRun) throws(Refusal) -> WorkflowRecord? {
        let place = run.place(of: record.position)
        if place < run.records.count, run.records[place].position == record.position {
            let known = run.records[place]
            guard known.kind == record.kind, known.key.isExactly(record.key) else {
                throw .positionConflict(
                    position: known.position, recordedKind: known.kind, recordedKey: known.key)
            }
            return known
        }
        try check(record, of: run)
        charge(run, record.byteCount)
        run.records.insert(record, at: place)
        noteRecord(at: record.position, of: run)
        return nil
    }

    private func check(_ record: WorkflowRecord, of run: WorkflowRun) throws(Refusal) {
        try require(identifier: record.key, "key of the checkpoint")
        try require(payload: record.value)
        try require(.failureByteCount, record.failure.utf8.count, max: limits.failureByteCountMax)
        if record.kind != .timer {
            guard (record.value == nil) != record.failure.isEmpty else {
                throw .invalid("a checkpoint has either a value or a failure")
            }
        }
        guard record.position < UInt32(clamping: limits.checkpointCountPerRunMax) else {
            throw .limitExceeded(
                .position, value: Int(record.position), max: limits.checkpointCountPerRunMax - 1)
        }
        let byteCount = record.byteCount
        try require(.historyByteCount, run.byteCount + byteCount, max: limits.historyByteCountPerRunMax)
        try require(.stateByteCount, stateByteCount + byteCount, max: limits.stateByteCountMax)
    }
}
