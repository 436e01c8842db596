import Foundation
import Prelude
import Reactor

/// A thread of its own for an event loop, for programs whose main thread has other things to do.
public final class LoopThread: Sendable {
    public let loop: EventLoop
    private let ended: Task<Void, Never>

    /// Starts the thread. Throws when the system has no descriptors left for a loop.
    public init(name: String = "raftoral", limits: ReactorLimits = ReactorLimits()) throws(ReactorError) {
        let loop = try EventLoop(limits: limits)
        self.loop = loop
        let (ends, end) = AsyncStream.makeStream(of: Void.self)
        let thread = Thread {
            loop.run()
            loop.close()
            end.finish()
        }
        thread.name = name
        thread.start()
        ended = Task { for await _ in ends {} }
    }

    /// Stops the loop, closes it, and waits for the end of its thread. Shut nodes and servers on it down before: what is
    /// still open is cut.
    public func end() async {
        loop.stop()
        await ended.value
    }
}
