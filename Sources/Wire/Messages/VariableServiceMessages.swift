import CMessages

/// Sets a variable.
public struct PutRequest: WireMessage {
    public var key: String
    public var value: [UInt8]
    public var requestID: String

    public init(key: String, value: [UInt8] = [], requestID: String = "") {
        self.key = key
        self.value = value
        self.requestID = requestID
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension PutRequest: FieldTable {
    typealias Raw = Raftoral__PutRequest

    static var blank: Self { Self(key: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("key", &value.key, &raw.key)
        visitor.bytes(&value.value, &raw.value)
        try visitor.text("request_id", &value.requestID, &raw.request_id)
    }
}

/// The revision that the variable has now.
public struct PutResponse: WireMessage {
    public var revision: UInt64

    public init(revision: UInt64) {
        self.revision = revision
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension PutResponse: FieldTable {
    typealias Raw = Raftoral__PutResponse

    static var blank: Self { Self(revision: 0) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        visitor.number(&value.revision, &raw.revision)
    }
}

/// Reads a variable.
public struct GetRequest: WireMessage {
    public var key: String
    /// Answer from the node's own state; linearizable otherwise.
    public var stale: Bool

    public init(key: String, stale: Bool = false) {
        self.key = key
        self.stale = stale
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension GetRequest: FieldTable {
    typealias Raw = Raftoral__GetRequest

    static var blank: Self { Self(key: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("key", &value.key, &raw.key)
        visitor.flag(&value.stale, &raw.stale)
    }
}

/// A variable's value and revision, when there is one.
public struct GetResponse: WireMessage {
    public var found: Bool
    public var value: [UInt8]
    public var revision: UInt64

    public init(found: Bool, value: [UInt8] = [], revision: UInt64 = 0) {
        self.found = found
        self.value = value
        self.revision = revision
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension GetResponse: FieldTable {
    typealias Raw = Raftoral__GetResponse

    static var blank: Self { Self(found: false) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        visitor.flag(&value.found, &raw.found)
        visitor.bytes(&value.value, &raw.value)
        visitor.number(&value.revision, &raw.revision)
    }
}

/// Sets a variable if it has the expected revision.
public struct CompareAndSwapRequest: WireMessage {
    public var key: String
    /// 0: only if absent.
    public var expectedRevision: UInt64
    public var value: [UInt8]
    public var requestID: String

    public init(key: String, expectedRevision: UInt64 = 0, value: [UInt8] = [], requestID: String = "") {
        self.key = key
        self.expectedRevision = expectedRevision
        self.value = value
        self.requestID = requestID
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension CompareAndSwapRequest: FieldTable {
    typealias Raw = Raftoral__CompareAndSwapRequest

    static var blank: Self { Self(key: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("key", &value.key, &raw.key)
        visitor.number(&value.expectedRevision, &raw.expected_revision)
        visitor.bytes(&value.value, &raw.value)
        try visitor.text("request_id", &value.requestID, &raw.request_id)
    }
}

/// Whether the variable was set.
public struct CompareAndSwapResponse: WireMessage {
    public var swapped: Bool
    /// The variable's revision after the call.
    public var revision: UInt64

    public init(swapped: Bool, revision: UInt64 = 0) {
        self.swapped = swapped
        self.revision = revision
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension CompareAndSwapResponse: FieldTable {
    typealias Raw = Raftoral__CompareAndSwapResponse

    static var blank: Self { Self(swapped: false) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        visitor.flag(&value.swapped, &raw.swapped)
        visitor.number(&value.revision, &raw.revision)
    }
}

/// Removes a variable.
public struct DeleteRequest: WireMessage {
    public var key: String
    public var requestID: String

    public init(key: String, requestID: String = "") {
        self.key = key
        self.requestID = requestID
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension DeleteRequest: FieldTable {
    typealias Raw = Raftoral__DeleteRequest

    static var blank: Self { Self(key: "") }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        try visitor.text("key", &value.key, &raw.key)
        try visitor.text("request_id", &value.requestID, &raw.request_id)
    }
}

/// Whether there was a variable to remove.
public struct DeleteResponse: WireMessage {
    public var existed: Bool

    public init(existed: Bool) {
        self.existed = existed
    }

    public init(decoding bytes: UnsafeRawBufferPointer) throws(DecodingFailure) {
        self = try FieldReader.decode(Self.self, bytes)
    }

    public func encoded() -> [UInt8] { FieldWriter.encode(self) }
}

extension DeleteResponse: FieldTable {
    typealias Raw = Raftoral__DeleteResponse

    static var blank: Self { Self(existed: false) }

    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure) {
        visitor.flag(&value.existed, &raw.existed)
    }
}
