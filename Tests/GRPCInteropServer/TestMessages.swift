import Wire

/// The messages of proto/grpc/testing/messages.proto, as far as the server looks at them.
struct EchoStatus {
    var code: Int32 = 0
    var message = ""

    init(_ bytes: ArraySlice<UInt8>) throws(ProtobufFields.Malformed) {
        try forEachField(bytes) { field, value throws(ProtobufFields.Malformed) in
            switch field {
            case 1: code = try value.int32
            case 2: message = String(decoding: try value.bytes, as: UTF8.self)
            default: break
            }
        }
    }

    /// Nil: it says OK.
    var status: GRPCStatus? {
        let code = UInt8(exactly: code).flatMap { GRPCCode(rawValue: $0) } ?? .unknown
        return code == .ok ? nil : GRPCStatus(code, message)
    }
}

struct ResponseParameters {
    var byteCount = 0
    var intervalMicroseconds: UInt64 = 0
    var isCompressed = false

    init(_ bytes: ArraySlice<UInt8>) throws(ProtobufFields.Malformed) {
        try forEachField(bytes) { field, value throws(ProtobufFields.Malformed) in
            switch field {
            case 1: byteCount = Int(try value.int32)
            case 2: intervalMicroseconds = UInt64(max(0, try value.int32))
            case 3: isCompressed = try boolValue(try value.bytes)
            default: break
            }
        }
    }
}

struct SimpleRequest {
    var responseByteCount = 0
    var isResponseCompressed = false
    var status: EchoStatus?
    var expectsCompressed: Bool?

    init(_ bytes: [UInt8]) throws(ProtobufFields.Malformed) {
        try forEachField(bytes[...]) { field, value throws(ProtobufFields.Malformed) in
            switch field {
            case 2: responseByteCount = Int(try value.int32)
            case 6: isResponseCompressed = try boolValue(try value.bytes)
            case 7: status = try EchoStatus(try value.bytes)
            case 8: expectsCompressed = try boolValue(try value.bytes)
            default: break
            }
        }
    }
}

struct StreamingInputCallRequest {
    var payloadByteCount = 0
    var expectsCompressed: Bool?

    init(_ bytes: [UInt8]) throws(ProtobufFields.Malformed) {
        try forEachField(bytes[...]) { field, value throws(ProtobufFields.Malformed) in
            switch field {
            case 1: payloadByteCount = try bodyByteCount(try value.bytes)
            case 2: expectsCompressed = try boolValue(try value.bytes)
            default: break
            }
        }
    }
}

struct StreamingOutputCallRequest {
    var responses: [ResponseParameters] = []
    var status: EchoStatus?

    init(_ bytes: [UInt8]) throws(ProtobufFields.Malformed) {
        try forEachField(bytes[...]) { field, value throws(ProtobufFields.Malformed) in
            switch field {
            case 2: responses.append(try ResponseParameters(try value.bytes))
            case 7: status = try EchoStatus(try value.bytes)
            default: break
            }
        }
    }
}

/// `SimpleResponse` and `StreamingOutputCallResponse`: a payload of zeros.
func response(byteCount: Int) -> [UInt8] {
    var payload = ProtobufWriter()
    if byteCount > 0 { payload.bytes(2, [UInt8](repeating: 0, count: byteCount)) }
    var message = ProtobufWriter()
    message.bytes(1, payload.bytes)
    return message.bytes
}

func streamingInputCallResponse(byteCount: Int) -> [UInt8] {
    var message = ProtobufWriter()
    message.number(1, UInt64(byteCount))
    return message.bytes
}

private func forEachField(
    _ bytes: ArraySlice<UInt8>,
    _ body: (UInt64, ProtobufFields.Value) throws(ProtobufFields.Malformed) -> Void
) throws(ProtobufFields.Malformed) {
    var fields = ProtobufFields(bytes)
    while let (field, value) = try fields.next() { try body(field, value) }
}

private func boolValue(_ bytes: ArraySlice<UInt8>) throws(ProtobufFields.Malformed) -> Bool {
    var result = false
    try forEachField(bytes) { field, value throws(ProtobufFields.Malformed) in
        if field == 1 { result = try value.int32 != 0 }
    }
    return result
}

private func bodyByteCount(_ payload: ArraySlice<UInt8>) throws(ProtobufFields.Malformed) -> Int {
    var count = 0
    try forEachField(payload) { field, value throws(ProtobufFields.Malformed) in
        if field == 2 { count = try value.bytes.count }
    }
    return count
}

extension ProtobufFields.Value {
    fileprivate var int32: Int32 {
        get throws(ProtobufFields.Malformed) {
            guard case .number(let number) = self else { throw ProtobufFields.Malformed() }
            return Int32(truncatingIfNeeded: number)
        }
    }

    fileprivate var bytes: ArraySlice<UInt8> {
        get throws(ProtobufFields.Malformed) {
            guard case .bytes(let bytes) = self else { throw ProtobufFields.Malformed() }
            return bytes
        }
    }
}
