import Prelude

/// The fields of an encoded message one after the other, for the few messages that have no generated code. Never traps
/// and never reads beyond its bytes, whatever they are.
package struct ProtobufFields {
    package enum Value {
        case number(UInt64)
        case bytes(ArraySlice<UInt8>)
    }

    package struct Malformed: Error {
        package init() {}
    }

    private var rest: ArraySlice<UInt8>

    package init(_ bytes: ArraySlice<UInt8>) { rest = bytes }

    /// Nil at the end. Fields of fixed size come as numbers.
    package mutating func next() throws(Malformed) -> (field: UInt64, value: Value)? {
        guard !rest.isEmpty else { return nil }
        let key = try varint()
        guard key >> 3 > 0, key >> 3 < 1 << 29 else { throw Malformed() }
        switch key & 7 {
        case 0: return (key >> 3, .number(try varint()))
        case 1: return (key >> 3, .number(try fixed(8)))
        case 2:
            let count = try varint()
            guard count <= UInt64(rest.count) else { throw Malformed() }
            let bytes = rest.prefix(Int(count))
            rest = rest.dropFirst(Int(count))
            return (key >> 3, .bytes(bytes))
        case 5: return (key >> 3, .number(try fixed(4)))
        // Groups have not been in use for long.
        default: throw Malformed()
        }
    }

    private mutating func varint() throws(Malformed) -> UInt64 {
        var result: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard let byte = rest.popFirst() else { throw Malformed() }
            guard shift < 63 || byte <= 1 else { throw Malformed() }
            result |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 { return result }
        }
        throw Malformed()
    }

    private mutating func fixed(_ count: Int) throws(Malformed) -> UInt64 {
        guard rest.count >= count else { throw Malformed() }
        var result: UInt64 = 0
        for (place, byte) in rest.prefix(count).enumerated() { result |= UInt64(byte) << UInt64(8 * place) }
        rest = rest.dropFirst(count)
        return result
    }
}

/// Writes an encoded message field by field.
package struct ProtobufWriter {
    package private(set) var bytes: [UInt8] = []

    package init() {}

    /// 0 is the default and not written.
    package mutating func number(_ field: UInt64, _ value: UInt64) {
        guard value != 0 else { return }
        varint(field << 3)
        varint(value)
    }

    package mutating func bytes(_ field: UInt64, _ value: some Collection<UInt8>) {
        varint(field << 3 | 2)
        varint(UInt64(value.count))
        bytes.append(contentsOf: value)
    }

    package mutating func text(_ field: UInt64, _ value: String) { bytes(field, value.utf8) }

    private mutating func varint(_ value: UInt64) {
        var value = value
        while value >= 0x80 {
            bytes.append(UInt8(truncatingIfNeeded: value) | 0x80)
            value >>= 7
        }
        bytes.append(UInt8(value))
    }
}
