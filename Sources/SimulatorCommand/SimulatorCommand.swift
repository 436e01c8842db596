import ArgumentParser
import Simulator

@main
struct SimulatorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "raftoral-sim",
        abstract: "Runs whole clusters over virtual time, with everything going wrong that a seed can think of.")

    @Option(help: "The first seed. Drawn when left out.")
    var seed: UInt64?

    @Option(help: "How many seeds to run.")
    var count: UInt64 = 1

    @Option(help: "Seconds of virtual time with faults, in each run.")
    var seconds: UInt64 = 60

    @Option(help: "Nodes of the first cluster.")
    var nodes = 3

    @Flag(help: "Print a line for each seed, with its trace hash.")
    var trace = false

    @Flag(help: "Print every event: what two runs of one seed are compared by.")
    var events = false

    @Flag(help: "Shrink the schedule of faults of a failing seed while it still fails.")
    var minimise = false

    mutating func run() throws {
        let first = seed ?? UInt64.random(in: 0..<1 << 40)
        var failed: UInt64 = 0
        for seed in first..<(first + count) {
            var options = SimulationOptions(seed: seed)
            options.faultSeconds = seconds
            options.nodeCount = nodes
            if events { options.traceSink = { print($0) } }
            let outcome = simulate(options)
            if trace { print(outcome.line) }
            if outcome.isPassed { continue }
            failed += 1
            print(outcome.report)
        }
        print("\(count - failed) passed, \(failed) failed")
        if failed > 0 { throw ExitCode.failure }
    }
}

extension SimulationOutcome {
    var line: String {
        let verdict = isPassed ? "passed" : "FAILED"
        let s = statistics
        return "seed \(seed) \(verdict) trace \(String(traceHash, radix: 16)) steps \(stepCount) "
            + "virtual \(virtualTime / 1_000_000) ms workflows \(s.workflowsEnded)/\(s.workflowsStarted) variables "
            + "\(s.variableOperations) (\(s.unknownOutcomes) unknown) entries \(s.entries) leaders \(s.leaders) "
            + "snapshots \(s.installedSnapshots) faults \(s.faults) lives \(s.lives)"
    }

    var report: String {
        var lines = ["", "seed \(seed) failed: \(violation.map(\.description) ?? "")"]
        for tail in tails {
            lines.append("  last events of \(tail.host):")
            lines += tail.lines.map { "    " + $0 }
        }
        return lines.joined(separator: "\n")
    }
}
