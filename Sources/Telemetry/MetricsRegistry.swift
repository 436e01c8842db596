import Prelude

/// Metrics by name and labels, made when they are first asked for. From any thread.
///
/// What is exported stays bounded however many names and labels a program invents: beyond `TelemetryLimits` a metric
/// is handed out that works and is not exported, and `raftoral_metrics_refused_total` counts it.
public final class MetricsRegistry: @unchecked Sendable {
    // Unchecked, because `lock` guards all that changes.
    private let lock = Lock()
    private let limits: TelemetryLimits
    private var families: [String: Family] = [:]
    private var order: [String] = []
    private let refused = MetricCounter()

    private enum Metric {
        case counter(MetricCounter)
        case gauge(MetricGauge)
        case histogram(MetricHistogram)
    }

    private struct Family {
        let help: String
        let kind: Exposition.Kind
        /// By the labels as one text; in the order of their making.
        var places: [String: Int] = [:]
        var metrics: [(labels: MetricLabels, metric: Metric)] = []
    }

    public init(limits: TelemetryLimits = TelemetryLimits()) { self.limits = limits }

    /// Names and labels are made what Prometheus allows: any other character becomes `_`.
    public func counter(_ name: String, help: String = "", labels: MetricLabels = []) -> MetricCounter {
        let found = find(name, help, .counter, labels) { .counter(MetricCounter()) }
        if case .counter(let counter) = found { return counter }
        return MetricCounter()
    }

    public func gauge(_ name: String, help: String = "", labels: MetricLabels = []) -> MetricGauge {
        let found = find(name, help, .gauge, labels) { .gauge(MetricGauge()) }
        if case .gauge(let gauge) = found { return gauge }
        return MetricGauge()
    }

    /// `bounds` count when the name and labels are new.
    public func histogram(
        _ name: String, help: String = "", bounds: [Double] = MetricHistogram.secondsBounds, labels: MetricLabels = []
    ) -> MetricHistogram {
        let found = find(name, help, .histogram, labels) { .histogram(MetricHistogram(bounds: bounds)) }
        if case .histogram(let histogram) = found { return histogram }
        return MetricHistogram(bounds: bounds)
    }

    /// Adds everything that is registered.
    public func collect(into exposition: inout Exposition) {
        let known = lock.withLock { order.compactMap { name in families[name].map { (name, $0) } } }
        for (name, family) in known {
            for (labels, metric) in family.metrics {
                switch metric {
                case .counter(let counter): exposition.counter(name, family.help, counter.value, labels)
                case .gauge(let gauge): exposition.gauge(name, family.help, gauge.value, labels)
                case .histogram(let histogram): exposition.histogram(name, family.help, histogram, labels)
                }
            }
        }
        exposition.counter(
            "raftoral_metrics_refused_total", "Metrics that are not exported because there are too many.",
            refused.value)
    }

    private func find(
        _ name: String, _ help: String, _ kind: Exposition.Kind, _ labels: MetricLabels, make: () -> Metric
    ) -> Metric? {
        let name = Self.legal(name)
        let labels = labels.map { (name: Self.legal($0.name, isLabel: true), value: $0.value) }
        // U+0001 stands in no label of anybody who means well; whoever uses it mixes up only his own metrics.
        let key = labels.map { "\($0.name)\u{1}\($0.value)" }.joined(separator: "\u{1}")
        let found = lock.withLock { () -> Metric? in
            var family = families[name] ?? Family(help: help, kind: kind)
            guard family.kind == kind else { return nil }
            if let place = family.places[key] { return family.metrics[place].metric }
            let isNew = families[name] == nil
            guard family.metrics.count < limits.labelSetCountPerFamilyMax, !isNew || order.count < limits.familyCountMax
            else { return nil }
            let metric = make()
            family.places[key] = family.metrics.count
            family.metrics.append((labels, metric))
            if isNew { order.append(name) }
            families[name] = family
            return metric
        }
        if found == nil { refused.increment() }
        return found
    }

    /// `[a-zA-Z_:][a-zA-Z0-9_:]*`, for labels without the colon and not with two underscores in front.
    static func legal(_ name: String, isLabel: Bool = false) -> String {
        var result = ""
        for scalar in name.unicodeScalars {
            switch scalar {
            case "a"..."z", "A"..."Z", "_": result.unicodeScalars.append(scalar)
            case ":" where !isLabel: result.unicodeScalars.append(scalar)
            case "0"..."9" where !result.isEmpty: result.unicodeScalars.append(scalar)
            default: result += "_"
            }
        }
        if isLabel, result.hasPrefix("__") { result = "label" + result }
        return result.isEmpty ? "unnamed" : result
    }
}
