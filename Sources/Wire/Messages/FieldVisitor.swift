import CProtobuf
import Prelude

/// A struct of the generated code. Conformances are in GeneratedStructs.swift.
protocol ProtobufStruct {
    init()
    var base: ProtobufCMessage { get }
    /// Sets every field to its default, and `base` to the struct's description.
    static func initialize(_ target: UnsafeMutablePointer<Self>)
}

/// A Swift value that travels as the generated struct `Raw`.
protocol ProtobufMapped {
    associatedtype Raw: ProtobufStruct
    static func store(_ value: Self, in raw: inout Raw, _ writer: inout FieldWriter)
    static func load(_ raw: inout Raw, _ reader: inout FieldReader) throws(DecodingFailure) -> Self
}

/// A value whose fields match those of `Raw` one by one. One table serves both directions.
protocol FieldTable: ProtobufMapped {
    /// What a message without any field stands for.
    static var blank: Self { get }
    static func fields<Visitor: FieldVisitor>(
        _ visitor: inout Visitor, _ value: inout Self, _ raw: inout Raw
    ) throws(Visitor.Failure)
}

extension FieldTable {
    static func store(_ value: Self, in raw: inout Raw, _ writer: inout FieldWriter) {
        var value = value
        fields(&writer, &value, &raw)
    }

    static func load(_ raw: inout Raw, _ reader: inout FieldReader) throws(DecodingFailure) -> Self {
        var value = blank
        try fields(&reader, &value, &raw)
        return value
    }
}

typealias CText = UnsafeMutablePointer<CChar>
typealias Table<Element> = UnsafeMutablePointer<UnsafeMutablePointer<Element>?>

/// Moves one field between a Swift value and a generated struct; the direction is the visitor's.
/// Field names are for failures only.
protocol FieldVisitor {
    associatedtype Failure: Error

    mutating func flag(_ value: inout Bool, _ field: inout protobuf_c_boolean)
    mutating func number<Number: FixedWidthInteger>(_ value: inout Number, _ field: inout Number)
    mutating func bytes(_ value: inout [UInt8], _ field: inout ProtobufCBinaryData)
    mutating func text(_ name: StaticString, _ value: inout String, _ field: inout CText?) throws(Failure)

    mutating func identifier<ID: NumericIdentifier>(
        _ name: StaticString, _ value: inout ID, _ field: inout UInt64
    ) throws(Failure)
    mutating func identifiers<ID: NumericIdentifier>(
        _ name: StaticString, _ value: inout [ID], _ field: inout UnsafeMutablePointer<UInt64>?, _ count: inout Int
    ) throws(Failure)

    /// A run that must be named.
    mutating func run(_ name: StaticString, _ value: inout RunID, _ field: inout CText?) throws(Failure)
    /// A run that may be left open by empty text.
    mutating func run(_ name: StaticString, _ value: inout RunID?, _ field: inout CText?) throws(Failure)

    /// One of a known set of raw values.
    mutating func code<Code: RawRepresentable>(
        _ name: StaticString, _ value: inout Code, _ field: inout UInt32
    ) throws(Failure) where Code.RawValue: FixedWidthInteger
    /// As above; 0 stands for none.
    mutating func code<Code: RawRepresentable>(
        _ name: StaticString, _ value: inout Code?, _ field: inout UInt32
    ) throws(Failure) where Code.RawValue: FixedWidthInteger

    mutating func message<Value: ProtobufMapped>(
        _ value: inout Value?, _ field: inout UnsafeMutablePointer<Value.Raw>?
    ) throws(Failure)
    /// A message that must be there.
    mutating func message<Value: ProtobufMapped>(
        _ name: StaticString, _ value: inout Value, _ field: inout UnsafeMutablePointer<Value.Raw>?
    ) throws(Failure)
    /// A message whose absence stands for a blank one.
    mutating func messageOrBlank<Value: FieldTable>(
        _ value: inout Value, _ field: inout UnsafeMutablePointer<Value.Raw>?
    ) throws(Failure)
    mutating func messages<Value: ProtobufMapped>(
        _ value: inout [Value], _ field: inout Table<Value.Raw>?, _ count: inout Int
    ) throws(Failure)
}
