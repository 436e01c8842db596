/// A name and its value, such as `("group", "1")`.
public typealias MetricLabels = [(name: String, value: String)]

/// What is known at one moment, in the text format of Prometheus (version 0.0.4).
///
/// The samples of one name stand together, whatever the order in which they are added; a name that was added as one
/// kind first stays of that kind, and what comes for it as another is left out.
public struct Exposition {
    public enum Kind: String, Sendable { case counter, gauge, histogram }

    public static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    private struct Family {
        let kind: Kind
        var text: String
    }

    private var families: [String: Family] = [:]
    private var order: [String] = []

    public init() {}

    public mutating func counter(_ name: String, _ help: String, _ value: Double, _ labels: MetricLabels = []) {
        add(name, help, .counter) { "\(name)\(Self.text(labels)) \(Self.text(value))\n" }
    }

    public mutating func counter(_ name: String, _ help: String, _ value: UInt64, _ labels: MetricLabels = []) {
        counter(name, help, Double(value), labels)
    }

    public mutating func gauge(_ name: String, _ help: String, _ value: Double, _ labels: MetricLabels = []) {
        add(name, help, .gauge) { "\(name)\(Self.text(labels)) \(Self.text(value))\n" }
    }

    public mutating func gauge(_ name: String, _ help: String, _ value: Int, _ labels: MetricLabels = []) {
        gauge(name, help, Double(value), labels)
    }

    public mutating func gauge(_ name: String, _ help: String, _ value: UInt64, _ labels: MetricLabels = []) {
        gauge(name, help, Double(value), labels)
    }

    public mutating func gauge(_ name: String, _ help: String, _ value: Bool, _ labels: MetricLabels = []) {
        gauge(name, help, value ? 1 : 0, labels)
    }

    public mutating func histogram(
        _ name: String, _ help: String, _ histogram: MetricHistogram, _ labels: MetricLabels = []
    ) {
        add(name, help, .histogram) {
            let (counts, sum) = histogram.state
            var text = ""
            var below: UInt64 = 0
            for (place, count) in counts.enumerated() {
                below += count
                let bound = place < histogram.bounds.count ? Self.text(histogram.bounds[place]) : "+Inf"
                text += "\(name)_bucket\(Self.text(labels + [("le", bound)])) \(below)\n"
            }
            text += "\(name)_sum\(Self.text(labels)) \(Self.text(sum))\n"
            text += "\(name)_count\(Self.text(labels)) \(below)\n"
            return text
        }
    }

    private mutating func add(_ name: String, _ help: String, _ kind: Kind, _ samples: () -> String) {
        guard let family = families[name] else {
            order.append(name)
            let header = "# HELP \(name) \(Self.escaped(help, quote: false))\n# TYPE \(name) \(kind.rawValue)\n"
            families[name] = Family(kind: kind, text: header + samples())
            return
        }
        if family.kind == kind { families[name]?.text += samples() }
    }

    public var text: String { order.compactMap { families[$0]?.text }.joined() }

    // MARK: - Text

    static func text(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if let whole = Int64(exactly: value) { return "\(whole)" }
        return "\(value)"
    }

    private static func text(_ labels: MetricLabels) -> String {
        guard !labels.isEmpty else { return "" }
        let pairs = labels.map { "\($0.name)=\"\(escaped($0.value, quote: true))\"" }
        return "{\(pairs.joined(separator: ","))}"
    }

    private static func escaped(_ text: String, quote: Bool) -> String {
        guard text.utf8.contains(where: { $0 == 0x5C || $0 == 0x0A || $0 == 0x22 }) else { return text }
        var result = ""
        for character in text.unicodeScalars {
            switch character {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\"" where quote: result += "\\\""
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }
}
