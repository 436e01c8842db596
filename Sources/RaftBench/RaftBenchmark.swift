import Glibc
import Prelude
import Raft

/// Proposals to commitment over three cores in one process: no network, no disk, no timers; every message is handed over
/// at once. What remains is what the core itself costs.
///
/// `raft-bench [SECONDS [BATCH…]]` prints committed and applied entries per second of one core, for several batch
/// sizes: each batch is one proposal that goes the whole way before the next. `raft-bench --proposals N BATCH` makes N
/// proposals and prints nothing, for `scripts/bench-raft.sh` to count instructions and allocations.
@main
struct RaftBenchmark {
    static func main() throws {
        let arguments = CommandLine.arguments.dropFirst()
        if arguments.first == "--proposals" {
            let numbers = arguments.dropFirst().compactMap { Int($0) }
            guard numbers.count == 2, numbers.allSatisfy({ $0 > 0 }) else {
                print("usage: raft-bench [SECONDS [BATCH…]] | raft-bench --proposals N BATCH")
                exit(2)
            }
            let bench = try BenchCluster(nodeCount: 3)
            try bench.elect()
            try bench.run(batchCount: numbers[1], proposalCount: numbers[0])
            return
        }
        let seconds = arguments.first.flatMap(Double.init) ?? 2
        print("entries of 256 bytes, 3 nodes, asynchronous storage writes")
        let named = arguments.dropFirst().compactMap { Int($0) }.filter { $0 > 0 }
        for batchCount in named.isEmpty ? [1, 8, 64, 256] : named {
            let bench = try BenchCluster(nodeCount: 3)
            try bench.elect()
            try bench.run(batchCount: batchCount, seconds: seconds / 4)
            let before = bench.appliedCount
            let start = now()
            try bench.run(batchCount: batchCount, seconds: seconds)
            let elapsed = now() - start
            let rate = Double(bench.appliedCount - before) / elapsed
            print("batch \(batchCount): \(Int(rate)) entries/s, \(Int(1e9 / rate)) ns each")
        }
    }
}

/// Seconds of processor time, so that what else runs on the machine does not count.
func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

final class BenchCluster {
    private let nodes: [RawNode]
    // The same: counting references to them at every call would be measured too.
    private let unowned: [Unmanaged<RawNode>]
    private let storages: [MemoryStorage]
    private var ready = Ready()
    private(set) var appliedCount = 0

    init(nodeCount: UInt64) throws {
        let ids = (1...nodeCount).map { NodeID($0) }
        var nodes: [RawNode] = []
        var storages: [MemoryStorage] = []
        for id in ids {
            let storage = MemoryStorage()
            try storage.applySnapshot(
                Snapshot(metadata: SnapshotMetadata(index: 1, term: 1, confState: ConfState(voters: ids))))
            var configuration = RaftConfiguration(id: id, random: SeededRandom(seed: id.rawValue))
            configuration.asyncStorageWrites = true
            configuration.applied = 1
            configuration.messageByteCountMax = 1 << 20
            configuration.committedByteCountPerReadyMax = 4 << 20
            configuration.uncommittedByteCountMax = 64 << 20
            configuration.inflightMessageCountMax = 256
            configuration.inflightByteCountMax = 64 << 20
            configuration.checkQuorum = true
            configuration.preVote = true
            nodes.append(try RawNode(configuration, storage: storage))
            storages.append(storage)
        }
        self.nodes = nodes
        unowned = nodes.map(Unmanaged.passUnretained)
        self.storages = storages
    }

    func elect() throws {
        try nodes[0].campaign()
        try settle()
    }

    func run(batchCount: Int, seconds: Double) throws {
        let end = now() + seconds
        while now() < end { try run(batchCount: batchCount, proposalCount: 64) }
    }

    func run(batchCount: Int, proposalCount: Int) throws {
        for count in 1...proposalCount {
            // A fresh buffer each, as a decoded request would be.
            let batch = (0..<batchCount).map { _ in [UInt8](repeating: 7, count: 256) }
            try nodes[0].propose(batch)
            try settle()
            if count % 64 == 0 { try compact() }
        }
    }

    private func settle() throws {
        var ready = Ready()
        swap(&ready, &self.ready)
        defer { self.ready = ready }
        var isBusy = true
        while isBusy {
            isBusy = false
            for place in unowned.indices {
                let isReady = unowned[place]._withUnsafeGuaranteedRef { node in
                    if !node.hasReady { return false }
                    node.takeReady(into: &ready)
                    return true
                }
                if isReady {
                    isBusy = true
                    try handle(&ready.messages, of: place)
                }
            }
        }
    }

    // Messages are moved out of their arrays: copying them would be a good part of what is measured.
    private func handle(_ messages: inout [Message], of place: Int) throws {
        var message = Message(kind: .hup)
        for number in messages.indices {
            swap(&message, &messages[number])
            switch message.to {
            case .localAppendThread:
                storages[place].store(message)
                var responses = message.takeResponses()
                for number in responses.indices {
                    swap(&message, &responses[number])
                    try deliver(message, from: place)
                }
            case .localApplyThread:
                if place == 0 { appliedCount += message.entries.count }
                try unowned[place]._withUnsafeGuaranteedRef { try $0.stepApplied(message) }
            default:
                try deliver(message, from: place)
            }
        }
    }

    private func deliver(_ message: Message, from place: Int) throws {
        let receiver = Int(message.to.rawValue) - 1
        try unowned[receiver]._withUnsafeGuaranteedRef { node in
            if receiver == place { try node.step(message) } else { try node.stepFromPeer(message) }
        }
    }

    /// Keeps the memory of a long run small.
    private func compact() throws {
        for (node, storage) in zip(nodes, storages)
        where node.appliedIndex.rawValue > storage.firstIndex.rawValue + 20_000 {
            try storage.compact(to: node.appliedIndex - 1_000)
        }
    }
}

extension MemoryStorage {
    fileprivate func store(_ message: Message) {
        if !message.hardState.isEmpty { setHardState(message.hardState) }
        append(message.entries)
    }
}
