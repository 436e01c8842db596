import Foundation
import Prelude
import XCTest

@testable import Workflow

/// Draws how long bodies take: differently each time, as other systems do.
private final class Chance: @unchecked Sendable {
    private let lock = NSLock()
    private var random: SeededRandom
    init(seed: UInt64) { random = SeededRandom(seed: seed) }
    func draw(_ range: Range<UInt64>) -> UInt64 { lock.withLock { UInt64.random(in: range, using: &random) } }
}

final class ReplayTests: XCTestCase {
    /// Steps, failures, variables, timers and parallel branches whose order decides what comes next.
    private func mixture(_ ledger: Ledger, _ chance: Chance) -> WorkflowRegistry {
        var registry = WorkflowRegistry()
        registry.register("mixture") { (context: WorkflowContext, _: Int?) async throws -> [String] in
            @Sendable func work(_ name: String) async throws -> String {
                try await context.step(name) {
                    ledger.note("body \(name)")
                    for _ in 0..<chance.draw(0..<4) {
                        try await context.pause(for: .milliseconds(Int64(chance.draw(0..<50))))
                    }
                    return "\(name)\(chance.draw(0..<1000))"
                }
            }
            let trail = try await context.variable("trail", initial: [String]())
            try await trail.set([try await work("first")])
            async let left = (work("left 1"), work("left 2"), context.sleep(for: .milliseconds(20), "left"))
            async let right: String = {
                try await context.sleep(for: .milliseconds(40), "right")
                return try await work("right")
            }()
            let order = try await withThrowingTaskGroup(of: String.self) { group in
                for number in 0..<5 { group.addTask { try await work("fan \(number)") } }
                var order: [String] = []
                for try await name in group {
                    order.append(name)
                    // The position of this step depends on the order in which the others ended.
                    order.append(try await work("after \(name.prefix(5))"))
                    if order.count == 6 { async let _ = work("forgotten") }
                }
                return order
            }
            // The first wins; the others are cancelled wherever they are.
            let winner = try await withThrowingTaskGroup(of: String.self) { group in
                for number in 0..<3 {
                    group.addTask {
                        _ = try await work("race \(number)")
                        return try await work("lap \(number)")
                    }
                }
                group.addTask {
                    try await context.sleep(for: .milliseconds(100), "limit")
                    return try await work("limit")
                }
                defer { group.cancelAll() }
                return try await group.next() ?? "nobody"
            }
            try await trail.update { $0 += order + [winner] }
            do {
                try await context.step("bad", retry: RetryPolicy(attemptCountMax: 2)) { throw Unlucky() }
            } catch is StepFailed {
                try await trail.update { $0.append("caught") }
            }
            let (one, two, _) = try await left
            return trail.value + [one, two, try await right]
        }
        return registry
    }

    private func expectSound(_ cluster: TestCluster, _ id: RunID, _ note: String) throws {
        let run = try cluster.run(id)
        XCTAssertEqual(run.stalled, "", note)
        XCTAssertEqual(run.status, .completed, "\(note): \(run.failure)")
        // Whoever recorded, the result is made of what is recorded.
        let recorded = Set(
            run.records.filter { $0.kind == .step }.compactMap { $0.value?.data }
                .map { String(decoding: $0.dropFirst().dropLast(), as: UTF8.self) })
        let result = try JSON.decode([String].self, try XCTUnwrap(run.result))
        XCTAssertEqual(result.count, 16, note)
        for value in result where value != "caught" { XCTAssertTrue(recorded.contains(value), note) }
        cluster.expectEqualReplicas()
    }

    func test_wholeNumbersAreWrittenAndReadAsEverythingElseIs() throws {
        for number in [0, 1, 9, 10, 123_456, -1, -42, Int.max, Int.min, 999_999_999_999_999_999] {
            XCTAssertEqual(try JSON.encode(number).data, Array(try JSONEncoder().encode(number)))
            XCTAssertEqual(try JSON.decode(Int.self, try JSON.encode(number)), number)
        }
        for text in [
            "", "-", "00", "01", "1.0", "1e2", "1.5", " 7 ", "+7", "9223372036854775808", "\"7\"", "null", "-0", "1 2",
        ] {
            let payload = Payload(data: Array(text.utf8))
            XCTAssertEqual(
                try? JSON.decode(Int.self, payload), try? JSONDecoder().decode(Int.self, from: Data(text.utf8)), text)
        }
        XCTAssertEqual(try JSON.decode(Double.self, Payload(data: Array("7".utf8))), 7)
        XCTAssertEqual(try JSON.decode(Int?.self, Payload(data: Array("7".utf8))), 7)
        XCTAssertEqual(try JSON.encode(Optional(7)).data, Array("7".utf8))
    }

    func test_theOwnerDiesAfterEveryEntry() throws {
        var entry = 0
        while true {
            for isResting in [false, true] {
                let ledger = Ledger()
                let cluster = TestCluster(registry: mixture(ledger, Chance(seed: 7)))
                let id = try cluster.startRun("mixture")
                var count = 0
                cluster.run {
                    count += 1
                    return count <= entry
                }
                if isResting { cluster.loop.run() }
                let isOver = try cluster.run(id).status.isEnded
                let before = try cluster.run(id).records.filter { !$0.isPending }
                if !isOver {
                    cluster.crash(1)
                    try cluster.changeOwner(id, to: 2)
                    cluster.run()
                }
                try expectSound(cluster, id, "entry \(entry)")
                let after = try cluster.run(id).records
                for record in before { XCTAssertTrue(after.contains(record), "what is recorded stays") }
                for record in before where record.kind == .step && record.failure.isEmpty {
                    XCTAssertEqual(ledger.count("body \(record.key)"), 1, "no recorded step runs again")
                }
                if isOver { return XCTAssertGreaterThan(entry, 20) }
            }
            entry += 1
        }
    }

    /// Owners die again and again, at any time, and answers and proposals get lost: the branches take other times in
    /// every life, but never another way.
    func test_parallelBranchesReplayTheSameWay() throws {
        for seed in UInt64(1)...300 {
            let (cluster, id) = try faultyRun(seed: seed)
            try expectSound(cluster, id, "seed \(seed)")
        }
    }

    func test_theSameSeedGivesTheSameLog() throws {
        for seed in UInt64(1)...20 {
            let first = try faultyRun(seed: seed).0.log
            let second = try faultyRun(seed: seed).0.log
            XCTAssertEqual(first.map(\.0), second.map(\.0))
            XCTAssertEqual(first.map(\.1), second.map(\.1))
            XCTAssertEqual(first.map(\.2), second.map(\.2))
        }
    }

    private func faultyRun(seed: UInt64) throws -> (TestCluster, RunID) {
        var random = SeededRandom(seed: seed)
        let cluster = TestCluster(registry: mixture(Ledger(), Chance(seed: seed)))
        var faults = SeededRandom(seed: seed ^ 0xFA)
        cluster.fault = { _ in faults.next() % 16 == 0 ? .noLeader : nil }
        cluster.losesAnswer = { _ in faults.next() % 16 == 0 }
        let id = try cluster.startRun("mixture")
        var owner: NodeID = 1
        for _ in 0..<Int(random.next() % 6) {
            var entries = Int(random.next() % 20)
            cluster.run {
                entries -= 1
                return entries > 0
            }
            guard try !cluster.run(id).status.isEnded else { break }
            cluster.crash(owner)
            try cluster.restart(owner)
            owner = NodeID(random.next() % 3 + 1)
            try cluster.changeOwner(id, to: owner)
        }
        cluster.run()
        return (cluster, id)
    }

    func test_codeThatAsksForSomethingElseStallsTheRun() throws {
        func registry(_ second: String, _ ledger: Ledger) -> WorkflowRegistry {
            var registry = WorkflowRegistry()
            registry.register("changed") { (context: WorkflowContext, _: Int?) async throws -> String in
                _ = try await context.step("first") { 1 }
                do {
                    _ = try await context.step(second) { 2 }
                    try await context.sleep(for: .seconds(10))
                } catch is CancellationError {
                    // Code that swallows the cancellation does not get any further.
                    ledger.note("cancelled")
                    _ = try? await context.step("third") { ledger.note("third") }
                }
                return "done"
            }
            return registry
        }
        let ledger = Ledger()
        let cluster = TestCluster(registry: registry("second", ledger))
        let id = try cluster.startRun("changed")
        cluster.run(until: .seconds(1))
        cluster.crash(1)
        cluster.registry = registry("other", ledger)
        cluster.crash(2)
        try cluster.restart(2)
        try cluster.changeOwner(id, to: 2)
        cluster.run(until: .seconds(2))
        let reason =
            "determinism violation at position 1: the history holds the step \"second\", "
            + "the code asks for the step \"other\""
        XCTAssertEqual(try cluster.run(id).stalled, reason)
        XCTAssertEqual(cluster[2].messages, ["\(id): \(reason)"])
        XCTAssertEqual(try cluster.run(id).status, .running)
        XCTAssertEqual(ledger.all, ["cancelled", "cancelled"], "by the death of node 1, and by the stall")
        XCTAssertEqual(cluster[2].runtime?.executingRunCount, 0)
        XCTAssertEqual(cluster[2].runtime?.taskCount, 0)
        // The right code takes over.
        cluster.registry = registry("second", ledger)
        try cluster.restart(1)
        try cluster.changeOwner(id, to: 1)
        XCTAssertEqual(try cluster.run(id).stalled, "")
        cluster.run()
        XCTAssertEqual(try cluster.outcome(id), #"completed "done""#)
    }

    func test_codeThatEndsBeforeItsHistoryStallsTheRun() throws {
        func registry(_ count: Int) -> WorkflowRegistry {
            var registry = WorkflowRegistry()
            registry.register("shorter") { (context: WorkflowContext, _: Int?) async throws in
                for number in 0..<count { try await context.step("s\(number)") {} }
                if count > 1 { try await context.sleep(for: .seconds(10)) }
            }
            return registry
        }
        let cluster = TestCluster(registry: registry(3))
        let id = try cluster.startRun("shorter")
        cluster.run(until: .seconds(1))
        cluster.registry = registry(1)
        cluster.crash(1)
        try cluster.restart(1)
        try cluster.changeOwner(id, to: 1)
        cluster.run()
        XCTAssertEqual(
            try cluster.run(id).stalled,
            "determinism violation at position 3: the history holds the timer \"sleep\", the code ends before it")
    }

    func test_aRecordedValueThatDoesNotFitStallsTheRun() throws {
        var before = WorkflowRegistry()
        before.register("typed") { (context: WorkflowContext, _: Int?) async throws in
            _ = try await context.step("value") { "text" }
            try await context.sleep(for: .seconds(10))
        }
        var after = WorkflowRegistry()
        after.register("typed") { (context: WorkflowContext, _: Int?) async throws in
            _ = try await context.step("value") { 5 }
            try await context.sleep(for: .seconds(10))
        }
        let cluster = TestCluster(registry: before)
        let id = try cluster.startRun("typed")
        cluster.run(until: .seconds(1))
        cluster.registry = after
        cluster.crash(1)
        try cluster.restart(1)
        try cluster.changeOwner(id, to: 1)
        cluster.run()
        XCTAssertEqual(
            try cluster.run(id).stalled,
            "determinism violation at position 0: the value recorded for the step \"value\" does not fit the code: "
                + "expected Int")
    }

    func test_anOwnerThatWasReplacedIsFenced() throws {
        let ledger = Ledger()
        var registry = WorkflowRegistry()
        registry.register("fenced") { (context: WorkflowContext, _: Int?) async throws -> [String] in
            let first = try await context.step("first") { token in
                ledger.note("first \(token.epoch)")
                return "by \(token.epoch)"
            }
            let second = try await context.step("second") { token in "by \(token.epoch)" }
            return [first, second]
        }
        let cluster = TestCluster(registry: registry)
        let id = try cluster.startRun("fenced")
        cluster.loop.run()
        // Node 1 is cut off with its first checkpoint on the way.
        let held = cluster.inbox
        cluster.inbox = []
        XCTAssertEqual(held.count, 1)
        let runtime = cluster[1].runtime
        cluster[1].runtime = nil
        try cluster.changeOwner(id, to: 2)
        cluster.run()
        XCTAssertEqual(try cluster.outcome(id), #"completed ["by 2","by 2"]"#)
        XCTAssertEqual(ledger.all, ["first 1", "first 2"], "a body runs at least once, its result counts once")
        // It comes back, and what it had on the way arrives.
        let result = cluster.apply(held[0].command, origin: held[0].origin)
        XCTAssertEqual(result, .refused(.runEnded(id, .completed)))
        cluster[1].runtime = runtime
        held[0].completion(.applied(result))
        cluster.run()
        XCTAssertEqual(runtime?.executingRunCount, 0)
        XCTAssertEqual(runtime?.taskCount, 0)
        XCTAssertTrue(cluster.inbox.isEmpty)
    }

    func test_proposalsAreRepeatedUntilTheyAreApplied() throws {
        var registry = WorkflowRegistry()
        registry.register("stubborn") { (context: WorkflowContext, _: Int?) async throws -> Int in
            let one = try await context.step("one") { 1 }
            try await context.sleep(for: .milliseconds(5))
            return one + 1
        }
        let failures: [ProposalFailure] = [.noLeader, .timedOut, .overloaded, .other("disk is full")]
        for failure in failures {
            let cluster = TestCluster(registry: registry)
            var tries: [Nanoseconds] = []
            cluster.fault = { _ in
                tries.append(cluster.clock.now)
                return tries.count < 12 ? failure : nil
            }
            let id = try cluster.startRun("stubborn")
            cluster.run()
            XCTAssertEqual(try cluster.outcome(id), "completed 2")
            XCTAssertEqual(tries.count, 14, "eleven in vain, then one each for the step, the timer and the end")
            XCTAssertGreaterThan(tries[11] - tries[10], .milliseconds(640))
            XCTAssertLessThanOrEqual(tries[11] - tries[10], .milliseconds(1280))
        }
    }

    func test_anAnswerThatIsLostRecordsNothingTwice() throws {
        let ledger = Ledger()
        var registry = WorkflowRegistry()
        registry.register("lost") { (context: WorkflowContext, _: Int?) async throws -> Int in
            let drawn = try await context.step("draw") {
                ledger.note("draw")
                return ledger.count("draw")
            }
            try await context.sleep(for: .milliseconds(5))
            return drawn
        }
        let cluster = TestCluster(registry: registry)
        cluster.losesAnswer = { _ in true }
        let id = try cluster.startRun("lost")
        cluster.run()
        XCTAssertEqual(try cluster.outcome(id), "completed 1")
        XCTAssertEqual(ledger.count("draw"), 1)
        XCTAssertEqual(cluster.log.count, 5, "start, step, timer, fire, end: \(cluster.log.map(\.0))")
        XCTAssertEqual(cluster[1].runtime?.executingRunCount, 0)
    }

    func test_aContextIsRefusedWhereAReplayCouldNotFollow() throws {
        let errors = Ledger()
        var registry = WorkflowRegistry()
        registry.register("misuse") { (context: WorkflowContext, _: Int?) async throws in
            do {
                try await context.pause(for: .seconds(1))
            } catch {
                errors.note("\(error)")
            }
            try await context.step("nested") {
                do {
                    try await context.step("inner") { errors.note("inner body") }
                } catch {
                    errors.note("\(error)")
                }
            }
        }
        let cluster = TestCluster(registry: registry)
        let id = try cluster.startRun("misuse")
        cluster.run()
        XCTAssertEqual(try cluster.outcome(id), "completed null")
        XCTAssertEqual(
            errors.all, [WorkflowMisuse.outsideOfStep.description, WorkflowMisuse.insideStep.description])
    }

    func test_aContextIsRefusedInForeignTasks() async throws {
        let contexts = ContextBox()
        var registry = WorkflowRegistry()
        registry.register("leak") { (context: WorkflowContext, _: Int?) async throws in
            contexts.context = context
            try await context.sleep(for: .seconds(1))
        }
        let cluster = TestCluster(registry: registry)
        let id = try cluster.startRun("leak")
        cluster.loop.run()
        let context = try XCTUnwrap(contexts.context)
        do {
            try await context.step("foreign") {}
            XCTFail("a step from a foreign task went through")
        } catch {
            XCTAssertEqual(error as? WorkflowMisuse, .outsideOfRun)
        }
        cluster.run()
        XCTAssertEqual(try cluster.outcome(id), "completed null")
    }
}

private final class ContextBox: @unchecked Sendable {
    private let lock = NSLock()
    private var stored: WorkflowContext?
    var context: WorkflowContext? {
        get { lock.withLock { stored } }
        set { lock.withLock { stored = newValue } }
    }
}
