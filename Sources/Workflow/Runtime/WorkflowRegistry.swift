import FoundationEssentials

/// One version of one type of workflow.
struct WorkflowDefinition: Sendable {
    var body: @Sendable (WorkflowContext, Payload) async throws -> Payload
}

/// The workflows that a node can execute.
public struct WorkflowRegistry: Sendable {
    private var definitions: [String: [UInt32: WorkflowDefinition]] = [:]

    public init() {}

    /// Registers an async function as a workflow. Input and output travel as JSON. Registering the same type and
    /// version again replaces the function.
    ///
    /// The function has to take the same way whenever it is replayed: everything that could differ (clocks, random
    /// numbers, what other systems say) belongs into steps and side effects of the context. It may run its own steps
    /// in parallel by `async let` and task groups. Throwing ends the run as failed.
    public mutating func register<Input: Codable & Sendable, Output: Codable & Sendable>(
        _ type: String, version: UInt32 = 1,
        _ body: @escaping @Sendable (WorkflowContext, Input) async throws -> Output
    ) {
        register(type, version) { context, input in
            try JSON.encode(try await body(context, try JSON.input(input, of: type, version)))
        }
    }

    /// As `register`, for functions without a result: the run's result is `null`.
    public mutating func register<Input: Codable & Sendable>(
        _ type: String, version: UInt32 = 1,
        _ body: @escaping @Sendable (WorkflowContext, Input) async throws -> Void
    ) {
        register(type, version) { context, input in
            try await body(context, try JSON.input(input, of: type, version))
            return JSON.null
        }
    }

    public var types: [String] { definitions.keys.sorted() }

    public func contains(_ type: String, version: UInt32) -> Bool {
        definitions[type]?[version] != nil
    }

    /// The highest version that is registered; nil when the type is not.
    public func highestVersion(of type: String) -> UInt32? { definitions[type]?.keys.max() }

    func definition(type: String, version: UInt32) -> WorkflowDefinition? { definitions[type]?[version] }

    private mutating func register(
        _ type: String, _ version: UInt32,
        _ body: @escaping @Sendable (WorkflowContext, Payload) async throws -> Payload
    ) {
        definitions[type, default: [:]][version] = WorkflowDefinition(body: body)
    }
}

/// Swift values as payloads. Keys are sorted, so that equal values give equal bytes.
package enum JSON {
    static let null = Payload(data: Array("null".utf8))

    package static func encode(_ value: some Encodable) throws -> Payload {
        // Whole numbers, the results of many steps, are written and read without the machinery for everything else.
        if let number = value as? Int { return Payload(data: Array(String(number).utf8)) }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return Payload(data: Array(try encoder.encode(value)))
    }

    package static func decode<Value: Decodable>(_ type: Value.Type = Value.self, _ payload: Payload) throws -> Value {
        guard payload.encoding == Payload.jsonEncoding else {
            throw WorkflowFailure("the payload's encoding is \"\(payload.encoding)\", not \"\(Payload.jsonEncoding)\"")
        }
        if type == Int.self, let number = wholeNumber(payload.data), let value = number as? Value { return value }
        return try JSONDecoder().decode(type, from: Data(payload.data))
    }

    /// Of what is nothing but digits, and certainly fits; nil for all else, although it may be a number.
    private static func wholeNumber(_ bytes: [UInt8]) -> Int? {
        guard (1...18).contains(bytes.count), bytes.count == 1 || bytes[0] != UInt8(ascii: "0") else { return nil }
        var number = 0
        for byte in bytes {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            number = number * 10 + Int(byte - UInt8(ascii: "0"))
        }
        return number
    }

    /// No bytes at all stand for `null`.
    static func input<Value: Decodable>(_ payload: Payload, of type: String, _ version: UInt32) throws -> Value {
        do {
            return try decode(Value.self, payload.data.isEmpty ? null : payload)
        } catch {
            throw WorkflowFailure("the input does not fit workflow \"\(type)\" version \(version): \(explain(error))")
        }
    }

    package static func explain(_ error: any Error) -> String {
        func path(_ context: DecodingError.Context) -> String {
            context.codingPath.isEmpty ? "" : " at \(context.codingPath.map(\.stringValue).joined(separator: "."))"
        }
        guard let error = error as? DecodingError else { return describe(error) }
        switch error {
        case .keyNotFound(let key, let context): return "\"\(key.stringValue)\" is missing\(path(context))"
        case .typeMismatch(let type, let context): return "expected \(type)\(path(context))"
        case .valueNotFound(let type, let context): return "expected \(type)\(path(context)), found null"
        case .dataCorrupted(let context): return context.debugDescription + path(context)
        @unknown default: return "\(error)"
        }
    }
}
