import DequeModule

/// The messages of one call that wait to be sent, framed: a flag, a length of four bytes, the message.
///
/// The first message of a call, which is mostly the only one, and large ones are kept as the arrays they came in; small ones
/// that follow are gathered in one buffer.
struct OutgoingMessages {
    static let prefixByteCount = 5
    private static let gatheredByteCountMax = 4 << 10

    /// What goes out first, from `offset`; then the arrays of `rest`. At an offset below 0 the prefix of the message that
    /// `first` is goes out before it.
    private var first: [UInt8] = []
    private var offset = 0
    private var rest: Deque<[UInt8]> = []
    private(set) var byteCount = 0

    mutating func append(message: UnsafeRawBufferPointer, isCompressed: Bool = false) {
        appendPrefix(of: message.count, isCompressed, reserving: message.count)
        gather(message)
    }

    mutating func append(message: [UInt8], isCompressed: Bool = false) {
        if first.capacity == 0, byteCount == 0, !isCompressed {
            first = message
            offset = -Self.prefixByteCount
            byteCount = Self.prefixByteCount + message.count
        } else if message.count <= Self.gatheredByteCountMax {
            message.withUnsafeBytes { append(message: $0, isCompressed: isCompressed) }
        } else {
            appendPrefix(of: message.count, isCompressed, reserving: 0)
            rest.append(message)
            byteCount += message.count
        }
    }

    /// Bytes that are no message: the line of text that a caller gets who speaks no gRPC.
    mutating func append(text: String) {
        rest.append(Array(text.utf8))
        byteCount += text.utf8.count
    }

    mutating func removeAll() { self = OutgoingMessages() }

    /// Moves the first `count` bytes to `target`. Precondition: there are as many.
    mutating func move(_ count: Int, to target: UnsafeMutableRawPointer) {
        var target = target
        var missing = count
        byteCount -= count
        while offset < 0, missing > 0 {
            target.storeBytes(of: prefixByte(Self.prefixByteCount + offset, of: first.count), as: UInt8.self)
            offset += 1
            target += 1
            missing -= 1
        }
        while missing > 0 {
            if offset == first.count {
                first = rest.removeFirst()
                offset = 0
            }
            let step = min(missing, first.count - offset)
            first.withUnsafeBytes { target.copyMemory(from: $0.baseAddress! + offset, byteCount: step) }
            offset += step
            target += step
            missing -= step
        }
        if byteCount == 0 {
            first.removeAll(keepingCapacity: first.capacity <= Self.gatheredByteCountMax)
            rest.removeAll()
            offset = 0
        }
    }

    private func prefixByte(_ place: Int, of messageByteCount: Int) -> UInt8 {
        place == 0 ? 0 : UInt8(truncatingIfNeeded: messageByteCount >> (8 * (Self.prefixByteCount - 1 - place)))
    }

    private mutating func appendPrefix(of messageByteCount: Int, _ isCompressed: Bool, reserving: Int) {
        let length = UInt32(truncatingIfNeeded: messageByteCount)
        if rest.isEmpty, offset == first.count {
            first.removeAll(keepingCapacity: true)
            offset = 0
            first.reserveCapacity(Self.prefixByteCount + reserving)
        }
        withUnsafeTemporaryAllocation(byteCount: Self.prefixByteCount, alignment: 1) { prefix in
            prefix[0] = isCompressed ? MessageReader.compressedFlag : 0
            prefix.storeBytes(of: length.bigEndian, toByteOffset: 1, as: UInt32.self)
            gather(UnsafeRawBufferPointer(prefix))
        }
    }

    /// Into the last buffer, unless it is a large message of its own or full.
    private mutating func gather(_ bytes: UnsafeRawBufferPointer) {
        byteCount += bytes.count
        if rest.isEmpty {
            // What `first` is while its prefix is to come must stay as long as that will say.
            if offset >= 0, first.count < Self.gatheredByteCountMax {
                first.append(contentsOf: bytes)
                return
            }
        } else if rest[rest.count - 1].count < Self.gatheredByteCountMax {
            rest[rest.count - 1].append(contentsOf: bytes)
            return
        }
        rest.append(Array(bytes))
    }
}
