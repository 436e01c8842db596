import Prelude
import Raft
import Storage
import Workflow

/// A group with all of its log applied.
struct AppliedLog {
    let group: GroupID
    private let node: NodeID
    let machine: any ReplicatedMachine
    var digest: UInt64 = 0
    var last = LogPoint()
    var hardState = HardState()
    var configuration = ConfState()

    init(group: GroupID, node: NodeID, machine: any ReplicatedMachine) {
        self.group = group
        self.node = node
        self.machine = machine
    }

    mutating func take(_ snapshot: Snapshot?) throws(NodeError) {
        guard let snapshot else { return }
        do throws(MalformedBytes) {
            let content = try GroupSnapshot(decoding: snapshot.data)
            try machine.restore(content.machine)
            digest = content.digest
        } catch {
            throw .cannotRestore(group: group, reason: "the snapshot: expected \(error.expected)")
        }
        last = LogPoint(index: snapshot.metadata.index, term: snapshot.metadata.term)
        configuration = snapshot.metadata.confState
    }

    mutating func take(_ stored: StoredState) throws(NodeError) {
        do throws(ImpossibleContent) { try machine.restore(stored) } catch {
            throw .cannotRestore(group: group, reason: "the state store: \(error)")
        }
        digest = stored.head.digest
        let metadata = stored.head.metadata
        last = LogPoint(index: metadata.index, term: metadata.term)
        configuration = metadata.confState
    }

    /// As when the node ran, but that all entries count.
    mutating func apply(_ log: RecoveredGroup, _ limits: RaftLimits) throws(NodeError) {
        hardState = log.hardState
        guard log.start.index <= last.index else {
            throw .cannotRestore(
                group: group, reason: "the log begins after \(log.start.index), the newest snapshot is at \(last.index)"
            )
        }
        // A snapshot that came from elsewhere takes the place of entries that do not lead to it.
        let snapshot = last
        let atSnapshot = log.entries.first { $0.index == snapshot.index }?.term
        guard log.start == snapshot || atSnapshot == snapshot.term else { return }
        let core = try core(limits)
        for entry in log.entries where entry.index > snapshot.index {
            apply(entry)
            if entry.kind != .normal, let change = try? ConfChange(decoding: entry.data) {
                configuration = core.applyConfChange(change)
            }
            last = LogPoint(index: entry.index, term: entry.term)
            digest = AppliedDigest.extend(digest, with: entry)
        }
    }

    /// Knows what changes make of a configuration.
    private func core(_ limits: RaftLimits) throws(NodeError) -> RawNode {
        let storage = MemoryStorage()
        let metadata = SnapshotMetadata(index: last.index, term: last.term, confState: configuration)
        do {
            if last.index > 0 { try storage.applySnapshot(Snapshot(metadata: metadata, data: [])) }
            let configuration = RaftConfiguration(
                id: node, applied: last.index, limits: limits, random: SeededRandom(seed: 0))
            return try RawNode(configuration, storage: storage)
        } catch {
            throw .cannotRestore(group: group, reason: "\(error)")
        }
    }

    private mutating func apply(_ entry: Entry) {
        guard entry.kind == .normal, !entry.data.isEmpty, let envelope = try? ProposalEnvelope(decoding: entry.data)
        else { return }
        let place = AppliedEntry(
            group: group, index: entry.index, timeMilliseconds: envelope.timeMilliseconds, origin: envelope.origin)
        _ = machine.apply(envelope.payload, place)
    }
}

func onStorage<Value>(_ body: () throws(StorageError) -> Value) throws(NodeError) -> Value {
    do { return try body() } catch { throw .storage(error) }
}
