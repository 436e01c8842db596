import Glibc
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

    /// What is known of one replica. Looked at after every turn, so it is found without a search: `NodeWatch`.
    final class ReplicaState {
        let group: GroupID
        let node: NodeID
        /// Of the present life: `nil` before it was looked at.
        fileprivate var progress: Progress?
        /// What it has said to be durable: the last index, and the term of the last entry there.
        fileprivate var durable: (index: LogIndex, term: Term)?
        /// The newest configuration that it has reported.
        fileprivate var configuration: ConfState?

        fileprivate init(_ group: GroupID, _ node: NodeID) {
            self.group = group
            self.node = node
        }

        fileprivate var text: String { "group \(group) of node \(node)" }
    }

    fileprivate struct Progress: Equatable {
        var commit: LogIndex
        var applied: LogIndex
        var term: Term
        var role: Role
    }

    /// The replicas of one node, in the order of its groups.
    final class NodeWatch {
        fileprivate var replicas: [ReplicaState] = []
    }

    /// By which configuration leaders have committed the entries above `after`, up to and with `upTo`. A leader goes by
    /// what it has applied when it counts; by the time that others apply the entry, nobody may go by that any more.
    private struct CommitSpan {
        let after: LogIndex
        var upTo: LogIndex
        let configuration: ConfState
    }

    private var leaders: [Place: NodeID] = [:]
    private var applied: [Place: AppliedEntry] = [:]
    private var highestApplied: [GroupID: LogIndex] = [:]
    private var replicas: [GroupID: [NodeID: ReplicaState]] = [:]
    private var commits: [GroupID: [CommitSpan]] = [:]
    private var records: [RecordKey: Record] = [:]
    private var endings: [RunID: LogIndex] = [:]
    /// All nodes had applied the group up to there when they were found to be in the same state, and have not been
    /// started since.
    private var compared: [GroupID: LogIndex] = [:]
    private(set) var entryCount = 0
    private(set) var installedSnapshotCount = 0
    private(set) var leaderCount = 0
    /// Told of everybody who begins to lead a group.
    var onLeader: (NodeID) -> Void = { _ in }

    init(world: SimulatedWorld) { self.world = world }

    func fail(_ invariant: String, _ detail: String) {
        guard violation == nil else { return }
        violation = Violation(invariant: invariant, detail: detail, step: world.stepCount, time: world.now)
    }

    // MARK: - Lives

    /// A node begins a new life: what it has not said to be durable may be lost.
    func lifeBegins(_ node: NodeID) {
        for group in replicas.values { group[node]?.progress = nil }
    }

    /// What `observe` needs for the node, for one life of it.
    func watch(_ node: Node) -> NodeWatch {
        // It was not among those that were compared.
        compared = [:]
        let watch = NodeWatch()
        node.observeGroups { watch.replicas.append(replica(node.id, $0.id)) }
        return watch
    }

    private func replica(_ node: NodeID, _ group: GroupID) -> ReplicaState {
        if let known = replicas[group]?[node] { return known }
        let state = ReplicaState(group, node)
        replicas[group, default: [:]][node] = state
        return state
    }

    // MARK: - Between turns

    func observe(_ node: Node, _ watch: NodeWatch) {
        var place = 0
        node.observeGroups { group in
            observe(group, of: node, watch.replicas[place])
            place += 1
        }
    }

    private func observe(_ group: GroupObservation, of node: Node, _ replica: ReplicaState) {
        let now = Progress(
            commit: group.commitIndex, applied: group.appliedIndex, term: group.term, role: group.role)
        if now == replica.progress { return }
        if let before = replica.progress { compare(before, now, replica) }
        if now.applied > now.commit {
            fail("applied is committed", "\(replica.text): \(now.applied) over \(now.commit)")
        }
        let configuration = group.configuration
        if now.applied != replica.progress?.applied, now.commit == now.applied,
            configuration != group.coreConfiguration
        {
            fail(
                "Raft goes by the applied configuration",
                "\(replica.text): \(group.coreConfiguration.voters), applied are \(configuration.voters)")
        }
        if now.role == .leader || replica.progress?.role == .leader {
            let before = replica.progress?.commit ?? 0
            if now.commit > before {
                // The turn may have applied a change of the configuration before or after it counted.
                if let old = replica.configuration { noteCommit(group.id, after: before, upTo: now.commit, by: old) }
                if configuration != replica.configuration {
                    noteCommit(group.id, after: before, upTo: now.commit, by: configuration)
                }
            }
        }
        if let before = replica.progress { checkCommitted(before, now, node, replica) }
        replica.progress = now
        replica.configuration = configuration
        if now.role == .leader { observeLeader(node, group) }
    }

    private func compare(_ before: Progress, _ now: Progress, _ replica: ReplicaState) {
        if now.commit < before.commit {
            fail("commit never moves back", "\(replica.text): from \(before.commit) to \(now.commit)")
        }
        if now.applied < before.applied {
            fail("applied never moves back", "\(replica.text): from \(before.applied) to \(now.applied)")
        }
        if now.term < before.term {
            fail("the term never moves back", "\(replica.text): from \(before.term) to \(now.term)")
        }
    }

    /// A leader counts only for entries of its own term; what is before them is committed with them (section 5.4.2 of
    /// the Raft paper).
    private func checkCommitted(_ before: Progress, _ now: Progress, _ node: Node, _ replica: ReplicaState) {
        guard now.commit > before.commit, now.role == .leader, before.role == .leader, now.term == before.term,
            let term = node.observedTerm(of: now.commit, in: replica.group), term != now.term
        else { return }
        fail(
            "leaders commit by entries of their own term",
            "\(replica.text), leader of term \(now.term): commit moved from \(before.commit) to \(now.commit), an entry of "
                + "term \(term)")
    }

    private func noteCommit(_ group: GroupID, after: LogIndex, upTo: LogIndex, by configuration: ConfState) {
        var spans = commits[group] ?? []
        if let last = spans.last, last.configuration == configuration, after <= last.upTo {
            spans[spans.count - 1].upTo = max(last.upTo, upTo)
        } else {
            spans.append(CommitSpan(after: after, upTo: upTo, configuration: configuration))
        }
        commits[group] = spans
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
        onLeader(node.id)
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

    /// The first time that an entry is applied anywhere, a majority has to have it on disk: of the voters by whom a
    /// leader committed it, or, in the leader's own turn, by whom it may have.
    private func checkDurable(_ entry: AppliedObservation) {
        let group = entry.group
        if isDurable(entry.entry, group, in: entry.configuration) { return }
        let index = entry.entry.index
        let spans = commits[group, default: []].filter { $0.after < index && index <= $0.upTo }
        if spans.contains(where: { isDurable(entry.entry, group, in: $0.configuration) }) { return }
        let reported = replicas[group, default: [:]].values.compactMap(\.configuration)
        if reported.contains(where: { isDurable(entry.entry, group, in: $0) }) { return }
        fail(
            "durable on a majority",
            "group \(group), index \(index): applied by node \(entry.node) before a majority of "
                + "\(entry.configuration.voters) had it on disk; on disk: \(durableText(group))")
    }

    private func durableText(_ group: GroupID) -> String {
        replicas[group, default: [:]].values.sorted { $0.node < $1.node }.compactMap { replica in
            replica.durable.map { "node \(replica.node) up to \($0.index) of term \($0.term)" }
        }.joined(separator: ", ")
    }

    private func isDurable(_ entry: Entry, _ group: GroupID, in configuration: ConfState) -> Bool {
        isDurable(entry, group, on: configuration.voters)
            && (configuration.votersOutgoing.isEmpty || isDurable(entry, group, on: configuration.votersOutgoing))
    }

    private func isDurable(_ entry: Entry, _ group: GroupID, on voters: [NodeID]) -> Bool {
        guard let known = replicas[group] else { return false }
        let count = voters.count { voter in
            guard let durable = known[voter]?.durable else { return false }
            return durable.index >= entry.index && durable.term >= entry.term
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
        replica(node, group).durable = (index, term)
    }

    func installed(node: NodeID, group: GroupID, index: LogIndex, digest: UInt64) {
        installedSnapshotCount += 1
        guard let known = applied[Place(group: group, number: index.rawValue)] else { return }
        if known.digest != digest {
            fail("log matching", "group \(group), index \(index): the snapshot on node \(node) is of another history")
        }
    }

    // MARK: - Now and then

    /// Nodes that have applied the same have to be in the same state; with `bytes` also in the bytes of their snapshots,
    /// and in runs that had ended when they were compared before.
    func compareStates(_ nodes: [Node], bytes: Bool = false) {
        guard let groups = nodes.first?.observedGroups.map(\.id) else { return }
        for group in groups {
            let known = bytes ? 0 : compared[group] ?? 0
            var seen: [LogIndex: Node] = [:]
            for node in nodes {
                guard let applied = node.observedGroups.first(where: { $0.id == group })?.appliedIndex else { continue }
                guard let other = seen[applied] else {
                    seen[applied] = node
                    continue
                }
                if !node.hasSameState(as: other, in: group, compared: known)
                    || bytes && !isEqual(node.observedState(of: group), other.observedState(of: group))
                {
                    fail(
                        "equal state at equal index",
                        "group \(group), index \(applied): nodes \(other.id) and \(node.id) differ")
                }
            }
            if seen.count == 1, let index = seen.keys.first { compared[group] = index }
        }
    }

    /// At once, where `==` would compare one byte after the other.
    private func isEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        let byteCount = left.count
        return byteCount == right.count
            && left.withUnsafeBytes { left in
                right.withUnsafeBytes { right in
                    guard let left = left.baseAddress, let right = right.baseAddress else { return true }
                    return memcmp(left, right, byteCount) == 0
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
