@_spi(Simulation) import Node
import Prelude
import Wire

extension Simulation {
    func inflict(_ fault: Fault) {
        world.trace(fault.choice, "fault")
        let up = members.filter(\.isUp)
        var choice = SeededRandom(seed: fault.choice)
        guard let victim = choice.pick(up) else { return }
        let other = choice.pick(up.filter { $0 !== victim })
        switch fault.kind {
        case .kill:
            victim.end(silently: false, losesUnsynced: false)
            startAgain(victim, after: fault.duration)
        case .powerLoss:
            victim.end(silently: choice.chance(perMille: 700), losesUnsynced: true)
            startAgain(victim, after: fault.duration)
        case .allLosePower:
            for member in up { member.end(silently: true, losesUnsynced: true) }
            for member in up { startAgain(member, after: fault.duration / 4 + choice.draw(0...1_000_000_000)) }
        case .shutDown: victim.shutDown()
        case .pause:
            victim.pause()
            world.schedule(after: fault.duration) { victim.resume() }
        case .isolate: cut(for: fault.duration, [victim], up.filter { $0 !== victim }, bothWays: true)
        case .split:
            let half = choice.draw(1...max(1, up.count - 1))
            let shuffled = up.shuffled(using: &choice)
            cut(for: fault.duration, Array(shuffled.prefix(half)), Array(shuffled.dropFirst(half)), bothWays: true)
        case .oneWay: if let other { cut(for: fault.duration, [victim], [other], bothWays: false) }
        case .partial: if let other { cut(for: fault.duration, [victim], [other], bothWays: true) }
        case .slowLink:
            guard let other else { return }
            network.slowDown(victim.host, other.host, by: choice.draw(5...500))
            world.schedule(after: fault.duration) { [unowned self] in
                network.slowDown(victim.host, other.host, by: nil)
            }
        case .reset: if let loop = victim.loop { network.resetConnection(of: loop, choice: choice.next()) }
        case .slowDisk:
            let slow = choice.drawLogarithmic(10_000_000...2_000_000_000)
            victim.setWorkLatency(slow / 2...slow)
            world.schedule(after: fault.duration) { [unowned self] in victim.setWorkLatency(profile.workLatency) }
        case .diskFull:
            victim.log.note("disk is full")
            victim.disk.limitCapacity(to: victim.disk.usedByteCount)
            world.schedule(after: fault.duration) { victim.disk.limitCapacity(to: nil) }
        case .diskError:
            victim.log.note("disk fails")
            victim.disk.inject(.at(victim.disk.operationCount + choice.draw(1...20)))
        case .transferLeader: transferLeader(&choice)
        case .addNode: addNode()
        case .removeNode: removeNode(&choice)
        case .flipByte: flipByte(of: victim, fault, &choice)
        case .replaceNode: replaceNode(&choice)
        case .moveNode: moveNode(&choice, after: fault.duration)
        case .depose: deposesUntil = max(deposesUntil, world.now + fault.duration)
        case .clockJump: victim.jumpClock(by: Int64(choice.draw(0...20_000)) - 10_000)
        }
    }

    func startAgain(_ member: SimulatedMember, after delay: Nanoseconds) {
        world.schedule(after: delay) { [unowned self] in
            if member.state == .down, checker.violation == nil { member.start() }
        }
    }

    private func cut(
        for duration: Nanoseconds, _ here: [SimulatedMember], _ there: [SimulatedMember], bothWays: Bool
    ) {
        var directions = here.flatMap { near in there.map { (near.host, $0.host) } }
        if bothWays { directions += directions.map { ($0.1, $0.0) } }
        for member in here { member.log.note("is cut off from \(there.map(\.host).joined(separator: ", "))") }
        for (from, to) in directions { network.block(from, to) }
        world.schedule(after: duration) { [unowned self] in
            for (from, to) in directions { network.unblock(from, to) }
        }
    }

    /// Whoever has just begun to lead is cut off from all others, while its first messages are on their way.
    func depose(_ id: NodeID) {
        guard isRough, world.now < deposesUntil else { return }
        world.schedule(after: random.draw(0...2 * profile.latency.upperBound)) { [unowned self] in
            let up = members.filter(\.isUp)
            guard isRough, let leader = up.first(where: { $0.nodeID == id }) else { return }
            cut(for: .milliseconds(random.draw(500...5_000)), [leader], up.filter { $0 !== leader }, bothWays: true)
        }
    }

    // MARK: - What operators do

    private func transferLeader(_ choice: inout SeededRandom) {
        let running = members.filter { $0.node != nil }
        guard let group = choice.pick([GroupID.directory, .firstWorkflows]),
            let leader = running.first(where: { leads($0, group) }), let heir = choice.pick(running)?.nodeID
        else { return }
        leader.log.note("is asked to hand group \(group) to node \(heir)")
        let request = TransferLeaderRequest(groupID: group, nodeID: heir)
        operate(on: leader, ClusterServicePath.transferLeader, request, TransferLeaderResponse.self)
    }

    private func leads(_ member: SimulatedMember, _ group: GroupID) -> Bool {
        member.node?.observedGroups.contains { $0.id == group && $0.role == .leader } == true
    }

    private func addNode() {
        guard options.isStorm ? canGrow : members.count < options.nodeCount + 3 else { return }
        addMember().start()
    }

    /// Leaves at least three: with fewer, one crash would stop everything.
    private func removeNode(_ choice: inout SeededRandom) {
        let present = members.filter { $0.nodeID != nil && $0.state != .removed }
        guard present.count > 3, leaving == nil, damage == nil, let leaver = choice.pick(present),
            let id = leaver.nodeID,
            let asked = choice.pick(present.filter { $0 !== leaver && $0.state == .running })
        else { return }
        asked.log.note("is asked to remove node \(id)")
        operate(on: asked, ClusterServicePath.remove, RemoveRequest(nodeID: id), RemoveResponse.self)
        leaving = (leaver, world.now)
        if options.isStorm { keepAskingToRemove(leaver) }
    }

    /// Whoever removes a machine switches it off once the cluster has taken note: a node that was down, or cut off, when
    /// it was removed does not hear of it.
    func switchOffRemoved() {
        guard let (member, since) = leaving, let id = member.nodeID else { return }
        let present = members.filter { $0.state != .removed && $0.state != .empty }
        let others = present.filter { $0 !== member }
        let knowing = others.filter { other in
            guard let node = other.node else { return false }
            // A group that still counts the leaver would lose its vote for ever.
            return node.goesOnWithout(id)
        }
        if member.state == .removed {
            leaving = nil
        } else if 2 * knowing.count > others.count, world.now > since + .seconds(5) {
            member.end(silently: false, losesUnsynced: false)
            member.forgetCluster()
            leaving = nil
        } else if !options.isStorm, knowing.isEmpty, world.now > since + .seconds(60),
            present.allSatisfy({ $0.node != nil })
        {
            leaving = nil
        }
    }

    /// Asks once, from a machine of the operator's; whatever the answer.
    func operate<Request: WireMessage, Response: WireMessage>(
        on member: SimulatedMember, _ path: String, _ request: Request, _ type: Response.Type
    ) {
        operators.call(member.address, path, request, type)
    }
}

/// The machine that operators sit at.
final class OperatorMachine {
    private let loop: SimulatedLoop
    private let seams: Seams
    private var random: SeededRandom

    init(_ simulation: Simulation) {
        random = simulation.world.random("operators")
        loop = SimulatedLoop(world: simulation.world, host: "ops")
        let interface = simulation.network.interface(of: loop)
        seams = loop.seams(
            network: interface, disk: MachineDisk(.init(), liesAboutSync: false), randomSeed: random.next())
    }

    func call<Request: WireMessage, Response: WireMessage>(
        _ target: HostPort, _ path: String, _ request: Request, _ type: Response.Type
    ) {
        loop.deliver { [self] in
            let client = NodeClient(
                seams: seams, limits: WireLimits(), target: target, random: SeededRandom(seed: random.next()))
            client.call(path, request, type, timeout: .seconds(5)) { _ in client.close() }
        }
    }
}
