import Prelude
import Wire
import Workflow

/// A call from within the process: the same services and answers as over the wire, without the wire.
private final class LocalCall<Response: WireMessage>: ServiceCall {
    typealias Answer = Result<Response, GRPCStatus>

    var onCancel: (() -> Void)?
    var isCancelled: Bool { given != nil }
    let trace = TraceContext.current
    private var given: Answer?
    private var waiting: CheckedContinuation<Answer, Never>?

    /// To be awaited once.
    func answer() async -> Answer {
        if let given { return given }
        return await withCheckedContinuation { waiting = $0 }
    }

    func respond(_ bytes: [UInt8]) {
        do {
            give(.success(try bytes.withUnsafeBytes { try Response(decoding: $0) }))
        } catch {
            fail(GRPCStatus(code: .internalError, message: "unreadable answer: \(error)"))
        }
    }

    func fail(_ status: GRPCStatus) { give(.failure(status)) }

    func giveUp(_ status: GRPCStatus) {
        guard given == nil else { return }
        onCancel?()
        fail(status)
    }

    private func give(_ answer: Answer) {
        guard given == nil else { return }
        given = answer
        onCancel = nil
        waiting?.resume(returning: answer)
        waiting = nil
    }
}

/// What a client can ask of a node, from within its process. To be called on the node's loop. Bounds, statuses and
/// idempotency are those of the same calls over the wire; see docs/wire.md.
extension Node {
    public func startWorkflow(_ request: StartWorkflowRequest) async throws(GRPCStatus) -> StartWorkflowResponse {
        try await local { WorkflowService(node: self, group: $0).start($1, request) }
    }

    /// Waits until the run ends, `timeout` passes (`DEADLINE_EXCEEDED`), or the task is cancelled (`CANCELLED`).
    public func workflowResult(
        _ request: GetWorkflowResultRequest, timeout: Nanoseconds? = nil
    ) async throws(GRPCStatus) -> GetWorkflowResultResponse {
        try await local(timeout: timeout) { WorkflowService(node: self, group: $0).result($1, request) }
    }

    public func describeWorkflow(
        _ request: DescribeWorkflowRequest
    ) async throws(GRPCStatus) -> DescribeWorkflowResponse {
        try await local { WorkflowService(node: self, group: $0).describe($1, request) }
    }

    public func listWorkflows(_ request: ListWorkflowsRequest) async throws(GRPCStatus) -> ListWorkflowsResponse {
        try await local { WorkflowService(node: self, group: $0).list($1, request) }
    }

    public func put(_ request: PutRequest) async throws(GRPCStatus) -> PutResponse {
        try await local { VariableService(node: self, group: $0).put($1, request) }
    }

    public func get(_ request: GetRequest) async throws(GRPCStatus) -> GetResponse {
        try await local { VariableService(node: self, group: $0).get($1, request) }
    }

    public func compareAndSwap(
        _ request: CompareAndSwapRequest
    ) async throws(GRPCStatus) -> CompareAndSwapResponse {
        try await local { VariableService(node: self, group: $0).compareAndSwap($1, request) }
    }

    public func delete(_ request: DeleteRequest) async throws(GRPCStatus) -> DeleteResponse {
        try await local { VariableService(node: self, group: $0).delete($1, request) }
    }

    /// Makes a backup of everything that was acknowledged before this call.
    public func beginBackup() async throws(GRPCStatus) -> BeginBackupResponse {
        try await local { backups.begin($1) }
    }

    public func readBackup(_ request: ReadBackupRequest) async throws(GRPCStatus) -> ReadBackupResponse {
        try await local { backups.read($1, request) }
    }

    public func endBackup(_ request: EndBackupRequest) async throws(GRPCStatus) -> EndBackupResponse {
        try await local { backups.end($1, request) }
    }

    // MARK: -

    private func local<Response: WireMessage>(
        timeout: Nanoseconds? = nil, _ ask: (RaftGroup, any ServiceCall) -> Void
    ) async throws(GRPCStatus) -> Response {
        guard let group = groups[.firstWorkflows] else {
            throw GRPCStatus(code: .unimplemented, message: "node \(id) has no group of workflows")
        }
        let call = LocalCall<Response>()
        ask(group, call)
        let timer = timeout.map { timeout in
            seams.clock.schedule(after: timeout) {
                call.giveUp(GRPCStatus(code: .deadlineExceeded, message: "not within \(timeout / 1_000_000) ms"))
            }
        }
        defer { timer?.cancel() }
        let executor = seams.executor
        let bound = LoopBound(call, to: executor)
        let answer = await withTaskCancellationHandler {
            await call.answer()
        } onCancel: {
            executor.start { bound.value.giveUp(GRPCStatus(code: .cancelled, message: "the caller was cancelled")) }
        }
        return try answer.get()
    }
}
