import Glibc

/// What answers the calls of one path.
final class Route {
    enum Kind {
        case unary((UnaryCall, UnsafeRawBufferPointer) -> Void)
        case streaming((ServerStream) -> Void)
    }

    let path: String
    let kind: Kind
    let metrics = RouteMetrics()
    fileprivate let bytes: [UInt8]

    /// How long a stream lives says nothing of how fast it is.
    var isUnary: Bool { if case .unary = kind { true } else { false } }

    init(path: String, kind: Kind) {
        self.path = path
        self.kind = kind
        bytes = Array(path.utf8)
    }
}

/// The paths of a server, shared by its connections, found by the bytes of `:path` without making a string of them.
final class RouteTable {
    /// Open addressing; a power of two, at most half full.
    private var slots: [Route?] = Array(repeating: nil, count: 16)
    private var count = 0

    /// A path that is there already gets the new route.
    func insert(_ route: Route) {
        if 2 * (count + 1) > slots.count {
            let old = slots
            slots = Array(repeating: nil, count: 2 * old.count)
            for case let route? in old { slots[place(of: route)] = route }
        }
        let place = place(of: route)
        if slots[place] == nil { count += 1 }
        slots[place] = route
    }

    func removeAll() {
        slots = Array(repeating: nil, count: 16)
        count = 0
    }

    /// By their paths.
    var all: [Route] { slots.compactMap { $0 }.sorted { $0.path < $1.path } }

    func find(_ path: UnsafeRawBufferPointer) -> Route? { slots[place(of: path)] }

    private func place(of route: Route) -> Int { route.bytes.withUnsafeBytes { place(of: $0) } }

    /// Where `path` is, or would be.
    private func place(of path: UnsafeRawBufferPointer) -> Int {
        // FNV-1a. The table holds our own paths only, so that nobody outside can make it degenerate.
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in path { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        var place = Int(truncatingIfNeeded: hash ^ (hash >> 32)) & (slots.count - 1)
        while let route = slots[place], !isEqual(route.bytes, path) { place = (place + 1) & (slots.count - 1) }
        return place
    }

    private func isEqual(_ bytes: [UInt8], _ path: UnsafeRawBufferPointer) -> Bool {
        guard bytes.count == path.count, let start = path.baseAddress else { return bytes.isEmpty && path.isEmpty }
        return bytes.withUnsafeBytes { memcmp($0.baseAddress ?? start, start, path.count) == 0 }
    }
}
