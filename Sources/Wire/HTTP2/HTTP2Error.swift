import CNGHTTP2

/// Error codes of RST_STREAM and GOAWAY, RFC 9113 §7. Unknown ones are kept as they came.
struct HTTP2ErrorCode: RawRepresentable, Equatable, Sendable, CustomStringConvertible {
    var rawValue: UInt32

    static let noError = HTTP2ErrorCode(rawValue: 0x0)
    static let protocolError = HTTP2ErrorCode(rawValue: 0x1)
    static let internalError = HTTP2ErrorCode(rawValue: 0x2)
    static let flowControlError = HTTP2ErrorCode(rawValue: 0x3)
    static let settingsTimeout = HTTP2ErrorCode(rawValue: 0x4)
    static let streamClosed = HTTP2ErrorCode(rawValue: 0x5)
    static let frameSizeError = HTTP2ErrorCode(rawValue: 0x6)
    static let refusedStream = HTTP2ErrorCode(rawValue: 0x7)
    static let cancel = HTTP2ErrorCode(rawValue: 0x8)
    static let compressionError = HTTP2ErrorCode(rawValue: 0x9)
    static let connectError = HTTP2ErrorCode(rawValue: 0xA)
    static let enhanceYourCalm = HTTP2ErrorCode(rawValue: 0xB)
    static let inadequateSecurity = HTTP2ErrorCode(rawValue: 0xC)
    static let http11Required = HTTP2ErrorCode(rawValue: 0xD)

    var description: String { String(cString: nghttp2_http2_strerror(rawValue)) }
}

/// A call of nghttp2 that failed: by our own fault, for want of memory, or because the session is over.
struct HTTP2Failure: Error, CustomStringConvertible {
    var code: Int32
    var operation: StaticString

    var description: String { "\(operation): \(String(cString: nghttp2_strerror(code)))" }
}

/// Turns the negative results of nghttp2 into errors.
@inline(__always) @discardableResult
func nghttp2<Result: SignedInteger>(_ result: Result, _ operation: StaticString) throws(HTTP2Failure) -> Result {
    if result < 0 { throw HTTP2Failure(code: Int32(truncatingIfNeeded: result), operation: operation) }
    return result
}
