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
        let sequence: UInt64
        var data: [UInt8]
        let expires: Nanoseconds
        /// 0: not handed to Raft since the leader last changed.
        var proposedAt: Nanoseconds = 0
        /// Nil when it is done: its place stays until it comes to the front.
        var completion: Completion?
    }

    /// In order of arrival, which is that of their sequences. The first one is not done.
    private var arrivals: Deque<Pending> = []
    private var toPropose: Deque<UInt64> = []
    private(set) var byteCount = 0
    private(set) var count = 0

    var hasUnproposed: Bool { !toPropose.isEmpty }

    /// Precondition: `sequence` is above all before it.
    mutating func add(_ sequence: UInt64, _ data: [UInt8], expires: Nanoseconds, completion: @escaping Completion) {
        arrivals.append(Pending(sequence: sequence, data: data, expires: expires, completion: completion))
        toPropose.append(sequence)
        byteCount += data.count
        count += 1
    }

    /// Where the sequence stands; nil when it is done.
    private func place(of sequence: UInt64) -> Int? {
        guard let first = arrivals.first, sequence >= first.sequence else { return nil }
        // Where it is when none is left out; other groups take some.
        var end = Int(min(sequence - first.sequence, UInt64(arrivals.count - 1)))
        if arrivals[end].sequence > sequence {
            var start = 0
            while start < end {
                let middle = (start + end) / 2
                if arrivals[middle].sequence < sequence { start = middle + 1 } else { end = middle }
            }
        }
        return arrivals[end].sequence == sequence && arrivals[end].completion != nil ? end : nil
    }

    /// The next proposals to hand to Raft, up to about `byteCountMax` bytes of data.
    mutating func nextBatch(byteCountMax: UInt64, now: Nanoseconds) -> [(sequence: UInt64, data: [UInt8])] {
        var batch: [(sequence: UInt64, data: [UInt8])] = []
        var taken: UInt64 = 0
        while let sequence = toPropose.first {
            guard let place = place(of: sequence) else {
                toPropose.removeFirst()
                continue
            }
            let data = arrivals[place].data
            guard batch.isEmpty || taken + UInt64(data.count) <= byteCountMax else { break }
            toPropose.removeFirst()
            arrivals[place].proposedAt = max(now, 1)
            taken += UInt64(data.count)
            batch.append((sequence, data))
        }
        return batch
    }

    /// Raft did not take them: they come first next time.
    mutating func giveBack(_ batch: [(sequence: UInt64, data: [UInt8])]) {
        for (sequence, _) in batch.reversed() {
            if let place = place(of: sequence) { arrivals[place].proposedAt = 0 }
            toPropose.prepend(sequence)
        }
    }

    /// All of them may have been lost: the leader changed, or the way to it broke.
    mutating func proposeAllAgain() {
        toPropose.removeAll(keepingCapacity: true)
        for place in arrivals.indices where arrivals[place].completion != nil {
            arrivals[place].proposedAt = 0
            toPropose.append(arrivals[place].sequence)
        }
    }

    /// Proposes again what nothing was heard of since `before`. Looks at `countMax` of the oldest only.
    mutating func proposeAgain(proposedBefore before: Nanoseconds, countMax: Int) {
        for place in arrivals.indices.prefix(countMax) where arrivals[place].completion != nil {
            guard arrivals[place].proposedAt != 0, arrivals[place].proposedAt < before else { continue }
            arrivals[place].proposedAt = 0
            toPropose.append(arrivals[place].sequence)
        }
    }

    mutating func complete(_ sequence: UInt64) -> Completion? {
        guard let place = place(of: sequence) else { return nil }
        byteCount -= arrivals[place].data.count
        count -= 1
        arrivals[place].data = []
        defer { dropFinished() }
        return arrivals[place].completion.take()
    }

    /// Takes out what has expired. All proposals get the same time, so that the oldest expire first.
    mutating func expire(now: Nanoseconds) -> [Completion] {
        var expired: [Completion] = []
        while let first = arrivals.first, first.expires <= now, let completion = complete(first.sequence) {
            expired.append(completion)
        }
        return expired
    }

    mutating func removeAll() -> [Completion] {
        let all = arrivals.compactMap(\.completion)
        self = PendingProposals()
        return all
    }

    private mutating func dropFinished() {
        while let first = arrivals.first, first.completion == nil { arrivals.removeFirst() }
        // While there is no leader nobody takes them from here.
        while let first = toPropose.first, place(of: first) == nil { toPropose.removeFirst() }
    }
}
