extension SimulationOutcome {
    /// One line: the verdict, the hash of the course of events, and what happened.
    public var line: String {
        let verdict = isPassed ? "passed" : "FAILED"
        let s = statistics
        return "seed \(seed) \(verdict) trace \(String(traceHash, radix: 16)) steps \(stepCount) "
            + "virtual \(virtualTime / 1_000_000) ms workflows \(s.workflowsEnded)/\(s.workflowsStarted) variables "
            + "\(s.variableOperations) (\(s.unknownOutcomes) unknown) entries \(s.entries) leaders \(s.leaders) "
            + "snapshots \(s.installedSnapshots) faults \(s.faults) lives \(s.lives) "
            + "flipped \(s.flippedBytes) replaced \(s.replacedMachines) repaired \(s.repairedMachines)"
            + (s.undecidedHistories > 0 ? " undecided" : "")
    }

    /// What is to be known of a failed run: the rule, its faults but for those in `leftOut`, the last events of each machine.
    public func report(leftOut: Set<Int> = []) -> String {
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

/// Runs one seed after the other, and returns the outcomes of those that failed.
///
/// `configure` gets the options of each seed before it runs: register workflows there, and make the stand-ins of the
/// outside world that they talk to anew for each seed. `report` gets a line for each seed, and all that is to be known
/// of those that fail. A broken invariant of the program itself ends the process.
public func simulate(
    seeds: some Sequence<UInt64>, report: (String) -> Void = { print($0) },
    _ configure: (inout SimulationOptions) -> Void
) -> [SimulationOutcome] {
    var failed: [SimulationOutcome] = []
    for seed in seeds {
        var options = SimulationOptions(seed: seed)
        configure(&options)
        let outcome = simulate(options)
        report(outcome.line)
        if outcome.isPassed { continue }
        report(outcome.report())
        failed.append(outcome)
    }
    return failed
}
