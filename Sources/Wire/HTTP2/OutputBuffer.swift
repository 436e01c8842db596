/// The bytes that one connection writes next. One for all connections of a server: filled and emptied within a flush.
final class OutputBuffer {
    private(set) var start: UnsafeMutableRawPointer
    private(set) var count = 0
    private var capacity: Int

    init(capacity: Int = 32 << 10) {
        self.capacity = capacity
        start = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit { start.deallocate() }

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }

    func removeAll() { count = 0 }

    func append(_ source: UnsafeRawPointer, _ byteCount: Int) {
        extend(by: byteCount).copyMemory(from: source, byteCount: byteCount)
    }

    /// Makes room for `byteCount` bytes, which the caller fills directly after.
    func extend(by byteCount: Int) -> UnsafeMutableRawPointer {
        if count + byteCount > capacity { grow(count + byteCount) }
        defer { count += byteCount }
        return start + count
    }

    private func grow(_ minimum: Int) {
        let wider = max(minimum, 2 * capacity)
        let moved = UnsafeMutableRawPointer.allocate(byteCount: wider, alignment: 16)
        moved.copyMemory(from: start, byteCount: count)
        start.deallocate()
        start = moved
        capacity = wider
    }
}
