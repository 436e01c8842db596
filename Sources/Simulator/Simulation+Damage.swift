@_spi(Simulation) import Node
import Prelude
import Storage
import Wire

/// One machine on whose disk a byte has flipped. At most one at a time, so that never more than a minority is damaged.
struct Damage {
    let member: SimulatedMember
    let id: NodeID
    private(set) var path: String
    /// The block of the file that has the flipped byte, as it was left.
    let block: [UInt8]
    let blockOffset: Int
    /// Whether the operator has the machine fetch its data again, or takes another one.
    let isRepaired: Bool
    var phase = Phase.hidden

    init(of member: SimulatedMember, id: NodeID, path: String, offset: UInt64, isRepaired: Bool) {
        self.member = member
        self.id = id
        self.path = path
        self.isRepaired = isRepaired
        blockOffset = Int(offset) / Self.blockByteCount * Self.blockByteCount
        block = Self.block(of: path, at: blockOffset, on: member)
    }

    /// Of a state store's pages, which are written as a whole.
    private static let blockByteCount = 4096

    private static func block(of path: String, at offset: Int, on member: SimulatedMember) -> [UInt8] {
        Array(member.disk.contents(path)?.dropFirst(offset).prefix(blockByteCount) ?? [])
    }

    /// The file may have another name by now: an image of a state that has become the store.
    mutating func follow() {
        guard member.disk.contents(path) == nil, !block.isEmpty else { return }
        let moved = member.disk.paths.first { Self.block(of: $0, at: blockOffset, on: member) == block }
        if let moved { path = moved }
    }

    /// A start reads only what it needs of a state store: it may have passed the byte over. Everything else is read in
    /// full.
    var isUnread: Bool {
        path.hasSuffix(StateStore.suffix) && Self.block(of: path, at: blockOffset, on: member) == block
    }

    enum Phase {
        /// The node has not been started since.
        case hidden
        /// It has been started since and did not read the byte.
        case latent
        /// It refused to start, and is started with `--repair-from-peers` until it serves under another id.
        case repairing
        /// Its data is given up, and another machine takes its place, or it itself under another id.
        case replacing(by: SimulatedMember?, askedAt: Nanoseconds)
    }
}

extension Simulation {
    /// A byte of what the victim has made durable is another one from now on. The machine is started again a little later,
    /// when it is still up then. Starting has to show the damage, or that it does no harm.
    func flipByte(of victim: SimulatedMember, _ fault: Fault, _ choice: inout SeededRandom) {
        guard damage == nil, leaving == nil, victim.state == .running, let node = victim.node,
            node.observedGroups.allSatisfy({ $0.configuration.voters.count >= 3 }),
            let (path, offset) = pickByte(on: victim, &choice)
        else { return }
        statistics.flippedBytes += 1
        victim.disk.flip(path, at: offset, mask: UInt8(choice.draw(1...255)))
        victim.log.note("byte \(offset) of \(path) flips")
        let losesPower = choice.chance(perMille: 500)
        damage = Damage(
            of: victim, id: node.id, path: path, offset: offset, isRepaired: choice.chance(perMille: 500))
        world.schedule(after: min(fault.duration, .seconds(5))) { [unowned self] in
            guard let damage, damage.member === victim, case .hidden = damage.phase else { return }
            victim.end(silently: false, losesUnsynced: losesPower)
            startLater(victim)
        }
    }

    /// Not among the newest bytes of the log: damage to the last batch looks like a write that a crash cut short.
    private func pickByte(on victim: SimulatedMember, _ choice: inout SeededRandom) -> (path: String, offset: UInt64)? {
        let newestSegment = victim.disk.paths.last { $0.hasSuffix(".log") && hasContent(victim, $0) }
        let bytes = victim.disk.paths.compactMap { path -> (String, Int)? in
            guard let contents = victim.disk.contents(path), let last = contents.lastIndex(where: { $0 != 0 }) else {
                return nil
            }
            let end = path == newestSegment ? last - Self.newestByteCount : last
            return end > 0 ? (path, end) : nil
        }
        guard let (path, end) = choice.pick(bytes) else { return nil }
        return (path, UInt64(choice.draw(0...end)))
    }

    private static let newestByteCount = 8 << 10

    private func hasContent(_ member: SimulatedMember, _ path: String) -> Bool {
        member.disk.contents(path)?.contains { $0 != 0 } == true
    }

    /// True when the error tells of the byte that has flipped: the machine is lost.
    func isExpected(_ error: StorageError, of member: SimulatedMember) -> Bool {
        damage?.follow()
        guard let damage, damage.member === member else { return false }
        switch error {
        case .damaged(let file, _, _), .newerVersion(let file, _, _): return file == damage.path
        default: return false
        }
    }

    /// The node does not start from what it has. Its operator has it fetch its data again, or takes another machine: always
    /// when the byte looks like that of a later version, which is no damage that a node would drop data for.
    func giveUp(_ member: SimulatedMember, _ error: StorageError) {
        guard let damage, damage.member === member else { return }
        if case .damaged = error, damage.isRepaired {
            member.log.note("is to fetch its data again")
            member.forgetID()
            self.damage?.phase = .repairing
            return
        }
        statistics.replacedMachines += 1
        member.log.note("its data is given up")
        member.forgetCluster()
        self.damage?.phase = .replacing(by: nil, askedAt: 0)
    }

    /// Whether the machine is to be started with `--repair-from-peers`.
    func isRepairing(_ member: SimulatedMember) -> Bool {
        guard let damage, damage.member === member, case .repairing = damage.phase else { return false }
        return true
    }

    /// The machine serves again, as another member.
    func startedRepaired(_ member: SimulatedMember) {
        guard isRepairing(member) else { return }
        statistics.repairedMachines += 1
        damage?.phase = .replacing(by: member, askedAt: world.now)
    }

    /// The flipped byte is of no consequence: nothing reads it any more.
    func startedUnharmed(_ member: SimulatedMember) {
        damage?.follow()
        guard let damage, damage.member === member, case .hidden = damage.phase else { return }
        if damage.isUnread {
            self.damage?.phase = .latent
        } else {
            member.log.note("is unharmed")
            self.damage = nil
        }
    }

    /// A damaged page that was not read may be written anew.
    private func forgetOverwritten() {
        guard let damage, case .latent = damage.phase, !damage.isUnread else { return }
        self.damage = nil
    }

    /// Nobody has to do anything about damage, now.
    var isDamageDealtWith: Bool {
        guard let damage, case .latent = damage.phase else { return self.damage == nil }
        return true
    }

    /// What operators do about data that is lost: add another machine, and remove the old node until nobody counts it.
    func replaceDamaged() {
        forgetOverwritten()
        guard let damage, case .replacing(let known, let askedAt) = damage.phase else { return }
        let replacement = known ?? addMember()
        if known == nil { replacement.start() }
        let running = members.filter { $0.state == .running && $0.node != nil }
        // Those that are down may still count it: a majority has to know that it is out, the replacement among them.
        let present = members.filter { $0.state != .removed && $0.state != .empty }
        let knowing = present.filter { member in
            guard let node = member.node else { return false }
            return node.goesOnWithout(damage.id)
        }
        if knowing.contains(where: { $0 === replacement }), 2 * knowing.count > present.count {
            self.damage = nil
            return
        }
        var asked = askedAt
        if world.now > askedAt + .seconds(5), let helper = random.pick(running.filter { $0 !== replacement }) {
            helper.log.note("is asked to remove node \(damage.id), whose data is lost")
            operate(on: helper, ClusterServicePath.remove, RemoveRequest(nodeID: damage.id), RemoveResponse.self)
            asked = world.now
        }
        self.damage?.phase = .replacing(by: replacement, askedAt: asked)
    }
}

extension Node {
    /// It is a member of every group itself, and none of them counts `id` any more. A node that has not heard of a group
    /// yet knows nothing of whom it counts.
    func goesOnWithout(_ id: NodeID) -> Bool {
        !observedMembers.contains(id) && observedMembers.contains(self.id)
            && observedGroups.allSatisfy { $0.configuration.contains(self.id) && !$0.configuration.contains(id) }
    }
}
