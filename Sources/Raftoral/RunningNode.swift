import Logging
import Node
import Prelude
import Reactor
import Storage
import Synchronization
import Wire
import Workflow

/// A node that runs inside this program. Sendable: its calls hop to its loop, without going over the network.
///
/// ```swift
/// let node = try await RunningNode.start(configuration, on: loop) { workflows in
///     workflows.register("greet") { (context, name: String) in
///         try await context.step("compose") { "Hello, \(name)!" }
///     }
/// }
/// let greeting: String = try await node.run("greet", input: "Ada")
/// await node.shutdown()
/// ```
public final class RunningNode: Sendable {
    public let id: NodeID
    public let clusterID: String
    /// Where the other nodes and clients reach it.
    public let address: HostPort
    private let loop: EventLoop
    private let bound: LoopBound<Node>
    private let isShutDown = Atomic<Bool>(false)

    private init(_ node: Node, _ loop: EventLoop) {
        id = node.id
        clusterID = node.clusterID
        address = node.advertisedAddress
        self.loop = loop
        bound = LoopBound(node, to: loop)
    }

    /// Starts a node on a loop that runs: resumes what the data directory holds, or bootstraps, or joins. Returns once
    /// it serves.
    ///
    /// - Parameters:
    ///   - disk: `MemoryDisk()` keeps nothing.
    ///   - register: puts in the workflows that this node can execute. A run of a workflow that a node does not know
    ///     waits there; so register the same ones on all nodes.
    ///   - onStop: called on the loop when the node stops by itself: removed from the cluster, or its disk failed.
    ///   - report: called on the loop with what happens while the node starts.
    public static func start(
        _ configuration: NodeConfiguration, on loop: EventLoop, disk: any Disk = FileDisk(),
        logger: Logger = Logger(label: "raftoral"), onStop: @escaping @Sendable (NodeError) -> Void = { _ in },
        report: @escaping @Sendable (StartEvent) -> Void = { _ in },
        workflows register: (inout WorkflowRegistry) throws -> Void
    ) async throws -> RunningNode {
        var registry = WorkflowRegistry()
        try register(&registry)
        let workflows = registry
        let started = await loop.hop(with: LoopBound((), to: loop)) { () -> Result<RunningNode, NodeError> in
            var generator = SystemRandomNumberGenerator()
            let seams = loop.seams(disk: disk, randomSeed: generator.next())
            do throws(NodeError) {
                let node = try await Node.start(
                    configuration, seams: seams, registry: workflows, logger: logger, report: report)
                node.onStop = onStop
                return .success(RunningNode(node, loop))
            } catch {
                return .failure(error)
            }
        }
        return try started.get()
    }

    /// Leaves in order: no new calls, leadership handed over, calls under way finished, then everything closed. What is
    /// left after `grace` is cut. The node's data stays; starting with the same data directory resumes it.
    ///
    /// The loop has to be stopped after this, not before. Calls that come later fail with `UNAVAILABLE`.
    public func shutdown(grace: Duration = .seconds(5)) async {
        guard !isShutDown.exchange(true, ordering: .relaxed) else { return }
        let grace = grace.nanoseconds
        await loop.hop(with: bound) { await $0.shutdown(grace: grace) }
    }

    // MARK: - Workflows

    /// Starts a workflow, durably, and returns a handle to await its typed result by.
    ///
    /// - Parameters:
    ///   - id: names the workflow; made up when empty. One run of an id at a time: `ALREADY_EXISTS` otherwise.
    ///   - version: 0 stands for the highest that is registered here.
    ///   - requestID: makes a repetition harmless: the same request gets the same run.
    public func start<Output: Decodable & Sendable>(
        _ type: String, input: some Encodable & Sendable, returning output: Output.Type = Output.self,
        id: String = "", version: UInt32 = 0, requestID: String = ""
    ) async throws(WorkflowCallError) -> WorkflowHandle<Output> {
        let payload: Payload
        do { payload = try JSON.encode(input) } catch { throw .unreadable("the input: \(error)") }
        let request = StartWorkflowRequest(
            workflowID: id, type: type, version: version, input: payload, requestID: requestID)
        let started = try await call { node throws(GRPCStatus) in try await node.startWorkflow(request) }
        return WorkflowHandle(node: self, workflowID: started.workflowID, runID: started.runID)
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

    /// The handle of a workflow that was started elsewhere. Nil `runID`: the newest run of the id.
    public func workflow<Output: Decodable & Sendable>(
        _ id: String, runID: RunID? = nil, returning output: Output.Type = Output.self
    ) -> WorkflowHandle<Output> {
        WorkflowHandle(node: self, workflowID: id, runID: runID)
    }

    // MARK: - Everything else

    /// Any call of `Node`, on its loop: the workflow and variable services, the status, the membership.
    public func call<Output: Sendable>(
        _ body: @escaping @Sendable (Node) async throws(GRPCStatus) -> Output
    ) async throws(WorkflowCallError) -> Output {
        guard !isShutDown.load(ordering: .relaxed) else {
            throw .call(GRPCStatus(code: .unavailable, message: "node \(id) is shut down"))
        }
        let result = await loop.hop(with: bound) { node -> Result<Output, GRPCStatus> in
            do throws(GRPCStatus) {
                return .success(try await body(node))
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case .success(let output): return output
        case .failure(let status): throw .call(status)
        }
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
    private let node: RunningNode

    init(node: RunningNode, workflowID: String, runID: RunID?) {
        self.node = node
        self.workflowID = workflowID
        self.runID = runID
    }

    /// Waits until the run ends, wherever it is executed. Gives up after `timeout` (`DEADLINE_EXCEEDED`) and when the
    /// task is cancelled (`CANCELLED`); the run goes on in either case.
    public func result(timeout: Duration? = nil) async throws(WorkflowCallError) -> Output {
        let request = GetWorkflowResultRequest(workflowID: workflowID, runID: runID)
        let nanoseconds = timeout?.nanoseconds
        let answer = try await node.call { node throws(GRPCStatus) in
            try await node.workflowResult(request, timeout: nanoseconds)
        }
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
        return try await node.call { node throws(GRPCStatus) in try await node.describeWorkflow(request) }
    }
}
