/// Bytes that wait for the system to take them, at an address that stays while it does.
struct OutgoingBytes: ~Copyable {
    private var storage: UnsafeMutableRawPointer?
    private var capacity = 0
    private(set) var count = 0

    init() {}

    deinit { storage?.deallocate() }

    var start: UnsafeMutableRawPointer? { storage }

    mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress else { return }
        if count + bytes.count > capacity { grow(to: count + bytes.count) }
        storage?.advanced(by: count).copyMemory(from: source, byteCount: bytes.count)
        count += bytes.count
    }

    private mutating func grow(to needed: Int) {
        // Doubling keeps the copying linear when many small writes meet a slow reader.
        let newCapacity = max(needed, 2 * capacity, 4096)
        let new = UnsafeMutableRawPointer.allocate(byteCount: newCapacity, alignment: 16)
        if let storage {
            new.copyMemory(from: storage, byteCount: count)
            storage.deallocate()
        }
        storage = new
        capacity = newCapacity
    }
}
