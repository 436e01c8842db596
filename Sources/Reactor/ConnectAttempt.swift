import CUV
import CUVShims
import DequeModule
import Glibc
import Prelude

/// One `connect`: resolves the name, then tries its addresses, the next one after a while beside those that
/// are still silent, or at once when one fails (RFC 8305). The first that answers wins.
final class ConnectAttempt: LoopResource {
    private let loop: EventLoop
    private let target: HostPort
    private var completion: ((Result<any Connection, NetworkError>) -> Void)?
    private var resolution: NameResolution?
    private var candidates: Deque<SocketAddress> = []
    private var probes: [ConnectProbe] = []
    private var failures: [String] = []
    private var deadlineTimer: (any ScheduledTimer)?
    private var staggerTimer: (any ScheduledTimer)?

    init(
        loop: EventLoop, target: HostPort,
        completion: @escaping (Result<any Connection, NetworkError>) -> Void
    ) {
        self.loop = loop
        self.target = target
        self.completion = completion
    }

    /// Resolves the target unless its addresses are `known`.
    func start(timeout: Nanoseconds, known: [SocketAddress]? = nil) {
        guard loop.adopt(self) else { return }
        deadlineTimer = loop.clock.schedule(after: timeout) { [self] in finish(.failure(.timedOut(target))) }
        // Later, because what fails at once must not complete before `connect` has returned.
        staggerTimer = loop.clock.schedule(after: 0) { [self] in
            if let known { connect(toOneOf: known) } else { resolve() }
        }
    }

    func loopWillClose() { finish(.failure(.closedLocally)) }

    private func resolve() {
        if let literal = NameResolution.literal(target) {
            connect(toOneOf: [literal])
            return
        }
        do throws(ReactorError) {
            resolution = try NameResolution(loop: loop, address: target) { [self] answer in
                resolution = nil
                switch answer {
                case .success(let addresses):
                    connect(toOneOf: addresses)
                case .failure(let error):
                    finish(.failure(.cannotResolve(target.host, reason: error.reason)))
                }
            }
        } catch {
            finish(.failure(.cannotResolve(target.host, reason: error.reason)))
        }
    }

    private func connect(toOneOf addresses: [SocketAddress]) {
        candidates = Deque(SocketAddress.interleaved(addresses))
        tryNext()
    }

    private func tryNext() {
        staggerTimer?.cancel()
        guard let address = candidates.popFirst() else {
            if probes.isEmpty { finish(.failure(.cannotConnect(target, reason: failureReason))) }
            return
        }
        let stagger = Nanoseconds.milliseconds(loop.limits.connectStaggerMilliseconds)
        staggerTimer = loop.clock.schedule(after: stagger) { [self] in tryNext() }
        let probe = ConnectProbe(loop: loop, address: address) { [self] probe, status in
            probeDidEnd(probe, status)
        }
        probes.append(probe)
        probe.start()
    }

    private func probeDidEnd(_ probe: ConnectProbe, _ status: Int32) {
        guard completion != nil else { return }
        probes.removeAll { $0 === probe }
        if status == 0 {
            finish(.success(probe.connection))
        } else {
            probe.connection.close()
            // Of a target that is an address literal, the caller knows which one it was.
            let address = probe.connection.remoteAddress
            failures.append(address == target ? uvReason(status) : "\(address): \(uvReason(status))")
            tryNext()
        }
    }

    private var failureReason: String {
        failures.isEmpty ? "it has no address" : failures.joined(separator: ", ")
    }

    private func finish(_ result: Result<any Connection, NetworkError>) {
        guard let completion else { return }
        self.completion = nil
        deadlineTimer?.cancel()
        staggerTimer?.cancel()
        resolution?.cancel()
        for probe in probes { probe.connection.close() }
        probes = []
        loop.release(self)
        completion(result)
    }
}

/// One address that is being tried.
private final class ConnectProbe {
    let connection: TCPConnection
    private let address: SocketAddress
    private let request: UnsafeMutablePointer<uv_connect_t>
    private let completion: (ConnectProbe, Int32) -> Void

    init(
        loop: EventLoop, address: SocketAddress, completion: @escaping (ConnectProbe, Int32) -> Void
    ) {
        self.address = address
        self.completion = completion
        connection = TCPConnection(loop: loop, remoteAddress: address.hostPort)
        request = .allocate(capacity: 1)
    }

    deinit { request.deallocate() }

    func start() {
        // Balanced in the callback, which libuv calls for every request that it has taken.
        request.pointee.data = Unmanaged.passRetained(self).toOpaque()
        let result = address.withPointer { pointer, _ in
            uv_tcp_connect(request, connection.tcp, pointer) { request, status in
                guard let data = request?.pointee.data else { return }
                Unmanaged<ConnectProbe>.fromOpaque(data).takeRetainedValue().didEnd(status)
            }
        }
        if result < 0 {
            Unmanaged.passUnretained(self).release()
            completion(self, result)
        }
    }

    private func didEnd(_ status: Int32) {
        if status == 0, isConnectedToItself {
            completion(self, UV_ECONNREFUSED.rawValue)
        } else {
            if status == 0 { connection.didConnect() }
            completion(self, status)
        }
    }

    /// When nobody listens on a port of the range from which the system draws ours, it may draw that very port,
    /// and the socket answers its own knock.
    private var isConnectedToItself: Bool {
        let tcp = connection.tcp
        let own = SocketAddress { name, count in
            var length = Int32(count.pointee)
            defer { count.pointee = socklen_t(length) }
            return uv_tcp_getsockname(tcp, name, &length)
        }
        return own?.hostPort == address.hostPort
    }
}
