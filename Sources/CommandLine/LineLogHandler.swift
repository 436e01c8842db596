import FoundationEssentials
import Logging
import Raftoral

/// One line per event on standard error, as text or as JSON.
struct LineLogHandler: LogHandler {
    var logLevel: Logger.Level
    var metadata: Logger.Metadata = [:]
    var metadataProvider: Logger.MetadataProvider?
    let label: String
    let format: LogFormat

    static func install(level: Logger.Level, format: LogFormat) {
        LoggingSystem.bootstrap(
            { label, provider in
                LineLogHandler(logLevel: level, metadataProvider: provider, label: label, format: format)
            }, metadataProvider: .workflowTrace)
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        let provided = metadataProvider?.get() ?? [:]
        let all = metadata.merging(provided.merging(event.metadata ?? [:]) { $1 }) { $1 }
        let time = Date().formatted(.iso8601.year().month().day().time(includingFractionalSeconds: true))
        switch format {
        case .text:
            let pairs = all.sorted { $0.key < $1.key }.map { " \($0.key)=\(Self.quoted("\($0.value)"))" }.joined()
            Console.error("\(time) \(event.level) \(event.message)\(pairs)")
        case .json:
            var fields = ["time": time, "level": "\(event.level)", "message": "\(event.message)", "logger": label]
            for (key, value) in all { fields[fields[key] == nil ? key : "field.\(key)"] = "\(value)" }
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            if let data = try? encoder.encode(fields) { Console.error(String(decoding: data, as: UTF8.self)) }
        }
    }

    private static func quoted(_ value: String) -> String {
        let isPlain = !value.isEmpty && value.allSatisfy { !$0.isWhitespace && $0 != "\"" && $0 != "=" }
        return isPlain ? value : "\"" + value.replacing("\n", with: "\\n").replacing("\"", with: "\\\"") + "\""
    }
}
