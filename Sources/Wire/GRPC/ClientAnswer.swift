/// How far the answer to one of our calls has come.
///
/// `waiting` → `begun` with the first headers → `ended` with the status, the deadline, a cancellation or a loss;
/// trailers alone lead from `waiting` to `ended`. The peer's faults: messages before the headers, second headers that
/// are no trailers, an answer that is not gRPC: the call fails. Whatever comes after the end is a benign race and
/// ignored.
enum ClientAnswer: Equatable {
    case waiting
    case begun(httpStatus: Int)
    case ended

    enum OnHeaders: Equatable {
        case begin
        case end(GRPCStatus)
        case fail(GRPCStatus)
        case ignore
    }

    mutating func receive(_ headers: ResponseHeaders, isEnd: Bool) -> OnHeaders {
        switch self {
        case .ended: return .ignore
        case .waiting:
            guard let status = headers.httpStatus else {
                return .fail(GRPCStatus(.internalError, "an answer without an HTTP status"))
            }
            // Informational answers precede the true one (RFC 9110 §15.2).
            if (100..<200).contains(status) { return .ignore }
            if isEnd { return .end(headers.finalStatus(firstHTTPStatus: nil)) }
            guard status == 200 else { return .fail(GRPCStatus(httpStatus: status)) }
            guard headers.isGRPC else {
                return .fail(GRPCStatus(.unknown, "the answer's content type is not application/grpc"))
            }
            self = .begun(httpStatus: status)
            return .begin
        case .begun(let status):
            guard isEnd, headers.httpStatus == nil else {
                return .fail(GRPCStatus(.internalError, "headers in the middle of an answer"))
            }
            return .end(headers.finalStatus(firstHTTPStatus: status))
        }
    }
}
