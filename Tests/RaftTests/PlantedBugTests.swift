import Prelude
import XCTest

@_spi(Planted) @testable import Raft

/// The checks of `RandomCluster` are worth something only if they find mistakes: each planted one is found. That of
/// committing entries of older terms by count takes a course of events too rare for chance: see `LogReplicationTests`,
/// Figure 8.
final class PlantedBugTests: XCTestCase {
    /// The first seed whose run finds the bug.
    private func hunt(
        _ bug: PlantedBugs, seeds: Range<UInt64> = 0..<400, steps: Int = 6000, voters: Int = 3, spare: Int = 0,
        faults: RandomCluster.Faults = RandomCluster.Faults()
    ) -> UInt64? {
        seeds.first { seed in
            do {
                let cluster = try RandomCluster(seed: seed, voters: voters, spare: spare, faults: faults) {
                    $0.asyncStorageWrites = true
                    $0.plantedBugs = bug
                }
                for _ in 0..<steps { try cluster.step() }
                try cluster.checkLogsMatch()
                try cluster.heal()
                return false
            } catch {
                return true
            }
        }
    }

    private var rough: RandomCluster.Faults {
        var faults = RandomCluster.Faults()
        faults.crashPerMille = 15
        faults.lossPercent = 15
        return faults
    }

    func testForgottenVoteIsFound() {
        XCTAssertNotNil(hunt(.forgetsVoteOnRestart, faults: rough))
    }

    func testKeptProgressIsFound() {
        XCTAssertNotNil(hunt(.keepsProgressOnLeadership, seeds: 100..<400))
    }

    func testReadWithoutQuorumIsFound() {
        XCTAssertNotNil(hunt(.readsWithoutQuorum))
    }

    func testVoteForStaleLogIsFound() {
        XCTAssertNotNil(hunt(.votesForStaleLogs))
    }

    func testAppendOfOldLeaderIsFound() {
        XCTAssertNotNil(hunt(.ignoresTermOnAppend, seeds: 100..<400))
    }

    func testEarlyAcknowledgementIsFound() {
        XCTAssertNotNil(hunt(.acknowledgesBeforeDurable, faults: rough))
    }

    func testSnapshotWithoutConfigurationIsFound() {
        var faults = rough
        faults.changesMembership = true
        XCTAssertNotNil(hunt(.snapshotSkipsConfiguration, spare: 2, faults: faults))
    }
}
