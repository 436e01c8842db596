import CUV
import Glibc
import Prelude

/// An IPv4 or IPv6 address with its port, as the system calls take it.
struct SocketAddress {
    private var storage = sockaddr_storage()
    private(set) var byteCount: socklen_t = 0

    /// What `fill` writes, for calls such as `getsockname`; nil when it reports failure by a negative value.
    init?(_ fill: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32) {
        var count = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { fill($0, &count) }
        }
        guard result >= 0 else { return nil }
        byteCount = min(count, socklen_t(MemoryLayout<sockaddr_storage>.size))
    }

    private init(copying address: UnsafePointer<sockaddr>, byteCount: socklen_t) {
        self.byteCount = min(byteCount, socklen_t(MemoryLayout<sockaddr_storage>.size))
        withUnsafeMutableBytes(of: &storage) { target in
            target.copyMemory(from: UnsafeRawBufferPointer(start: address, count: Int(self.byteCount)))
        }
    }

    var family: Int32 { Int32(storage.ss_family) }

    /// Numeric; an IPv4 address that arrived over an IPv6 socket is shown as what it is.
    var hostPort: HostPort {
        withPointer { pointer, _ in
            let text = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 64) { buffer in
                guard let base = buffer.baseAddress, uv_ip_name(pointer, base, buffer.count) == 0 else { return "" }
                return String(cString: base)
            }
            let isMapped = text.hasPrefix("::ffff:") && text.contains(".")
            return HostPort(host: isMapped ? String(text.dropFirst(7)) : text, port: port)
        }
    }

    var port: UInt16 {
        withUnsafeBytes(of: storage) { bytes in
            // The port has the same place in both families.
            UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        }
    }

    func withPort(_ port: UInt16) -> SocketAddress {
        var copy = self
        withUnsafeMutableBytes(of: &copy.storage) { bytes in
            bytes.storeBytes(of: port.bigEndian, toByteOffset: 2, as: UInt16.self)
        }
        return copy
    }

    func withPointer<Output>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Output) -> Output {
        withUnsafePointer(to: storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, byteCount) }
        }
    }

    /// The addresses of a list as `getaddrinfo` makes it, each once, in its order.
    static func all(in list: UnsafeMutablePointer<addrinfo>?, port: UInt16) -> [SocketAddress] {
        var addresses: [SocketAddress] = []
        var seen: Set<HostPort> = []
        var next = list
        while let entry = next?.pointee {
            next = entry.ai_next
            guard let pointer = entry.ai_addr, entry.ai_family == AF_INET || entry.ai_family == AF_INET6 else {
                continue
            }
            let address = SocketAddress(copying: pointer, byteCount: entry.ai_addrlen).withPort(port)
            if seen.insert(address.hostPort).inserted { addresses.append(address) }
        }
        return addresses
    }

    /// Families in alternation, beginning with that of the first (RFC 8305 §4).
    static func interleaved(_ addresses: [SocketAddress]) -> [SocketAddress] {
        var first = addresses.filter { $0.family == addresses.first?.family }[...]
        var second = addresses.filter { $0.family != addresses.first?.family }[...]
        var result: [SocketAddress] = []
        while !first.isEmpty || !second.isEmpty {
            if let address = first.popFirst() { result.append(address) }
            if let address = second.popFirst() { result.append(address) }
        }
        return result
    }
}
