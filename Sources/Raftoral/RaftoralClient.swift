import Node
import Prelude
import Reactor
import Storage
import Wire
import Workflow

/// A cluster that runs elsewhere, over the network. Sendable: its calls hop to its loop.
///
/// ```swift
/// let cluster = RaftoralClient(peers: [HostPort("raftoral.example:5001")!], on: thread.loop)
/// let greeting: String = try await cluster.run("greet", input: "Ada")
/// await cluster.close()
/// ```
///
/// It keeps one connection to each node that it needs. A call goes to the nearest node that is well (a write to the
/// leader, when it is known); when that does not answer, the next one is asked, until the call's deadline. Nothing
/// happens twice by that: every write carries an id by which the cluster knows its repetitions. Every call carries
/// `TraceContext.current` of the task that makes it.
public final class RaftoralClient: WorkflowClient {
    private let loop: EventLoop
    private let bound: LoopBound<ClusterChannel>
    private let timeout: Nanoseconds

    /// - Parameters:
    ///   - peers: names or addresses of some nodes, at least one. A name that stands for several addresses is several
    ///     peers, and is resolved anew from time to time.
    ///   - timeout: of every call that does not wait for the end of a run.
    ///   - limits: `limits.client` has the pauses, and how long calls are repeated.
    public convenience init(
        peers: [HostPort], on loop: EventLoop, timeout: Duration = .seconds(15), limits: Limits = Limits()
    ) {
        var generator = SystemRandomNumberGenerator()
        let seams = loop.seams(disk: MemoryDisk(), randomSeed: generator.next())
        self.init(peers, loop, timeout, limits, seams)
    }

    /// As above, by TLS and with credentials. Reads the files.
    public convenience init(
        peers: [HostPort], on loop: EventLoop, timeout: Duration = .seconds(15), limits: Limits = Limits(),
        security: ClientSecurityFiles
    ) throws(SecurityFailure) {
        var generator = SystemRandomNumberGenerator()
        let seams = loop.seams(disk: FileDisk(), randomSeed: generator.next())
        self.init(peers, loop, timeout, limits, try security.applied(to: seams))
    }

    private init(_ peers: [HostPort], _ loop: EventLoop, _ timeout: Duration, _ limits: Limits, _ seams: Seams) {
        self.loop = loop
        self.timeout = timeout.nanoseconds
        bound = LoopBound(ClusterChannel(peers: peers, seams: seams, limits: limits), to: loop)
    }

    /// Closes all connections; open calls fail with UNAVAILABLE. The loop has to be stopped after this, not before.
    public func close() async {
        await loop.hop(with: bound) { $0.close() }
    }

    // MARK: - Workflows

    public func startWorkflow(
        _ request: StartWorkflowRequest
    ) async throws(WorkflowCallError) -> StartWorkflowResponse {
        var request = request
        if request.requestID.isEmpty { request.requestID = Self.makeRequestID() }
        return try await call(WorkflowServicePath.start, request, StartWorkflowResponse.self, kind: .write)
    }

    /// Without `timeout` as long as it takes, through failures of nodes.
    public func workflowResult(
        _ request: GetWorkflowResultRequest, timeout: Duration?
    ) async throws(WorkflowCallError) -> GetWorkflowResultResponse {
        try await call(
            WorkflowServicePath.result, request, GetWorkflowResultResponse.self, kind: .read,
            timeout: timeout?.nanoseconds)
    }

    public func describeWorkflow(
        _ request: DescribeWorkflowRequest
    ) async throws(WorkflowCallError) -> DescribeWorkflowResponse {
        try await call(WorkflowServicePath.describe, request, DescribeWorkflowResponse.self, kind: .read)
    }

    // MARK: - Variables

    /// Writes a variable; returns its revision.
    public func put(_ key: String, _ value: [UInt8]) async throws(WorkflowCallError) -> UInt64 {
        let request = PutRequest(key: key, value: value, requestID: Self.makeRequestID())
        return try await call(VariableServicePath.put, request, PutResponse.self, kind: .write).revision
    }

    /// Nil: there is none. `isStale`: the node's own state is good enough, which may be a little old.
    public func get(_ key: String, isStale: Bool = false) async throws(WorkflowCallError) -> [UInt8]? {
        let answer = try await call(
            VariableServicePath.get, GetRequest(key: key, stale: isStale), GetResponse.self, kind: .read)
        return answer.found ? answer.value : nil
    }

    // MARK: - Everything else

    /// Any call of proto/raftoral.proto, with the client's timeout. `kind` says whether it may be repeated.
    public func call<Request: WireMessage, Response: WireMessage>(
        _ path: String, _ request: Request, _ response: Response.Type, kind: CallKind
    ) async throws(WorkflowCallError) -> Response {
        try await call(path, request, response, kind: kind, timeout: timeout)
    }

    private func call<Request: WireMessage, Response: WireMessage>(
        _ path: String, _ request: Request, _ response: Response.Type, kind: CallKind, timeout: Nanoseconds?
    ) async throws(WorkflowCallError) -> Response {
        let metadata = TraceContext.current.map(Metadata.init) ?? Metadata()
        let result = await loop.hop(with: bound) { channel -> Result<Response, GRPCStatus> in
            do throws(GRPCStatus) {
                return .success(
                    try await channel.call(
                        path, request, response, kind: kind, timeout: timeout, metadata: metadata))
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case .success(let answer): return answer
        case .failure(let status): throw .call(status)
        }
    }

    /// 128 random bits: no two requests of any clients have the same.
    private static func makeRequestID() -> String {
        var generator = SystemRandomNumberGenerator()
        return String(generator.next(), radix: 36) + "-" + String(generator.next(), radix: 36)
    }
}
