import Prelude
import XCTest

@_spi(Planted) @testable import Raft

/// Named by the section of the Raft paper, or of the dissertation, that they hold the core to.
final class ElectionTests: XCTestCase {
    func test_raft_5_1_higherTermMakesFollower() throws {
        for role in [Role.leader, .candidate, .follower] {
            let cluster = try SmallCluster(3)
            if role == .leader { try cluster.elect(1) }
            if role == .candidate {
                try cluster[1].campaign()
                try cluster.work(1)
            }
            XCTAssertEqual(cluster[1].role, role)
            try cluster[1].step(Message(kind: .heartbeat, to: 1, from: 3, term: 9))
            XCTAssertEqual(cluster[1].role, .follower)
            XCTAssertEqual(cluster[1].term, 9)
            XCTAssertEqual(cluster[1].leader, 3)
        }
    }

    func test_raft_5_1_lowerTermIsIgnored() throws {
        let cluster = try SmallCluster(3, logs: [1: [(5, 1)]])
        try cluster[1].step(Message(kind: .append, to: 1, from: 3, term: 4, logTerm: 5, index: 3, commit: 3))
        XCTAssertEqual(cluster[1].leader, .none)
        XCTAssertEqual(cluster[1].commitIndex, 2)
        try cluster[1].step(Message(kind: .vote, to: 1, from: 3, term: 4, logTerm: 9, index: 99))
        XCTAssertFalse(cluster[1].hasReady)
    }

    func test_raft_5_2_timeoutIsDrawnBetweenOneAndTwoElectionTicks() throws {
        var seen = Set<Int>()
        for seed in 0..<200 as Range<UInt64> {
            let cluster = try SmallCluster(3) { $0.random = SeededRandom(seed: seed) }
            var ticks = 0
            while cluster[1].role == .follower {
                cluster[1].tick()
                ticks += 1
            }
            seen.insert(ticks)
        }
        XCTAssertEqual(seen, Set(5..<10))
    }

    func test_raft_5_2_sameSeedSameTimeout() throws {
        let timeouts = try (0..<2).map { _ in
            try SmallCluster(3) { $0.random = SeededRandom(seed: 7) }[1].core.randomizedElectionTicks
        }
        XCTAssertEqual(timeouts[0], timeouts[1])
    }

    func test_raft_5_2_ownVoteCountsWhenItIsDurable() throws {
        for async in [false, true] {
            let cluster = try SmallCluster(1) { $0.asyncStorageWrites = async }
            try cluster[1].campaign()
            XCTAssertEqual(cluster[1].role, .candidate)
            let ready = cluster[1].ready()
            XCTAssertEqual(ready.hardState?.vote, 1)
            XCTAssertTrue(ready.mustSync)
            XCTAssertEqual(cluster[1].role, .candidate)
            if async {
                for response in ready.messages[0].responses { try cluster[1].step(response) }
            } else {
                cluster[1].advance()
            }
            XCTAssertEqual(cluster[1].role, .leader)
        }
    }

    func test_raft_5_2_oneVotePerTerm() throws {
        let cluster = try SmallCluster(3)
        let request = Message(kind: .vote, to: 1, from: 2, term: 2, logTerm: 1, index: 2)
        var rival = request
        rival.from = 3
        for message in [request, rival, request] { try cluster[1].step(message) }
        try cluster.work(1)
        XCTAssertEqual(cluster.sent.map(\.kind), [.voteResponse, .voteResponse, .voteResponse])
        XCTAssertEqual(cluster.sent.map(\.reject), [false, true, false])
    }

    func test_raft_5_2_voteSurvivesRestart() throws {
        for (bugs, expected) in [(PlantedBugs(), true), (.forgetsVoteOnRestart, false)] {
            let cluster = try SmallCluster(3) { $0.plantedBugs = bugs }
            try cluster[1].step(Message(kind: .vote, to: 1, from: 2, term: 2, logTerm: 1, index: 2))
            try cluster.work(1)
            try cluster.restart(1)
            try cluster[1].step(Message(kind: .vote, to: 1, from: 3, term: 2, logTerm: 1, index: 2))
            try cluster.work(1)
            XCTAssertEqual(cluster.sent.last?.reject, expected)
        }
    }

    func test_raft_5_2_candidateYieldsToLeaderOfItsTerm() throws {
        let cluster = try SmallCluster(3)
        try cluster[1].campaign()
        try cluster[1].step(Message(kind: .append, to: 1, from: 2, term: 1, logTerm: 1, index: 2))
        XCTAssertEqual(cluster[1].role, .follower)
        XCTAssertEqual(cluster[1].leader, 2)
    }

    func test_raft_5_2_lostElectionMakesFollower() throws {
        let cluster = try SmallCluster(3)
        try cluster[1].campaign()
        try cluster.work(1)
        for peer in [2, 3] as [NodeID] {
            try cluster[1].step(Message(kind: .voteResponse, to: 1, from: peer, term: 1, reject: true))
        }
        XCTAssertEqual(cluster[1].role, .follower)
        XCTAssertEqual(cluster[1].term, 1)
    }

    func test_raft_5_4_1_voterRejectsStaleLog() throws {
        // Own last entry: index 4, term 3.
        let cases: [(Term, LogIndex, reject: Bool)] = [
            (3, 4, false), (3, 5, false), (4, 3, false), (3, 3, true), (2, 4, true), (2, 9, true),
        ]
        for (term, index, reject) in cases {
            let cluster = try SmallCluster(3, logs: [1: [(3, 2)]])
            try cluster[1].step(Message(kind: .vote, to: 1, from: 2, term: 9, logTerm: term, index: index))
            try cluster.work(1)
            XCTAssertEqual(cluster.sent.map(\.reject), [reject], "\(term)/\(index)")
        }
    }

    func test_raft_8_leaderBeginsWithEntryOfItsTerm() throws {
        let cluster = try SmallCluster(3)
        try cluster.elect(1)
        XCTAssertEqual(try cluster.log(2), [1])
        XCTAssertEqual(cluster[2].commitIndex, 3)
    }

    func test_dissertation_4_2_2_learnerNeitherCampaignsNorCounts() throws {
        let cluster = try SmallCluster(3, learners: [3])
        try cluster[3].campaign()
        XCTAssertEqual(cluster[3].role, .follower)
        try cluster[1].campaign()
        try cluster.work(1)
        try cluster.settle(among: 1, 3)
        XCTAssertEqual(cluster[1].role, .candidate)
        try cluster.elect(1)
        XCTAssertEqual(cluster[1].role, .leader)
        // Two voters: the learner's acknowledgement commits nothing.
        let before = cluster[1].commitIndex
        try cluster[1].propose([1])
        try cluster.settle(among: 1, 3)
        XCTAssertEqual(cluster[1].commitIndex, before)
        try cluster.tick(1)
        try cluster.settle()
        XCTAssertEqual(cluster[1].commitIndex, before + 1)
    }

    func test_dissertation_4_2_3_voterWithLeaderIgnoresCandidates() throws {
        let cluster = try SmallCluster(3) { $0.checkQuorum = true }
        try cluster.elect(1)
        try cluster[3].campaign()
        try cluster.work(3)
        try cluster.deliver(to: 2)
        XCTAssertEqual(cluster[2].term, 1)
        XCTAssertEqual(cluster[2].leader, 1)
        // After an election timeout of silence it listens.
        try cluster.tick(2, 5)
        try cluster[3].campaign()
        try cluster.settle(among: 2, 3)
        XCTAssertEqual(cluster[3].role, .leader)
    }

    func test_dissertation_6_2_leaderWithoutQuorumStepsDown() throws {
        let cluster = try SmallCluster(3) { $0.checkQuorum = true }
        try cluster.elect(1)
        try cluster.tick(1, 5)
        XCTAssertEqual(cluster[1].role, .leader)
        try cluster.tick(1, 5)
        XCTAssertEqual(cluster[1].role, .follower)
        XCTAssertEqual(cluster[1].term, 1)
    }

    func test_dissertation_9_6_preVoteKeepsTheTermOfTheIsolated() throws {
        let cluster = try SmallCluster(3) { $0.preVote = true }
        try cluster.elect(1)
        try cluster.tick(3, 60)
        XCTAssertEqual(cluster[3].role, .preCandidate)
        XCTAssertEqual(cluster[3].term, 1)
        cluster.network = []
        try cluster[1].propose([1])
        try cluster.settle(among: 1, 2)
        // Back again, its log is behind: nobody grants it a pre-vote, and it follows on.
        try cluster.tick(3, 10)
        try cluster.settle()
        XCTAssertEqual(cluster[1].role, .leader)
        XCTAssertEqual(cluster[1].term, 1)
        try cluster.tick(1)
        try cluster.settle()
        XCTAssertEqual(cluster[3].leader, 1)
    }

    func test_dissertation_9_6_preVoteOfSuccessorWins() throws {
        let cluster = try SmallCluster(3) { $0.preVote = true }
        try cluster.elect(1)
        try cluster[2].campaign()
        try cluster.settle(among: 2, 3)
        XCTAssertEqual(cluster[2].role, .leader)
        XCTAssertEqual(cluster[2].term, 2)
    }

    func testUnappliedConfigurationChangeForbidsCampaign() throws {
        let cluster = try SmallCluster(3)
        try cluster.elect(1)
        let entry = Entry(
            term: 1, index: 4, kind: .confChangeV2,
            data: ConfChange(changes: [ConfChangeSingle(kind: .addVoter, node: 4)]).encoded())
        try cluster[2].step(
            Message(kind: .append, to: 2, from: 1, term: 1, logTerm: 1, index: 3, entries: [entry], commit: 4))
        try cluster[2].campaign()
        XCTAssertEqual(cluster[2].role, .follower)
        try cluster.work(2)
        try cluster[2].campaign()
        XCTAssertEqual(cluster[2].role, .candidate)
    }

    func testForgottenLeaderFreesTheVote() throws {
        let cluster = try SmallCluster(3) { $0.preVote = true }
        try cluster.elect(1)
        try cluster[2].forgetLeader()
        XCTAssertEqual(cluster[2].leader, .none)
        XCTAssertEqual(cluster[2].term, 1)
        // With lease-based reads the lease forbids it.
        let leased = try SmallCluster(3) {
            $0.checkQuorum = true
            $0.readOnlyOption = .leaseBased
        }
        try leased.elect(1)
        try leased[2].forgetLeader()
        XCTAssertEqual(leased[2].leader, 1)
    }
}
