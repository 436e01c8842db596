@_spi(Simulation) import Node
import Prelude
import Raft
import Wire

// A membership storm: nodes come, go, are lost and replaced, move, and hand over, while machines crash and clients write.
// Operators do what operators may: they begin the next removal when the last one is done, take no machine away that a
// group cannot do without, and ask again when they got no answer.

extension FaultProfile {
    static func storm(drawnFrom random: inout SeededRandom) -> FaultProfile {
        var profile = FaultProfile(drawnFrom: &random)
        profile.weights = [
            .addNode: 6, .removeNode: 6, .replaceNode: 6, .moveNode: 4, .transferLeader: 4, .kill: 3, .powerLoss: 2,
            .shutDown: 2, .pause: 2, .reset: 2, .isolate: 1, .partial: 1, .allLosePower: 1,
        ]
        for kind in profile.weights.keys.sorted(by: { $0.rawValue < $1.rawValue }) where random.chance(perMille: 200) {
            profile.weights[kind] = 0
        }
        profile.pauseMillisecondsMean = random.drawLogarithmic(500...4_000)
        return profile
    }
}

extension Simulation {
    private static let memberCountMax = 24
    private static let presentCountMax = 8
    /// Between two requests of an operator who got no answer, or none that helps.
    private static let askPause = Nanoseconds.seconds(5)

    private var present: [SimulatedMember] { members.filter { $0.state != .removed && !$0.isLost } }

    var canGrow: Bool { members.count < Self.memberCountMax && present.count < Self.presentCountMax }

    /// A machine is lost, a fresh one joins, and the lost one is removed.
    func replaceNode(_ choice: inout SeededRandom) {
        let present = present
        guard canGrow, present.count >= 3, leaving == nil, present.allSatisfy({ $0.state == .running }),
            let victim = choice.pick(present), let id = victim.nodeID, canLose(id, among: present)
        else { return }
        victim.lose()
        addMember().start()
        leaving = (victim, world.now)
        keepAskingToRemove(victim)
    }

    /// In every view of every group the voters that stay are a majority.
    private func canLose(_ id: NodeID, among present: [SimulatedMember]) -> Bool {
        let staying = Set(present.compactMap(\.nodeID)).subtracting([id])
        func isMajority(_ voters: [NodeID]) -> Bool {
            voters.isEmpty || 2 * voters.count(where: staying.contains) > voters.count
        }
        return present.allSatisfy { member in
            guard let node = member.node else { return false }
            return node.observedGroups.allSatisfy { group in
                let configurations = [group.configuration, group.coreConfiguration]
                return group.configuration.voters.count > 0
                    && configurations.allSatisfy { isMajority($0.voters) && isMajority($0.votersOutgoing) }
            }
        }
    }

    func keepAskingToRemove(_ leaver: SimulatedMember) {
        world.schedule(after: Self.askPause) { [unowned self] in
            guard checker.violation == nil, leaving?.member === leaver, let id = leaver.nodeID else { return }
            if let asked = random.pick(present.filter { $0 !== leaver && $0.state == .running }) {
                operate(on: asked, ClusterServicePath.remove, RemoveRequest(nodeID: id), RemoveResponse.self)
            }
            keepAskingToRemove(leaver)
        }
    }

    /// One at a time: nodes that all move while none of them sees another have lost each other.
    func moveNode(_ choice: inout SeededRandom, after delay: Nanoseconds) {
        guard let mover = choice.pick(present.filter { $0.state == .running }), lastMoveIsKnown else { return }
        lastMoved = mover
        mover.move()
        mover.end(silently: false, losesUnsynced: false)
        startAgain(mover, after: delay)
    }

    private var lastMoveIsKnown: Bool {
        guard let mover = lastMoved, mover.state != .removed, !mover.isLost else { return true }
        return present.allSatisfy { member in
            guard let node = member.node, let id = mover.nodeID else { return false }
            return node.status.members.contains { $0.nodeID == id && $0.address == mover.address.description }
        }
    }

    /// Nobody is leaving any more, and every group consists of those that are there, with as many voters as there may be.
    var hasSettled: Bool {
        guard leaving == nil else { return false }
        let there = active.compactMap(\.nodeID).sorted()
        return active.allSatisfy { member in
            guard let node = member.node else { return false }
            return node.observedMembers == there
                && node.observedGroups.allSatisfy { group in
                    let configuration = group.configuration
                    return !configuration.isJoint
                        && (configuration.voters + configuration.learners).sorted() == there
                        && configuration.voters.count == min(there.count, Limits().node.voterCountMax)
                }
        }
    }
}
