import Foundation
@_spi(Planted) import Node
import Prelude
import XCTest

@_spi(Planted) @testable import Simulator

final class SimulationTests: XCTestCase {
    private func run(_ seed: UInt64, _ change: (inout SimulationOptions) -> Void = { _ in }) -> SimulationOutcome {
        var options = SimulationOptions(seed: seed)
        options.faultSeconds = 20
        change(&options)
        return simulate(options)
    }

    func testCalmWorld() {
        let outcome = run(1) { $0.profile = .calm }
        XCTAssertNil(outcome.violation)
        XCTAssertGreaterThan(outcome.statistics.workflowsEnded, 20)
        XCTAssertGreaterThan(outcome.statistics.variableOperations, 20)
        // Without faults nothing is left in doubt, and the first leader of each group stays.
        XCTAssertEqual(outcome.statistics.unknownOutcomes, 0)
        XCTAssertEqual(outcome.statistics.workflowsEnded, outcome.statistics.workflowsStarted)
    }

    func testSeedsPass() {
        for seed in UInt64(1)...6 {
            let outcome = run(seed)
            XCTAssertNil(outcome.violation, "seed \(seed)")
            XCTAssertGreaterThan(outcome.statistics.workflowsEnded, 0, "seed \(seed)")
        }
    }

    /// Seeds that have found bugs, with what they found. Faults that are added later change what a seed does; the bugs have
    /// tests of their own where that could be had.
    func testSeedsThatFoundBugs() {
        // A call that met a GOAWAY between its turn's beginning and end failed with INTERNAL.
        XCTAssertNil(run(82) { $0.faultSeconds = 60 }.violation)
        XCTAssertNil(run(84) { $0.faultSeconds = 60 }.violation)
        // A node whose disk failed while it started counted as started.
        XCTAssertNil(run(265) { $0.faultSeconds = 60 }.violation)
        // A node that was out of the directory led another group, and never heard that it was.
        XCTAssertNil(run(940_341) { $0.faultSeconds = 60 }.violation)
        // The voter with the longest log had forgotten that a third one was committed.
        XCTAssertNil(run(940_599) { $0.faultSeconds = 60 }.violation)
        // Two leaders told each other that no majority had room, each because of the other.
        XCTAssertNil(run(970_733) { $0.faultSeconds = 60 }.violation)
        // No disk knew that a change of the members was committed, and the old ones were gone.
        XCTAssertNil(run(1_200_088) { $0.faultSeconds = 60 }.violation)
        XCTAssertNil(run(1_200_091) { $0.faultSeconds = 60 }.violation)
    }

    /// An entry behind one that added a fourth voter was committed by a leader that still counted three: rightly, but the
    /// check went by the four of who applied it.
    func testSeedThatFoundAMistakeOfTheChecker() {
        XCTAssertNil(run(700_153) { $0.faultSeconds = 60 }.violation)
    }

    /// A byte of an image flipped after the image had been checked, and before it became the store: the node named the store,
    /// and the check knew of the image only.
    func testSeedThatFoundDamageUnderAnotherName() {
        XCTAssertNil(run(2_100_018) { $0.faultSeconds = 60 }.violation)
    }

    /// Bytes flip on disks: nodes refuse to start from them and are replaced or repaired, or are unharmed.
    func testFlippedBytes() {
        var flipped = 0
        var replaced = 0
        var repaired = 0
        for seed in UInt64(1)...8 {
            let outcome = run(seed) { $0.weights = [.flipByte: 2, .kill: 1, .powerLoss: 1] }
            XCTAssertNil(outcome.violation, "seed \(seed)")
            flipped += outcome.statistics.flippedBytes
            replaced += outcome.statistics.replacedMachines
            repaired += outcome.statistics.repairedMachines
        }
        XCTAssertGreaterThanOrEqual(flipped, 8)
        XCTAssertGreaterThan(replaced, 0)
        XCTAssertGreaterThan(repaired, 0)
    }

    func testFiveNodes() {
        XCTAssertNil(run(11) { $0.nodeCount = 5 }.violation)
    }

    func testOtherSeedsTakeOtherCourses() {
        XCTAssertNotEqual(run(1).traceHash, run(2).traceHash)
    }

    /// Dictionaries and sets are ordered differently in each process: whatever goes through them unsorted shows here.
    func testTwoProcessesTakeTheSameCourse() throws {
        for seed in [3, 5, 52] {
            let hashes = try (0..<2).map { _ in try traceLine(seed: seed) }
            XCTAssertTrue(hashes[0].contains("trace "), hashes[0])
            XCTAssertEqual(hashes[0], hashes[1])
        }
    }

    private func traceLine(seed: Int) throws -> String {
        let process = Process()
        process.executableURL = Bundle(for: Self.self).bundleURL.appendingPathComponent("raftoral-sim")
        process.arguments = ["--seed", "\(seed)", "--seconds", "20", "--trace"]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        XCTAssertEqual(process.terminationStatus, 0)
        // The other lines tell how long it took.
        return String(decoding: data, as: UTF8.self).split(separator: "\n").first { $0.hasPrefix("seed ") }
            .map(String.init) ?? ""
    }

    /// Leaving out what a planted mistake does not need leaves a schedule that still shows it.
    func testMinimise() throws {
        var options = SimulationOptions(seed: 1)
        options.faultSeconds = 10
        options.nodeBugs = .readsClockInApply
        let outcome = simulate(options)
        let rule = try XCTUnwrap(outcome.violation?.invariant)
        let smallest = minimise(outcome, options, attemptCountMax: 20)
        XCTAssertEqual(smallest.outcome.violation?.invariant, rule)
        XCTAssertLessThanOrEqual(
            smallest.outcome.schedule.count - smallest.options.leftOut.count, outcome.schedule.count)
    }
}
