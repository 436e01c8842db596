import Prelude
import Raft

/// The log of a node: one sequence of batches for all its groups, in segment files that are filled with zeros ahead of
/// time, so that a batch costs one write and one fdatasync of data alone. The bytes are in docs/disk-format.md.
///
/// Confined to one loop; what blocks runs in work items. At most one batch is being written at a time, which is what
/// makes a torn write possible at the very end of the log only.
public final class DurableLog {
    let directory: String
    let disk: any Disk
    let work: any Work
    let limits: LogLimits

    /// As of the last durable batch.
    var groups: FlatMap<GroupID, GroupState>
    /// Those that have batches, oldest first; the last one is written to.
    var segments: [Segment]
    var active: ActiveSegment?
    /// The segment after the active one, as far as it is prepared; nil while a work item has it.
    var next: PreparedSegment?
    /// How far the next segment was filled when a work item last took it to fill more.
    var lentByteCount: UInt64 = 0
    var nextSequence: UInt64
    var isActiveBeingFilled = false
    /// The batch that is being written fills its own way: no zeros may be written there beside it.
    var isBatchFilling = false
    /// A full disk stopped the filling ahead of time; it goes on once a batch has found room, or when it is told to.
    var isFillingSuspended = false
    /// Less than a segment is free: the next one is not filled beyond a first piece.
    var isRoomScarce = false
    /// The last attempt to get room found none.
    var isOutOfSpace = false
    /// Up to where the entries of a group are not needed any more, until a durable record says so.
    var compactions = FlatMap<GroupID, LogIndex>()
    private var terms: FlatMap<GroupID, TermMap>
    var isRemoving = false
    var mayRemove = false
    private var pending: PendingBatch?
    /// For the next batch, when it is not large.
    private var spare: AlignedBytes?
    private var isBatchInFlight = false
    private var closing: Closing = .open

    /// A batch has been handed to `append` and has not completed.
    public private(set) var isWriting = false
    /// What stopped the log for good. Nothing that failed is written again: after a failed fdatasync nobody knows what
    /// of it is on the disk.
    public internal(set) var failure: StorageError?

    struct ActiveSegment: Sendable {
        var path: String
        var file: any DiskFile
        /// The end of the last batch.
        var position: UInt64
        /// What stands before it in its unit of the disk.
        var tail: [UInt8]
        var filledByteCount: UInt64
        var isSealed: Bool
        var lastKind: BatchKind
    }

    private enum Closing { case open, wanted(() -> Void), done }

    private struct PendingBatch {
        var records: [LogRecord]
        /// The states of the groups that the batch changes, as they are after it.
        var changes: FlatMap<GroupID, GroupState>
        var completion: (Result<Void, StorageError>) -> Void
    }

    /// Room for the batches that say that the log was closed and that the segment is sealed.
    static let closingByteCount = UInt64(2 * LogFormat.emptyBatchByteCount)
    private static let keptByteCountMax = 256 << 10

    init(
        directory: String, disk: any Disk, work: any Work, limits: LogLimits, recovery: borrowing LogRecovery,
        active: ActiveSegment?, next: PreparedSegment
    ) {
        self.directory = directory
        self.disk = disk
        self.work = work
        self.limits = limits
        self.active = active
        self.next = next
        groups = FlatMap(recovery.states)
        segments = recovery.segments
        nextSequence = recovery.nextSequence
        terms = FlatMap(recovery.groups.mapValues(TermMap.init))
    }

    public var segmentCount: Int { segments.count }

    /// Writes `records` as one batch. `completion` runs once, on the loop, never before this call has returned: with
    /// success when the batch is durable, or with
    /// - `.noSpace` when the disk is full: nothing of the batch was written, and the log stays usable;
    /// - `.tooLarge` when the batch is: likewise;
    /// - any other error: it may or may not be on disk, and every later batch fails with the same error.
    ///
    /// Precondition: `!isWriting`, and the records follow each other as Raft demands.
    public func append(_ records: [LogRecord], completion: @escaping (Result<Void, StorageError>) -> Void) {
        invariant(!isWriting, "one batch is written at a time")
        invariant(!records.isEmpty, "a batch has records")
        isWriting = true
        guard case .open = closing else { return completeLater(.failure(.closed), completion) }
        let marks = compactionMarks()
        pending = PendingBatch(
            records: marks + records, changes: changes(by: marks + records), completion: completion)
        startPending()
    }

    private func changes(by records: [LogRecord]) -> FlatMap<GroupID, GroupState> {
        var changes = FlatMap<GroupID, GroupState>()
        for record in records {
            let group = record.group
            let problem = changes[group, default: groups[group] ?? GroupState()].take(record)
            if let problem { invariantBroken("group \(group): \(problem)") }
        }
        return changes
    }

    /// What `compact` was told since the last batch, as far as the entries are durable.
    private func compactionMarks() -> [LogRecord] {
        guard !compactions.isEmpty else { return [] }
        return compactions.compactMap { group, wanted in
            guard let state = groups[group] else { return nil }
            let index = min(wanted, state.last.index)
            guard index > state.start.index, let term = terms[group]?.term(at: index) else { return nil }
            return .compacted(group, index, term)
        }
    }

    /// Starts the write of the pending batch, unless a work item has the file that it needs; then that one's end does.
    private func startPending() {
        guard let batch = pending else { return }
        if let failure { return completeLater(.failure(failure), batch.completion) }
        let content = BatchContent(records: batch.records)
        if let active, !active.isSealed {
            guard let measured = content.measured() else {
                return completeLater(.failure(tooLarge), batch.completion)
            }
            let needed = active.position + UInt64(measured.byteCount) + Self.closingByteCount
            if needed <= limits.segmentByteCount {
                if needed > active.filledByteCount, isActiveBeingFilled { return }
                return write(measured, to: active, needed: needed)
            }
        }
        guard let next else { return }
        roll(content, to: next)
    }

    private var tooLarge: StorageError {
        .tooLarge(what: "a batch", byteCount: UInt64(Int32.max) + 1, byteCountMax: UInt64(Int32.max))
    }

    private func completeLater(
        _ result: Result<Void, StorageError>, _ completion: @escaping (Result<Void, StorageError>) -> Void
    ) {
        pending = nil
        work.perform({}) { [self] in
            isWriting = false
            completion(result)
            finishClosing()
        }
    }

    // MARK: Writing

    private enum Outcome: Sendable {
        case durable
        /// Nothing of the batch was written.
        case refused(StorageError)
        case failed(StorageError)

        /// Something failed before the first byte of the batch.
        static func unprepared(_ error: DiskError) -> Outcome {
            error.kind == .noSpace ? .refused(.noSpace(error)) : .failed(.disk(error))
        }
    }

    /// Only one batch is being written at a time.
    private func memory(_ byteCount: Int) -> AlignedBytes {
        if let spare, spare.memory.count >= byteCount { return spare }
        let fresh = AlignedBytes(byteCount: Int(DiskUnit.ceiling(UInt64(byteCount))))
        if byteCount <= Self.keptByteCountMax { spare = fresh }
        return fresh
    }

    private func write(_ batch: MeasuredBatch, to active: ActiveSegment, needed: UInt64) {
        let (file, filled) = (active.file, active.filledByteCount)
        let fillEnd = filled < needed ? fillEnd(from: needed) : filled
        let piece = SegmentPiece(
            batch, sequence: nextSequence, at: active.position, tail: active.tail, room: fillEnd, memory: memory)
        isBatchFilling = fillEnd > filled
        isBatchInFlight = true
        work.perform { () -> (Outcome, UInt64) in
            var filled = filled
            do throws(DiskError) {
                try fillWithZeros(file, from: &filled, to: fillEnd)
            } catch { return (.unprepared(error), filled) }
            do throws(DiskError) {
                try piece.write(to: file)
                try file.synchronizeData()
            } catch { return (.failed(.disk(error)), filled) }
            return (.durable, filled)
        } completion: { [self] outcome, filledByteCount in
            isBatchFilling = false
            if filledByteCount > filled {
                self.active?.filledByteCount = filledByteCount
                noteRoom()
            }
            finish(outcome, piece, batchByteCount: batch.byteCount)
        }
    }

    /// Seals the active segment and writes the batch at the head of the next one.
    private func roll(_ content: BatchContent, to prepared: PreparedSegment) {
        var content = content
        content.heads = groups.map { ($0.key, $0.value) }
        let old = active.flatMap { $0.isSealed ? nil : $0 }
        let sequence = nextSequence + (old == nil ? 0 : 1)
        guard let batch = content.measured(beginsSegment: true) else {
            if let pending { completeLater(.failure(tooLarge), pending.completion) }
            return
        }
        let seal = old.flatMap { mark(.seal, in: $0) }
        let needed = UInt64(batch.byteCount) + Self.closingByteCount
        let fillEnd = prepared.filledByteCount < needed ? fillEnd(from: needed) : 0
        let piece = SegmentPiece(
            batch, sequence: sequence, at: 0, tail: [], room: max(fillEnd, prepared.filledByteCount),
            segment: prepared.number, memory: memory)
        next = nil
        isBatchInFlight = true
        work.perform { [disk] () -> (Outcome, PreparedSegment) in
            var prepared = prepared
            do throws(DiskError) {
                try prepared.prepare(to: fillEnd, disk: disk)
            } catch { return (.unprepared(error), prepared) }
            do throws(DiskError) {
                // Durable before the next segment has a byte: a segment without its seal is the last one.
                if let old {
                    try seal?.write(to: old.file)
                    try old.file.synchronizeData()
                }
                if let file = prepared.file {
                    try piece.write(to: file)
                    try file.synchronizeData()
                }
            } catch { return (.failed(.disk(error)), prepared) }
            return (.durable, prepared)
        } completion: { [self] outcome, prepared in
            finishRoll(outcome, prepared, piece, sequence: sequence, byteCount: batch.byteCount)
        }
    }

    /// A batch without records, behind the last one of the segment.
    private func mark(_ kind: BatchKind, in segment: ActiveSegment) -> SegmentPiece? {
        BatchContent(kind: kind).measured().map {
            SegmentPiece(
                $0, sequence: nextSequence, at: segment.position, tail: segment.tail, room: segment.filledByteCount,
                memory: AlignedBytes.init)
        }
    }

    private func finishRoll(
        _ outcome: Outcome, _ prepared: PreparedSegment, _ piece: SegmentPiece, sequence: UInt64, byteCount: Int
    ) {
        guard case .durable = outcome, let file = prepared.file else {
            next = prepared
            return finish(outcome, piece, batchByteCount: byteCount)
        }
        if !isActiveBeingFilled { active?.file.close() }
        active = ActiveSegment(
            path: prepared.path, file: file, position: 0, tail: [], filledByteCount: prepared.filledByteCount,
            isSealed: false, lastKind: .normal)
        segments.append(Segment(number: prepared.number, path: prepared.path))
        next = PreparedSegment(number: prepared.number + 1, directory: directory)
        nextSequence = sequence
        noteRoom()
        mayRemove = true
        finish(outcome, piece, batchByteCount: byteCount)
    }

    private func finish(_ outcome: Outcome, _ piece: SegmentPiece, batchByteCount: Int) {
        guard let batch = pending else { invariantBroken("a batch that has been written was pending") }
        pending = nil
        isBatchInFlight = false
        isWriting = false
        switch outcome {
        case .durable:
            active?.position += UInt64(batchByteCount)
            active?.tail = piece.tail
            active?.lastKind = .normal
            nextSequence += 1
            for record in batch.records { note(record) }
            for (group, state) in batch.changes { groups[group] = state }
            batch.completion(.success(()))
        case .refused(let error):
            noteNoRoom()
            batch.completion(.failure(error))
        case .failed(let error):
            failure = failure ?? error
            batch.completion(.failure(error))
        }
        maintain()
        finishClosing()
    }

    private func note(_ record: LogRecord) {
        segments[segments.count - 1].note(record)
        terms[record.group, default: TermMap()].note(record)
        switch record {
        case .snapshot(let group, let metadata): noteStart(of: group, metadata.index)
        case .compacted(let group, let index, _): noteStart(of: group, index)
        case .entries, .hardState: break
        }
    }

    private func noteStart(of group: GroupID, _ index: LogIndex) {
        if let wanted = compactions[group], wanted <= index { compactions[group] = nil }
        mayRemove = true
    }

    /// A work item has come back with the file that the pending batch may wait for.
    func resume() {
        if pending != nil, !isBatchInFlight { startPending() }
        finishClosing()
    }

    // MARK: Closing

    /// Ends the log: a batch that is being written comes to its end, then the log is marked as closed in order, and
    /// its files are closed. `completion` runs at the end, which may be before this call returns; the mark is written
    /// on the calling thread.
    public func close(completion: @escaping () -> Void = {}) {
        guard case .open = closing else { return }
        closing = .wanted(completion)
        finishClosing()
    }

    var isOpen: Bool { if case .open = closing { true } else { false } }

    private func finishClosing() {
        guard case .wanted(let completion) = closing, !isWriting, !isActiveBeingFilled, next != nil else { return }
        closing = .done
        if failure == nil, let active, !active.isSealed, active.lastKind != .closed,
            let mark = mark(.closed, in: active)
        {
            // Without the mark the log is as it is after a crash, and opens all the same.
            try? mark.write(to: active.file)
            try? active.file.synchronizeData()
        }
        active?.file.close()
        next?.file?.close()
        completion()
    }
}
