import Prelude
import XCTest

@_spi(Planted) @testable import Raft

/// Leadership transfer and reads.
final class LeadershipTests: XCTestCase {
    func test_dissertation_3_10_transferToWhoIsUpToDate() throws {
        let cluster = try SmallCluster(3) {
            $0.checkQuorum = true
            $0.preVote = true
        }
        try cluster.elect(1)
        cluster[1].transferLeadership(to: 3)
        try cluster.settle()
        XCTAssertEqual(cluster[3].role, .leader)
        XCTAssertEqual(cluster[1].leader, 3)
    }

    func test_dissertation_3_10_transferWaitsForTheLog() throws {
        let cluster = try SmallCluster(3)
        try cluster.elect(1)
        try cluster[1].propose([1])
        try cluster.settle(among: 1, 2)
        cluster[1].transferLeadership(to: 3)
        XCTAssertEqual(cluster[1].status.transferee, 3)
        XCTAssertThrowsError(try cluster[1].propose([2])) { XCTAssertEqual($0 as? RaftError, .proposalDropped) }
        try cluster.tick(1)
        try cluster.settle()
        XCTAssertEqual(cluster[3].role, .leader)
        XCTAssertEqual(cluster.applied[2].map(\.data), [[1]])
    }

    func test_dissertation_3_10_transferIsAbortedAfterAnElectionTimeout() throws {
        let cluster = try SmallCluster(3)
        try cluster.elect(1)
        try cluster[1].propose([1])
        try cluster.settle(among: 1, 2)
        cluster[1].transferLeadership(to: 3)
        try cluster.tick(1, 4)
        XCTAssertThrowsError(try cluster[1].propose([2]))
        try cluster.tick(1)
        XCTAssertEqual(cluster[1].status.transferee, .none)
        XCTAssertNoThrow(try cluster[1].propose([2]))
    }

    func testTransfersThatAreRefused() throws {
        let cluster = try SmallCluster(3, learners: [3])
        try cluster.elect(1)
        for target in [1, 3, 9] as [NodeID] {
            cluster[1].transferLeadership(to: target)
            XCTAssertEqual(cluster[1].status.transferee, .none, "\(target)")
        }
    }

    func testFollowerForwardsTheTransfer() throws {
        let cluster = try SmallCluster(3)
        try cluster.elect(1)
        cluster[2].transferLeadership(to: 2)
        try cluster.settle()
        XCTAssertEqual(cluster[2].role, .leader)
    }

    // MARK: Reads

    func test_dissertation_6_4_readIsConfirmedByAQuorum() throws {
        let cluster = try SmallCluster(3)
        try cluster.elect(1)
        cluster[1].readIndex(context: [1])
        cluster[1].readIndex(context: [2])
        try cluster.work(1)
        XCTAssertEqual(cluster.reads[0], [])
        try cluster.deliver(to: 2)
        try cluster.deliver(to: 1)
        XCTAssertEqual(
            cluster.reads[0], [ReadState(index: 3, context: [1]), ReadState(index: 3, context: [2])])
        try cluster.settle()
        XCTAssertEqual(cluster.reads[0].count, 2, "each is answered once")
    }

    func test_dissertation_6_4_deposedLeaderDoesNotAnswer() throws {
        for (bugs, answers) in [(PlantedBugs(), 0), (.readsWithoutQuorum, 1)] {
            let cluster = try SmallCluster(3) { $0.plantedBugs = bugs }
            try cluster.elect(1)
            try cluster[2].campaign()
            try cluster.settle(among: 2, 3)
            XCTAssertEqual(cluster[2].role, .leader)
            cluster[1].readIndex(context: [1])
            try cluster.work(1)
            try cluster.settle(among: 1)
            XCTAssertEqual(cluster.reads[0].count, answers)
        }
    }

    func test_dissertation_6_4_newLeaderWaitsForAnEntryOfItsTerm() throws {
        let log: [(Term, Int)] = [(2, 1)]
        let cluster = try SmallCluster(3, logs: [1: log, 2: log, 3: log])
        try cluster[1].campaign()
        try cluster.settle { $0.kind == .append }
        XCTAssertEqual(cluster[1].role, .leader)
        cluster[1].readIndex(context: [1])
        try cluster.settle { $0.kind == .append }
        XCTAssertEqual(cluster.reads[0], [])
        try cluster.tick(1)
        try cluster.settle()
        XCTAssertEqual(cluster.reads[0], [ReadState(index: 4, context: [1])])
    }

    /// The commit index need not survive a restart: until an entry of its term is committed, a single voter does not know
    /// how far it had committed what it acknowledged.
    func test_dissertation_6_4_restartedSingleVoterWaitsForAnEntryOfItsTerm() throws {
        let storage = MemoryStorage()
        try storage.applySnapshot(
            Snapshot(metadata: SnapshotMetadata(index: 1, term: 1, confState: ConfState(voters: [1]))))
        storage.append([Entry(term: 1, index: 2, data: [7])])
        storage.setHardState(HardState(term: 1, vote: 1, commit: 1))
        let node = try RawNode(RaftConfiguration(id: 1, random: SeededRandom(seed: 1)), storage: storage)
        try node.campaign()
        var answers: [ReadState] = []
        var hasAsked = false
        while node.hasReady {
            let ready = node.ready()
            answers += ready.readStates
            if node.role == .leader, !hasAsked {
                XCTAssertEqual(node.commitIndex, 1, "nothing of the new term is committed yet")
                node.readIndex(context: [1])
                hasAsked = true
            }
            if let hardState = ready.hardState { storage.setHardState(hardState) }
            storage.append(ready.entries)
            node.advance()
        }
        XCTAssertEqual(answers, [ReadState(index: 3, context: [1])])
    }

    func testFollowersReadIsAnsweredByTheLeader() throws {
        for option in [RaftConfiguration.ReadOnlyOption.safe, .leaseBased] {
            let cluster = try SmallCluster(3) {
                $0.readOnlyOption = option
                $0.checkQuorum = true
            }
            try cluster.elect(1)
            cluster[3].readIndex(context: [9])
            try cluster.settle()
            XCTAssertEqual(cluster.reads[2], [ReadState(index: 3, context: [9])])
            XCTAssertEqual(cluster.reads[0], [])
        }
    }

    func test_dissertation_6_4_1_leaseAnswersWithoutARound() throws {
        let cluster = try SmallCluster(3) {
            $0.readOnlyOption = .leaseBased
            $0.checkQuorum = true
        }
        try cluster.elect(1)
        cluster[1].readIndex(context: [7])
        // Nothing was sent or heard since.
        let ready = cluster[1].ready()
        XCTAssertEqual(ready.readStates, [ReadState(index: cluster[1].commitIndex, context: [7])])
        XCTAssertEqual(ready.messages, [])
    }

    func testReadIsAnsweredWhenTheLeaderIsLeftAlone() throws {
        let cluster = try SmallCluster(2)
        try cluster.elect(1)
        let removal = ConfChange(changes: [ConfChangeSingle(kind: .remove, node: 2)])
        try cluster[1].proposeConfChange(removal)
        cluster[1].readIndex(context: [1])
        // The follower takes the removal, and is gone before it hears of the read.
        try cluster.settle { $0.kind == .heartbeat }
        XCTAssertEqual(cluster[1].configuration.voters, [1])
        XCTAssertEqual(cluster.reads[0].map(\.context), [[1]])
    }

    func testWaitingReadsAreBounded() throws {
        let cluster = try SmallCluster(3) { $0.pendingReadCountMax = 5 }
        try cluster.elect(1)
        for number in 0..<20 as Range<UInt8> { cluster[1].readIndex(context: [number]) }
        XCTAssertEqual(cluster[1].core.leadership.reads.count, 5)
        try cluster.settle()
        XCTAssertEqual(cluster.reads[0].count, 5)
    }

    func testEchoesOfReadsThatNeverWereAreIgnored() throws {
        let cluster = try SmallCluster(3)
        try cluster.elect(1)
        cluster[1].readIndex(context: [1])
        for context in [[1], [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], [0, 0, 0, 0, 0, 0, 0, 0]] as [[UInt8]] {
            try cluster[1].stepFromPeer(
                Message(kind: .heartbeatResponse, to: 1, from: 2, term: 1, context: context))
        }
        XCTAssertEqual(cluster[1].ready().readStates, [])
    }
}
