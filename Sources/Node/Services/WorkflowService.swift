import Prelude
import Wire
import Workflow

/// `raftoral.WorkflowService` on one node.
struct WorkflowService {
    let node: Node
    let group: RaftGroup

    private static let pageSizeDefault: UInt32 = 100
    private static let pageSizeMax: UInt32 = 1000

    func register(on server: GRPCServer) {
        server.unary(WorkflowServicePath.start, StartWorkflowRequest.self) { call, request in start(call, request) }
        server.unary(WorkflowServicePath.result, GetWorkflowResultRequest.self) { call, request in
            result(call, request)
        }
        server.unary(WorkflowServicePath.describe, DescribeWorkflowRequest.self) { call, request in
            describe(call, request)
        }
        server.unary(WorkflowServicePath.list, ListWorkflowsRequest.self) { call, request in list(call, request) }
    }

    // MARK: - Start

    func start(_ call: any ServiceCall, _ request: StartWorkflowRequest) {
        guard !request.type.isEmpty else { return call.fail(.invalidArgument, "workflow_type is empty") }
        guard let version = node.registeredVersion(of: request.type, asked: request.version) else {
            return call.fail(.notFound, unknownType(request))
        }
        let workflowID = request.workflowID.isEmpty ? node.makeWorkflowID() : request.workflowID
        let start = Command.Start(
            workflowID: workflowID, type: request.type, version: version,
            input: request.input ?? Payload(data: []), owner: node.id, ownerIncarnation: node.incarnation,
            requestID: request.requestID, trace: node.knowsTraces ? call.trace : nil)
        node.execute(.start(start), in: group, for: call) { result in
            guard case .started(let run, let workflowID) = result else { return nil }
            return StartWorkflowResponse(workflowID: workflowID, runID: run).encoded()
        }
    }

    private func unknownType(_ request: StartWorkflowRequest) -> String {
        let known = node.registry.types.joined(separator: ", ")
        let asked = request.version == 0 ? "" : " version \(request.version)"
        return "workflow type '\(request.type)'\(asked) is not registered on node \(node.id); it has: \(known)"
    }

    // MARK: - Result

    func result(_ call: any ServiceCall, _ request: GetWorkflowResultRequest) {
        node.read(group, stale: false, for: call) { machine throws(GRPCStatus) in
            let run = try find(machine, workflowID: request.workflowID, runID: request.runID)
            if let response = response(of: run) { return response }
            try wait(for: run.id, call)
            return nil
        }
    }

    private func wait(for run: RunID, _ call: any ServiceCall) throws(GRPCStatus) {
        guard node.phase == .running else { throw CommandFailure.shuttingDown.status }
        // The caller may have gone while the read was confirmed; nobody would tell us any more.
        guard !call.isCancelled else { return }
        guard node.resultWaiters.count < node.limits.node.pendingResultCountMax else {
            throw GRPCStatus(code: .resourceExhausted, message: "too many calls wait for results: try again later")
        }
        let waiter = ResultWaiters.Waiter(call: call) {
            guard let found = group.workflowMachine?.run(run) else {
                // A snapshot took the place of what came in between: the run ended and was forgotten.
                call.fail(.notFound, "run '\(run)' ended and is not remembered any more")
                return true
            }
            guard let response = response(of: found) else { return false }
            call.respond(response)
            return true
        }
        let key = node.resultWaiters.add(waiter, for: run)
        call.onCancel = { [weak node] in node?.resultWaiters.remove(key, for: run) }
    }

    private func response(of run: WorkflowRun) -> [UInt8]? {
        guard run.status.isEnded else { return nil }
        return GetWorkflowResultResponse(status: run.status, result: run.result, failure: run.failure).encoded()
    }

    // MARK: - Describe and list

    func describe(_ call: any ServiceCall, _ request: DescribeWorkflowRequest) {
        node.read(group, stale: request.stale, for: call) { machine throws(GRPCStatus) in
            let run = try find(machine, workflowID: request.workflowID, runID: request.runID)
            return DescribeWorkflowResponse(
                summary: WorkflowSummary(run), input: run.input, result: run.result, failure: run.failure,
                checkpoints: run.records.map(CheckpointSummary.init), trace: run.trace
            ).encoded()
        }
    }

    func list(_ call: any ServiceCall, _ request: ListWorkflowsRequest) {
        guard request.pageSize <= Self.pageSizeMax else {
            return call.fail(.invalidArgument, "page_size is above \(Self.pageSizeMax)")
        }
        let after = RunID(request.pageToken)
        guard request.pageToken.isEmpty || after?.group == group.id else {
            return call.fail(.invalidArgument, "page_token '\(request.pageToken)' is not one that ListWorkflows gave")
        }
        let limit = Int(request.pageSize == 0 ? Self.pageSizeDefault : request.pageSize)
        node.read(group, stale: false, for: call) { machine in
            let page = machine.list(
                type: request.type.isEmpty ? nil : request.type, status: request.status, limit: limit, after: after)
            // A page has to fit into a message: what stalls may be said at length.
            var runs = page.runs.map(WorkflowSummary.init)
            var next = page.next
            var byteCount = 0
            let fitting = runs.prefix { run in
                byteCount += Self.byteCountMax(of: run)
                return byteCount <= node.limits.wire.messageByteCountMax
            }
            if fitting.count < runs.count, let last = fitting.last {
                next = last.runID
                runs = Array(fitting)
            }
            return ListWorkflowsResponse(workflows: runs, nextPageToken: next?.description ?? "").encoded()
        }
    }

    /// At least what the summary takes in an answer.
    private static func byteCountMax(of run: WorkflowSummary) -> Int {
        256 + run.workflowID.utf8.count + run.type.utf8.count + run.stalled.utf8.count
    }

    private func find(_ machine: WorkflowMachine, workflowID: String, runID: RunID?) throws(GRPCStatus) -> WorkflowRun {
        guard let runID else {
            guard !workflowID.isEmpty else {
                throw GRPCStatus(code: .invalidArgument, message: "workflow_id and run_id are both empty")
            }
            guard let run = machine.newestRun(workflowID: workflowID) else {
                throw GRPCStatus(code: .notFound, message: "there is no workflow '\(workflowID)'")
            }
            return run
        }
        guard let run = machine.run(runID), workflowID.isEmpty || run.workflowID == workflowID else {
            throw GRPCStatus(code: .notFound, message: "there is no run '\(runID)' of workflow '\(workflowID)'")
        }
        return run
    }
}

extension Node {
    /// Programs of level 1 would lose what they do not know of.
    fileprivate var knowsTraces: Bool { directory.state.protocolLevel >= 2 }

    /// The version to start: the highest that is registered here when 0 is asked for. Nil: not registered.
    func registeredVersion(of type: String, asked: UInt32) -> UInt32? {
        if asked == 0 { return registry.highestVersion(of: type) }
        return registry.contains(type, version: asked) ? asked : nil
    }

    /// An id for a workflow that was started without one: unique because incarnations of a node are.
    func makeWorkflowID() -> String { "wf-" + makeRequestID() }

    /// Unique for the same reason.
    func makeRequestID() -> String {
        let drawn = UInt64.random(in: 0 ... .max, using: &random)
        return "\(id)-\(incarnation)-" + String(drawn, radix: 36)
    }
}

extension WorkflowSummary {
    init(_ run: WorkflowRun) {
        self.init(
            workflowID: run.workflowID, runID: run.id, type: run.type, version: run.version, status: run.status,
            ownerNodeID: run.owner, epoch: run.epoch, startedMilliseconds: run.startedMilliseconds,
            endedMilliseconds: run.endedMilliseconds, checkpointCount: UInt32(clamping: run.records.count),
            stalled: run.stalled)
    }
}

extension CheckpointSummary {
    init(_ record: WorkflowRecord) {
        self.init(
            position: record.position, key: record.key, kind: record.kind.description, value: record.value,
            failure: record.failure, epoch: record.epoch, attempt: record.attempt, logIndex: record.index,
            recordedMilliseconds: record.timeMilliseconds)
    }
}

extension Refusal {
    /// The status of a call whose command was refused.
    var status: GRPCStatus {
        let code: GRPCCode =
            switch self {
            case .alreadyExists: .alreadyExists
            case .unknownRun, .unknownTimer: .notFound
            case .runEnded, .runStalled, .staleEpoch, .positionConflict, .timerNotDue: .failedPrecondition
            case .limitExceeded(let limit, _, _): limit.isOfTheRequest ? .invalidArgument : .resourceExhausted
            case .superseded: .aborted
            case .invalid: .invalidArgument
            }
        return GRPCStatus(code: code, message: description)
    }
}

extension Refusal.Limit {
    /// The request by itself is too large, whatever the state of the cluster.
    fileprivate var isOfTheRequest: Bool {
        switch self {
        case .identifierByteCount, .payloadByteCount, .failureByteCount, .variableKeyByteCount,
            .variableValueByteCount:
            true
        case .position, .historyByteCount, .runningCount, .stateByteCount, .variableCount: false
        }
    }
}

extension CommandResult {
    /// For results that are not the answer that was asked for.
    var status: GRPCStatus {
        switch self {
        case .refused(let refusal): refusal.status
        case .duplicate:
            GRPCStatus(
                code: .unavailable,
                message: "the command took effect, but its answer was lost: repeat it with the same request_id")
        default: GRPCStatus(code: .internalError, message: "unexpected result \(self)")
        }
    }
}
