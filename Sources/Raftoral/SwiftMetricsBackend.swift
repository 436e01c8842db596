import CoreMetrics
import Telemetry

/// swift-metrics into a registry: what a program counts with `Counter`, `Gauge`, `Recorder` and `Timer` appears on the
/// node's `/metrics` beside what the node counts.
///
/// ```swift
/// let metrics = MetricsRegistry()
/// MetricsSystem.bootstrap(SwiftMetricsBackend(metrics))
/// configuration.metrics = metrics
/// ```
///
/// Labels become names that Prometheus allows (`my-app.calls` is `my_app_calls`); counters end in `_total`, timers in
/// `_seconds`. Destroyed metrics stay exported: Prometheus counts on names that do not come and go.
public struct SwiftMetricsBackend: MetricsFactory {
    private let registry: MetricsRegistry

    public init(_ registry: MetricsRegistry) { self.registry = registry }

    public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        CounterAdapter(counter: registry.counter(total(label), help: label, labels: dimensions.map { ($0, $1) }))
    }

    public func makeFloatingPointCounter(
        label: String, dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        CounterAdapter(counter: registry.counter(total(label), help: label, labels: dimensions.map { ($0, $1) }))
    }

    public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        GaugeAdapter(gauge: registry.gauge(label, help: label, labels: dimensions.map { ($0, $1) }))
    }

    public func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        let labels = dimensions.map { (name: $0, value: $1) }
        guard aggregate else { return GaugeAdapter(gauge: registry.gauge(label, help: label, labels: labels)) }
        let histogram = registry.histogram(label, help: label, bounds: Self.plainBounds, labels: labels)
        return HistogramAdapter(histogram: histogram)
    }

    public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        let name = label.hasSuffix("seconds") ? label : label + "_seconds"
        return HistogramAdapter(histogram: registry.histogram(name, help: label, labels: dimensions.map { ($0, $1) }))
    }

    public func destroyCounter(_ handler: any CounterHandler) {}
    public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    public func destroyMeter(_ handler: any MeterHandler) {}
    public func destroyRecorder(_ handler: any RecorderHandler) {}
    public func destroyTimer(_ handler: any TimerHandler) {}

    private func total(_ label: String) -> String { label.hasSuffix("_total") ? label : label + "_total" }

    /// For values of which nothing is known.
    private static let plainBounds: [Double] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9]
}

private final class CounterAdapter: CounterHandler, FloatingPointCounterHandler {
    private let counter: MetricCounter

    init(counter: MetricCounter) { self.counter = counter }

    func increment(by amount: Int64) { counter.increment(by: Double(amount)) }
    func increment(by amount: Double) { counter.increment(by: amount) }
    func reset() { counter.reset() }
}

private final class GaugeAdapter: MeterHandler, RecorderHandler {
    private let gauge: MetricGauge

    init(gauge: MetricGauge) { self.gauge = gauge }

    func set(_ value: Int64) { gauge.set(Double(value)) }
    func set(_ value: Double) { gauge.set(value) }
    func increment(by amount: Double) { gauge.increment(by: amount) }
    func decrement(by amount: Double) { gauge.increment(by: -amount) }
    func record(_ value: Int64) { gauge.set(Double(value)) }
    func record(_ value: Double) { gauge.set(value) }
}

private final class HistogramAdapter: RecorderHandler, TimerHandler {
    private let histogram: MetricHistogram

    init(histogram: MetricHistogram) { self.histogram = histogram }

    func record(_ value: Int64) { histogram.observe(Double(value)) }
    func record(_ value: Double) { histogram.observe(value) }
    func recordNanoseconds(_ duration: Int64) { histogram.observe(Double(duration) / 1e9) }
}
