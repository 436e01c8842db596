import Prelude

/// The status codes of gRPC. Raw values are those of `grpc-status`.
public enum GRPCCode: UInt8, Error, Sendable, CaseIterable {
    case ok = 0
    case cancelled
    case unknown
    case invalidArgument
    case deadlineExceeded
    case notFound
    case alreadyExists
    case permissionDenied
    case resourceExhausted
    case failedPrecondition
    case aborted
    case outOfRange
    case unimplemented
    case internalError
    case unavailable
    case dataLoss
    case unauthenticated
}

/// How a call ended. Thrown and returned where a call can fail.
public struct GRPCStatus: Error, Equatable, Sendable, CustomStringConvertible {
    public var code: GRPCCode
    /// For people; any Unicode text. Over the wire it is cut after `messageByteCountMax` bytes.
    public var message: String

    public init(code: GRPCCode, message: String = "") {
        self.code = code
        self.message = message
    }

    public init(_ code: GRPCCode, _ message: String = "") { self.init(code: code, message: message) }

    public static let ok = GRPCStatus(code: .ok)
    public static let messageByteCountMax = 2048

    public var isOK: Bool { code == .ok }
    public var description: String { message.isEmpty ? "\(code)" : "\(code): \(message)" }
}

extension GRPCStatus {
    /// What an HTTP answer means that carries no `grpc-status` (gRPC, "HTTP to gRPC Status Code Mapping").
    init(httpStatus: Int) {
        let code: GRPCCode =
            switch httpStatus {
            case 400: .internalError
            case 401: .unauthenticated
            case 403: .permissionDenied
            case 404: .unimplemented
            case 429, 502, 503, 504: .unavailable
            default: .unknown
            }
        self.init(code: code, message: "the answer is HTTP \(httpStatus) without a gRPC status")
    }

    /// What the peer's RST_STREAM means (gRPC over HTTP/2, "Errors").
    init(resetBy error: HTTP2ErrorCode) {
        let code: GRPCCode =
            switch error {
            case .refusedStream: .unavailable
            case .cancel: .cancelled
            case .enhanceYourCalm: .resourceExhausted
            case .inadequateSecurity: .permissionDenied
            case .streamClosed, .http11Required: .unknown
            default: .internalError
            }
        self.init(code: code, message: "the peer reset the stream: \(error)")
    }
}
