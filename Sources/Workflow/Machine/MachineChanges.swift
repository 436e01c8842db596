import Prelude

/// What commands have changed in a machine since its changes were last taken, for a store that follows it.
///
/// Plays no part in the replicated state: when the changes are taken differs from node to node.
public struct MachineChanges {
    /// Runs that began, ended or changed owners, those that the machine has forgotten since included.
    public fileprivate(set) var runs: [LogIndex: WorkflowRun] = [:]
    /// Positions of records that are new or have changed, by run.
    public fileprivate(set) var records: [LogIndex: ChangedRecords] = [:]
    /// Ended runs that the machine does not remember any more.
    public fileprivate(set) var forgotten: [WorkflowRun] = []
    /// Variables that were put, swapped or deleted.
    fileprivate var variableKeys: Set<ExactText> = []
    /// Answers from this sequence on are new.
    public fileprivate(set) var firstNewAnswer: UInt64 = 0

    public struct ChangedRecords {
        public let run: WorkflowRun
        /// May name a position twice.
        public fileprivate(set) var positions: [UInt32] = []
    }

    /// The keys, in order.
    public var variables: [String] { variableKeys.sorted().map(\.text) }

    init(firstNewAnswer: UInt64) { self.firstNewAnswer = firstNewAnswer }
}

extension WorkflowMachine {
    /// From now on changes are collected until they are taken. Who asks for this takes them again and again.
    public func trackChanges() {
        if changes == nil { changes = MachineChanges(firstNewAnswer: answers.end) }
    }

    /// What has changed since the last time; collecting begins anew.
    public func takeChanges() -> MachineChanges {
        let taken = changes ?? MachineChanges(firstNewAnswer: answers.end)
        changes = MachineChanges(firstNewAnswer: answers.end)
        return taken
    }

    func noteChange(of run: WorkflowRun) { changes?.runs[run.id.index] = run }

    func noteRecord(at position: UInt32, of run: WorkflowRun) {
        guard changes != nil else { return }
        changes?.records[run.id.index, default: MachineChanges.ChangedRecords(run: run)].positions.append(position)
    }

    func noteForgotten(_ run: WorkflowRun) { changes?.forgotten.append(run) }

    func noteChange(ofVariable key: ExactText) { changes?.variableKeys.insert(key) }
}
