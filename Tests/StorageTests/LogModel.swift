import Prelude
import Raft
import Storage
import StorageTesting
import XCTest

/// What a log must hold after some batches, kept in the plainest way.
struct LogModel: Equatable {
    private(set) var groups: [GroupID: RecoveredGroup] = [:]

    mutating func apply(_ records: [LogRecord]) {
        for record in records {
            switch record {
            case .entries(let id, let entries):
                groups[id, default: RecoveredGroup()].entries.removeAll { $0.index >= entries[0].index }
                groups[id]?.entries += entries
            case .hardState(let id, let state):
                groups[id, default: RecoveredGroup()].hardState = state
            case .snapshot(let id, let metadata):
                groups[id, default: RecoveredGroup()].snapshot = metadata
                groups[id]?.start = LogPoint(index: metadata.index, term: metadata.term)
                groups[id]?.entries = []
            case .compacted(let id, let index, let term):
                groups[id]?.start = LogPoint(index: index, term: term)
                groups[id]?.entries.removeAll { $0.index <= index }
            }
        }
    }

    func applying(_ records: [LogRecord]) -> LogModel {
        var next = self
        next.apply(records)
        return next
    }
}

/// Batches as Raft could give them, from a seed.
struct BatchSource {
    var random: SeededRandom
    var groupCount: UInt64 = 3

    init(seed: UInt64) { random = SeededRandom(seed: seed) }

    private mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }

    mutating func batch(after model: LogModel) -> [LogRecord] {
        var model = model
        var records: [LogRecord] = []
        for _ in 0..<Int.random(in: 1...3, using: &random) {
            let id = GroupID(UInt64.random(in: 0..<groupCount, using: &random))
            for record in pieces(of: id, model.groups[id] ?? RecoveredGroup()) {
                records.append(record)
                model.apply([record])
            }
        }
        return records
    }

    /// Now and then, a mark up to which a log can be compacted: to something that is committed.
    mutating func compaction(after model: LogModel) -> LogRecord? {
        guard chance(25) else { return nil }
        for (id, group) in model.groups.sorted(by: { $0.key < $1.key }) {
            let place = Int(group.hardState.commit.rawValue) - Int(group.start.index.rawValue)
            guard place > 0, chance(50) else { continue }
            let entry = group.entries[Int.random(in: 0..<place, using: &random)]
            return .compacted(id, entry.index, entry.term)
        }
        return nil
    }

    private mutating func pieces(of id: GroupID, _ group: RecoveredGroup) -> [LogRecord] {
        let state = group.hardState
        let term = max(state.term, group.last.term)
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<55: return [appended(id, group, term)]
        case 55..<65:
            // A new leader replaces what is not committed.
            let first = UInt64.random(
                in: max(state.commit, group.start.index).rawValue...group.last.index.rawValue, using: &random)
            let raised = HardState(term: term + 1, vote: 2, commit: state.commit)
            return [.hardState(id, raised), .entries(id, made(from: first + 1, term: term + 1))]
        case 65..<80:
            let commit = LogIndex(
                UInt64.random(in: state.commit.rawValue...group.last.index.rawValue, using: &random))
            return [.hardState(id, HardState(term: term, vote: state.vote, commit: commit))]
        case 80..<97: return [appended(id, group, term)]
        default:
            let index = group.last.index + UInt64.random(in: 1...20, using: &random)
            let metadata = SnapshotMetadata(
                index: index, term: term + 1, confState: ConfState(voters: [1, 2, 3], learners: [4]))
            return [.snapshot(id, metadata), .hardState(id, HardState(term: term + 1, vote: 0, commit: index))]
        }
    }

    private mutating func appended(_ id: GroupID, _ group: RecoveredGroup, _ term: Term) -> LogRecord {
        .entries(id, made(from: group.last.index.rawValue + 1, term: max(term, 1)))
    }

    private mutating func made(from first: UInt64, term: Term) -> [Entry] {
        (0..<UInt64.random(in: 1...4, using: &random)).map { number in
            let byteCount =
                chance(5) ? Int.random(in: 0...2500, using: &random) : Int.random(in: 0...60, using: &random)
            let filling: UInt8? = chance(15) ? 0 : nil
            return Entry(
                term: term, index: LogIndex(first + number), kind: chance(5) ? .confChangeV2 : .normal,
                data: (0..<byteCount).map { _ in filling ?? UInt8.random(in: 0...255, using: &random) })
        }
    }
}

extension LogFixture {
    /// Opens, and checks that the log holds `model`, or with one more batch `orElse`; returns which.
    func open(
        expecting model: LogModel, orElse other: LogModel? = nil, _ context: String = "", line: UInt = #line
    ) -> (DurableLog, LogModel)? {
        do {
            let (log, groups) = try open()
            if groups == model.groups { return (log, model) }
            if let other, groups == other.groups { return (log, other) }
            XCTFail("the log holds something else, \(context): \(groups), not \(model.groups)", line: line)
        } catch {
            XCTFail("the log does not open, \(context): \(error)", line: line)
        }
        return nil
    }
}
