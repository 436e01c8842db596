import DequeModule
import Prelude

/// One end of a connection.
final class SimulatedEndpoint: Connection {
    let number: UInt64
    let remoteAddress: HostPort
    let loop: SimulatedLoop
    private let network: SimulatedNetwork
    private let wayOut: SimulatedNetwork.Route
    /// Nil once the other side has closed, or is gone.
    var peer: SimulatedEndpoint?
    private var phase = Phase.open
    private var currentHandler: (any ConnectionHandler)?

    /// Taken by `write` and not yet on the way.
    private var waiting: [UInt8] = []
    private var hasWaited = false
    /// On the way to the other side, in order; `arrivedCount` of them have had their time.
    private var outgoing: Deque<Segment> = []
    private var arrivedCount = 0
    private var isStalled = false
    private var lastArrival: Nanoseconds = 0
    /// On the way, or not yet read there.
    private var unreadByteCount = 0
    /// Arrived here and not yet read.
    private var incoming: Deque<Segment> = []
    private var isReadScheduled = false

    private enum Segment {
        case bytes([UInt8])
        case end
    }

    private enum Phase: Equatable {
        case open
        /// Closes when everything is on the way.
        case flushing
        case closed
    }

    init(number: UInt64, network: SimulatedNetwork, loop: SimulatedLoop, remoteAddress: HostPort) {
        self.number = number
        self.network = network
        self.loop = loop
        self.remoteAddress = remoteAddress
        wayOut = network.route(loop.host, remoteAddress.host)
    }

    var localHost: String { loop.host }
    var remoteHost: String { remoteAddress.host }
    var isClosed: Bool { phase == .closed }

    // MARK: - Connection

    var handler: (any ConnectionHandler)? {
        get { currentHandler }
        set {
            if phase == .closed {
                if let newValue { loop.deliver { newValue.connectionDidClose(.broken(reason: "closed before")) } }
                return
            }
            currentHandler = newValue
            scheduleRead()
        }
    }

    var bufferedByteCount: Int { waiting.count }

    var isReadingPaused = false {
        didSet { if !isReadingPaused { scheduleRead() } }
    }

    func write(_ bytes: UnsafeRawBufferPointer) {
        guard phase == .open, !bytes.isEmpty else { return }
        waiting.append(contentsOf: bytes)
        pushWaiting()
    }

    func closeAfterFlush() {
        guard phase == .open else { return }
        phase = .flushing
        incoming = []
        endIfFlushed()
    }

    func close() {
        guard phase != .closed else { return }
        send(.end)
        closed(.closedLocally)
    }

    private func endIfFlushed() {
        guard phase == .flushing, waiting.isEmpty else { return }
        send(.end)
        closed(.closedLocally)
    }

    /// The end of this end. What is on the way still arrives.
    private func closed(_ reason: NetworkError) {
        guard phase != .closed else { return }
        phase = .closed
        waiting = []
        incoming = []
        loop.endpoints[number] = nil
        guard let handler = currentHandler else { return }
        currentHandler = nil
        loop.deliver { handler.connectionDidClose(reason) }
    }

    // MARK: - The way out

    private func pushWaiting() {
        let room = network.windowByteCount - unreadByteCount
        guard !waiting.isEmpty else { return }
        guard room > 0 else {
            hasWaited = true
            return
        }
        let count = min(room, waiting.count)
        let piece = count == waiting.count ? waiting : Array(waiting.prefix(count))
        if count == waiting.count {
            waiting = []
        } else {
            waiting.removeFirst(count)
            hasWaited = true
        }
        unreadByteCount += count
        send(.bytes(piece))
    }

    private func send(_ segment: Segment) {
        outgoing.append(segment)
        let world = network.world
        let arrival = max(lastArrival, world.now + network.latency(wayOut))
        lastArrival = arrival
        world.schedule(at: arrival, .arrival(self))
    }

    func segmentArrived() {
        arrivedCount += 1
        pumpOutgoing()
    }

    func retransmit() {
        isStalled = false
        pumpOutgoing()
    }

    private func pumpOutgoing() {
        while arrivedCount > 0, !isStalled, let segment = outgoing.first {
            if network.isBlocked(localHost, remoteHost) {
                isStalled = true
                network.stall(self)
                return
            }
            outgoing.removeFirst()
            arrivedCount -= 1
            arrive(segment)
            // Nothing follows: without this, the two ends would keep each other for ever.
            if case .end = segment { peer = nil }
        }
    }

    private func arrive(_ segment: Segment) {
        guard let peer else {
            // Nobody there knows this connection any more.
            if case .bytes = segment { network.noteHalfOpen(self) }
            return
        }
        if case .bytes(let bytes) = segment {
            bytes.withUnsafeBytes { network.world.trace($0, from: self) }
        }
        peer.receive(segment)
    }

    /// The other side has read.
    private func wasRead(_ count: Int) {
        unreadByteCount -= count
        guard phase != .closed else { return }
        pushWaiting()
        guard waiting.isEmpty, hasWaited else { return }
        hasWaited = false
        endIfFlushed()
        loop.deliver { [self] in
            guard phase == .open, waiting.isEmpty else { return }
            currentHandler?.connectionDidDrain()
        }
    }

    // MARK: - The way in

    private func receive(_ segment: Segment) {
        guard phase == .open else {
            if case .bytes(let bytes) = segment { peer?.wasRead(bytes.count) }
            return
        }
        if case .bytes(let bytes) = segment, bytes.count > 1, network.splits() {
            let place = network.splitPoint(of: bytes.count)
            incoming.append(.bytes(Array(bytes[..<place])))
            incoming.append(.bytes(Array(bytes[place...])))
        } else {
            incoming.append(segment)
        }
        scheduleRead()
    }

    private func scheduleRead() {
        guard !isReadScheduled, !incoming.isEmpty, phase == .open, currentHandler != nil, !isReadingPaused else {
            return
        }
        isReadScheduled = true
        loop.deliver { [self] in read() }
    }

    private func read() {
        isReadScheduled = false
        while phase == .open, !isReadingPaused, let handler = currentHandler, let segment = incoming.popFirst() {
            switch segment {
            case .bytes(let bytes):
                peer?.wasRead(bytes.count)
                bytes.withUnsafeBytes { handler.connectionDidRead($0) }
            case .end:
                send(.end)
                closed(.endOfStream)
            }
        }
    }

    // MARK: - Breaking

    /// The connection is broken, and this end hears of it.
    func breakOff(_ reason: String) {
        peer?.peer = nil
        peer = nil
        outgoing = []
        arrivedCount = 0
        closed(.broken(reason: reason))
    }

    /// The machine of this end is gone.
    func vanish(silently: Bool) {
        let other = peer
        let wasOpen = phase != .closed
        phase = .closed
        currentHandler = nil
        waiting = []
        incoming = []
        outgoing = []
        arrivedCount = 0
        peer = nil
        other?.peer = nil
        guard wasOpen, let other, !silently else { return }
        network.world.schedule(after: network.latency(wayOut)) { [network] in
            // In a partition, the other side learns of it when it sends something.
            if network.isBlocked(other.remoteHost, other.localHost) { return }
            other.breakOff("connection reset by peer")
        }
    }
}
