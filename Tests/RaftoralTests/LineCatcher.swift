import Logging
import Raftoral

final class Lines {
    var all: [(message: String, metadata: Logger.Metadata)] = []
}

/// Keeps what is logged on one loop.
struct LineCatcher: LogHandler {
    let lines: LoopBound<Lines>
    var logLevel = Logger.Level.trace
    var metadata: Logger.Metadata = [:]

    static func logger(_ lines: LoopBound<Lines>) -> Logger { Logger(label: "test") { _ in LineCatcher(lines: lines) } }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { lines.value.all.append(("\(event.message)", event.metadata ?? [:])) }
}
