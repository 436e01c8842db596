import Prelude

/// What the connections of one server or channel share, and what they do together at the end of a turn: run what was
/// put off, then flush every connection that has something to say.
final class HTTP2Context {
    let clock: any Clock
    let limits: WireLimits
    let timers: TimerQueue
    let output = OutputBuffer()
    let memory: SessionMemory
    /// Bytes of received messages that are incomplete or not yet taken by their handlers.
    var inboundByteCount = 0
    /// Bytes that wait in streams to be sent.
    var outboundByteCount = 0

    var counters = WireCounters()

    private(set) lazy var inflater = MessageInflater(context: self)
    private(set) lazy var deflater = MessageDeflater(byteCountPerTurnMax: limits.compressedByteCountPerTurnMax)
    /// Of the turn that is under way, from 1: what happens before its end belongs to it.
    private(set) var turnNumber: UInt64 = 1

    private var turnRequest: (any TurnRequest)?
    private var unflushed = DoubleBuffer<HTTP2Connection>()
    private var postponed = DoubleBuffer<() -> Void>()

    init(clock: any Clock, turns: any Turns, limits: WireLimits) {
        self.clock = clock
        self.limits = limits
        timers = TimerQueue(clock: clock)
        memory = SessionMemory(keptByteCountMax: limits.keptSessionByteCountMax)
        // Not weak: an object that is referred to weakly takes twice as long to be counted, and every call counts this one.
        turnRequest = turns.register { [unowned self] in turn() }
    }

    deinit { turnRequest?.unregister() }

    /// Runs `action` at the end of this turn: for what must not happen inside the caller's call.
    func postpone(_ action: @escaping () -> Void) {
        postponed.append(action)
        turnRequest?.request()
    }

    func flushLater(_ connection: HTTP2Connection) {
        unflushed.append(connection)
        turnRequest?.request()
    }

    private func turn() {
        turnNumber += 1
        // What these add is for the next turn, which comes without waiting for events.
        var actions = postponed.take()
        for action in actions { action() }
        postponed.giveBack(&actions)
        var connections = unflushed.take()
        for connection in connections { connection.flush() }
        unflushed.giveBack(&connections)
    }
}
