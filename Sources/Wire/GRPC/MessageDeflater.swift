import CZlib

/// Compresses messages, each as one gzip member (RFC 1952). One for all calls of a server or channel.
final class MessageDeflater {
    private let stream: UnsafeMutablePointer<z_stream>
    private var isReady = false
    private let byteCountPerTurnMax: Int
    private var turn: UInt64 = 0
    private var leftByteCount = 0

    init(byteCountPerTurnMax: Int) {
        self.byteCountPerTurnMax = byteCountPerTurnMax
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
    }

    deinit {
        if isReady { deflateEnd(stream) }
        stream.deallocate()
    }

    /// Whether so much may still be compressed in this turn; if so it counts as done.
    func admit(_ byteCount: Int, turn: UInt64) -> Bool {
        if turn != self.turn {
            self.turn = turn
            leftByteCount = byteCountPerTurnMax
        }
        guard byteCount <= leftByteCount else { return false }
        leftByteCount -= byteCount
        return true
    }

    /// Nil when there is no memory for it.
    func deflate(_ bytes: UnsafeRawBufferPointer) -> [UInt8]? {
        guard begin() else { return nil }
        let bound = Int(deflateBound(stream, UInt(bytes.count)))
        var isDone = false
        let packed = [UInt8](unsafeUninitializedCapacity: bound) { target, count in
            stream.pointee.next_in = UnsafeMutablePointer(
                mutating: bytes.assumingMemoryBound(to: UInt8.self).baseAddress)
            stream.pointee.avail_in = UInt32(bytes.count)
            stream.pointee.next_out = target.baseAddress
            stream.pointee.avail_out = UInt32(bound)
            isDone = CZlib.deflate(stream, Z_FINISH) == Z_STREAM_END
            count = bound - Int(stream.pointee.avail_out)
        }
        return isDone ? packed : nil
    }

    private func begin() -> Bool {
        if isReady { return deflateReset(stream) == Z_OK }
        // The fastest level; 16 asks for the header and trailer of gzip.
        isReady =
            deflateInit2_(
                stream, 1, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
                Int32(MemoryLayout<z_stream>.size)) == Z_OK
        return isReady
    }
}
