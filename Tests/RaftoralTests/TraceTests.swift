import Logging
import Raftoral
import XCTest

/// What the start of a run came with reaches its code, the calls that it makes, and the log.
final class TraceTests: LoopTestCase {
    private var nodes: TestNodes { TestNodes(loop: loop) }
    private static let trace = TraceContext(
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", tracestate: "rojo=1")

    private struct Seen: Codable, Sendable, Equatable {
        var context: String?
        var inFunction: String?
        var inStep: String?
        var inChildTask: String?

        init() {}
        init(everywhere text: String?) { (context, inFunction, inStep, inChildTask) = (text, text, text, text) }
    }

    private static func register(_ workflows: inout WorkflowRegistry) {
        workflows.register("look") { (context, _: String) in
            var seen = Seen()
            seen.context = context.trace?.description
            seen.inFunction = TraceContext.current?.description
            seen.inStep = try await context.step("step") { TraceContext.current?.description }
            async let child: String? = context.step("child") { TraceContext.current?.description }
            seen.inChildTask = try await child
            return seen
        }
    }

    func testItReachesTheCodeOfTheRun() throws {
        let (loop, nodes) = (loop, nodes)
        try onLoop {
            let node = try await nodes.start(bootstrap: true, workflows: Self.register)
            let client = RaftoralClient(peers: [node.address], on: loop)
            let callers: [any WorkflowClient] = [node, client]
            for caller in callers {
                let with: Seen = try await TraceContext.$current.withValue(Self.trace) {
                    try await caller.run("look", input: "")
                }
                XCTAssertEqual(with, Seen(everywhere: Self.trace?.description))
                // Whoever calls without one after that gets none.
                let without: Seen = try await caller.run("look", input: "")
                XCTAssertEqual(without, Seen(everywhere: nil))
            }
            await client.close()
            await node.shutdown()
        }
    }

    func testALineAboutTheRunTellsIt() throws {
        let loop = loop
        let lines = LoopBound(Lines(), to: loop)
        let disk = MemoryDisk()
        @Sendable func start(bootstrap: Bool, step: String) async throws -> RunningNode {
            try await RunningNode.start(
                NodeConfiguration(address: .anyPort, dataDirectory: "/data", bootstrap: bootstrap), on: loop,
                disk: disk, logger: LineCatcher.logger(lines),
                workflows: { workflows in
                    workflows.register("change") { (context, _: String) in
                        let _: String = try await context.step(step) { step }
                        try await context.sleep(for: .seconds(1_000_000))
                    }
                })
        }
        try onLoop {
            let node = try await start(bootstrap: true, step: "first")
            _ = try await TraceContext.$current.withValue(Self.trace) {
                try await node.start("change", input: "", returning: String.self, id: "w")
            }
            let handle = node.workflow("w", returning: String.self)
            while try await handle.describe().checkpoints.count < 2 { await Task.yield() }
            await node.shutdown()
            // The code now asks for another step than it recorded.
            let again = try await start(bootstrap: false, step: "second")
            try await loop.until("the run stalls") { lines.value.all.contains { $0.0 == "a run does not advance" } }
            let line = lines.value.all.first { $0.0 == "a run does not advance" }?.1
            XCTAssertEqual(line?["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736")
            XCTAssertEqual(line?["span_id"], "00f067aa0ba902b7")
            XCTAssertEqual(line?["workflow"], "w")
            await again.shutdown()
        }
    }

    func testFromAndToMetadata() throws {
        let trace = try XCTUnwrap(Self.trace)
        var metadata = Metadata(trace)
        XCTAssertEqual(TraceContext(metadata), trace)
        metadata.add("tracestate", "congo=2")
        XCTAssertEqual(TraceContext(metadata)?.tracestate, "rojo=1,congo=2")
        metadata.add("traceparent", trace.traceparent)
        XCTAssertNil(TraceContext(metadata), "two of them")
        XCTAssertNil(TraceContext(Metadata()))
    }

    func testTheProviderForLoggersOfTheProgram() {
        XCTAssertEqual(Logger.MetadataProvider.workflowTrace.get(), [:])
        TraceContext.$current.withValue(Self.trace) {
            XCTAssertEqual(
                Logger.MetadataProvider.workflowTrace.get(),
                ["trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"])
        }
    }
}
