import Foundation

protocol TraceEnvironment: AnyObject {
    /// Carries out one directive and returns what it prints.
    func handle(_ directive: Directive) -> String
}

/// The first directive of a file whose output was not as expected.
public struct TraceDifference: Error, Equatable, Sendable, CustomStringConvertible {
    /// Relative to the folder of traces.
    public var file: String
    /// Of the first line that differs, from 1.
    public var line: Int
    public var command: String
    public var expected: String
    public var actual: String

    public var description: String {
        """
        \(file):\(line): \(command)
        expected:
        \(expected.indentedLines)
        actual:
        \(actual.indentedLines)
        """
    }
}

public struct TraceRunError: Error, Equatable, Sendable, CustomStringConvertible {
    public var description: String
}

/// Runs the traces of a folder against the core.
public struct TraceRunner {
    private let folder: String
    private let comparesLogLines: Bool

    /// `comparesLogLines`: the core's log lines are compared too, not only what it does.
    public init(folder: String, comparesLogLines: Bool = false) {
        self.folder = folder
        self.comparesLogLines = comparesLogLines
    }

    /// All files that hold traces, relative to the folder, sorted. Throws when there is no folder, or nothing in it.
    public func files() throws -> [String] {
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: folder, isDirectory: &isDirectory), isDirectory.boolValue else {
            throw TraceRunError(description: "there is no folder of traces at \(folder); name one by RAFT_TESTDATA")
        }
        let names = FileManager.default.enumerator(atPath: folder)?.compactMap { $0 as? String } ?? []
        let files = names.filter { $0.hasSuffix(".txt") }.sorted()
        if files.isEmpty { throw TraceRunError(description: "there are no traces (*.txt) in \(folder)") }
        return files
    }

    /// Throws a `TraceDifference`, or a `TraceRunError` when the file cannot be run.
    public func run(_ file: String) throws {
        let trace = try read(file)
        let environment = environment(for: trace)
        for directive in trace.directives {
            try compare(directive, environment.handle(directive), file)
        }
    }

    /// The directives of a file, each with what the core prints now: for writing traces, and for looking at them.
    public func transcript(_ file: String) throws -> String {
        let trace = try read(file)
        let environment = environment(for: trace)
        return trace.directives.map { directive in
            let output = environment.handle(directive)
            let input = directive.input.isEmpty ? "" : directive.input + "\n"
            return "\(directive.text)\n\(input)----\n\(output)" + (output.hasSuffix("\n") ? "" : "\n")
        }.joined(separator: "\n")
    }

    private func read(_ file: String) throws -> TraceFile {
        guard let data = FileManager.default.contents(atPath: folder + "/" + file) else {
            throw TraceRunError(description: "cannot read \(file)")
        }
        guard let text = String(data: data, encoding: .utf8) else {
            throw TraceRunError(description: "\(file) is no UTF-8 text")
        }
        let trace: TraceFile
        do {
            trace = try TraceFile(parsing: text)
        } catch {
            throw TraceRunError(description: "\(file):\(error.line): \(error.reason)")
        }
        if trace.directives.isEmpty { throw TraceRunError(description: "\(file) holds no directives") }
        return trace
    }

    /// By what the file does, so that it does not matter in which folder it lies.
    private func environment(for trace: TraceFile) -> any TraceEnvironment {
        switch trace.directives[0].command {
        case "committed", "vote": QuorumEnvironment()
        case "simple", "enter-joint", "leave-joint": MembershipEnvironment()
        default: InteractionEnvironment()
        }
    }

    private func compare(_ directive: Directive, _ output: String, _ file: String) throws {
        let expected = lines(directive.expected)
        let actual = lines(output)
        if expected.map(\.text) == actual.map(\.text) { return }
        let place = zip(expected, actual).enumerated().first { $1.0.text != $1.1.text }?.offset
        let offset = place.map { expected[$0].offset } ?? expected.last.map { $0.offset + 1 } ?? 0
        throw TraceDifference(
            file: file, line: directive.expectedLine + offset,
            command: directive.text,
            expected: expected.map(\.text).joined(separator: "\n"), actual: actual.map(\.text).joined(separator: "\n"))
    }

    /// The lines to compare, each with its place. Where log lines are left out, a directive that prints nothing else
    /// says `ok`.
    private func lines(_ output: String) -> [(text: Substring, offset: Int)] {
        var lines = output.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
            .map { (text: $1, offset: $0) }
        if lines.last?.text == "" { lines.removeLast() }
        lines.removeAll { line in
            let text = line.text.drop { $0 == " " }
            return !comparesLogLines && ["DEBUG ", "INFO ", "WARN ", "ERROR "].contains { text.hasPrefix($0) }
        }
        return lines.isEmpty ? [(text: "ok", offset: 0)] : lines
    }
}

extension Directive {
    fileprivate var text: String { ([command] + arguments.map(\.text)).joined(separator: " ") }
}

extension Directive.Argument {
    fileprivate var text: String {
        switch values.count {
        case 0: key
        case 1: "\(key)=\(values[0])"
        default: "\(key)=(\(values.joined(separator: ",")))"
        }
    }
}

extension String {
    fileprivate var indentedLines: String {
        split(separator: "\n", omittingEmptySubsequences: false).map { "    " + $0 }.joined(separator: "\n")
    }
}
