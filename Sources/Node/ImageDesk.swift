import Prelude
import Raft
import Storage
import Telemetry
import Wire

/// What a snapshot message carries in the place of a state: where its receiver finds an image of the state store.
struct ImageReference: Equatable {
    private static let version: UInt8 = 2
    var imageID: UInt64
    var byteCount: UInt64
    /// CRC-32C of the whole image.
    var checksum: UInt32

    init(imageID: UInt64, byteCount: UInt64, checksum: UInt32) {
        self.imageID = imageID
        self.byteCount = byteCount
        self.checksum = checksum
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 24)
        writer.append(Self.version)
        writer.append(fixed: imageID)
        writer.append(fixed: byteCount)
        writer.append(fixed: checksum)
        return writer.bytes
    }

    init(decoding bytes: [UInt8]) throws(MalformedBytes) {
        var reader = ByteReader(bytes)
        guard try reader.byte() == Self.version else {
            throw MalformedBytes(offset: 0, expected: "reference to an image, version \(Self.version)")
        }
        imageID = try reader.fixed64()
        byteCount = try reader.fixed64()
        checksum = try reader.fixed32()
        try reader.end()
    }
}

/// Has images of the state stores made for followers that are too far behind for the log, and hands them out piece by
/// piece. One at a time is made for each group, shared by all who need one. Confined to the loop.
final class ImageDesk {
    private struct Image {
        var id: UInt64
        var metadata: SnapshotMetadata
        var file: ServedFile
        var madeAt: Nanoseconds

        var snapshot: Snapshot {
            let reference = ImageReference(imageID: id, byteCount: file.byteCount, checksum: file.checksum)
            return Snapshot(metadata: metadata, data: reference.encoded())
        }
    }

    /// A follower of a group that was told of an image.
    private struct Receiver: Hashable {
        var node: NodeID
        var group: GroupID
    }

    private unowned let node: Node
    /// Oldest first.
    private var images = FlatMap<GroupID, [Image]>()
    private var making: Set<GroupID> = []
    private var retryAt: [GroupID: Nanoseconds] = [:]
    /// When each was told, or fetched something, for the last time.
    private var receivers: [Receiver: Nanoseconds] = [:]
    private var isClosed = false

    init(node: Node) { self.node = node }

    private var limits: NodeLimits { node.limits.node }
    private var now: Nanoseconds { node.seams.clock.now }
    private var idleTimeMax: Nanoseconds { .milliseconds(limits.imageIdleMilliseconds) }

    // MARK: - Making them

    /// The newest image, if the log goes on after it and every member is in its configuration. Otherwise nil, and one is
    /// made.
    func snapshot(of group: RaftGroup) -> Snapshot? {
        if let newest = images[group.id]?.last, isUsable(newest, for: group) { return newest.snapshot }
        make(of: group)
        return nil
    }

    private func isUsable(_ image: Image, for group: RaftGroup) -> Bool {
        image.metadata.index + 1 >= group.log.firstIndex
            && group.members.allSatisfy(image.metadata.confState.contains)
    }

    private func make(of group: RaftGroup) {
        guard !isClosed, !making.contains(group.id), now >= retryAt[group.id] ?? 0 else { return }
        making.insert(group.id)
        let id = UInt64.random(in: 1...(.max >> 1), using: &node.random)
        let path = "\(node.dataDirectory.backupPath)/\(group.id)-\(id).image"
        node.makeImage(of: group, at: path) { [weak self, seams = node.seams] result in
            guard let self, !isClosed else { return ServedFile.remove(path, seams) }
            making.remove(group.id)
            switch result {
            case .success(let made): take(made, id, path, of: group)
            case .failure(let error): noteFailure(error, of: group)
            }
        }
    }

    private func take(_ made: MadeImage, _ id: UInt64, _ path: String, of group: RaftGroup) {
        let file = ServedFile(
            path, byteCount: made.byteCount, checksum: made.checksum, seams: node.seams,
            pieceByteCountMax: limits.imagePieceByteCount, bytesPerSecondMax: limits.imageBytesPerSecondMax)
        images[group.id, default: []].append(Image(id: id, metadata: made.head.metadata, file: file, madeAt: now))
        node.metrics.images.made += 1
        node.log(
            .debug, "made an image of the state",
            ["group": "\(group.id)", "index": "\(made.head.metadata.index)", "bytes": "\(made.byteCount)"])
        group.core.snapshotBecameAvailable()
        node.requestTurn()
    }

    private func noteFailure(_ error: StorageError, of group: RaftGroup) {
        if case .damaged = error { return node.stop(because: .storage(error)) }
        node.metrics.images.failed += 1
        retryAt[group.id] = now + .milliseconds(limits.imageRetryMilliseconds)
        node.log(
            .warning, "cannot make an image of the state",
            ["group": "\(group.id)", "error": "\(error)"])
    }

    /// The log after here is needed by those who fetch.
    func oldestIndex(of group: GroupID) -> LogIndex? { images[group]?.map(\.metadata.index).min() }

    // MARK: - Who gets them

    func noteSent(to peer: NodeID, _ group: GroupID) { receivers[Receiver(node: peer, group: group)] = now }

    /// The follower may have lost what it was told: it is told again.
    func giveUp(_ peer: NodeID, _ group: GroupID) {
        guard receivers.removeValue(forKey: Receiver(node: peer, group: group)) != nil else { return }
        node.groups[group]?.core.reportSnapshot(peer, succeeded: false)
        node.requestTurn()
    }

    func read(_ call: any ServiceCall, _ request: ReadImageRequest) {
        guard let image = images[request.groupID]?.first(where: { $0.id == request.imageID }) else {
            return call.fail(.notFound, "node \(node.id) does not have this image any more")
        }
        guard image.file.readerCount < limits.imageReaderCountMax else {
            return call.fail(.resourceExhausted, "too many pieces of this image are being read")
        }
        let receiver = Receiver(node: request.fromNodeID, group: request.groupID)
        if receivers[receiver] != nil { receivers[receiver] = now }
        image.file.read(at: request.offset) { [metrics = node.metrics] result in
            switch result {
            case .success(let piece)?:
                metrics.images.sentBytes += UInt64(piece.count)
                call.respond(ReadImageResponse(data: piece, checksum: StateFiles.checksumOf(piece)))
            case .failure(let error)?: call.fail(.internalError, "the image cannot be read: \(error)")
            case nil: call.fail(.notFound, "the image is gone")
            }
        }
    }

    /// Drops what nobody fetches any more.
    func look() {
        if images.isEmpty, receivers.isEmpty { return }
        for (receiver, time) in receivers.sorted(by: { ($0.key.group, $0.key.node) < ($1.key.group, $1.key.node) }) {
            let group = node.groups[receiver.group]
            if group?.progress(of: receiver.node)?.state != .snapshot {
                receivers[receiver] = nil
            } else if now >= time + idleTimeMax {
                giveUp(receiver.node, receiver.group)
            }
        }
        for group in node.groups {
            for image in images[group.id] ?? [] where image.file.idleTime >= idleTimeMax { image.file.remove() }
            images[group.id]?.removeAll { $0.file.idleTime >= idleTimeMax }
            if images[group.id]?.isEmpty == true { images[group.id] = nil }
        }
    }

    func collect(into exposition: inout Exposition) {
        let all = images.values.joined()
        exposition.gauge("raftoral_images", "Images that wait here for other nodes to read them.", all.count)
        let oldest = all.map(\.madeAt).min() ?? now
        exposition.gauge(
            "raftoral_image_age_seconds", "Age of the oldest of them; 0 without any.",
            Double(now - min(now, oldest)) / 1_000_000_000)
    }

    func close() {
        isClosed = true
        for image in images.values.joined() { image.file.remove() }
        images = FlatMap()
    }
}
