import CProtobuf
import Glibc
import Prelude

/// Memory for the C structs of one encoding or decoding: a pointer moves through a block, and everything is given
/// back at once. Each thread keeps one arena with a warm block.
///
/// A decoding has a budget in proportion to its input, because two bytes of input can ask for a hundred bytes of
/// structs: what asks for more is refused.
struct ProtobufArena {
    /// Precedes every allocation and holds its size: tells how long a decoded string really is, which C does not.
    private static let headerByteCount = MemoryLayout<Int>.size
    /// Enough for the structs, which hold nothing wider than a pointer.
    private static let alignment = MemoryLayout<Int>.alignment
    private static let blockByteCountMin = 16 << 10

    private var block: UnsafeMutableRawBufferPointer
    private var usedByteCount = 0
    /// Blocks that were too small for what came next.
    private var fullBlocks: [UnsafeMutableRawBufferPointer] = []
    /// What may still be taken.
    private var budget = 0
    private var isInUse = false
    private(set) var isBudgetExceeded = false

    private init() {
        block = .allocate(byteCount: Self.blockByteCountMin, alignment: Self.alignment)
    }

    /// Nil when the budget does not allow it.
    mutating func allocate(byteCount: UInt) -> UnsafeMutableRawPointer? {
        // The first comparison keeps the sum below from overflowing.
        guard byteCount <= UInt(bitPattern: budget) else { return refuse() }
        let size = (Int(bitPattern: byteCount) + Self.headerByteCount + Self.alignment - 1) & ~(Self.alignment - 1)
        guard size <= budget else { return refuse() }
        budget -= size
        if size > block.count - usedByteCount { startBlock(holding: size) }
        guard let base = block.baseAddress else { return refuse() }
        let start = base + usedByteCount
        usedByteCount += size
        start.storeBytes(of: byteCount, as: UInt.self)
        return start + Self.headerByteCount
    }

    /// How many bytes were asked for at `start`. Precondition: `start` came from `allocate` of an arena in use.
    static func byteCount(at start: UnsafeRawPointer) -> Int {
        Int(bitPattern: (start - headerByteCount).load(as: UInt.self))
    }

    private mutating func refuse() -> UnsafeMutableRawPointer? {
        isBudgetExceeded = true
        return nil
    }

    private mutating func startBlock(holding byteCount: Int) {
        fullBlocks.append(block)
        block = .allocate(byteCount: max(byteCount, 2 * block.count), alignment: Self.alignment)
        usedByteCount = 0
    }

    /// Takes everything back. Keeps the last block, which is the largest, unless it is too large to be kept.
    private mutating func reset() {
        for block in fullBlocks { block.deallocate() }
        fullBlocks.removeAll()
        usedByteCount = 0
        if block.count > CodecLimits.keptArenaByteCountMax {
            block.deallocate()
            block = .allocate(byteCount: Self.blockByteCountMin, alignment: Self.alignment)
        }
    }

    private mutating func deallocate() {
        reset()
        block.deallocate()
    }
}

// MARK: - One arena per thread

extension ProtobufArena {
    /// Nil when the process has no key to give: then every use gets an arena of its own.
    private static let threadKey: pthread_key_t? = {
        var key = pthread_key_t()
        let status = pthread_key_create(&key) { arena in
            arena.map { destroy($0.assumingMemoryBound(to: ProtobufArena.self)) }
        }
        return status == 0 ? key : nil
    }()

    /// Runs `body` with this thread's arena, empty. All memory taken from it is gone afterwards.
    static func withArena<Output, Failure: Error>(
        budget: Int, _ body: (UnsafeMutablePointer<ProtobufArena>) throws(Failure) -> Output
    ) throws(Failure) -> Output {
        let arena = taken()
        arena.pointee.budget = budget
        arena.pointee.isBudgetExceeded = false
        defer { giveBack(arena) }
        return try body(arena)
    }

    private static func taken() -> UnsafeMutablePointer<ProtobufArena> {
        if let threadKey, let kept = pthread_getspecific(threadKey) {
            let arena = kept.assumingMemoryBound(to: ProtobufArena.self)
            if !arena.pointee.isInUse {
                arena.pointee.isInUse = true
                return arena
            }
        }
        let arena = UnsafeMutablePointer<ProtobufArena>.allocate(capacity: 1)
        arena.initialize(to: ProtobufArena())
        arena.pointee.isInUse = true
        return arena
    }

    private static func giveBack(_ arena: UnsafeMutablePointer<ProtobufArena>) {
        arena.pointee.reset()
        arena.pointee.isInUse = false
        guard let threadKey else { return destroy(arena) }
        let kept = pthread_getspecific(threadKey)
        if kept == UnsafeMutableRawPointer(arena) { return }
        // The thread's first arena stays; one made for a use within a use does not.
        if kept != nil || pthread_setspecific(threadKey, arena) != 0 { destroy(arena) }
    }

    private static func destroy(_ arena: UnsafeMutablePointer<ProtobufArena>) {
        arena.pointee.deallocate()
        arena.deinitialize(count: 1)
        arena.deallocate()
    }
}

extension ProtobufCAllocator {
    /// Takes from `arena` and gives nothing back.
    init(_ arena: UnsafeMutablePointer<ProtobufArena>) {
        self.init(
            alloc: { arena, byteCount in
                arena?.assumingMemoryBound(to: ProtobufArena.self).pointee.allocate(byteCount: UInt(byteCount))
            },
            free: { _, _ in },
            allocator_data: UnsafeMutableRawPointer(arena))
    }
}
