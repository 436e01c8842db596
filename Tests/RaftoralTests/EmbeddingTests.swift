import Raftoral
import XCTest

private struct Order: Codable, Sendable {
    var item: String
    var count: Int
}

private struct Receipt: Codable, Sendable, Equatable {
    var text: String
    var total: Int
}

extension TestNodes {
    fileprivate func startWithOwnWorkflows() async throws -> RunningNode {
        try await start(
            bootstrap: true,
            workflows: { workflows in
                workflows.register("buy") { (context, order: Order) in
                    let price: Int = try await context.step("price") { order.item.count * 100 }
                    let total: Int = try await context.step("total") { price * order.count }
                    return Receipt(text: "\(order.count) × \(order.item)", total: total)
                }
                workflows.register("greet") { (_, name: String) in "Hello, \(name)!" }
                workflows.register("greet", version: 2) { (_, name: String) in "Good day, \(name)." }
                workflows.register("forget") { (_, _: String) in }
                workflows.register("fail") { (_, why: String) -> String in throw WorkflowFailure(why) }
                workflows.register("wait") { (context, milliseconds: Int) in
                    try await context.sleep(for: .milliseconds(milliseconds))
                    return milliseconds
                }
            })
    }
}

private func failure<Output: Sendable>(
    _ body: () async throws(WorkflowCallError) -> Output
) async -> WorkflowCallError? {
    do throws(WorkflowCallError) {
        _ = try await body()
        return nil
    } catch {
        return error
    }
}

/// A program with its own workflows.
final class EmbeddingTests: LoopTestCase {
    private var nodes: TestNodes { TestNodes(loop: loop) }

    func testTypedResult() throws {
        let nodes = nodes
        try onLoop {
            let node = try await nodes.startWithOwnWorkflows()
            let receipt: Receipt = try await node.run("buy", input: Order(item: "book", count: 3))
            XCTAssertEqual(receipt, Receipt(text: "3 × book", total: 1200))
            let newest: String = try await node.run("greet", input: "Ada")
            XCTAssertEqual(newest, "Good day, Ada.")
            let older: String = try await node.run("greet", input: "Ada", version: 1)
            XCTAssertEqual(older, "Hello, Ada!")
            let nothing: String? = try await node.run("forget", input: "me")
            XCTAssertNil(nothing)
            await node.shutdown()
        }
    }

    func testHandleOutlivesItsStart() throws {
        let nodes = nodes
        try onLoop {
            let node = try await nodes.startWithOwnWorkflows()
            let started = try await node.start(
                "buy", input: Order(item: "pen", count: 2), returning: Receipt.self, id: "o-1")
            let found = node.workflow("o-1", returning: Receipt.self)
            let first = try await started.result()
            let second = try await found.result()
            XCTAssertEqual(first, second)
            let again = try await node.start(
                "buy", input: Order(item: "pen", count: 2), returning: Receipt.self, requestID: "r-1")
            let repeated = try await node.start(
                "buy", input: Order(item: "pen", count: 2), returning: Receipt.self, requestID: "r-1")
            XCTAssertEqual(again.runID, repeated.runID)
            await node.shutdown()
        }
    }

    func testFailures() throws {
        let nodes = nodes
        try onLoop {
            let node = try await nodes.startWithOwnWorkflows()
            let failed = await failure { () throws(WorkflowCallError) -> String in
                try await node.run("fail", input: "on purpose")
            }
            XCTAssertEqual(failed, .ended(.failed, failure: "on purpose"))
            let unknown = await failure { () throws(WorkflowCallError) -> String in
                try await node.run("unheard_of", input: "")
            }
            guard case .call(let status)? = unknown else { return XCTFail("\(String(describing: unknown))") }
            XCTAssertEqual(status.code, .notFound)
            let misread = await failure { () throws(WorkflowCallError) -> Int in
                try await node.run("greet", input: "Ada")
            }
            guard case .unreadable? = misread else { return XCTFail("\(String(describing: misread))") }
            let missing = await failure { () throws(WorkflowCallError) -> Int in
                try await node.workflow("nowhere").result()
            }
            guard case .call(let status)? = missing else { return XCTFail("\(String(describing: missing))") }
            XCTAssertEqual(status.code, .notFound)
            await node.shutdown()
        }
    }

    func testWaitingEndsByTimeoutAndByCancellation() throws {
        let (loop, nodes) = (loop, nodes)
        try onLoop {
            let node = try await nodes.startWithOwnWorkflows()
            let run = try await node.start("wait", input: 60_000, returning: Int.self)
            let late = await failure { () throws(WorkflowCallError) -> Int in
                try await run.result(timeout: .milliseconds(50))
            }
            guard case .call(let status)? = late else { return XCTFail("\(String(describing: late))") }
            XCTAssertEqual(status.code, .deadlineExceeded)

            let waiting = loop.start { await failure { () throws(WorkflowCallError) -> Int in try await run.result() } }
            _ = try await run.describe()
            waiting.cancel()
            guard case .call(let status)? = await waiting.value else { return XCTFail("nothing was cancelled") }
            XCTAssertEqual(status.code, .cancelled)
            let described = try await run.describe()
            XCTAssertEqual(described.summary.status, .running)
            await node.shutdown()
        }
    }

    func testShutdownEndsWaitersAndLaterCalls() throws {
        let (loop, nodes) = (loop, nodes)
        try onLoop {
            let node = try await nodes.startWithOwnWorkflows()
            let run = try await node.start("wait", input: 60_000, returning: Int.self)
            let waiting = loop.start { await failure { () throws(WorkflowCallError) -> Int in try await run.result() } }
            _ = try await run.describe()
            await node.shutdown()
            guard case .call(let status)? = await waiting.value else { return XCTFail("still waiting") }
            XCTAssertEqual(status.code, .unavailable)
            let after = await failure { () throws(WorkflowCallError) -> String in
                try await node.run("greet", input: "Ada")
            }
            guard case .call(let status)? = after else { return XCTFail("\(String(describing: after))") }
            XCTAssertEqual(status.code, .unavailable)
            // Harmless a second time.
            await node.shutdown()
        }
    }

    func testVariables() throws {
        let nodes = nodes
        try onLoop {
            let node = try await nodes.startWithOwnWorkflows()
            let revision = try await node.call { node throws(GRPCStatus) in
                try await node.put(PutRequest(key: "k", value: [1])).revision
            }
            let swapped = try await node.call { node throws(GRPCStatus) in
                try await node.compareAndSwap(
                    CompareAndSwapRequest(key: "k", expectedRevision: revision, value: [2])
                ).swapped
            }
            XCTAssertTrue(swapped)
            let value = try await node.call { node throws(GRPCStatus) in try await node.get(GetRequest(key: "k")).value
            }
            XCTAssertEqual(value, [2])
            let existed = try await node.call { node throws(GRPCStatus) in
                try await node.delete(DeleteRequest(key: "k")).existed
            }
            XCTAssertTrue(existed)
            await node.shutdown()
        }
    }

    /// Called from other threads than the loop's, as by a program that has the loop in a thread of its own.
    func testLoopInAThreadOfItsOwn() async throws {
        let thread = try LoopThread()
        let node = try await TestNodes(loop: thread.loop).startWithOwnWorkflows()
        let greetings = try await withThrowingTaskGroup(of: String.self) { group in
            for number in 0..<50 { group.addTask { try await node.run("greet", input: "\(number)") } }
            return try await group.reduce(into: Set<String>()) { $0.insert($1) }
        }
        XCTAssertEqual(greetings, Set((0..<50).map { "Good day, \($0)." }))
        await node.shutdown()
        await thread.end()
    }

    func testNothingOfANodeStays() throws {
        let loop = loop
        for _ in 0..<3 {
            let kept = Kept()
            let box = LoopBound(kept, to: loop)
            let seams = LoopBound(loop.seams(disk: MemoryDisk(), randomSeed: 5), to: loop)
            try onLoop {
                let configuration = NodeConfiguration(address: .anyPort, dataDirectory: "/data", bootstrap: true)
                var registry = WorkflowRegistry()
                SampleWorkflows.register(in: &registry)
                let node = try await Node.start(
                    configuration, seams: seams.value, registry: registry, logger: .init(label: "test"))
                let started = try await node.startWorkflow(
                    StartWorkflowRequest(
                        workflowID: "", type: "fibonacci", version: 0, input: Payload(data: Array(#"{"n":5}"#.utf8)),
                        requestID: ""))
                let result = try await node.workflowResult(
                    GetWorkflowResultRequest(workflowID: started.workflowID, runID: started.runID))
                XCTAssertEqual(result.status, .completed)
                await node.shutdown()
                box.value.node = node
            }
            kept.released = kept.node
            kept.node = nil
            wait("the node is released", within: .seconds(120)) { kept.released == nil }
        }
    }

    private final class Kept {
        var node: Node?
        weak var released: Node?
    }

    func testLoopsWithNodesComeAndGo() throws {
        for _ in 0..<4 {
            let other = try EventLoop()
            let nodes = TestNodes(loop: other)
            let done = LoopBound(Flag(), to: other)
            let task = other.start {
                let cluster = try? await nodes.cluster(2)
                await cluster?.shutdown()
                done.value.isSet = cluster != nil
                other.stop()
            }
            other.run()
            XCTAssertTrue(other.run(until: { true }))
            other.close()
            _ = task
        }
    }

    private final class Flag { var isSet = false }
}
