import Prelude
import XCTest

@testable import Raft

final class MembershipTests: XCTestCase {
    private var random = SeededRandom(seed: 7)

    private func changer(_ members: Members) -> ConfigurationChanger {
        ConfigurationChanger(members, lastIndex: 10, inflights: Inflights(countMax: 4, byteCountMax: .max))
    }

    private func randomChanges() -> [ConfChangeSingle] {
        (0..<random.next() % 5).map { _ in
            ConfChangeSingle(
                kind: ConfChangeSingle.Kind(rawValue: UInt8(random.next() % 4)) ?? .update,
                node: NodeID(random.next() % 8))
        }
    }

    /// What holds of every configuration, said another way than the changer does.
    private func checkRules(_ members: Members, _ before: Members, isJointStep: Bool) {
        let state = members.membership.confState
        let voters = Set(state.voters)
        let outgoing = Set(state.votersOutgoing)
        let learners = Set(state.learners)
        let next = Set(state.learnersNext)
        XCTAssertFalse(voters.isEmpty)
        XCTAssertTrue(learners.isDisjoint(with: voters.union(outgoing)))
        XCTAssertTrue(next.isSubset(of: outgoing))
        XCTAssertTrue(next.isDisjoint(with: voters))
        XCTAssertEqual(Set(members.progress.ids), voters.union(outgoing).union(learners))
        for id in members.progress.ids { XCTAssertEqual(members.progress[id]?.isLearner, learners.contains(id)) }
        if outgoing.isEmpty { XCTAssertTrue(next.isEmpty && !state.autoLeave) }
        for list in [state.voters, state.votersOutgoing, state.learners, state.learnersNext] {
            XCTAssertEqual(list, Set(list).sorted())
        }
        // Whoever stays keeps its progress.
        for id in before.progress.ids where members.progress.contains(id) {
            XCTAssertEqual(before.progress[id]?.next, members.progress[id]?.next)
        }
        if !isJointStep && !before.membership.voters.incoming.voters.isEmpty {
            XCTAssertLessThanOrEqual(
                Set(before.membership.confState.voters).symmetricDifference(voters).count, 1)
        }
    }

    func testAnySequenceOfChangesKeepsTheRules() throws {
        var made = 0
        for _ in 0..<400 {
            var members = Members()
            for _ in 0..<40 {
                let changes = randomChanges()
                let before = members
                let choice = random.next() % 4
                let isJointStep = choice > 1
                do {
                    switch choice {
                    case 0, 1: members = try changer(members).simple(changes)
                    case 2: members = try changer(members).enterJoint(autoLeave: random.next() % 2 == 0, changes)
                    default: members = try changer(members).leaveJoint()
                    }
                } catch MembershipError.inconsistent(let reason) {
                    XCTFail("the changer made a configuration that breaks its own rules: \(reason)")
                } catch {
                    continue
                }
                made += 1
                checkRules(members, before, isJointStep: isJointStep)
                // What a snapshot says of it is enough to build it anew.
                let restored = try changer(Members()).restore(members.membership.confState)
                XCTAssertEqual(restored.membership, members.membership)
                XCTAssertEqual(restored.progress.ids, members.progress.ids)
            }
        }
        XCTAssertGreaterThan(made, 2000)
    }

    /// Any majority that decides before a step meets any that decides after it (Raft §6).
    func testQuorumsBeforeAndAfterOverlap() throws {
        func decides(_ quorum: JointQuorum, _ agreeing: Set<NodeID>) -> Bool {
            quorum.voteResult { agreeing.contains($0) } == .won
        }
        for _ in 0..<150 {
            var members = try changer(Members()).restore(ConfState(voters: [1, 2, 3]))
            for _ in 0..<10 {
                let change = ConfChange(
                    transition: ConfChange.Transition(rawValue: UInt8(random.next() % 3)) ?? .auto,
                    changes: randomChanges())
                guard let changed = try? changer(members).apply(change) else { continue }
                let all = Array(Set(members.progress.ids + changed.progress.ids))
                for mask in 0..<(1 << all.count) {
                    let agreeing = Set(all.indices.filter { mask >> $0 & 1 == 1 }.map { all[$0] })
                    let others = Set(all).subtracting(agreeing)
                    XCTAssertFalse(
                        decides(members.membership.voters, agreeing) && decides(changed.membership.voters, others))
                }
                members = changed
            }
        }
    }

    func testContradictoryConfigurationsAreRefused() {
        let states = [
            ConfState(voters: [1], learners: [1]), ConfState(learners: [1]), ConfState(voters: [0]),
            ConfState(voters: [1, 1]), ConfState(voters: [1], learnersNext: [2]),
            ConfState(voters: [1], votersOutgoing: [2], learnersNext: [3]), ConfState(votersOutgoing: [1]),
            ConfState(voters: [1], autoLeave: true),
            ConfState(voters: [1], learners: [2], votersOutgoing: [2]),
        ]
        for state in states { XCTAssertThrowsError(try changer(Members()).restore(state), "\(state)") }
    }

    /// Messages to them would be taken for work of the storage.
    func testStorageThreadsCannotBecomeMembers() throws {
        for id in [NodeID.localAppendThread, .localApplyThread] {
            for kind in [ConfChangeSingle.Kind.addVoter, .addLearner] {
                let single = ConfChangeSingle(kind: kind, node: id)
                let members = try changer(Members()).restore(ConfState(voters: [1]))
                XCTAssertThrowsError(try changer(members).simple([single]))
                XCTAssertThrowsError(try changer(members).enterJoint(autoLeave: true, [single]))
            }
            XCTAssertThrowsError(try changer(Members()).restore(ConfState(voters: [1, id])))
        }
    }

    func testChangeSurvivesEncoding() throws {
        for _ in 0..<500 {
            let change = ConfChange(
                transition: ConfChange.Transition(rawValue: UInt8(random.next() % 3)) ?? .auto,
                changes: randomChanges(), context: (0..<random.next() % 4).map { UInt8($0) })
            XCTAssertEqual(try ConfChange(decoding: change.encoded()), change)
        }
        XCTAssertEqual(try ConfChange(decoding: []), ConfChange())
    }

    func testMalformedChangesAreRefused() {
        var accepted = 0
        for _ in 0..<20_000 {
            let bytes = (0..<random.next() % 12).map { _ in
                random.next() % 2 == 0
                    ? UInt8(truncatingIfNeeded: random.next()) : [0x08, 0x10, 0x12, 0x1A, 0x02][Int(random.next() % 5)]
            }
            if (try? ConfChange(decoding: bytes)) != nil { accepted += 1 }
        }
        XCTAssertLessThan(accepted, 20_000)
    }

    // MARK: In a cluster

    private func change(
        _ transition: ConfChange.Transition = .auto, _ changes: (ConfChangeSingle.Kind, NodeID)...
    ) -> ConfChange {
        ConfChange(transition: transition, changes: changes.map { ConfChangeSingle(kind: $0.0, node: $0.1) })
    }

    func test_raft_6_jointConfigurationNeedsBothMajorities() throws {
        let cluster = try SmallCluster(5, learners: [4, 5])
        try cluster.elect(1)
        try cluster[1].proposeConfChange(
            change(.jointExplicit, (.remove, 2), (.remove, 3), (.addVoter, 4), (.addVoter, 5)))
        try cluster.settle()
        XCTAssertEqual(cluster[1].configuration.voters, [1, 4, 5])
        XCTAssertEqual(cluster[1].configuration.votersOutgoing, [1, 2, 3])
        // A majority of each alone is not enough.
        let before = cluster[1].commitIndex
        try cluster[1].propose([1])
        try cluster.settle(among: 1, 2, 3)
        XCTAssertEqual(cluster[1].commitIndex, before)
        try cluster.tick(1)
        try cluster.settle(among: 1, 2, 4)
        XCTAssertEqual(cluster[1].commitIndex, before + 1)
        // Nor for an election.
        try cluster[4].campaign()
        try cluster.work(4)
        try cluster.settle(among: 1, 4, 5)
        XCTAssertEqual(cluster[4].role, .candidate)
        try cluster[4].campaign()
        try cluster.settle()
        XCTAssertEqual(cluster[4].role, .leader)
        try cluster[4].proposeConfChange(ConfChange())
        try cluster.settle()
        XCTAssertEqual(cluster[4].configuration, ConfState(voters: [1, 4, 5]))
    }

    func test_raft_6_oneChangeAtATime() throws {
        let cluster = try SmallCluster(3)
        try cluster.elect(1)
        try cluster[1].proposeConfChange(change(.auto, (.addLearner, 4)))
        try cluster[1].proposeConfChange(change(.auto, (.addLearner, 5)))
        try cluster.settle { $0.to.rawValue > 3 }
        XCTAssertEqual(cluster[1].configuration.learners, [4])
        let entries = try cluster.storages[0].entries(from: 4, to: 6, byteCountMax: .max)
        XCTAssertEqual(entries.map(\.kind), [.confChangeV2, .normal])
    }

    func testChangesThatCannotBeMadeBecomeEmptyEntries() throws {
        let cluster = try SmallCluster(1)
        try cluster.elect(1)
        for refused in [change(.auto, (.remove, 1)), ConfChange(), change(.jointExplicit, (.remove, 1))] {
            try cluster[1].proposeConfChange(refused)
            try cluster.settle()
            XCTAssertEqual(cluster[1].configuration, ConfState(voters: [1]))
            let last = try cluster.storages[0].entries(
                from: cluster[1].lastIndex, to: cluster[1].lastIndex + 1, byteCountMax: .max)
            XCTAssertEqual(last.map(\.kind), [.normal])
        }
        // One that came through all the same changes nothing.
        XCTAssertEqual(cluster[1].applyConfChange(change(.auto, (.remove, 1))), ConfState(voters: [1]))
    }

    func testAutomaticLeave() throws {
        let cluster = try SmallCluster(4, learners: [4])
        try cluster.elect(1)
        try cluster[1].proposeConfChange(change(.auto, (.addVoter, 4), (.addLearner, 3)))
        try cluster.settle()
        for id in [1, 2, 3, 4] as [NodeID] {
            XCTAssertEqual(cluster[id].configuration, ConfState(voters: [1, 2, 4], learners: [3]))
        }
    }

    /// A voter that has left the configuration has a longer log than the only voter, which does not know yet that it is
    /// alone.
    func testLoneVoterLearnsThatItIsAlone() throws {
        let cluster = try SmallCluster(2)
        try cluster.elect(2)
        try cluster[2].proposeConfChange(change(.auto, (.addLearner, 1)))
        try cluster.settle()
        XCTAssertEqual(cluster[1].configuration, ConfState(voters: [2], learners: [1]))
        // Node 2 crashes before entry 5 is durable there, and with it the news that entry 4, which made node 1 a
        // learner, is committed. Node 1 has both.
        try cluster[1].step(
            Message(
                kind: .append, to: 1, from: 2, term: 1, logTerm: 1, index: 4,
                entries: [Entry(term: 1, index: 5, data: [1])], commit: 4))
        try cluster.work(1)
        cluster.network = []
        let storage = MemoryStorage()
        try storage.applySnapshot(
            Snapshot(metadata: SnapshotMetadata(index: 2, term: 1, confState: ConfState(voters: [1, 2]))))
        storage.append(try cluster.storages[0].entries(from: 3, to: 5, byteCountMax: .max))
        storage.setHardState(HardState(term: 1, vote: 2, commit: 3))
        try cluster.restart(2, with: storage)
        XCTAssertEqual(cluster[2].lastIndex, 4)
        XCTAssertEqual(cluster[1].lastIndex, 5)
        for _ in 0..<3 {
            try cluster[2].campaign()
            try cluster.settle()
        }
        XCTAssertEqual(cluster[2].role, .leader)
        XCTAssertEqual(cluster[2].configuration, ConfState(voters: [2], learners: [1]))
    }

    /// Of voters 1 and 2 that made node 3 a voter, node 2 is lost. Node 1 has the longest log and has forgotten, in a
    /// restart, that the change is committed: it would ask node 2 alone for ever, and vote for nobody.
    func testVoterLearnsOfANewVoterFromItsRequest() throws {
        for preVote in [false, true] {
            let cluster = try SmallCluster(3, learners: [3]) { $0.preVote = preVote }
            try cluster.elect(2)
            try cluster[2].proposeConfChange(change(.auto, (.addVoter, 3)))
            try cluster.settle()
            XCTAssertEqual(cluster[3].configuration.voters, [1, 2, 3])
            let storage = MemoryStorage()
            let voters = ConfState(voters: [1, 2], learners: [3])
            try storage.applySnapshot(Snapshot(metadata: SnapshotMetadata(index: 2, term: 1, confState: voters)))
            let term = cluster[2].status.hardState.term
            storage.append(try cluster.storages[0].entries(from: 3, to: 5, byteCountMax: .max))
            storage.append([Entry(term: term, index: 5, data: [1])])
            storage.setHardState(HardState(term: term, vote: 2, commit: 3))
            try cluster.restart(1, with: storage)
            XCTAssertEqual(cluster[1].configuration, voters)
            for _ in 0..<2 {
                for id in [3, 1] as [NodeID] {
                    try cluster[id].campaign()
                    try cluster.settle(among: 1, 3)
                }
            }
            XCTAssertEqual(cluster[1].role, .leader)
            XCTAssertEqual(cluster[1].configuration.voters, [1, 2, 3])
        }
    }

    func testRemovedLeaderStepsDownIfAsked() throws {
        for stepsDown in [false, true] {
            let cluster = try SmallCluster(3) { $0.stepDownOnRemoval = stepsDown }
            try cluster.elect(1)
            try cluster[1].proposeConfChange(change(.auto, (.remove, 1)))
            try cluster.settle()
            XCTAssertEqual(cluster[2].configuration.voters, [2, 3])
            XCTAssertEqual(cluster[1].role, stepsDown ? .follower : .leader)
            XCTAssertThrowsError(try cluster[1].propose([1]))
            try cluster[1].campaign()
            XCTAssertNotEqual(cluster[1].role, .candidate)
        }
    }
}
