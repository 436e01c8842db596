import Prelude
import Reactor

extension EventLoop {
    /// Runs `body` on this loop, from whatever task calls, and waits for what it returns. Cancelling the caller cancels
    /// `body`. The loop has to run: on a loop that does not, this waits until it does.
    func hop<Confined, Output: Sendable>(
        with confined: LoopBound<Confined>, _ body: @escaping @Sendable (Confined) async -> Output
    ) async -> Output {
        let task = start { await body(confined.value) }
        return await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
    }
}
