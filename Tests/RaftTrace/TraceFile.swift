/// One command of a trace, with what it is expected to print.
public struct Directive: Equatable, Sendable {
    public struct Argument: Equatable, Sendable {
        public var key: String
        /// Empty for a bare word; one empty value for `key=` and `key=()`.
        public var values: [String]
    }

    /// Where the command stands, from 1.
    public var line: Int
    public var command: String
    public var arguments: [Argument]
    public var input: String
    public var expected: String
    /// Where the expected output begins, from 1.
    public var expectedLine: Int
}

/// Why a file cannot be run at all.
public struct TraceSyntaxError: Error, Equatable, Sendable {
    /// From 1.
    public var line: Int
    public var reason: String
}

/// The data-driven format: `command arguments`, input lines, `----`, expected output up to a blank line or, fenced by
/// doubled `----`, with blank lines in it. `#` begins a comment line between directives.
public struct TraceFile: Sendable {
    public var directives: [Directive] = []

    public init(parsing text: String) throws(TraceSyntaxError) {
        var lines = LineReader(text)
        while let line = lines.next() {
            var command = line.trimmed
            if command.isEmpty || command.hasPrefix("#") { continue }
            let number = lines.number
            while command.hasSuffix("\\"), let more = lines.next() {
                command = command.dropLast() + " " + more.trimmed
            }
            directives.append(try TraceFile.directive(command, at: number, &lines))
        }
    }

    private static func directive(
        _ command: String, at number: Int, _ lines: inout LineReader
    ) throws(TraceSyntaxError) -> Directive {
        var input: [String] = []
        var isSeparated = false
        while let line = lines.next() {
            isSeparated = line.trimmed == "----"
            if isSeparated { break }
            input.append(line)
        }
        if !isSeparated { throw TraceSyntaxError(line: number, reason: "no ---- follows this directive") }
        let (name, arguments) = try parse(command, at: number)
        var directive = Directive(
            line: number, command: name, arguments: arguments,
            input: input.joined(separator: "\n").trimmed, expected: "", expectedLine: lines.number + 1)
        directive.expected = try expected(&lines, &directive.expectedLine)
        return directive
    }

    /// A command and its arguments. `line` is for the error.
    static func parse(
        _ command: String, at line: Int
    ) throws(TraceSyntaxError) -> (command: String, arguments: [Directive.Argument]) {
        guard let words = split(command, at: { $0 == " " || $0 == "\t" }), let name = words.first else {
            throw TraceSyntaxError(line: line, reason: "parentheses do not match: \(command)")
        }
        return (name, words.dropFirst().map(argument))
    }

    private static func expected(
        _ lines: inout LineReader, _ firstLine: inout Int
    ) throws(TraceSyntaxError) -> String {
        var text = ""
        guard var line = lines.next() else { return text }
        if line == "----" {
            firstLine = lines.number + 1
            while let fenced = lines.next() {
                if fenced == "----" {
                    guard let second = lines.next(), second != "----" else { return text }
                    text += fenced + "\n" + second + "\n"
                } else {
                    text += fenced + "\n"
                }
            }
            throw TraceSyntaxError(line: firstLine, reason: "no doubled ---- ends this output")
        }
        while !line.trimmed.isEmpty {
            text += line + "\n"
            guard let more = lines.next() else { break }
            line = more
        }
        return text
    }

    /// The parts between separators that are not in parentheses, without those that are empty. Nil when the parentheses
    /// do not match.
    private static func split(_ line: String, at isSeparator: (Character) -> Bool) -> [String]? {
        var parts: [String] = []
        var part = ""
        var depth = 0
        for character in line {
            if character == "(" { depth += 1 }
            if character == ")" { depth -= 1 }
            if depth < 0 { return nil }
            if depth == 0 && isSeparator(character) {
                if !part.isEmpty { parts.append(part) }
                part = ""
            } else {
                part.append(character)
            }
        }
        if !part.isEmpty { parts.append(part) }
        return depth == 0 ? parts : nil
    }

    private static func argument(_ word: String) -> Directive.Argument {
        guard let equals = word.firstIndex(of: "=") else { return Directive.Argument(key: word, values: []) }
        let key = String(word[..<equals])
        let value = word[word.index(after: equals)...]
        if value.hasPrefix("("), value.hasSuffix(")") {
            // What is between these parentheses may hold others.
            let values = split(String(value.dropFirst().dropLast()), at: { $0 == "," }) ?? []
            return Directive.Argument(key: key, values: values.isEmpty ? [""] : values.map(\.trimmed))
        }
        return Directive.Argument(key: key, values: [String(value)])
    }
}

private struct LineReader {
    private let lines: [Substring]
    /// Of the line read last, from 1.
    private(set) var number = 0

    init(_ text: String) {
        lines = text.split(omittingEmptySubsequences: false) { $0 == "\n" || $0 == "\r\n" }
    }

    mutating func next() -> String? {
        guard number < lines.count else { return nil }
        number += 1
        // A file's last newline begins no line.
        if number == lines.count && lines[number - 1].isEmpty { return nil }
        return String(lines[number - 1])
    }
}

extension String {
    var trimmed: String {
        var rest = self[...]
        while let first = rest.first, first.isWhitespace { rest = rest.dropFirst() }
        while let last = rest.last, last.isWhitespace { rest = rest.dropLast() }
        return String(rest)
    }
}
