import DequeModule
import Prelude

@testable import Raft

/// What went wrong with a cluster; the test names the seed beside it.
struct SafetyViolation: Error, CustomStringConvertible {
    var description: String
}

/// Several cores over a network that loses, delays, reorders and duplicates, and that crash at any time, with every
/// choice drawn from a seed. After each step the promises of Raft are checked (Raft Figure 3).
final class RandomCluster {
    struct Faults {
        var lossPercent: UInt64 = 5
        var duplicationPercent: UInt64 = 3
        var crashPerMille: UInt64 = 3
        var changesMembership = false
        var takesSnapshots = true
    }

    final class Member {
        let id: NodeID
        /// All that survives a crash.
        let storage = MemoryStorage()
        var raw: RawNode?
        var appendWork: Deque<Message> = []
        var applyWork: Deque<Message> = []
        var applied: LogIndex = 0
        /// A fingerprint of all that was applied.
        var state: UInt64 = 0
        var confState = ConfState()
        /// By context: what was committed when the read was asked for.
        var reads: [UInt64: LogIndex] = [:]

        init(id: NodeID) { self.id = id }
    }

    private(set) var members: [Member] = []
    private var network: [Message] = []
    var faults: Faults
    private var random: SeededRandom
    private let configure: (inout RaftConfiguration) -> Void
    private var lives: UInt64 = 0
    private var proposals: UInt64 = 0

    // What must never change once it is known.
    private var leaders: [Term: NodeID] = [:]
    private var committed: [LogIndex: Entry] = [:]
    private var states: [LogIndex: UInt64] = [:]
    private(set) var highestCommitted: LogIndex = 1
    private(set) var answeredReadCount = 0

    init(
        seed: UInt64, voters: Int, spare: Int = 0, faults: Faults = Faults(),
        configure: @escaping (inout RaftConfiguration) -> Void = { _ in }
    ) throws {
        random = SeededRandom(seed: seed)
        self.faults = faults
        self.configure = configure
        let ids = (1...UInt64(voters)).map { NodeID($0) }
        let start = Snapshot(
            metadata: SnapshotMetadata(index: 1, term: 1, confState: ConfState(voters: ids)), data: Member.encode(0))
        for number in 1...UInt64(voters + spare) {
            let member = Member(id: NodeID(number))
            if number <= UInt64(voters) { try member.storage.applySnapshot(start) }
            members.append(member)
            try restart(member)
        }
    }

    // MARK: Steps

    func chance(_ count: UInt64, in total: UInt64) -> Bool { random.next() % total < count }

    func pick<Element>(_ elements: [Element]) -> Element { elements[Int(random.next() % UInt64(elements.count))] }

    /// One random event, and the checks after it.
    func step() throws {
        let member = pick(members)
        if chance(faults.crashPerMille, in: 1000) { return try crash(member) }
        switch random.next() % 100 {
        case 0..<50: try deliver(at: Int(random.next() % UInt64(max(1, network.count))))
        case 50..<58: member.raw?.tick()
        case 58..<64: propose(at: member)
        case 64..<66: read(at: member)
        case 66..<67: occasional(at: member)
        default: try work(member)
        }
        try check(member)
    }

    private func occasional(at member: Member) {
        guard let raw = member.raw else { return }
        switch random.next() % 8 {
        case 0: try? raw.campaign()
        case 1: raw.transferLeadership(to: pick(members).id)
        case 2: raw.reportUnreachable(pick(members).id)
        case 3: raw.reportSnapshot(pick(members).id, succeeded: chance(1, in: 2))
        case 4: try? raw.forgetLeader()
        case 5 where faults.takesSnapshots: compact(member)
        case 6, 7: if faults.changesMembership { changeMembership(at: raw) }
        default: break
        }
    }

    private func propose(at member: Member) {
        proposals += 1
        var writer = ByteWriter(capacity: 8)
        writer.append(fixed: proposals)
        try? member.raw?.propose(writer.bytes)
    }

    private func read(at member: Member) {
        proposals += 1
        var writer = ByteWriter(capacity: 8)
        writer.append(fixed: proposals)
        member.reads[proposals] = highestCommitted
        member.raw?.readIndex(context: writer.bytes)
    }

    private func changeMembership(at raw: RawNode) {
        if raw.configuration.isJoint && !raw.configuration.autoLeave && chance(1, in: 2) {
            try? raw.proposeConfChange(ConfChange())
            return
        }
        let kinds: [ConfChangeSingle.Kind] = [.addVoter, .addVoter, .remove, .addLearner]
        let changes = (0...random.next() % 2).map { _ in ConfChangeSingle(kind: pick(kinds), node: pick(members).id) }
        try? raw.proposeConfChange(
            ConfChange(transition: pick([.auto, .jointImplicit, .jointExplicit]), changes: changes))
    }

    private func deliver(at place: Int) throws {
        guard place < network.count else { return }
        let message = network[place]
        if !chance(faults.duplicationPercent, in: 100) {
            network.swapAt(place, network.count - 1)
            network.removeLast()
        }
        if chance(faults.lossPercent, in: 100) { return lose(message) }
        let member = members[Int(message.to.rawValue) - 1]
        try accept { try member.raw?.stepFromPeer(message) }
        try check(member)
    }

    /// The transport reports the loss of snapshots, and sometimes that of others.
    private func lose(_ message: Message) {
        let sender = members[Int(message.from.rawValue) - 1].raw
        if message.kind == .snapshot { sender?.reportSnapshot(message.to, succeeded: false) }
        if chance(1, in: 10) { sender?.reportUnreachable(message.to) }
    }

    /// Refusals are part of the game, but for those that say that a log is broken.
    private func accept(_ body: () throws -> Void) throws {
        do {
            try body()
        } catch let error as RaftError {
            switch error {
            case .logDiverged, .malformedMessage: throw SafetyViolation(description: "\(error)")
            case .proposalDropped, .localMessage, .unknownPeer, .invalidConfiguration: break
            }
        }
    }

    // MARK: Work of one member

    private func work(_ member: Member) throws {
        guard let raw = member.raw else { return try restart(member) }
        if raw.hasReady && chance(1, in: 2) { return try handle(raw.ready(), of: member, raw) }
        if let message = member.appendWork.first, chance(1, in: 2) {
            member.appendWork.removeFirst()
            try store(
                message.hardState.isEmpty ? nil : message.hardState, message.snapshot, message.entries, member)
            try respond(message.responses, member)
        } else if let message = member.applyWork.popFirst() {
            try apply(message.entries, member)
            try respond(message.responses, member)
        }
    }

    private func handle(_ ready: Ready, of member: Member, _ raw: RawNode) throws {
        for read in ready.readStates { try checkRead(read, member) }
        let isAsync = raw.core.configuration.asyncStorageWrites
        if !isAsync {
            try store(ready.hardState, ready.snapshot, ready.entries, member)
            try apply(ready.committedEntries, member)
        }
        for message in ready.messages {
            switch message.to {
            case .localAppendThread: member.appendWork.append(message)
            case .localApplyThread: member.applyWork.append(message)
            default: network.append(message)
            }
        }
        if !isAsync { raw.advance() }
        // What is lost under way is lost; this only keeps the memory of a slow network small.
        if network.count > 2000 { network.removeFirst(1000) }
    }

    private func respond(_ responses: [Message], _ member: Member) throws {
        for response in responses {
            if response.to == member.id {
                try accept { try member.raw?.step(response) }
            } else {
                network.append(response)
            }
        }
    }

    private func store(_ hardState: HardState?, _ snapshot: Snapshot?, _ entries: [Entry], _ member: Member) throws {
        if let snapshot {
            try member.storage.applySnapshot(snapshot)
            try member.load(snapshot)
            try checkState(member)
            if let configuration = member.raw?.configuration, !configuration.describesSame(as: member.confState) {
                throw SafetyViolation(
                    description: "\(member.id) restored \(member.confState), but acts on \(configuration)")
            }
        }
        member.storage.append(entries)
        if let hardState { member.storage.setHardState(hardState) }
    }

    private func apply(_ entries: [Entry], _ member: Member) throws {
        for entry in entries where entry.index > member.applied {
            guard entry.index == member.applied + 1 else {
                throw SafetyViolation(description: "\(member.id) applies \(entry.index) after \(member.applied)")
            }
            if let known = committed[entry.index], known != entry {
                throw SafetyViolation(description: "\(member.id) applies \(entry), but \(known) is committed")
            }
            committed[entry.index] = entry
            highestCommitted = max(highestCommitted, entry.index)
            member.apply(entry)
            try checkState(member)
            if entry.kind.isConfChange { snapshot(member) }
        }
    }

    private func snapshot(_ member: Member) {
        guard member.applied >= member.storage.firstIndex, member.applied <= member.storage.lastIndex else { return }
        _ = try? member.storage.createSnapshot(
            at: member.applied, confState: member.confState, data: Member.encode(member.state))
    }

    private func compact(_ member: Member) {
        snapshot(member)
        guard (try? member.storage.snapshot().metadata.index) == member.applied else { return }
        let kept = random.next() % 4
        if member.applied.rawValue > kept { try? member.storage.compact(to: member.applied - kept) }
    }

    // MARK: Crashes

    private func crash(_ member: Member) throws {
        member.raw = nil
        member.appendWork.removeAll()
        member.applyWork.removeAll()
        member.reads.removeAll()
        if chance(1, in: 2) { try restart(member) }
    }

    private func restart(_ member: Member) throws {
        lives += 1
        // What is applied is in memory, so the state machine begins anew at the snapshot.
        let snapshot = try member.storage.snapshot()
        try member.load(snapshot)
        var configuration = RaftConfiguration(
            id: member.id, electionTicks: 10, heartbeatTicks: 1, random: SeededRandom(seed: random.next() ^ lives))
        configure(&configuration)
        configuration.applied = member.applied
        member.raw = try RawNode(configuration, storage: member.storage)
    }

    // MARK: Checks

    private func check(_ member: Member) throws {
        guard let raw = member.raw, raw.role == .leader else { return }
        if let other = leaders[raw.term] {
            if other != member.id {
                throw SafetyViolation(description: "\(other) and \(member.id) both lead term \(raw.term)")
            }
            return
        }
        leaders[raw.term] = member.id
        // Leader completeness: all that was committed before is in its log.
        for (index, entry) in committed where index >= raw.core.log.firstIndex {
            let term = raw.core.log.termOrZero(at: index)
            if term != entry.term {
                throw SafetyViolation(
                    description: "\(member.id) leads term \(raw.term) without \(entry.term)/\(index), it has \(term)")
            }
        }
    }

    private func checkState(_ member: Member) throws {
        if let known = states[member.applied], known != member.state {
            throw SafetyViolation(description: "\(member.id) has another state at \(member.applied) than others had")
        }
        states[member.applied] = member.state
    }

    private func checkRead(_ read: ReadState, _ member: Member) throws {
        var reader = ByteReader(read.context)
        guard let asked = member.reads[try reader.fixed64()] else { return }
        answeredReadCount += 1
        if read.index < asked {
            throw SafetyViolation(
                description: "\(member.id) may read at \(read.index), when asked \(asked) was committed")
        }
    }

    /// Log matching: two logs that agree on an entry agree on all before it.
    func checkLogsMatch() throws {
        for one in members {
            for other in members where other.id > one.id {
                let first = max(one.storage.firstIndex, other.storage.firstIndex)
                let last = min(one.storage.lastIndex, other.storage.lastIndex)
                guard first <= last else { continue }
                let left = try one.storage.entries(from: first, to: last + 1, byteCountMax: .max)
                let right = try other.storage.entries(from: first, to: last + 1, byteCountMax: .max)
                guard let agreed = left.indices.last(where: { left[$0].term == right[$0].term }) else { continue }
                if left[...agreed] != right[...agreed] {
                    throw SafetyViolation(description: "the logs of \(one.id) and \(other.id) do not match")
                }
            }
        }
    }

    // MARK: Healing

    /// Without faults, until all voters have applied one more entry. Throws when that does not come about.
    func heal() throws {
        let before = faults
        faults = Faults(lossPercent: 0, duplicationPercent: 0, crashPerMille: 0, takesSnapshots: false)
        defer { faults = before }
        for member in members where member.raw == nil { try restart(member) }
        var marker: LogPosition?
        for round in 0..<4000 {
            for member in members { try settle(member) }
            let pending = network
            network = []
            for message in pending {
                let member = members[Int(message.to.rawValue) - 1]
                try accept { try member.raw?.stepFromPeer(message) }
                try check(member)
            }
            if pending.isEmpty || round % 5 == 0 { for member in members { member.raw?.tick() } }
            guard let leader = members.first(where: { isSettledLeader($0) }) else { continue }
            if round % 50 == 0 { reportLostSnapshots(of: leader) }
            guard let raw = leader.raw else { continue }
            // A later leader may have lost the entry; then another is needed.
            if marker.map({ !raw.core.log.matches($0) }) ?? true {
                let before = raw.lastIndex
                propose(at: leader)
                marker = raw.lastIndex > before ? raw.core.log.lastPosition : nil
            }
            guard let marker else { continue }
            let voters = leader.confState.voters.map { members[Int($0.rawValue) - 1] }
            if voters.allSatisfy({ $0.applied >= marker.index }) { return }
        }
        throw SafetyViolation(description: "no progress although all faults are gone: \(summary)")
    }

    /// Those that a crash has lost.
    private func reportLostSnapshots(of leader: Member) {
        for peer in leader.raw?.status.progress ?? [] where peer.state == .snapshot {
            leader.raw?.reportSnapshot(peer.id, succeeded: false)
        }
    }

    private func isSettledLeader(_ member: Member) -> Bool {
        guard let raw = member.raw, raw.role == .leader else { return false }
        let highest = members.compactMap { $0.raw?.role == .leader ? $0.raw?.term : nil }.max()
        return raw.term == highest
    }

    private func settle(_ member: Member) throws {
        guard let raw = member.raw else { return }
        while raw.hasReady || !member.appendWork.isEmpty || !member.applyWork.isEmpty { try work(member) }
    }

    private var summary: String {
        members.map { member in
            guard let raw = member.raw else { return "\(member.id) down" }
            return "\(member.id) \(raw.role) term \(raw.term) leader \(raw.leader) commit \(raw.commitIndex)"
                + " last \(raw.lastIndex) applied \(raw.appliedIndex) \(raw.configuration)"
        }.joined(separator: "; ")
    }
}

extension RandomCluster.Member {
    static func encode(_ state: UInt64) -> [UInt8] {
        var writer = ByteWriter(capacity: 8)
        writer.append(fixed: state)
        return writer.bytes
    }

    func load(_ snapshot: Snapshot) throws {
        applied = snapshot.metadata.index
        confState = snapshot.metadata.confState
        var reader = ByteReader(snapshot.data)
        state = snapshot.data.isEmpty ? 0 : try reader.fixed64()
    }

    func apply(_ entry: Entry) {
        applied = entry.index
        var mixer = SeededRandom(seed: state ^ entry.term.rawValue)
        for byte in entry.data { mixer = SeededRandom(seed: mixer.next() ^ UInt64(byte)) }
        state = mixer.next()
        if entry.kind.isConfChange, let raw, let change = try? ConfChange(decoding: entry.data) {
            confState = raw.applyConfChange(change)
        }
    }
}
