import CMicroHTTPDShims
import CUV
import CUVShims
import Glibc
import Prelude

/// A small HTTP/1.1 server for operators and their tools: GET and HEAD, answered at once from the loop.
///
/// libmicrohttpd over its own epoll descriptor, which the loop polls. Its connections are bounded in number, memory and
/// time; what it does in one go is bounded by their number.
public final class AdminListener: LoopResource {
    public struct Answer {
        public var status: UInt32
        public var contentType: String
        public var body: [UInt8]

        public init(status: UInt32 = 200, contentType: String = "text/plain; charset=utf-8", body: String) {
            self.init(status: status, contentType: contentType, bytes: Array(body.utf8))
        }

        public init(status: UInt32 = 200, contentType: String, bytes: [UInt8]) {
            self.status = status
            self.contentType = contentType
            self.body = bytes
        }
    }

    public let address: HostPort
    /// Requests that were answered, whatever the answer.
    public private(set) var requestCount: UInt64 = 0

    private let loop: EventLoop
    private let handler: (_ path: String) -> Answer
    private let poll: UnsafeMutablePointer<uv_poll_t>
    private var server: OpaquePointer?
    private var timer: (any ScheduledTimer)?

    /// Listens; port 0 takes a free one. `handler` is called on the loop with the path of each GET, without its query.
    public init(
        loop: EventLoop, address: HostPort, limits: AdminLimits, handler: @escaping (_ path: String) -> Answer
    ) throws(NetworkError) {
        self.loop = loop
        self.handler = handler
        guard loop.isOpen else { throw .cannotListen(address, reason: "the loop is closed") }
        let descriptor = try TCPListener.listeningSocket(address, on: loop)
        self.address = SocketAddress { getsockname(descriptor, $0, $1) }?.hostPort ?? address
        poll = .allocate(capacity: 1)
        let bounds = raftoral_http_limits(
            connection_count_max: limits.connectionCountMax,
            connection_count_per_address_max: limits.connectionCountPerAddressMax,
            timeout_seconds: limits.connectionTimeoutSeconds,
            connection_memory_byte_count: limits.connectionMemoryByteCount)
        let started = raftoral_http_start(
            descriptor, bounds,
            { context, connection, method, path in
                guard let context else { return false }
                let listener = Unmanaged<AdminListener>.fromOpaque(context).takeUnretainedValue()
                return listener.answer(connection, String(cString: method), String(cString: path))
            }, Unmanaged.passUnretained(self).toOpaque())
        guard let started else {
            _ = Glibc.close(descriptor)
            throw .cannotListen(address, reason: "no memory or descriptor for the admin listener")
        }
        let result = uv_poll_init(loop.uvLoop, poll, raftoral_http_descriptor(started))
        guard result == 0 else {
            raftoral_http_stop(started)
            throw .cannotListen(address, reason: uvReason(result))
        }
        server = started
        poll.pointee.data = Unmanaged.passUnretained(self).toOpaque()
        invariant(loop.adopt(self), "an open loop takes listeners")
        uv_poll_start(poll, Int32(UV_READABLE.rawValue)) { handle, _, _ in
            AdminListener.from(handle?.pointee.data)?.run()
        }
        run()
    }

    deinit { poll.deallocate() }

    /// Closes the socket and all connections.
    public func close() {
        guard let server else { return }
        self.server = nil
        timer?.cancel()
        // libuv has to let go of the epoll descriptor before libmicrohttpd closes it.
        uv_poll_stop(poll)
        raftoral_http_stop(server)
        uv_close(raftoral_uv_handle(poll)) { handle in
            if let listener = AdminListener.from(handle?.pointee.data) { listener.loop.release(listener) }
        }
    }

    func loopWillClose() { close() }

    /// One look at everything that is ready, and the time of the next look for what is not.
    private func run() {
        guard let server else { return }
        timer?.cancel()
        timer = nil
        let milliseconds = raftoral_http_run(server)
        guard milliseconds >= 0 else { return }
        timer = loop.clock.schedule(after: .milliseconds(UInt64(milliseconds))) { [weak self] in self?.run() }
    }

    private func answer(_ connection: OpaquePointer, _ method: String, _ path: String) -> Bool {
        requestCount += 1
        guard method == "GET" || method == "HEAD" else {
            let answer = Answer(status: 405, body: "Only GET and HEAD are served here.\n")
            return send(answer, allow: "GET, HEAD", connection)
        }
        return send(handler(path), allow: nil, connection)
    }

    private func send(_ answer: Answer, allow: String?, _ connection: OpaquePointer) -> Bool {
        answer.body.withUnsafeBytes { bytes in
            raftoral_http_respond(
                connection, answer.status, answer.contentType, allow, bytes.baseAddress, bytes.count)
        }
    }

    private static func from(_ data: UnsafeMutableRawPointer?) -> AdminListener? {
        data.map { Unmanaged<AdminListener>.fromOpaque($0).takeUnretainedValue() }
    }
}
