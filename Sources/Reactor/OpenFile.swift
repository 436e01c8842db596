import CUVShims
import Glibc
import Prelude
import Synchronization

/// A file by its descriptor. Safe for several work items at once; `close` must not come while one is at it.
final class OpenFile: DiskFile {
    private let path: String
    /// -1 once closed, so that a number that the system has given away again is never touched.
    private let descriptor: Atomic<Int32>
    /// Of the same file, for writes past the system's memory; -1 for none.
    private let directDescriptor = Atomic<Int32>(-1)
    private let isDirectRefused = Atomic(false)

    init(descriptor: Int32, path: String) {
        self.descriptor = Atomic(descriptor)
        self.path = path
    }

    deinit { close() }

    var byteCount: UInt64 {
        get throws(DiskError) {
            let descriptor = try opened("measure")
            var status = stat()
            if fstat(descriptor, &status) != 0 { throw failure("measure") }
            return UInt64(max(0, status.st_size))
        }
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        let descriptor = try opened("read")
        let start = try place(offset, buffer.count, "read")
        var done = 0
        while done < buffer.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
            let count = retrying { pread(descriptor, rest.baseAddress, rest.count, start + off_t(done)) }
            if count < 0 { throw failure("read") }
            if count == 0 { break }
            done += count
        }
        return done
    }

    func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws(DiskError) {
        let descriptor = try opened("write")
        let start = try place(offset, bytes.count, "write")
        var done = 0
        while done < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
            let place = start + off_t(done)
            let direct = direct(rest, place)
            let count = retrying { pwrite(direct ?? descriptor, rest.baseAddress, rest.count, place) }
            if count < 0, direct != nil, errno == EINVAL {
                // The file system wants larger units, or none at all.
                isDirectRefused.store(true, ordering: .relaxed)
                continue
            }
            if count < 0 { throw failure("write") }
            if count == 0 { throw failure("write", reason: "the system took nothing") }
            done += count
        }
    }

    func synchronizeData() throws(DiskError) {
        let descriptor = try opened("synchronize")
        if retrying({ fdatasync(descriptor) }) != 0 { throw failure("synchronize") }
    }

    func truncate(to byteCount: UInt64) throws(DiskError) {
        let descriptor = try opened("truncate")
        let length = try place(byteCount, 0, "truncate")
        if retrying({ ftruncate(descriptor, length) }) != 0 { throw failure("truncate") }
    }

    /// Where it cannot be, all writes go through the system's memory.
    func preferDirectWrites() {
        guard let descriptor = try? opened("open") else { return }
        // The file itself, whatever has become of its name.
        let direct = retrying { open("/proc/self/fd/\(descriptor)", O_WRONLY | O_CLOEXEC | raftoral_open_direct) }
        guard direct >= 0 else { return }
        let before = directDescriptor.exchange(direct, ordering: .acquiringAndReleasing)
        if before >= 0 { closeDescriptor(before) }
    }

    /// The descriptor for a write that can go past the system's memory.
    private func direct(_ bytes: UnsafeRawBufferPointer, _ offset: off_t) -> Int32? {
        let unit = DiskUnit.byteCount
        guard Int(bitPattern: bytes.baseAddress) % unit == 0, bytes.count % unit == 0, Int(offset) % unit == 0 else {
            return nil
        }
        let descriptor = directDescriptor.load(ordering: .acquiring)
        return descriptor < 0 || isDirectRefused.load(ordering: .relaxed) ? nil : descriptor
    }

    func close() {
        for held in [
            directDescriptor.exchange(-1, ordering: .acquiringAndReleasing),
            descriptor.exchange(-1, ordering: .acquiringAndReleasing),
        ] where held >= 0 {
            closeDescriptor(held)
        }
    }

    private func opened(_ operation: String) throws(DiskError) -> Int32 {
        let descriptor = descriptor.load(ordering: .acquiring)
        if descriptor < 0 { throw failure(operation, reason: "the file was closed") }
        return descriptor
    }

    /// The offset as the system takes it, such that the end of `count` bytes from there is one too.
    private func place(_ offset: UInt64, _ count: Int, _ operation: String) throws(DiskError) -> off_t {
        guard let start = off_t(exactly: offset), start <= off_t.max - off_t(count) else {
            throw failure(operation, reason: "offset \(offset) is beyond what a file can have")
        }
        return start
    }

    private func failure(_ operation: String) -> DiskError { DiskError(errno: errno, operation, path) }

    private func failure(_ operation: String, reason: String) -> DiskError {
        DiskError(kind: .io, operation: operation, path: path, reason: reason)
    }
}

/// Holds a lock for as long as its descriptor is open.
final class HeldLock: DiskLock {
    private let descriptor: Atomic<Int32>

    init(descriptor: Int32) { self.descriptor = Atomic(descriptor) }

    deinit { unlock() }

    func unlock() {
        let descriptor = descriptor.exchange(-1, ordering: .acquiringAndReleasing)
        if descriptor >= 0 { closeDescriptor(descriptor) }
    }
}
