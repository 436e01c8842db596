import Prelude

/// Cuts the data of one stream into messages: a flag, a length of four bytes, the message.
///
/// Messages that lie whole in a chunk are handed out where they lie; only what is cut by a chunk's end, and what
/// arrives while nobody reads, is copied. Bytes come from outside: a wrong one ends in `.failed`, after which
/// everything is ignored. Nothing here is an invalid event by our own fault, and there are no races.
struct MessageReader {
    enum Event {
        /// The chunk is used up.
        case needMore
        /// Part of the chunk.
        case inChunk(UnsafeRawBufferPointer)
        /// A message that arrived in pieces: the slice without the prefix.
        case assembled(ArraySlice<UInt8>)
        /// A message that has to be inflated: it lies at the front of what is kept until it is dropped, and nothing after
        /// it is looked at before that.
        case compressed
        case failed(Failure)
    }

    enum Failure: Equatable {
        /// Flagged as compressed, but not by an encoding that is known.
        case compressed
        case notGzip
        case inflatesTooLarge
        case noMemory
        case unknownFlag(UInt8)
        case tooLarge(byteCount: UInt32)
    }

    static let prefixByteCount = 5
    static let compressedFlag: UInt8 = 1

    private let messageByteCountMax: Int
    /// The other side has announced gzip.
    var acceptsGzip = false
    private var buffer: [UInt8] = []
    private var offset = 0
    private var hasFailed = false
    /// Of the compressed message at the front, with its prefix.
    private var compressedByteCount = 0

    init(messageByteCountMax: Int) { self.messageByteCountMax = messageByteCountMax }

    var bufferedByteCount: Int { buffer.count - offset }

    /// Keeps `chunk` for later, without looking at it.
    mutating func keep(_ chunk: UnsafeRawBufferPointer) {
        if !hasFailed { buffer.append(contentsOf: chunk) }
    }

    mutating func removeAll() {
        buffer = []
        offset = 0
        compressedByteCount = 0
        hasFailed = true
    }

    /// Precondition: `.compressed` came, and nothing was dropped or removed since.
    func withCompressedMessage<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        invariant(compressedByteCount > 0, "there is a compressed message at the front")
        return buffer.withUnsafeBytes { bytes in
            body(
                UnsafeRawBufferPointer(
                    rebasing: bytes[(offset + Self.prefixByteCount)..<(offset + compressedByteCount)]))
        }
    }

    /// The compressed message at the front has been taken.
    mutating func dropCompressedMessage() {
        offset += compressedByteCount
        compressedByteCount = 0
        releaseIfEmpty()
    }

    private mutating func releaseIfEmpty() {
        guard offset == buffer.count else { return }
        buffer = []
        offset = 0
    }

    /// The next message of what was kept and `chunk`, which loses what was used of it.
    mutating func next(_ chunk: inout UnsafeRawBufferPointer) -> Event {
        guard !hasFailed else {
            chunk = UnsafeRawBufferPointer(start: nil, count: 0)
            return .needMore
        }
        if compressedByteCount > 0 { return .compressed }
        return bufferedByteCount == 0 ? nextInChunk(&chunk) : nextAssembled(&chunk)
    }

    private mutating func nextInChunk(_ chunk: inout UnsafeRawBufferPointer) -> Event {
        guard chunk.count >= Self.prefixByteCount else {
            take(chunk.count, of: &chunk)
            return .needMore
        }
        let length: Int
        switch messageByteCount(of: chunk) {
        case .success(let count): length = count
        case .failure(let failure): return fail(failure)
        }
        let end = Self.prefixByteCount + length
        guard chunk.count >= end else {
            take(chunk.count, of: &chunk)
            return .needMore
        }
        if chunk[0] == Self.compressedFlag {
            take(end, of: &chunk)
            compressedByteCount = end
            return .compressed
        }
        let message = UnsafeRawBufferPointer(rebasing: chunk[Self.prefixByteCount..<end])
        chunk = UnsafeRawBufferPointer(rebasing: chunk[end...])
        return .inChunk(message)
    }

    private mutating func nextAssembled(_ chunk: inout UnsafeRawBufferPointer) -> Event {
        guard complete(Self.prefixByteCount, from: &chunk) else { return .needMore }
        let prefix = buffer.withUnsafeBytes { bytes in
            messageByteCount(of: UnsafeRawBufferPointer(rebasing: bytes[offset...]))
        }
        let length: Int
        switch prefix {
        case .success(let count): length = count
        case .failure(let failure): return fail(failure)
        }
        guard complete(Self.prefixByteCount + length, from: &chunk) else { return .needMore }
        if buffer[offset] == Self.compressedFlag {
            compressedByteCount = Self.prefixByteCount + length
            return .compressed
        }
        let start = offset + Self.prefixByteCount
        offset = start + length
        let message = buffer[start..<offset]
        releaseIfEmpty()
        return .assembled(message)
    }

    /// Fills the buffer to `byteCount` bytes, as far as `chunk` reaches. The announced length reserves nothing: it
    /// may lie.
    private mutating func complete(_ byteCount: Int, from chunk: inout UnsafeRawBufferPointer) -> Bool {
        let missing = byteCount - bufferedByteCount
        if missing > 0 { take(min(missing, chunk.count), of: &chunk) }
        return bufferedByteCount >= byteCount
    }

    private mutating func take(_ count: Int, of chunk: inout UnsafeRawBufferPointer) {
        guard count > 0 else { return }
        if offset > 0, offset == buffer.count || offset > buffer.count / 2 {
            buffer.removeSubrange(..<offset)
            offset = 0
        }
        buffer.append(contentsOf: chunk[..<count])
        chunk = UnsafeRawBufferPointer(rebasing: chunk[count...])
    }

    private func messageByteCount(of bytes: UnsafeRawBufferPointer) -> Result<Int, PrefixError> {
        switch bytes[0] {
        case 0: break
        case Self.compressedFlag where acceptsGzip: break
        case Self.compressedFlag: return .failure(PrefixError(failure: .compressed))
        default: return .failure(PrefixError(failure: .unknownFlag(bytes[0])))
        }
        let length = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 1, as: UInt32.self))
        guard length <= messageByteCountMax else { return .failure(PrefixError(failure: .tooLarge(byteCount: length))) }
        return .success(Int(length))
    }

    private struct PrefixError: Error { var failure: Failure }

    private mutating func fail(_ error: PrefixError) -> Event {
        removeAll()
        return .failed(error.failure)
    }
}

extension MessageReader.Failure {
    /// Of a message that was to be inflated, on either side.
    func status(_ limits: WireLimits) -> GRPCStatus {
        switch self {
        case .inflatesTooLarge:
            GRPCStatus(
                .resourceExhausted, "a compressed message inflates to more than \(limits.messageByteCountMax) bytes")
        case .noMemory: GRPCStatus(.resourceExhausted, "no memory to inflate a message")
        case .notGzip, .compressed, .unknownFlag, .tooLarge:
            GRPCStatus(.internalError, "a compressed message is not one whole gzip member")
        }
    }
}
