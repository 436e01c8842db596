import CUV
import Prelude

/// A mutex. libuv's, because the thread sanitizer understands it and misreads `Synchronization.Mutex`.
final class Lock: @unchecked Sendable {
    // Unchecked, because a mutex is made to be used by many threads.
    private let mutex: UnsafeMutablePointer<uv_mutex_t>

    init() {
        mutex = .allocate(capacity: 1)
        invariant(uv_mutex_init(mutex) == 0, "a mutex can be made")
    }

    deinit {
        uv_mutex_destroy(mutex)
        mutex.deallocate()
    }

    func withLock<Output>(_ body: () -> Output) -> Output {
        uv_mutex_lock(mutex)
        defer { uv_mutex_unlock(mutex) }
        return body()
    }
}
