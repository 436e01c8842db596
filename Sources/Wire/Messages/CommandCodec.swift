import CMessages
import Prelude
import Workflow

/// A workflow command travels as `raftoral.WorkflowCommand`. Its runs carry no workflow id: the run id says it all.
extension Command: WireMessage {
    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension Command: ProtobufMapped {
    static func store(_ value: Self, in raw: inout Raftoral__WorkflowCommand, _ writer: inout FieldWriter) {
        switch value {
        case .start(let command):
            raw.command_case = RAFTORAL__WORKFLOW_COMMAND__COMMAND_START
            raw.start = writer.store(command)
        case .end(let command):
            raw.command_case = RAFTORAL__WORKFLOW_COMMAND__COMMAND_END
            raw.end = writer.store(command)
        case .checkpoint(let command):
            raw.command_case = RAFTORAL__WORKFLOW_COMMAND__COMMAND_CHECKPOINT
            raw.checkpoint = writer.store(command)
        case .ownerChange(let command):
            raw.command_case = RAFTORAL__WORKFLOW_COMMAND__COMMAND_OWNER_CHANGE
            raw.owner_change = writer.store(command)
        case .timerStart(let command):
            raw.command_case = RAFTORAL__WORKFLOW_COMMAND__COMMAND_TIMER_START
            raw.timer_start = writer.store(command)
        case .timerFire(let command):
            raw.command_case = RAFTORAL__WORKFLOW_COMMAND__COMMAND_TIMER_FIRE
            raw.timer_fire = writer.store(command)
        case .variablePut(let command):
            raw.command_case = RAFTORAL__WORKFLOW_COMMAND__COMMAND_VARIABLE_PUT
            raw.variable_put = writer.store(command)
        case .variableCompareAndSwap(let command):
            raw.command_case = RAFTORAL__WORKFLOW_COMMAND__COMMAND_VARIABLE_COMPARE_AND_SWAP
            raw.variable_compare_and_swap = writer.store(command)
        case .variableDelete(let command):
            raw.command_case = RAFTORAL__WORKFLOW_COMMAND__COMMAND_VARIABLE_DELETE
            raw.variable_delete = writer.store(command)
        case .stall(let command):
            raw.command_case = RAFTORAL__WORKFLOW_COMMAND__COMMAND_STALL
            raw.stall = writer.store(command)
        }
    }

    static func load(
        _ raw: inout Raftoral__WorkflowCommand, _ reader: inout FieldReader
    ) throws(DecodingFailure) -> Self {
        switch raw.command_case {
        case RAFTORAL__WORKFLOW_COMMAND__COMMAND_START:
            .start(try reader.load(raw.start, as: Start.self))
        case RAFTORAL__WORKFLOW_COMMAND__COMMAND_END:
            .end(try reader.load(raw.end, as: End.self))
        case RAFTORAL__WORKFLOW_COMMAND__COMMAND_CHECKPOINT:
            .checkpoint(try reader.load(raw.checkpoint, as: Checkpoint.self))
        case RAFTORAL__WORKFLOW_COMMAND__COMMAND_OWNER_CHANGE:
            .ownerChange(try reader.load(raw.owner_change, as: OwnerChange.self))
        case RAFTORAL__WORKFLOW_COMMAND__COMMAND_TIMER_START:
            .timerStart(try reader.load(raw.timer_start, as: TimerStart.self))
        case RAFTORAL__WORKFLOW_COMMAND__COMMAND_TIMER_FIRE:
            .timerFire(try reader.load(raw.timer_fire, as: TimerFire.self))
        case RAFTORAL__WORKFLOW_COMMAND__COMMAND_VARIABLE_PUT:
            .variablePut(try reader.load(raw.variable_put, as: VariablePut.self))
        case RAFTORAL__WORKFLOW_COMMAND__COMMAND_VARIABLE_COMPARE_AND_SWAP:
            .variableCompareAndSwap(try reader.load(raw.variable_compare_and_swap, as: VariableCompareAndSwap.self))
        case RAFTORAL__WORKFLOW_COMMAND__COMMAND_VARIABLE_DELETE:
            .variableDelete(try reader.load(raw.variable_delete, as: VariableDelete.self))
        case RAFTORAL__WORKFLOW_COMMAND__COMMAND_STALL:
            .stall(try reader.load(raw.stall, as: Stall.self))
        default: throw reader.failure(.noKnownAlternative)
        }
    }
}

extension Command.Start: FieldTable {
    typealias Raw = Raftoral__WorkflowStart

    static var blank: Self {
        Self(workflowID: "", type: "", version: 0, input: .blank, owner: .none, ownerIncarnation: 0)
    }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("workflow_id", &value.workflowID, &raw.workflow_id)
        try visitor.text("workflow_type", &value.type, &raw.workflow_type)
        visitor.number(&value.version, &raw.version)
        try visitor.messageOrBlank(&value.input, &raw.input)
        try visitor.identifier("owner_node_id", &value.owner, &raw.owner_node_id)
        try visitor.identifier("owner_incarnation", &value.ownerIncarnation, &raw.owner_incarnation)
        try visitor.text("request_id", &value.requestID, &raw.request_id)
        try visitor.trace(&value.trace, &raw.traceparent, &raw.tracestate)
    }
}

extension Command.End: FieldTable {
    typealias Raw = Raftoral__WorkflowEnd

    static var blank: Self { Self(run: .blank, epoch: 0, status: .running, result: nil) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.run("run_id", &value.run, &raw.run_id)
        try visitor.identifier("epoch", &value.epoch, &raw.epoch)
        try visitor.code("status", &value.status, &raw.status.rawValue)
        try visitor.message(&value.result, &raw.result)
        try visitor.text("failure", &value.failure, &raw.failure)
    }
}

extension Command.Checkpoint: FieldTable {
    typealias Raw = Raftoral__WorkflowCheckpoint

    static var blank: Self { Self(run: .blank, epoch: 0, position: 0, kind: .step, key: "", value: nil, attempt: 0) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("key", &value.key, &raw.key)
        try visitor.message(&value.value, &raw.value)
        try visitor.run("run_id", &value.run, &raw.run_id)
        try visitor.identifier("epoch", &value.epoch, &raw.epoch)
        visitor.number(&value.position, &raw.position)
        try visitor.code("kind", &value.kind, &raw.kind.rawValue)
        visitor.number(&value.attempt, &raw.attempt)
        try visitor.text("failure", &value.failure, &raw.failure)
    }
}

extension Command.OwnerChange: FieldTable {
    typealias Raw = Raftoral__OwnerChange

    static var blank: Self {
        Self(
            run: .blank, oldOwner: .none, newOwner: .none, newOwnerIncarnation: 0, reason: .nodeFailure, epoch: 0)
    }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.identifier("old_owner_node_id", &value.oldOwner, &raw.old_owner_node_id)
        try visitor.identifier("new_owner_node_id", &value.newOwner, &raw.new_owner_node_id)
        try visitor.code("reason", &value.reason, &raw.reason.rawValue)
        try visitor.run("run_id", &value.run, &raw.run_id)
        try visitor.identifier("epoch", &value.epoch, &raw.epoch)
        try visitor.identifier(
            "new_owner_incarnation", &value.newOwnerIncarnation, &raw.new_owner_incarnation)
    }
}

extension Command.TimerStart: FieldTable {
    typealias Raw = Raftoral__TimerStart

    static var blank: Self { Self(run: .blank, epoch: 0, position: 0, key: "", durationMilliseconds: 0) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.run("run_id", &value.run, &raw.run_id)
        try visitor.identifier("epoch", &value.epoch, &raw.epoch)
        visitor.number(&value.position, &raw.position)
        try visitor.text("key", &value.key, &raw.key)
        visitor.number(&value.durationMilliseconds, &raw.duration_milliseconds)
    }
}

extension Command.TimerFire: FieldTable {
    typealias Raw = Raftoral__TimerFire

    static var blank: Self { Self(run: .blank, position: 0) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.run("run_id", &value.run, &raw.run_id)
        visitor.number(&value.position, &raw.position)
    }
}

extension Command.VariablePut: FieldTable {
    typealias Raw = Raftoral__VariablePut

    static var blank: Self { Self(key: "", value: []) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("key", &value.key, &raw.key)
        visitor.bytes(&value.value, &raw.value)
        try visitor.text("request_id", &value.requestID, &raw.request_id)
    }
}

extension Command.VariableCompareAndSwap: FieldTable {
    typealias Raw = Raftoral__VariableCompareAndSwap

    static var blank: Self { Self(key: "", expectedRevision: 0, value: []) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("key", &value.key, &raw.key)
        visitor.number(&value.expectedRevision, &raw.expected_revision)
        visitor.bytes(&value.value, &raw.value)
        try visitor.text("request_id", &value.requestID, &raw.request_id)
    }
}

extension Command.VariableDelete: FieldTable {
    typealias Raw = Raftoral__VariableDelete

    static var blank: Self { Self(key: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("key", &value.key, &raw.key)
        try visitor.text("request_id", &value.requestID, &raw.request_id)
    }
}

extension Command.Stall: FieldTable {
    typealias Raw = Raftoral__RunStall

    static var blank: Self { Self(run: .blank, epoch: 0, reason: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.run("run_id", &value.run, &raw.run_id)
        try visitor.identifier("epoch", &value.epoch, &raw.epoch)
        try visitor.text("reason", &value.reason, &raw.reason)
    }
}

extension RunID {
    /// To be overwritten: a run that must be named has no default.
    static var blank: Self { RunID(group: .directory, index: 0) }
}

extension FieldVisitor {
    /// One that does not follow the standard counts as none.
    mutating func trace(
        _ value: inout TraceContext?, _ parent: inout CText?, _ state: inout CText?
    ) throws(Failure) {
        var texts = (value?.traceparent ?? "", value?.tracestate ?? "")
        try text("traceparent", &texts.0, &parent)
        try text("tracestate", &texts.1, &state)
        if value == nil, !texts.0.isEmpty { value = TraceContext(traceparent: texts.0, tracestate: texts.1) }
    }
}
