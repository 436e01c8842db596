import Prelude

@testable import Wire

/// A loop, a clock and a network in memory: nothing happens but what a test asks for, in the same order every time.
final class TestWorld: Clock, Turns, Network {
    private struct Event {
        var time: Nanoseconds
        var sequence: UInt64
        var action: () -> Void
    }

    private final class Timer: ScheduledTimer {
        var isCancelled = false
        func cancel() { isCancelled = true }
    }

    private final class Participant: TurnRequest {
        let turn: () -> Void
        var isRequested = false
        var isGone = false
        init(_ turn: @escaping () -> Void) { self.turn = turn }
        func request() { isRequested = true }
        func unregister() { isGone = true }
    }

    private(set) var now: Nanoseconds = .seconds(1000)
    var wallMilliseconds: Int64 { 0 }
    /// Of every byte on the way.
    var latency: Nanoseconds = 0
    /// What is handed over in one piece; smaller pieces come one after the other.
    var chunkByteCountMax = 64 << 10
    /// Draws the size of each piece from 1 to `chunkByteCountMax`.
    var chunkRandom: SeededRandom?
    /// What the system takes of a connection before the other side has read it.
    var socketByteCountMax = Int.max
    var refusedAddresses: Set<HostPort> = []

    private var events: [Event] = []
    private var sequence: UInt64 = 0
    private var participants: [Participant] = []
    fileprivate var listeners: [UInt16: TestListener] = [:]
    private var nextPort: UInt16 = 1000
    private(set) var connectCount = 0

    // MARK: Clock and turns

    func schedule(after delay: Nanoseconds, _ action: @escaping () -> Void) -> any ScheduledTimer {
        let timer = Timer()
        later(delay) { if !timer.isCancelled { action() } }
        return timer
    }

    func register(_ turn: @escaping () -> Void) -> any TurnRequest {
        let participant = Participant(turn)
        participants.append(participant)
        return participant
    }

    func later(_ delay: Nanoseconds, _ action: @escaping () -> Void) {
        sequence += 1
        let event = Event(time: now + delay, sequence: sequence, action: action)
        let place = events.firstIndex { ($0.time, $0.sequence) > (event.time, event.sequence) } ?? events.count
        events.insert(event, at: place)
    }

    /// Everything that happens without time passing.
    func run() {
        repeat {
            turn()
            guard let first = events.first, first.time <= now else { return }
            events.removeFirst()
            first.action()
        } while true
    }

    private func turn() {
        var isAnyRequested = true
        while isAnyRequested {
            isAnyRequested = false
            participants.removeAll { $0.isGone }
            for participant in participants where participant.isRequested {
                participant.isRequested = false
                isAnyRequested = true
                participant.turn()
            }
        }
    }

    /// Lets time pass, and everything happen in it.
    func advance(_ span: Nanoseconds) {
        let end = now + span
        run()
        while let next = events.first, next.time <= end {
            now = max(now, next.time)
            run()
        }
        now = end
        run()
    }

    func advance(milliseconds: UInt64) { advance(.milliseconds(milliseconds)) }

    // MARK: Network

    func listen(
        on address: HostPort, accept: @escaping (any Connection) -> Void
    ) throws(NetworkError) -> any Listener {
        var address = address
        if address.port == 0 {
            nextPort += 1
            address.port = nextPort
        }
        if listeners[address.port] != nil { throw .addressInUse(address) }
        let listener = TestListener(address, accept, self)
        listeners[address.port] = listener
        return listener
    }

    func resolve(_ address: HostPort, completion: @escaping (Result<[HostPort], NetworkError>) -> Void) {
        later(0) { completion(.success([address])) }
    }

    func connect(
        to address: HostPort, timeout: Nanoseconds,
        completion: @escaping (Result<any Connection, NetworkError>) -> Void
    ) {
        connectCount += 1
        later(latency) { [self] in
            guard let listener = listeners[address.port], !refusedAddresses.contains(address) else {
                return completion(.failure(.cannotConnect(address, reason: "connection refused")))
            }
            let (client, server) = pair(to: address)
            listener.accept(server)
            completion(.success(client))
        }
    }

    func pair(to address: HostPort) -> (client: TestConnection, server: TestConnection) {
        nextPort += 1
        let client = TestConnection(self, address)
        let server = TestConnection(self, HostPort(host: "10.0.0.1", port: nextPort))
        client.peer = server
        server.peer = client
        return (client, server)
    }
}

final class TestListener: Listener {
    let address: HostPort
    fileprivate let accept: (any Connection) -> Void
    private unowned let world: TestWorld

    init(_ address: HostPort, _ accept: @escaping (any Connection) -> Void, _ world: TestWorld) {
        self.address = address
        self.accept = accept
        self.world = world
    }

    func close() { world.listeners[address.port] = nil }
}

/// One end of a connection in memory.
final class TestConnection: Connection {
    let remoteAddress: HostPort
    private let world: TestWorld
    fileprivate(set) var peer: TestConnection?
    var handler: (any ConnectionHandler)? { didSet { if handler != nil { pump() } } }
    var isReadingPaused = false { didSet { if !isReadingPaused { pump() } } }

    private(set) var isClosed = false
    private(set) var writeCount = 0
    private(set) var writtenByteCount = 0
    /// Bytes written here that the other side has not read.
    private var outgoing: [UInt8] = []
    private var outgoingOffset = 0
    private var arrivedByteCount = 0
    private var isClosingAfterFlush = false
    private var hasPeerClosed = false
    private var isPumping = false
    private var isDrainOwed = false

    init(_ world: TestWorld, _ remoteAddress: HostPort) {
        self.world = world
        self.remoteAddress = remoteAddress
    }

    var bufferedByteCount: Int { max(0, outgoing.count - outgoingOffset - world.socketByteCountMax) }

    func write(_ bytes: UnsafeRawBufferPointer) {
        guard !isClosed, !isClosingAfterFlush else { return }
        writeCount += 1
        writtenByteCount += bytes.count
        outgoing.append(contentsOf: bytes)
        if bufferedByteCount > 0 { isDrainOwed = true }
        let count = bytes.count
        world.later(world.latency) { [weak self, peer] in
            guard let self else { return }
            self.arrivedByteCount = min(self.arrivedByteCount + count, self.outgoing.count - self.outgoingOffset)
            peer?.pump()
        }
    }

    func write(_ bytes: [UInt8]) { bytes.withUnsafeBytes { write($0) } }

    func closeAfterFlush() {
        isClosingAfterFlush = true
        world.later(0) { self.closeIfFlushed() }
    }

    private func closeIfFlushed() {
        if isClosingAfterFlush, !isClosed, outgoing.count == outgoingOffset { close() }
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        // What the system has taken arrives all the same.
        outgoing.removeLast(bufferedByteCount)
        world.later(0) { self.tellClosed(.closedLocally) }
        world.later(world.latency) { [peer] in
            peer?.hasPeerClosed = true
            peer?.pump()
        }
    }

    private func tellClosed(_ reason: NetworkError) {
        isClosed = true
        let told = handler
        handler = nil
        told?.connectionDidClose(reason)
    }

    /// Reads what has arrived from the other side, in pieces.
    fileprivate func pump() {
        guard !isPumping, let peer else { return }
        isPumping = true
        defer { isPumping = false }
        while let handler, !isReadingPaused, !isClosed, peer.arrivedByteCount > 0 {
            var count = min(peer.arrivedByteCount, world.chunkByteCountMax)
            if world.chunkRandom != nil { count = Int.random(in: 1...count, using: &world.chunkRandom!) }
            let chunk = Array(peer.outgoing[peer.outgoingOffset..<peer.outgoingOffset + count])
            peer.outgoingOffset += count
            peer.arrivedByteCount -= count
            peer.wasRead()
            chunk.withUnsafeBytes { handler.connectionDidRead($0) }
        }
        if hasPeerClosed, !isClosed, !isReadingPaused, peer.arrivedByteCount <= 0 {
            isClosed = true
            world.later(0) { self.tellClosed(.endOfStream) }
        }
    }

    private func wasRead() {
        if outgoingOffset > 1 << 20 || outgoingOffset == outgoing.count {
            outgoing.removeSubrange(..<outgoingOffset)
            outgoingOffset = 0
        }
        if isDrainOwed, bufferedByteCount == 0 {
            isDrainOwed = false
            world.later(0) { self.handler?.connectionDidDrain() }
        }
        closeIfFlushed()
    }
}
