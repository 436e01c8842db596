import Prelude

public enum LinearizabilityVerdict: Equatable, Sendable {
    case linearizable
    /// No order of the operations on `key` explains what their clients saw. The longest prefix that could be explained
    /// ends before `stuckAt`.
    case violated(key: String, stuckAt: String)
    /// The search took more than its bound of steps.
    case undecided(key: String)
}

/// Whether one order of the operations, each taking effect at one moment between its call and its return, explains every
/// answer: Herlihy and Wing's definition, by the search of Wing and Gong with Lowe's memory of what has failed. Each
/// variable is checked by itself, as linearizability is local.
public struct LinearizabilityChecker {
    /// Bounds the search for one variable.
    public var stepCountMax = 5_000_000

    public init() {}

    public func check(_ history: [RegisterOperation]) -> LinearizabilityVerdict {
        let byKey = Dictionary(grouping: history, by: \.key)
        for key in byKey.keys.sorted() {
            var search = Search(byKey[key] ?? [], stepCountMax: stepCountMax)
            switch search.run() {
            case .found: continue
            case .none(let stuckAt): return .violated(key: key, stuckAt: stuckAt)
            case .undecided: return .undecided(key: key)
            }
        }
        return .linearizable
    }
}

/// The search over one variable: a list of calls and returns in order of time, from which the operations that have been
/// put into the order are taken out.
private struct Search {
    enum Outcome { case found, none(stuckAt: String), undecided }

    private struct Event {
        let operation: Int
        let isReturn: Bool
        var previous: Int
        var next: Int
    }

    private struct Choice {
        let call: Int
        let before: RegisterState
        let branch: Int
    }

    private struct Visited: Hashable {
        let taken: [UInt64]
        let state: RegisterState
    }

    private let operations: [RegisterOperation]
    private let stepCountMax: Int
    /// Event 0 is the head of the list, the last one its end.
    private var events: [Event] = []
    private var returnOfOperation: [Int]
    private var taken: [UInt64]
    private var state = RegisterState()
    private var choices: [Choice] = []
    private var visited: Set<Visited> = []
    private var furthest = (depth: -1, text: "")

    init(_ operations: [RegisterOperation], stepCountMax: Int) {
        self.operations = operations
        self.stepCountMax = stepCountMax
        returnOfOperation = [Int](repeating: 0, count: operations.count)
        taken = [UInt64](repeating: 0, count: (operations.count + 63) / 64)
        // At one moment calls come before returns: operations that touch each other count as concurrent.
        let times = operations.indices.flatMap { index in
            [
                (time: operations[index].called, isReturn: false, operation: index),
                (time: operations[index].returned ?? .max, isReturn: true, operation: index),
            ]
        }
        let sorted = times.sorted {
            ($0.time, $0.isReturn ? 1 : 0, $0.operation) < ($1.time, $1.isReturn ? 1 : 0, $1.operation)
        }
        events.append(Event(operation: -1, isReturn: false, previous: 0, next: 1))
        for (place, entry) in sorted.enumerated() {
            events.append(
                Event(operation: entry.operation, isReturn: entry.isReturn, previous: place, next: place + 2))
            if entry.isReturn { returnOfOperation[entry.operation] = place + 1 }
        }
        events.append(Event(operation: -1, isReturn: true, previous: sorted.count, next: sorted.count + 1))
    }

    mutating func run() -> Outcome {
        var current = events[0].next
        var branch = 0
        let end = events.count - 1
        var stepCount = 0
        while events[0].next != end {
            stepCount += 1
            if stepCount > stepCountMax { return .undecided }
            if current != end, !events[current].isReturn {
                if take(current, from: branch) {
                    current = events[0].next
                } else {
                    current = events[current].next
                }
                branch = 0
                continue
            }
            // An operation returned that is not in the order yet: an earlier choice was wrong.
            note(stuckAt: current)
            guard let choice = choices.popLast() else { return .none(stuckAt: furthest.text) }
            undo(choice)
            current = choice.call
            branch = choice.branch + 1
        }
        return .found
    }

    /// Puts the operation next into the order, by the first way from `branch` on that has not failed before.
    private mutating func take(_ call: Int, from branch: Int) -> Bool {
        let operation = events[call].operation
        let states = state.after(operations[operation])
        for index in states.indices.dropFirst(branch) {
            taken[operation / 64] |= 1 << UInt64(operation % 64)
            if visited.insert(Visited(taken: taken, state: states[index])).inserted {
                choices.append(Choice(call: call, before: state, branch: index))
                state = states[index]
                unlink(call)
                unlink(returnOfOperation[operation])
                return true
            }
            taken[operation / 64] &= ~(1 << UInt64(operation % 64))
        }
        return false
    }

    private mutating func undo(_ choice: Choice) {
        let operation = events[choice.call].operation
        relink(returnOfOperation[operation])
        relink(choice.call)
        taken[operation / 64] &= ~(1 << UInt64(operation % 64))
        state = choice.before
    }

    private mutating func unlink(_ event: Int) {
        events[events[event].previous].next = events[event].next
        events[events[event].next].previous = events[event].previous
    }

    private mutating func relink(_ event: Int) {
        events[events[event].previous].next = event
        events[events[event].next].previous = event
    }

    private mutating func note(stuckAt event: Int) {
        guard choices.count > furthest.depth, events[event].operation >= 0 else { return }
        furthest = (choices.count, "\(operations[events[event].operation]) (the variable is \(state))")
    }
}
