import Glibc
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
        try Self.start(named: name) {
            loop.run()
            loop.close()
            end.finish()
        }
        ended = Task { for await _ in ends {} }
    }

    private static func start(
        named name: String, _ body: @escaping @Sendable () -> Void
    ) throws(ReactorError) {
        // Balanced by the thread, once it runs.
        let start = Unmanaged.passRetained(ThreadStart(name: name, body: body))
        var thread = pthread_t()
        let main: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = { start in
            start.map { Unmanaged<ThreadStart>.fromOpaque($0).takeRetainedValue().run() }
            return nil
        }
        let code = pthread_create(&thread, nil, main, start.toOpaque())
        guard code == 0 else {
            start.release()
            throw ReactorError(operation: "start a thread", code: -code)
        }
        pthread_detach(thread)
    }

    /// Stops the loop, closes it, and waits for the end of its thread. Shut nodes and servers on it down before: what is
    /// still open is cut.
    public func end() async {
        loop.stop()
        await ended.value
    }
}

private final class ThreadStart {
    private let name: String
    private let body: @Sendable () -> Void

    init(name: String, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }

    func run() {
        // The system keeps 15 bytes of it, for whoever looks at the threads.
        let file = open("/proc/thread-self/comm", O_WRONLY | O_CLOEXEC)
        if file >= 0 {
            _ = write(file, name, min(15, name.utf8.count))
            close(file)
        }
        body()
    }
}
