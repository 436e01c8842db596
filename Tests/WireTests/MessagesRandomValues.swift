import Prelude
import Raft
import Wire
import Workflow

/// Draws field values from a seed.
struct RandomValues {
    enum Fill: CaseIterable {
        /// Every field has its default.
        case nothing
        /// No field has its default.
        case everything
        /// Each field tosses a coin.
        case something
    }

    var random: SeededRandom
    let fill: Fill

    init(seed: UInt64, fill: Fill) {
        random = SeededRandom(seed: seed)
        self.fill = fill
    }

    private mutating func isSet() -> Bool {
        switch fill {
        case .nothing: false
        case .everything: true
        case .something: Bool.random(using: &random)
        }
    }

    mutating func flag() -> Bool { isSet() }

    mutating func number<Number: FixedWidthInteger>() -> Number {
        guard isSet() else { return 0 }
        // Every length of varint is as likely as the others; never 0.
        let bitCount = Int.random(in: 1...Number.bitWidth, using: &random)
        return Number(truncatingIfNeeded: random.next() >> UInt64(64 - bitCount)) | 1
    }

    mutating func identifier<ID: NumericIdentifier>() -> ID { ID(rawValue: number() & CodecLimits.identifierMax) }

    mutating func identifiers<ID: NumericIdentifier>() -> [ID] { list { $0.identifier() } }

    mutating func bytes() -> [UInt8] {
        guard isSet() else { return [] }
        let count = Int.random(in: 1...(Bool.random(using: &random) ? 40 : 400), using: &random)
        return (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
    }

    private static let characters: [Character] = Array("abcxyz0189 -_/.\n\t\u{1}äßø€漢字🚀\u{7F}\u{FFFD}")

    mutating func text() -> String {
        guard isSet() else { return "" }
        let count = Int.random(in: 1...(Bool.random(using: &random) ? 12 : 200), using: &random)
        return String((0..<count).map { _ in Self.characters.randomElement(using: &random) ?? "x" })
    }

    /// `cases` must begin with the default.
    mutating func code<Code>(_ cases: [Code]) -> Code {
        isSet() ? cases[Int.random(in: min(1, cases.count - 1)..<cases.count, using: &random)] : cases[0]
    }

    mutating func optional<Value>(_ make: (inout RandomValues) -> Value) -> Value? { isSet() ? make(&self) : nil }

    mutating func list<Element>(_ make: (inout RandomValues) -> Element) -> [Element] {
        guard isSet() else { return [] }
        return (0..<Int.random(in: 1...20, using: &random)).map { _ in make(&self) }
    }

    mutating func pick(_ count: Int) -> Int { Int.random(in: 0..<count, using: &random) }
}

// MARK: - Parts of messages

extension RandomValues {
    mutating func payload() -> Payload { Payload(encoding: text(), data: bytes()) }

    mutating func optionalPayload() -> Payload? { optional { $0.payload() } }

    mutating func run() -> RunID { RunID(group: identifier(), index: identifier()) }

    mutating func optionalRun() -> RunID? { optional { $0.run() } }

    mutating func role() -> NodeRole { code(NodeRole.allCases) }

    mutating func status() -> WorkflowStatus { code(WorkflowStatus.allCases) }

    mutating func trace() -> TraceContext? {
        TraceContext(
            traceparent: ["", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"][pick(2)],
            tracestate: ["", "a=1", "b=2,c=x y"][pick(3)])
    }

    mutating func origin() -> CommandOrigin {
        CommandOrigin(node: identifier(), incarnation: identifier(), sequence: number())
    }

    mutating func command() -> Command {
        switch pick(10) {
        case 0:
            .start(
                Command.Start(
                    workflowID: text(), type: text(), version: number(), input: payload(), owner: identifier(),
                    ownerIncarnation: identifier(), requestID: text(), trace: trace()))
        case 1:
            .end(
                Command.End(
                    run: run(), epoch: identifier(), status: status(), result: optionalPayload(), failure: text()))
        case 2:
            .checkpoint(
                Command.Checkpoint(
                    run: run(), epoch: identifier(), position: number(),
                    kind: code([.step, .sideEffect, .variable]), key: text(), value: optionalPayload(),
                    failure: text(), attempt: number()))
        case 3:
            .ownerChange(
                Command.OwnerChange(
                    run: run(), oldOwner: identifier(), newOwner: identifier(), newOwnerIncarnation: identifier(),
                    reason: code([.nodeFailure, .loadBalancing]), epoch: identifier()))
        case 4:
            .timerStart(
                Command.TimerStart(
                    run: run(), epoch: identifier(), position: number(), key: text(),
                    durationMilliseconds: number()))
        case 5: .timerFire(Command.TimerFire(run: run(), position: number()))
        case 6: .variablePut(Command.VariablePut(key: text(), value: bytes(), requestID: text()))
        case 7:
            .variableCompareAndSwap(
                Command.VariableCompareAndSwap(
                    key: text(), expectedRevision: number(), value: bytes(), requestID: text()))
        case 8: .variableDelete(Command.VariableDelete(key: text(), requestID: text()))
        default: .stall(Command.Stall(run: run(), epoch: identifier(), reason: text()))
        }
    }

    mutating func summary() -> WorkflowSummary {
        WorkflowSummary(
            workflowID: text(), runID: run(), type: text(), version: number(), status: status(),
            ownerNodeID: identifier(), epoch: identifier(), startedMilliseconds: number(),
            endedMilliseconds: number(), checkpointCount: number(), stalled: text())
    }

    mutating func checkpointSummary() -> CheckpointSummary {
        CheckpointSummary(
            position: number(), key: text(), kind: text(), value: optionalPayload(), failure: text(),
            epoch: identifier(), attempt: number(), logIndex: identifier(), recordedMilliseconds: number())
    }

    mutating func member() -> ClusterMember {
        ClusterMember(nodeID: identifier(), address: text(), protocolLevel: number())
    }

    mutating func replica() -> GroupReplica {
        GroupReplica(
            nodeID: identifier(), isVoter: flag(), matchIndex: identifier(), isRecentlyActive: flag(),
            lastContactMilliseconds: number())
    }

    mutating func group() -> GroupStatus {
        GroupStatus(
            groupID: identifier(), role: role(), term: identifier(), leaderNodeID: identifier(),
            commitIndex: identifier(), appliedIndex: identifier(), firstIndex: identifier(),
            lastIndex: identifier(), appliedDigest: text(), replicas: list { $0.replica() })
    }

    mutating func directoryCommand() -> DirectoryCommand {
        switch pick(3) {
        case 0:
            .add(
                DirectoryCommand.Add(
                    address: text(), nodeID: identifier(), requestID: text(), aboveNodeID: identifier(),
                    protocolLevel: number()))
        case 1: .remove(DirectoryCommand.Remove(nodeID: identifier()))
        default:
            .setAddress(DirectoryCommand.SetAddress(nodeID: identifier(), address: text(), protocolLevel: number()))
        }
    }

    mutating func entry() -> Entry {
        Entry(
            term: identifier(), index: identifier(), kind: code([.normal, .confChange, .confChangeV2]),
            data: bytes())
    }

    mutating func snapshot() -> Snapshot {
        var confState = ConfState()
        confState.voters = identifiers()
        confState.learners = identifiers()
        confState.votersOutgoing = identifiers()
        confState.learnersNext = identifiers()
        confState.autoLeave = flag()
        return Snapshot(
            metadata: SnapshotMetadata(index: identifier(), term: identifier(), confState: confState),
            data: bytes())
    }

    mutating func peerMessage() -> PeerMessage {
        var message = Message(kind: code((0...23).compactMap { MessageKind(rawValue: $0) }))
        message.to = identifier()
        message.from = identifier()
        message.term = identifier()
        message.logTerm = identifier()
        message.index = identifier()
        message.entries = list { $0.entry() }
        message.commit = identifier()
        message.vote = identifier()
        message.snapshot = optional { $0.snapshot() }
        message.reject = flag()
        message.rejectHint = identifier()
        message.context = bytes()
        return PeerMessage(
            group: identifier(), message: message, snapshotPart: number(), snapshotPartCount: number())
    }
}
