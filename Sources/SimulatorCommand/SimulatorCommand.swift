import ArgumentParser
@_spi(Planted) import Simulator

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

    @Flag(help: "Plant known mistakes, one after the other, and print by which seed and rule each is caught.")
    var planted = false

    @Option(help: "Only the planted mistakes whose names contain this.")
    var only = ""

    mutating func run() throws {
        TrapReport.install()
        if planted { return try huntPlanted() }
        let first = seed ?? UInt64.random(in: 0..<1 << 40)
        var failed: UInt64 = 0
        for seed in first..<(first + count) {
            TrapReport.seed = seed
            var options = SimulationOptions(seed: seed)
            options.faultSeconds = seconds
            options.nodeCount = nodes
            if events { options.traceSink = { print($0) } }
            let outcome = simulate(options)
            if trace { print(outcome.line) }
            if outcome.isPassed { continue }
            failed += 1
            if minimise {
                print("seed \(seed) fails; looking for the faults that it takes …")
                let smallest = Simulator.minimise(outcome, options) { print("  \($0)") }
                print(smallest.outcome.report(leftOut: smallest.options.leftOut))
            } else {
                print(outcome.report(leftOut: []))
            }
        }
        print("\(count - failed) passed, \(failed) failed")
        if failed > 0 { throw ExitCode.failure }
    }
}

extension SimulatorCommand {
    private func huntPlanted() throws {
        var missed = 0
        let bugs = PlantedBug.all.filter { only.isEmpty || $0.name.contains(only) }
        for bug in bugs {
            let first = seed ?? 1
            let caught = (first..<first + bug.seedCount).lazy
                .map { seed in
                    TrapReport.seed = seed
                    return simulate(bug.options(seed: seed))
                }.first { !$0.isPassed }
            if let caught, let violation = caught.violation {
                print("\(bug.name) | seed \(caught.seed) | \(violation.invariant) | \(violation.detail)")
            } else {
                print("\(bug.name) | NOT CAUGHT in \(bug.seedCount) seeds")
                missed += 1
            }
        }
        print("\(bugs.count - missed) caught, \(missed) missed")
        if missed > 0 { throw ExitCode.failure }
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
            + (s.undecidedHistories > 0 ? " undecided" : "")
    }

    func report(leftOut: Set<Int>) -> String {
        var lines = ["", "seed \(seed) failed: \(violation.map(\.description) ?? "")"]
        lines.append("  faults, by their time after the first:")
        for (place, fault) in schedule.enumerated() where !leftOut.contains(place) { lines.append("    \(fault)") }
        for tail in tails {
            lines.append("  last events of \(tail.host):")
            lines += tail.lines.map { "    " + $0 }
        }
        return lines.joined(separator: "\n")
    }
}
