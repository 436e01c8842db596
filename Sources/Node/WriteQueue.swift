import Prelude
import Raft
import Storage

/// Group commit: collects what all groups want on disk; at most one write is under way, and everything that comes
/// meanwhile joins the next one.
final class WriteQueue {
    struct Item {
        let group: GroupID
        let message: Message
    }

    enum State: Equatable {
        case idle
        case writing
        /// The disk is full. Nothing was written; the batch waits for the next attempt.
        case full
        case failed
    }

    private let log: DurableLog
    private let clock: any Clock
    private let metrics: NodeMetrics
    private let byteCountMax: UInt64
    private let fullDiskRetry: Nanoseconds
    private(set) var state = State.idle
    /// When the write under way began.
    private(set) var writingSince: Nanoseconds?
    /// A batch found no room, and has not been written since.
    private(set) var isWaitingForSpace = false
    private var waiting: [Item] = []
    /// Changes of the commit index alone need no write of their own: it is found again after a crash. They wait for
    /// the group's next write.
    private var lazyHardStates = FlatMap<GroupID, Item>()

    /// What was written, in order.
    var onWritten: ([Item]) -> Void = { _ in }
    var onFailed: (StorageError) -> Void = { _ in }

    /// How long a write took.
    var onTimed: (Nanoseconds) -> Void = { _ in }

    private var retry: (any ScheduledTimer)?

    /// - Parameters:
    ///   - byteCountMax: of one batch; more than that waits for the next.
    ///   - fullDiskRetry: after this time a batch that found no room is tried again.
    init(
        log: DurableLog, clock: any Clock, metrics: NodeMetrics, byteCountMax: UInt64,
        fullDiskRetry: Nanoseconds
    ) {
        self.log = log
        self.clock = clock
        self.metrics = metrics
        self.byteCountMax = byteCountMax
        self.fullDiskRetry = fullDiskRetry
    }

    /// `changesOnlyCommit`: term and vote are as in the hard state that is durable or already queued for the group.
    func add(_ message: Message, group: GroupID, changesOnlyCommit: Bool) {
        guard changesOnlyCommit else {
            writeCommit(of: group)
            return waiting.append(Item(group: group, message: message))
        }
        if let lazy = message.withoutResponses { lazyHardStates[group] = Item(group: group, message: lazy) }
        if let responses = message.withoutHardState { waiting.append(Item(group: group, message: responses)) }
    }

    /// The group's commit index does not wait for another write.
    func writeCommit(of group: GroupID) {
        if let lazy = lazyHardStates.removeValue(forKey: group) { waiting.append(lazy) }
    }

    /// Begins no more writes.
    func stop() {
        state = .failed
        retry?.cancel()
    }

    /// What writes nothing has ended when this returns.
    func start() {
        while state == .idle, !waiting.isEmpty {
            state = .writing
            write(takeBatch())
        }
    }

    /// As much as fits.
    private func takeBatch() -> [Item] {
        var byteCount: UInt64 = 0
        var count = 0
        for item in waiting {
            byteCount += item.message.entries.reduce(0) { $0 + UInt64($1.data.count) + 64 }
            if count > 0, byteCount > byteCountMax { break }
            count += 1
        }
        if count == waiting.count {
            let batch = waiting
            waiting = []
            return batch
        }
        let batch = Array(waiting.prefix(count))
        waiting.removeFirst(count)
        return batch
    }

    private func write(_ batch: [Item]) {
        writingSince = clock.now
        var records: [LogRecord] = []
        for item in batch { Self.add(item, to: &records) }
        // Responses alone, which only had to wait for what was written before them.
        if records.isEmpty { return finish(batch) }
        let start = clock.now
        log.append(records) { [self] result in
            switch result {
            case .success:
                metrics.wrote(batch.count, within: clock.now - start)
                finish(batch)
            case .failure(let error): fail(error, batch)
            }
        }
    }

    private func finish(_ batch: [Item]) {
        guard state != .failed else { return }
        state = .idle
        isWaitingForSpace = false
        noteEnd()
        onWritten(batch)
    }

    private func noteEnd() {
        if let writingSince { onTimed(clock.now - writingSince) }
        writingSince = nil
    }

    private func fail(_ error: StorageError, _ batch: [Item]) {
        noteEnd()
        guard case .noSpace = error, log.failure == nil else {
            state = .failed
            onFailed(error)
            return
        }
        guard state != .failed else { return }
        state = .full
        isWaitingForSpace = true
        retry = clock.schedule(after: fullDiskRetry) { [weak self] in
            guard let self, state == .full else { return }
            state = .writing
            write(batch)
        }
    }

    private static func add(_ item: Item, to records: inout [LogRecord]) {
        if let snapshot = item.message.snapshot { records.append(.snapshot(item.group, snapshot.metadata)) }
        if !item.message.entries.isEmpty { records.append(.entries(item.group, item.message.entries)) }
        if let hardState = item.message.hardStateToWrite { records.append(.hardState(item.group, hardState)) }
    }
}
