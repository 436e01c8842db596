import Prelude

/// A gRPC server over cleartext HTTP/2: paths and their handlers, and the connections that were given to it.
///
/// Confined to the loop's thread. Handlers are called while bytes are read; what they answer goes out at the end of the
/// turn.
public final class GRPCServer {
    let context: HTTP2Context
    let routes = RouteTable()
    private var connections: [ServerConnection] = []
    private var drainCompletion: (() -> Void)?
    private var isDraining = false
    private var drainTimer: TimerAction?

    /// Asked before the handler of each call; a status refuses it. Nil: every call goes on.
    public var authorize: ((Caller) -> GRPCStatus?)?

    public internal(set) var openCallCount = 0
    public var connectionCount: Int { connections.count }

    public init(clock: any Clock, turns: any Turns, limits: WireLimits) {
        context = HTTP2Context(clock: clock, turns: turns, limits: limits)
    }

    /// Serves `path`, `/package.Service/Method`, with one request and one answer. The request's bytes are valid during
    /// the call only; the answer may come later.
    public func unary(_ path: String, _ handler: @escaping (UnaryCall, UnsafeRawBufferPointer) -> Void) {
        routes.insert(Route(path: path, kind: .unary(handler)))
    }

    /// Serves `path` with streams of messages in one direction or both.
    public func streaming(_ path: String, _ handler: @escaping (ServerStream) -> Void) {
        routes.insert(Route(path: path, kind: .streaming(handler)))
    }

    /// Takes over a connection that a listener accepted. Closed at once when there are too many, or while draining.
    public func accept(_ connection: any Connection) {
        guard !isDraining, connections.count < context.limits.connectionCountMax,
            let accepted = try? ServerConnection(connection, server: self)
        else {
            context.counters.refusedConnectionCount += 1
            return connection.close()
        }
        context.counters.acceptedConnectionCount += 1
        accepted.place = connections.count
        connections.append(accepted)
        connection.handler = accepted
    }

    var openConnections: [any Connection] { connections.map { $0.transport } }

    func remove(_ connection: ServerConnection) {
        let last = connections.removeLast()
        if last !== connection {
            connections[connection.place] = last
            last.place = connection.place
        }
        if connections.isEmpty { drained() }
    }

    /// Tells every peer to open no more calls, lets the open ones finish, closes; what is left after `grace` is cut.
    /// `completion` runs when the last connection is closed, never before this call has returned.
    public func drain(grace: Nanoseconds, completion: @escaping () -> Void) {
        let earlier = drainCompletion
        drainCompletion = {
            earlier?()
            completion()
        }
        isDraining = true
        for connection in connections { connection.startDrain() }
        if connections.isEmpty { return drained() }
        let timer = TimerAction { [weak self] in self?.cut() }
        if let drainTimer { context.timers.remove(drainTimer) }
        drainTimer = timer
        context.timers.set(timer, at: context.clock.now + grace)
    }

    private func cut() {
        for connection in connections { connection.abort("the server shuts down") }
    }

    private func drained() {
        guard isDraining, let completion = drainCompletion else { return }
        drainCompletion = nil
        if let drainTimer { context.timers.remove(drainTimer) }
        // Nothing comes any more: let go of what the handlers hold.
        routes.removeAll()
        context.postpone(completion)
    }
}
