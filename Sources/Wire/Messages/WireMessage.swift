/// A message of the protobuf contract as a Swift value.
public protocol WireMessage: Sendable, Equatable {
    /// The protobuf form. Deterministic: equal values give equal bytes.
    ///
    /// U+0000 cannot travel in a text field and is sent as U+FFFD; byte fields carry everything.
    func encoded() -> [UInt8]

    /// Reads the protobuf form. Unknown fields are dropped. Never traps, whatever the bytes, and takes memory in
    /// proportion to their count.
    init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure)
}

extension WireMessage {
    public init(decoding bytes: [UInt8]) throws(DecodingFailure) {
        self = try bytes.span.withUnsafeBytes { (bytes) throws(DecodingFailure) in try Self(decoding: bytes) }
    }
}

/// Why bytes are not the message that they should be. The sender's fault: INVALID_ARGUMENT for a client.
public struct DecodingFailure: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Reason: Equatable, Sendable {
        /// Not protobuf, or a field of another type than the contract gives it.
        case malformed
        /// So many small or unknown fields that the decoded form would exceed its memory bound.
        case tooManyFields(byteCount: Int)
        /// None of the alternatives is set, or only one that this version does not know.
        case noKnownAlternative
        case missingField(String)
        /// Not UTF-8, or with U+0000, which the text fields of this implementation cannot carry.
        case invalidText(field: String)
        /// Not of the form `GROUP-INDEX`.
        case invalidRunID(field: String)
        /// Above 2^63 - 1.
        case identifierOutOfRange(field: String, value: UInt64)
        case unknownValue(field: String, value: UInt32)
    }

    /// The full name of the innermost message concerned, `raftoral.WorkflowStart`.
    public var message: String
    public var reason: Reason

    public init(message: String, reason: Reason) {
        self.message = message
        self.reason = reason
    }

    public var description: String {
        switch reason {
        case .malformed: "\(message) is malformed"
        case .tooManyFields(let byteCount): "\(message) has too many fields for its \(byteCount) bytes"
        case .noKnownAlternative: "\(message) holds nothing that this version knows"
        case .missingField(let field): "\(message).\(field) is missing"
        case .invalidText(let field): "\(message).\(field) is not UTF-8 text without NUL"
        case .invalidRunID(let field): "\(message).\(field) is not a run id of the form GROUP-INDEX"
        case .identifierOutOfRange(let field, let value): "\(message).\(field) is out of range: \(value)"
        case .unknownValue(let field, let value): "\(message).\(field) has the unknown value \(value)"
        }
    }
}
