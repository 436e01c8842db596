import Glibc
import Prelude
import Raft
import Workflow

@testable import Node
@testable import Storage
@testable import Wire

/// What libFuzzer calls. RAFTORAL_FUZZ_TARGET names what gets the bytes; a mistake shows as a trap or a report of the
/// address sanitizer.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    FuzzTarget.chosen.run(UnsafeRawBufferPointer(start: start, count: count))
    return 0
}

enum FuzzTarget: String, CaseIterable {
    case http2, grpc, gzip, messages, peers, snapshots, log

    static let chosen: FuzzTarget = {
        let name = getenv("RAFTORAL_FUZZ_TARGET").map { String(cString: $0) } ?? ""
        guard let target = FuzzTarget(rawValue: name) else {
            let names = allCases.map(\.rawValue).joined(separator: ", ")
            print("RAFTORAL_FUZZ_TARGET is one of \(names)")
            exit(2)
        }
        return target
    }()

    func run(_ bytes: UnsafeRawBufferPointer) {
        switch self {
        case .http2: FuzzConnection.serve(bytes)
        case .grpc: readMessages(bytes)
        case .gzip: FuzzConnection.serveCompressed(bytes)
        case .messages: decodeMessages(bytes)
        case .peers: stepPeerMessage(bytes)
        case .snapshots: if bytes.first == 0 { restoreSnapshot(bytes) } else { assembleSnapshots(bytes) }
        case .log: decodeLog(bytes)
        }
    }
}

/// The data of one stream, cut into chunks by its first byte.
private func readMessages(_ bytes: UnsafeRawBufferPointer) {
    guard let first = bytes.first else { return }
    let size = Int(first) + 1
    var reader = MessageReader(messageByteCountMax: 1 << 16)
    reader.acceptsGzip = first & 1 == 1
    var rest = UnsafeRawBufferPointer(rebasing: bytes[1...])
    while !rest.isEmpty {
        var chunk = UnsafeRawBufferPointer(rebasing: rest[..<min(size, rest.count)])
        rest = UnsafeRawBufferPointer(rebasing: rest[chunk.count...])
        reading: while true {
            switch reader.next(&chunk) {
            case .needMore, .failed: break reading
            case .inChunk(let message): precondition(message.count <= 1 << 16)
            case .assembled(let message): precondition(message.count <= 1 << 16)
            case .compressed:
                reader.withCompressedMessage { precondition($0.count <= 1 << 16) }
                reader.dropCompressedMessage()
            }
        }
        precondition(reader.bufferedByteCount <= 5 + 1 << 16)
    }
}

/// What is decoded and encoded again decodes to the same.
private func check<Value: WireMessage>(_ type: Value.Type, _ bytes: UnsafeRawBufferPointer) {
    guard let value = try? Value(decoding: bytes) else { return }
    precondition((try? Value(decoding: value.encoded())) == value, "\(type) changes when it is encoded again")
}

private func decodeMessages(_ bytes: UnsafeRawBufferPointer) {
    check(CheckpointSummary.self, bytes)
    check(ClusterMember.self, bytes)
    check(ClusterStatusRequest.self, bytes)
    check(ClusterStatusResponse.self, bytes)
    check(Command.self, bytes)
    check(CompareAndSwapRequest.self, bytes)
    check(CompareAndSwapResponse.self, bytes)
    check(DeleteRequest.self, bytes)
    check(DeleteResponse.self, bytes)
    check(DescribeWorkflowRequest.self, bytes)
    check(DescribeWorkflowResponse.self, bytes)
    check(DirectoryCommand.self, bytes)
    check(DirectoryState.self, bytes)
    check(DiscoveryRequest.self, bytes)
    check(DiscoveryResponse.self, bytes)
    check(GetRequest.self, bytes)
    check(GetResponse.self, bytes)
    check(GetWorkflowResultRequest.self, bytes)
    check(GetWorkflowResultResponse.self, bytes)
    check(GroupReplica.self, bytes)
    check(GroupStatus.self, bytes)
    check(JoinRequest.self, bytes)
    check(JoinResponse.self, bytes)
    check(ListWorkflowsRequest.self, bytes)
    check(ListWorkflowsResponse.self, bytes)
    check(MessageResponse.self, bytes)
    check(PeerMessage.self, bytes)
    check(PutRequest.self, bytes)
    check(PutResponse.self, bytes)
    check(RaftEnvelope.self, bytes)
    check(RemoveRequest.self, bytes)
    check(RemoveResponse.self, bytes)
    check(StartWorkflowRequest.self, bytes)
    check(StartWorkflowResponse.self, bytes)
    check(BeginBackupRequest.self, bytes)
    check(BeginBackupResponse.self, bytes)
    check(ReadBackupRequest.self, bytes)
    check(ReadBackupResponse.self, bytes)
    check(EndBackupRequest.self, bytes)
    check(EndBackupResponse.self, bytes)
    check(ReadImageRequest.self, bytes)
    check(ReadImageResponse.self, bytes)
    check(TransferLeaderRequest.self, bytes)
    check(TransferLeaderResponse.self, bytes)
    check(WorkflowSummary.self, bytes)
}

private func stepPeerMessage(_ bytes: UnsafeRawBufferPointer) {
    guard let received = try? PeerMessage(decoding: bytes) else { return }
    var configuration = RaftConfiguration(id: 1, random: SeededRandom(seed: 1))
    configuration.applied = 2
    let storage = MemoryStorage()
    let confState = ConfState(voters: [1, 2, 3])
    guard
        (try? storage.applySnapshot(Snapshot(metadata: SnapshotMetadata(index: 2, term: 1, confState: confState))))
            != nil,
        let node = try? RawNode(configuration, storage: storage)
    else { return }
    for role in 0..<2 {
        if role == 1 { try? node.campaign() }
        var message = received.message
        message.to = 1
        try? node.stepFromPeer(message)
        for _ in 0..<8 where node.hasReady {
            let ready = node.ready()
            if let state = ready.hardState { storage.setHardState(state) }
            if let snapshot = ready.snapshot {
                try? storage.applySnapshot(snapshot)
            } else {
                storage.append(ready.entries)
            }
            for entry in ready.committedEntries where entry.kind != .normal {
                if let change = try? ConfChange(decoding: entry.data) { _ = node.applyConfChange(change) }
            }
            node.advance()
        }
    }
}

/// Parts of snapshots in the order that the bytes say, five of them for each.
private func assembleSnapshots(_ bytes: UnsafeRawBufferPointer) {
    let room = SnapshotRoom(byteCountMax: 1 << 10, snapshotCountMax: 40)
    var assembler: SnapshotAssembler? = SnapshotAssembler(room: room)
    for start in stride(from: 0, to: bytes.count - 4, by: 5) {
        let metadata = SnapshotMetadata(
            index: LogIndex(UInt64(bytes[start + 1] >> 4)), term: 1, confState: ConfState(voters: [1]))
        var message = Message(kind: .snapshot, to: 1, from: 2, term: 1)
        message.snapshot = Snapshot(metadata: metadata, data: [UInt8](repeating: 7, count: 4 * Int(bytes[start + 4])))
        let part = PeerMessage(
            group: GroupID(UInt64(bytes[start] & 3)), message: message, snapshotPart: UInt32(bytes[start + 2] & 7),
            snapshotPartCount: UInt32(bytes[start + 3] & 7))
        if let whole = assembler?.add(part), part.snapshotPartCount > 1 {
            precondition((whole.snapshot?.data.count ?? 0) <= 1 << 10)
        }
        precondition(room.usedByteCount <= 40 << 10)
    }
    assembler = nil
    precondition(room.usedByteCount == 0, "what was begun is given back")
}

/// What was put together as the state of a group.
private func restoreSnapshot(_ bytes: UnsafeRawBufferPointer) {
    guard let machine = try? WorkflowMachine(snapshot: Array(bytes.dropFirst())) else { return }
    let written = machine.snapshot()
    guard let again = try? WorkflowMachine(snapshot: written) else {
        preconditionFailure("its own snapshot is refused")
    }
    precondition(again.snapshot() == written, "a snapshot changes when it is restored")
}

/// The bytes as the one record of a batch, with length and checksum put right, which the fuzzer would never guess.
private func decodeLog(_ bytes: UnsafeRawBufferPointer) {
    if bytes.count >= LogFormat.batchHeaderByteCount { _ = BatchHeader(bytes) }
    guard bytes.count >= LogFormat.recordHeaderByteCount else { return }
    let header = BatchHeader(sequence: 7, kind: .normal, bodyByteCount: bytes.count, recordCount: 1, blankPartCount: 0)
    var batch = [UInt8](repeating: 0, count: LogFormat.batchHeaderByteCount) + bytes
    batch.withUnsafeMutableBytes { batch in
        let record = UnsafeMutableRawBufferPointer(rebasing: batch[LogFormat.batchHeaderByteCount...])
        record.store(UInt32(record.count), at: 4)
        let checksum = crc32c(UnsafeRawBufferPointer(rebasing: record[4...]), continuing: crc32c(of: header.sequence))
        record.store(checksum, at: 0)
        var records: [LocatedRecord] = []
        _ = header.decodeBody(UnsafeRawBufferPointer(batch), at: 0, &records)
    }
}
