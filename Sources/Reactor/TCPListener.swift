import CUV
import CUVShims
import Glibc
import Prelude

/// A listening socket. Accepts by itself instead of through `uv_listen`, which reports a lack of descriptors in
/// an endless loop or drops the connections: here the listener rests, and they wait in the backlog.
final class TCPListener: Listener, LoopResource {
    let address: HostPort
    private let loop: EventLoop
    private let descriptor: Int32
    private let poll: UnsafeMutablePointer<uv_poll_t>
    private let accept: (any Connection) -> Void
    private var isClosed = false
    private var pause: (any ScheduledTimer)?

    /// `name` is what errors call the address.
    init(
        loop: EventLoop, name: HostPort, address: SocketAddress, accept: @escaping (any Connection) -> Void
    ) throws(NetworkError) {
        self.loop = loop
        self.accept = accept
        let descriptor = try Self.listeningSocket(name, address, backlog: loop.limits.listenBacklogCount)
        self.descriptor = descriptor
        self.address = SocketAddress { getsockname(descriptor, $0, $1) }?.hostPort ?? name
        poll = .allocate(capacity: 1)
        let result = uv_poll_init_socket(loop.uvLoop, poll, descriptor)
        guard result == 0 else {
            _ = Glibc.close(descriptor)
            throw .cannotListen(name, reason: uvReason(result))
        }
        poll.pointee.data = Unmanaged.passUnretained(self).toOpaque()
        invariant(loop.adopt(self), "an open loop takes listeners")
        startPolling()
    }

    deinit { poll.deallocate() }

    /// A socket that listens on the first address of `name` that can be bound; for listeners that accept by themselves.
    static func listeningSocket(_ name: HostPort, on loop: EventLoop) throws(NetworkError) -> Int32 {
        var failure = NetworkError.cannotResolve(name.host, reason: "it has no address")
        for candidate in try NameResolution.bindable(name, loop) {
            do throws(NetworkError) {
                return try listeningSocket(name, candidate, backlog: loop.limits.listenBacklogCount)
            } catch {
                failure = error
            }
        }
        throw failure
    }

    private static func listeningSocket(
        _ name: HostPort, _ address: SocketAddress, backlog: Int32
    ) throws(NetworkError) -> Int32 {
        func check(_ succeeded: Bool, else descriptor: Int32? = nil) throws(NetworkError) {
            if succeeded { return }
            let number = errno
            if let descriptor { _ = Glibc.close(descriptor) }
            switch number {
            case EADDRINUSE: throw .addressInUse(name)
            case EACCES, EPERM: throw .permissionDenied(name)
            default: throw .cannotListen(name, reason: systemReason(number))
            }
        }
        let flags = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let descriptor = socket(address.family, flags, 0)
        try check(descriptor >= 0)
        // A restart finds its port free although connections of its last life linger in TIME_WAIT.
        set(descriptor, SOL_SOCKET, SO_REUSEADDR, to: 1)
        if address.family == AF_INET6 { set(descriptor, Int32(IPPROTO_IPV6), IPV6_V6ONLY, to: 0) }
        try check(address.withPointer { bind(descriptor, $0, $1) } == 0, else: descriptor)
        try check(Glibc.listen(descriptor, backlog) == 0, else: descriptor)
        return descriptor
    }

    private static func set(_ descriptor: Int32, _ level: Int32, _ option: Int32, to value: Int32) {
        var value = value
        setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
    }

    func close() {
        if isClosed { return }
        isClosed = true
        pause?.cancel()
        // libuv does not own the descriptor; it has to let go before it is closed.
        uv_poll_stop(poll)
        _ = Glibc.close(descriptor)
        uv_close(raftoral_uv_handle(poll)) { handle in
            TCPListener.from(handle?.pointee.data) { $0.loop.release($0) }
        }
    }

    func loopWillClose() { close() }

    private func startPolling() {
        uv_poll_start(poll, Int32(UV_READABLE.rawValue)) { handle, _, _ in
            TCPListener.from(handle?.pointee.data) { $0.acceptWaiting() }
        }
    }

    private func acceptWaiting() {
        var budget = loop.limits.acceptCountPerTurnMax
        while budget > 0, !isClosed {
            budget -= 1
            var descriptor: Int32 = -1
            let remote = SocketAddress { pointer, byteCount in
                descriptor = raftoral_accept(self.descriptor, pointer, byteCount)
                return descriptor
            }
            if let remote {
                takeOver(descriptor, from: remote.hostPort)
            } else if !mayAcceptAgain(after: errno) {
                return
            }
        }
    }

    private func takeOver(_ descriptor: Int32, from remote: HostPort) {
        let connection = TCPConnection(loop: loop, remoteAddress: remote)
        if connection.open(descriptor) { accept(connection) }
    }

    private func mayAcceptAgain(after number: Int32) -> Bool {
        switch number {
        case EAGAIN, EWOULDBLOCK:
            return false
        case EMFILE, ENFILE, ENOBUFS, ENOMEM:
            rest()
            return false
        default:
            // The connection went away in the backlog, or the network has an error for it: accept(2) hands these
            // to the listener, whom they do not concern.
            return true
        }
    }

    private func rest() {
        uv_poll_stop(poll)
        pause = loop.clock.schedule(after: .milliseconds(loop.limits.acceptPauseMilliseconds)) { [unowned self] in
            startPolling()
        }
    }

    private static func from(_ data: UnsafeMutableRawPointer?, _ body: (TCPListener) -> Void) {
        if let data { body(Unmanaged<TCPListener>.fromOpaque(data).takeUnretainedValue()) }
    }
}
