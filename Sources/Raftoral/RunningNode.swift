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
public final class RunningNode: WorkflowClient {
    public let id: NodeID
    public let clusterID: String
    /// Where the other nodes and clients reach it.
    public let address: HostPort
    private let loop: EventLoop
    /// Where metrics, health and state are served, if they are.
    public let adminAddress: HostPort?
    private let bound: LoopBound<Node>
    private let admin: LoopBound<AdminServer?>
    private let security: LoopBound<Security>
    private let isShutDown = Atomic<Bool>(false)

    private init(_ node: Node, _ admin: AdminServer?, _ security: Security, _ loop: EventLoop) {
        id = node.id
        clusterID = node.clusterID
        address = node.advertisedAddress
        self.loop = loop
        bound = LoopBound(node, to: loop)
        adminAddress = admin?.address
        self.admin = LoopBound(admin, to: loop)
        self.security = LoopBound(security, to: loop)
    }

    /// Starts a node on a loop that runs: resumes what the data directory holds, or bootstraps, or joins. Returns once
    /// it serves.
    ///
    /// - Parameters:
    ///   - disk: `MemoryDisk()` keeps nothing.
    ///   - adminAddress: where to serve metrics, health and state over HTTP/1.1; nil: nowhere.
    ///   - security: files of TLS and access; none: cleartext, and everybody may do everything. Changes of the files count
    ///     within seconds.
    ///   - register: puts in the workflows that this node can execute. A run of a workflow that a node does not know
    ///     waits there; so register the same ones on all nodes.
    ///   - onStop: called on the loop when the node stops by itself: removed from the cluster, or its disk failed.
    ///   - report: called on the loop with what happens while the node starts.
    public static func start(
        _ configuration: NodeConfiguration, on loop: EventLoop, disk: any Disk = FileDisk(),
        adminAddress: HostPort? = nil, security files: SecurityFiles = SecurityFiles(),
        logger: Logger = Logger(label: "raftoral"),
        onStop: @escaping @Sendable (NodeError) -> Void = { _ in },
        report: @escaping @Sendable (StartEvent) -> Void = { _ in },
        workflows register: (inout WorkflowRegistry) throws -> Void
    ) async throws -> RunningNode {
        var registry = WorkflowRegistry()
        try register(&registry)
        let workflows = registry
        let started = await loop.hop(with: LoopBound((), to: loop)) { () -> Result<RunningNode, NodeError> in
            var generator = SystemRandomNumberGenerator()
            var configuration = configuration
            let plain = loop.seams(disk: disk, randomSeed: generator.next())
            let security: Security
            do throws(SecurityFailure) {
                security = try Security(
                    files, seams: plain, files: FileDisk(), limits: configuration.limits,
                    metrics: configuration.metrics, logger: logger)
            } catch {
                return .failure(.cannotSecure(error.description))
            }
            if !files.isEmpty { configuration.access = security.access }
            let admin: AdminServer?
            do throws(NetworkError) {
                admin = try adminAddress.map { address throws(NetworkError) in
                    try AdminServer(on: loop, address: address, limits: configuration.limits.admin)
                }
            } catch {
                security.close()
                return .failure(.cannotBindAdmin(error))
            }
            do throws(NodeError) {
                let node = try await Node.start(
                    configuration, seams: security.seams, registry: workflows, logger: logger, report: report)
                node.onStop = onStop
                admin?.node = node
                return .success(RunningNode(node, admin, security, loop))
            } catch {
                admin?.close()
                security.close()
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
        await loop.hop(with: admin) { $0?.close() }
        await loop.hop(with: security) { $0.close() }
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

extension RunningNode {
    public func startWorkflow(
        _ request: StartWorkflowRequest
    ) async throws(WorkflowCallError) -> StartWorkflowResponse {
        try await call { node throws(GRPCStatus) in try await node.startWorkflow(request) }
    }

    public func workflowResult(
        _ request: GetWorkflowResultRequest, timeout: Duration?
    ) async throws(WorkflowCallError) -> GetWorkflowResultResponse {
        let nanoseconds = timeout?.nanoseconds
        return try await call { node throws(GRPCStatus) in
            try await node.workflowResult(request, timeout: nanoseconds)
        }
    }

    public func describeWorkflow(
        _ request: DescribeWorkflowRequest
    ) async throws(WorkflowCallError) -> DescribeWorkflowResponse {
        try await call { node throws(GRPCStatus) in try await node.describeWorkflow(request) }
    }
}
