import Prelude
import Raft
import Wire
import Workflow

/// One message type with its type forgotten, so that one test covers them all.
struct MessageUnderTest: Sendable, CustomStringConvertible {
    let name: String
    /// Encodes a drawn value; the flag tells whether decoding gave it back.
    let roundTrip: @Sendable (inout RandomValues) throws(DecodingFailure) -> (bytes: [UInt8], isEqual: Bool)
    /// Decodes and encodes what came out; the flag tells whether decoding that gives the same again.
    let decode: @Sendable ([UInt8]) throws(DecodingFailure) -> (bytes: [UInt8], isStable: Bool)

    init<Value: WireMessage>(_ type: Value.Type, _ make: @escaping @Sendable (inout RandomValues) -> Value) {
        name = "\(type)"
        roundTrip = { (values) throws(DecodingFailure) in
            let value = make(&values)
            let bytes = value.encoded()
            return (bytes, try Value(decoding: bytes) == value)
        }
        decode = { (bytes) throws(DecodingFailure) in
            let value = try Value(decoding: bytes)
            let again = value.encoded()
            return (again, try Value(decoding: again) == value)
        }
    }

    var description: String { name }

    static let all: [MessageUnderTest] = raft + workflows + variables + cluster + stored

    private static let raft = [
        MessageUnderTest(RaftEnvelope.self) {
            RaftEnvelope(
                raftMessage: $0.bytes(), command: $0.optional { $0.command() }, groupID: $0.identifier(),
                origin: $0.optional { $0.origin() }, clusterID: $0.text(), fromNodeID: $0.identifier(),
                toNodeID: $0.identifier(), disk: $0.number())
        },
        MessageUnderTest(MessageResponse.self) { MessageResponse(success: $0.flag(), error: $0.text()) },
        MessageUnderTest(DiscoveryRequest.self) { _ in DiscoveryRequest() },
        MessageUnderTest(DiscoveryResponse.self) {
            DiscoveryResponse(
                nodeID: $0.identifier(), role: $0.role(), highestKnownNodeID: $0.identifier(),
                address: $0.text(), clusterID: $0.text(), leaderNodeID: $0.identifier(),
                leaderAddress: $0.text())
        },
        MessageUnderTest(Command.self) { $0.command() },
        MessageUnderTest(PeerMessage.self) { $0.peerMessage() },
    ]

    private static let workflows = [
        MessageUnderTest(StartWorkflowRequest.self) {
            StartWorkflowRequest(
                workflowID: $0.text(), type: $0.text(), version: $0.number(), input: $0.optionalPayload(),
                requestID: $0.text())
        },
        MessageUnderTest(StartWorkflowResponse.self) {
            StartWorkflowResponse(workflowID: $0.text(), runID: $0.run())
        },
        MessageUnderTest(GetWorkflowResultRequest.self) {
            GetWorkflowResultRequest(workflowID: $0.text(), runID: $0.optionalRun())
        },
        MessageUnderTest(GetWorkflowResultResponse.self) {
            GetWorkflowResultResponse(status: $0.status(), result: $0.optionalPayload(), failure: $0.text())
        },
        MessageUnderTest(DescribeWorkflowRequest.self) {
            DescribeWorkflowRequest(workflowID: $0.text(), runID: $0.optionalRun(), stale: $0.flag())
        },
        MessageUnderTest(WorkflowSummary.self) { $0.summary() },
        MessageUnderTest(CheckpointSummary.self) { $0.checkpointSummary() },
        MessageUnderTest(DescribeWorkflowResponse.self) {
            DescribeWorkflowResponse(
                summary: $0.summary(), input: $0.optionalPayload(), result: $0.optionalPayload(),
                failure: $0.text(), checkpoints: $0.list { $0.checkpointSummary() }, trace: $0.trace())
        },
        MessageUnderTest(ListWorkflowsRequest.self) {
            ListWorkflowsRequest(
                type: $0.text(), status: $0.optional { $0.status() }, pageSize: $0.number(),
                pageToken: $0.text())
        },
        MessageUnderTest(ListWorkflowsResponse.self) {
            ListWorkflowsResponse(workflows: $0.list { $0.summary() }, nextPageToken: $0.text())
        },
    ]

    private static let variables = [
        MessageUnderTest(PutRequest.self) { PutRequest(key: $0.text(), value: $0.bytes(), requestID: $0.text()) },
        MessageUnderTest(PutResponse.self) { PutResponse(revision: $0.number()) },
        MessageUnderTest(GetRequest.self) { GetRequest(key: $0.text(), stale: $0.flag()) },
        MessageUnderTest(GetResponse.self) {
            GetResponse(found: $0.flag(), value: $0.bytes(), revision: $0.number())
        },
        MessageUnderTest(CompareAndSwapRequest.self) {
            CompareAndSwapRequest(
                key: $0.text(), expectedRevision: $0.number(), value: $0.bytes(), requestID: $0.text())
        },
        MessageUnderTest(CompareAndSwapResponse.self) {
            CompareAndSwapResponse(swapped: $0.flag(), revision: $0.number())
        },
        MessageUnderTest(DeleteRequest.self) { DeleteRequest(key: $0.text(), requestID: $0.text()) },
        MessageUnderTest(DeleteResponse.self) { DeleteResponse(existed: $0.flag()) },
    ]

    private static let cluster = [
        MessageUnderTest(JoinRequest.self) {
            JoinRequest(
                address: $0.text(), nodeID: $0.identifier(), requestID: $0.text(),
                highestKnownNodeID: $0.identifier(), protocolLevel: $0.number())
        },
        MessageUnderTest(ClusterMember.self) { $0.member() },
        MessageUnderTest(JoinResponse.self) {
            JoinResponse(
                nodeID: $0.identifier(), clusterID: $0.text(), members: $0.list { $0.member() },
                groupIDs: $0.identifiers())
        },
        MessageUnderTest(ClusterStatusRequest.self) { _ in ClusterStatusRequest() },
        MessageUnderTest(GroupReplica.self) { $0.replica() },
        MessageUnderTest(GroupStatus.self) { $0.group() },
        MessageUnderTest(ClusterStatusResponse.self) {
            ClusterStatusResponse(
                nodeID: $0.identifier(), clusterID: $0.text(), address: $0.text(), version: $0.text(),
                members: $0.list { $0.member() }, groups: $0.list { $0.group() }, protocolLevel: $0.number())
        },
        MessageUnderTest(RemoveRequest.self) {
            RemoveRequest(nodeID: $0.identifier(), isForced: $0.flag(), isForwarded: $0.flag())
        },
        MessageUnderTest(RemoveResponse.self) { _ in RemoveResponse() },
        MessageUnderTest(TransferLeaderRequest.self) {
            TransferLeaderRequest(groupID: $0.identifier(), nodeID: $0.identifier())
        },
        MessageUnderTest(TransferLeaderResponse.self) { _ in TransferLeaderResponse() },
        MessageUnderTest(BeginBackupRequest.self) { _ in BeginBackupRequest() },
        MessageUnderTest(BeginBackupResponse.self) {
            BeginBackupResponse(
                backupID: $0.number(), byteCount: $0.number(), checksum: $0.number(), appliedIndex: $0.identifier(),
                nodeID: $0.identifier())
        },
        MessageUnderTest(ReadBackupRequest.self) { ReadBackupRequest(backupID: $0.number(), offset: $0.number()) },
        MessageUnderTest(ReadBackupResponse.self) { ReadBackupResponse(data: $0.bytes(), checksum: $0.number()) },
        MessageUnderTest(EndBackupRequest.self) { EndBackupRequest(backupID: $0.number()) },
        MessageUnderTest(EndBackupResponse.self) { _ in EndBackupResponse() },
        MessageUnderTest(ReadImageRequest.self) {
            ReadImageRequest(
                groupID: $0.identifier(), imageID: $0.number(), offset: $0.number(), fromNodeID: $0.identifier())
        },
        MessageUnderTest(ReadImageResponse.self) { ReadImageResponse(data: $0.bytes(), checksum: $0.number()) },
    ]

    private static let stored = [
        MessageUnderTest(DirectoryCommand.self) { $0.directoryCommand() },
        MessageUnderTest(DirectoryState.self) {
            DirectoryState(
                clusterID: $0.text(), highestNodeID: $0.identifier(),
                members: $0.list {
                    DirectoryMember(
                        nodeID: $0.identifier(), address: $0.text(), requestID: $0.text(), protocolLevel: $0.number())
                }, groupIDs: $0.identifiers(), removedNodeIDs: $0.identifiers(), protocolLevel: $0.number())
        },
    ]
}
