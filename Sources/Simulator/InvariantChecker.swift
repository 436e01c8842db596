@_spi(Simulation) import Node
import Prelude
import Raft
import Workflow

/// A rule that did not hold.
public struct Violation: Sendable, Equatable, CustomStringConvertible {
    /// Short and the same for every instance of the rule.
    public var invariant: String
    public var detail: String
    public var step: UInt64
    public var time: Nanoseconds

    public var description: String {
        "\(invariant): \(detail) (step \(step), \(time / 1_000_000) ms)"
    }
}

/// Watches every node from inside, in every life, and compares what it sees with all that it has seen before.
final class InvariantChecker: NodeObserver, @unchecked Sendable {
    // Sendable, because a simulation has one thread.
    private let world: SimulatedWorld
    private(set) var violation: Violation?

    private struct Place: Hashable {
        let group: GroupID
        let number: UInt64
    }

    fileprivate struct Replica: Hashable {
        let group: GroupID
        let node: NodeID
    }

    private struct AppliedEntry {
        let digest: UInt64
        let term: Term
        let node: NodeID
    }

    private struct Record: Equatable {
        let value: [UInt8]?
        let failure: String
        let index: LogIndex
    }

    private struct RecordKey: Hashable {
        let run: RunID
        let position: UInt32
    }

    private struct Progress {
        var commit: LogIndex = 0
        var applied: LogIndex = 0
        var term: Term = 0
    }

    private var leaders: [Place: NodeID] = [:]
    private var applied: [Place: AppliedEntry] = [:]
    private var highestApplied: [GroupID: LogIndex] = [:]
    private var progress: [Replica: Progress] = [:]
    /// What each replica has said to be durable: the last index, and the term of the last entry there.
    private var durable: [Replica: (index: LogIndex, term: Term)] = [:]
    /// The newest configurations that any replica has reported.
    private var configurations: [Replica: ConfState] = [:]
    private var records: [RecordKey: Record] = [:]
    private var endings: [RunID: LogIndex] = [:]
    private(set) var entryCount = 0
    private(set) var installedSnapshotCount = 0
    private(set) var leaderCount = 0

    init(world: SimulatedWorld) { self.world = world }

    func fail(_ invariant: String, _ detail: String) {
        guard violation == nil else { return }
        violation = Violation(invariant: invariant, detail: detail, step: world.stepCount, time: world.now)
    }

    // MARK: - Lives

    /// A node begins a new life: what it has not said to be durable may be lost.
    func lifeBegins(_ node: NodeID) {
        for replica in progress.keys.filter({ $0.node == node }) { progress[replica] = nil }
    }

    // MARK: - Between turns

    func observe(_ node: Node) {
        for group in node.observedGroups {
            let replica = Replica(group: group.id, node: node.id)
            let before = progress[replica] ?? Progress()
            if group.commitIndex < before.commit {
                fail("commit never moves back", "\(replica.text): from \(before.commit) to \(group.commitIndex)")
            }
            if group.appliedIndex < before.applied {
                fail("applied never moves back", "\(replica.text): from \(before.applied) to \(group.appliedIndex)")
            }
            if group.term < before.term {
                fail("the term never moves back", "\(replica.text): from \(before.term) to \(group.term)")
            }
            if group.appliedIndex > group.commitIndex {
                fail("applied is committed", "\(replica.text): \(group.appliedIndex) over \(group.commitIndex)")
            }
            if group.appliedIndex != before.applied, group.commitIndex == group.appliedIndex,
                group.configuration != group.coreConfiguration
            {
                fail(
                    "Raft goes by the applied configuration",
                    "\(replica.text): \(group.coreConfiguration.voters), applied are \(group.configuration.voters)")
            }
            progress[replica] = Progress(commit: group.commitIndex, applied: group.appliedIndex, term: group.term)
            configurations[replica] = group.configuration
            if group.role == .leader { observeLeader(node, group) }
        }
    }

    private func observeLeader(_ node: Node, _ group: GroupObservation) {
        let place = Place(group: group.id, number: group.term.rawValue)
        if let other = leaders[place] {
            if other != node.id {
                fail("one leader per term", "group \(group.id), term \(group.term): nodes \(other) and \(node.id)")
            }
            return
        }
        leaders[place] = node.id
        leaderCount += 1
        world.trace(group.term.rawValue << 8 | node.id.rawValue, "leads")
        guard let highest = highestApplied[group.id], highest > group.appliedIndex,
            let entry = applied[Place(group: group.id, number: highest.rawValue)], entry.term < group.term
        else { return }
        if node.observedTerm(of: highest, in: group.id) != entry.term {
            fail(
                "leader completeness",
                "group \(group.id): node \(node.id) leads term \(group.term) without entry \(highest) of term "
                    + "\(entry.term), which node \(entry.node) has applied")
        }
    }

    // MARK: - NodeObserver

    func applied(_ entry: AppliedObservation) {
        let place = Place(group: entry.group, number: entry.entry.index.rawValue)
        world.trace(entry.digest, "applied")
        if let known = applied[place] {
            if known.digest != entry.digest {
                fail(
                    "log matching",
                    "group \(entry.group), index \(entry.entry.index): node \(entry.node) applied term "
                        + "\(entry.entry.term), node \(known.node) term \(known.term), and what they have applied up to "
                        + "there differs")
            }
        } else {
            entryCount += 1
            applied[place] = AppliedEntry(digest: entry.digest, term: entry.entry.term, node: entry.node)
            highestApplied[entry.group] = max(highestApplied[entry.group] ?? 0, entry.entry.index)
            checkDurable(entry)
        }
        guard let machine = entry.machine else { return }
        for effect in entry.effects { observe(effect, machine, entry) }
    }

    /// The first time that an entry is applied anywhere, a majority has to have it on disk.
    private func checkDurable(_ entry: AppliedObservation) {
        let group = entry.group
        // A configuration that is newer or older than that of the applying node may have committed it.
        let others = configurations.filter { $0.key.group == group }.map(\.value)
        let holds = ([entry.configuration] + others).contains { configuration in
            isDurable(entry.entry, group, on: configuration.voters)
                && (configuration.votersOutgoing.isEmpty
                    || isDurable(entry.entry, group, on: configuration.votersOutgoing))
        }
        if !holds {
            fail(
                "durable on a majority",
                "group \(group), index \(entry.entry.index): applied by node \(entry.node) before a majority of "
                    + "\(entry.configuration.voters) had it on disk; on disk: \(durableText(group))")
        }
    }

    private func durableText(_ group: GroupID) -> String {
        durable.filter { $0.key.group == group }.sorted { $0.key.node < $1.key.node }
            .map { "node \($0.key.node) up to \($0.value.index) of term \($0.value.term)" }.joined(separator: ", ")
    }

    private func isDurable(_ entry: Entry, _ group: GroupID, on voters: [NodeID]) -> Bool {
        let count = voters.count { voter in
            guard let known = durable[Replica(group: group, node: voter)] else { return false }
            return known.index >= entry.index && known.term >= entry.term
        }
        return count > voters.count / 2
    }

    private func observe(_ effect: Effect, _ machine: WorkflowMachine, _ entry: AppliedObservation) {
        switch effect {
        case .checkpointRecorded(let run, let position): observeRecord(machine, run, position)
        case .timerFired(let run, let position): observeRecord(machine, run, position)
        case .ended(let run):
            guard let index = machine.run(run)?.endedIndex else { return }
            if let known = endings.updateValue(index, forKey: run), known != index {
                fail("a workflow ends once", "run \(run) ended at index \(known) and at index \(index)")
            }
        default: break
        }
    }

    private func observeRecord(_ machine: WorkflowMachine, _ id: RunID, _ position: UInt32) {
        guard let run = machine.run(id), let record = run.record(at: position) else { return }
        if record.kind != .timer, record.epoch != run.epoch {
            fail(
                "only the owner records",
                "run \(id), position \(position): recorded under epoch \(record.epoch) in epoch \(run.epoch)")
        }
        let seen = Record(value: record.value?.data, failure: record.failure, index: record.index)
        let key = RecordKey(run: id, position: position)
        if let known = records[key] {
            if known != seen {
                fail(
                    "a recorded result never changes",
                    "run \(id), position \(position): recorded at index \(known.index), and again at \(record.index)")
            }
        } else {
            records[key] = seen
        }
    }

    func durable(node: NodeID, group: GroupID, index: LogIndex, term: Term) {
        durable[Replica(group: group, node: node)] = (index, term)
    }

    func installed(node: NodeID, group: GroupID, index: LogIndex, digest: UInt64) {
        installedSnapshotCount += 1
        guard let known = applied[Place(group: group, number: index.rawValue)] else { return }
        if known.digest != digest {
            fail("log matching", "group \(group), index \(index): the snapshot on node \(node) is of another history")
        }
    }

    // MARK: - Now and then

    /// Nodes that have applied the same have to be in the same state, byte for byte.
    func compareStates(_ nodes: [Node]) {
        guard let groups = nodes.first?.observedGroups.map(\.id) else { return }
        for group in groups {
            var seen: [LogIndex: (node: NodeID, state: [UInt8])] = [:]
            for node in nodes {
                guard let applied = node.observedGroups.first(where: { $0.id == group })?.appliedIndex else { continue }
                guard let other = seen[applied] else {
                    seen[applied] = (node.id, node.observedState(of: group))
                    continue
                }
                if other.state != node.observedState(of: group) {
                    fail(
                        "equal state at equal index",
                        "group \(group), index \(applied): nodes \(other.node) and \(node.id) differ")
                }
            }
        }
    }

    /// The result of a step that was recorded at any time, on any node.
    func compareRecords(with machine: WorkflowMachine) {
        for (key, record) in records.sorted(by: { ($0.key.run, $0.key.position) < ($1.key.run, $1.key.position) }) {
            guard let run = machine.run(key.run) else {
                fail("nothing acknowledged is lost", "run \(key.run) is gone")
                return
            }
            guard let kept = run.record(at: key.position),
                record == Record(value: kept.value?.data, failure: kept.failure, index: kept.index)
            else {
                fail(
                    "a recorded result never changes", "run \(key.run), position \(key.position) is another at the end")
                return
            }
        }
    }
}

extension InvariantChecker.Replica {
    fileprivate var text: String { "group \(group) of node \(node)" }
}
