import Prelude
import Raft

/// Memory storage that gives the newest of the node's snapshots.
final class TraceStorage: RaftStorage {
    let memory = MemoryStorage()
    /// The state machine, which appends the data of its entries, as of each entry.
    var history: [Snapshot]

    init(history: Snapshot) { self.history = [history] }

    func initialState() -> (HardState, ConfState) { memory.initialState() }
    func entries(from: LogIndex, to: LogIndex, byteCountMax: UInt64) throws(RaftStorageError) -> [Entry] {
        try memory.entries(from: from, to: to, byteCountMax: byteCountMax)
    }
    func term(at index: LogIndex) throws(RaftStorageError) -> Term { try memory.term(at: index) }
    var lastIndex: LogIndex { memory.lastIndex }
    var firstIndex: LogIndex { memory.firstIndex }
    func snapshot() throws(RaftStorageError) -> Snapshot { history[history.count - 1] }
}

/// A node of an interaction trace.
final class TraceNode {
    let raw: RawNode
    let storage: TraceStorage
    let configuration: RaftConfiguration
    /// Queued storage messages.
    var appendWork: [Message] = []
    var applyWork: [Message] = []

    init(_ configuration: RaftConfiguration, storage: TraceStorage, output: TraceOutput) throws {
        self.configuration = configuration
        self.storage = storage
        raw = try RawNode(configuration, storage: storage) { event in
            if let (level, text) = event.line(of: configuration.id) { output.log(level, text) }
        }
    }

    func append(_ hardState: HardState?, _ entries: [Entry], _ snapshot: Snapshot?) throws {
        if let hardState, !hardState.isEmpty { storage.memory.setHardState(hardState) }
        if let snapshot {
            if !entries.isEmpty { throw TraceError("can't apply snapshot and entries at the same time") }
            try storage.memory.applySnapshot(snapshot)
        } else {
            storage.memory.append(entries)
        }
    }

    func apply(_ entries: [Entry]) throws {
        for entry in entries {
            var next = storage.history[storage.history.count - 1]
            switch entry.kind {
            case .normal:
                next.data += entry.data
            case .confChange, .confChangeV2:
                let change = try ConfChange(decoding: entry.data)
                next.data += change.context
                next.metadata.confState = raw.applyConfChange(change)
            }
            next.metadata.index = entry.index
            next.metadata.term = entry.term
            storage.history.append(next)
        }
    }
}
