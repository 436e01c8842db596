import Prelude

/// One page of a listing.
public struct WorkflowPage {
    /// Newest first.
    public var runs: [WorkflowRun]
    /// Where the next page goes on; nil on the last one. A page may be short, even empty, and not be the last.
    public var next: RunID?
}

extension WorkflowMachine {
    public func run(_ id: RunID) -> WorkflowRun? { id.group == group ? runs[id.index] : nil }

    public func newestRun(workflowID: String) -> WorkflowRun? { newest[ExactText(workflowID)] }

    /// The run that was started with this request id, as long as it is remembered.
    public func run(requestID: String) -> WorkflowRun? { runsByRequest[ExactText(requestID)] }

    public var runCount: Int { order.count }

    public func count(of status: WorkflowStatus) -> Int { orderByStatus[Int(status.rawValue)].count }

    /// Up to `limit` runs started before `after`, newest first. Looks at `limits.listScanCountMax` runs at most.
    public func list(
        type: String? = nil, status: WorkflowStatus? = nil, limit: Int, after: RunID? = nil
    ) -> WorkflowPage {
        var page = WorkflowPage(runs: [], next: nil)
        guard limit > 0 else { return page }
        let candidates = status.map { orderByStatus[Int($0.rawValue)] } ?? order
        var scanned = 0
        var last: LogIndex = 0
        candidates.descending(below: after?.index) { index in
            guard page.runs.count < limit, scanned < max(1, limits.listScanCountMax) else {
                page.next = RunID(group: group, index: last)
                return false
            }
            scanned += 1
            last = index
            if let run = runs[index], type == nil || run.type == type { page.runs.append(run) }
            return true
        }
        return page
    }

    /// Runs of the node that are not over, oldest first within each of its lives.
    public func runs(ownedBy node: NodeID, limit: Int = .max) -> [WorkflowRun] {
        collect(ownership[node] ?? [], limit: limit)
    }

    /// Runs of the node's other lives that are not over: those that nobody executes once `incarnation` lives.
    public func runs(ownedBy node: NodeID, except incarnation: Incarnation, limit: Int = .max) -> [WorkflowRun] {
        collect((ownership[node] ?? []).filter { $0.incarnation != incarnation }, limit: limit)
    }

    public func runCount(ownedBy node: NodeID) -> Int {
        (ownership[node] ?? []).reduce(0) { $0 + $1.runs.count }
    }

    public func runCount(ownedBy node: NodeID, except incarnation: Incarnation) -> Int {
        (ownership[node] ?? []).reduce(0) { $0 + ($1.incarnation == incarnation ? 0 : $1.runs.count) }
    }

    /// The nodes that own runs which are not over, in order.
    public var owners: [NodeID] { ownership.keys.sorted() }

    public func variable(_ key: String) -> Variable? { variables[ExactText(key)] }
    public var variableCount: Int { variables.count }

    /// When the next timer fires, Unix milliseconds; nil when there is none.
    public var nextTimerMilliseconds: Int64? { timers.first?.fireAtMilliseconds }
    public var pendingTimerCount: Int { timers.count }

    /// The commands that fire the timers which are due, first due first.
    public func dueTimers(at milliseconds: Int64, limit: Int) -> [Command.TimerFire] {
        var due: [Command.TimerFire] = []
        timers.ascending { timer in
            guard due.count < limit, timer.fireAtMilliseconds <= milliseconds else { return false }
            due.append(
                Command.TimerFire(run: RunID(group: group, index: timer.run), position: timer.position))
            return true
        }
        return due
    }

    private func collect(_ lives: [OwnedRuns], limit: Int) -> [WorkflowRun] {
        var found: [WorkflowRun] = []
        for life in lives {
            life.runs.ascending { index in
                guard found.count < limit else { return false }
                if let run = runs[index] { found.append(run) }
                return true
            }
        }
        return found
    }
}
