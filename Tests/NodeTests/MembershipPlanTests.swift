import Prelude
import Raft
import XCTest

@testable import Node

final class MembershipPlanTests: XCTestCase {
    private func plan(
        voters: [NodeID], learners: [NodeID] = [], removed: Set<NodeID> = [], dead: Set<NodeID> = [],
        joining: Set<NodeID> = [], leader: NodeID = 1, voterCountMax: Int = 5
    ) -> MembershipPlan.Step {
        let all = Set(voters + learners)
        let plan = MembershipPlan(
            leader: leader, wanted: all.union(joining).subtracting(removed), removed: removed,
            configuration: ConfState(voters: voters, learners: learners), fresh: all.subtracting(dead),
            caughtUp: all.subtracting(dead), longSilent: dead, voterCountMax: voterCountMax)
        XCTAssertTrue(plan.next == .none || !isSettled(plan))
        return plan.next
    }

    private func isSettled(_ plan: MembershipPlan) -> Bool {
        MembershipPlan.isSettled(
            plan.configuration, leader: plan.leader, wanted: plan.wanted.sorted(), removed: plan.removed.sorted())
    }

    private func change(_ kind: ConfChangeSingle.Kind, _ node: NodeID) -> ConfChangeSingle {
        ConfChangeSingle(kind: kind, node: node)
    }

    func test_whoComesIsALearnerAndThenAVoter() {
        XCTAssertEqual(plan(voters: [1], joining: [2]), .change([change(.addLearner, 2)]))
        XCTAssertEqual(plan(voters: [1], learners: [2]), .change([change(.addVoter, 2)]))
        XCTAssertEqual(plan(voters: [1], learners: [2], dead: [2]), .none)
        XCTAssertEqual(plan(voters: [1, 2, 3, 4, 5], learners: [6]), .none)
    }

    func test_aLearnerTakesThePlaceOfWhoGoesInOneStep() {
        XCTAssertEqual(
            plan(voters: [1, 2, 3, 4, 5], learners: [6], removed: [5]),
            .change([change(.remove, 5), change(.addVoter, 6)]))
        XCTAssertEqual(plan(voters: [1, 2, 3], removed: [3], dead: [3]), .change([change(.remove, 3)]))
    }

    func test_nobodyGoesOnWhomTheQuorumDepends() {
        XCTAssertEqual(plan(voters: [1, 2, 3], removed: [3], dead: [2]), .none)
        XCTAssertEqual(plan(voters: [1, 2, 3], removed: [2, 3], dead: [2]), .change([change(.remove, 2)]))
        // With a learner there are two of two.
        XCTAssertEqual(
            plan(voters: [1, 2, 3], learners: [4], removed: [3], dead: [2]),
            .change([change(.remove, 3), change(.addVoter, 4)]))
    }

    func test_aLeaderThatGoesHandsOver() {
        XCTAssertEqual(plan(voters: [1, 2], removed: [1]), .handOver(to: 2))
        XCTAssertEqual(plan(voters: [1, 2, 3], removed: [1], dead: [2]), .handOver(to: 3))
        XCTAssertEqual(plan(voters: [1], learners: [2], removed: [1]), .change([change(.addVoter, 2)]))
        XCTAssertEqual(plan(voters: [1], removed: [1]), .none)
    }

    func test_aVoterThatIsSilentForLongGivesItsPlaceToALearner() {
        XCTAssertEqual(
            plan(voters: [1, 2, 3], learners: [4], dead: [3], voterCountMax: 3),
            .change([change(.addLearner, 3), change(.addVoter, 4)]))
        XCTAssertEqual(plan(voters: [1, 2, 3], dead: [3], voterCountMax: 3), .none)
    }

    func test_nothingIsBegunInAJointConfiguration() {
        var plan = MembershipPlan(
            leader: 1, wanted: [1, 2], removed: [3], configuration: ConfState(voters: [1, 2]), fresh: [1, 2],
            caughtUp: [1, 2], longSilent: [], voterCountMax: 5)
        plan.configuration.votersOutgoing = [1, 3]
        XCTAssertEqual(plan.next, .none)
    }

    func test_aRemovalIsForecastFromWhoLives() {
        let configuration = ConfState(voters: [1, 2, 3])
        func keeps(_ node: NodeID, removed: Set<NodeID> = [], living: Set<NodeID>) -> Bool {
            RemovalForecast(configuration, removing: node, removed: removed, isFresh: living.contains).keepsQuorum
        }
        XCTAssertTrue(keeps(3, living: [1, 2, 3]))
        XCTAssertTrue(keeps(3, living: [1, 2]))
        XCTAssertFalse(keeps(3, living: [1, 3]))
        XCTAssertFalse(keeps(3, removed: [2], living: [2, 3]))
        XCTAssertTrue(keeps(1, removed: [2, 3], living: [1]))
    }

    /// From any state in which a group can commit, with leaders that change at any moment and with members that die and
    /// return on the way, every group comes to what the directory wants; a majority of its voters lives at every step.
    func test_everyGroupConvergesWhoeverLeads() {
        for seed in 0..<300 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            var world = PlannedWorld(&random)
            world.live(steps: 40, &random)
            XCTAssertEqual(world.unsafeStepCount, 0, "seed \(seed)")
            // Now nobody dies or returns any more.
            world.settle(&random)
            XCTAssertEqual(world.unmetWishes, [], "seed \(seed): \(world)")
        }
    }
}

/// Two groups with one directory, without a log: what a leader plans is done at once, or lost.
private struct PlannedWorld {
    var groups: [ConfState]
    var wanted: Set<NodeID>
    var removed: Set<NodeID> = []
    var dead: Set<NodeID> = []
    var voterCountMax: Int
    var unsafeStepCount = 0
    private var nextID: NodeID

    init(_ random: inout SeededRandom) {
        voterCountMax = Int.random(in: 1...5, using: &random)
        let count = UInt64.random(in: 1...7, using: &random)
        let ids = (1...count).map { NodeID($0) }
        wanted = Set(ids)
        nextID = NodeID(count + 1)
        var draw = random
        let most = voterCountMax
        // A node may be a voter of one group, and a learner or nothing in the other.
        groups = (0..<2).map { _ in
            let shuffled = ids.shuffled(using: &draw)
            let voters = Int.random(in: 1...min(most, ids.count), using: &draw)
            let known = Int.random(in: voters...ids.count, using: &draw)
            return ConfState(voters: Array(shuffled[..<voters]), learners: Array(shuffled[voters..<known]))
        }
        random = draw
    }

    private func canCommit(_ configuration: ConfState, without more: NodeID? = nil) -> Bool {
        let living = configuration.voters.count { !dead.contains($0) && $0 != more }
        return 2 * living > configuration.voters.count
    }

    mutating func live(steps: Int, _ random: inout SeededRandom) {
        for _ in 0..<steps {
            switch Int.random(in: 0..<8, using: &random) {
            case 0:
                // Who dies leaves every group with a quorum: what has none is not for a plan to mend.
                if let victim = wanted.union(removed).sorted().randomElement(using: &random),
                    groups.allSatisfy({ canCommit($0, without: victim) })
                {
                    dead.insert(victim)
                }
            case 1: if let riser = dead.sorted().randomElement(using: &random) { dead.remove(riser) }
            case 2 where wanted.count > 1:
                if let leaver = wanted.sorted().randomElement(using: &random) {
                    wanted.remove(leaver)
                    removed.insert(leaver)
                }
            case 3 where wanted.count < 9:
                wanted.insert(nextID)
                nextID = NodeID(nextID.rawValue + 1)
            default: step(isLost: Bool.random(using: &random), &random)
            }
        }
    }

    mutating func settle(_ random: inout SeededRandom) {
        for _ in 0..<150 { step(isLost: Int.random(in: 0..<4, using: &random) == 0, &random) }
    }

    /// Any living voter may be the leader of this moment.
    private mutating func step(isLost: Bool, _ random: inout SeededRandom) {
        for place in groups.indices {
            let living = groups[place].voters.sorted().filter { !dead.contains($0) }
            guard canCommit(groups[place]), var leader = living.randomElement(using: &random) else { continue }
            if case .handOver(let heir) = plan(place, leader: leader).next { leader = heir }
            guard !isLost, case .change(let changes) = plan(place, leader: leader).next else { continue }
            for change in changes { groups[place].make(change) }
            if !canCommit(groups[place]) { unsafeStepCount += 1 }
        }
    }

    private func plan(_ place: Int, leader: NodeID) -> MembershipPlan {
        let members = Set(groups[place].voters + groups[place].learners)
        return MembershipPlan(
            leader: leader, wanted: wanted, removed: removed, configuration: groups[place],
            fresh: members.subtracting(dead), caughtUp: members.subtracting(dead),
            longSilent: members.intersection(dead),
            voterCountMax: voterCountMax)
    }

    /// What the directory wants and a group is not, although it could be.
    var unmetWishes: [String] {
        groups.enumerated().flatMap { place, group -> [String] in
            let members = Set(group.voters + group.learners)
            let staying = group.voters.filter { !removed.contains($0) }
            let livingLearners = group.learners.filter { !dead.contains($0) && !removed.contains($0) }
            let livingWanted = wanted.subtracting(dead)
            var unmet: [String] = []
            if !wanted.isSubset(of: members) { unmet.append("group \(place): somebody is missing") }
            if !dead.isDisjoint(with: removed.intersection(members)) {
                unmet.append("group \(place): a dead one stays")
            }
            if staying.count < voterCountMax, !livingLearners.isEmpty {
                unmet.append("group \(place): a learner waits")
            }
            if livingLearners.contains(where: { _ in staying.contains(where: dead.contains) }),
                staying.count >= voterCountMax
            {
                unmet.append("group \(place): a dead voter keeps its place")
            }
            // Who is removed goes as soon as those that stay have a majority.
            let livingStaying = staying.count { livingWanted.contains($0) }
            if 2 * livingStaying > staying.count, !removed.isDisjoint(with: members) {
                unmet.append("group \(place): a removed one stays")
            }
            return unmet
        }
    }
}

extension ConfState {
    /// As a joint configuration that is left at once would do it.
    fileprivate mutating func make(_ change: ConfChangeSingle) {
        voters.removeAll { $0 == change.node }
        learners.removeAll { $0 == change.node }
        switch change.kind {
        case .addVoter: voters.append(change.node)
        case .addLearner: learners.append(change.node)
        case .remove, .update: break
        }
    }
}
