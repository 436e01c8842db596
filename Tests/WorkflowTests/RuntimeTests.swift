import Foundation
import Prelude
import XCTest

@testable import Workflow

struct Unlucky: Error, CustomStringConvertible {
    var description: String { "out of luck" }
}

final class RuntimeTests: XCTestCase {
    func test_aWorkflowOfStepsCompletes() throws {
        let ledger = Ledger()
        let thread = pthread_self()
        var registry = WorkflowRegistry()
        registry.register("sum") { (context: WorkflowContext, input: [Int]) async throws -> Int in
            var sum = 0
            for number in input {
                sum += try await context.step("add") {
                    XCTAssertNotEqual(pthread_equal(pthread_self(), thread), 0, "steps run on the loop")
                    ledger.note("add")
                    return number
                }
            }
            return sum
        }
        let cluster = TestCluster(registry: registry)
        let run = try cluster.startRun("sum", "[1,2,3]")
        cluster.run()
        XCTAssertEqual(try cluster.outcome(run), "completed 6")
        XCTAssertEqual(ledger.count("add"), 3)
        XCTAssertEqual(try cluster.run(run).records.map(\.key), ["add", "add", "add"])
        XCTAssertEqual(cluster[1].runtime?.executingRunCount, 0)
        XCTAssertEqual(cluster[1].runtime?.taskCount, 0)
        cluster.expectEqualReplicas()
    }

    func test_stepsMayComeBackFromOtherThreads() throws {
        let thread = pthread_self()
        var registry = WorkflowRegistry()
        registry.register("foreign") { (context: WorkflowContext, count: Int) async throws -> Int in
            try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 0..<count {
                    group.addTask {
                        try await context.step("call") {
                            await withCheckedContinuation { continuation in
                                Thread.detachNewThread { continuation.resume() }
                            }
                            XCTAssertNotEqual(pthread_equal(pthread_self(), thread), 0, "back on the loop")
                            return number
                        }
                    }
                }
                return try await group.reduce(0, +)
            }
        }
        let cluster = TestCluster(registry: registry)
        let runs = try (0..<8).map { try cluster.startRun("foreign", "20", id: "w\($0)") }
        let deadline = Date(timeIntervalSinceNow: 60)
        repeat {
            cluster.run()
        } while cluster[1].machine.count(of: .running) > 0
            && cluster.loop.waitForJob(until: deadline)
        for run in runs { XCTAssertEqual(try cluster.outcome(run), "completed 190") }
    }

    func test_recordedValuesAreReplayedAndNotComputedAgain() throws {
        let ledger = Ledger()
        var registry = WorkflowRegistry()
        registry.register("values") { (context: WorkflowContext, _: Int?) async throws -> [String] in
            let effect = try await context.sideEffect("effect") {
                ledger.note("effect")
                return "e\(ledger.count("effect"))"
            }
            let point = try await context.checkpoint("point", "p")
            let counter = try await context.variable("counter", initial: 10)
            try await counter.set(20)
            try await counter.update { $0 += 1 }
            let drawn = try await context.randomNumber()
            let time = try await context.now()
            ledger.note("\(drawn) \(time.timeIntervalSince1970)")
            try await context.step("hold") { try await context.pause(for: .seconds(1)) }
            return [effect, point, "\(counter.value)"]
        }
        let cluster = TestCluster(registry: registry)
        let run = try cluster.startRun("values")
        cluster.run(until: .milliseconds(500))
        cluster.crash(1)
        try cluster.changeOwner(run, to: 2)
        cluster.run()
        XCTAssertEqual(try cluster.outcome(run), #"completed ["e1","p","21"]"#)
        XCTAssertEqual(ledger.count("effect"), 1)
        let notes = ledger.all.filter { $0 != "effect" }
        XCTAssertEqual(notes.count, 2)
        XCTAssertEqual(Set(notes).count, 1, "time and chance are those of the first execution")
        cluster.expectEqualReplicas()
    }

    func test_aStepIsTriedAgainWithLongerPauses() throws {
        let ledger = Ledger()
        var registry = WorkflowRegistry()
        registry.register("retry") { (context: WorkflowContext, _: Int?) async throws -> String in
            try await context.step("lucky") { token in
                ledger.note(token.attemptDescription)
                if token.attempt < 3 { throw Unlucky() }
                return "\(token)"
            }
        }
        let cluster = TestCluster(registry: registry)
        let run = try cluster.startRun("retry")
        cluster.run()
        XCTAssertEqual(try cluster.outcome(run), #"completed "1-1-0""#)
        XCTAssertEqual(ledger.all, ["1-1-0-1-1", "1-1-0-1-2", "1-1-0-1-3"])
        XCTAssertEqual(cluster.clock.now, .milliseconds(300))
        XCTAssertEqual(try cluster.run(run).records[0].attempt, 3)
    }

    func test_aStepThatFailsForGoodFailsTheSameWayInReplay() throws {
        let ledger = Ledger()
        var registry = WorkflowRegistry()
        registry.register("fail") { (context: WorkflowContext, _: Int?) async throws -> String in
            do {
                try await context.step("unlucky", retry: RetryPolicy(attemptCountMax: 2)) {
                    ledger.note("body")
                    throw Unlucky()
                }
            } catch let failure as StepFailed {
                try await context.step("compensate") { ledger.note("compensate") }
                try await context.sleep(for: .seconds(5))
                return "\(failure)"
            }
            return "no failure"
        }
        let cluster = TestCluster(registry: registry)
        let run = try cluster.startRun("fail")
        cluster.run(until: .seconds(1))
        cluster.crash(1)
        try cluster.changeOwner(run, to: 3)
        cluster.run()
        XCTAssertEqual(
            try cluster.outcome(run), #"completed "step \"unlucky\" failed after 2 attempts: out of luck""#)
        XCTAssertEqual(ledger.all, ["body", "body", "compensate"])
    }

    func test_errorsThatAreNotTriedAgain() throws {
        let ledger = Ledger()
        var registry = WorkflowRegistry()
        registry.register("final") { (context: WorkflowContext, isWrapped: Bool) async throws in
            try await context.step("once") {
                ledger.note("body")
                if isWrapped { throw NonRetryable(Unlucky()) }
                throw WorkflowFailure("never")
            }
        }
        let cluster = TestCluster(registry: registry)
        let first = try cluster.startRun("final", "true", id: "a")
        let second = try cluster.startRun("final", "false", id: "b")
        cluster.run()
        XCTAssertEqual(try cluster.outcome(first), "failed step \"once\" failed after 1 attempt: out of luck")
        XCTAssertEqual(try cluster.outcome(second), "failed step \"once\" failed after 1 attempt: never")
        XCTAssertEqual(ledger.count("body"), 2)
    }

    func test_anErrorFailsTheRunWithItsText() throws {
        var registry = WorkflowRegistry()
        registry.register("throw") { (_: WorkflowContext, kind: Int) async throws in
            if kind == 0 { throw WorkflowFailure("as told") }
            if kind == 1 { throw Unlucky() }
            throw WorkflowFailure(String(repeating: "ä", count: 100_000))
        }
        let cluster = TestCluster(registry: registry)
        let runs = try (0..<3).map { try cluster.startRun("throw", "\($0)", id: "w\($0)") }
        cluster.run()
        XCTAssertEqual(try cluster.outcome(runs[0]), "failed as told")
        XCTAssertEqual(try cluster.outcome(runs[1]), "failed out of luck")
        let long = try cluster.run(runs[2]).failure
        XCTAssertEqual(long.utf8.count, cluster.limits.failureByteCountMax)
        XCTAssertEqual(Set(long), ["ä"], "cut between characters")
    }

    func test_inputThatDoesNotFitFailsTheRun() throws {
        var registry = WorkflowRegistry()
        SampleWorkflows.register(in: &registry)
        let cluster = TestCluster(registry: registry)
        let missing = try cluster.startRun("fibonacci", "{}", id: "a")
        let broken = try cluster.startRun("fibonacci", "{", id: "b")
        let empty = try cluster.startRun("fibonacci", "", id: "c")
        cluster.run()
        let prefix = "failed the input does not fit workflow \"fibonacci\" version 1: "
        XCTAssertEqual(try cluster.outcome(missing), prefix + "\"n\" is missing")
        XCTAssertTrue(try cluster.outcome(broken).hasPrefix(prefix))
        XCTAssertTrue(try cluster.outcome(empty).hasPrefix(prefix))
    }

    func test_aDurableSleepOutlivesItsOwner() throws {
        var registry = WorkflowRegistry()
        registry.register("sleep") { (context: WorkflowContext, _: Int?) async throws -> Int in
            let before = try await context.now()
            try await context.sleep(for: .seconds(3600), "hour")
            try await context.sleep(for: .zero, "no time")
            let after = try await context.now()
            return Int(after.timeIntervalSince(before))
        }
        let cluster = TestCluster(registry: registry)
        let run = try cluster.startRun("sleep")
        cluster.run(until: .seconds(1000))
        XCTAssertEqual(cluster[2].machine.pendingTimerCount, 1)
        cluster.crash(1)
        try cluster.restart(1)
        cluster.run(until: .seconds(1000))
        XCTAssertEqual(cluster[1].runtime?.executingRunCount, 0, "what an earlier life owned is not executed")
        try cluster.changeOwner(run, to: 1)
        cluster.run()
        XCTAssertEqual(try cluster.outcome(run), "completed 3600")
        XCTAssertEqual(cluster[2].machine.pendingTimerCount, 0)
        XCTAssertEqual(try cluster.run(run).epoch, 2)
        cluster.expectEqualReplicas()
    }

    func test_aStepThatIsLostToCancellationDoesNotHoldUpTheRun() throws {
        var registry = WorkflowRegistry()
        registry.register("race") { (context: WorkflowContext, _: Int?) async throws -> String in
            async let _: Void = context.sleep(for: .seconds(86_000), "late")
            async let _: Void = context.step("slow") { try await context.pause(for: .seconds(80_000)) }
            _ = try await context.step("quick") { try await context.pause(for: .seconds(1)) }
            return "quick"
        }
        let cluster = TestCluster(registry: registry)
        let run = try cluster.startRun("race")
        cluster.run(until: .seconds(10))
        XCTAssertEqual(try cluster.outcome(run), #"completed "quick""#)
        XCTAssertEqual(cluster[1].machine.pendingTimerCount, 0)
        XCTAssertEqual(cluster[1].runtime?.taskCount, 0)
    }

    func test_runsWaitForAPlaceToExecute() throws {
        let ledger = Ledger()
        var registry = WorkflowRegistry()
        registry.register("step") { (context: WorkflowContext, number: Int) async throws in
            try await context.step("s") {
                ledger.note("begin")
                try await context.pause(for: .seconds(1))
                ledger.note("end")
            }
        }
        var limits = WorkflowLimits()
        limits.executingRunCountMax = 2
        let cluster = TestCluster(limits: limits, registry: registry)
        let runs = try (0..<7).map { try cluster.startRun("step", "\($0)", id: "w\($0)") }
        XCTAssertEqual(cluster[1].runtime?.executingRunCount, 2)
        XCTAssertEqual(cluster[1].runtime?.queuedRunCount, 5)
        XCTAssertEqual(cluster[1].runtime?.waitingReason(of: runs[6]), "waits for one of 2 places to execute")
        cluster.run()
        for run in runs { XCTAssertEqual(try cluster.outcome(run), "completed null") }
        XCTAssertEqual(cluster.clock.now, .seconds(4))
        var open = 0
        for event in ledger.all {
            open += event == "begin" ? 1 : -1
            XCTAssertLessThanOrEqual(open, 2)
        }
    }

    func test_runsThatSleepGiveTheirPlacesToOthers() throws {
        let ledger = Ledger()
        var registry = WorkflowRegistry()
        registry.register("sleeper") { (context: WorkflowContext, number: Int) async throws -> Int in
            let drawn = try await context.step("before") {
                ledger.note("before \(number)")
                return number
            }
            async let long: Void = context.sleep(for: .seconds(20), "long")
            try await context.sleep(for: .seconds(10), "short")
            try await context.step("between") { ledger.note("between \(number)") }
            try await long
            return drawn * 10
        }
        var limits = WorkflowLimits()
        limits.executingRunCountMax = 2
        let cluster = TestCluster(limits: limits, registry: registry)
        let runs = try (0..<9).map { try cluster.startRun("sleeper", "\($0)", id: "w\($0)") }
        cluster.run(until: .seconds(5))
        XCTAssertEqual(cluster[1].runtime?.executingRunCount, 2)
        XCTAssertEqual(cluster[1].runtime?.parkedRunCount, 7)
        XCTAssertEqual(cluster[1].runtime?.queuedRunCount, 0)
        XCTAssertEqual(cluster[1].runtime?.taskCount, 2)
        cluster.run()
        for (number, run) in runs.enumerated() {
            XCTAssertEqual(try cluster.outcome(run), "completed \(number * 10)")
            XCTAssertEqual(ledger.count("before \(number)"), 1)
            XCTAssertEqual(ledger.count("between \(number)"), 1)
        }
        XCTAssertEqual(cluster.clock.now, .seconds(20), "nobody waits for the sleep of others")
        XCTAssertEqual(cluster[1].runtime?.parkedRunCount, 0)
        XCTAssertEqual(cluster[1].runtime?.taskCount, 0)
    }

    func test_anUnregisteredWorkflowWaitsUntilItIsRegistered() throws {
        let cluster = TestCluster(registry: WorkflowRegistry())
        let run = try cluster.startRun("late", "5")
        cluster.run()
        let reason = "workflow \"late\" version 1 is not registered on node 1"
        XCTAssertEqual(cluster[1].runtime?.waitingReason(of: run), reason)
        XCTAssertEqual(cluster[1].messages, ["1-1: \(reason)"])
        XCTAssertEqual(cluster.log.count, 1, "nothing is proposed")
        cluster[1].runtime?.register { registry in
            registry.register("late") { (_: WorkflowContext, input: Int) async throws -> Int in input + 1 }
        }
        cluster.run()
        XCTAssertEqual(try cluster.outcome(run), "completed 6")
    }

    func test_stoppingEndsAllTasks() throws {
        var registry = WorkflowRegistry()
        registry.register("busy") { (context: WorkflowContext, _: Int?) async throws in
            async let one: Void = context.sleep(for: .seconds(100))
            async let two: Void = context.step("pause") { try await context.pause(for: .seconds(100)) }
            async let three: Void = context.step("fail", retry: RetryPolicy(attemptCountMax: 100)) { throw Unlucky() }
            _ = try await (one, two, three)
        }
        let cluster = TestCluster(registry: registry)
        let runs = try (0..<5).map { try cluster.startRun("busy", id: "w\($0)") }
        cluster.run(until: .seconds(5))
        XCTAssertEqual(cluster[1].runtime?.taskCount, 5)
        let count = cluster.log.count
        let runtime = try XCTUnwrap(cluster[1].runtime)
        runtime.stop()
        cluster.loop.run()
        XCTAssertEqual(runtime.taskCount, 0)
        XCTAssertEqual(runtime.executingRunCount, 0)
        XCTAssertEqual(cluster.log.count, count)
        XCTAssertTrue(cluster.inbox.isEmpty, "stopping proposes nothing")
        for run in runs { XCTAssertEqual(try cluster.run(run).status, .running) }
    }

    func test_aMachineMayTakeThePlaceOfAnother() throws {
        let ledger = Ledger()
        var registry = WorkflowRegistry()
        registry.register("steps") { (context: WorkflowContext, _: Int?) async throws -> Int in
            var sum = 0
            for number in 1...4 {
                sum += try await context.step("s\(number)") {
                    ledger.note("s\(number)")
                    return number
                }
                try await context.sleep(for: .seconds(10))
            }
            return sum
        }
        let cluster = TestCluster(registry: registry)
        let run = try cluster.startRun("steps")
        cluster.run(until: .seconds(15))
        // What a snapshot from another node brings, with entries that this one never saw.
        let runtime = try XCTUnwrap(cluster[1].runtime)
        cluster[1].runtime = nil
        for fire in cluster[2].machine.dueTimers(at: .max, limit: 10) {
            cluster.clock.advance(to: .seconds(20))
            cluster.apply(.timerFire(fire))
        }
        cluster[1].machine = try WorkflowMachine(snapshot: cluster[2].machine.snapshot(), limits: cluster.limits)
        cluster[1].runtime = runtime
        runtime.replace(cluster[1].machine)
        cluster.run()
        XCTAssertEqual(try cluster.outcome(run), "completed 10")
        XCTAssertEqual(ledger.all, ["s1", "s2", "s3", "s4"])
        XCTAssertEqual(runtime.taskCount, 0)
        cluster.expectEqualReplicas()
    }

    func test_aRunWaitsWhileTheStateIsFull() throws {
        var registry = WorkflowRegistry()
        registry.register("text") { (context: WorkflowContext, _: Int?) async throws -> Int in
            try await context.step("large") { String(repeating: "x", count: 900) }.count
        }
        var limits = WorkflowLimits()
        limits.stateByteCountMax = 1600
        let cluster = TestCluster(limits: limits, registry: registry)
        let put = Command.VariablePut(key: "v", value: [UInt8](repeating: 0, count: 600))
        XCTAssertEqual(cluster.apply(.variablePut(put)), .variable(revision: 1))
        let run = try cluster.startRun("text")
        cluster.run(until: .seconds(10))
        XCTAssertEqual(try cluster.run(run).records.count, 0)
        XCTAssertLessThan(cluster.log.count, 25, "it asks less and less often")
        XCTAssertEqual(cluster.apply(.variableDelete(Command.VariableDelete(key: "v"))), .deleted(existed: true))
        cluster.run()
        XCTAssertEqual(try cluster.outcome(run), "completed 900")
    }

    func test_limitsFailStepsAndRuns() throws {
        var registry = WorkflowRegistry()
        registry.register("large step") { (context: WorkflowContext, _: Int?) async throws in
            _ = try await context.step("large", retry: .none) { String(repeating: "x", count: 2000) }
        }
        registry.register("large result") { (_: WorkflowContext, _: Int?) async throws -> String in
            String(repeating: "x", count: 2000)
        }
        registry.register("endless") { (context: WorkflowContext, _: Int?) async throws in
            while true {
                do { try await context.checkpoint("more", 1) } catch let failure as StepFailed { throw failure }
            }
        }
        registry.register("heavy") { (context: WorkflowContext, _: Int?) async throws in
            for _ in 0..<19 { try await context.checkpoint("more", String(repeating: "x", count: 900)) }
        }
        var limits = WorkflowLimits()
        limits.payloadByteCountMax = 1000
        limits.checkpointCountPerRunMax = 20
        limits.historyByteCountPerRunMax = 10_000
        let cluster = TestCluster(limits: limits, registry: registry)
        let types = ["large step", "large result", "endless", "heavy"]
        let runs = try types.map { try cluster.startRun($0, id: $0) }
        cluster.run()
        XCTAssertEqual(
            try runs.map { try cluster.outcome($0) },
            [
                "failed step \"large\" failed after 1 attempt: the result has 2002 bytes; at most 1000 are allowed",
                "failed the result has 2002 bytes; at most 1000 are allowed",
                "failed the run has reached the limit of 20 checkpoints",
                "failed 10400 bytes of a run's history; at most 10000 are allowed",
            ])
        XCTAssertEqual(cluster[1].runtime?.taskCount, 0)
    }
}
