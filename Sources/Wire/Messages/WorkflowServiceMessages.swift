import CMessages
import Prelude
import Workflow

extension Payload: FieldTable {
    typealias Raw = Raftoral__Payload

    static var blank: Self { Payload(encoding: "", data: []) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("encoding", &value.encoding, &raw.encoding)
        visitor.bytes(&value.data, &raw.data)
    }
}

/// Starts a run of a workflow.
public struct StartWorkflowRequest: WireMessage {
    /// Empty: the node makes one up.
    public var workflowID: String
    public var type: String
    /// 0: the highest version registered on the node that takes the call.
    public var version: UInt32
    public var input: Payload?
    /// The same request id gets the same answer. Empty: none.
    public var requestID: String

    public init(
        workflowID: String = "", type: String, version: UInt32 = 0, input: Payload? = nil, requestID: String = ""
    ) {
        self.workflowID = workflowID
        self.type = type
        self.version = version
        self.input = input
        self.requestID = requestID
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension StartWorkflowRequest: FieldTable {
    typealias Raw = Raftoral__StartWorkflowRequest

    static var blank: Self { Self(type: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("workflow_id", &value.workflowID, &raw.workflow_id)
        try visitor.text("workflow_type", &value.type, &raw.workflow_type)
        visitor.number(&value.version, &raw.version)
        try visitor.message(&value.input, &raw.input)
        try visitor.text("request_id", &value.requestID, &raw.request_id)
    }
}

/// The run that was started, or that the same request id had started before.
public struct StartWorkflowResponse: WireMessage {
    public var workflowID: String
    public var runID: RunID

    public init(workflowID: String, runID: RunID) {
        self.workflowID = workflowID
        self.runID = runID
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension StartWorkflowResponse: FieldTable {
    typealias Raw = Raftoral__StartWorkflowResponse

    static var blank: Self { Self(workflowID: "", runID: .blank) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("workflow_id", &value.workflowID, &raw.workflow_id)
        try visitor.run("run_id", &value.runID, &raw.run_id)
    }
}

/// Waits for the end of a run.
public struct GetWorkflowResultRequest: WireMessage {
    public var workflowID: String
    /// Nil: the newest run of the workflow id.
    public var runID: RunID?

    public init(workflowID: String, runID: RunID? = nil) {
        self.workflowID = workflowID
        self.runID = runID
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension GetWorkflowResultRequest: FieldTable {
    typealias Raw = Raftoral__GetWorkflowResultRequest

    static var blank: Self { Self(workflowID: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("workflow_id", &value.workflowID, &raw.workflow_id)
        try visitor.run("run_id", &value.runID, &raw.run_id)
    }
}

/// How a run ended.
public struct GetWorkflowResultResponse: WireMessage {
    public var status: WorkflowStatus
    public var result: Payload?
    /// Empty unless the run failed.
    public var failure: String

    public init(status: WorkflowStatus, result: Payload? = nil, failure: String = "") {
        self.status = status
        self.result = result
        self.failure = failure
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension GetWorkflowResultResponse: FieldTable {
    typealias Raw = Raftoral__GetWorkflowResultResponse

    static var blank: Self { Self(status: .running) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.code("status", &value.status, &raw.status.rawValue)
        try visitor.message(&value.result, &raw.result)
        try visitor.text("failure", &value.failure, &raw.failure)
    }
}

/// Asks for all that is known of a run.
public struct DescribeWorkflowRequest: WireMessage {
    public var workflowID: String
    /// Nil: the newest run of the workflow id.
    public var runID: RunID?
    /// Answer from the node's own state, without asking the leader.
    public var stale: Bool

    public init(workflowID: String, runID: RunID? = nil, stale: Bool = false) {
        self.workflowID = workflowID
        self.runID = runID
        self.stale = stale
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension DescribeWorkflowRequest: FieldTable {
    typealias Raw = Raftoral__DescribeWorkflowRequest

    static var blank: Self { Self(workflowID: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("workflow_id", &value.workflowID, &raw.workflow_id)
        try visitor.run("run_id", &value.runID, &raw.run_id)
        visitor.flag(&value.stale, &raw.stale)
    }
}

/// One run in a list.
public struct WorkflowSummary: WireMessage {
    public var workflowID: String
    public var runID: RunID
    public var type: String
    public var version: UInt32
    public var status: WorkflowStatus
    public var ownerNodeID: NodeID
    public var epoch: Epoch
    /// Unix time.
    public var startedMilliseconds: Int64
    /// Unix time; 0 while it runs.
    public var endedMilliseconds: Int64
    public var checkpointCount: UInt32
    /// Why the run does not advance; empty when it does.
    public var stalled: String

    public init(
        workflowID: String, runID: RunID, type: String = "", version: UInt32 = 0, status: WorkflowStatus = .running,
        ownerNodeID: NodeID = .none, epoch: Epoch = 0, startedMilliseconds: Int64 = 0, endedMilliseconds: Int64 = 0,
        checkpointCount: UInt32 = 0, stalled: String = ""
    ) {
        self.workflowID = workflowID
        self.runID = runID
        self.type = type
        self.version = version
        self.status = status
        self.ownerNodeID = ownerNodeID
        self.epoch = epoch
        self.startedMilliseconds = startedMilliseconds
        self.endedMilliseconds = endedMilliseconds
        self.checkpointCount = checkpointCount
        self.stalled = stalled
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension WorkflowSummary: FieldTable {
    typealias Raw = Raftoral__WorkflowSummary

    static var blank: Self { Self(workflowID: "", runID: .blank) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("workflow_id", &value.workflowID, &raw.workflow_id)
        try visitor.run("run_id", &value.runID, &raw.run_id)
        try visitor.text("workflow_type", &value.type, &raw.workflow_type)
        visitor.number(&value.version, &raw.version)
        try visitor.code("status", &value.status, &raw.status.rawValue)
        try visitor.identifier("owner_node_id", &value.ownerNodeID, &raw.owner_node_id)
        try visitor.identifier("epoch", &value.epoch, &raw.epoch)
        visitor.number(&value.startedMilliseconds, &raw.started_milliseconds)
        visitor.number(&value.endedMilliseconds, &raw.ended_milliseconds)
        visitor.number(&value.checkpointCount, &raw.checkpoint_count)
        try visitor.text("stalled", &value.stalled, &raw.stalled)
    }
}

/// One record of a run's history.
public struct CheckpointSummary: WireMessage {
    public var position: UInt32
    public var key: String
    /// `step`, `side_effect`, `variable` or `timer`.
    public var kind: String
    public var value: Payload?
    public var failure: String
    public var epoch: Epoch
    public var attempt: UInt32
    public var logIndex: LogIndex
    /// Unix time.
    public var recordedMilliseconds: Int64

    public init(
        position: UInt32 = 0, key: String = "", kind: String = "", value: Payload? = nil, failure: String = "",
        epoch: Epoch = 0, attempt: UInt32 = 0, logIndex: LogIndex = 0, recordedMilliseconds: Int64 = 0
    ) {
        self.position = position
        self.key = key
        self.kind = kind
        self.value = value
        self.failure = failure
        self.epoch = epoch
        self.attempt = attempt
        self.logIndex = logIndex
        self.recordedMilliseconds = recordedMilliseconds
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension CheckpointSummary: FieldTable {
    typealias Raw = Raftoral__CheckpointSummary

    static var blank: Self { Self() }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        visitor.number(&value.position, &raw.position)
        try visitor.text("key", &value.key, &raw.key)
        try visitor.text("kind", &value.kind, &raw.kind)
        try visitor.message(&value.value, &raw.value)
        try visitor.text("failure", &value.failure, &raw.failure)
        try visitor.identifier("epoch", &value.epoch, &raw.epoch)
        visitor.number(&value.attempt, &raw.attempt)
        try visitor.identifier("log_index", &value.logIndex, &raw.log_index)
        visitor.number(&value.recordedMilliseconds, &raw.recorded_milliseconds)
    }
}

/// A run with its history, in the order of positions.
public struct DescribeWorkflowResponse: WireMessage {
    public var summary: WorkflowSummary
    public var input: Payload?
    public var result: Payload?
    public var failure: String
    public var checkpoints: [CheckpointSummary]
    /// What the call that started the run came with.
    public var trace: TraceContext?

    public init(
        summary: WorkflowSummary, input: Payload? = nil, result: Payload? = nil, failure: String = "",
        checkpoints: [CheckpointSummary] = [], trace: TraceContext? = nil
    ) {
        self.summary = summary
        self.input = input
        self.result = result
        self.failure = failure
        self.checkpoints = checkpoints
        self.trace = trace
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension DescribeWorkflowResponse: FieldTable {
    typealias Raw = Raftoral__DescribeWorkflowResponse

    static var blank: Self { Self(summary: .blank) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.message("summary", &value.summary, &raw.summary)
        try visitor.message(&value.input, &raw.input)
        try visitor.message(&value.result, &raw.result)
        try visitor.text("failure", &value.failure, &raw.failure)
        try visitor.messages(&value.checkpoints, &raw.checkpoints, &raw.n_checkpoints)
        try visitor.trace(&value.trace, &raw.traceparent, &raw.tracestate)
    }
}

/// Asks for one page of the runs.
public struct ListWorkflowsRequest: WireMessage {
    /// Empty: every type.
    public var type: String
    /// Nil: every status.
    public var status: WorkflowStatus?
    /// 0: 100; at most 1000.
    public var pageSize: UInt32
    public var pageToken: String

    public init(type: String = "", status: WorkflowStatus? = nil, pageSize: UInt32 = 0, pageToken: String = "") {
        self.type = type
        self.status = status
        self.pageSize = pageSize
        self.pageToken = pageToken
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension ListWorkflowsRequest: FieldTable {
    typealias Raw = Raftoral__ListWorkflowsRequest

    static var blank: Self { Self() }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("workflow_type", &value.type, &raw.workflow_type)
        try visitor.code("status", &value.status, &raw.status.rawValue)
        visitor.number(&value.pageSize, &raw.page_size)
        try visitor.text("page_token", &value.pageToken, &raw.page_token)
    }
}

/// Newest first.
public struct ListWorkflowsResponse: WireMessage {
    public var workflows: [WorkflowSummary]
    /// Empty on the last page.
    public var nextPageToken: String

    public init(workflows: [WorkflowSummary] = [], nextPageToken: String = "") {
        self.workflows = workflows
        self.nextPageToken = nextPageToken
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension ListWorkflowsResponse: FieldTable {
    typealias Raw = Raftoral__ListWorkflowsResponse

    static var blank: Self { Self() }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.messages(&value.workflows, &raw.workflows, &raw.n_workflows)
        try visitor.text("next_page_token", &value.nextPageToken, &raw.next_page_token)
    }
}
