import Prelude

/// What a request about a variable was answered, and which it was in the order of arrival.
public struct RememberedAnswer: Equatable, Sendable {
    /// The number of answers that this machine, or the one whose content it took over, remembered before.
    public var sequence: UInt64
    /// 0 put, 1 swap, 2 delete.
    public var kindCode: UInt8
    public var requestID: String
    public var flag: Bool
    public var revision: UInt64

    public init(sequence: UInt64, kindCode: UInt8, requestID: String, flag: Bool, revision: UInt64) {
        self.sequence = sequence
        self.kindCode = kindCode
        self.requestID = requestID
        self.flag = flag
        self.revision = revision
    }
}

/// All that a machine knows, as values.
public struct MachineContent {
    public var revision: UInt64 = 0
    /// In order of their index.
    public var runs: [WorkflowRun] = []
    public var variables: [(key: String, variable: Variable)] = []
    /// In order of arrival, without gaps.
    public var answers: [RememberedAnswer] = []
    /// Of the first of `answers`, or of the next to come when there is none.
    public var firstAnswer: UInt64 = 0
    /// By node, in order; each in the machine's own form.
    public var origins: [(node: NodeID, window: [UInt8])] = []

    public init() {}
}

/// Content that no machine can have.
public struct ImpossibleContent: Error, CustomStringConvertible {
    public let reason: String
    public init(_ reason: String) { self.reason = reason }
    public var description: String { "no machine has this state: \(reason)" }
}

extension WorkflowMachine {
    /// The sequence of the oldest answer that is remembered.
    public var firstAnswer: UInt64 { answers.first }

    /// Answers from `sequence` on that are remembered, oldest first.
    public func answers(from sequence: UInt64) -> [RememberedAnswer] {
        var found: [RememberedAnswer] = []
        let start = max(sequence, answers.first)
        for next in start..<max(start, answers.end) {
            let request = answers.order[Int(next - answers.first)]
            var answer = RememberedAnswer(
                sequence: next, kindCode: request.kind.rawValue, requestID: request.id.text, flag: false, revision: 0)
            switch answers[request] {
            case .swapped(let swapped, let revision): (answer.flag, answer.revision) = (swapped, revision)
            case .deleted(let existed): answer.flag = existed
            case .variable(let revision): answer.revision = revision
            default: invariantBroken("only the answers to requests about variables are remembered")
            }
            found.append(answer)
        }
        return found
    }

    /// Which proposals have been applied, by node, in the machine's own form.
    public func originWindows() -> [(node: NodeID, window: [UInt8])] {
        origins.keys.sorted().map { node in
            var writer = ByteWriter()
            origins[node]?.write(to: &writer)
            return (node, writer.bytes)
        }
    }

    /// All runs, by index.
    public func allRuns() -> [WorkflowRun] {
        var found: [WorkflowRun] = []
        found.reserveCapacity(order.count)
        order.ascending { index in
            if let run = runs[index] { found.append(run) }
            return true
        }
        return found
    }

    /// All variables, by key.
    public func allVariables() -> [(key: String, variable: Variable)] {
        variables.keys.sorted().compactMap { key in variables[key].map { (key.text, $0) } }
    }

    /// The machine that had this content.
    public convenience init(
        _ content: MachineContent, group: GroupID, limits: WorkflowLimits = WorkflowLimits()
    ) throws(ImpossibleContent) {
        func require(_ holds: Bool, _ reason: @autoclosure () -> String) throws(ImpossibleContent) {
            if !holds { throw ImpossibleContent(reason()) }
        }
        self.init(group: group, limits: limits)
        revision = content.revision
        try require(revision < UInt64.max, "a revision that cannot rise")
        var last: LogIndex = 0
        runs.reserveCapacity(content.runs.count)
        newest.reserveCapacity(content.runs.count)
        for run in content.runs {
            try require(run.id.group == group && run.id.index > last, "run \(run.id) is out of order")
            last = run.id.index
            let other = newest[ExactText(run.workflowID)]
            try require(other?.status != .running, "two running runs of workflow '\(run.workflowID)'")
            try require(
                run.requestID.isEmpty || runsByRequest[ExactText(run.requestID)] == nil, "two runs of one request id")
            insert(run)
        }
        finishRuns()
        for (key, variable) in content.variables {
            try require(variables[ExactText(key)] == nil, "two variables of one key")
            try require(variable.revision <= revision, "a revision above the newest")
            variables[ExactText(key)] = variable
            variableByteCount += Self.byteCount(key, variable.value)
        }
        answers = RequestAnswers(first: content.firstAnswer)
        for answer in content.answers {
            try require(answer.sequence == answers.end, "answer \(answer.sequence) is out of order")
            guard let kind = RequestAnswers.Kind(rawValue: answer.kindCode) else {
                throw ImpossibleContent("a request of kind \(answer.kindCode)")
            }
            let result: CommandResult =
                switch kind {
                case .put: .variable(revision: answer.revision)
                case .swap: .swapped(answer.flag, revision: answer.revision)
                case .delete: .deleted(existed: answer.flag)
                }
            let request = RequestAnswers.Request(kind: kind, id: ExactText(answer.requestID))
            try require(answers[request] == nil, "two answers to one request")
            answers.remember(request, result, countMax: .max)
        }
        for (node, window) in content.origins {
            do throws(MalformedBytes) {
                var reader = ByteReader(window)
                origins[node] = try OriginWindow(from: &reader)
                try reader.end()
            } catch {
                throw ImpossibleContent("the proposals of node \(node): expected \(error.expected)")
            }
        }
    }

    /// Puts what follows from the runs in order, once all have been inserted.
    func finishRuns() {
        // In the order in which they began, which is nearly that in which they ended, and numbers instead of runs: there may
        // be hundreds of thousands.
        var over: [(end: LogIndex, index: LogIndex)] = []
        over.reserveCapacity(ended.count)
        for run in allRuns() {
            if run.status == .running {
                for record in run.records where record.isPending { timers.insert(PendingTimer(record, of: run)) }
            } else {
                over.append((run.endedIndex, run.id.index))
            }
        }
        over.sort { $0 < $1 }
        ended.removeAll(keepingCapacity: true)
        for run in over { ended.append(run.index) }
    }
}

extension WorkflowRun {
    /// A run that a machine had. `start` holds its present owner. Throws when no machine can have it.
    public convenience init(
        group: GroupID, index: LogIndex, start: Command.Start, startedMilliseconds: Int64, status: WorkflowStatus,
        epoch: Epoch, stalled: String, endedMilliseconds: Int64, endedIndex: LogIndex, result: Payload?,
        failure: String, records: [WorkflowRecord]
    ) throws(ImpossibleContent) {
        guard epoch >= 1, epoch < Epoch(UInt64.max), start.owner != .none else {
            throw ImpossibleContent("run \(index) has no owner or no epoch")
        }
        self.init(start, ApplyContext(group: group, index: index, timeMilliseconds: startedMilliseconds))
        self.status = status
        self.epoch = epoch
        self.stalled = stalled
        self.endedMilliseconds = endedMilliseconds
        self.endedIndex = endedIndex
        self.result = result
        self.failure = failure
        byteCount += stalled.utf8.count + (result?.byteCount ?? 0) + failure.utf8.count
        for (place, record) in records.enumerated() {
            guard place == 0 || records[place - 1].position < record.position else {
                throw ImpossibleContent("the records of run \(index) are out of order")
            }
            byteCount += record.byteCount
        }
        self.records = records
    }
}
