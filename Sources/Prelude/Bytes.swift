/// Builds bytes for our own stored forms: little-endian integers, varints, and length-prefixed byte strings.
public struct ByteWriter: Sendable {
    public private(set) var bytes: [UInt8] = []

    public init(capacity: Int = 0) { bytes.reserveCapacity(capacity) }

    public mutating func append(_ value: UInt8) { bytes.append(value) }

    public mutating func append(fixed value: UInt32) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    public mutating func append(fixed value: UInt64) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    /// LEB128, 1 to 10 bytes.
    public mutating func append(varint value: UInt64) {
        // Most are small.
        if value < 0x80 { return bytes.append(UInt8(truncatingIfNeeded: value)) }
        var rest = value
        while rest >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        bytes.append(UInt8(rest))
    }

    public mutating func append(signed value: Int64) { append(fixed: UInt64(bitPattern: value)) }

    public mutating func append(_ value: Bool) { bytes.append(value ? 1 : 0) }

    /// A varint length, then the bytes.
    public mutating func append(string value: some Collection<UInt8>) {
        append(varint: UInt64(value.count))
        bytes.append(contentsOf: value)
    }

    /// The bytes alone, without a length.
    public mutating func append(raw value: some Collection<UInt8>) { bytes.append(contentsOf: value) }

    public mutating func append(text value: String) {
        // Several times as fast as by the view itself.
        let isContiguous: Void? = value.utf8.withContiguousStorageIfAvailable { append(string: $0) }
        if isContiguous == nil { append(string: value.utf8) }
    }
}

/// What a `ByteReader` met: the bytes are not what a `ByteWriter` of the same form writes.
public struct MalformedBytes: Error, Equatable, Sendable, CustomStringConvertible {
    public var offset: Int
    public var expected: String

    public init(offset: Int, expected: String) {
        self.offset = offset
        self.expected = expected
    }

    public var description: String { "malformed bytes at offset \(offset): expected \(expected)" }
}

/// Reads what `ByteWriter` wrote. Never traps on what it reads and never allocates more than it was given.
public struct ByteReader {
    private let bytes: [UInt8]
    public private(set) var offset = 0

    public init(_ bytes: [UInt8]) { self.bytes = bytes }

    public var isAtEnd: Bool { offset == bytes.count }
    public var remainingByteCount: Int { bytes.count - offset }

    public mutating func byte() throws(MalformedBytes) -> UInt8 {
        guard offset < bytes.count else { throw MalformedBytes(offset: offset, expected: "a byte") }
        defer { offset += 1 }
        return bytes[offset]
    }

    public mutating func bool() throws(MalformedBytes) -> Bool {
        switch try byte() {
        case 0: return false
        case 1: return true
        default: throw MalformedBytes(offset: offset - 1, expected: "0 or 1")
        }
    }

    public mutating func fixed32() throws(MalformedBytes) -> UInt32 {
        UInt32(littleEndian: try load(UInt32.self))
    }

    public mutating func fixed64() throws(MalformedBytes) -> UInt64 { UInt64(littleEndian: try load(UInt64.self)) }

    public mutating func signed() throws(MalformedBytes) -> Int64 { Int64(bitPattern: try fixed64()) }

    public mutating func varint() throws(MalformedBytes) -> UInt64 {
        let start = offset
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            let next = try byte()
            // The tenth byte holds one bit only.
            guard shift < 63 || (shift == 63 && next <= 1) else {
                throw MalformedBytes(offset: start, expected: "a varint of at most 64 bits")
            }
            value |= UInt64(next & 0x7F) << shift
            if next < 0x80 { return value }
            shift += 7
        }
    }

    public mutating func string() throws(MalformedBytes) -> [UInt8] {
        let count = try stringByteCount()
        defer { offset += count }
        return Array(bytes[offset..<offset + count])
    }

    public mutating func text() throws(MalformedBytes) -> String {
        let start = offset
        let count = try stringByteCount()
        defer { offset += count }
        let text = bytes.withUnsafeBytes { all in
            let wanted = UnsafeRawBufferPointer(rebasing: all[offset..<offset + count])
            let text = String(decoding: wanted, as: UTF8.self)
            // What is no UTF-8 has been replaced, by other bytes; to look for that is cheaper than to validate before.
            let isSame = text.utf8.withContiguousStorageIfAvailable { $0.elementsEqual(wanted) }
            return isSame ?? text.utf8.elementsEqual(wanted) ? text : nil
        }
        guard let text else { throw MalformedBytes(offset: start, expected: "UTF-8 text") }
        return text
    }

    /// The length of a string, which is all there.
    private mutating func stringByteCount() throws(MalformedBytes) -> Int {
        let start = offset
        let count = try varint()
        guard count <= UInt64(remainingByteCount) else {
            throw MalformedBytes(offset: start, expected: "\(count) bytes")
        }
        return Int(count)
    }

    /// A count of items, each at least `minimumByteCount` long: refused when the rest could not hold them.
    public mutating func count(minimumByteCount: Int) throws(MalformedBytes) -> Int {
        let start = offset
        let count = try varint()
        guard count <= UInt64(remainingByteCount / max(1, minimumByteCount)) else {
            throw MalformedBytes(offset: start, expected: "\(count) items")
        }
        return Int(count)
    }

    public func end() throws(MalformedBytes) {
        guard isAtEnd else { throw MalformedBytes(offset: offset, expected: "the end") }
    }

    private mutating func load<Number: FixedWidthInteger & BitwiseCopyable>(
        _: Number.Type
    ) throws(MalformedBytes) -> Number {
        let byteCount = MemoryLayout<Number>.size
        guard remainingByteCount >= byteCount else {
            throw MalformedBytes(offset: offset, expected: "\(byteCount) bytes")
        }
        defer { offset += byteCount }
        return bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Number.self) }
    }
}
