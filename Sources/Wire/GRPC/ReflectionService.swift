import CMessages
import Prelude

/// `grpc.reflection` v1 and v1alpha: tells tools such as grpcurl what can be called here and with which messages.
public enum ReflectionService {
    public static let paths = [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ]

    public static func register(on server: GRPCServer) {
        let descriptors = DescriptorSet.own
        for path in paths {
            server.streaming(path) { [unowned server] stream in
                stream.onHalfClose = { [unowned stream] in stream.finish(.ok) }
                stream.onMessage = { [unowned stream] bytes in
                    guard let answer = answer(Array(bytes), descriptors, server.serviceNames) else {
                        return stream.finish(
                            GRPCStatus(.invalidArgument, "the message is not a ServerReflectionRequest"))
                    }
                    // Who does not read the answers gets no more questions read.
                    if !stream.send(answer) { stream.isReadingPaused = true }
                }
                stream.onWritable = { [unowned stream] in stream.isReadingPaused = false }
            }
        }
    }

    /// The encoded answer to an encoded ServerReflectionRequest; nil when it is none.
    static func answer(_ request: [UInt8], _ descriptors: DescriptorSet, _ services: [String]) -> [UInt8]? {
        var host: ArraySlice<UInt8> = []
        var question: (field: UInt64, text: ArraySlice<UInt8>)?
        var fields = ProtobufFields(request[...])
        do throws(ProtobufFields.Malformed) {
            while let (field, value) = try fields.next() {
                guard case .bytes(let bytes) = value else { continue }
                switch field {
                case 1: host = bytes
                case 3...7: question = (field, bytes)
                default: break
                }
            }
        } catch {
            return nil
        }
        var response = ProtobufWriter()
        if !host.isEmpty { response.bytes(1, host) }
        response.bytes(2, request)
        add(answerTo: question, descriptors, services, to: &response)
        return response.bytes
    }

    private static func add(
        answerTo question: (field: UInt64, text: ArraySlice<UInt8>)?, _ descriptors: DescriptorSet,
        _ services: [String], to response: inout ProtobufWriter
    ) {
        let text = question.flatMap { String(validating: $0.text, as: UTF8.self) } ?? ""
        switch question?.field {
        case 3: add(descriptors.file(named: text), "file \(text)", to: &response)
        case 4: add(descriptors.file(containing: text), "symbol \(text)", to: &response)
        case 5: add(error: .notFound, "there are no extensions here", to: &response)
        case 6:
            guard descriptors.file(containing: text) != nil else {
                return add(error: .notFound, "there is no type \(text) here", to: &response)
            }
            var numbers = ProtobufWriter()
            numbers.text(1, text)
            response.bytes(5, numbers.bytes)
        case 7:
            var list = ProtobufWriter()
            for service in services {
                var name = ProtobufWriter()
                name.text(1, service)
                list.bytes(1, name.bytes)
            }
            response.bytes(6, list.bytes)
        default: add(error: .invalidArgument, "the request asks nothing that is known here", to: &response)
        }
    }

    private static func add(_ file: [UInt8]?, _ what: String, to response: inout ProtobufWriter) {
        guard let file else { return add(error: .notFound, "there is no \(what) here", to: &response) }
        // None of our files imports another one: each is complete by itself.
        var files = ProtobufWriter()
        files.bytes(1, file)
        response.bytes(4, files.bytes)
    }

    private static func add(error code: GRPCCode, _ message: String, to response: inout ProtobufWriter) {
        var error = ProtobufWriter()
        error.number(1, UInt64(code.rawValue))
        error.text(2, String(message.prefix(GRPCStatus.messageByteCountMax)))
        response.bytes(7, error.bytes)
    }
}

/// A `google.protobuf.FileDescriptorSet`, and where in it each symbol is.
struct DescriptorSet {
    private var files: [String: [UInt8]] = [:]
    private var fileOfSymbol: [String: String] = [:]

    /// What is compiled in.
    static let own: DescriptorSet = {
        var byteCount = 0
        let start = raftoral_descriptor_set(&byteCount)
        let bytes = Array(UnsafeBufferPointer(start: start, count: byteCount))
        guard let own = try? DescriptorSet(bytes) else { invariantBroken("the generated descriptors can be read") }
        return own
    }()

    init(_ bytes: [UInt8]) throws(ProtobufFields.Malformed) {
        for (field, value) in try Self.messages(in: bytes[...]) where field == 1 { try add(file: value) }
    }

    func file(named name: String) -> [UInt8]? { files[name] }

    func file(containing symbol: String) -> [UInt8]? { fileOfSymbol[symbol].flatMap { files[$0] } }

    private mutating func add(file: ArraySlice<UInt8>) throws(ProtobufFields.Malformed) {
        let fields = try Self.messages(in: file)
        let name = Self.text(1, fields)
        let package = Self.text(2, fields)
        files[name] = Array(file)
        for (field, value) in fields {
            switch field {
            case 4: try addMessage(value, in: package, name)
            case 5: try addEnumeration(value, in: package, name)
            case 6: try addService(value, in: package, name)
            default: break
            }
        }
    }

    // Fields of DescriptorProto: 1 name, 2 field, 3 nested message, 4 nested enum, 8 oneof.
    private mutating func addMessage(
        _ bytes: ArraySlice<UInt8>, in scope: String, _ file: String
    ) throws(ProtobufFields.Malformed) {
        let fields = try Self.messages(in: bytes)
        let name = add(Self.text(1, fields), in: scope, file)
        for (field, value) in fields {
            switch field {
            case 2, 8: _ = add(Self.text(1, try Self.messages(in: value)), in: name, file)
            case 3: try addMessage(value, in: name, file)
            case 4: try addEnumeration(value, in: name, file)
            default: break
            }
        }
    }

    // Fields of EnumDescriptorProto: 1 name, 2 value. Values stand in the scope of their enum's parent.
    private mutating func addEnumeration(
        _ bytes: ArraySlice<UInt8>, in scope: String, _ file: String
    ) throws(ProtobufFields.Malformed) {
        let fields = try Self.messages(in: bytes)
        _ = add(Self.text(1, fields), in: scope, file)
        for (field, value) in fields where field == 2 {
            _ = add(Self.text(1, try Self.messages(in: value)), in: scope, file)
        }
    }

    // Fields of ServiceDescriptorProto: 1 name, 2 method.
    private mutating func addService(
        _ bytes: ArraySlice<UInt8>, in scope: String, _ file: String
    ) throws(ProtobufFields.Malformed) {
        let fields = try Self.messages(in: bytes)
        let name = add(Self.text(1, fields), in: scope, file)
        for (field, value) in fields where field == 2 {
            _ = add(Self.text(1, try Self.messages(in: value)), in: name, file)
        }
    }

    /// The full name.
    private mutating func add(_ name: String, in scope: String, _ file: String) -> String {
        let full = scope.isEmpty ? name : "\(scope).\(name)"
        fileOfSymbol[full] = file
        return full
    }

    /// The fields that are texts or messages.
    private static func messages(
        in bytes: ArraySlice<UInt8>
    ) throws(ProtobufFields.Malformed) -> [(field: UInt64, value: ArraySlice<UInt8>)] {
        var result: [(field: UInt64, value: ArraySlice<UInt8>)] = []
        var fields = ProtobufFields(bytes)
        while let (field, value) = try fields.next() {
            if case .bytes(let bytes) = value { result.append((field, bytes)) }
        }
        return result
    }

    private static func text(_ field: UInt64, _ fields: [(field: UInt64, value: ArraySlice<UInt8>)]) -> String {
        fields.first { $0.field == field }.map { String(decoding: $0.value, as: UTF8.self) } ?? ""
    }
}
