import DequeModule
import Prelude

/// Calls to one server, over one HTTP/2 connection at a time, made when there is a call and remade after a loss.
///
/// Phases: `idle` → `connecting` with the first call → `handshaking` → `ready`; a failed attempt leads to `backoff`,
/// and from there to `connecting` when a call waits for it, else to `idle`; a lost or leaving connection leads from
/// `ready` to `idle`; `close` leads from everywhere to `closed`. What a connection reports that is no longer the
/// current one is a benign race and touches nothing but the list of retired ones.
public final class GRPCChannel {
    public enum State: Equatable, Sendable { case idle, connecting, ready, backoff, closed }

    private enum Phase {
        case idle
        case connecting(attempt: UInt64)
        case handshaking(ClientConnection)
        case ready(ClientConnection)
        case backoff(until: Nanoseconds)
        case closed
    }

    let context: HTTP2Context
    public let target: HostPort
    /// Sent with every call.
    private let credentials: Metadata
    private let authority: String
    private let network: any Network
    private var phase = Phase.idle {
        didSet { if state != lastState { stateChanged() } }
    }
    private var lastState = State.idle
    private var attempt: UInt64 = 0
    /// Why the last attempt failed, naming the target.
    private var lastFailure = ""
    private var backoff: Backoff
    private lazy var backoffTimer = TimerAction { [weak self] in self?.backoffEnded() }
    private var keepaliveDoublings = 0

    /// Calls that wait for a connection or a free stream; some have ended meanwhile.
    private var waiting: Deque<ClientCall> = []
    private var endedWaitingCount = 0
    private var isOpeningPostponed = false
    /// Connections whose servers take no more calls.
    private var retired: [ClientConnection] = []

    /// Told at the end of the turn in which the state has changed.
    public var onStateChange: ((State) -> Void)?

    public var state: State {
        switch phase {
        case .idle: .idle
        case .connecting, .handshaking: .connecting
        case .ready: .ready
        case .backoff: .backoff
        case .closed: .closed
        }
    }

    public init(
        network: any Network, clock: any Clock, turns: any Turns, target: HostPort, limits: WireLimits,
        random: SeededRandom, credentials: [(name: String, value: String)] = []
    ) {
        var sent = Metadata()
        for (name, value) in credentials { sent.add(name, value) }
        self.credentials = sent
        context = HTTP2Context(clock: clock, turns: turns, limits: limits)
        self.network = network
        self.target = target
        authority = target.description
        backoff = Backoff(limits, random)
    }

    // As `close`, without what would need a reference to an object that is going away.
    deinit {
        let status = GRPCStatus(.unavailable, "the channel to \(target) was closed")
        for call in waiting { call.fail(status) }
        current?.abort(status.message)
        for connection in retired { connection.abort(status.message) }
    }

    // MARK: Calls

    /// One request, one answer. `completion` runs once, never before this call has returned: with the answer, or with
    /// why there is none. `timeout` counts from now and includes the wait for a connection.
    ///
    /// A call that comes while there is no connection waits for the attempt to make one and fails with UNAVAILABLE
    /// when that fails, or at once during the pause after a failure; with `waitForReady` it waits until its deadline.
    /// `isCompressed`: the request goes as gzip, for servers that are known to understand it. Compressed answers are
    /// understood always.
    @discardableResult
    public func unary(
        _ path: String, _ request: [UInt8], metadata: Metadata = Metadata(), timeout: Nanoseconds?,
        waitForReady: Bool = false, isCompressed: Bool = false,
        completion: @escaping (Result<[UInt8], GRPCStatus>) -> Void
    ) -> ClientCall {
        let call = UnaryClientCall(
            path, request, credentials + metadata, timeout: timeout, isWaitingForReady: waitForReady,
            isCompressed: isCompressed, channel: self, completion: completion)
        start(call)
        return call
    }

    /// Streams of messages in one direction or both. Set the callbacks of the returned call before the turn ends.
    public func stream(
        _ path: String, metadata: Metadata = Metadata(), timeout: Nanoseconds? = nil, waitForReady: Bool = false,
        isCompressed: Bool = false
    ) -> ClientStream {
        let call = ClientStream(
            path, credentials + metadata, timeout: timeout, isWaitingForReady: waitForReady, isCompressed: isCompressed,
            channel: self)
        start(call)
        return call
    }

    /// Ends everything: open calls fail with UNAVAILABLE.
    public func close() {
        let connection = current
        phase = .closed
        context.timers.remove(backoffTimer)
        failWaiting { _ in true }
        connection?.abort("the channel was closed")
        for connection in retired { connection.abort("the channel was closed") }
    }

    func start(_ call: ClientCall) {
        guard !call.isEnded else { return }
        switch phase {
        case .ready(let connection) where waiting.isEmpty && connection.hasFreeStream: open(call, on: connection)
        case .ready:
            enqueue(call)
            // Those before it may all have been given up.
            openWaitingLater()
        case .connecting, .handshaking: enqueue(call)
        case .idle:
            enqueue(call)
            connect()
        case .backoff where call.isWaitingForReady: enqueue(call)
        case .backoff, .closed: call.fail(unavailable)
        }
        if let deadline = call.deadline, !call.isEnded { context.timers.set(call, at: deadline) }
    }

    private var unavailable: GRPCStatus {
        switch phase {
        case .closed: GRPCStatus(.unavailable, "\(target): the channel is closed")
        case .idle, .connecting, .handshaking, .ready, .backoff: GRPCStatus(.unavailable, lastFailure)
        }
    }

    private func open(_ call: ClientCall, on connection: ClientConnection) {
        if connection.open(call, authority: authority) { return }
        // The numbers of its streams are used up: the next connection begins anew.
        retire(connection)
        connection.retire()
        start(call)
    }

    // MARK: Waiting calls

    private func enqueue(_ call: ClientCall) {
        guard waiting.count - endedWaitingCount < context.limits.queuedCallCountMax else {
            return call.fail(
                GRPCStatus(
                    .resourceExhausted,
                    "\(target): \(context.limits.queuedCallCountMax) calls wait for the connection already"))
        }
        waiting.append(call)
        call.isQueued = true
    }

    /// A waiting call has ended.
    func forgetWaiting() {
        endedWaitingCount += 1
        guard endedWaitingCount > 16, endedWaitingCount > waiting.count / 2 else { return }
        waiting.removeAll { $0.isEnded }
        endedWaitingCount = 0
    }

    func openWaitingLater() {
        guard !isOpeningPostponed, !waiting.isEmpty else { return }
        isOpeningPostponed = true
        context.postpone { [weak self] in
            self?.isOpeningPostponed = false
            self?.openWaiting()
        }
    }

    private func openWaiting() {
        while case .ready(let connection) = phase, connection.hasFreeStream, let call = waiting.popFirst() {
            call.isQueued = false
            if call.isEnded { endedWaitingCount -= 1 } else { open(call, on: connection) }
        }
        if case .idle = phase, waiting.contains(where: { !$0.isEnded }) { connect() }
    }

    private func failWaiting(_ isConcerned: (ClientCall) -> Bool) {
        let calls = waiting
        waiting = calls.filter { !$0.isEnded && !isConcerned($0) }
        endedWaitingCount = 0
        let status = unavailable
        for call in calls where !call.isEnded && isConcerned(call) {
            call.isQueued = false
            call.fail(status)
        }
    }

    // MARK: The connection

    private var current: ClientConnection? {
        switch phase {
        case .handshaking(let connection), .ready(let connection): connection
        case .idle, .connecting, .backoff, .closed: nil
        }
    }

    private func stateChanged() {
        lastState = state
        context.postpone { [weak self] in
            guard let self else { return }
            self.onStateChange?(self.state)
        }
    }

    private func connect() {
        attempt += 1
        let attempt = attempt
        phase = .connecting(attempt: attempt)
        network.connect(to: target, timeout: .milliseconds(context.limits.connectTimeoutMilliseconds)) {
            [weak self] result in
            guard let self, case .connecting(attempt) = self.phase else {
                if case .success(let connection) = result { connection.close() }
                return
            }
            self.connected(result)
        }
    }

    private func connected(_ result: Result<any Connection, NetworkError>) {
        switch result {
        case .failure(let error): attemptFailed("cannot connect to \(target): \(error)")
        case .success(let transport):
            guard let connection = try? ClientConnection(transport, channel: self) else {
                transport.close()
                return attemptFailed("no memory for a connection to \(target)")
            }
            for _ in 0..<keepaliveDoublings { connection.slowDownKeepalive() }
            phase = .handshaking(connection)
            transport.handler = connection
        }
    }

    func connectionBecameReady(_ connection: ClientConnection) {
        guard case .handshaking(let current) = phase, current === connection else { return }
        backoff.reset()
        phase = .ready(connection)
        openWaiting()
    }

    /// The server has sent GOAWAY: its open calls go on, new ones go elsewhere.
    func connectionIsLeaving(_ connection: ClientConnection, isTooManyPings: Bool) {
        if isTooManyPings { keepaliveDoublings = min(keepaliveDoublings + 1, 8) }
        guard current === connection else { return }
        if case .handshaking = phase { return }
        retire(connection)
    }

    private func retire(_ connection: ClientConnection) {
        retired.append(connection)
        phase = .idle
        openWaitingLater()
    }

    func connectionClosed(_ connection: ClientConnection, _ reason: String) {
        retired.removeAll { $0 === connection }
        guard current === connection else { return }
        let lifetime = context.clock.now - connection.startTime
        if case .ready = phase, lifetime > .milliseconds(context.limits.reconnectBackoffMillisecondsMin) {
            phase = .idle
            openWaitingLater()
        } else {
            attemptFailed("connection to \(target) lost: \(reason)")
        }
    }

    private func attemptFailed(_ reason: String) {
        lastFailure = reason
        let now = context.clock.now
        let until = now + backoff.next()
        phase = .backoff(until: until)
        context.timers.set(backoffTimer, at: until)
        failWaiting { !$0.isWaitingForReady }
    }

    private func backoffEnded() {
        guard case .backoff = phase else { return }
        phase = .idle
        openWaiting()
    }
}

/// The pauses between attempts to connect.
struct Backoff {
    private let shortest: Nanoseconds
    private let longest: Nanoseconds
    private var step: Nanoseconds
    private var random: SeededRandom

    init(_ limits: WireLimits, _ random: SeededRandom) {
        shortest = .milliseconds(limits.reconnectBackoffMillisecondsMin)
        longest = .milliseconds(limits.reconnectBackoffMillisecondsMax)
        step = shortest
        self.random = random
    }

    /// Doubles up to the longest; ±20 %, so that many that lost one server do not return in step.
    mutating func next() -> Nanoseconds {
        defer { step = min(2 * step, longest) }
        return step - step / 5 + UInt64.random(in: 0...2 * (step / 5), using: &random)
    }

    mutating func reset() { step = shortest }
}
