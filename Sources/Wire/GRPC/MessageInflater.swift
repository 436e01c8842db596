import CZlib
import DequeModule

/// Inflates messages that came compressed by gzip (RFC 1952), for all calls of a server or channel.
///
/// One message at a time, in the order in which they became complete, and only so much in a turn: a message that is small
/// is there at once, what is large or made to cost time takes several turns, and the loop goes on meanwhile. The
/// compressed message stays where it is, in its call's reader, and counts as received and not taken; of inflated
/// messages there is never more than one, which is cut off beyond the limit of messages.
///
/// Bytes come from outside: what is no gzip, ends early or goes on ends in `.failed`. A call that ends while its message
/// waits is a benign race: its ticket is void.
final class MessageInflater {
    enum Outcome {
        case done([UInt8])
        case failed(MessageReader.Failure)
        /// `HTTP2Stream.inflated` follows.
        case waiting
    }

    /// A message's place in the queue.
    final class Ticket {
        fileprivate weak var stream: HTTP2Stream?
        func void() { stream = nil }
        fileprivate init(_ stream: HTTP2Stream) { self.stream = stream }
    }

    private static let stepByteCount = 32 << 10

    private unowned let context: HTTP2Context
    private let stream: UnsafeMutablePointer<z_stream>
    private var isReady = false
    private var scratch = [UInt8](repeating: 0, count: stepByteCount)
    private var queue: Deque<Ticket> = []
    private var isContinuing = false
    private var turn: UInt64 = 0
    /// What zlib may still read and write in this turn.
    private var leftByteCount = 0

    // Of the message that is being inflated, the first of the queue.
    private var consumedByteCount = 0
    private var output: [UInt8] = []

    init(context: HTTP2Context) {
        self.context = context
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
    }

    deinit {
        if isReady { inflateEnd(stream) }
        stream.deallocate()
    }

    /// Messages that wait, or are being inflated. Some of their calls have ended meanwhile.
    var waitingCount: Int { queue.count }

    /// Begins with the compressed message at the front of the call's reader.
    func inflate(for call: HTTP2Stream) -> (outcome: Outcome, ticket: Ticket?) {
        refill()
        if queue.isEmpty {
            guard begin() else { return (.failed(.noMemory), nil) }
            let outcome = advance(call)
            guard case .waiting = outcome else { return (outcome, nil) }
        }
        let ticket = Ticket(call)
        queue.append(ticket)
        continueLater()
        return (.waiting, ticket)
    }

    private func refill() {
        guard context.turnNumber != turn else { return }
        turn = context.turnNumber
        leftByteCount = context.limits.inflatedByteCountPerTurnMax
    }

    private func continueLater() {
        guard !isContinuing, !queue.isEmpty else { return }
        isContinuing = true
        context.postpone { [weak self] in
            self?.isContinuing = false
            self?.continueQueue()
        }
    }

    private func continueQueue() {
        refill()
        while leftByteCount > 0, let ticket = queue.first {
            guard let call = ticket.stream else {
                // Whatever was begun for it is of no use.
                queue.removeFirst()
                if !queue.isEmpty, !begin() { failAll() }
                continue
            }
            let outcome = advance(call)
            if case .waiting = outcome { break }
            queue.removeFirst()
            let canGoOn = queue.isEmpty || begin()
            call.inflated(outcome)
            if !canGoOn { failAll() }
        }
        continueLater()
    }

    private func failAll() {
        let tickets = queue
        queue = []
        for ticket in tickets { ticket.stream?.inflated(.failed(.noMemory)) }
    }

    // MARK: One message

    private func begin() -> Bool {
        consumedByteCount = 0
        output = []
        if isReady { return inflateReset(stream) == Z_OK }
        // 16: the header and trailer of gzip, and nothing else.
        isReady =
            inflateInit2_(stream, MAX_WBITS + 16, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK
        return isReady
    }

    /// As far as this turn allows.
    private func advance(_ call: HTTP2Stream) -> Outcome {
        while leftByteCount > 0 {
            let (code, isAllRead) = call.reader.withCompressedMessage { step($0) }
            if output.count > context.limits.messageByteCountMax {
                context.counters.inflationBombCount += 1
                return end(.failed(.inflatesTooLarge))
            }
            switch code {
            case Z_OK: break
            case Z_STREAM_END: return end(isAllRead ? .done(output) : .failed(.notGzip))
            case Z_MEM_ERROR: return end(.failed(.noMemory))
            default: return end(.failed(.notGzip))
            }
        }
        return .waiting
    }

    private func end(_ outcome: Outcome) -> Outcome {
        output = []
        return outcome
    }

    /// Reads and writes a piece; what zlib says, and whether the message has been read to its end.
    private func step(_ message: UnsafeRawBufferPointer) -> (code: Int32, isAllRead: Bool) {
        let byteCountMax = min(leftByteCount, Self.stepByteCount)
        let given = min(message.count - consumedByteCount, byteCountMax)
        let bytes = message.assumingMemoryBound(to: UInt8.self).baseAddress.map { $0 + consumedByteCount }
        stream.pointee.next_in = UnsafeMutablePointer(mutating: bytes)
        stream.pointee.avail_in = UInt32(given)
        stream.pointee.avail_out = UInt32(byteCountMax)
        let code = scratch.withUnsafeMutableBufferPointer { target in
            stream.pointee.next_out = target.baseAddress
            // Without progress, when the message is used up before its end, it says Z_BUF_ERROR.
            return CZlib.inflate(stream, Z_NO_FLUSH)
        }
        let read = given - Int(stream.pointee.avail_in)
        let written = byteCountMax - Int(stream.pointee.avail_out)
        consumedByteCount += read
        leftByteCount -= min(leftByteCount, read + written)
        output.append(contentsOf: scratch[..<written])
        return (code, consumedByteCount == message.count)
    }
}
