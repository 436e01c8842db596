import Prelude
import Raft

/// A directive that cannot be carried out; its text is the directive's output.
struct TraceError: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}

extension Directive {
    /// The bare words, in order.
    var words: [String] { arguments.filter(\.values.isEmpty).map(\.key) }

    /// The values of all arguments of this name.
    func values(_ key: String) -> [String] {
        arguments.filter { $0.key == key }.flatMap(\.values).filter { !$0.isEmpty }
    }

    func value(_ key: String) -> String? { values(key).last }

    func number(_ key: String) throws -> UInt64? { try value(key).map { try parseNumber($0) } }

    func flag(_ key: String) throws -> Bool? {
        switch value(key) {
        case nil: nil
        case "true", "1", "t", "T", "TRUE", "True": true
        case "false", "0", "f", "F", "FALSE", "False": false
        case let other?: throw TraceError("\(key) must be true or false, not \(other)")
        }
    }

    func ids(_ key: String) throws -> [NodeID] { try values(key).map(parseID) }

    /// The bare words as numbers.
    func numbers() throws -> [UInt64] { try words.map(parseNumber) }

    func checkNames(_ known: [String]) throws {
        for argument in arguments where !argument.values.isEmpty && !known.contains(argument.key) {
            throw TraceError("unknown argument \(argument.key)")
        }
    }
}

func parseNumber(_ text: String) throws -> UInt64 {
    guard let number = UInt64(text) else { throw TraceError("\(text) is not a number") }
    return number
}

/// Operations such as `v1 l2 r3 u4`.
func parseChanges(_ input: String) throws -> [ConfChangeSingle] {
    try input.split(whereSeparator: \.isWhitespace).map { word in
        guard word.count > 1 else { throw TraceError("unknown token \(word)") }
        let kind: ConfChangeSingle.Kind
        switch word.first {
        case "v": kind = .addVoter
        case "l": kind = .addLearner
        case "r": kind = .remove
        case "u": kind = .update
        default: throw TraceError("unknown input: \(word)")
        }
        return ConfChangeSingle(kind: kind, node: try parseID(String(word.dropFirst())))
    }
}

/// A node, not one of the two names that stand for the storage.
func parseID(_ text: String) throws -> NodeID {
    let id = NodeID(try parseNumber(text))
    if id.isLocalThread { throw TraceError("\(text) is no node") }
    return id
}
