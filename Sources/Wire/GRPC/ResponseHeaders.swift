/// A header block of an answer while it arrives: the first one, the trailers, or both in one.
struct ResponseHeaders {
    /// nil in trailers.
    private(set) var httpStatus: Int?
    private(set) var isGRPC = false
    private(set) var grpcStatus: GRPCCode?
    private(set) var grpcMessage = ""
    private(set) var encoding = MessageEncoding.identity
    private(set) var metadata = CapturedMetadata()
    private(set) var byteCount = 0

    mutating func add(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, byteCountMax: Int) {
        byteCount += name.count + value.count + 32
        guard byteCount <= byteCountMax else { return }
        switch name.count {
        case 7 where name == ":status":
            httpStatus = Int(String(decoding: value, as: UTF8.self))
        case 12 where name == "content-type":
            isGRPC = RequestHeaders.isGRPC(contentType: value)
        case 11 where name == "grpc-status":
            // What is no code that we know is "unknown" (gRPC, "Status codes").
            let code = UInt8(String(decoding: value, as: UTF8.self)).flatMap { GRPCCode(rawValue: $0) }
            grpcStatus = code ?? .unknown
        case 12 where name == "grpc-message":
            grpcMessage = PercentEncoding.decode(value)
        case 13 where name == "grpc-encoding":
            encoding = MessageEncoding(value)
        case 20 where name == "grpc-accept-encoding", 14 where name == "content-length":
            break
        default:
            metadata.append(name: name, value: value)
        }
    }

    /// What the last header block of an answer says.
    func finalStatus(firstHTTPStatus: Int?) -> GRPCStatus {
        if let grpcStatus { return GRPCStatus(grpcStatus, grpcMessage) }
        if let status = httpStatus ?? firstHTTPStatus, status != 200 { return GRPCStatus(httpStatus: status) }
        return GRPCStatus(.unknown, "the answer ends without a gRPC status")
    }
}
