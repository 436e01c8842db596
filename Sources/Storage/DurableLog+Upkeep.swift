import Prelude
import Raft

// What goes on beside the batches: filling segments with zeros ahead of time, and removing those that no group needs.
extension DurableLog {
    /// The entries of `group` up to `index` are not needed any more: what they lead to is durable elsewhere. The next
    /// batch notes it (without one, nothing does); once that is durable, whole segments that no group needs are removed
    /// in the background.
    public func compact(_ group: GroupID, upTo index: LogIndex) {
        if let state = groups[group], index <= state.start.index { return }
        compactions[group] = max(compactions[group] ?? 0, index)
    }

    // MARK: Room

    /// Zeros that wait for batches.
    var roomByteCount: UInt64 {
        let ahead = active.map { $0.isSealed ? 0 : $0.filledByteCount - min($0.position, $0.filledByteCount) } ?? 0
        return ahead + (next?.filledByteCount ?? lentByteCount)
    }

    /// The disk is full, and what is left of the zeros is the reserve: it is for what has been accepted already, and for
    /// votes. Whoever asks the log to hold more should wait until this is over.
    public var isShortOfSpace: Bool { isOutOfSpace && roomByteCount < limits.reserveByteCount }

    /// Tries again to get room on a disk that was full. To be called now and then: without batches nothing else does.
    public func lookForSpace() {
        guard isFillingSuspended || isRoomScarce, isOpen, failure == nil else { return }
        isFillingSuspended = false
        isRoomScarce = false
        maintain()
    }

    func noteRoom() {
        isFillingSuspended = false
        isOutOfSpace = false
    }

    func noteNoRoom() {
        isFillingSuspended = true
        isOutOfSpace = true
    }

    func maintain() {
        guard failure == nil, isOpen else { return }
        removeUnneeded()
        guard !isFillingSuspended else { return }
        fillActive()
        prepareNext()
    }

    /// Where filling stops that has to reach `needed`: a piece further, so that not every batch has to fill.
    func fillEnd(from needed: UInt64) -> UInt64 {
        max(needed, min(limits.segmentByteCount, DiskUnit.ceiling(needed + limits.fillByteCount)))
    }

    /// Keeps zeros ahead of the write position. The zeros are left to the next batch to synchronize: a failure must
    /// reach the batch, and the system tells it to one of two callers only. So that they do not weigh on it much, they
    /// are few.
    private func fillActive() {
        guard let active, !active.isSealed, !isActiveBeingFilled, !isBatchFilling,
            active.filledByteCount < limits.segmentByteCount,
            active.filledByteCount < active.position + 2 * limits.fillByteCount
        else { return }
        let (file, start) = (active.file, active.filledByteCount)
        let end = min(limits.segmentByteCount, start + limits.fillByteCount)
        isActiveBeingFilled = true
        work.perform { () -> (UInt64, DiskError?) in
            var filled = start
            do throws(DiskError) { try fillWithZeros(file, from: &filled, to: end) } catch { return (filled, error) }
            return (filled, nil)
        } completion: { [self] filled, error in
            isActiveBeingFilled = false
            if let now = self.active, now.file === file {
                self.active?.filledByteCount = max(filled, now.filledByteCount)
            } else {
                // The segment was sealed meanwhile.
                file.close()
            }
            filledAhead(error)
        }
    }

    /// Prepares the next segment piece by piece while the active one is in use. Not before a part of that one is, so
    /// that a young node is small; only a first piece when there is no active one, so that the first batch comes soon,
    /// and when less than a segment is free: on a small disk the zeros would take the room that the state stores need,
    /// which would wait for it for ever.
    private func prepareNext() {
        guard let prepared = next else { return }
        var end = limits.segmentByteCount
        if isRoomScarce { end = min(end, limits.fillByteCount) }
        if let active {
            guard active.isSealed || active.position >= limits.segmentByteCount / 4 else { return }
        } else {
            end = min(end, limits.fillByteCount)
        }
        guard prepared.filledByteCount < end else { return }
        let isForLater = active != nil
        let target = min(end, prepared.filledByteCount + limits.fillByteCount * (isForLater ? 4 : 1))
        next = nil
        let before = prepared.filledByteCount
        lentByteCount = before
        let fewest = min(target, max(before, limits.fillByteCount))
        work.perform { [disk, directory, limits] () -> (PreparedSegment, isScarce: Bool, DiskError?) in
            var (prepared, isScarce) = (prepared, false)
            do throws(DiskError) {
                if isForLater { isScarce = try disk.availableByteCount(directory) < limits.segmentByteCount }
                try prepared.prepare(to: isScarce ? fewest : target, disk: disk)
                if isForLater { try prepared.synchronize(disk: disk) }
            } catch { return (prepared, isScarce, error) }
            return (prepared, isScarce, nil)
        } completion: { [self] prepared, isScarce, error in
            next = prepared
            isRoomScarce = isScarce
            filledAhead(error, gotRoom: prepared.filledByteCount > before)
        }
    }

    private func filledAhead(_ error: DiskError?, gotRoom: Bool = true) {
        if let error {
            if error.kind == .noSpace {
                noteNoRoom()
            } else {
                failure = failure ?? .disk(error)
            }
        } else if gotRoom {
            isOutOfSpace = false
        }
        resume()
        maintain()
    }

    // MARK: Removal

    /// The last entry by which `group` keeps the oldest segment, and with it all others, when there are more of them than
    /// there should be: a group in which little happens would otherwise hold on to its few entries for ever. Nil when it
    /// does not.
    public func lastEntryHoldingOldestSegment(of group: GroupID) -> LogIndex? {
        guard segments.count > limits.segmentCountMax, let last = segments.first?.lastIndexes[group],
            last > max(groups[group]?.start.index ?? 0, compactions[group] ?? 0)
        else { return nil }
        return last
    }

    private func removeUnneeded() {
        guard mayRemove, !isRemoving else { return }
        mayRemove = false
        let paths = segments.dropLast().prefix(while: isUnneeded).map(\.path)
        guard !paths.isEmpty else { return }
        isRemoving = true
        work.perform { [disk, directory] () -> Int in
            for (count, path) in paths.enumerated() {
                // One after the other, so that what is left is without a gap whenever the machine stops.
                do throws(DiskError) {
                    try disk.remove(path)
                } catch  where error.kind == .notFound {
                } catch { return count }
                do { try disk.synchronizeDirectory(directory) } catch { return count + 1 }
            }
            return paths.count
        } completion: { [self] count in
            isRemoving = false
            segments.removeFirst(count)
            maintain()
        }
    }

    private func isUnneeded(_ segment: Segment) -> Bool {
        segment.lastIndexes.allSatisfy { group, last in
            groups[group].map { last <= $0.start.index } ?? false
        }
    }
}
