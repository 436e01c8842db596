import CNGHTTP2
import Prelude

/// What the one timer of a connection waits for.
///
/// `handshake` → `quiet` with the peer's SETTINGS; `quiet` → `ponging` when nothing was read for an interval, and back
/// with the next byte; any → `lingering` with our last frame. When time runs out in `handshake`, `ponging` or
/// `lingering`, the connection is cut.
struct Keepalive {
    enum Wait { case handshake, quiet, ponging, lingering }

    var wait = Wait.handshake
    /// When the peer last sent or took something.
    var progressTime: Nanoseconds = 0
    var pingTime: Nanoseconds = 0
    /// What we sent could not be taken by the system: a PING would wait behind it.
    var isReadingPaused = false
    var bufferedByteCount = 0
    var interval: Nanoseconds = 0
}

extension HTTP2Connection: TimerQueueMember {
    func startHandshakeTimer() {
        keepalive.wait = .handshake
        keepalive.progressTime = context.clock.now
        keepalive.interval = .milliseconds(context.limits.keepaliveIntervalMilliseconds)
        wake(after: .milliseconds(context.limits.handshakeTimeoutMilliseconds))
    }

    func startKeepalive() {
        keepalive.wait = .quiet
        context.timers.set(self, at: keepalive.progressTime + keepalive.interval)
    }

    func startLingerTimer() {
        keepalive.wait = .lingering
        wake(after: .milliseconds(context.limits.keepaliveTimeoutMilliseconds))
    }

    /// The peer finds our PINGs too many.
    func slowDownKeepalive() {
        keepalive.interval = min(2 * keepalive.interval, .seconds(3600))
    }

    private func wake(after delay: Nanoseconds) { context.timers.set(self, at: context.clock.now + delay) }

    func timerFired() {
        let now = context.clock.now
        if keepalive.wait == .quiet { resetStalledAnswers() }
        switch keepalive.wait {
        case .handshake:
            context.counters.timeoutCount += 1
            abort("no HTTP/2 SETTINGS within the time for the handshake")
        case .lingering: abort("the peer did not take our last bytes in time")
        // Compared with the PING, not with now: the timer may come late, the peer need not say more than its answer.
        case .ponging where keepalive.progressTime > keepalive.pingTime: startKeepalive()
        case .ponging where transport.bufferedByteCount < keepalive.bufferedByteCount:
            keepalive.progressTime = now
            startKeepalive()
        case .ponging:
            context.counters.timeoutCount += 1
            abort("keepalive PING not answered in time")
        case .quiet where hasProgressed(since: now, within: keepalive.interval): startKeepalive()
        case .quiet where !isKeepaliveWanted: wake(after: keepalive.interval)
        case .quiet:
            sendPing(Self.keepalivePayload)
            waitForPong()
        }
    }

    /// Zero windows are not held for ever: an answer of which nothing was taken for an interval is given up.
    private func resetStalledAnswers() {
        for stream in streams where stream.isStalledSinceLastLook() {
            context.counters.stalledAnswerCount += 1
            stream.reset(.cancel)
        }
    }

    /// Until `keepaliveTimeoutMilliseconds` have passed without a frame read or a byte taken.
    func waitForPong() {
        keepalive.wait = .ponging
        keepalive.pingTime = context.clock.now
        keepalive.bufferedByteCount = transport.bufferedByteCount
        wake(after: pongTime)
    }

    static var keepalivePayload: UInt64 { 0 }
    static var drainPayload: UInt64 { 1 }

    func sendPing(_ payload: UInt64) {
        withUnsafeBytes(of: payload.bigEndian) { bytes in
            _ = nghttp2_submit_ping(
                session, UInt8(NGHTTP2_FLAG_NONE.rawValue), bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
        }
        flushLater()
    }

    private var pongTime: Nanoseconds { .milliseconds(context.limits.keepaliveTimeoutMilliseconds) }

    private func hasProgressed(since now: Nanoseconds, within span: Nanoseconds) -> Bool {
        now - keepalive.progressTime < span
    }
}
