import Prelude
import Storage

/// Writes one group's state store behind its log: at most one batch is under way.
final class GroupStore {
    enum State: Equatable {
        case idle
        case writing
        /// The disk is full. Nothing was written; the batch waits for the next attempt.
        case full
        /// An image takes the place of the store.
        case adopting
    }

    private let store: StateStore
    private let clock: any Clock
    private(set) var state = State.idle
    private var retry: (any ScheduledTimer)?
    private var isClosed = false
    /// Batches of before the last image are over.
    private var imageCount = 0
    /// Of the newest batch that is durable.
    private var writtenIndex: LogIndex
    private var waiters: [(index: LogIndex, completion: (Result<Void, StorageError>) -> Void)] = []

    /// Why a batch found no room, once for each such batch; nil once it has found some.
    var onSpace: (StorageError?) -> Void = { _ in }

    private let fullDiskRetry: Nanoseconds

    /// - Parameters:
    ///   - writtenIndex: what the store holds.
    ///   - fullDiskRetry: after this time a batch that found no room is tried again.
    init(_ store: StateStore, writtenIndex: LogIndex, clock: any Clock, fullDiskRetry: Nanoseconds) {
        self.store = store
        self.writtenIndex = writtenIndex
        self.clock = clock
        self.fullDiskRetry = fullDiskRetry
    }

    /// Precondition: idle. A full disk only delays it.
    func write(_ batch: StateBatch, completion: @escaping (Result<Void, StorageError>) -> Void) {
        invariant(state == .idle, "one batch is written at a time")
        attempt(batch, isFirst: true, completion)
    }

    private func attempt(
        _ batch: StateBatch, isFirst: Bool, _ completion: @escaping (Result<Void, StorageError>) -> Void
    ) {
        state = .writing
        store.apply(batch) { [weak self, imageCount] result in
            guard let self, !isClosed, imageCount == self.imageCount else { return }
            guard case .failure(.noSpace(let error)) = result else {
                state = .idle
                if !isFirst { onSpace(nil) }
                if case .success = result { noteWritten(upTo: batch.head.metadata.index) }
                return completion(result)
            }
            state = .full
            if isFirst { onSpace(.noSpace(error)) }
            failWaiters(.noSpace(error))
            retry = clock.schedule(after: fullDiskRetry) { [weak self] in
                self?.attempt(batch, isFirst: false, completion)
            }
        }
    }

    /// The image at `path`, as of `index`, takes the place of the store and of every batch before it. A full disk only
    /// delays it.
    func adopt(_ path: String, index: LogIndex, completion: @escaping (Result<Void, StorageError>) -> Void) {
        imageCount += 1
        retry?.cancel()
        if state == .full { onSpace(nil) }
        attemptToAdopt(path, index, isFirst: true, completion)
    }

    private func attemptToAdopt(
        _ path: String, _ index: LogIndex, isFirst: Bool, _ completion: @escaping (Result<Void, StorageError>) -> Void
    ) {
        state = .adopting
        store.adopt(path) { [weak self, imageCount] result in
            guard let self, !isClosed, imageCount == self.imageCount else { return }
            guard case .failure(.noSpace(let error)) = result else {
                state = .idle
                if !isFirst { onSpace(nil) }
                if case .success = result { noteWritten(upTo: index) }
                return completion(result)
            }
            if isFirst { onSpace(.noSpace(error)) }
            failWaiters(.noSpace(error))
            retry = clock.schedule(after: fullDiskRetry) { [weak self] in
                self?.attemptToAdopt(path, index, isFirst: false, completion)
            }
        }
    }

    // MARK: - Who needs what is in the store

    /// Calls back once everything up to `index` is durable in the store, or its disk has no room for it.
    func whenWritten(upTo index: LogIndex, completion: @escaping (Result<Void, StorageError>) -> Void) {
        if isClosed { return completion(.failure(.closed)) }
        if index <= writtenIndex { return completion(.success(())) }
        waiters.append((index, completion))
    }

    /// Somebody waits for more than what was written.
    var isAwaited: Bool { !waiters.isEmpty }

    private func noteWritten(upTo index: LogIndex) {
        writtenIndex = max(writtenIndex, index)
        let done = waiters.filter { $0.index <= writtenIndex }
        waiters.removeAll { $0.index <= writtenIndex }
        for waiter in done { waiter.completion(.success(())) }
    }

    private func failWaiters(_ error: StorageError) {
        let failed = waiters
        waiters = []
        for waiter in failed { waiter.completion(.failure(error)) }
    }

    /// As `StateStore.advance`.
    func advance(
        _ image: StateImage, byteCount: Int, completion: @escaping (Result<StateHead?, StorageError>) -> Void
    ) {
        store.advance(image, byteCount: byteCount, completion: completion)
    }

    func close(completion: @escaping () -> Void) {
        isClosed = true
        failWaiters(.closed)
        retry?.cancel()
        store.close(completion: completion)
    }
}

extension Node {
    /// A full disk keeps the commands away as long as a store waits for space.
    func watchStores() {
        for (group, store) in stores {
            store.onSpace = { [weak self] error in
                self?.noteSpace(for: "the state of group \(group)", isFull: error != nil)
                guard let error else { return }
                self?.log(
                    .warning, "cannot bring the state store up to date",
                    ["group": "\(group)", "error": "\(error)"])
            }
        }
    }

    /// Brings the state stores up to date that are behind by more than their limits, or that hold the log up.
    func updateStores() {
        for group in groups {
            guard let store = stores[group.id], store.state == .idle else { continue }
            let isHoldingLogUp = holdsLogUp(group)
            guard group.wantsStoring || isHoldingLogUp || store.isAwaited else { continue }
            let batch = group.takeBatch()
            let index = batch.head.metadata.index
            store.write(batch) { [weak self] result in
                guard let self, phase != .stopped else { return }
                switch result {
                case .success:
                    metrics.stateBatchCount += 1
                    let keepsEntries = !isHoldingLogUp && !isDiskFull
                    let end = group.noteStored(
                        upTo: index, keepsEntries: keepsEntries, held: images.oldestIndex(of: group.id))
                    if let end { durableLog.compact(group.id, upTo: end) }
                    discardSnapshots(of: group, upTo: index)
                case .failure(let error):
                    stop(because: .storage(error))
                }
            }
        }
    }

    /// The log is longer than it should be for the sake of entries of this group that the store could hold, unless they
    /// are needed after an image that somebody is fetching.
    private func holdsLogUp(_ group: RaftGroup) -> Bool {
        guard let last = durableLog.lastEntryHoldingOldestSegment(of: group.id) else { return false }
        return last <= group.appliedIndex && last <= images.oldestIndex(of: group.id) ?? last
    }

    /// What the group has installed becomes its state store.
    func adopt(_ incoming: IncomingState, in group: RaftGroup) {
        stores[group.id]?.adopt(incoming.path, index: incoming.metadata.index) { [weak self] result in
            guard let self, phase != .stopped else { return }
            switch result {
            case .success:
                metrics.images.installed += 1
                discardSnapshots(of: group, upTo: incoming.metadata.index)
            case .failure(let error): stop(because: .storage(error))
            }
        }
    }

    /// The store holds what they hold. One that stays behind does no harm: the store is newer.
    private func discardSnapshots(of group: RaftGroup, upTo index: LogIndex) {
        snapshotStore.discard(group.id, upTo: index) { [log] result in
            guard case .failure(let error) = result else { return }
            log(.warning, "cannot remove a snapshot", ["group": "\(group.id)", "error": "\(error)"])
        }
    }

    /// `completion` runs when no state store is in use any more.
    func closeStores(completion: @escaping () -> Void) {
        var openCount = stores.count
        if openCount == 0 { return completion() }
        for (_, store) in stores {
            store.close {
                openCount -= 1
                if openCount == 0 { completion() }
            }
        }
    }
}
