import Prelude
import Storage

/// Spaces out pieces, so that no more than so many bytes a second go.
struct Pacer {
    private var nextAt: Nanoseconds = 0

    /// How long a piece of this size has to wait.
    mutating func take(_ byteCount: UInt64, bytesPerSecondMax: UInt64, now: Nanoseconds) -> Nanoseconds {
        let start = max(now, nextAt)
        nextAt = start + byteCount.multipliedReportingOverflow(by: 1_000_000_000).partialValue / bytesPerSecondMax
        return start - now
    }
}

/// A file that is handed out by pieces at a bounded rate, and goes when nobody needs it any more. Confined to the loop.
final class ServedFile {
    let path: String
    let byteCount: UInt64
    /// CRC-32C of the whole file.
    let checksum: UInt32
    private let seams: Seams
    private let pieceByteCountMax: Int
    private let bytesPerSecondMax: UInt64
    private var pacer = Pacer()
    private(set) var lastUsed: Nanoseconds
    private(set) var readerCount = 0
    private var isGone = false

    init(
        _ path: String, byteCount: UInt64, checksum: UInt32, seams: Seams, pieceByteCountMax: Int,
        bytesPerSecondMax: UInt64
    ) {
        self.path = path
        self.byteCount = byteCount
        self.checksum = checksum
        self.seams = seams
        self.pieceByteCountMax = pieceByteCountMax
        self.bytesPerSecondMax = bytesPerSecondMax
        lastUsed = seams.clock.now
    }

    /// Without a reader for so long.
    var idleTime: Nanoseconds { readerCount > 0 ? 0 : seams.clock.now - lastUsed }

    /// The piece from `offset` on, when its time has come; nil when the file is gone. Empty at the end of the file only.
    func read(at offset: UInt64, completion: @escaping (Result<[UInt8], StorageError>?) -> Void) {
        readerCount += 1
        let now = seams.clock.now
        lastUsed = now
        let count = min(UInt64(pieceByteCountMax), byteCount - min(offset, byteCount))
        let pause = pacer.take(count, bytesPerSecondMax: bytesPerSecondMax, now: now)
        if pause == 0 { return readNow(offset, completion) }
        _ = seams.clock.schedule(after: pause) { [self] in readNow(offset, completion) }
    }

    private func readNow(_ offset: UInt64, _ completion: @escaping (Result<[UInt8], StorageError>?) -> Void) {
        if isGone {
            readerCount -= 1
            return completion(nil)
        }
        seams.work.perform { [path, pieceByteCountMax, disk = seams.disk] () -> Result<[UInt8], StorageError> in
            do throws(StorageError) {
                return .success(
                    try StateFiles.readPiece(path, at: offset, byteCountMax: pieceByteCountMax, disk: disk))
            } catch {
                return .failure(error)
            }
        } completion: { [self] result in
            readerCount -= 1
            lastUsed = seams.clock.now
            completion(isGone ? nil : result)
        }
    }

    /// One that stays goes at the next start.
    func remove() {
        isGone = true
        Self.remove(path, seams)
    }

    static func remove(_ path: String, _ seams: Seams) {
        let disk = seams.disk
        seams.work.perform {
            try? StateFiles.remove(path, disk)
        } completion: { _ in
        }
    }
}
