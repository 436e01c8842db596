import CUV
import CUVShims
import Glibc
import Prelude

/// One question to the resolver, asked on libuv's thread pool.
final class NameResolution: LoopResource {
    typealias Answer = Result<[SocketAddress], ReactorError>

    private let loop: EventLoop
    private let port: UInt16
    private let request: UnsafeMutablePointer<uv_getaddrinfo_t>
    private var completion: ((Answer) -> Void)?

    /// Completes once, later; never when it was cancelled.
    init(
        loop: EventLoop, address: HostPort, completion: @escaping (Answer) -> Void
    ) throws(ReactorError) {
        self.loop = loop
        self.completion = completion
        port = address.port
        request = .allocate(capacity: 1)
        guard loop.adopt(self) else {
            throw ReactorError(operation: "resolve", code: UV_ECANCELED.rawValue)
        }
        request.pointee.data = Unmanaged.passUnretained(self).toOpaque()
        var hints = Self.hints(flags: 0)
        do throws(ReactorError) {
            let callback: uv_getaddrinfo_cb = { request, status, list in
                request?.pointee.data.map {
                    Unmanaged<NameResolution>.fromOpaque($0).takeUnretainedValue().finish(status, list)
                }
            }
            try uv(uv_getaddrinfo(loop.uvLoop, request, callback, address.host, nil, &hints), "resolve")
        } catch {
            loop.release(self)
            throw error
        }
    }

    deinit { request.deallocate() }

    /// A question that the resolver is busy with cannot be taken back; its answer is thrown away.
    func cancel() {
        completion = nil
        uv_cancel(raftoral_uv_request(request))
    }

    func loopWillClose() { cancel() }

    private func finish(_ status: Int32, _ list: UnsafeMutablePointer<addrinfo>?) {
        defer { uv_freeaddrinfo(list) }
        loop.release(self)
        guard let completion else { return }
        self.completion = nil
        completion(Self.answer(status, list, port: port))
    }

    /// The address when the host is a literal, without asking anyone; nil when it is a name.
    static func literal(_ address: HostPort) -> SocketAddress? {
        var hints = hints(flags: AI_NUMERICHOST)
        var list: UnsafeMutablePointer<addrinfo>?
        guard !address.host.isEmpty, getaddrinfo(address.host, nil, &hints, &list) == 0 else { return nil }
        defer { freeaddrinfo(list) }
        return SocketAddress.all(in: list, port: address.port).first
    }

    /// Asks and waits: for the time before a loop serves anyone.
    static func blocking(_ loop: EventLoop, _ address: HostPort) -> Answer {
        var request = uv_getaddrinfo_t()
        var hints = hints(flags: AI_PASSIVE)
        let status = uv_getaddrinfo(loop.uvLoop, &request, nil, address.host, nil, &hints)
        defer { uv_freeaddrinfo(request.addrinfo) }
        return answer(status, request.addrinfo, port: address.port)
    }

    private static func answer(
        _ status: Int32, _ list: UnsafeMutablePointer<addrinfo>?, port: UInt16
    ) -> Answer {
        guard status == 0 else { return .failure(ReactorError(operation: "resolve", code: status)) }
        return .success(SocketAddress.all(in: list, port: port))
    }

    private static func hints(flags: Int32) -> addrinfo {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = flags
        return hints
    }
}
