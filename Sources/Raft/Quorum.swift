import Prelude

package enum VoteResult: Equatable, Sendable { case pending, lost, won }

/// A sorted set of nodes, small enough to be searched in order.
package struct NodeSet: Equatable, Sendable {
    package private(set) var ids: [NodeID] = []

    package init() {}

    package init(_ ids: some Sequence<NodeID>) {
        for id in ids { insert(id) }
    }

    package var isEmpty: Bool { ids.isEmpty }
    package var count: Int { ids.count }

    package func contains(_ id: NodeID) -> Bool { ids.contains(id) }

    package mutating func insert(_ id: NodeID) {
        let place = ids.firstIndex { $0 >= id } ?? ids.endIndex
        if place == ids.endIndex || ids[place] != id { ids.insert(id, at: place) }
    }

    package mutating func remove(_ id: NodeID) {
        if let place = ids.firstIndex(of: id) { ids.remove(at: place) }
    }

    package func union(_ other: NodeSet) -> NodeSet { NodeSet(ids + other.ids) }
}

/// A simple majority of `voters`. Without voters everything is agreed on, so that it can be the second half of a
/// joint quorum.
package struct MajorityQuorum: Equatable, Sendable {
    package var voters: NodeSet

    package init(_ voters: NodeSet = NodeSet()) { self.voters = voters }

    /// The highest index that a majority has acknowledged. `acknowledged` gives 0 for who has not answered.
    package func committedIndex(_ acknowledged: (NodeID) -> LogIndex) -> LogIndex {
        let count = voters.count
        if count == 0 { return LogIndex(.max) }
        if count == 1 { return acknowledged(voters.ids[0]) }
        return withUnsafeTemporaryAllocation(of: LogIndex.self, capacity: count) { sorted in
            // Insertion sort, descending: there are few voters.
            for filled in 0..<count {
                let index = acknowledged(voters.ids[filled])
                var place = filled
                while place > 0 && sorted[place - 1] < index {
                    sorted[place] = sorted[place - 1]
                    place -= 1
                }
                sorted[place] = index
            }
            return sorted[count / 2]
        }
    }

    /// `vote` gives nil for who has not voted.
    package func voteResult(_ vote: (NodeID) -> Bool?) -> VoteResult {
        if voters.isEmpty { return .won }
        var granted = 0
        var missing = 0
        for id in voters.ids {
            switch vote(id) {
            case true?: granted += 1
            case false?: break
            case nil: missing += 1
            }
        }
        let majority = voters.count / 2 + 1
        if granted >= majority { return .won }
        return granted + missing >= majority ? .pending : .lost
    }
}

/// Agreement of two majorities at once (Raft §6). Outside of a change the outgoing half is empty.
package struct JointQuorum: Equatable, Sendable {
    package var incoming: MajorityQuorum
    package var outgoing: MajorityQuorum

    package init(incoming: MajorityQuorum = MajorityQuorum(), outgoing: MajorityQuorum = MajorityQuorum()) {
        self.incoming = incoming
        self.outgoing = outgoing
    }

    package var isJoint: Bool { !outgoing.voters.isEmpty }
    package var isSingleton: Bool { incoming.voters.count == 1 && !isJoint }

    package func contains(_ id: NodeID) -> Bool { incoming.voters.contains(id) || outgoing.voters.contains(id) }

    /// All voters, each once, sorted.
    package var voters: NodeSet { isJoint ? incoming.voters.union(outgoing.voters) : incoming.voters }

    package func committedIndex(_ acknowledged: (NodeID) -> LogIndex) -> LogIndex {
        let index = incoming.committedIndex(acknowledged)
        return isJoint ? min(index, outgoing.committedIndex(acknowledged)) : index
    }

    package func voteResult(_ vote: (NodeID) -> Bool?) -> VoteResult {
        switch (incoming.voteResult(vote), outgoing.voteResult(vote)) {
        case (.won, .won): .won
        case (.lost, _), (_, .lost): .lost
        default: .pending
        }
    }
}
