import COpenSSLShims
import Prelude

/// Who is at the other end, as far as TLS has checked it.
public struct TLSIdentity: Sendable, Equatable {
    /// The common name and the alternative names (DNS, URI, mail) of the certificate; empty without one.
    public var names: [String]
    /// It was let in as a peer, by a certificate of the CA of the peers.
    public var isPeer: Bool

    public init(names: [String] = [], isPeer: Bool = false) {
        self.names = names
        self.isPeer = isPeer
    }
}

/// TLS over another connection, between two memory buffers of OpenSSL. Confined to the loop.
///
/// `handshaking` until both sides have agreed, `open`, `closing` from our last bytes, `closed`. Invalid events: what the
/// other side does wrong ends the connection with the reason; calls that come too late are benign races and ignored.
final class TLSConnection: Connection, ConnectionHandler {
    private enum Phase { case handshaking, open, closing, closed }

    private let transport: any Connection
    private let context: TLSContext
    private let session: OpaquePointer
    private let clock: any Clock
    private var phase = Phase.handshaking
    private var currentHandler: (any ConnectionHandler)?
    private var wasHandlerTold = false
    private var closeReason: NetworkError?
    private var isDelivering = false
    private var isDeliveryPostponed = false
    private var deadline: (any ScheduledTimer)?
    private var completion: ((Result<TLSConnection, NetworkError>) -> Void)?

    /// Set when the handshake is over.
    private(set) var identity = TLSIdentity()

    /// Begins the handshake; `completion` runs once, with the open connection or with why there is none, in which case
    /// the transport is closed. `host`: of a client, whom the certificate has to name.
    init?(
        _ transport: any Connection, context: TLSContext, host: String?, asPeer: Bool, clock: any Clock,
        timeout: Nanoseconds, completion: @escaping (Result<TLSConnection, NetworkError>) -> Void
    ) {
        let serverName = asPeer ? TLSContext.peerServerName : nil
        guard let session = raftoral_tls_session_new(context.pointer, host, serverName) else { return nil }
        self.transport = transport
        self.context = context
        self.session = session
        self.clock = clock
        self.completion = completion
        deadline = clock.schedule(after: timeout) { [weak self] in
            self?.failHandshake(.broken(reason: "TLS: the handshake was not over in time"))
        }
        transport.handler = self
        if host != nil { shakeHands() }
    }

    deinit { raftoral_tls_session_free(session) }

    // MARK: The handshake

    private func shakeHands() {
        let result = raftoral_tls_handshake(session)
        // Before a failure is told: the other side is to hear of it, by an alert.
        flush()
        switch result {
        case 0: return
        case 1: succeed()
        default: failHandshake(.broken(reason: "TLS: \(failureText)"))
        }
    }

    private func succeed() {
        guard phase == .handshaking else { return }
        phase = .open
        deadline?.cancel()
        deadline = nil
        let names = String(cString: raftoral_tls_other_names(session)).split(separator: "\n").map(String.init)
        let isPeer = context.peers.map { raftoral_tls_is_served_by(session, $0.pointer) } ?? false
        identity = TLSIdentity(names: names, isPeer: isPeer)
        let tell = completion
        completion = nil
        tell?(.success(self))
    }

    /// Ends it without a word to a handler, because there is none yet.
    private func failHandshake(_ reason: NetworkError) {
        guard phase == .handshaking else { return }
        phase = .closed
        closeReason = reason
        deadline?.cancel()
        deadline = nil
        let tell = completion
        completion = nil
        // What was written, an alert above all, still goes out.
        transport.closeAfterFlush()
        tell?(.failure(reason))
    }

    /// Ends a handshake that is still under way.
    func giveUp(_ reason: NetworkError) { failHandshake(reason) }

    private var failureText: String { String(cString: raftoral_tls_failure(session)) }

    // MARK: Bytes in

    func connectionDidRead(_ bytes: UnsafeRawBufferPointer) {
        guard phase == .handshaking || phase == .open else { return }
        guard raftoral_tls_receive(session, bytes.baseAddress, bytes.count) else {
            return end(.broken(reason: "TLS: no memory"))
        }
        if phase == .handshaking { shakeHands() }
        deliver()
    }

    /// Hands over what can be decrypted, as long as the handler takes it.
    private func deliver() {
        guard !isDelivering else { return }
        isDelivering = true
        defer { isDelivering = false }
        withUnsafeTemporaryAllocation(byteCount: Self.recordByteCountMax, alignment: 16) { buffer in
            guard let start = buffer.baseAddress else { return }
            while phase == .open, !isReadingPaused, let handler = currentHandler {
                let count = raftoral_tls_read(session, start, buffer.count)
                switch count {
                case 1...: handler.connectionDidRead(UnsafeRawBufferPointer(rebasing: buffer[..<Int(count)]))
                case 0: return flush()
                case -1:
                    closeReason = .endOfStream
                    return closeAfterFlush()
                default:
                    let reason = failureText
                    flush()
                    return end(.broken(reason: "TLS: \(reason)"))
                }
            }
        }
    }

    /// RFC 8446 §5.1.
    private static let recordByteCountMax = 16 << 10

    private func deliverLater() {
        guard !isDeliveryPostponed, phase == .open else { return }
        isDeliveryPostponed = true
        _ = clock.schedule(after: 0) { [weak self] in
            self?.isDeliveryPostponed = false
            self?.deliver()
        }
    }

    func connectionDidDrain() { currentHandler?.connectionDidDrain() }

    func connectionDidClose(_ reason: NetworkError) {
        failHandshake(reason == .endOfStream ? .broken(reason: "TLS: closed in the handshake") : reason)
        phase = .closed
        tellHandler(reason)
    }

    // MARK: Connection

    var remoteAddress: HostPort { transport.remoteAddress }
    var bufferedByteCount: Int { transport.bufferedByteCount }

    var handler: (any ConnectionHandler)? {
        get { currentHandler }
        set {
            if phase == .closed, !wasHandlerTold, let newValue {
                // It closed before anyone listened; whoever comes late is told as well, though not from in here.
                wasHandlerTold = true
                _ = clock.schedule(after: 0) { [closeReason] in
                    newValue.connectionDidClose(closeReason ?? .closedLocally)
                }
                return
            }
            currentHandler = newValue
            if newValue != nil { deliverLater() }
        }
    }

    var isReadingPaused = false {
        didSet {
            guard isReadingPaused != oldValue else { return }
            transport.isReadingPaused = isReadingPaused
            if !isReadingPaused { deliverLater() }
        }
    }

    func write(_ bytes: UnsafeRawBufferPointer) {
        guard phase == .open, let start = bytes.baseAddress, !bytes.isEmpty else { return }
        guard raftoral_tls_write(session, start, bytes.count) else {
            return end(.broken(reason: "TLS: \(failureText)"))
        }
        flush()
    }

    func closeAfterFlush() {
        guard phase == .open else { return close() }
        phase = .closing
        raftoral_tls_end(session)
        flush()
        transport.closeAfterFlush()
    }

    func close() {
        guard phase != .closed else { return }
        if phase == .open {
            raftoral_tls_end(session)
            flush()
        }
        end(.closedLocally)
    }

    private func flush() {
        var bytes: UnsafeRawPointer?
        let count = raftoral_tls_output(session, &bytes)
        guard count > 0 else { return }
        transport.write(UnsafeRawBufferPointer(start: bytes, count: count))
        raftoral_tls_sent(session)
    }

    /// The handler hears of it with the end of the transport, never from within its own call.
    private func end(_ reason: NetworkError) {
        if phase == .handshaking { return failHandshake(reason) }
        guard phase != .closed else { return }
        phase = .closed
        if closeReason == nil { closeReason = reason }
        transport.close()
    }

    private func tellHandler(_ reason: NetworkError) {
        guard !wasHandlerTold, let handler = currentHandler else {
            if closeReason == nil { closeReason = reason }
            return
        }
        wasHandlerTold = true
        currentHandler = nil
        handler.connectionDidClose(closeReason ?? reason)
    }
}
