import Prelude
import XCTest

@testable import Raft

/// Majorities against a naive twin, over random configurations.
final class QuorumTests: XCTestCase {
    private var random = SeededRandom(seed: 42)

    private func subset(of count: UInt64) -> NodeSet {
        NodeSet((1...count).filter { _ in random.next() % 2 == 0 }.map { NodeID($0) })
    }

    /// By definition: the highest index that more than half have reached.
    private func naiveCommitted(_ quorum: MajorityQuorum, _ known: [NodeID: LogIndex]) -> LogIndex {
        if quorum.voters.isEmpty { return LogIndex(.max) }
        var best: LogIndex = 0
        for candidate in known.values {
            let reached = quorum.voters.ids.count { (known[$0] ?? 0) >= candidate }
            if 2 * reached > quorum.voters.count { best = max(best, candidate) }
        }
        return best
    }

    /// By definition: won if it is now, whatever the others say; lost if it cannot be won any more.
    private func naiveVote(_ quorum: MajorityQuorum, _ votes: [NodeID: Bool]) -> VoteResult {
        func wins(_ missing: Bool) -> Bool {
            let ids = quorum.voters.ids
            return ids.isEmpty || 2 * ids.count { votes[$0] ?? missing } > ids.count
        }
        return wins(false) ? .won : wins(true) ? .pending : .lost
    }

    func testAgainstNaiveTwin() {
        for _ in 0..<20_000 {
            let size = 1 + random.next() % 9
            let joint = JointQuorum(
                incoming: MajorityQuorum(subset(of: size)), outgoing: MajorityQuorum(subset(of: size)))
            var known: [NodeID: LogIndex] = [:]
            var votes: [NodeID: Bool] = [:]
            for id in 1...size {
                if random.next() % 4 > 0 { known[NodeID(id)] = LogIndex(random.next() % 6) }
                if random.next() % 3 > 0 { votes[NodeID(id)] = random.next() % 2 == 0 }
            }
            let halves = [joint.incoming, joint.outgoing]
            for half in halves {
                XCTAssertEqual(half.committedIndex { known[$0] ?? 0 }, naiveCommitted(half, known))
                XCTAssertEqual(half.voteResult { votes[$0] }, naiveVote(half, votes))
            }
            XCTAssertEqual(
                joint.committedIndex { known[$0] ?? 0 }, halves.map { naiveCommitted($0, known) }.min())
            let results = halves.map { naiveVote($0, votes) }
            let expected: VoteResult =
                results.contains(.lost) ? .lost : results.allSatisfy { $0 == .won } ? .won : .pending
            XCTAssertEqual(joint.voteResult { votes[$0] }, expected)
            let swapped = JointQuorum(incoming: joint.outgoing, outgoing: joint.incoming)
            XCTAssertEqual(
                swapped.committedIndex { known[$0] ?? 0 }, joint.committedIndex { known[$0] ?? 0 })
        }
    }

    func testSetIsSortedAndHoldsEachOnce() {
        for _ in 0..<500 {
            var set = NodeSet()
            var model = Set<NodeID>()
            for _ in 0..<20 {
                let id = NodeID(random.next() % 8)
                if random.next() % 3 > 0 {
                    set.insert(id)
                    model.insert(id)
                } else {
                    set.remove(id)
                    model.remove(id)
                }
                XCTAssertEqual(set.ids, model.sorted())
            }
        }
    }
}
