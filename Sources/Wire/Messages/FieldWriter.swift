import CProtobuf
import Glibc
import Prelude

/// Fills generated structs from Swift values. What the structs point to is copied into the arena.
struct FieldWriter: FieldVisitor {
    typealias Failure = Never

    let arena: UnsafeMutablePointer<ProtobufArena>

    /// Up to here it takes less time to copy a message than to make an array without contents.
    private static let copiedByteCountMax = 1 << 10

    /// Encodes `value` in one array of exactly the right size.
    static func encode<Value: ProtobufMapped>(_ value: Value) -> [UInt8] {
        ProtobufArena.withArena(budget: .max) { arena in
            var writer = FieldWriter(arena: arena)
            let raw = writer.store(value)
            return raw.withMemoryRebound(to: ProtobufCMessage.self, capacity: 1) { message in
                let byteCount = protobuf_c_message_get_packed_size(message)
                if byteCount <= Self.copiedByteCountMax {
                    let packed = writer.allocate(UInt8.self, count: byteCount)
                    return Array(UnsafeBufferPointer(start: packed, count: protobuf_c_message_pack(message, packed)))
                }
                return Array(unsafeUninitializedCapacity: byteCount) { buffer, count in
                    count = protobuf_c_message_pack(message, buffer.baseAddress)
                }
            }
        }
    }

    mutating func store<Value: ProtobufMapped>(_ value: Value) -> UnsafeMutablePointer<Value.Raw> {
        let raw = allocate(Value.Raw.self, count: 1)
        Value.Raw.initialize(raw)
        Value.store(value, in: &raw.pointee, &self)
        return raw
    }

    private func allocate<Element>(_ type: Element.Type, count: Int) -> UnsafeMutablePointer<Element> {
        let byteCount = UInt(MemoryLayout<Element>.stride * count)
        guard let start = arena.pointee.allocate(byteCount: byteCount) else {
            invariantBroken("the arena of an encoding has no bound")
        }
        return start.bindMemory(to: type, capacity: count)
    }

    mutating func flag(_ value: inout Bool, _ field: inout protobuf_c_boolean) { field = value ? 1 : 0 }

    mutating func number<Number: FixedWidthInteger>(_ value: inout Number, _ field: inout Number) { field = value }

    mutating func bytes(_ value: inout [UInt8], _ field: inout ProtobufCBinaryData) {
        if value.isEmpty { return }
        let copy = allocate(UInt8.self, count: value.count)
        value.withUnsafeBufferPointer { bytes in
            if let base = bytes.baseAddress { copy.initialize(from: base, count: bytes.count) }
        }
        field = ProtobufCBinaryData(len: value.count, data: copy)
    }

    mutating func text(_ name: StaticString, _ value: inout String, _ field: inout CText?) {
        if value.isEmpty { return }
        if let copy = terminatedCopy(&value) {
            field = copy
        } else {
            var sendable = String(String.UnicodeScalarView(value.unicodeScalars.map { $0 == "\0" ? "\u{FFFD}" : $0 }))
            field = terminatedCopy(&sendable)
        }
    }

    /// Nil when the text holds the terminator.
    private func terminatedCopy(_ text: inout String) -> CText? {
        text.withUTF8 { bytes in
            guard let base = bytes.baseAddress, memchr(base, 0, bytes.count) == nil else { return nil }
            let copy = allocate(CChar.self, count: bytes.count + 1)
            memcpy(copy, base, bytes.count)
            copy[bytes.count] = 0
            return copy
        }
    }

    mutating func identifier<ID: NumericIdentifier>(
        _ name: StaticString, _ value: inout ID, _ field: inout UInt64
    ) {
        field = value.rawValue
    }

    mutating func identifiers<ID: NumericIdentifier>(
        _ name: StaticString, _ value: inout [ID], _ field: inout UnsafeMutablePointer<UInt64>?, _ count: inout Int
    ) {
        if value.isEmpty { return }
        let copy = allocate(UInt64.self, count: value.count)
        for (place, identifier) in value.enumerated() { copy[place] = identifier.rawValue }
        field = copy
        count = value.count
    }

    mutating func run(_ name: StaticString, _ value: inout RunID, _ field: inout CText?) {
        // Two numbers of 64 bits, the hyphen and the terminator.
        let text = allocate(CChar.self, count: 20 + 1 + 20 + 1)
        var end = text
        end = Self.append(value.group.rawValue, at: end)
        end.pointee = CChar(UInt8(ascii: "-"))
        end = Self.append(value.index.rawValue, at: end + 1)
        end.pointee = 0
        field = text
    }

    mutating func run(_ name: StaticString, _ value: inout RunID?, _ field: inout CText?) {
        if var run = value { self.run(name, &run, &field) }
    }

    /// Writes the decimal digits and returns where they end.
    private static func append(_ number: UInt64, at start: CText) -> CText {
        var count = 1
        var rest = number / 10
        while rest > 0 {
            count += 1
            rest /= 10
        }
        rest = number
        for place in (0..<count).reversed() {
            start[place] = CChar(UInt8(ascii: "0") + UInt8(rest % 10))
            rest /= 10
        }
        return start + count
    }

    mutating func code<Code: RawRepresentable>(
        _ name: StaticString, _ value: inout Code, _ field: inout UInt32
    ) where Code.RawValue: FixedWidthInteger {
        field = UInt32(value.rawValue)
    }

    mutating func code<Code: RawRepresentable>(
        _ name: StaticString, _ value: inout Code?, _ field: inout UInt32
    ) where Code.RawValue: FixedWidthInteger {
        field = value.map { UInt32($0.rawValue) } ?? 0
    }

    mutating func message<Value: ProtobufMapped>(
        _ value: inout Value?, _ field: inout UnsafeMutablePointer<Value.Raw>?
    ) {
        field = value.map { store($0) }
    }

    mutating func message<Value: ProtobufMapped>(
        _ name: StaticString, _ value: inout Value, _ field: inout UnsafeMutablePointer<Value.Raw>?
    ) {
        field = store(value)
    }

    mutating func messageOrBlank<Value: FieldTable>(
        _ value: inout Value, _ field: inout UnsafeMutablePointer<Value.Raw>?
    ) {
        field = store(value)
    }

    mutating func messages<Value: ProtobufMapped>(
        _ value: inout [Value], _ field: inout Table<Value.Raw>?, _ count: inout Int
    ) {
        if value.isEmpty { return }
        let table = allocate(UnsafeMutablePointer<Value.Raw>?.self, count: value.count)
        for place in value.indices { (table + place).initialize(to: store(value[place])) }
        field = table
        count = value.count
    }
}
