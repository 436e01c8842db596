import ArgumentParser
import FoundationEssentials
import Raftoral

struct WorkflowCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "workflow", abstract: "Start workflows and look at them.",
        subcommands: [Start.self, Result.self, Describe.self, List.self])

    struct Start: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Start a workflow.")

        @OptionGroup var options: ClientOptions

        @Option(help: "The registered type, for example fibonacci.")
        var type: String

        @Option(name: .customLong("version"), help: "The registered version. Default: the highest.")
        var typeVersion: UInt32 = 0

        @Option(help: "The workflow's id. Made up when left out.")
        var id: String = ""

        @Option(help: "The input, as JSON.")
        var input: String = "null"

        @Option(help: "Makes a repetition harmless: the same request id gets the same answer.")
        var requestID: String = ""

        @Flag(help: "Wait for the result and print it.")
        var wait = false

        func validate() throws {
            guard (try? JSONDecoder().decode(AnyJSON.self, from: Data(input.utf8))) != nil else {
                throw ValidationError("--input is not JSON: \(input)")
            }
        }

        func run(_ client: ClusterClient) async throws(ClientFailure) {
            let started = try await client.call(
                WorkflowServicePath.start,
                StartWorkflowRequest(
                    workflowID: id, type: type, version: typeVersion, input: Payload(data: Array(input.utf8)),
                    requestID: requestID.isEmpty ? UUID().uuidString : requestID),
                StartWorkflowResponse.self, kind: .write)
            if wait {
                if options.output == .table { Console.out("▶ \(started.workflowID), run \(started.runID)") }
                return try await client.printResult(of: started.workflowID, run: started.runID)
            }
            switch options.output {
            case .json:
                Console.json(["workflowID": started.workflowID, "runID": started.runID.description])
            case .table: Console.out("▶ \(started.workflowID), run \(started.runID)")
            }
        }
    }

    struct Result: ClientCommand {
        static let configuration = CommandConfiguration(
            abstract: "Wait for the end of a workflow and print its result.")

        @OptionGroup var options: ClientOptions
        @Argument(help: "The workflow's id.") var id: String
        @Option(name: .customLong("run"), help: "A certain run. Default: the newest.") var run: String?

        func run(_ client: ClusterClient) async throws(ClientFailure) {
            try await client.printResult(of: id, run: try parseRun(run))
        }
    }

    struct Describe: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "Show a workflow and every recorded step.")

        @OptionGroup var options: ClientOptions
        @Argument(help: "The workflow's id.") var id: String
        @Option(name: .customLong("run"), help: "A certain run. Default: the newest.") var run: String?

        func run(_ client: ClusterClient) async throws(ClientFailure) {
            let answer = try await client.call(
                WorkflowServicePath.describe, DescribeWorkflowRequest(workflowID: id, runID: try parseRun(run)),
                DescribeWorkflowResponse.self)
            switch options.output {
            case .json: Console.json(WorkflowView(answer))
            case .table: show(answer)
            }
        }

        private func show(_ answer: DescribeWorkflowResponse) {
            let summary = answer.summary
            Console.out("\(summary.workflowID), run \(summary.runID): \(summary.type) v\(summary.version)")
            Console.out("status \(summary.status), owner node \(summary.ownerNodeID), epoch \(summary.epoch)")
            if !summary.stalled.isEmpty { Console.out("stalled: \(summary.stalled)") }
            if let trace = answer.trace { Console.out("trace \(trace.traceID), started by span \(trace.parentID)") }
            Console.out("input \(answer.input.map(text) ?? "-")")
            if summary.status.isEnded {
                Console.out(
                    answer.failure.isEmpty ? "result \(answer.result.map(text) ?? "-")" : "failure \(answer.failure)")
            }
            Console.out("")
            Console.table(
                ["POSITION", "KIND", "KEY", "EPOCH", "ATTEMPT", "LOG INDEX", "VALUE"],
                answer.checkpoints.map {
                    [
                        "\($0.position)", $0.kind, $0.key, "\($0.epoch)", "\($0.attempt)", "\($0.logIndex)",
                        $0.failure.isEmpty ? $0.value.map(text) ?? "-" : "✗ \($0.failure)",
                    ]
                })
        }
    }

    struct List: ClientCommand {
        static let configuration = CommandConfiguration(abstract: "List workflows, newest first.")

        @OptionGroup var options: ClientOptions
        @Option(help: "Only this type.") var type: String = ""
        @Option(help: "running, completed, failed, cancelled, terminated or timedOut.") var status: WorkflowStatus?
        @Option(help: "At most so many, up to 1000.") var limit: UInt32 = 100
        @Option(help: "Go on where an earlier page ended.") var page: String = ""

        func run(_ client: ClusterClient) async throws(ClientFailure) {
            let answer = try await client.call(
                WorkflowServicePath.list,
                ListWorkflowsRequest(type: type, status: status, pageSize: limit, pageToken: page),
                ListWorkflowsResponse.self)
            if options.output == .json {
                return Console.json(
                    ListView(workflows: answer.workflows.map(SummaryView.init), nextPage: answer.nextPageToken))
            }
            Console.table(
                ["WORKFLOW", "RUN", "TYPE", "STATUS", "OWNER", "STEPS"],
                answer.workflows.map {
                    [
                        $0.workflowID, "\($0.runID)", "\($0.type) v\($0.version)", "\($0.status)", "\($0.ownerNodeID)",
                        "\($0.checkpointCount)",
                    ]
                })
            if !answer.nextPageToken.isEmpty { Console.out("more: --page \(answer.nextPageToken)") }
        }
    }
}

extension WorkflowStatus: ExpressibleByArgument {
    public init?(argument: String) {
        guard let match = WorkflowStatus.allCases.first(where: { "\($0)" == argument }) else { return nil }
        self = match
    }
}

private func parseRun(_ text: String?) throws(ClientFailure) -> RunID? {
    guard let text else { return nil }
    guard let run = RunID(text) else { throw ClientFailure("'\(text)' is not a run id such as 1-4711") }
    return run
}

private func text(_ payload: Payload) -> String {
    payload.encoding == Payload.jsonEncoding
        ? String(decoding: payload.data, as: UTF8.self) : "\(payload.data.count) bytes of \(payload.encoding)"
}

extension ClusterClient {
    /// Prints how the run ended; a run that did not complete makes the command fail.
    fileprivate func printResult(of workflow: String, run: RunID?) async throws(ClientFailure) {
        let answer = try await result(of: workflow, run: run)
        if options.output == .json {
            Console.json(
                ResultView(
                    status: "\(answer.status)", result: answer.result.map(text),
                    failure: answer.failure.isEmpty ? nil : answer.failure))
        } else if answer.status == .completed {
            Console.out(answer.result.map(text) ?? "")
        }
        guard answer.status == .completed else {
            throw ClientFailure("\(workflow): \(answer.status)\(answer.failure.isEmpty ? "" : ": \(answer.failure)")")
        }
    }

    /// Waits as long as it takes. A node that goes away meanwhile is asked again for a while: it may come back.
    private func result(
        of workflow: String, run: RunID?
    ) async throws(ClientFailure) -> GetWorkflowResultResponse {
        let deadline = seams.clock.now + .seconds(options.timeout)
        while true {
            do throws(ClientFailure) {
                return try await call(
                    WorkflowServicePath.result, GetWorkflowResultRequest(workflowID: workflow, runID: run),
                    GetWorkflowResultResponse.self, waits: true)
            } catch {
                guard error.mayPass, seams.clock.now < deadline else { throw error }
            }
            await pause(.milliseconds(200))
        }
    }
}

private struct ResultView: Encodable {
    var status: String
    var result: String?
    var failure: String?
}

private struct ListView: Encodable {
    var workflows: [SummaryView]
    var nextPage: String
}

private struct SummaryView: Encodable {
    var workflowID: String
    var runID: String
    var type: String
    var version: UInt32
    var status: String
    var ownerNodeID: UInt64
    var epoch: UInt64
    var startedMilliseconds: Int64
    var endedMilliseconds: Int64
    var checkpointCount: UInt32
    var stalled: String

    init(_ summary: WorkflowSummary) {
        workflowID = summary.workflowID
        runID = summary.runID.description
        type = summary.type
        version = summary.version
        status = "\(summary.status)"
        ownerNodeID = summary.ownerNodeID.rawValue
        epoch = summary.epoch.rawValue
        startedMilliseconds = summary.startedMilliseconds
        endedMilliseconds = summary.endedMilliseconds
        checkpointCount = summary.checkpointCount
        stalled = summary.stalled
    }
}

private struct WorkflowView: Encodable {
    struct Checkpoint: Encodable {
        var position: UInt32
        var kind: String
        var key: String
        var value: String?
        var failure: String
        var epoch: UInt64
        var attempt: UInt32
        var logIndex: UInt64
    }

    var summary: SummaryView
    var input: String?
    var result: String?
    var failure: String
    var traceparent: String?
    var tracestate: String?
    var checkpoints: [Checkpoint]

    init(_ answer: DescribeWorkflowResponse) {
        summary = SummaryView(answer.summary)
        input = answer.input.map(text)
        result = answer.result.map(text)
        failure = answer.failure
        traceparent = answer.trace?.traceparent
        tracestate = answer.trace?.tracestate
        checkpoints = answer.checkpoints.map {
            Checkpoint(
                position: $0.position, kind: $0.kind, key: $0.key, value: $0.value.map(text), failure: $0.failure,
                epoch: $0.epoch.rawValue, attempt: $0.attempt, logIndex: $0.logIndex.rawValue)
        }
    }
}

/// Whatever is JSON: the decoder reads all of it before it asks for a value.
private struct AnyJSON: Decodable {
    init(from decoder: any Decoder) {}
}
