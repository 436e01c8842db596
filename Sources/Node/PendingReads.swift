import Prelude

/// Linearizable reads of one group (Raft dissertation §6.4): all that come while one question to the leader is under way
/// share the next one.
struct PendingReads {
    typealias Completion = (Result<Void, CommandFailure>) -> Void

    private struct Read {
        let expires: Nanoseconds
        let completion: Completion
    }

    private var waiting: [Read] = []
    /// With the first question that was put after the read had come.
    private var asked: [(sequence: UInt64, read: Read)] = []
    private var askedAt: Nanoseconds = 0
    private var nextSequence: UInt64 = 1
    /// Confirmed by the leader; they wait for the machine to get there.
    private var confirmed: [(index: LogIndex, read: Read)] = []

    var count: Int { waiting.count + asked.count + confirmed.count }
    var hasWaiting: Bool { !waiting.isEmpty }

    mutating func add(expires: Nanoseconds, completion: @escaping Completion) {
        waiting.append(Read(expires: expires, completion: completion))
    }

    /// The context of the next question, when there is something to ask and no question under way that is younger than
    /// `retryAfter`. A question without an answer is put again under a new context; its answer may yet come.
    mutating func nextQuestion(now: Nanoseconds, retryAfter: Nanoseconds) -> UInt64? {
        if !asked.isEmpty {
            guard now >= askedAt + retryAfter else { return nil }
        } else if waiting.isEmpty {
            return nil
        }
        let sequence = nextSequence
        nextSequence += 1
        asked.append(contentsOf: waiting.map { (sequence, $0) })
        waiting.removeAll(keepingCapacity: true)
        askedAt = now
        return sequence
    }

    /// Whoever was asked may not answer any more: the next question need not wait.
    mutating func askAgain() { askedAt = 0 }

    /// The leader confirmed that nothing above `index` had been committed when the question came: so for all reads
    /// that had come before it.
    mutating func confirm(_ sequence: UInt64, index: LogIndex) {
        // In order of their questions.
        let count = asked.firstIndex { $0.sequence > sequence } ?? asked.count
        confirmed.append(contentsOf: asked.prefix(count).map { (index, $0.read) })
        asked.removeFirst(count)
    }

    mutating func takeReady(applied: LogIndex) -> [Completion] {
        guard confirmed.contains(where: { $0.index <= applied }) else { return [] }
        let ready = confirmed.filter { $0.index <= applied }.map(\.read.completion)
        confirmed.removeAll { $0.index <= applied }
        return ready
    }

    mutating func expire(now: Nanoseconds) -> [Completion] {
        guard count > 0 else { return [] }
        let expired = waiting.filter { $0.expires <= now } + asked.map(\.read).filter { $0.expires <= now }
        let expiredConfirmed = confirmed.filter { $0.read.expires <= now }.map(\.read)
        waiting.removeAll { $0.expires <= now }
        asked.removeAll { $0.read.expires <= now }
        confirmed.removeAll { $0.read.expires <= now }
        return (expired + expiredConfirmed).map(\.completion)
    }

    mutating func removeAll() -> [Completion] {
        let all = (waiting + asked.map(\.read)).map(\.completion) + confirmed.map(\.read.completion)
        waiting = []
        asked = []
        confirmed = []
        return all
    }
}
