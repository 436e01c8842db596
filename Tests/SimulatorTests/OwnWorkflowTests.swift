import Foundation
import XCTest

@testable import Simulator

/// Workflows and checks that are not the simulator's own.
final class OwnWorkflowTests: XCTestCase {
    /// The program of docs/simulator.md, as it is built.
    func testTheDocumentedProgram() throws {
        let process = Process()
        process.executableURL = Bundle(for: Self.self).bundleURL.appendingPathComponent("transfers")
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        XCTAssertEqual(process.terminationStatus, 0)
        XCTAssertTrue(text.hasSuffix("all seeds passed\n"), text)
        for seed in 1...3 { XCTAssertTrue(text.contains("seed \(seed) passed"), text) }
    }

    /// Stands outside of the cluster and counts every call: it does not tell a repetition from a first time.
    private final class Counter: @unchecked Sendable {
        // Sendable, because a simulation has one thread.
        var calls = 0
        var runs = 0
    }

    /// A step's body may run more than once: a workflow that takes it for once is caught by a check of its own.
    func testAWrongWorkflowIsCaught() {
        var lines: [String] = []
        let failed = simulate(seeds: 1...3, report: { lines.append($0) }) { options in
            let counter = Counter()
            options.faultSeconds = 40
            options.weights = [.kill: 3, .isolate: 1]
            options.register = { workflows, _ in
                workflows.register("count") { (context, input: Int) in
                    try await context.step("count") {
                        counter.calls += 1
                        try await context.pause(for: .milliseconds(300))
                        return input
                    }
                }
            }
            options.workflows = [
                SimulatedWorkflow(type: "count") {
                    "\($0 % 10)"
                } problem: { input, result, _, _ in
                    counter.runs += 1
                    return input == result ? nil : "\(result ?? "nothing") for \(input)"
                }
            ]
            options.endProblem = { _ in
                counter.calls == counter.runs ? nil : "\(counter.calls) calls for \(counter.runs) runs"
            }
        }
        XCTAssertFalse(failed.isEmpty)
        for outcome in failed {
            XCTAssertEqual(outcome.violation?.invariant, "the outside world is right at the end")
        }
        XCTAssertTrue(lines.contains { $0.contains("last events of n1") })
    }
}
