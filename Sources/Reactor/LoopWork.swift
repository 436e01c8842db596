import CUV
import Prelude

/// Work items on libuv's thread pool.
final class LoopWork: Work {
    private let loop: EventLoop

    init(loop: EventLoop) { self.loop = loop }

    func perform<Output: Sendable>(
        _ body: @escaping @Sendable () -> Output, completion: @escaping (Output) -> Void
    ) {
        let slot = OutputSlot<Output>()
        WorkItem(body: { slot.output = body() }, completion: { slot.take().map(completion) }).start(on: loop)
    }
}

/// What a body returned, on its way to the loop.
private final class OutputSlot<Output: Sendable>: @unchecked Sendable {
    // Unchecked, because the thread pool hands the item over under its lock: the body has ended before the
    // completion begins.
    var output: Output?

    func take() -> Output? {
        defer { output = nil }
        return output
    }
}

private final class WorkItem: LoopResource {
    private let request: UnsafeMutablePointer<uv_work_t>
    private var loop: EventLoop?
    private let body: @Sendable () -> Void
    private let completion: () -> Void

    init(body: @escaping @Sendable () -> Void, completion: @escaping () -> Void) {
        self.body = body
        self.completion = completion
        request = .allocate(capacity: 1)
    }

    deinit { request.deallocate() }

    func start(on loop: EventLoop) {
        guard loop.adopt(self) else { return }
        self.loop = loop
        request.pointee.data = Unmanaged.passUnretained(self).toOpaque()
        let result = uv_queue_work(
            loop.uvLoop, request,
            { request in WorkItem.from(request)?.body() },
            { request, _ in WorkItem.from(request)?.finish() })
        invariant(result == 0, "libuv takes every work item")
    }

    private func finish() {
        loop?.release(self)
        completion()
    }

    /// A body that runs cannot be stopped: the loop waits for it.
    func loopWillClose() {}

    private static func from(_ request: UnsafeMutablePointer<uv_work_t>?) -> WorkItem? {
        request?.pointee.data.map { Unmanaged<WorkItem>.fromOpaque($0).takeUnretainedValue() }
    }
}
