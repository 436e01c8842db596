import Prelude
import XCTest

@testable import Raft

/// Whatever a peer sends, a core answers, ignores or refuses it, and lives on.
final class HostileMessageTests: XCTestCase {
    private var random = SeededRandom(seed: 99)

    private func number() -> UInt64 {
        switch random.next() % 12 {
        case 0: .max
        case 1: .max - random.next() % 3
        case 2: 1 << 62
        case 3: (1 << 62) + 1
        case 4: 1 << 63
        default: random.next() % 12
        }
    }

    private func entries() -> [Entry] {
        let start = number()
        let orderly = random.next() % 2 == 0
        return (0..<random.next() % 4).map { place in
            Entry(
                term: Term(random.next() % 2 == 0 ? random.next() % 5 : number()),
                index: LogIndex(orderly ? start &+ place : number()),
                kind: EntryKind(rawValue: UInt8(random.next() % 3)) ?? .normal,
                data: (0..<random.next() % 6).map { _ in UInt8(truncatingIfNeeded: random.next() % 40) })
        }
    }

    private func ids() -> [NodeID] { (0..<random.next() % 4).map { _ in NodeID(random.next() % 5) } }

    private func message() -> Message {
        let kinds = MessageKind.allCases
        var message = Message(
            kind: kinds[Int(random.next() % UInt64(kinds.count))], to: 1, from: NodeID(2 + random.next() % 3),
            term: Term(random.next() % 3 == 0 ? number() : random.next() % 6), logTerm: Term(number()),
            index: LogIndex(number()), entries: entries(), commit: LogIndex(number()), vote: NodeID(number()),
            reject: random.next() % 2 == 0, rejectHint: LogIndex(number()),
            context: (0..<random.next() % 10).map { _ in UInt8(truncatingIfNeeded: random.next()) })
        if message.kind == .append && random.next() % 2 == 0, let first = message.entries.first {
            message.index = LogIndex(first.index.rawValue &- 1)
        }
        if random.next() % 2 == 0 {
            let state = ConfState(
                voters: ids(), learners: ids(), votersOutgoing: ids(), learnersNext: ids(),
                autoLeave: random.next() % 2 == 0)
            message.snapshot = Snapshot(
                metadata: SnapshotMetadata(index: LogIndex(number()), term: Term(number()), confState: state))
        }
        return message
    }

    func testRandomMessages() throws {
        for round in 0..<1500 {
            let cluster = try SmallCluster(3, logs: [1: [(1, 4)]]) {
                $0.asyncStorageWrites = round % 2 == 0
                $0.preVote = round % 3 == 0
                $0.checkQuorum = round % 5 == 0
                $0.inflightMessageCountMax = 3
            }
            switch round % 3 {
            case 0: try cluster.elect(1)
            case 1: try cluster[1].campaign()
            default: break
            }
            for _ in 0..<30 {
                try? cluster[1].stepFromPeer(message())
                if random.next() % 4 == 0 { cluster[1].tick() }
                if random.next() % 4 == 0 { try? cluster[1].propose([1]) }
                if random.next() % 3 == 0 { try cluster.work(1) }
                XCTAssertLessThanOrEqual(cluster[1].appliedIndex, cluster[1].commitIndex)
                XCTAssertLessThanOrEqual(cluster[1].commitIndex, cluster[1].lastIndex)
            }
        }
    }

    func testPreVoteIsRefusedBeforeTheFirstTerm() throws {
        let storage = MemoryStorage()
        let metadata = SnapshotMetadata(index: 2, term: 1, confState: ConfState(voters: [1, 2, 3]))
        try storage.applySnapshot(Snapshot(metadata: metadata))
        var configuration = RaftConfiguration(id: 1, random: SeededRandom(seed: 1))
        configuration.applied = 2
        let node = try RawNode(configuration, storage: storage)
        XCTAssertEqual(node.term, 0)
        try node.stepFromPeer(Message(kind: .preVote, to: 1, from: 2, term: 16))
        let answer = try XCTUnwrap(node.ready().messages.first)
        XCTAssertEqual(answer.kind, .preVoteResponse)
        XCTAssertEqual(answer.term, 1)
        XCTAssertTrue(answer.reject)
    }

    private func refusal(_ cluster: SmallCluster, _ message: Message) -> RaftError? {
        do {
            try cluster[1].stepFromPeer(message)
            return nil
        } catch {
            return error
        }
    }

    func testWhatIsRefused() throws {
        let cluster = try SmallCluster(3)
        try cluster.elect(1)
        for kind in MessageKind.allCases where kind.isLocal {
            XCTAssertEqual(refusal(cluster, Message(kind: kind, to: 1, from: 2, term: 1)), .localMessage)
        }
        XCTAssertEqual(
            refusal(cluster, Message(kind: .appendResponse, to: 1, from: 1, term: 1, index: 3)), .localMessage)
        XCTAssertEqual(
            refusal(cluster, Message(kind: .storageAppendResponse, to: 1, from: .localAppendThread, term: 1, index: 3)),
            .localMessage)
        XCTAssertEqual(
            refusal(cluster, Message(kind: .appendResponse, to: 1, from: 9, term: 1, index: 3)), .unknownPeer)
        let malformed = [
            Message(kind: .heartbeat, to: 2, from: 2, term: 1),
            Message(kind: .append, to: 1, from: 2),
            Message(kind: .vote, to: 1, from: .none, term: 9),
            Message(kind: .propose, to: 1, from: 2),
            Message(kind: .propose, to: 1, from: 2, entries: [Entry(kind: .confChange, data: [0xFF])]),
            Message(kind: .snapshot, to: 1, from: 2, term: 2),
            Message(kind: .appendResponse, to: 1, from: 2, term: 1, index: 4),
            Message(kind: .append, to: 1, from: 2, term: 2, index: 3, entries: [Entry(term: 2, index: 5)]),
            Message(kind: .append, to: 1, from: 2, term: 2, index: 3, entries: [Entry(term: 3, index: 4)]),
            Message(kind: .append, to: 1, from: 2, term: 2, logTerm: 2, index: 3, entries: [Entry(term: 1, index: 4)]),
            Message(kind: .heartbeat, to: 1, from: 2, term: Term(.max)),
        ]
        for message in malformed {
            guard case .malformedMessage? = refusal(cluster, message) else {
                XCTFail("not refused: \(message)")
                continue
            }
        }
        XCTAssertEqual(cluster[1].role, .leader)
        XCTAssertEqual(cluster[1].commitIndex, 3)
    }

    func testDivergedLogsAreReported() throws {
        let cluster = try SmallCluster(3)
        try cluster.elect(1)
        let overwriting = Message(
            kind: .append, to: 1, from: 2, term: 5, logTerm: 1, index: 3, entries: [Entry(term: 5, index: 4)], commit: 4
        )
        XCTAssertNil(refusal(cluster, overwriting))
        var other = overwriting
        other.entries[0].term = 4
        other.index = 4
        other.logTerm = 5
        other.entries = []
        XCTAssertNil(refusal(cluster, other))
        // Beyond the end of the log.
        guard
            case .logDiverged? = refusal(cluster, Message(kind: .heartbeat, to: 1, from: 2, term: 5, commit: 9))
        else { return XCTFail("a commit index beyond the log was taken") }
        XCTAssertEqual(cluster[1].commitIndex, 4)
    }
}
