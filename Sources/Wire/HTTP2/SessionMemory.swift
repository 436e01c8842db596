import CNGHTTP2
import Glibc
import Prelude

/// The memory of nghttp2's sessions. What a stream and its frames need is asked for and given back with every request, and
/// always in the same few sizes: it is kept here for the next one instead of going through the system's allocator.
///
/// Confined to the loop, like the sessions. Outlives them, because their connections hold the context that holds it.
final class SessionMemory {
    /// Before each allocation stands how many bytes it has; twice a pointer's size keeps what follows aligned.
    private static let headerByteCount = 16
    private static let classByteCount = 64
    private static let classCount = 16

    /// For each size, up to `classCount * classByteCount`, the first of the free ones; each begins with the next.
    private let free: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    private let keptByteCountMax: Int
    private(set) var keptByteCount = 0

    init(keptByteCountMax: Int) {
        self.keptByteCountMax = keptByteCountMax
        free = .allocate(capacity: Self.classCount)
        free.initialize(repeating: nil, count: Self.classCount)
    }

    deinit {
        for place in 0..<Self.classCount {
            while let first = free[place] {
                free[place] = first.load(as: UnsafeMutableRawPointer?.self)
                Glibc.free(first - Self.headerByteCount)
            }
        }
        free.deallocate()
    }

    /// For nghttp2, which copies it when it opens a session.
    var functions: nghttp2_mem {
        nghttp2_mem(
            mem_user_data: Unmanaged.passUnretained(self).toOpaque(),
            malloc: { byteCount, memory in with(memory) { $0.allocate(byteCount) } },
            free: { start, memory in with(memory) { $0.release(start) } },
            calloc: { count, byteCount, memory in with(memory) { $0.allocateZeros(count, byteCount) } },
            realloc: { start, byteCount, memory in with(memory) { $0.reallocate(start, byteCount) } })
    }

    /// Nil when the system has none.
    func allocate(_ byteCount: Int) -> UnsafeMutableRawPointer? {
        let place = (max(1, byteCount) - 1) / Self.classByteCount
        guard place < Self.classCount else { return fromSystem(byteCount) }
        guard let first = free[place] else { return fromSystem((place + 1) * Self.classByteCount) }
        free[place] = first.load(as: UnsafeMutableRawPointer?.self)
        keptByteCount -= (place + 1) * Self.classByteCount
        return first
    }

    func release(_ start: UnsafeMutableRawPointer?) {
        guard let start else { return }
        let byteCount = Self.byteCount(at: start)
        let place = byteCount / Self.classByteCount - 1
        guard place < Self.classCount, byteCount % Self.classByteCount == 0,
            keptByteCount + byteCount <= keptByteCountMax
        else { return Glibc.free(start - Self.headerByteCount) }
        start.storeBytes(of: free[place], as: UnsafeMutableRawPointer?.self)
        free[place] = start
        keptByteCount += byteCount
    }

    fileprivate func allocateZeros(_ count: Int, _ byteCount: Int) -> UnsafeMutableRawPointer? {
        let (total, overflow) = count.multipliedReportingOverflow(by: byteCount)
        guard !overflow, let start = allocate(total) else { return nil }
        memset(start, 0, total)
        return start
    }

    fileprivate func reallocate(_ start: UnsafeMutableRawPointer?, _ byteCount: Int) -> UnsafeMutableRawPointer? {
        guard let start else { return allocate(byteCount) }
        let present = Self.byteCount(at: start)
        if byteCount <= present { return start }
        guard let moved = allocate(byteCount) else { return nil }
        moved.copyMemory(from: start, byteCount: present)
        release(start)
        return moved
    }

    private func fromSystem(_ byteCount: Int) -> UnsafeMutableRawPointer? {
        let (total, overflow) = byteCount.addingReportingOverflow(Self.headerByteCount)
        guard !overflow, let start = malloc(total) else { return nil }
        start.storeBytes(of: byteCount, as: Int.self)
        return start + Self.headerByteCount
    }

    private static func byteCount(at start: UnsafeMutableRawPointer) -> Int {
        (start - headerByteCount).load(as: Int.self)
    }
}

// Does not retain: the context, which every session's connection holds, keeps the memory.
@inline(__always)
private func with<Result>(_ pointer: UnsafeMutableRawPointer?, _ body: (SessionMemory) -> Result) -> Result {
    Unmanaged<SessionMemory>.fromOpaque(pointer.unsafelyUnwrapped)._withUnsafeGuaranteedRef(body)
}
