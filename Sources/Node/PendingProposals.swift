import DequeModule
import Prelude

/// Why a proposal has no result.
enum CommandFailure: Error, Equatable {
    /// Too much is waiting already; nothing was proposed.
    case overloaded(String)
    /// The command is larger than any may be; nothing was proposed.
    case tooLarge(String)
    /// Not known whether it was applied; it may yet be.
    case outcomeUnknown(String)
    /// A read that the leader did not confirm in time.
    case notConfirmed(String)
    /// The node is shutting down; not known whether it was applied.
    case shuttingDown
    /// The disk takes no writes; nothing was proposed.
    case diskFull(String)
}

/// The commands of this node that wait to be applied, for one group, in the order in which they came.
///
/// A proposal may be lost on the way to the leader or with it. It is then proposed again under the same origin, and
/// the machine applies an origin at most once.
struct PendingProposals {
    typealias Completion = (Result<AppliedResult, CommandFailure>) -> Void

    private struct Pending {
        let data: [UInt8]
        let expires: Nanoseconds
        /// 0: not handed to Raft since the leader last changed.
        var proposedAt: Nanoseconds
        let completion: Completion
    }

    private var bySequence: [UInt64: Pending] = [:]
    /// Every sequence in order of arrival; those that are done are skipped when they come to the front.
    private var arrivals: Deque<UInt64> = []
    private var toPropose: Deque<UInt64> = []
    private(set) var byteCount = 0

    var count: Int { bySequence.count }
    var hasUnproposed: Bool { !toPropose.isEmpty }

    mutating func add(_ sequence: UInt64, _ data: [UInt8], expires: Nanoseconds, completion: @escaping Completion) {
        bySequence[sequence] = Pending(data: data, expires: expires, proposedAt: 0, completion: completion)
        arrivals.append(sequence)
        toPropose.append(sequence)
        byteCount += data.count
    }

    /// The next proposals to hand to Raft, up to about `byteCountMax` bytes of data.
    mutating func nextBatch(byteCountMax: UInt64, now: Nanoseconds) -> [(sequence: UInt64, data: [UInt8])] {
        var batch: [(sequence: UInt64, data: [UInt8])] = []
        var taken: UInt64 = 0
        while let sequence = toPropose.first {
            guard let pending = bySequence[sequence] else {
                toPropose.removeFirst()
                continue
            }
            guard batch.isEmpty || taken + UInt64(pending.data.count) <= byteCountMax else { break }
            toPropose.removeFirst()
            bySequence[sequence]?.proposedAt = max(now, 1)
            taken += UInt64(pending.data.count)
            batch.append((sequence, pending.data))
        }
        return batch
    }

    /// Raft did not take them: they come first next time.
    mutating func giveBack(_ batch: [(sequence: UInt64, data: [UInt8])]) {
        for (sequence, _) in batch.reversed() {
            bySequence[sequence]?.proposedAt = 0
            toPropose.prepend(sequence)
        }
    }

    /// All of them may have been lost: the leader changed, or the way to it broke.
    mutating func proposeAllAgain() {
        toPropose.removeAll(keepingCapacity: true)
        for sequence in arrivals where bySequence[sequence] != nil {
            bySequence[sequence]?.proposedAt = 0
            toPropose.append(sequence)
        }
    }

    /// Proposes again what nothing was heard of since `before`. Looks at `countMax` of the oldest only.
    mutating func proposeAgain(proposedBefore before: Nanoseconds, countMax: Int) {
        for sequence in arrivals.prefix(countMax) {
            guard let pending = bySequence[sequence], pending.proposedAt != 0, pending.proposedAt < before else {
                continue
            }
            bySequence[sequence]?.proposedAt = 0
            toPropose.append(sequence)
        }
    }

    mutating func complete(_ sequence: UInt64) -> Completion? {
        guard let pending = bySequence.removeValue(forKey: sequence) else { return nil }
        byteCount -= pending.data.count
        dropFinishedArrivals()
        return pending.completion
    }

    /// Takes out what has expired. All proposals get the same time, so that the oldest expire first.
    mutating func expire(now: Nanoseconds) -> [Completion] {
        var expired: [Completion] = []
        dropFinishedArrivals()
        while let sequence = arrivals.first, let pending = bySequence[sequence], pending.expires <= now {
            if let completion = complete(sequence) { expired.append(completion) }
        }
        return expired
    }

    mutating func removeAll() -> [Completion] {
        let all = arrivals.compactMap { bySequence[$0]?.completion }
        self = PendingProposals()
        return all
    }

    private mutating func dropFinishedArrivals() {
        while let first = arrivals.first, bySequence[first] == nil { arrivals.removeFirst() }
        // While there is no leader nobody takes them from here.
        while let first = toPropose.first, bySequence[first] == nil { toPropose.removeFirst() }
    }
}
