import Prelude

/// The header block of one request while it arrives. Filled field by field; nothing is made a string that nobody asks
/// for.
struct RequestHeaders {
    enum Method { case missing, post, get, other }
    enum Timeout: Equatable { case none, after(Nanoseconds), malformed }

    private(set) var method = Method.missing
    private(set) var route: Route?
    /// Kept for the error message only.
    private(set) var unknownPath: [UInt8] = []
    private(set) var isGRPC = false
    private(set) var timeout = Timeout.none
    private(set) var encoding = MessageEncoding.identity
    /// The caller understands answers that are compressed by gzip.
    private(set) var acceptsGzip = false
    private(set) var metadata = CapturedMetadata()
    /// As SETTINGS_MAX_HEADER_LIST_SIZE counts, RFC 9113 §6.5.2.
    private(set) var byteCount = 0

    private static let unknownPathByteCountMax = 200

    mutating func add(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, byteCountMax: Int) {
        byteCount += name.count + value.count + 32
        guard byteCount <= byteCountMax else { return }
        switch name.count {
        case 7 where name == ":method":
            method = value == "POST" ? .post : value == "GET" ? .get : .other
        case 7 where name == ":scheme", 10 where name == ":authority":
            break
        case 2 where name == "te", 10 where name == "user-agent", 4 where name == "host",
            14 where name == "content-length", 17 where name == "grpc-message-type":
            break
        case 12 where name == "content-type":
            isGRPC = Self.isGRPC(contentType: value)
        case 12 where name == "grpc-timeout":
            timeout = GRPCTimeout.parse(value).map { .after($0) } ?? .malformed
        case 13 where name == "grpc-encoding":
            encoding = MessageEncoding(value)
        case 20 where name == "grpc-accept-encoding":
            acceptsGzip = MessageEncoding.isGzip(in: value)
        default:
            metadata.append(name: name, value: value)
        }
    }

    mutating func setPath(_ path: UnsafeRawBufferPointer, _ route: consuming Route?) {
        byteCount += path.count + 37
        let isKnown = route != nil
        self.route = route
        if !isKnown { unknownPath = Array(path.prefix(Self.unknownPathByteCountMax)) }
    }

    /// `application/grpc`, also followed by `+` or `;` and more.
    static func isGRPC(contentType: UnsafeRawBufferPointer) -> Bool {
        let prefix: StaticString = "application/grpc"
        guard contentType.count >= prefix.utf8CodeUnitCount else { return false }
        guard UnsafeRawBufferPointer(rebasing: contentType[..<prefix.utf8CodeUnitCount]) == prefix else { return false }
        guard contentType.count > prefix.utf8CodeUnitCount else { return true }
        let next = contentType[prefix.utf8CodeUnitCount]
        return next == UInt8(ascii: "+") || next == UInt8(ascii: ";")
    }
}
