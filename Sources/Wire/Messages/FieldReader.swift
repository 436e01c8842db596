import CMessages
import CProtobuf
import Glibc
import Prelude

/// Reads generated structs into Swift values, and refuses what the contract does not allow.
struct FieldReader: FieldVisitor {
    typealias Failure = DecodingFailure

    /// The message being read.
    private var descriptor: UnsafePointer<ProtobufCMessageDescriptor>?

    /// Unpacks `bytes` into an arena and reads what came out.
    static func decode<Value: ProtobufMapped>(
        _ type: Value.Type, _ bytes: UnsafeRawBufferPointer
    ) throws(DecodingFailure) -> Value {
        var model = Value.Raw()
        Value.Raw.initialize(&model)
        let descriptor = model.base.descriptor
        let budget =
            CodecLimits.decodingByteCountMin + bytes.count * CodecLimits.decodingByteCountPerInputByte
        return try ProtobufArena.withArena(budget: budget) { (arena) throws(DecodingFailure) in
            var allocator = ProtobufCAllocator(arena)
            let message = protobuf_c_message_unpack(
                descriptor, &allocator, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
            var reader = FieldReader(descriptor: descriptor)
            guard let message else {
                throw reader.failure(
                    arena.pointee.isBudgetExceeded ? .tooManyFields(byteCount: bytes.count) : .malformed)
            }
            // The unpacked struct begins with the message as which it is handed out.
            let raw = UnsafeMutableRawPointer(message).assumingMemoryBound(to: Value.Raw.self)
            return try Value.load(&raw.pointee, &reader)
        }
    }

    func failure(_ reason: DecodingFailure.Reason) -> DecodingFailure {
        DecodingFailure(message: descriptor?.pointee.name.map { String(cString: $0) } ?? "message", reason: reason)
    }

    mutating func load<Value: ProtobufMapped>(
        _ raw: UnsafeMutablePointer<Value.Raw>, as type: Value.Type
    ) throws(DecodingFailure) -> Value {
        let outer = descriptor
        descriptor = raw.pointee.base.descriptor
        // After a failure nothing is read any more, and the failure names the inner message.
        let value = try Value.load(&raw.pointee, &self)
        descriptor = outer
        return value
    }

    mutating func flag(_ value: inout Bool, _ field: inout protobuf_c_boolean) { value = field != 0 }

    mutating func number<Number: FixedWidthInteger>(_ value: inout Number, _ field: inout Number) { value = field }

    mutating func bytes(_ value: inout [UInt8], _ field: inout ProtobufCBinaryData) {
        value = Array(UnsafeBufferPointer(start: field.data, count: field.len))
    }

    mutating func text(
        _ name: StaticString, _ value: inout String, _ field: inout CText?
    ) throws(DecodingFailure) {
        let bytes = Self.textBytes(field)
        guard let base = bytes.baseAddress else {
            value = ""
            return
        }
        if Self.isPlainASCII(base, bytes.count) {
            value = String(decoding: bytes, as: UTF8.self)
            return
        }
        // A string that could not be sent on is not let in.
        guard memchr(base, 0, bytes.count) == nil, let text = String(validating: bytes, as: UTF8.self) else {
            throw failure(.invalidText(field: "\(name)"))
        }
        value = text
    }

    /// Whether all bytes are 1...127. Most texts are, and the standard library's validation takes ten times as long.
    private static func isPlainASCII(_ start: UnsafeRawPointer, _ count: Int) -> Bool {
        let ones: UInt64 = 0x0101_0101_0101_0101
        let tops = ones << 7
        var place = 0
        while place + 8 <= count {
            let word = start.loadUnaligned(fromByteOffset: place, as: UInt64.self)
            // A byte of 0 borrows from its neighbour above, which is at worst taken for one more 0.
            guard (word | (word &- ones)) & tops == 0 else { return false }
            place += 8
        }
        while place < count {
            guard (1...127).contains(start.load(fromByteOffset: place, as: UInt8.self)) else { return false }
            place += 1
        }
        return true
    }

    /// Where an absent text field of a generated struct points to.
    private static let emptyTextAddress: Int = {
        var model = Raftoral__Payload()
        Raftoral__Payload.initialize(&model)
        return Int(bitPattern: model.encoding)
    }()

    private static func textBytes(_ field: CText?) -> UnsafeBufferPointer<UInt8> {
        guard let field, Int(bitPattern: field) != emptyTextAddress else {
            return UnsafeBufferPointer(start: nil, count: 0)
        }
        // Of the arena: with the terminator, which is not text.
        let count = ProtobufArena.byteCount(at: field) - 1
        return UnsafeBufferPointer(start: UnsafeRawPointer(field).assumingMemoryBound(to: UInt8.self), count: count)
    }

    mutating func identifier<ID: NumericIdentifier>(
        _ name: StaticString, _ value: inout ID, _ field: inout UInt64
    ) throws(DecodingFailure) {
        guard field <= CodecLimits.identifierMax else {
            throw failure(.identifierOutOfRange(field: "\(name)", value: field))
        }
        value = ID(rawValue: field)
    }

    mutating func identifiers<ID: NumericIdentifier>(
        _ name: StaticString, _ value: inout [ID], _ field: inout UnsafeMutablePointer<UInt64>?, _ count: inout Int
    ) throws(DecodingFailure) {
        value = []
        value.reserveCapacity(count)
        for place in 0..<count {
            guard let number = field?[place] else { break }
            guard number <= CodecLimits.identifierMax else {
                throw failure(.identifierOutOfRange(field: "\(name)", value: number))
            }
            value.append(ID(rawValue: number))
        }
    }

    mutating func run(
        _ name: StaticString, _ value: inout RunID, _ field: inout CText?
    ) throws(DecodingFailure) {
        guard let run = Self.run(Self.textBytes(field)) else { throw failure(.invalidRunID(field: "\(name)")) }
        value = run
    }

    mutating func run(
        _ name: StaticString, _ value: inout RunID?, _ field: inout CText?
    ) throws(DecodingFailure) {
        if Self.textBytes(field).isEmpty {
            value = nil
        } else {
            var run = RunID.blank
            try self.run(name, &run, &field)
            value = run
        }
    }

    /// Takes the one form that `RunID.description` gives, with both numbers in the range of identifiers.
    private static func run(_ text: UnsafeBufferPointer<UInt8>) -> RunID? {
        guard let hyphen = text.firstIndex(of: UInt8(ascii: "-")),
            let group = number(text[..<hyphen]), let index = number(text[(hyphen + 1)...])
        else { return nil }
        return RunID(group: GroupID(group), index: LogIndex(index))
    }

    private static func number(_ digits: Slice<UnsafeBufferPointer<UInt8>>) -> UInt64? {
        // 2^63 - 1 has 19 digits, so the sum stays within 64 bits.
        guard let first = digits.first, digits.count <= 19, digits.count == 1 || first != UInt8(ascii: "0") else {
            return nil
        }
        var value: UInt64 = 0
        for digit in digits {
            guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else { return nil }
            value = 10 * value + UInt64(digit - UInt8(ascii: "0"))
        }
        return value <= CodecLimits.identifierMax ? value : nil
    }

    mutating func code<Code: RawRepresentable>(
        _ name: StaticString, _ value: inout Code, _ field: inout UInt32
    ) throws(DecodingFailure) where Code.RawValue: FixedWidthInteger {
        value = try code(name, field)
    }

    mutating func code<Code: RawRepresentable>(
        _ name: StaticString, _ value: inout Code?, _ field: inout UInt32
    ) throws(DecodingFailure) where Code.RawValue: FixedWidthInteger {
        value = field == 0 ? nil : try code(name, field)
    }

    private func code<Code: RawRepresentable>(
        _ name: StaticString, _ field: UInt32
    ) throws(DecodingFailure) -> Code where Code.RawValue: FixedWidthInteger {
        guard let raw = Code.RawValue(exactly: field), let code = Code(rawValue: raw) else {
            throw failure(.unknownValue(field: "\(name)", value: field))
        }
        return code
    }

    mutating func message<Value: ProtobufMapped>(
        _ value: inout Value?, _ field: inout UnsafeMutablePointer<Value.Raw>?
    ) throws(DecodingFailure) {
        if let field {
            value = try load(field, as: Value.self)
        } else {
            value = nil
        }
    }

    mutating func message<Value: ProtobufMapped>(
        _ name: StaticString, _ value: inout Value, _ field: inout UnsafeMutablePointer<Value.Raw>?
    ) throws(DecodingFailure) {
        guard let field else { throw failure(.missingField("\(name)")) }
        value = try load(field, as: Value.self)
    }

    mutating func messageOrBlank<Value: FieldTable>(
        _ value: inout Value, _ field: inout UnsafeMutablePointer<Value.Raw>?
    ) throws(DecodingFailure) {
        if let field {
            value = try load(field, as: Value.self)
        } else {
            value = .blank
        }
    }

    mutating func messages<Value: ProtobufMapped>(
        _ value: inout [Value], _ field: inout Table<Value.Raw>?, _ count: inout Int
    ) throws(DecodingFailure) {
        value = []
        value.reserveCapacity(count)
        for place in 0..<count {
            guard let element = field?[place] else { break }
            value.append(try load(element, as: Value.self))
        }
    }
}
