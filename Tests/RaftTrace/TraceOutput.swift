import Raft

/// The order is that of severity; a level shows its own lines and those above.
enum TraceLevel: Int, CaseIterable {
    case debug, info, warn, error, fatal, none

    var name: String {
        switch self {
        case .debug: "DEBUG"
        case .info: "INFO"
        case .warn: "WARN"
        case .error: "ERROR"
        case .fatal: "FATAL"
        case .none: "NONE"
        }
    }
}

/// What a directive has printed so far.
final class TraceOutput {
    private(set) var text = ""
    var level = TraceLevel.debug

    var isQuiet: Bool { level == .none }

    func reset() { text = "" }

    func write(_ string: String) {
        if !isQuiet { text += string }
    }

    func log(_ level: TraceLevel, _ line: String) {
        if self.level.rawValue <= level.rawValue { write("\(level.name) \(line)\n") }
    }

    /// Indents by two spaces what `body` prints.
    func indented(_ body: () throws -> Void) rethrows {
        let before = text
        text = ""
        defer {
            let inner = text
            text = before
            var lines = inner.split(separator: "\n", omittingEmptySubsequences: false)
            if lines.last == "" { lines.removeLast() }
            for line in lines { text += "  \(line)\n" }
        }
        try body()
    }
}
