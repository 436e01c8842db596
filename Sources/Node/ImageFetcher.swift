import Prelude
import Raft
import Storage
import Wire
import Workflow

/// Fetches the images that snapshot messages name, before the core is told of the snapshot: at most one for each group.
///
/// The image is durable beside the state store, and the machine's state made from it, when the core gets the message.
/// Then the log says that it restarts after it, and the image becomes the state store. Confined to the loop.
final class ImageFetcher {
    private final class Fetch {
        let message: Message
        let metadata: SnapshotMetadata
        let reference: ImageReference
        let receiver: ImageReceiver
        var offset: UInt64 = 0
        var lastProgress: Nanoseconds
        /// The receiver is in use on another thread.
        var isWorking = false
        var isGivenUp = false

        init(
            _ message: Message, _ metadata: SnapshotMetadata, _ reference: ImageReference, _ receiver: ImageReceiver,
            now: Nanoseconds
        ) {
            self.message = message
            self.metadata = metadata
            self.reference = reference
            self.receiver = receiver
            lastProgress = now
        }
    }

    private unowned let node: Node
    private var fetches = FlatMap<GroupID, Fetch>()
    /// Whole, and not yet taken by the core.
    private var arrived = FlatMap<GroupID, IncomingState>()
    /// Another one was named while a fetch was under way, or the files of one were being removed.
    private var postponed: [GroupID: Message] = [:]
    private var removalCounts: [GroupID: Int] = [:]
    private var workCount = 0
    private var onIdle: (() -> Void)?

    init(node: Node) { self.node = node }

    private var limits: NodeLimits { node.limits.node }
    private var now: Nanoseconds { node.seams.clock.now }

    // MARK: - Snapshot messages

    /// False when the core can have the message at once: it would not take the snapshot.
    func takesCareOf(_ message: Message, _ group: RaftGroup) -> Bool {
        guard let snapshot = message.snapshot, message.term >= group.core.term else { return true }
        // One after the other: it is told again of what it still needs then.
        if group.core.isRestoring || stores(group)?.state == .adopting { return true }
        if let state = arrived[group.id], group.core.needsSnapshot(state.metadata) {
            step(message, with: state, group)
            return true
        }
        guard group.core.needsSnapshot(snapshot.metadata) else { return false }
        begin(message, snapshot, group)
        return true
    }

    private func stores(_ group: RaftGroup) -> GroupStore? { node.stores[group.id] }

    /// Whichever leader the image came from, it is of what every later one has in its log.
    private func step(_ message: Message, with state: IncomingState, _ group: RaftGroup) {
        arrived[group.id] = nil
        var message = message
        message.snapshot = Snapshot(metadata: state.metadata, data: [])
        if !group.step(message, with: state) { remove(state.path, of: group.id) }
    }

    // MARK: - Fetching

    private func begin(_ message: Message, _ snapshot: Snapshot, _ group: RaftGroup) {
        guard let reference = try? ImageReference(decoding: snapshot.data),
            reference.byteCount <= limits.imageByteCountMax
        else {
            node.metrics.images.refused += 1
            return node.log(
                .warning, "cannot use a snapshot: it names no image, or one that is too large",
                ["group": "\(group.id)", "from": "\(message.from)"])
        }
        if let known = fetches[group.id] {
            if known.reference == reference, known.metadata == snapshot.metadata { return }
            postponed[group.id] = message
            // What its own leader has replaced is there until nobody reads it any more.
            let isElsewhere = known.message.from != message.from && known.offset < known.reference.byteCount
            if isElsewhere { giveUp(group.id) }
            return
        }
        if removalCounts[group.id] != nil {
            postponed[group.id] = message
            return
        }
        let receiver = ImageReceiver(
            group.id, snapshot.metadata, byteCount: reference.byteCount, directory: node.dataDirectory.statePath,
            disk: node.seams.disk)
        let fetch = Fetch(message, snapshot.metadata, reference, receiver, now: now)
        fetches[group.id] = fetch
        node.log(
            .debug, "fetches the state",
            [
                "group": "\(group.id)", "from": "\(message.from)", "index": "\(snapshot.metadata.index)",
                "bytes": "\(reference.byteCount)",
            ])
        next(fetch, group)
    }

    private func isCurrent(_ fetch: Fetch, _ group: RaftGroup) -> Bool {
        node.phase != .stopped && fetches[group.id] === fetch && !fetch.isGivenUp
    }

    private func next(_ fetch: Fetch, _ group: RaftGroup) {
        guard isCurrent(fetch, group) else { return }
        if fetch.offset == fetch.reference.byteCount { return finish(fetch, group) }
        guard let address = node.address(of: fetch.message.from) else { return retryLater(fetch, group) }
        let request = ReadImageRequest(
            groupID: group.id, imageID: fetch.reference.imageID, offset: fetch.offset, fromNodeID: node.id)
        node.links.call(
            RaftServicePath.readImage, request.encoded(), to: fetch.message.from, at: address,
            timeout: .milliseconds(limits.imagePieceTimeoutMilliseconds)
        ) { [weak self] result in self?.take(result, fetch, group) }
    }

    private func take(_ result: Result<[UInt8], GRPCStatus>, _ fetch: Fetch, _ group: RaftGroup) {
        guard isCurrent(fetch, group) else { return }
        switch result {
        case .failure(let status):
            // It has to begin anew, with what the leader says the next time.
            if status.code == .notFound { return giveUp(group.id) }
            retryLater(fetch, group)
        case .success(let bytes):
            guard let piece = try? ReadImageResponse(decoding: bytes), !piece.data.isEmpty,
                StateFiles.checksumOf(piece.data) == piece.checksum,
                UInt64(piece.data.count) <= fetch.reference.byteCount - fetch.offset
            else { return retryLater(fetch, group) }
            append(piece.data, fetch, group)
        }
    }

    private func append(_ piece: [UInt8], _ fetch: Fetch, _ group: RaftGroup) {
        work(fetch, of: group) { receiver throws(StorageError) in
            try receiver.append(piece)
        } completion: { [weak self] result in
            guard let self, isCurrent(fetch, group) else { return }
            if case .failure(let error) = result { return fail(error, group) }
            fetch.offset += UInt64(piece.count)
            node.metrics.images.fetchedBytes += UInt64(piece.count)
            fetch.lastProgress = now
            next(fetch, group)
        }
    }

    private func retryLater(_ fetch: Fetch, _ group: RaftGroup) {
        _ = node.seams.clock.schedule(after: .milliseconds(limits.imageRetryMilliseconds)) { [weak self] in
            self?.next(fetch, group)
        }
    }

    private func finish(_ fetch: Fetch, _ group: RaftGroup) {
        let reference = fetch.reference
        let prepare = group.machine.preparation
        let stateLimits = node.limits.state
        work(fetch, of: group) { receiver throws(StorageError) -> (digest: UInt64, machine: PreparedState) in
            let stored = try receiver.finish(checksum: reference.checksum, limits: stateLimits)
            do throws(ImpossibleContent) {
                return (stored.head.digest, try prepare(stored))
            } catch {
                throw .damaged(file: receiver.path, offset: 0, reason: "\(error)")
            }
        } completion: { [weak self] result in
            guard let self, isCurrent(fetch, group) else { return }
            switch result {
            case .failure(let error): fail(error, group)
            case .success(let (digest, machine)):
                fetches[group.id] = nil
                postponed[group.id] = nil
                arrived[group.id] = IncomingState(
                    metadata: fetch.metadata, digest: digest, machine: machine, path: fetch.receiver.path)
                var message = fetch.message
                if message.term < group.core.term, group.leader != .none, group.leader != node.id {
                    (message.term, message.from) = (group.core.term, group.leader)
                }
                node.enqueue(message, group: group.id)
            }
        }
    }

    /// A full disk, or an image that is not what it should be: the leader tells of one again. Anything else that the disk
    /// refuses stops the node, as it does under the log.
    private func fail(_ error: StorageError, _ group: RaftGroup) {
        giveUp(group.id)
        switch error {
        case .noSpace, .damaged:
            node.metrics.images.failed += 1
            node.log(
                .warning, "cannot take the state from another node",
                ["group": "\(group.id)", "error": "\(error)"])
        default: node.stop(because: .storage(error))
        }
    }

    // MARK: - Giving up

    /// Gives up what makes no progress, and what nobody needs any more.
    func look() {
        let end = Nanoseconds.milliseconds(2 * limits.imageIdleMilliseconds)
        for group in node.groups {
            if let fetch = fetches[group.id], !fetch.isWorking {
                if now >= fetch.lastProgress + end || !group.core.needsSnapshot(fetch.metadata) { giveUp(group.id) }
            }
            if let state = arrived[group.id], !group.core.needsSnapshot(state.metadata) {
                arrived[group.id] = nil
                remove(state.path, of: group.id)
            }
        }
    }

    private func giveUp(_ group: GroupID) {
        guard let fetch = fetches[group], !fetch.isGivenUp else { return }
        fetch.isGivenUp = true
        if fetch.isWorking { return }
        end(fetch, group)
    }

    private func end(_ fetch: Fetch, _ group: GroupID) {
        if fetches[group] === fetch { fetches[group] = nil }
        remove(of: group) { [receiver = fetch.receiver] in receiver.remove() }
    }

    private func remove(_ path: String, of group: GroupID) {
        remove(of: group) { [disk = node.seams.disk] in try? StateFiles.remove(path, disk) }
    }

    /// A file of the same name may be made only after that.
    private func remove(of group: GroupID, _ body: @escaping @Sendable () -> Void) {
        removalCounts[group, default: 0] += 1
        perform(body) { [self] in
            let rest = (removalCounts[group] ?? 1) - 1
            removalCounts[group] = rest > 0 ? rest : nil
            guard rest == 0, let message = postponed.removeValue(forKey: group) else { return }
            node.enqueue(message, group: group)
        }
    }

    // MARK: - Work

    private func work<Output: Sendable>(
        _ fetch: Fetch, of group: RaftGroup,
        _ body: @escaping @Sendable (ImageReceiver) throws(StorageError) -> Output,
        completion: @escaping (Result<Output, StorageError>) -> Void
    ) {
        fetch.isWorking = true
        let receiver = fetch.receiver
        perform { () -> Result<Output, StorageError> in
            do throws(StorageError) { return .success(try body(receiver)) } catch { return .failure(error) }
        } completion: { [self] result in
            fetch.isWorking = false
            fetch.isGivenUp ? end(fetch, group.id) : completion(result)
        }
    }

    private func perform<Output: Sendable>(
        _ body: @escaping @Sendable () -> Output, completion: @escaping (Output) -> Void
    ) {
        workCount += 1
        node.seams.work.perform(body) { [self] output in
            workCount -= 1
            if onIdle == nil { completion(output) }
            if workCount == 0 { onIdle?() }
        }
    }

    /// `completion` runs when nothing is in use any more. What has not been taken goes at the next start.
    func close(completion: @escaping () -> Void) {
        let open = fetches.values.map(\.receiver)
        fetches = FlatMap()
        arrived = FlatMap()
        postponed = [:]
        let end = {
            for receiver in open { receiver.close() }
            completion()
        }
        if workCount == 0 { return end() }
        onIdle = end
    }
}
