import Prelude
import Raft
import Wire

extension ServerStream {
    /// Reads the Raft messages of one peer, with the parts of snapshots put together, and tells the peer which of them
    /// were refused. A stream of something else ends with `INVALID_ARGUMENT`.
    ///
    /// `room`: shared with the other streams of the node. `isForUs`: whether an envelope is; others are skipped. `take`: nil, or why the message is refused.
    package func readPeerMessages(
        room: SnapshotRoom, isForUs: @escaping (RaftEnvelope) -> Bool,
        take: @escaping (PeerMessage) -> String?
    ) {
        let assembler = SnapshotAssembler(room: room)
        onMessage = { [unowned self] bytes in
            if let (message, addressee) = RaftEnvelope.carried(by: bytes) {
                let envelope = RaftEnvelope(fromNodeID: message.message.from, toNodeID: addressee)
                guard isForUs(envelope), let problem = take(message) else { return }
                _ = send(MessageResponse(success: false, error: problem).encoded())
                return
            }
            do {
                let envelope = try RaftEnvelope(decoding: bytes)
                let part = try PeerMessage(decoding: envelope.raftMessage)
                guard isForUs(envelope), let message = assembler.add(part) else { return }
                if let problem = take(PeerMessage(group: part.group, message: message)) {
                    _ = send(MessageResponse(success: false, error: problem).encoded())
                }
            } catch {
                finish(GRPCStatus(code: .invalidArgument, message: "\(error)"))
            }
        }
    }
}
