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

/// Bounds the snapshots that are being put together in all streams of one node.
package final class SnapshotRoom {
    /// One snapshot.
    let byteCountMax: UInt64
    private let totalByteCountMax: UInt64
    private(set) var usedByteCount: UInt64 = 0

    /// Room for `snapshotCountMax` snapshots of `byteCountMax`.
    package init(byteCountMax: UInt64, snapshotCountMax: UInt64) {
        self.byteCountMax = byteCountMax
        totalByteCountMax = byteCountMax * max(1, snapshotCountMax)
    }

    /// False when there is no room.
    func take(_ byteCount: UInt64) -> Bool {
        guard byteCount <= totalByteCountMax - usedByteCount else { return false }
        usedByteCount += byteCount
        return true
    }

    func giveBack(_ byteCount: UInt64) { usedByteCount -= byteCount }
}

/// Puts the parts of snapshots together again. They come in order on one stream; anything else drops what was begun.
final class SnapshotAssembler {
    /// What a snapshot counts for beside its data, so that empty ones do not come for nothing.
    private static let overheadByteCount: UInt64 = 4 << 10

    private struct Begun {
        var metadata: SnapshotMetadata
        var nextPart: UInt32
        var data: [UInt8]
    }

    private var begun: [GroupID: Begun] = [:]
    private let room: SnapshotRoom

    init(room: SnapshotRoom) { self.room = room }

    deinit { for progress in begun.values { giveBack(progress) } }

    private func giveBack(_ progress: Begun) {
        room.giveBack(UInt64(progress.data.count) + Self.overheadByteCount)
    }

    /// The whole message once its last part is here; at once for messages that are not cut.
    func add(_ part: PeerMessage) -> Message? {
        guard let snapshot = part.message.snapshot, part.snapshotPartCount > 1 else { return part.message }
        let known = begun.removeValue(forKey: part.group)
        var progress: Begun
        if part.snapshotPart == 0 {
            if let known { giveBack(known) }
            guard room.take(Self.overheadByteCount) else { return nil }
            progress = Begun(metadata: snapshot.metadata, nextPart: 0, data: [])
        } else if let known {
            guard known.nextPart == part.snapshotPart, known.metadata == snapshot.metadata else {
                giveBack(known)
                return nil
            }
            progress = known
        } else {
            return nil
        }
        guard UInt64(progress.data.count + snapshot.data.count) <= room.byteCountMax,
            room.take(UInt64(snapshot.data.count))
        else {
            giveBack(progress)
            return nil
        }
        progress.data.append(contentsOf: snapshot.data)
        progress.nextPart += 1
        if progress.nextPart == part.snapshotPartCount {
            giveBack(progress)
            var message = part.message
            message.snapshot = Snapshot(metadata: progress.metadata, data: progress.data)
            return message
        }
        begun[part.group] = progress
        return nil
    }
}
