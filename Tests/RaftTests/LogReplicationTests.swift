import Prelude
import XCTest

@_spi(Planted) @testable import Raft

final class LogReplicationTests: XCTestCase {
    func testElectsAndReplicates() throws {
        for async in [false, true] {
            let cluster = try SmallCluster(3) { $0.asyncStorageWrites = async }
            try cluster.elect(1)
            XCTAssertEqual(cluster.nodes.map(\.role), [.leader, .follower, .follower])
            XCTAssertEqual(cluster.nodes.map(\.leader), [1, 1, 1])
            try cluster[1].propose([[1], [2], [3]])
            try cluster[2].propose([4])
            try cluster.settle()
            for applied in cluster.applied { XCTAssertEqual(applied.map(\.data), [[1], [2], [3], [4]]) }
            XCTAssertEqual(cluster.nodes.map(\.commitIndex), [7, 7, 7])
            XCTAssertEqual(cluster.nodes.map(\.appliedIndex), [7, 7, 7])
        }
    }

    func test_raft_5_3_followerNeedsThePreviousEntry() throws {
        let cluster = try SmallCluster(3, logs: [1: [(2, 3)]])
        // Beyond the end, and of another term.
        for (logTerm, index, hintTerm, hint) in [(5, 9, 2, 5), (3, 4, 2, 4)] as [(Term, LogIndex, Term, LogIndex)] {
            try cluster[1].step(Message(kind: .append, to: 1, from: 2, term: 9, logTerm: logTerm, index: index))
            try cluster.work(1)
            let response = try XCTUnwrap(cluster.sent.last)
            XCTAssertEqual(response.kind, .appendResponse)
            XCTAssertTrue(response.reject)
            XCTAssertEqual(response.index, index)
            XCTAssertEqual(response.rejectHint, hint)
            XCTAssertEqual(response.logTerm, hintTerm)
        }
    }

    func test_raft_5_3_conflictingTailIsReplaced() throws {
        let cluster = try SmallCluster(3, logs: [1: [(2, 2), (3, 3)]])
        let entry = Entry(term: 5, index: 5, data: [50])
        try cluster[1].step(
            Message(kind: .append, to: 1, from: 2, term: 5, logTerm: 2, index: 4, entries: [entry], commit: 9))
        XCTAssertEqual(cluster[1].lastIndex, 5)
        // No further than what this message has vouched for.
        XCTAssertEqual(cluster[1].commitIndex, 5)
        try cluster.work(1)
        XCTAssertEqual(try cluster.log(1), [2, 2, 5])
    }

    func test_raft_5_3_oldAppendDoesNotCutOffNewerEntries() throws {
        let cluster = try SmallCluster(3, logs: [1: [(2, 4)]])
        try cluster[1].step(
            Message(
                kind: .append, to: 1, from: 2, term: 2, logTerm: 1, index: 2,
                entries: [Entry(term: 2, index: 3, data: [3])]))
        XCTAssertEqual(cluster[1].lastIndex, 6)
    }

    func test_raft_5_3_leaderSkipsWholeTermsWhileProbing() throws {
        // Figure 7 (f): many entries of terms that the leader does not have.
        let cluster = try SmallCluster(
            3, logs: [1: [(1, 3), (4, 50)], 2: [(1, 3), (4, 50)], 3: [(1, 3), (2, 30), (3, 40)]])
        try cluster[1].campaign()
        try cluster.settle()
        XCTAssertEqual(try cluster.log(3), try cluster.log(1))
        let rejections = cluster.sent.filter { $0.kind == .appendResponse && $0.reject }
        XCTAssertLessThanOrEqual(rejections.count, 2)
    }

    /// Figure 8: an entry of term 2 is on a majority, and is lost all the same; only an entry of the leader's own term
    /// commits it.
    private func figure8(_ bugs: PlantedBugs) throws -> (afterCopying: LogIndex, logOfLast: [Term]) {
        // (c): S1 leads term 4 and has entry 3 of term 2; S5 has one of term 3 in its place.
        let cluster = try SmallCluster(5, logs: [1: [(2, 1)], 5: [(3, 1)]]) {
            $0.plantedBugs = bugs
            $0.messageByteCountMax = 1
        }
        try cluster[1].step(Message(kind: .heartbeat, to: 1, from: 5, term: 3))
        try cluster[1].campaign()
        try cluster.work(1)
        // S2 and S3 are sent entry 3 and acknowledge it, but not entry 4.
        try cluster.settle { message in
            ![1, 2, 3].contains(message.to)
                || message.entries.contains { $0.term == 4 } && cluster[message.to].lastIndex >= 3
        }
        XCTAssertEqual(cluster[1].role, .leader)
        XCTAssertEqual(cluster[1].term, 4)
        XCTAssertEqual(try cluster.log(2), [2])
        XCTAssertEqual(try cluster.log(3), [2])
        let afterCopying = cluster[1].commitIndex
        // (d): S5 is elected and overwrites it.
        try cluster[5].step(Message(kind: .heartbeatResponse, to: 5, from: 2, term: 4))
        try cluster.work(5)
        try cluster[5].campaign()
        try cluster.settle(among: 3, 4, 5)
        XCTAssertEqual(cluster[5].role, .leader)
        return (afterCopying, try cluster.log(3))
    }

    func test_raft_5_4_2_entryOfOlderTermDoesNotCommitByCount() throws {
        let right = try figure8([])
        XCTAssertEqual(right.afterCopying, 2)
        XCTAssertEqual(right.logOfLast, [3, 5])
        let wrong = try figure8(.commitsOlderTermByCount)
        XCTAssertEqual(wrong.afterCopying, 3)
    }

    func testCommitIndexGoesNoFurtherThanTheAcknowledged() throws {
        let cluster = try SmallCluster(3)
        try cluster.elect(1)
        try cluster[1].propose([1])
        try cluster.work(1)
        XCTAssertEqual(cluster[1].commitIndex, 3)
        try cluster.deliver(to: 2)
        try cluster.deliver(to: 1)
        XCTAssertEqual(cluster[1].commitIndex, 4)
    }

    func testLeaderMayCommitBeforeItsOwnWriteIsDurable() throws {
        let cluster = try SmallCluster(3) { $0.asyncStorageWrites = true }
        try cluster.elect(1)
        try cluster[1].propose([1])
        let ready = cluster[1].ready()
        // The own write takes its time; both followers are done.
        for message in ready.messages where !message.to.isLocalThread { try cluster[message.to].step(message) }
        for id in [2, 3] as [NodeID] { try cluster.work(id) }
        for message in cluster.network where message.to == 1 { try cluster[1].step(message) }
        XCTAssertEqual(cluster[1].commitIndex, 4)
        // But it is not applied here before it is durable here.
        XCTAssertTrue(cluster[1].ready().committedEntries.isEmpty)
        let append = try XCTUnwrap(ready.messages.first { $0.to == .localAppendThread })
        cluster.storages[0].append(append.entries)
        for response in append.responses { try cluster[1].step(response) }
        XCTAssertEqual(cluster[1].ready().committedEntries.map(\.index), [4])
    }

    // MARK: Flow

    func testMessagesKeepToTheirSize() throws {
        let cluster = try SmallCluster(3) { $0.messageByteCountMax = 100 }
        try cluster.elect(1)
        for _ in 0..<20 { try cluster[1].propose([UInt8](repeating: 7, count: 40)) }
        try cluster[1].propose([UInt8](repeating: 7, count: 400))
        try cluster.settle()
        XCTAssertEqual(cluster[3].appliedIndex, 24)
        for message in cluster.sent where message.kind == .append {
            XCTAssertTrue(message.entries.count <= 1 || message.entries.byteCount <= 100)
        }
        XCTAssertTrue(cluster.sent.contains { $0.entries.count == 1 && $0.entries.byteCount > 400 })
    }

    func testInflightMessagesAreBoundedByCountAndBytes() throws {
        for limitsBytes in [false, true] {
            let cluster = try SmallCluster(2) {
                if limitsBytes { $0.inflightByteCountMax = 30 } else { $0.inflightMessageCountMax = 3 }
            }
            try cluster.elect(1)
            for _ in 0..<10 { try cluster[1].propose([UInt8](repeating: 1, count: 10)) }
            try cluster.work(1)
            XCTAssertEqual(cluster.network.count { !$0.entries.isEmpty }, 3)
            let peer = try XCTUnwrap(cluster[1].status.progress.first { $0.id == 2 })
            XCTAssertTrue(peer.isInflightFull && peer.isPaused)
            try cluster.settle()
            XCTAssertEqual(cluster[2].appliedIndex, 13)
        }
    }

    func testLostWindowIsFoundByHeartbeats() throws {
        let cluster = try SmallCluster(2) { $0.inflightMessageCountMax = 2 }
        try cluster.elect(1)
        for _ in 0..<5 { try cluster[1].propose([1]) }
        try cluster.work(1)
        cluster.network = []
        try cluster.tick(1)
        try cluster.settle()
        XCTAssertEqual(cluster[2].appliedIndex, 8)
    }

    func testUncommittedTailIsBounded() throws {
        let cluster = try SmallCluster(3) { $0.uncommittedByteCountMax = 100 }
        try cluster.elect(1)
        // Of any size when there is nothing else.
        try cluster[1].propose([UInt8](repeating: 1, count: 300))
        XCTAssertThrowsError(try cluster[1].propose([1])) { XCTAssertEqual($0 as? RaftError, .proposalDropped) }
        XCTAssertNoThrow(try cluster[1].propose([UInt8]()))
        try cluster.settle()
        for _ in 0..<10 { try cluster[1].propose([UInt8](repeating: 1, count: 10)) }
        XCTAssertThrowsError(try cluster[1].propose([1]))
        try cluster.settle()
        XCTAssertNoThrow(try cluster[1].propose([1]))
    }

    func testCommittedEntriesAreHandedOutInPages() throws {
        for async in [false, true] {
            let storage = MemoryStorage()
            try storage.applySnapshot(
                Snapshot(metadata: SnapshotMetadata(index: 2, term: 1, confState: ConfState(voters: [1]))))
            storage.append((3...12).map { Entry(term: 1, index: LogIndex($0), data: [1]) })
            storage.setHardState(HardState(term: 1, commit: 12))
            var configuration = SmallCluster.configuration(1)
            configuration.asyncStorageWrites = async
            // Entries are 9 bytes each.
            configuration.committedByteCountPerReadyMax = 28
            configuration.applied = 2
            let node = try RawNode(configuration, storage: storage)
            var pages: [Int] = []
            while node.hasReady {
                let ready = node.ready()
                pages.append(ready.committedEntries.count)
                // Nothing more before these are applied.
                XCTAssertFalse(node.core.log.hasNextCommittedEntries(allowUnstable: !async))
                if async {
                    for message in ready.messages { for response in message.responses { try node.step(response) } }
                } else {
                    node.advance()
                }
            }
            XCTAssertEqual(pages, [3, 3, 3, 1])
        }
    }

    func testEntrySizeIsThatOfTheProtobufMessage() {
        XCTAssertEqual(Entry(term: 1, index: 1).byteCount, 6)
        XCTAssertEqual(Entry(term: 1, index: 127, data: [1]).byteCount, 9)
        XCTAssertEqual(Entry(term: 128, index: 16_384, data: []).byteCount, 9)
        XCTAssertEqual(Entry(term: 1, index: 1, data: [UInt8](repeating: 0, count: 200)).byteCount, 6 + 1 + 2 + 200)
        XCTAssertEqual(Entry(term: Term(.max), index: LogIndex(.max)).byteCount, 4 + 20)
    }

    // MARK: Proposals

    func testFollowerForwardsProposalsUnlessItMayNot() throws {
        let cluster = try SmallCluster(3) { $0.disableProposalForwarding = $0.id == 3 }
        XCTAssertThrowsError(try cluster[2].propose([1])) { XCTAssertEqual($0 as? RaftError, .proposalDropped) }
        try cluster.elect(1)
        XCTAssertNoThrow(try cluster[2].propose([1]))
        XCTAssertThrowsError(try cluster[3].propose([1])) { XCTAssertEqual($0 as? RaftError, .proposalDropped) }
        try cluster.settle()
        XCTAssertEqual(cluster.applied[0].map(\.data), [[1]])
    }

    // MARK: Snapshots

    func testFarBehindFollowerGetsASnapshot() throws {
        let cluster = try SmallCluster(3)
        try cluster.elect(1)
        for number in 0..<10 as Range<UInt8> { try cluster[1].propose([number]) }
        try cluster.settle(among: 1, 2)
        let state = cluster[1].configuration
        try cluster.storages[0].createSnapshot(at: 13, confState: state, data: [99])
        try cluster.storages[0].compact(to: 12)
        try cluster[1].propose([200])
        try cluster.settle(among: 1, 2)
        try cluster.tick(1)
        try cluster.settle()
        let snapshots = cluster.sent.filter { $0.kind == .snapshot }
        XCTAssertEqual(snapshots.map(\.to), [3])
        XCTAssertEqual(snapshots.first?.snapshot?.data, [99])
        XCTAssertEqual(cluster[3].appliedIndex, 14)
        XCTAssertEqual(cluster.applied[2].map(\.data), [[200]])
    }

    func testFailedSnapshotIsSentAgain() throws {
        let cluster = try SmallCluster(3)
        try cluster.elect(1)
        for number in 0..<10 as Range<UInt8> { try cluster[1].propose([number]) }
        try cluster.settle(among: 1, 2)
        try cluster.storages[0].createSnapshot(at: 13, confState: cluster[1].configuration, data: [99])
        try cluster.storages[0].compact(to: 12)
        try cluster.tick(1)
        try cluster.settle { $0.kind == .snapshot }
        XCTAssertEqual(cluster[1].status.progress[2].state, .snapshot)
        XCTAssertEqual(cluster[1].status.progress[2].pendingSnapshot, 13)
        try cluster.tick(1, 3)
        try cluster.settle()
        XCTAssertEqual(cluster.sent.count { $0.kind == .snapshot }, 1, "it may be on its way still")
        cluster[1].reportSnapshot(3, succeeded: false)
        XCTAssertEqual(cluster[1].status.progress[2].state, .probe)
        try cluster.tick(1)
        try cluster.settle()
        XCTAssertEqual(cluster.sent.count { $0.kind == .snapshot }, 2)
        XCTAssertEqual(cluster[3].appliedIndex, 13)
    }

    func testOutdatedReportsAreIgnored() throws {
        let cluster = try SmallCluster(2)
        try cluster.elect(1)
        try cluster[1].step(
            Message(kind: .appendResponse, to: 1, from: 2, term: 1, index: 3, reject: true, rejectHint: 0))
        XCTAssertEqual(cluster[1].status.progress[1].state, .replicate, "a rejection of what was acknowledged since")
        cluster[1].reportSnapshot(2, succeeded: false)
        XCTAssertEqual(cluster[1].status.progress[1].state, .replicate, "nothing was on its way")
    }

    func testSnapshotWithoutItsReceiverIsNotSent() throws {
        let cluster = try SmallCluster(2, learners: [2])
        try cluster[1].campaign()
        try cluster.settle(among: 1)
        XCTAssertEqual(cluster[1].commitIndex, 3)
        for voters in [[1], [1, 2]] as [[NodeID]] {
            let index = cluster[1].commitIndex
            try cluster.storages[0].createSnapshot(at: index, confState: ConfState(voters: voters), data: [])
            try cluster.storages[0].compact(to: index)
            try cluster.tick(1)
            try cluster.settle { $0.kind == .snapshot }
            XCTAssertEqual(cluster.sent.count { $0.kind == .snapshot }, voters.count - 1)
            try cluster[1].propose([1])
            try cluster.settle(among: 1)
        }
    }
}
