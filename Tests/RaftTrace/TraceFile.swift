/// One command of a trace, with what it is expected to print.
public struct Directive: Equatable, Sendable {
    public struct Argument: Equatable, Sendable {
        public var key: String
        /// Empty for a bare word.
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

/// The data-driven format: `command arguments`, input lines, `----`, expected output up to a blank line or, fenced by
/// doubled `----`, with blank lines in it. `#` begins a comment line between directives.
public struct TraceFile: Sendable {
    public var directives: [Directive] = []

    public init(parsing text: String) {
        var lines = LineReader(text)
        while let line = lines.next() {
            var command = line.trimmed
            if command.isEmpty || command.hasPrefix("#") { continue }
            let number = lines.number
            while command.hasSuffix("\\"), let more = lines.next() {
                command = command.dropLast() + " " + more.trimmed
            }
            directives.append(TraceFile.directive(command, at: number, &lines))
        }
    }

    private static func directive(_ command: String, at number: Int, _ lines: inout LineReader) -> Directive {
        var input: [String] = []
        var isSeparated = false
        while let line = lines.next() {
            isSeparated = line == "----"
            if isSeparated { break }
            input.append(line)
        }
        let words = words(of: command)
        var directive = Directive(
            line: number, command: words[0], arguments: words.dropFirst().map(argument),
            input: input.joined(separator: "\n").trimmed, expected: "", expectedLine: lines.number + 1)
        if isSeparated { directive.expected = expected(&lines, &directive.expectedLine) }
        return directive
    }

    private static func expected(_ lines: inout LineReader, _ firstLine: inout Int) -> String {
        var text = ""
        guard var line = lines.next() else { return text }
        if line == "----" {
            firstLine = lines.number + 1
            while let fenced = lines.next() {
                if fenced == "----" {
                    guard let second = lines.next(), second != "----" else { break }
                    text += fenced + "\n" + second + "\n"
                } else {
                    text += fenced + "\n"
                }
            }
            return text
        }
        while !line.trimmed.isEmpty {
            text += line + "\n"
            guard let more = lines.next() else { break }
            line = more
        }
        return text
    }

    /// Split at spaces that are not in parentheses.
    private static func words(of line: String) -> [String] {
        var words: [String] = []
        var word = ""
        var depth = 0
        for character in line {
            if character == "(" { depth += 1 }
            if character == ")" { depth -= 1 }
            if character == " " && depth <= 0 {
                if !word.isEmpty { words.append(word) }
                word = ""
            } else {
                word.append(character)
            }
        }
        if !word.isEmpty { words.append(word) }
        return words
    }

    private static func argument(_ word: String) -> Directive.Argument {
        guard let equals = word.firstIndex(of: "=") else { return Directive.Argument(key: word, values: []) }
        let key = String(word[..<equals])
        let value = word[word.index(after: equals)...]
        if value.hasPrefix("("), value.hasSuffix(")") {
            let values = value.dropFirst().dropLast().split(separator: ",").map { String($0).trimmed }
            return Directive.Argument(key: key, values: values)
        }
        return Directive.Argument(key: key, values: [String(value)])
    }
}

private struct LineReader {
    private let lines: [Substring]
    /// Of the line read last, from 1.
    private(set) var number = 0

    init(_ text: String) {
        lines = text.split(separator: "\n", omittingEmptySubsequences: false)
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
