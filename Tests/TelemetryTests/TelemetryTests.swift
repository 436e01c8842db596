import Prelude
import Testing

@testable import Telemetry

@Suite struct TelemetryTests {
    @Test func samplesOfOneNameStandTogether() {
        var exposition = Exposition()
        exposition.counter("a_total", "What \\ is\ncounted.", 1.0, [("x", "1")])
        exposition.gauge("b", "Other.", true)
        exposition.counter("a_total", "What \\ is\ncounted.", 2.5, [("x", "quo\"te\\\n")])
        #expect(
            exposition.text == """
                # HELP a_total What \\\\ is\\ncounted.
                # TYPE a_total counter
                a_total{x="1"} 1
                a_total{x="quo\\"te\\\\\\n"} 2.5
                # HELP b Other.
                # TYPE b gauge
                b 1

                """)
    }

    @Test func aNameKeepsItsKind() {
        var exposition = Exposition()
        exposition.gauge("a", "A.", 1)
        exposition.counter("a", "A.", 2.0)
        #expect(exposition.text == "# HELP a A.\n# TYPE a gauge\na 1\n")
    }

    @Test func histogramsAreCumulative() {
        let histogram = MetricHistogram(bounds: [1, 0.5, .infinity])
        for value in [0.5, 0.7, 3, 1, .nan] { histogram.observe(value) }
        var exposition = Exposition()
        exposition.histogram("h", "H.", histogram, [("x", "1")])
        #expect(
            exposition.text == """
                # HELP h H.
                # TYPE h histogram
                h_bucket{x="1",le="0.5"} 1
                h_bucket{x="1",le="1"} 3
                h_bucket{x="1",le="+Inf"} 4
                h_sum{x="1"} 5.2
                h_count{x="1"} 4

                """)
    }

    @Test func numbersAsPrometheusWritesThem() {
        #expect(Exposition.text(.infinity) == "+Inf")
        #expect(Exposition.text(-.infinity) == "-Inf")
        #expect(Exposition.text(.nan) == "NaN")
        #expect(Exposition.text(3) == "3")
        #expect(Exposition.text(1e-5) == "1e-05")
    }

    @Test func countersOnlyRise() {
        let counter = MetricCounter()
        counter.increment(by: 2)
        counter.increment(by: -1)
        counter.increment(by: .nan)
        counter.increment(by: .infinity)
        #expect(counter.value == 2)
    }

    @Test func theSameNameAndLabelsAreTheSameMetric() {
        let registry = MetricsRegistry()
        registry.counter("my-app.calls", labels: [("to-whom", "a")]).increment()
        registry.counter("my-app.calls", labels: [("to-whom", "a")]).increment()
        registry.counter("my-app.calls", labels: [("to-whom", "b")]).increment()
        var exposition = Exposition()
        registry.collect(into: &exposition)
        #expect(exposition.text.contains("my_app_calls{to_whom=\"a\"} 2\nmy_app_calls{to_whom=\"b\"} 1\n"))
    }

    @Test func labelsAndNamesAreBounded() {
        var limits = TelemetryLimits()
        limits.labelSetCountPerFamilyMax = 2
        limits.familyCountMax = 1
        let registry = MetricsRegistry(limits: limits)
        for value in 0..<5 { registry.counter("a", labels: [("x", "\(value)")]).increment() }
        registry.gauge("b").set(1)
        // Another kind under a name that is taken.
        registry.gauge("a").set(1)
        var exposition = Exposition()
        registry.collect(into: &exposition)
        #expect(exposition.text.contains("a{x=\"1\"} 1"))
        #expect(!exposition.text.contains("a{x=\"2\"}"))
        #expect(!exposition.text.contains("\nb "))
        #expect(exposition.text.contains("raftoral_metrics_refused_total 5\n"))
    }

    @Test func illegalNamesAreMadeLegal() {
        #expect(MetricsRegistry.legal("9lives") == "_lives")
        #expect(MetricsRegistry.legal("") == "unnamed")
        #expect(MetricsRegistry.legal("a:b-ü") == "a:b__")
        #expect(MetricsRegistry.legal("__x:y", isLabel: true) == "label__x_y")
    }

    @Test func metricsAreCountedFromManyThreads() async {
        let counter = MetricCounter()
        let histogram = MetricHistogram()
        let registry = MetricsRegistry()
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<8 {
                group.addTask {
                    for round in 0..<1_000 {
                        counter.increment()
                        histogram.observe(1.0)
                        registry.counter("c", labels: [("x", "\(round % 10)")]).increment()
                    }
                }
            }
        }
        #expect(counter.value == 8_000)
        #expect(histogram.state.sum == 8_000)
        #expect(registry.counter("c", labels: [("x", "3")]).value == 800)
    }

    @Test func floodsOfLogLinesAreHeldBack() {
        var limits = TelemetryLimits()
        limits.logBurstCount = 2
        limits.logIntervalMilliseconds = 1_000
        var gate = LogGate(limits: limits)
        let kind: StaticString = "refused"
        var now = Nanoseconds.seconds(100)
        #expect(gate.admit(kind, at: now) == 0)
        #expect(gate.admit(kind, at: now) == 0)
        #expect(gate.admit(kind, at: now) == nil)
        #expect(gate.admit(kind, at: now) == nil)
        #expect(gate.admit("another kind", at: now) == 0)
        now += .seconds(1)
        #expect(gate.admit(kind, at: now) == 2)
        #expect(gate.admit(kind, at: now) == nil)
    }
}
