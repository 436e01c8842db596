import ArgumentParser
import Foundation
@_spi(Planted) import Simulator

@main
struct SimulatorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "raftoral-sim",
        abstract: "Runs whole clusters over virtual time, with everything going wrong that a seed can think of.",
        discussion: "The same seed gives the same course of events in every process: docs/simulator.md.")

    @Option(help: "The first seed. Drawn when left out.")
    var seed: UInt64?

    @Option(help: "How many seeds to run. (default: 1; of --speed: one for each core)")
    var count: UInt64?

    @Option(help: "Seconds of virtual time with faults, in each run. (default: 60; of --speed: 300)")
    var seconds: UInt64?

    @Option(help: "Nodes of the first cluster.")
    var nodes = 3

    @Option(help: "Only faults of these classes, with commas between them: \(Fault.Kind.allCases.map(\.rawValue)).")
    var faults = ""

    @Flag(help: "No faults.")
    var calm = false

    @Option(help: "Processes that run seeds at the same time. (default: one for each core)")
    var jobs: Int?

    @Flag(help: "Measure how much faster than real time it runs, under a light load that it prints.")
    var speed = false

    @Flag(help: "Nodes come, go, move and are replaced all the time.")
    var storm = false

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

    @Option(help: ArgumentHelp("Plant the mistake of this number and run one seed.", visibility: .hidden))
    var plant: Int?

    @Flag(help: ArgumentHelp("Run the seeds in this process; a trap ends all of them.", visibility: .hidden))
    var inProcess = false

    func validate() throws {
        let unknown = faults.split(separator: ",").first { Fault.Kind(rawValue: String($0)) == nil }
        if let unknown { throw ValidationError("there is no class of faults '\(unknown)'") }
        if count == 0 { throw ValidationError("--count is at least 1") }
    }

    mutating func run() throws {
        let first = seed ?? (speed ? 1 : UInt64.random(in: 0..<1 << 40))
        if let plant { return try runPlanted(PlantedBug.all[plant], first) }
        if planted { return try huntPlanted() }
        let count = self.count ?? (speed ? UInt64(processCount) : 1)
        if !inProcess { say("seeds \(first) to \(first + count - 1)") }
        if speed, !inProcess {
            say("load: \(nodes) nodes; every second one workflow of three steps is started and its result awaited")
        }
        let failed = inProcess ? runAll(first..<first + count) : superviseAll(first..<first + count)
        if !inProcess { say("\(count - failed) passed, \(failed) failed") }
        if failed > 0 { throw ExitCode.failure }
    }

    // MARK: - Seeds

    private func options(seed: UInt64) -> SimulationOptions {
        var options = SimulationOptions(seed: seed)
        options.faultSeconds = seconds ?? 60
        options.nodeCount = nodes
        options.isStorm = storm
        if speed { makeSteady(&options) }
        if calm { options.profile = .calm }
        let kinds = faults.split(separator: ",").compactMap { Fault.Kind(rawValue: String($0)) }
        if !kinds.isEmpty { options.weights = Dictionary(uniqueKeysWithValues: Set(kinds).map { ($0, 1) }) }
        if events { options.traceSink = { say($0) } }
        return options
    }

    private func runAll(_ seeds: Range<UInt64>) -> UInt64 {
        var failed: UInt64 = 0
        for seed in seeds {
            let options = options(seed: seed)
            let (outcome, cost) = measure(options)
            say("\(cost)")
            say(outcome.line)
            if outcome.isPassed { continue }
            failed += 1
            if minimise {
                say("seed \(seed) fails; looking for the faults that it takes …")
                sayMinimised(outcome, options)
            } else {
                say(outcome.report(leftOut: []))
            }
        }
        return failed
    }

    private func sayMinimised(_ outcome: SimulationOutcome, _ options: SimulationOptions) {
        let smallest = Simulator.minimise(outcome, options) { say("  \($0)") }
        say(smallest.outcome.report(leftOut: smallest.options.leftOut))
    }

    private func superviseAll(_ seeds: Range<UInt64>) -> UInt64 {
        var flags = ["--nodes", "\(nodes)"]
        if let seconds { flags += ["--seconds", "\(seconds)"] }
        if speed { flags.append("--speed") }
        if calm { flags.append("--calm") }
        if storm { flags.append("--storm") }
        if !faults.isEmpty { flags += ["--faults", faults] }
        if events { flags.append("--events") }
        if minimise { flags.append("--minimise") }
        let supervisor = Supervisor(seeds, flags: flags, printsVerdicts: trace)
        supervisor.run(processCount: processCount)
        say(supervisor.cost.summary(supervisor.duration, seedCount: supervisor.doneCount))
        return supervisor.failedCount
    }

    private var processCount: Int { max(1, jobs ?? ProcessInfo.processInfo.activeProcessorCount) }

    /// Every second one workflow with its three steps is started and its result awaited, where nothing fails.
    private func makeSteady(_ options: inout SimulationOptions) {
        options.faultSeconds = seconds ?? 300
        options.clientCount = 1
        options.workflows = [.steady]
        options.usesVariables = false
        var profile = FaultProfile.calm
        profile.thinkMilliseconds = 985
        options.profile = profile
    }

    private func measure(_ options: SimulationOptions) -> (SimulationOutcome, Cost) {
        let before = Cost.processorSeconds
        let outcome = simulate(options)
        let cost = Cost(
            processorSeconds: Cost.processorSeconds - before, virtualSeconds: Double(outcome.virtualTime) / 1e9,
            workflows: outcome.statistics.workflowsEnded, variables: outcome.statistics.variableOperations)
        return (outcome, cost)
    }

    // MARK: - Planted mistakes

    private func runPlanted(_ bug: PlantedBug, _ seed: UInt64) throws {
        let options = bug.options(seed: seed)
        let outcome = simulate(options)
        guard let violation = outcome.violation else { return }
        if minimise {
            say("\(bug.name), seed \(seed): looking for the faults that it takes …")
            sayMinimised(outcome, options)
        }
        say("\(violation.invariant) | \(violation.detail)")
        throw ExitCode.failure
    }

    private func huntPlanted() throws {
        let bugs = PlantedBug.all.enumerated().filter { only.isEmpty || $0.element.name.contains(only) }
        let missed = Counter()
        let next = Counter()
        DispatchQueue.concurrentPerform(iterations: min(processCount, bugs.count)) { _ in
            while true {
                let place = next.increment() - 1
                guard place < bugs.count else { return }
                let (number, bug) = bugs[place]
                let first = seed ?? bug.firstSeed
                if let caught = hunt(number, first..<first + bug.seedCount) {
                    say("\(bug.name) | seed \(caught.seed) | \(caught.rule)")
                } else {
                    say("\(bug.name) | NOT CAUGHT in \(bug.seedCount) seeds")
                    missed.increment()
                }
            }
        }
        say("\(bugs.count - missed.value) caught, \(missed.value) missed")
        if missed.value > 0 { throw ExitCode.failure }
    }

    private func hunt(_ number: Int, _ seeds: Range<UInt64>) -> (seed: UInt64, rule: String)? {
        for seed in seeds {
            var rule = ""
            let result = Child.run(["--plant", "\(number)", "--seed", "\(seed)"]) { rule = $0 }
            if result.isSuccess { continue }
            if rule.isEmpty {
                rule = "the program's own invariant | \(result.brokenPlace ?? result.ending)"
            }
            return (seed, rule)
        }
        return nil
    }
}

/// A line on standard output, at once: a process that a trap ends loses what it has buffered.
func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }
