/// Carries a value that is confined to one loop through code that demands `Sendable`, such as the closure of
/// a task that runs on that loop.
///
/// The value can be had on the loop only. Its last release may happen on any thread: what matters in a
/// `deinit` does not belong into a box.
public struct LoopBound<Value>: @unchecked Sendable {
    // Unchecked, because `value` hands it out on the loop's thread only, where it is confined anyway.
    private let content: Value
    private let loop: any SerialExecutor

    public init(_ value: Value, to loop: any SerialExecutor) {
        content = value
        self.loop = loop
    }

    /// Precondition: called on the loop (where the executor can tell; see `isIsolatingCurrentContext`).
    public var value: Value {
        invariant(loop.isIsolatingCurrentContext() != false, "a loop-bound value is opened on its loop")
        return content
    }
}

extension TaskExecutor where Self: SerialExecutor {
    /// Starts asynchronous work whose every step runs on this loop. The body must not start unstructured tasks
    /// of its own: those would leave the loop.
    @discardableResult
    public func start<Success: Sendable>(
        _ body: sending @escaping () async -> Success
    ) -> Task<Success, Never> {
        Task(executorPreference: self, operation: body)
    }
}
