import CUV
import CUVShims
import Prelude

/// One TCP connection.
///
/// `open → (flushing →) (lingering →) closed`. The handler is told of the end once: when the socket is closed,
/// or earlier, on the way into `lingering`, in which the last bytes go out without it. Calls that come too late
/// (`write` after the other side has gone, `close` twice) are benign races and ignored.
final class TCPConnection: Connection, LoopResource {
    private enum Phase {
        case open
        /// `closeAfterFlush` was called and there is something to flush. What arrives is thrown away.
        case flushing
        /// The handler has been told. Either the other side ended first and gets what was still buffered, or all
        /// was sent and we wait for it to end too: to close before it has read would reset the connection, and
        /// it would lose what we sent.
        case lingering
        case closed
    }

    let remoteAddress: HostPort
    private let loop: EventLoop
    let tcp: UnsafeMutablePointer<uv_tcp_t>
    private var phase = Phase.open
    private var closeReason = NetworkError.closedLocally
    private var currentHandler: (any ConnectionHandler)?
    private var wasHandlerTold = false

    private var isReading = false
    private var isThrottled = false
    private var hasPeerEnded = false
    private var readTurn: UInt64 = 0
    private var readByteCountThisTurn = 0

    /// At most one write is with libuv; what comes meanwhile waits for the next.
    private var inFlight = OutgoingBytes()
    private var waiting = OutgoingBytes()
    private var isWriting = false
    /// Why nothing can be sent any more, while what had arrived before is still being read.
    private var outputFailure: Int32?
    private let writeRequest: UnsafeMutablePointer<uv_write_t>
    private let shutdownRequest: UnsafeMutablePointer<uv_shutdown_t>
    private var lingerTimer: (any ScheduledTimer)?

    /// Not yet connected: `open` or `connect` follows.
    init(loop: EventLoop, remoteAddress: HostPort) {
        self.loop = loop
        self.remoteAddress = remoteAddress
        tcp = .allocate(capacity: 1)
        writeRequest = .allocate(capacity: 1)
        shutdownRequest = .allocate(capacity: 1)
        invariant(uv_tcp_init(loop.uvLoop, tcp) == 0, "a TCP handle can be made")
        tcp.pointee.data = Unmanaged.passUnretained(self).toOpaque()
        // On a loop that is closing there is no callback that could hand over a connection.
        invariant(loop.adopt(self), "an open loop takes connections")
    }

    deinit {
        tcp.deallocate()
        writeRequest.deallocate()
        shutdownRequest.deallocate()
    }

    /// Takes over a connected socket; false, with everything closed, when libuv refuses it.
    func open(_ descriptor: Int32) -> Bool {
        let result = uv_tcp_open(tcp, descriptor)
        guard result == 0 else {
            closeDescriptor(descriptor)
            close()
            return false
        }
        didConnect()
        return true
    }

    func didConnect() {
        // A failure means that the connection broke already, which reading will tell.
        uv_tcp_nodelay(tcp, 1)
        uv_tcp_keepalive(tcp, 1, loop.limits.keepaliveSeconds)
    }

    var handler: (any ConnectionHandler)? {
        get { currentHandler }
        set {
            if wasHandlerTold, let newValue {
                // It closed before anyone listened; whoever comes late is told as well, though not from in here.
                _ = loop.clock.schedule(after: 0) { [closeReason] in newValue.connectionDidClose(closeReason) }
                return
            }
            currentHandler = newValue
            updateReading()
        }
    }

    // MARK: - Reading

    var isReadingPaused = false {
        didSet { updateReading() }
    }

    private func updateReading() {
        let wantsToRead =
            switch phase {
            case .open: currentHandler != nil && !isReadingPaused && !isThrottled
            case .flushing, .lingering: !hasPeerEnded && !isThrottled
            case .closed: false
            }
        guard wantsToRead != isReading, phase != .closed else { return }
        isReading = wantsToRead
        guard wantsToRead else {
            uv_read_stop(raftoral_uv_stream(tcp))
            return
        }
        let result = uv_read_start(
            raftoral_uv_stream(tcp),
            { handle, _, buffer in
                guard let handle, let buffer else { return }
                TCPConnection.with(handle.pointee.data) { connection in
                    let shared = connection.loop.readBuffer
                    buffer.pointee = uvBuffer(shared.baseAddress, shared.count)
                }
            },
            { stream, count, buffer in
                guard let stream, let buffer else { return }
                TCPConnection.with(stream.pointee.data) { $0.didRead(count, buffer.pointee.base) }
            })
        if result < 0 { fail(result) }
    }

    private func didRead(_ count: Int, _ start: UnsafeMutableRawPointer?) {
        if count > 0 {
            throttle(after: count)
            guard phase == .open, let currentHandler else { return }
            currentHandler.connectionDidRead(UnsafeRawBufferPointer(start: start, count: count))
        } else if count == Int(UV_EOF.rawValue) {
            peerDidEnd()
        } else if count < 0 {
            fail(Int32(truncatingIfNeeded: count))
        }
    }

    /// One fast sender must not hold the loop: what it sends beyond its share waits for the next turn.
    private func throttle(after count: Int) {
        if readTurn != loop.turnNumber {
            readTurn = loop.turnNumber
            readByteCountThisTurn = 0
        }
        readByteCountThisTurn += count
        guard readByteCountThisTurn >= loop.limits.readByteCountPerTurnMax, !isThrottled else { return }
        isThrottled = true
        updateReading()
        loop.atEndOfTurn { [self] in
            isThrottled = false
            updateReading()
        }
    }

    private func peerDidEnd() {
        hasPeerEnded = true
        if let outputFailure {
            fail(outputFailure)
            return
        }
        switch phase {
        case .open where bufferedByteCount > 0:
            closeReason = .endOfStream
            phase = .lingering
            startLingering()
            updateReading()
            tellHandler()
        case .open:
            close(.endOfStream)
        case .lingering where bufferedByteCount == 0:
            close()
        case .flushing, .lingering:
            updateReading()
        case .closed:
            break
        }
    }

    // MARK: - Writing

    var bufferedByteCount: Int {
        if phase == .closed { return 0 }
        return waiting.count + (isWriting ? uv_stream_get_write_queue_size(raftoral_uv_stream(tcp)) : 0)
    }

    func write(_ bytes: UnsafeRawBufferPointer) {
        guard phase == .open, outputFailure == nil, let start = bytes.baseAddress, !bytes.isEmpty else { return }
        var sentByteCount = 0
        if bufferedByteCount == 0 {
            var buffer = uvBuffer(UnsafeMutableRawPointer(mutating: start), bytes.count)
            let result = uv_try_write(raftoral_uv_stream(tcp), &buffer, 1)
            if result < 0, result != UV_EAGAIN.rawValue {
                failOutput(result)
                return
            }
            sentByteCount = max(0, Int(result))
        }
        if sentByteCount < bytes.count {
            waiting.append(UnsafeRawBufferPointer(rebasing: bytes[sentByteCount...]))
            if !isWriting { writeWaiting() }
        }
    }

    private func writeWaiting() {
        swap(&inFlight, &waiting)
        waiting = OutgoingBytes()
        isWriting = true
        var buffer = uvBuffer(inFlight.start, inFlight.count)
        let result = uv_write(writeRequest, raftoral_uv_stream(tcp), &buffer, 1) { request, status in
            guard let request else { return }
            TCPConnection.with(request.pointee.handle.pointee.data) { $0.didWrite(status) }
        }
        if result < 0 {
            isWriting = false
            failOutput(result)
        }
    }

    private func didWrite(_ status: Int32) {
        isWriting = false
        inFlight = OutgoingBytes()
        if phase == .closed { return }
        if status < 0 {
            failOutput(status)
        } else if waiting.count > 0 {
            writeWaiting()
        } else {
            switch phase {
            case .open: currentHandler?.connectionDidDrain()
            case .flushing: endOutput()
            case .lingering: close()
            case .closed: break
            }
        }
    }

    /// The other side may have answered before it broke off: what has arrived is read first, and the end of the
    /// input, which the system reports on such a socket without delay, closes.
    private func failOutput(_ code: Int32) {
        guard phase == .open, isReading else {
            fail(code)
            return
        }
        outputFailure = code
        waiting = OutgoingBytes()
    }

    // MARK: - Closing

    func closeAfterFlush() {
        guard phase == .open else { return }
        if let outputFailure {
            fail(outputFailure)
            return
        }
        phase = .flushing
        updateReading()
        startLingering()
        if bufferedByteCount == 0 { endOutput() }
    }

    /// All bytes are with the system: tells the other side that no more will come.
    private func endOutput() {
        if hasPeerEnded {
            close()
            return
        }
        let result = uv_shutdown(shutdownRequest, raftoral_uv_stream(tcp)) { request, status in
            guard let request else { return }
            TCPConnection.with(request.pointee.handle.pointee.data) { $0.didEndOutput(status) }
        }
        if result < 0 { fail(result) }
    }

    private func didEndOutput(_ status: Int32) {
        guard phase == .flushing else { return }
        if status < 0 {
            fail(status)
        } else if hasPeerEnded {
            close()
        } else {
            phase = .lingering
            startLingering()
            tellHandler()
        }
    }

    /// Gives the other side time, and more as long as it takes bytes.
    private func startLingering() {
        lingerTimer?.cancel()
        let mark = bufferedByteCount
        lingerTimer = loop.clock.schedule(after: .milliseconds(loop.limits.lingerMilliseconds)) { [self] in
            if bufferedByteCount < mark { startLingering() } else { close() }
        }
    }

    func close() { close(.closedLocally) }

    func loopWillClose() { close() }

    private func fail(_ code: Int32) { close(.broken(reason: uvReason(code))) }

    private func close(_ reason: NetworkError) {
        guard phase != .closed else { return }
        if !wasHandlerTold { closeReason = reason }
        phase = .closed
        isReading = false
        waiting = OutgoingBytes()
        lingerTimer?.cancel()
        lingerTimer = nil
        // libuv gives back requests in flight before it calls this.
        uv_close(raftoral_uv_handle(tcp)) { handle in
            TCPConnection.with(handle?.pointee.data) { connection in
                connection.loop.release(connection)
                connection.tellHandler()
            }
        }
    }

    private func tellHandler() {
        if wasHandlerTold { return }
        wasHandlerTold = true
        let handler = currentHandler
        currentHandler = nil
        handler?.connectionDidClose(closeReason)
    }

    private static func with(_ data: UnsafeMutableRawPointer?, _ body: (TCPConnection) -> Void) {
        if let data { body(Unmanaged<TCPConnection>.fromOpaque(data).takeUnretainedValue()) }
    }
}

private func uvBuffer(_ start: UnsafeMutableRawPointer?, _ count: Int) -> uv_buf_t {
    uv_buf_t(base: start?.assumingMemoryBound(to: CChar.self), len: count)
}
