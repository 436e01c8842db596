/// The key-value pairs that travel with a call: ordered, a name may occur more than once.
///
/// Names are lower-case. A name that ends in `-bin` holds bytes, any other printable ASCII text.
public struct Metadata: Sendable, Equatable {
    public enum Value: Sendable, Hashable {
        case text(String)
        case bytes([UInt8])
    }

    public struct Entry: Sendable, Hashable {
        public let name: String
        public let value: Value
    }

    public private(set) var entries: [Entry] = []

    public init() {}

    /// Pairs that `add` refuses are left out.
    public init(_ pairs: KeyValuePairs<String, String>) {
        for (name, value) in pairs { add(name, value) }
    }

    public var isEmpty: Bool { entries.isEmpty }
    public var count: Int { entries.count }

    /// Adds a pair; false, and nothing is added, when the name is illegal, reserved or ends in `-bin`, or when the
    /// value is not printable ASCII.
    @discardableResult
    public mutating func add(_ name: String, _ value: String) -> Bool {
        let name = name.lowercased()
        guard Self.isLegal(name: name), !Self.isBinary(name) else { return false }
        guard value.utf8.allSatisfy({ (0x20...0x7E).contains($0) }) else { return false }
        guard value.utf8.first != 0x20, value.utf8.last != 0x20 else { return false }
        entries.append(Entry(name: name, value: .text(value)))
        return true
    }

    /// Adds a pair; false, and nothing is added, when the name is illegal, reserved or does not end in `-bin`.
    @discardableResult
    public mutating func add(_ name: String, bytes: [UInt8]) -> Bool {
        let name = name.lowercased()
        guard Self.isLegal(name: name), Self.isBinary(name) else { return false }
        entries.append(Entry(name: name, value: .bytes(bytes)))
        return true
    }

    static func + (first: Metadata, second: Metadata) -> Metadata {
        if first.isEmpty { return second }
        var both = first
        both.entries.append(contentsOf: second.entries)
        return both
    }

    public mutating func removeAll(_ name: String) {
        entries.removeAll { $0.name == name }
    }

    /// The first text of that name.
    public subscript(name: String) -> String? { texts(name).first }

    public func texts(_ name: String) -> [String] {
        entries.compactMap { entry in
            if entry.name == name, case .text(let text) = entry.value { text } else { nil }
        }
    }

    /// The values of a name that ends in `-bin`.
    public func bytes(_ name: String) -> [[UInt8]] {
        entries.compactMap { entry in
            if entry.name == name, case .bytes(let bytes) = entry.value { bytes } else { nil }
        }
    }

    private static func isBinary(_ name: String) -> Bool { name.hasSuffix("-bin") }

    /// What HTTP and gRPC themselves put into the headers is not metadata.
    private static let reserved: Set<String> = [
        "te", "content-type", "content-length", "connection", "keep-alive", "proxy-connection", "transfer-encoding",
        "upgrade", "host", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-message-type", "grpc-status",
        "grpc-message",
    ]

    static func isLegal(name: String) -> Bool {
        !name.isEmpty && !reserved.contains(name)
            && name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
                case UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."): true
                default: false
                }
            }
    }
}

/// The metadata of a received header block as the bytes that came: decoded only when somebody asks.
struct CapturedMetadata {
    /// For each field two lengths of four bytes, the name, the value.
    private var bytes: [UInt8] = []

    mutating func append(name: UnsafeRawBufferPointer, value: UnsafeRawBufferPointer) {
        withUnsafeBytes(of: (UInt32(name.count), UInt32(value.count))) { bytes.append(contentsOf: $0) }
        bytes.append(contentsOf: name)
        bytes.append(contentsOf: value)
    }

    /// Values that cannot be decoded are left out.
    func decoded() -> Metadata {
        var metadata = Metadata()
        bytes.withUnsafeBytes { bytes in
            var place = 0
            while place < bytes.count {
                let nameCount = Int(bytes.loadUnaligned(fromByteOffset: place, as: UInt32.self))
                let valueCount = Int(bytes.loadUnaligned(fromByteOffset: place + 4, as: UInt32.self))
                let value = place + 8 + nameCount
                let name = String(decoding: bytes[place + 8..<value], as: UTF8.self)
                let field = bytes[value..<value + valueCount]
                if name.hasSuffix("-bin") {
                    for part in field.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false) {
                        let trimmed = part.drop { $0 == 0x20 }
                        if let decoded = Base64.decode(trimmed) { metadata.add(name, bytes: decoded) }
                    }
                } else {
                    metadata.add(name, String(decoding: field, as: UTF8.self))
                }
                place = value + valueCount
            }
        }
        return metadata
    }
}
