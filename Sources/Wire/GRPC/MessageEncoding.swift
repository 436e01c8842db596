/// What a side says of how its messages are compressed (`grpc-encoding`); each message tells by its flag whether it is.
enum MessageEncoding: Equatable {
    case identity
    case gzip
    /// One that we do not know. Messages that are not flagged as compressed can be read all the same.
    case unknown

    static let gzipName: StaticString = "gzip"
    /// The value of `grpc-accept-encoding`, both ways.
    static let accepted: StaticString = "identity,gzip"

    init(_ name: UnsafeRawBufferPointer) {
        self = name == Self.gzipName ? .gzip : name == "identity" ? .identity : .unknown
    }

    /// Whether a list as `grpc-accept-encoding` has it names gzip.
    static func isGzip(in list: UnsafeRawBufferPointer) -> Bool {
        var start = 0
        for end in 0...list.count where end == list.count || list[end] == UInt8(ascii: ",") {
            var name = UnsafeRawBufferPointer(rebasing: list[start..<end])
            while name.first == UInt8(ascii: " ") { name = UnsafeRawBufferPointer(rebasing: name[1...]) }
            while name.last == UInt8(ascii: " ") { name = UnsafeRawBufferPointer(rebasing: name[..<(name.count - 1)]) }
            if name == gzipName { return true }
            start = end + 1
        }
        return false
    }
}

/// When a side compresses the messages that it sends.
public enum MessageCompression: Sendable {
    case never
    /// An answer when the request's side compresses its messages, and only what is large enough
    /// (`WireLimits.compressedByteCountMin`), becomes smaller, and fits into what is compressed in a turn.
    case inKind
    /// Every message, whatever its size.
    case always
}
