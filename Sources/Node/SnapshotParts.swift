import Prelude
import Raft
import Wire

extension PeerMessage {
    /// Cuts a snapshot message into parts: each carries the message with one piece of the snapshot's data.
    static func snapshotParts(of message: Message, group: GroupID, byteCountMax: Int) -> [PeerMessage] {
        guard let snapshot = message.snapshot else { return [PeerMessage(group: group, message: message)] }
        let count = max(1, (snapshot.data.count + byteCountMax - 1) / byteCountMax)
        return (0..<count).map { part in
            var piece = message
            let start = part * byteCountMax
            let end = min(start + byteCountMax, snapshot.data.count)
            piece.snapshot = Snapshot(metadata: snapshot.metadata, data: Array(snapshot.data[start..<end]))
            return PeerMessage(
                group: group, message: piece, snapshotPart: UInt32(part), snapshotPartCount: UInt32(count))
        }
    }
}

/// Puts the parts of snapshots together again. They come in order on one stream; anything else drops what was begun.
struct SnapshotAssembler {
    private struct Begun {
        var metadata: SnapshotMetadata
        var nextPart: UInt32
        var data: [UInt8]
    }

    private var begun: [GroupID: Begun] = [:]
    private let byteCountMax: UInt64

    init(byteCountMax: UInt64) { self.byteCountMax = byteCountMax }

    /// The whole message once its last part is here; at once for messages that are not cut.
    mutating func add(_ part: PeerMessage) -> Message? {
        guard let snapshot = part.message.snapshot, part.snapshotPartCount > 1 else { return part.message }
        var progress: Begun
        if part.snapshotPart == 0 {
            progress = Begun(metadata: snapshot.metadata, nextPart: 0, data: [])
        } else if let known = begun.removeValue(forKey: part.group), known.nextPart == part.snapshotPart,
            known.metadata == snapshot.metadata
        {
            progress = known
        } else {
            return nil
        }
        begun[part.group] = nil
        guard UInt64(progress.data.count + snapshot.data.count) <= byteCountMax else { return nil }
        progress.data.append(contentsOf: snapshot.data)
        progress.nextPart += 1
        if progress.nextPart == part.snapshotPartCount {
            var message = part.message
            message.snapshot = Snapshot(metadata: progress.metadata, data: progress.data)
            return message
        }
        begun[part.group] = progress
        return nil
    }
}
