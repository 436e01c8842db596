import Prelude
import Wire
import Workflow

/// Whoever can start workflows and await them: a node in this program (`RunningNode`), or a connection to a cluster
/// elsewhere (`RaftoralClient`).
public protocol WorkflowClient: Sendable {
    func startWorkflow(_ request: StartWorkflowRequest) async throws(WorkflowCallError) -> StartWorkflowResponse

    /// Waits until the run has ended, at most for `timeout`.
    func workflowResult(
        _ request: GetWorkflowResultRequest, timeout: Duration?
    ) async throws(WorkflowCallError) -> GetWorkflowResultResponse

    func describeWorkflow(
        _ request: DescribeWorkflowRequest
    ) async throws(WorkflowCallError) -> DescribeWorkflowResponse
}

extension WorkflowClient {
    /// Starts a workflow, durably, and returns a handle to await its typed result by.
    ///
    /// - Parameters:
    ///   - id: names the workflow; made up when empty. One run of an id at a time: `ALREADY_EXISTS` otherwise.
    ///   - version: 0 stands for the highest that is registered on the node that takes the call.
    ///   - requestID: makes a repetition harmless: the same request gets the same run.
    public func start<Output: Decodable & Sendable>(
        _ type: String, input: some Encodable & Sendable, returning output: Output.Type = Output.self,
        id: String = "", version: UInt32 = 0, requestID: String = ""
    ) async throws(WorkflowCallError) -> WorkflowHandle<Output> {
        let payload: Payload
        do { payload = try JSON.encode(input) } catch { throw .unreadable("the input: \(error)") }
        let request = StartWorkflowRequest(
            workflowID: id, type: type, version: version, input: payload, requestID: requestID)
        let started = try await startWorkflow(request)
        return WorkflowHandle(client: self, workflowID: started.workflowID, runID: started.runID)
    }

    /// Starts a workflow and awaits its result.
    public func run<Output: Decodable & Sendable>(
        _ type: String, input: some Encodable & Sendable, returning output: Output.Type = Output.self,
        id: String = "", version: UInt32 = 0, requestID: String = ""
    ) async throws(WorkflowCallError) -> Output {
        let handle = try await start(
            type, input: input, returning: output, id: id, version: version, requestID: requestID)
        return try await handle.result()
    }

    /// The handle of a workflow that was started before, by whomever. Nil `runID`: the newest run of the id.
    public func workflow<Output: Decodable & Sendable>(
        _ id: String, runID: RunID? = nil, returning output: Output.Type = Output.self
    ) -> WorkflowHandle<Output> {
        WorkflowHandle(client: self, workflowID: id, runID: runID)
    }
}

/// Why a call for a workflow has no result.
public enum WorkflowCallError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The run ended without a result.
    case ended(WorkflowStatus, failure: String)
    /// The call failed; see docs/wire.md for what each code means.
    case call(GRPCStatus)
    /// A value does not fit its type.
    case unreadable(String)

    public var description: String {
        switch self {
        case .ended(let status, let failure): failure.isEmpty ? "the run was \(status)" : "\(status): \(failure)"
        case .call(let status): "\(status.code): \(status.message)"
        case .unreadable(let what): "cannot read \(what)"
        }
    }
}

/// A run of a workflow whose result is an `Output`.
public struct WorkflowHandle<Output: Decodable & Sendable>: Sendable {
    public let workflowID: String
    /// Nil: the newest run of the id.
    public let runID: RunID?
    private let client: any WorkflowClient

    init(client: any WorkflowClient, workflowID: String, runID: RunID?) {
        self.client = client
        self.workflowID = workflowID
        self.runID = runID
    }

    /// Waits until the run ends, wherever it is executed. Gives up after `timeout` (`DEADLINE_EXCEEDED`) and when the
    /// task is cancelled (`CANCELLED`); the run goes on in either case.
    public func result(timeout: Duration? = nil) async throws(WorkflowCallError) -> Output {
        let request = GetWorkflowResultRequest(workflowID: workflowID, runID: runID)
        let answer = try await client.workflowResult(request, timeout: timeout)
        guard answer.status == .completed else { throw .ended(answer.status, failure: answer.failure) }
        do {
            return try JSON.decode(Output.self, answer.result ?? Payload(data: Array("null".utf8)))
        } catch {
            throw .unreadable("the result: \(JSON.explain(error))")
        }
    }

    /// The run as the cluster knows it: its status, owner, and every recorded step.
    public func describe() async throws(WorkflowCallError) -> DescribeWorkflowResponse {
        let request = DescribeWorkflowRequest(workflowID: workflowID, runID: runID)
        return try await client.describeWorkflow(request)
    }
}
