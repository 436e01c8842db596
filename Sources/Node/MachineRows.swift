import Prelude
import Raft
import Storage
import Workflow

// The workflow machine's state as rows of the state store, and back.

extension MachineContent {
    /// Of the machine whose rows these are.
    init(_ stored: StoredState, group: GroupID) throws(ImpossibleContent) {
        self.init()
        revision = stored.head.revision
        var own = stored.records[...]
        for run in stored.runs {
            let records = own.prefix { $0.run == run.index }
            own = own.dropFirst(records.count)
            runs.append(try WorkflowRun(run, Array(records), group: group))
        }
        guard own.isEmpty else { throw ImpossibleContent("records of a run that is not there") }
        variables = stored.variables.map { ($0.key, Variable(value: $0.value, revision: $0.revision)) }
        firstAnswer = stored.firstAnswer
        answers = stored.answers.map {
            RememberedAnswer(
                sequence: $0.sequence, kindCode: $0.kindCode, requestID: $0.requestID, flag: $0.flag,
                revision: $0.revision)
        }
        origins = stored.origins.map { ($0.node, $0.window) }
    }
}

extension WorkflowGroupMachine {
    /// Everything that the machine knows when the store has to begin anew, otherwise what has changed.
    func fill(_ batch: inout StateBatch) {
        batch.head.revision = machine.revision
        let changes = machine.takeChanges()
        if mustReplaceStored {
            mustReplaceStored = false
            batch.replacesMachine = true
            // What was forgotten before the first batch is nowhere else any more.
            for run in machine.allRuns() + changes.forgotten {
                batch.runs.append(StoredRun(run))
                for record in run.records { batch.records.append(StoredRunRecord(record, of: run)) }
            }
            batch.variables = machine.allVariables().map(StoredVariable.init)
            batch.answers = machine.answers(from: 0).map(StoredAnswer.init)
        } else {
            for (_, run) in changes.runs.sorted(by: { $0.key < $1.key }) { batch.runs.append(StoredRun(run)) }
            for (_, changed) in changes.records.sorted(by: { $0.key < $1.key }) {
                for position in changed.positions {
                    guard let record = changed.run.record(at: position) else { continue }
                    batch.records.append(StoredRunRecord(record, of: changed.run))
                }
            }
            for key in changes.variables {
                guard let variable = machine.variable(key) else {
                    batch.removedVariables.append(key)
                    continue
                }
                batch.variables.append(StoredVariable(key, variable))
            }
            batch.answers = machine.answers(from: changes.firstNewAnswer).map(StoredAnswer.init)
        }
        batch.forgottenRuns = changes.forgotten.map(\.id.index)
        batch.firstAnswer = machine.firstAnswer
        batch.origins = machine.originWindows().map { StoredOrigin(node: $0.node, window: $0.window) }
    }
}

extension StoredRun {
    init(_ run: WorkflowRun) {
        self.init(
            index: run.id.index, workflowID: run.workflowID, type: run.type, version: run.version,
            status: "\(run.status)", statusCode: run.status.rawValue, input: StoredPayload(run.input),
            requestID: run.requestID, startedMilliseconds: run.startedMilliseconds, owner: run.owner,
            ownerIncarnation: run.ownerIncarnation, epoch: run.epoch, stalled: run.stalled,
            endedMilliseconds: run.endedMilliseconds, endedIndex: run.endedIndex,
            result: run.result.map(StoredPayload.init), failure: run.failure, isRemembered: true,
            trace: run.trace?.description ?? "")
    }
}

extension StoredRunRecord {
    init(_ record: WorkflowRecord, of run: WorkflowRun) {
        self.init(
            run: run.id.index, position: record.position, kind: record.kind.description,
            kindCode: record.kind.rawValue, key: record.key, value: record.value.map(StoredPayload.init),
            failure: record.failure, attempt: record.attempt, epoch: record.epoch, index: record.index,
            timeMilliseconds: record.timeMilliseconds, fireAtMilliseconds: record.fireAtMilliseconds,
            isPending: record.isPending)
    }
}

extension StoredVariable {
    init(_ key: String, _ variable: Variable) {
        self.init(key: key, value: variable.value, revision: variable.revision)
    }
}

extension StoredAnswer {
    init(_ answer: RememberedAnswer) {
        self.init(
            sequence: answer.sequence, kindCode: answer.kindCode, requestID: answer.requestID, flag: answer.flag,
            revision: answer.revision)
    }
}

extension StoredPayload {
    init(_ payload: Payload) { self.init(encoding: payload.encoding, data: payload.data) }
}

extension Payload {
    init(_ stored: StoredPayload) { self.init(encoding: stored.encoding, data: stored.data) }
}

extension WorkflowRun {
    convenience init(
        _ stored: StoredRun, _ records: [StoredRunRecord], group: GroupID
    ) throws(ImpossibleContent) {
        guard let status = WorkflowStatus(rawValue: stored.statusCode) else {
            throw ImpossibleContent("status \(stored.statusCode) of run \(stored.index)")
        }
        var known: [WorkflowRecord] = []
        known.reserveCapacity(records.count)
        for record in records { known.append(try WorkflowRecord(record)) }
        try self.init(
            group: group, index: stored.index,
            start: Command.Start(
                workflowID: stored.workflowID, type: stored.type, version: stored.version,
                input: Payload(stored.input), owner: stored.owner, ownerIncarnation: stored.ownerIncarnation,
                requestID: stored.requestID, trace: TraceContext(stored.trace)),
            startedMilliseconds: stored.startedMilliseconds, status: status, epoch: stored.epoch,
            stalled: stored.stalled, endedMilliseconds: stored.endedMilliseconds, endedIndex: stored.endedIndex,
            result: stored.result.map(Payload.init), failure: stored.failure, records: known)
    }
}

extension WorkflowRecord {
    init(_ stored: StoredRunRecord) throws(ImpossibleContent) {
        guard let kind = RecordKind(rawValue: stored.kindCode) else {
            throw ImpossibleContent("a record of kind \(stored.kindCode)")
        }
        self.init(
            position: stored.position, kind: kind, key: stored.key, value: stored.value.map(Payload.init),
            failure: stored.failure, attempt: stored.attempt, epoch: stored.epoch, index: stored.index,
            timeMilliseconds: stored.timeMilliseconds, fireAtMilliseconds: stored.fireAtMilliseconds,
            isPending: stored.isPending)
    }
}
