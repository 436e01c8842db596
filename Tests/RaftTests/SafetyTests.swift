import Prelude
import XCTest

@testable import Raft

/// Many random runs of whole clusters. A failure names its seed; set RAFT_SEED to run that one alone, or
/// RAFT_SEED_FACTOR to run so many times as many.
final class SafetyTests: XCTestCase {
    private func run(
        seeds: Range<UInt64>, steps: Int, voters: Int, spare: Int = 0, faults: RandomCluster.Faults = .init(),
        configure: @escaping (inout RaftConfiguration) -> Void = { _ in }
    ) {
        let environment = ProcessInfo.processInfo.environment
        let factor = environment["RAFT_SEED_FACTOR"].flatMap(UInt64.init) ?? 1
        let several = seeds.lowerBound..<seeds.lowerBound + UInt64(seeds.count) * max(1, factor)
        for seed in environment["RAFT_SEED"].flatMap(UInt64.init).map({ $0..<$0 + 1 }) ?? several {
            do {
                let cluster = try RandomCluster(
                    seed: seed, voters: voters, spare: spare, faults: faults, configure: configure)
                for _ in 0..<4 {
                    for _ in 0..<steps / 4 { try cluster.step() }
                    try cluster.checkLogsMatch()
                    try cluster.heal()
                }
                XCTAssertGreaterThan(cluster.highestCommitted, 5, "seed \(seed)")
            } catch {
                XCTFail("seed \(seed): \(error)")
            }
        }
    }

    func testThreeNodes() {
        run(seeds: 1..<30, steps: 8000, voters: 3) { $0.asyncStorageWrites = false }
    }

    func testFiveNodesWithAsynchronousStorageWrites() {
        run(seeds: 100..<125, steps: 10_000, voters: 5) { $0.asyncStorageWrites = true }
    }

    func testPreVoteAndCheckQuorum() {
        run(seeds: 200..<225, steps: 8000, voters: 3) {
            $0.asyncStorageWrites = true
            $0.preVote = true
            $0.checkQuorum = true
        }
    }

    func testTightLimits() {
        run(seeds: 300..<325, steps: 8000, voters: 3) {
            $0.asyncStorageWrites = true
            $0.messageByteCountMax = 40
            $0.committedByteCountPerReadyMax = 50
            $0.uncommittedByteCountMax = 200
            $0.inflightMessageCountMax = 2
            $0.inflightByteCountMax = 64
        }
    }

    func testLostMessages() {
        var faults = RandomCluster.Faults()
        faults.lossPercent = 40
        run(seeds: 400..<420, steps: 8000, voters: 5, faults: faults) { $0.checkQuorum = true }
    }

    func testMembershipChanges() {
        var faults = RandomCluster.Faults()
        faults.changesMembership = true
        for async in [false, true] {
            run(seeds: 500..<530, steps: 8000, voters: 3, spare: 3, faults: faults) {
                $0.asyncStorageWrites = async
                $0.stepDownOnRemoval = true
                $0.preVote = async
                $0.checkQuorum = async
            }
        }
    }
}
