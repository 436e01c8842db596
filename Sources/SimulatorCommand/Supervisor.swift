import Foundation
import Prelude

/// Runs seeds in other processes, as many at the same time as there are cores.
///
/// A broken invariant of the program itself ends the process that it happens in. So the seeds run in another one, which
/// is started again after the seed that ended it.
final class Supervisor: Sendable {
    private let seeds: Range<UInt64>
    private let flags: [String]
    private let printsVerdicts: Bool
    private let lock = Lock()
    // Under the lock.
    nonisolated(unsafe) private var next: UInt64
    nonisolated(unsafe) private(set) var doneCount: UInt64 = 0
    nonisolated(unsafe) private(set) var failedCount: UInt64 = 0
    nonisolated(unsafe) private(set) var cost = Cost()
    /// Of real time, in seconds.
    nonisolated(unsafe) private(set) var duration = 0.0

    init(_ seeds: Range<UInt64>, flags: [String], printsVerdicts: Bool) {
        self.seeds = seeds
        self.flags = flags
        self.printsVerdicts = printsVerdicts
        next = seeds.lowerBound
    }

    func run(processCount: Int) {
        let start = DispatchTime.now().uptimeNanoseconds
        let count = max(1, min(processCount, seeds.count))
        // Not too many seeds in one process: what a crashed node leaves behind stays in memory until it ends. Nor so many
        // that the last process has the others wait.
        let batch = UInt64(max(1, min(25, seeds.count / (4 * count))))
        DispatchQueue.concurrentPerform(iterations: count) { _ in
            while let batch = takeBatch(batch) { runBatch(batch) }
        }
        duration = Double(DispatchTime.now().uptimeNanoseconds - start) / 1e9
    }

    private func takeBatch(_ count: UInt64) -> Range<UInt64>? {
        lock.withLock {
            guard next < seeds.upperBound else { return nil }
            let end = min(next + count, seeds.upperBound)
            defer { next = end }
            return next..<end
        }
    }

    private func runBatch(_ batch: Range<UInt64>) {
        var next = batch.lowerBound
        while next < batch.upperBound {
            let arguments = ["--in-process", "--seed", "\(next)", "--count", "\(batch.upperBound - next)"] + flags
            let result = Child.run(arguments) { line in
                if let cost = Cost(line) { return lock.withLock { self.cost += cost } }
                let hasFailed = line.hasPrefix("seed \(next) FAILED")
                let isVerdict = hasFailed || line.hasPrefix("seed \(next) passed")
                if isVerdict { next += 1 }
                if isVerdict { note(hasFailed: hasFailed) }
                if !isVerdict || printsVerdicts || hasFailed { say(line) }
            }
            if next == batch.upperBound { return }
            say("seed \(next) FAILED: it ended the process (\(result.ending))")
            say(result.errors)
            note(hasFailed: true)
            next += 1
        }
    }

    private func note(hasFailed: Bool) {
        lock.withLock {
            doneCount += 1
            if hasFailed { failedCount += 1 }
            let every = UInt64(seeds.count <= 100 ? 10 : 25)
            if doneCount % every == 0, doneCount < seeds.count {
                say("… \(doneCount) of \(seeds.count) seeds, \(failedCount) failed")
            }
        }
    }
}

/// What runs took, and what they did.
struct Cost: CustomStringConvertible {
    var processorSeconds = 0.0
    var virtualSeconds = 0.0
    var workflows = 0
    var variables = 0

    /// Of this process so far.
    static var processorSeconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    private static let prefix = "cost"

    /// How one process tells it to the other.
    var description: String { "\(Self.prefix) \(processorSeconds) \(virtualSeconds) \(workflows) \(variables)" }

    static func += (left: inout Cost, right: Cost) {
        left.processorSeconds += right.processorSeconds
        left.virtualSeconds += right.virtualSeconds
        left.workflows += right.workflows
        left.variables += right.variables
    }

    /// `duration`: of real time, in seconds.
    func summary(_ duration: Double, seedCount: UInt64) -> String {
        func text(_ value: Double, _ digits: Int = 1) -> String { String(format: "%.\(digits)f", value) }
        let virtual = max(virtualSeconds, 1e-9)
        return "\(seedCount) seeds: \(text(virtualSeconds, 0)) s of virtual time in \(text(duration)) s, "
            + "\(text(processorSeconds)) s of processor time: \(text(virtual / max(processorSeconds, 1e-9), 0)) times "
            + "real time on one core, \(text(virtual / max(duration, 1e-9), 0)) on all; load per virtual second: "
            + "\(text(Double(workflows) / virtual)) workflows, \(text(Double(variables) / virtual)) operations on "
            + "variables"
    }
}

extension Cost {
    /// Nil when the line is not of a cost.
    init?(_ line: String) {
        let parts = line.split(separator: " ")
        guard parts.count == 5, parts[0] == Self.prefix, let processor = Double(parts[1]),
            let virtual = Double(parts[2]),
            let workflows = Int(parts[3]), let variables = Int(parts[4])
        else { return nil }
        self.init(
            processorSeconds: processor, virtualSeconds: virtual, workflows: workflows, variables: variables)
    }
}

/// Counts from several threads.
final class Counter: Sendable {
    private let lock = Lock()
    nonisolated(unsafe) private var count = 0

    var value: Int { lock.withLock { count } }

    @discardableResult
    func increment() -> Int {
        lock.withLock {
            count += 1
            return count
        }
    }
}
