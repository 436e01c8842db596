import Prelude

/// Work items on the loop's threads for them.
final class LoopWork: Work {
    private let loop: EventLoop

    init(loop: EventLoop) { self.loop = loop }

    func perform<Output: Sendable>(
        _ body: @escaping @Sendable () -> Output, completion: @escaping (Output) -> Void
    ) {
        let slot = OutputSlot<Output>()
        WorkItem(loop: loop, body: { slot.output = body() }, completion: { slot.take().map(completion) }).start()
    }
}

/// What a body returned, on its way to the loop.
private final class OutputSlot<Output: Sendable>: @unchecked Sendable {
    // Unchecked, because the threads hand the item over under a lock: the body has ended before the completion begins.
    var output: Output?

    func take() -> Output? {
        defer { output = nil }
        return output
    }
}

/// Sendable, because only `body` is touched off the loop.
final class WorkItem: LoopResource, @unchecked Sendable {
    private let loop: EventLoop
    let body: @Sendable () -> Void
    private let completion: () -> Void

    init(loop: EventLoop, body: @escaping @Sendable () -> Void, completion: @escaping () -> Void) {
        self.loop = loop
        self.body = body
        self.completion = completion
    }

    func start() {
        guard loop.adopt(self) else { return }
        loop.workThreads.perform(self)
    }

    /// On the loop, once the body has run.
    func finish() {
        loop.release(self)
        completion()
    }

    /// A body that runs cannot be stopped: the loop waits for it.
    func loopWillClose() {}
}
