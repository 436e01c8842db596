import Prelude
import Raft

/// A segment that has batches, with the highest index of each group's entries in it.
struct Segment {
    var number: UInt64
    var path: String
    var lastIndexes = FlatMap<GroupID, LogIndex>()

    mutating func note(_ record: LogRecord) {
        guard case .entries(let group, let entries) = record, let last = entries.last else { return }
        lastIndexes[group] = max(lastIndexes[group] ?? 0, last.index)
    }
}

/// The segment files of a directory, in order, and without a gap.
struct SegmentList {
    var numbers: [UInt64]

    init(directory: String, disk: any Disk) throws(StorageError) {
        let names = try onDisk { () throws(DiskError) in try disk.list(directory) }
        numbers = names.compactMap(LogFormat.segmentNumber).sorted()
        for (before, number) in zip(numbers, numbers.dropFirst()) where number != before + 1 {
            throw .damaged(
                file: filePath(directory, LogFormat.segmentName(before + 1)), offset: 0,
                reason: "the segment is missing, and segment \(LogFormat.segmentName(number)) follows")
        }
    }
}

/// Puts the groups together again from the records of the log, in their order.
struct GroupFold {
    private struct Group {
        var state: GroupState
        /// Contiguous, up to `state.last`. They may begin before `state.start`, and lack what is in removed segments.
        var entries: [Entry] = []

        mutating func take(_ record: LogRecord) -> String? {
            if let problem = state.take(record) { return problem }
            switch record {
            case .entries(_, let fresh):
                if let first = entries.first, first.index < fresh[0].index {
                    let kept = Int(fresh[0].index - first.index)
                    guard kept <= entries.count, entries[kept - 1].term <= fresh[0].term else {
                        return "the term goes back to \(fresh[0].term) at entry \(fresh[0].index)"
                    }
                    entries.removeLast(entries.count - kept)
                    entries.append(contentsOf: fresh)
                } else {
                    entries = fresh
                }
            case .snapshot:
                entries = []
            case .compacted(_, let index, let term):
                guard let first = entries.first, first.index <= index else { break }
                let place = Int(index - first.index)
                guard state.start.index > index || entries[place].term == term else {
                    return "entry \(index) has term \(entries[place].term), not \(term)"
                }
                // Moving the rest down is worth it once it is the smaller part.
                if place > entries.count / 2 { entries.removeFirst(place + 1) }
            case .hardState:
                break
            }
            return nil
        }
    }

    private var groups: [GroupID: Group] = [:]

    var states: [GroupID: GroupState] { groups.mapValues(\.state) }

    /// Takes in a record, or says which rule it breaks.
    mutating func take(_ record: LogRecord) -> String? {
        // In place: taking the group out and putting it back again would be most of the work.
        groups[record.group, default: Group(state: GroupState())].take(record).map { "group \(record.group): \($0)" }
    }

    /// Takes in what the head of the oldest segment says of the time before it.
    mutating func begin(_ group: GroupID, with state: GroupState) -> String? {
        guard groups[group] == nil else { return "group \(group) twice at the head of the segment" }
        guard state.start.index <= state.last.index, state.start.term <= state.last.term else {
            return "group \(group): a log of \(state.start.index + 1)...\(state.last.index)"
        }
        groups[group] = Group(state: state)
        return nil
    }

    func state(of group: GroupID) -> GroupState? { groups[group]?.state }

    var groupCount: Int { groups.count }

    /// What the groups are in the end, or which rule they break.
    consuming func finish() -> Result<[GroupID: RecoveredGroup], GroupProblem> {
        var recovered: [GroupID: RecoveredGroup] = [:]
        for (group, folded) in groups.sorted(by: { $0.key < $1.key }) {
            let state = folded.state
            var entries = folded.entries
            if state.last.index == state.start.index {
                entries = []
            } else {
                guard let first = entries.first, first.index <= state.start.index + 1 else {
                    let end = entries.first.map { $0.index - 1 } ?? state.last.index
                    return .failure(
                        GroupProblem(
                            reason: "entries \(state.start.index + 1)...\(end) of group \(group) are missing: "
                                + "an older segment has been removed"))
                }
                entries.removeFirst(Int(state.start.index + 1 - first.index))
            }
            guard state.hardState.commit <= state.last.index else {
                return .failure(
                    GroupProblem(
                        reason: "group \(group) is committed up to \(state.hardState.commit), "
                            + "and its entries end at \(state.last.index)"))
            }
            recovered[group] = RecoveredGroup(
                hardState: state.hardState, snapshot: state.snapshot, start: state.start, entries: entries)
        }
        return .success(recovered)
    }
}

struct GroupProblem: Error, Equatable {
    var reason: String
}

/// Reads the whole log, changes nothing, and tells how to go on.
struct LogRecovery {
    var groups: [GroupID: RecoveredGroup] = [:]
    var states: [GroupID: GroupState] = [:]
    /// The used segments, the last one being that which is written to.
    var segments: [Segment] = []
    var nextSequence: UInt64 = 1
    /// The end of the last batch in the last used segment.
    var position: UInt64 = 0
    var isSealed = false
    /// The last batch, with the segment header before it where it is the first: it may be in the memory of the
    /// system only, when the process that wrote it was killed or failed to synchronize it.
    var lastWrite: Range<UInt64>?
    var lastKind = BatchKind.normal
    /// What has to become zeros again.
    var torn: (path: String, range: Range<UInt64>)?
    /// Segments that were prepared and not yet used.
    var unused: [UInt64] = []

    init(directory: String, disk: any Disk) throws(StorageError) {
        var fold = GroupFold()
        var unfinished: StorageError?
        for number in try SegmentList(directory: directory, disk: disk).numbers {
            let path = filePath(directory, LogFormat.segmentName(number))
            let file = try onDisk { () throws(DiskError) in try disk.open(path, .readOnly) }
            defer { file.close() }
            if let unfinished {
                var window = try FileWindow(path: path, file: file)
                guard try window.remainder(from: 0, after: 0).isBlank else { throw unfinished }
                unused.append(number)
                continue
            }
            let isOldest = segments.isEmpty
            var reader = try SegmentReader(
                path: path, file: file, number: number,
                sequence: isOldest && number > 1 ? nil : nextSequence)
            var segment = Segment(number: number, path: path)
            var isHead = true
            while let records = try reader.next() {
                try Self.take(records, isHead: isHead, isOldest: isOldest, path, &fold, &segment)
                isHead = false
            }
            if isOldest, number > 1, reader.lastBatch == nil {
                throw .damaged(file: path, offset: 0, reason: "it is the oldest segment and has no batch")
            }
            try end(segment, reader, &unfinished)
        }
        states = fold.states
        switch fold.finish() {
        case .success(let recovered): groups = recovered
        case .failure(let problem):
            throw .damaged(file: segments.first?.path ?? directory, offset: 0, reason: problem.reason)
        }
    }

    /// Notes how a segment ends, and what is wrong when another used one follows.
    private mutating func end(
        _ segment: Segment, _ reader: SegmentReader, _ unfinished: inout StorageError?
    ) throws(StorageError) {
        guard let end = reader.end else { invariantBroken("a segment that has been read has an end") }
        if let last = reader.lastBatch {
            segments.append(segment)
            nextSequence = reader.sequence
            position = reader.position
            isSealed = end == .sealed
            lastKind = reader.lastKind
            let isFirst = last.lowerBound == UInt64(LogFormat.segmentHeaderByteCount)
            lastWrite = isFirst ? 0..<last.upperBound : last
        } else {
            unused.append(segment.number)
        }
        if case .torn(let from, let to) = end { torn = (segment.path, from..<to) }
        if end != .sealed {
            unfinished = .damaged(
                file: segment.path, offset: reader.position,
                reason: "batch \(reader.sequence) is missing, and a later segment is in use")
        }
    }

    private static func take(
        _ records: [LocatedRecord], isHead: Bool, isOldest: Bool, _ path: String, _ fold: inout GroupFold,
        _ segment: inout Segment
    ) throws(StorageError) {
        let headCount = records.prefix { $0.isGroupState }.count
        if isHead, !isOldest, headCount != fold.groupCount {
            throw .damaged(
                file: path, offset: records.first?.offset ?? 0,
                reason: "the head of the segment has \(headCount) of \(fold.groupCount) groups")
        }
        for (place, located) in records.enumerated() {
            var problem: String?
            switch located.content {
            case .groupState(let group, let state):
                if !isHead || place >= headCount {
                    problem = "the state of group \(group) is not at the head of a segment"
                } else if isOldest {
                    problem = fold.begin(group, with: state)
                } else if fold.state(of: group) != state {
                    problem = "the state of group \(group) is not the one that the segments before lead to"
                }
            case .record(let record):
                problem = fold.take(record)
                segment.note(record)
            }
            if let problem { throw .damaged(file: path, offset: located.offset, reason: problem) }
        }
    }
}
