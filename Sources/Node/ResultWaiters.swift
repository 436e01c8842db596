import Prelude
import Wire

/// Calls that wait for the end of a run.
struct ResultWaiters {
    typealias Check = () -> Bool

    struct Waiter {
        let call: any ServiceCall
        /// Answers the call when the run has ended; false when it has not.
        let answerIfEnded: () -> Bool
    }

    private var byRun: [RunID: [UInt64: Waiter]] = [:]
    private var nextKey: UInt64 = 1
    private(set) var count = 0

    /// The key under which the waiter is taken out again.
    mutating func add(_ waiter: Waiter, for run: RunID) -> UInt64 {
        let key = nextKey
        nextKey += 1
        byRun[run, default: [:]][key] = waiter
        count += 1
        return key
    }

    mutating func remove(_ key: UInt64, for run: RunID) {
        guard byRun[run]?.removeValue(forKey: key) != nil else { return }
        count -= 1
        if byRun[run]?.isEmpty == true { byRun[run] = nil }
    }

    mutating func runEnded(_ run: RunID) {
        guard let waiters = byRun.removeValue(forKey: run) else { return }
        count -= waiters.count
        for key in waiters.keys.sorted() { _ = waiters[key]?.answerIfEnded() }
    }

    /// After a snapshot: runs may have ended unseen.
    mutating func recheck() {
        for run in byRun.keys.sorted() {
            guard let waiters = byRun[run] else { continue }
            for key in waiters.keys.sorted() where waiters[key]?.answerIfEnded() == true { remove(key, for: run) }
        }
    }

    /// The node goes: whoever waits asks another one.
    mutating func failAll() {
        let all = byRun.keys.sorted().flatMap { run in
            (byRun[run] ?? [:]).sorted { $0.key < $1.key }.map { $0.value.call }
        }
        byRun = [:]
        count = 0
        for call in all {
            call.fail(GRPCStatus(code: .unavailable, message: "this node is shutting down: ask another one"))
        }
    }
}
