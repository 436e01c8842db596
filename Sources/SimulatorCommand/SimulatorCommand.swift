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

    @Option(help: "How many seeds to run.")
    var count: UInt64 = 1

    @Option(help: "Seconds of virtual time with faults, in each run.")
    var seconds: UInt64 = 60

    @Option(help: "Nodes of the first cluster.")
    var nodes = 3

    @Flag(help: "No faults: to measure how fast it runs.")
    var calm = false

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

    mutating func run() throws {
        let first = seed ?? UInt64.random(in: 0..<1 << 40)
        if let plant { return try runPlanted(PlantedBug.all[plant], first) }
        if planted { return try huntPlanted() }
        if !inProcess { say("seeds \(first) to \(first + count - 1)") }
        let failed = inProcess ? runAll(first..<first + count) : superviseAll(first..<first + count)
        if !inProcess { say("\(count - failed) passed, \(failed) failed") }
        if failed > 0 { throw ExitCode.failure }
    }

    // MARK: - Seeds

    private func runAll(_ seeds: Range<UInt64>) -> UInt64 {
        var failed: UInt64 = 0
        for seed in seeds {
            var options = SimulationOptions(seed: seed)
            options.faultSeconds = seconds
            options.nodeCount = nodes
            if calm { options.profile = .calm }
            if events { options.traceSink = { say($0) } }
            let outcome = simulate(options)
            say(outcome.line)
            if outcome.isPassed { continue }
            failed += 1
            if minimise {
                say("seed \(seed) fails; looking for the faults that it takes …")
                let smallest = Simulator.minimise(outcome, options) { say("  \($0)") }
                say(smallest.outcome.report(leftOut: smallest.options.leftOut))
            } else {
                say(outcome.report(leftOut: []))
            }
        }
        return failed
    }

    private static let seedsPerProcess: UInt64 = 25

    /// A broken invariant of the program itself ends the process that it happens in. So the seeds run in another one,
    /// which is started again after the seed that ended it.
    private func superviseAll(_ seeds: Range<UInt64>) -> UInt64 {
        var failed: UInt64 = 0
        var next = seeds.lowerBound
        while next < seeds.upperBound {
            // Not too many in one process: what a crashed node leaves behind stays in memory until it ends.
            let end = min(next + Self.seedsPerProcess, seeds.upperBound)
            var arguments = ["--in-process", "--seed", "\(next)", "--count", "\(end - next)"]
            arguments += ["--seconds", "\(seconds)", "--nodes", "\(nodes)"]
            if calm { arguments.append("--calm") }
            if events { arguments.append("--events") }
            if minimise { arguments.append("--minimise") }
            let result = Child.run(arguments) { line in
                let isVerdict = line.hasPrefix("seed \(next) passed") || line.hasPrefix("seed \(next) FAILED")
                if line.hasPrefix("seed \(next) FAILED") { failed += 1 }
                if isVerdict { next += 1 }
                if !isVerdict || trace { say(line) }
            }
            if next == end {
                if next < seeds.upperBound {
                    say("… \(next - seeds.lowerBound) of \(seeds.count) seeds, \(failed) failed")
                }
                continue
            }
            failed += 1
            say("seed \(next) FAILED: it ended the process (\(result.ending))")
            say(result.errors)
            next += 1
        }
        return failed
    }

    // MARK: - Planted mistakes

    private func runPlanted(_ bug: PlantedBug, _ seed: UInt64) throws {
        guard let violation = simulate(bug.options(seed: seed)).violation else { return }
        say("\(violation.invariant) | \(violation.detail)")
        throw ExitCode.failure
    }

    private func huntPlanted() throws {
        var missed = 0
        var count = 0
        for (number, bug) in PlantedBug.all.enumerated() where only.isEmpty || bug.name.contains(only) {
            count += 1
            let first = seed ?? bug.firstSeed
            if let caught = hunt(number, first..<first + bug.seedCount) {
                say("\(bug.name) | seed \(caught.seed) | \(caught.rule)")
            } else {
                say("\(bug.name) | NOT CAUGHT in \(bug.seedCount) seeds")
                missed += 1
            }
        }
        say("\(count - missed) caught, \(missed) missed")
        if missed > 0 { throw ExitCode.failure }
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

/// Another process of this program.
private enum Child {
    struct Result {
        var isSuccess: Bool
        var ending: String
        var errors: String

        /// Where the program found a rule of its own broken: the frame of the backtrace that asked for the check.
        var brokenPlace: String? {
            let frames = errors.split(separator: "\n").filter { $0.contains(" in ") && $0.contains(" at /") }
            return frames.first { !$0.contains("invariantBroken") }?.split(separator: " at ").last
                .map { $0.split(separator: "/").suffix(2).joined(separator: "/") }
        }
    }

    static func run(_ arguments: [String], line: (String) -> Void) -> Result {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = arguments
        var environment = ProcessInfo.processInfo.environment
        environment["SWIFT_BACKTRACE"] =
            environment["SWIFT_BACKTRACE"] ?? "enable=yes,color=no,registers=none,images=none"
        process.environment = environment
        let output = Pipe()
        let errorFile = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        _ = FileManager.default.createFile(atPath: errorFile.path, contents: nil)
        defer { try? FileManager.default.removeItem(at: errorFile) }
        process.standardOutput = output
        process.standardError = (try? FileHandle(forWritingTo: errorFile)) ?? FileHandle.standardError
        do { try process.run() } catch { return Result(isSuccess: false, ending: "\(error)", errors: "") }
        var rest = Data()
        while true {
            let data = output.fileHandleForReading.availableData
            if data.isEmpty { break }
            rest.append(data)
            while let end = rest.firstIndex(of: 10) {
                line(String(decoding: rest[rest.startIndex..<end], as: UTF8.self))
                rest = Data(rest[(end + 1)...])
            }
        }
        process.waitUntilExit()
        let isSignal = process.terminationReason == .uncaughtSignal
        let errors = (try? String(contentsOf: errorFile, encoding: .utf8)) ?? ""
        return Result(
            isSuccess: !isSignal && process.terminationStatus == 0,
            ending: "\(isSignal ? "signal" : "status") \(process.terminationStatus)", errors: errors)
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

/// A line on standard output, at once: a process that a trap ends loses what it has buffered.
private func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }
