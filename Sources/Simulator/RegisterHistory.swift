import Prelude

/// One call of `VariableService`, as its client saw it.
public struct RegisterOperation: Sendable, CustomStringConvertible {
    public enum Action: Equatable, Sendable {
        case put(String)
        /// `expected` 0: only if absent.
        case compareAndSwap(expected: UInt64, String)
        case delete
        case get
    }

    public enum Outcome: Equatable, Sendable {
        case written(revision: UInt64)
        /// With the revision that the variable has afterwards; 0 when there is none.
        case swapped(Bool, revision: UInt64)
        case deleted(existed: Bool)
        /// Nil: not found.
        case read(String?, revision: UInt64)
    }

    public var client: Int
    public var key: String
    public var action: Action
    public var called: Nanoseconds
    /// Nil: never, as far as the client knows. The operation may have taken effect at any time after its call, or not.
    public var returned: Nanoseconds?
    /// Nil when `returned` is.
    public var outcome: Outcome?

    public init(
        client: Int, key: String, action: Action, called: Nanoseconds, returned: Nanoseconds? = nil,
        outcome: Outcome? = nil
    ) {
        self.client = client
        self.key = key
        self.action = action
        self.called = called
        self.returned = outcome == nil ? nil : returned
        self.outcome = outcome
    }

    public var description: String {
        "client \(client) \(called)…\(returned.map(String.init) ?? "?") \(key) \(action) → "
            + (outcome.map { "\($0)" } ?? "unknown")
    }
}

/// What one variable is, as far as a linearization has told. Values are unique among the writes of a history, so that
/// a value names its write.
struct RegisterState: Hashable {
    /// Nil: the variable does not exist.
    var value: String?
    /// Nil: the write's answer was lost, and nobody has read the revision since. 0 when the variable does not exist.
    var revision: UInt64? = 0
    /// The highest revision that the variable is known to have had.
    var highest: UInt64 = 0

    /// Every state that the operation may lead to; none when its outcome cannot come from this state.
    func after(_ operation: RegisterOperation) -> [RegisterState] {
        switch (operation.action, operation.outcome) {
        case (.put(let new), .written(let revision)): written(new, revision)
        case (.put(let new), nil): [RegisterState(value: new, revision: nil, highest: highest)]
        case (.get, .read(let seen, let revision)): read(seen, revision)
        case (.get, nil): [self]
        case (.delete, .deleted(let existed)): existed == (value != nil) ? [deleted] : []
        case (.delete, nil): [deleted]
        case (.compareAndSwap(let expected, let new), .swapped(true, let revision)):
            matching(expected).flatMap { $0.written(new, revision) }
        case (.compareAndSwap(let expected, _), .swapped(false, let revision)):
            expected == revision ? [] : read(value, revision)
        case (.compareAndSwap(let expected, let new), nil):
            [self] + matching(expected).map { RegisterState(value: new, revision: nil, highest: $0.highest) }
        default: []
        }
    }

    private var deleted: RegisterState { RegisterState(value: nil, revision: 0, highest: highest) }

    private func written(_ new: String, _ revision: UInt64) -> [RegisterState] {
        // Revisions rise over all variables, so those of one variable rise.
        revision > highest ? [RegisterState(value: new, revision: revision, highest: revision)] : []
    }

    private func read(_ seen: String?, _ revision: UInt64) -> [RegisterState] {
        seen == value ? matching(revision) : []
    }

    /// This state with its revision known to be `expected`, if it can be.
    private func matching(_ expected: UInt64) -> [RegisterState] {
        if let revision { return revision == expected ? [self] : [] }
        return expected > highest ? [RegisterState(value: value, revision: expected, highest: expected)] : []
    }
}
