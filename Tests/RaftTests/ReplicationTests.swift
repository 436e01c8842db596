import Prelude
import XCTest

@testable import Raft

/// Raw nodes over memory storage whose messages are delivered at once, in order.
final class SmallCluster {
    var nodes: [RawNode] = []
    var storages: [MemoryStorage] = []
    var applied: [[Entry]] = []

    init(
        _ count: Int, async: Bool = false, learners: [NodeID] = [],
        configure: (inout RaftConfiguration) -> Void = { _ in }
    ) throws {
        let ids = (1...count).map { NodeID(UInt64($0)) }
        for id in ids {
            let storage = MemoryStorage()
            let state = ConfState(voters: ids.filter { !learners.contains($0) }, learners: learners)
            try storage.applySnapshot(Snapshot(metadata: SnapshotMetadata(index: 2, term: 1, confState: state)))
            var configuration = RaftConfiguration(id: id, electionTicks: 3, random: SeededRandom(seed: id.rawValue))
            configuration.applied = 2
            configuration.asyncStorageWrites = async
            configure(&configuration)
            nodes.append(try RawNode(configuration, storage: storage))
            storages.append(storage)
            applied.append([])
        }
    }

    subscript(id: NodeID) -> RawNode { nodes[Int(id.rawValue) - 1] }

    /// Until nothing is left to do. `lost` drops messages between nodes.
    func settle(lost: (Message) -> Bool = { _ in false }) throws {
        while nodes.contains(where: \.hasReady) {
            for place in nodes.indices where nodes[place].hasReady {
                try handle(nodes[place].ready(), at: place, lost)
            }
        }
    }

    private func handle(_ ready: Ready, at place: Int, _ lost: (Message) -> Bool) throws {
        let isAsync = ready.messages.contains { $0.to.isLocalThread }
        if !isAsync {
            try store(ready.hardState, ready.snapshot, ready.entries, at: place)
            apply(ready.committedEntries, at: place)
        }
        for message in ready.messages { try deliver(message, at: place, lost) }
        if !isAsync && !usesAsyncWrites { nodes[place].advance() }
    }

    var usesAsyncWrites = false

    private func deliver(_ message: Message, at place: Int, _ lost: (Message) -> Bool) throws {
        switch message.kind {
        case .storageAppend:
            try store(message.hardState.isEmpty ? nil : message.hardState, message.snapshot, message.entries, at: place)
            for response in message.responses { try deliver(response, at: place, lost) }
        case .storageApply:
            apply(message.entries, at: place)
            for response in message.responses { try deliver(response, at: place, lost) }
        default:
            if message.from.isLocalThread || message.from == message.to || !lost(message) {
                try self[message.to].step(message)
            }
        }
    }

    private func store(_ hardState: HardState?, _ snapshot: Snapshot?, _ entries: [Entry], at place: Int) throws {
        if let hardState { storages[place].setHardState(hardState) }
        if let snapshot { try storages[place].applySnapshot(snapshot) }
        storages[place].append(entries)
    }

    private func apply(_ entries: [Entry], at place: Int) {
        for entry in entries where entry.kind.isConfChange {
            if let change = try? ConfChange(decoding: entry.data) { _ = nodes[place].applyConfChange(change) }
        }
        applied[place] += entries
    }
}

final class ReplicationTests: XCTestCase {
    func testElectsAndReplicates() throws {
        for async in [false, true] {
            let cluster = try SmallCluster(3, async: async)
            cluster.usesAsyncWrites = async
            try cluster[1].campaign()
            try cluster.settle()
            XCTAssertEqual(cluster.nodes.map(\.role), [.leader, .follower, .follower])
            XCTAssertEqual(cluster.nodes.map(\.leader), [1, 1, 1])
            try cluster[1].propose([[1], [2], [3]])
            try cluster[2].propose([4])
            try cluster.settle()
            for applied in cluster.applied { XCTAssertEqual(applied.map(\.data), [[], [1], [2], [3], [4]]) }
            XCTAssertEqual(cluster.nodes.map(\.commitIndex), [7, 7, 7])
            XCTAssertEqual(cluster.nodes.map(\.appliedIndex), [7, 7, 7])
        }
    }
}
