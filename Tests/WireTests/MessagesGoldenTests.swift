import Prelude
import Raft
import Wire
import Workflow
import XCTest

/// Bytes that Google's Python implementation made from the same .proto files.
final class MessagesGoldenTests: XCTestCase {
    private let run = RunID(group: 1, index: 4711)
    private let payload = Payload(data: Array(#"{"a":1}"#.utf8))

    private func expect<Value: WireMessage>(
        _ value: Value, _ hexadecimal: String..., line: UInt = #line
    ) throws {
        let golden = hexadecimal.joined()
        let bytes = stride(from: 0, to: golden.utf8.count, by: 2).compactMap { place in
            UInt8(golden.dropFirst(place).prefix(2), radix: 16)
        }
        XCTAssertEqual(bytes.count * 2, golden.utf8.count, "not hexadecimal", line: line)
        XCTAssertEqual(value.encoded(), bytes, line: line)
        XCTAssertEqual(try Value(decoding: bytes), value, line: line)
    }

    private var summary: WorkflowSummary {
        WorkflowSummary(
            workflowID: "w-1", runID: run, type: "order", version: 3, status: .failed, ownerNodeID: 2, epoch: 4,
            startedMilliseconds: 1_700_000_000_123, endedMilliseconds: -1, checkpointCount: 70_000,
            stalled: "größe")
    }

    private var peerMessage: PeerMessage {
        var confState = ConfState()
        confState.voters = [1, 2, 300]
        confState.learners = [4]
        confState.votersOutgoing = [5]
        confState.learnersNext = [6]
        confState.autoLeave = true
        var message = Message(kind: .snapshot)
        message.to = 2
        message.from = 3
        message.term = 4
        message.logTerm = 5
        message.index = 6
        message.entries = [
            Entry(term: 4, index: 7, kind: .confChangeV2, data: [0x64]),
            Entry(term: 0, index: 0, kind: .normal, data: []),
        ]
        message.commit = 8
        message.vote = 9
        message.snapshot = Snapshot(
            metadata: SnapshotMetadata(index: 10, term: 4, confState: confState), data: [0x73])
        message.reject = true
        message.rejectHint = 11
        message.context = [0x78]
        return PeerMessage(group: 1, message: message, snapshotPart: 1, snapshotPartCount: 2)
    }

    func test_raft() throws {
        try expect(
            DiscoveryResponse(
                nodeID: 3, role: .leader, highestKnownNodeID: 300, address: "n3:7000", clusterID: "c",
                leaderNodeID: NodeID(CodecLimits.identifierMax), leaderAddress: "[::1]:7000"),
            "0803100218ac0222076e333a373030302a016330ffffffffffffffff7f3a0a5b3a3a315d3a37303030")
        try expect(
            RaftEnvelope(
                raftMessage: [0, 1, 255], command: .timerFire(Command.TimerFire(run: run, position: 2)), groupID: 1,
                origin: CommandOrigin(node: 2, incarnation: 3, sequence: .max), clusterID: "c-1", fromNodeID: 4,
                toNodeID: 5, disk: 2),
            "0a030001ff120c320a0a06312d3437313110021801220f0802100318ffffffffffffffffff012a03632d31300438054002")
        try expect(
            MessageResponse(success: true, error: "none"),
            "080112046e6f6e65")
        try expect(
            peerMessage,
            "080110071802200328043005380642090804100718022201644200480850095a1c0a17080a10041a110a040102ac0212",
            "01041a010522010628011201736001680b7201787801800102")
    }

    func test_commands() throws {
        try expect(
            Command.start(
                Command.Start(
                    workflowID: "w", type: "order", version: 2, input: payload, owner: 1, ownerIncarnation: 6,
                    requestID: "q")),
            "0a2a0a017712056f72646572180222150a0a6a736f6e2f706c61696e12077b2261223a317d280130063a0171")
        try expect(
            Command.end(
                Command.End(run: run, epoch: 1, status: .timedOut, result: payload, failure: "late")),
            "12291206312d34373131180120062a150a0a6a736f6e2f706c61696e12077b2261223a317d32046c617465")
        try expect(
            Command.checkpoint(
                Command.Checkpoint(
                    run: run, epoch: 2, position: 128, kind: .variable, key: "k", value: payload, failure: "f",
                    attempt: 3)),
            "1a2e12016b1a150a0a6a736f6e2f706c61696e12077b2261223a317d2206312d343731312802308001380240034a0166")
        try expect(
            Command.ownerChange(
                Command.OwnerChange(
                    run: run, oldOwner: 1, newOwner: 2, newOwnerIncarnation: 8, reason: .loadBalancing, epoch: 9)),
            "22120801100218012a06312d3437313130093808")
        try expect(
            Command.timerStart(
                Command.TimerStart(run: run, epoch: 1, position: 5, key: "sleep", durationMilliseconds: .max)),
            "2a1e1206312d34373131180120052a05736c65657030ffffffffffffffffff01")
        try expect(
            Command.variablePut(Command.VariablePut(key: "k", value: [0, 0x76], requestID: "q")),
            "3a0a0a016b120200761a0171")
        try expect(
            Command.variableCompareAndSwap(
                Command.VariableCompareAndSwap(
                    key: "k", expectedRevision: 1 << 63, value: [0x76], requestID: "q")),
            "42140a016b10808080808080808080011a0176220171")
        try expect(
            Command.variableDelete(Command.VariableDelete(key: "k", requestID: "q")),
            "4a060a016b120171")
        try expect(
            Command.stall(Command.Stall(run: run, epoch: 3, reason: "step a, not b")),
            "52190a06312d3437313110031a0d7374657020612c206e6f742062")
    }

    func test_workflows() throws {
        try expect(
            StartWorkflowRequest(
                workflowID: "w", type: "order", version: 1, input: payload, requestID: "q"),
            "0a017712056f72646572180122150a0a6a736f6e2f706c61696e12077b2261223a317d2a0171")
        try expect(
            StartWorkflowResponse(workflowID: "w", runID: run),
            "0a01771206312d34373131")
        try expect(
            GetWorkflowResultRequest(workflowID: "w", runID: run),
            "0a01771206312d34373131")
        try expect(
            GetWorkflowResultResponse(status: .completed, result: payload, failure: "f"),
            "080212150a0a6a736f6e2f706c61696e12077b2261223a317d1a0166")
        try expect(
            DescribeWorkflowRequest(workflowID: "w", runID: run, stale: true),
            "0a01771206312d343731311801")
        try expect(
            DescribeWorkflowResponse(
                summary: summary, input: payload, result: Payload(encoding: "", data: []), failure: "f",
                checkpoints: [
                    CheckpointSummary(
                        position: 300, key: "charge", kind: "step", value: payload, failure: "no", epoch: 2,
                        attempt: 5, logIndex: LogIndex(CodecLimits.identifierMax), recordedMilliseconds: 1),
                    CheckpointSummary(),
                ]),
            "0a3b0a03772d311206312d343731311a056f72646572200328033002380440fbd095ffbc3148ffffffffffffffffff01",
            "50f0a2045a076772c3b6c39f6512150a0a6a736f6e2f706c61696e12077b2261223a317d1a002201662a3c08ac021206",
            "6368617267651a047374657022150a0a6a736f6e2f706c61696e12077b2261223a317d2a026e6f3002380540ffffffff",
            "ffffffff7f48012a00")
        try expect(
            ListWorkflowsRequest(type: "order", status: .running, pageSize: 100, pageToken: "t"),
            "0a056f7264657210011864220174")
        try expect(
            ListWorkflowsResponse(workflows: [summary], nextPageToken: "n"),
            "0a3b0a03772d311206312d343731311a056f72646572200328033002380440fbd095ffbc3148ffffffffffffffffff01",
            "50f0a2045a076772c3b6c39f6512016e")
    }

    func test_variables() throws {
        try expect(
            PutRequest(key: "k", value: [0x76], requestID: "q"),
            "0a016b1201761a0171")
        try expect(
            PutResponse(revision: 5),
            "0805")
        try expect(
            GetRequest(key: "k", stale: true),
            "0a016b1001")
        try expect(
            GetResponse(found: true, value: [0x76], revision: 5),
            "08011201761805")
        try expect(
            CompareAndSwapRequest(key: "k", expectedRevision: 4, value: [0x76], requestID: "q"),
            "0a016b10041a0176220171")
        try expect(
            CompareAndSwapResponse(swapped: true, revision: 5),
            "08011005")
        try expect(
            DeleteRequest(key: "k", requestID: "q"),
            "0a016b120171")
        try expect(
            DeleteResponse(existed: true),
            "0801")
    }

    func test_cluster() throws {
        try expect(
            JoinRequest(address: "n4:7000", nodeID: 4, requestID: "q", highestKnownNodeID: 3),
            "0a076e343a3730303010041a01712003")
        try expect(
            JoinResponse(
                nodeID: 4, clusterID: "c",
                members: [
                    ClusterMember(nodeID: 1, address: "n1:7000"), ClusterMember(nodeID: 4, address: "n4:7000"),
                ], groupIDs: [0, 1, 300]),
            "08041201631a0b080112076e313a373030301a0b080412076e343a3730303022040001ac02")
        try expect(
            ClusterStatusResponse(
                nodeID: 1, clusterID: "c", address: "n1:7000", version: "0.1",
                members: [ClusterMember(nodeID: 1, address: "n1:7000")],
                groups: [
                    GroupStatus(
                        groupID: 1, role: .learner, term: 7, leaderNodeID: 2, commitIndex: 100, appliedIndex: 99,
                        firstIndex: 1, lastIndex: 101, appliedDigest: "00ff",
                        replicas: [
                            GroupReplica(
                                nodeID: 3, isVoter: true, matchIndex: 99, isRecentlyActive: true,
                                lastContactMilliseconds: -1),
                            GroupReplica(nodeID: 4),
                        ])
                ]),
            "08011201631a076e313a373030302203302e312a0b080112076e313a37303030322f0801100318072002286430633801",
            "40654a04303066665213080310011863200128ffffffffffffffffff0152020804")
        try expect(
            RemoveRequest(nodeID: 4),
            "0804")
        try expect(
            TransferLeaderRequest(groupID: 1, nodeID: 3),
            "08011003")
    }

    func test_directory() throws {
        try expect(
            DirectoryCommand.add(
                DirectoryCommand.Add(address: "n4:7000", nodeID: 4, requestID: "q", aboveNodeID: 3)),
            "0a100a076e343a3730303010041a01712003")
        try expect(
            DirectoryCommand.remove(DirectoryCommand.Remove(nodeID: 4)),
            "12020804")
        try expect(
            DirectoryCommand.setAddress(DirectoryCommand.SetAddress(nodeID: 4, address: "n5:7000")),
            "1a0b080412076e353a37303030")
        try expect(
            DirectoryState(
                clusterID: "c", highestNodeID: 4,
                members: [DirectoryMember(nodeID: 4, address: "n4:7000", requestID: "q")], groupIDs: [0, 1]),
            "0a016310041a0e080412076e343a373030301a017122020001")
    }
}
