import Prelude

@_spi(Planted) @testable import Raft

/// Raw nodes 1, 2, … over memory storage, for tests that say what happens step by step. All logs begin behind a
/// snapshot at index 2, term 1.
final class SmallCluster {
    private(set) var nodes: [RawNode] = []
    private(set) var storages: [MemoryStorage] = []
    /// Entries with data, in the order of their application.
    private(set) var applied: [[Entry]] = []
    private(set) var reads: [[ReadState]] = []
    /// Sent and not yet delivered.
    var network: [Message] = []
    /// Everything that was ever sent.
    private(set) var sent: [Message] = []
    private let configure: (inout RaftConfiguration) -> Void

    static func configuration(_ id: NodeID) -> RaftConfiguration {
        RaftConfiguration(id: id, electionTicks: 5, heartbeatTicks: 1, random: SeededRandom(seed: id.rawValue))
    }

    init(
        _ count: Int, learners: [NodeID] = [], logs: [NodeID: [(Term, Int)]] = [:],
        configure: @escaping (inout RaftConfiguration) -> Void = { _ in }
    ) throws {
        self.configure = configure
        let ids = (1...UInt64(count)).map { NodeID($0) }
        let state = ConfState(voters: ids.filter { !learners.contains($0) }, learners: learners)
        for id in ids {
            let storage = MemoryStorage()
            try storage.applySnapshot(Snapshot(metadata: SnapshotMetadata(index: 2, term: 1, confState: state)))
            for (term, number) in logs[id] ?? [] {
                for _ in 0..<number {
                    let index = storage.lastIndex + 1
                    storage.append([Entry(term: term, index: index, data: [UInt8(index.rawValue)])])
                }
            }
            if let term = logs[id]?.last?.0 { storage.setHardState(HardState(term: term, commit: 2)) }
            storages.append(storage)
            applied.append([])
            reads.append([])
            nodes.append(try start(id, storage))
        }
    }

    private func start(_ id: NodeID, _ storage: MemoryStorage) throws -> RawNode {
        var configuration = SmallCluster.configuration(id)
        configuration.applied = 2
        configure(&configuration)
        return try RawNode(configuration, storage: storage)
    }

    /// Loses everything that is not in the storage, which may be another one.
    func restart(_ id: NodeID, with storage: MemoryStorage? = nil) throws {
        let place = Int(id.rawValue) - 1
        if let storage { storages[place] = storage }
        applied[place] = []
        nodes[place] = try start(id, storages[place])
    }

    subscript(id: NodeID) -> RawNode { nodes[Int(id.rawValue) - 1] }

    func log(_ id: NodeID) throws -> [Term] {
        let storage = storages[Int(id.rawValue) - 1]
        return try storage.entries(from: 3, to: storage.lastIndex + 1, byteCountMax: .max).map(\.term)
    }

    /// Lets the node do all that it has to do; what it sends waits in `network`.
    func work(_ id: NodeID) throws {
        let place = Int(id.rawValue) - 1
        while nodes[place].hasReady {
            let ready = nodes[place].ready()
            reads[place] += ready.readStates
            if nodes[place].core.configuration.asyncStorageWrites {
                for message in ready.messages { try route(message, at: place) }
            } else {
                try store(ready.hardState, ready.snapshot, ready.entries, at: place)
                apply(ready.committedEntries, at: place)
                for message in ready.messages { try route(message, at: place) }
                nodes[place].advance()
            }
        }
    }

    private func route(_ message: Message, at place: Int) throws {
        switch message.kind {
        case .storageAppend:
            let hardState = message.hardState.isEmpty ? nil : message.hardState
            try store(hardState, message.snapshot, message.entries, at: place)
            for response in message.responses { try route(response, at: place) }
        case .storageApply:
            apply(message.entries, at: place)
            for response in message.responses { try route(response, at: place) }
        default:
            if message.to == nodes[place].id {
                try nodes[place].step(message)
            } else {
                network.append(message)
                sent.append(message)
            }
        }
    }

    /// Delivers what waits for these nodes, or for all, and lets them work. Refused messages are dropped.
    func deliver(to ids: NodeID..., where chosen: (Message) -> Bool = { _ in true }) throws {
        let pending = network
        network = []
        for message in pending {
            if (ids.isEmpty || ids.contains(message.to)) && chosen(message) {
                try? self[message.to].stepFromPeer(message)
            } else {
                network.append(message)
            }
        }
        for node in nodes where ids.isEmpty || ids.contains(node.id) { try work(node.id) }
    }

    /// Until nothing is left to do. Messages that `lost` names are dropped.
    func settle(lost: (Message) -> Bool = { _ in false }) throws {
        for node in nodes { try work(node.id) }
        for _ in 0..<1000 where !network.isEmpty {
            network.removeAll(where: lost)
            try deliver()
        }
    }

    /// Only the given nodes hear each other.
    func settle(among ids: NodeID...) throws {
        try settle { !ids.contains($0.to) || !ids.contains($0.from) }
    }

    func elect(_ id: NodeID) throws {
        try self[id].campaign()
        try settle()
    }

    func tick(_ id: NodeID, _ count: Int = 1) throws {
        for _ in 0..<count { self[id].tick() }
        try work(id)
    }

    private func store(_ hardState: HardState?, _ snapshot: Snapshot?, _ entries: [Entry], at place: Int) throws {
        if let snapshot { try storages[place].applySnapshot(snapshot) }
        storages[place].append(entries)
        if let hardState { storages[place].setHardState(hardState) }
    }

    private func apply(_ entries: [Entry], at place: Int) {
        for entry in entries {
            if entry.kind.isConfChange, let change = try? ConfChange(decoding: entry.data) {
                let confState = nodes[place].applyConfChange(change)
                _ = try? storages[place].createSnapshot(at: entry.index, confState: confState, data: [])
            } else if !entry.data.isEmpty {
                applied[place].append(entry)
            }
        }
    }
}
