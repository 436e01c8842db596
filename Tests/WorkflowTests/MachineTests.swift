import Prelude
import XCTest

@testable import Workflow

/// Applies commands one after the other.
final class Bench {
    var machine: WorkflowMachine
    var index: LogIndex = 0
    var time: Int64 = 1000
    private(set) var effects: [Effect] = []

    init(limits: WorkflowLimits = WorkflowLimits()) { machine = WorkflowMachine(group: 1, limits: limits) }

    @discardableResult
    func apply(_ command: Command, origin: CommandOrigin? = nil) -> CommandResult {
        index = index + 1
        let context = ApplyContext(group: 1, index: index, timeMilliseconds: time, origin: origin)
        let result: CommandResult
        (result, effects) = machine.apply(command, context)
        return result
    }

    func start(
        _ id: String = "w", type: String = "t", owner: NodeID = 1, incarnation: Incarnation = 1,
        requestID: String = ""
    ) -> CommandResult {
        apply(
            .start(
                Command.Start(
                    workflowID: id, type: type, version: 1, input: json("1"), owner: owner,
                    ownerIncarnation: incarnation, requestID: requestID)))
    }

    func run(_ id: String = "w", owner: NodeID = 1, incarnation: Incarnation = 1) throws -> RunID {
        guard case .started(let run, _) = start(id, owner: owner, incarnation: incarnation) else {
            throw TestFailure("the run did not start")
        }
        return run
    }

    func checkpoint(
        _ run: RunID, _ position: UInt32, _ value: String = "1", epoch: Epoch = 1,
        kind: CheckpointKind = .step, key: String = "k", failure: String = ""
    ) -> CommandResult {
        let value = failure.isEmpty ? json(value) : nil
        return apply(
            .checkpoint(
                Command.Checkpoint(
                    run: run, epoch: epoch, position: position, kind: kind, key: key, value: value,
                    failure: failure)))
    }

    func end(_ run: RunID, _ status: WorkflowStatus = .completed, epoch: Epoch = 1) -> CommandResult {
        apply(.end(Command.End(run: run, epoch: epoch, status: status, result: json("2"))))
    }

    func change(
        _ run: RunID, from: NodeID = 1, to: NodeID = 2, incarnation: Incarnation = 1, epoch: Epoch = 1
    ) -> CommandResult {
        apply(
            .ownerChange(
                Command.OwnerChange(
                    run: run, oldOwner: from, newOwner: to, newOwnerIncarnation: incarnation,
                    reason: .nodeFailure, epoch: epoch)))
    }

    func timer(_ run: RunID, _ position: UInt32, _ milliseconds: UInt64, epoch: Epoch = 1) -> CommandResult {
        apply(
            .timerStart(
                Command.TimerStart(
                    run: run, epoch: epoch, position: position, key: "k", durationMilliseconds: milliseconds)))
    }

    func fire(_ run: RunID, _ position: UInt32) -> CommandResult {
        apply(.timerFire(Command.TimerFire(run: run, position: position)))
    }

    func put(_ key: String, _ value: String, requestID: String = "") -> CommandResult {
        apply(.variablePut(Command.VariablePut(key: key, value: Array(value.utf8), requestID: requestID)))
    }

    func swap(_ key: String, _ expected: UInt64, _ value: String, requestID: String = "") -> CommandResult {
        apply(
            .variableCompareAndSwap(
                Command.VariableCompareAndSwap(
                    key: key, expectedRevision: expected, value: Array(value.utf8), requestID: requestID)))
    }

    func delete(_ key: String, requestID: String = "") -> CommandResult {
        apply(.variableDelete(Command.VariableDelete(key: key, requestID: requestID)))
    }

    func get(_ run: RunID) throws -> WorkflowRun { try XCTUnwrap(machine.run(run)) }

    /// The machine comes back the same from its snapshot.
    func expectRestores(file: StaticString = #filePath, line: UInt = #line) throws {
        let bytes = machine.snapshot()
        let restored = try WorkflowMachine(snapshot: bytes, limits: machine.limits)
        XCTAssertEqual(restored.snapshot(), bytes, file: file, line: line)
        XCTAssertEqual(restored.stateByteCount, machine.stateByteCount, file: file, line: line)
    }
}

func json(_ text: String) -> Payload { Payload(data: Array(text.utf8)) }

final class MachineTests: XCTestCase {
    let bench = Bench()
    let unknown = RunID(group: 1, index: 999)

    // MARK: - Runs

    /// They stand in state stores and in what the command line prints.
    func test_namesOfStatuses() {
        XCTAssertEqual(
            WorkflowStatus.allCases.map(\.description),
            ["running", "completed", "failed", "cancelled", "terminated", "timedOut"])
    }

    func test_aStartMakesARunThatItsOwnerExecutes() throws {
        let run = RunID(group: 1, index: 1)
        XCTAssertEqual(bench.start(owner: 3, incarnation: 7), .started(run, workflowID: "w"))
        XCTAssertEqual(bench.effects, [.execute(run)])
        let state = try bench.get(run)
        XCTAssertEqual(state.owner, 3)
        XCTAssertEqual(state.ownerIncarnation, 7)
        XCTAssertEqual(state.epoch, 1)
        XCTAssertEqual(state.status, .running)
        XCTAssertEqual(state.startedMilliseconds, 1000)
        XCTAssertEqual(bench.machine.newestRun(workflowID: "w")?.id, run)
        try bench.expectRestores()
    }

    func test_aWorkflowIDHasOneRunThatIsNotOver() throws {
        let first = try bench.run()
        XCTAssertEqual(bench.start(), .refused(.alreadyExists(first)))
        XCTAssertEqual(bench.effects, [])
        XCTAssertEqual(bench.end(first), .ended)
        let second = try bench.run()
        XCTAssertNotEqual(first, second)
        XCTAssertEqual(bench.machine.newestRun(workflowID: "w")?.id, second)
        XCTAssertEqual(bench.machine.runCount, 2)
        try bench.expectRestores()
    }

    func test_theSameRequestGetsTheSameRun() throws {
        let answer = bench.start(requestID: "r")
        guard case .started(let run, _) = answer else { return XCTFail("\(answer)") }
        XCTAssertEqual(bench.start(requestID: "r"), answer)
        XCTAssertEqual(bench.effects, [], "a repeated request starts nothing")
        // A node that made up another id for the repeated request gets the first one.
        XCTAssertEqual(bench.start("made up", requestID: "r"), answer)
        XCTAssertEqual(bench.start(requestID: "other"), .refused(.alreadyExists(run)))
        XCTAssertEqual(bench.end(run), .ended)
        XCTAssertEqual(bench.start(requestID: "r"), answer, "after the end too")
        XCTAssertEqual(bench.machine.runCount, 1)
        XCTAssertEqual(bench.machine.run(requestID: "r")?.id, run)
        try bench.expectRestores()
    }

    func test_startsThatAreRefused() {
        let long = String(repeating: "x", count: 513)
        XCTAssertEqual(bench.start(""), .refused(.invalid("the workflow id is empty")))
        XCTAssertEqual(bench.start("a", type: ""), .refused(.invalid("the workflow type is empty")))
        let limit = CommandResult.refused(.limitExceeded(.identifierByteCount, value: 513, max: 512))
        XCTAssertEqual(bench.start(long), limit)
        XCTAssertEqual(bench.start("a", type: long), limit)
        XCTAssertEqual(bench.start("a", requestID: long), limit)
        XCTAssertEqual(bench.start("a", owner: .none), .refused(.invalid("the run has no owner")))
        XCTAssertEqual(bench.machine.runCount, 0)
    }

    func test_theNumberOfRunningRunsIsBounded() throws {
        var limits = WorkflowLimits()
        limits.runningCountMax = 2
        let bench = Bench(limits: limits)
        let first = try bench.run("a")
        _ = try bench.run("b")
        XCTAssertEqual(bench.start("c"), .refused(.limitExceeded(.runningCount, value: 3, max: 2)))
        XCTAssertEqual(bench.end(first), .ended)
        XCTAssertNoThrow(try bench.run("c"))
    }

    func test_anEndKeepsResultAndStatus() throws {
        let run = try bench.run()
        bench.time = 5000
        XCTAssertEqual(bench.end(run, .running), .refused(.invalid("a run cannot end as running")))
        let end = Command.End(run: run, epoch: 1, status: .failed, result: nil, failure: "why")
        XCTAssertEqual(bench.apply(.end(end)), .ended)
        XCTAssertEqual(bench.effects, [.ended(run)])
        let state = try bench.get(run)
        XCTAssertEqual(state.status, .failed)
        XCTAssertEqual(state.failure, "why")
        XCTAssertEqual(state.endedMilliseconds, 5000)
        XCTAssertEqual(bench.end(run), .refused(.runEnded(run, .failed)))
        XCTAssertEqual(bench.checkpoint(run, 0), .refused(.runEnded(run, .failed)))
        XCTAssertEqual(bench.change(run), .refused(.runEnded(run, .failed)))
        XCTAssertEqual(bench.timer(run, 0, 1), .refused(.runEnded(run, .failed)))
        XCTAssertEqual(try bench.get(run).result, nil)
        XCTAssertEqual(bench.machine.runCount(ownedBy: 1), 0)
        try bench.expectRestores()
    }

    func test_unknownRunsAreRefused() {
        let refused = CommandResult.refused(.unknownRun(unknown))
        XCTAssertEqual(bench.end(unknown), refused)
        XCTAssertEqual(bench.checkpoint(unknown, 0), refused)
        XCTAssertEqual(bench.change(unknown), refused)
        XCTAssertEqual(bench.timer(unknown, 0, 1), refused)
        XCTAssertEqual(bench.fire(unknown, 0), refused)
        XCTAssertEqual(bench.apply(.stall(Command.Stall(run: unknown, epoch: 1, reason: "r"))), refused)
        let foreign = RunID(group: 2, index: 1)
        XCTAssertEqual(bench.end(foreign), .refused(.unknownRun(foreign)))
    }

    func test_anOwnerChangeFencesTheOldOwner() throws {
        let run = try bench.run()
        XCTAssertEqual(bench.change(run, from: 9), .refused(.staleEpoch(current: 1)), "another owner than named")
        XCTAssertEqual(bench.change(run, epoch: 2), .refused(.staleEpoch(current: 1)))
        XCTAssertEqual(bench.change(run, to: .none), .refused(.invalid("the run's new owner is none")))
        XCTAssertEqual(bench.change(run, to: 2, incarnation: 4), .ownerChanged(2))
        XCTAssertEqual(bench.effects, [.ownerChanged(run, oldOwner: 1, oldIncarnation: 1), .execute(run)])
        XCTAssertEqual(try bench.get(run).owner, 2)
        XCTAssertEqual(try bench.get(run).ownerIncarnation, 4)
        let stale = CommandResult.refused(.staleEpoch(current: 2))
        XCTAssertEqual(bench.checkpoint(run, 0), stale)
        XCTAssertEqual(bench.end(run), stale)
        XCTAssertEqual(bench.timer(run, 0, 1), stale)
        XCTAssertEqual(bench.apply(.stall(Command.Stall(run: run, epoch: 1, reason: "r"))), stale)
        XCTAssertEqual(bench.change(run, to: 3), stale)
        XCTAssertEqual(bench.effects, [])
        XCTAssertEqual(bench.checkpoint(run, 0, epoch: 2), .recorded)
        XCTAssertEqual(try bench.get(run).records[0].epoch, 2)
        try bench.expectRestores()
    }

    func test_aStalledRunWaitsForItsNextOwner() throws {
        let run = try bench.run()
        let stall = Command.stall(Command.Stall(run: run, epoch: 1, reason: "mismatch"))
        XCTAssertEqual(bench.apply(stall), .stalled)
        XCTAssertEqual(bench.effects, [.stalled(run)])
        XCTAssertEqual(bench.apply(stall), .alreadyRecorded)
        XCTAssertEqual(bench.effects, [])
        XCTAssertEqual(try bench.get(run).stalled, "mismatch")
        XCTAssertEqual(bench.end(run), .refused(.runStalled(run)))
        XCTAssertEqual(bench.checkpoint(run, 0), .recorded, "a parallel step that was under way counts")
        try bench.expectRestores()
        XCTAssertEqual(bench.change(run, to: 1), .ownerChanged(2))
        XCTAssertEqual(try bench.get(run).stalled, "")
        XCTAssertEqual(bench.end(run, epoch: 2), .ended)
        try bench.expectRestores()
    }

    func test_aStalledRunCanBeTerminated() throws {
        let run = try bench.run()
        bench.apply(.stall(Command.Stall(run: run, epoch: 1, reason: "mismatch")))
        XCTAssertEqual(bench.end(run, .terminated), .ended)
    }

    // MARK: - Checkpoints

    func test_theFirstRecordOfAPositionWins() throws {
        let run = try bench.run()
        XCTAssertEqual(bench.checkpoint(run, 0, "1"), .recorded)
        XCTAssertEqual(bench.effects, [.checkpointRecorded(run, position: 0)])
        let before = bench.machine.snapshot()
        XCTAssertEqual(bench.checkpoint(run, 0, "2"), .alreadyRecorded)
        XCTAssertEqual(bench.effects, [])
        XCTAssertEqual(bench.checkpoint(run, 0, failure: "no"), .alreadyRecorded)
        XCTAssertEqual(
            bench.checkpoint(run, 0, key: "other"),
            .refused(.positionConflict(position: 0, recordedKind: .step, recordedKey: "k")))
        XCTAssertEqual(
            bench.checkpoint(run, 0, kind: .variable),
            .refused(.positionConflict(position: 0, recordedKind: .step, recordedKey: "k")))
        XCTAssertEqual(
            bench.timer(run, 0, 5), .refused(.positionConflict(position: 0, recordedKind: .step, recordedKey: "k")))
        XCTAssertEqual(bench.machine.snapshot(), before)
    }

    func test_keysAreComparedByTheirBytes() throws {
        let run = try bench.run()
        XCTAssertEqual("\u{E9}", "e\u{301}", "equal to Swift")
        XCTAssertEqual(bench.checkpoint(run, 0, key: "\u{E9}"), .recorded)
        guard case .refused(.positionConflict) = bench.checkpoint(run, 0, key: "e\u{301}") else {
            return XCTFail("two spellings of a key were taken for one")
        }
        XCTAssertEqual(bench.put("\u{E9}", "1"), .variable(revision: 1))
        XCTAssertEqual(bench.put("e\u{301}", "2"), .variable(revision: 2))
        XCTAssertEqual(bench.machine.variableCount, 2)
        try bench.expectRestores()
    }

    func test_parallelStepsAreRecordedInAnyOrder() throws {
        let run = try bench.run()
        for position: UInt32 in [3, 0, 5, 1, 4, 2] {
            XCTAssertEqual(bench.checkpoint(run, position, "\(position)"), .recorded)
            try bench.expectRestores()
        }
        let state = try bench.get(run)
        XCTAssertEqual(state.records.map(\.position), [0, 1, 2, 3, 4, 5])
        for position: UInt32 in 0..<6 {
            XCTAssertEqual(state.record(at: position)?.value, json("\(position)"))
            XCTAssertEqual(bench.checkpoint(run, position, "x"), .alreadyRecorded)
        }
        XCTAssertNil(state.record(at: 6))
    }

    func test_checkpointsThatAreRefused() throws {
        var limits = WorkflowLimits()
        limits.checkpointCountPerRunMax = 3
        limits.payloadByteCountMax = 10
        limits.failureByteCountMax = 5
        limits.historyByteCountPerRunMax = 500
        let bench = Bench(limits: limits)
        let run = try bench.run()
        XCTAssertEqual(bench.checkpoint(run, 3), .refused(.limitExceeded(.position, value: 3, max: 2)))
        XCTAssertEqual(
            bench.checkpoint(run, 0, "12345678901"), .refused(.limitExceeded(.payloadByteCount, value: 11, max: 10)))
        XCTAssertEqual(
            bench.checkpoint(run, 0, failure: "123456"),
            .refused(.limitExceeded(.failureByteCount, value: 6, max: 5)))
        XCTAssertEqual(bench.checkpoint(run, 0, key: ""), .refused(.invalid("the key of the checkpoint is empty")))
        let neither = Command.Checkpoint(run: run, epoch: 1, position: 0, kind: .step, key: "k", value: nil)
        XCTAssertEqual(
            bench.apply(.checkpoint(neither)), .refused(.invalid("a checkpoint has either a value or a failure")))
        XCTAssertEqual(bench.checkpoint(run, 0), .recorded)
        XCTAssertEqual(bench.checkpoint(run, 1), .recorded)
        guard case .refused(.limitExceeded(.historyByteCount, _, 500)) = bench.checkpoint(run, 2) else {
            return XCTFail("the history went over its limit")
        }
        try bench.expectRestores()
    }

    // MARK: - Timers

    func test_aTimerFiresOnceWhenItIsDue() throws {
        let run = try bench.run()
        XCTAssertEqual(bench.timer(run, 0, 500), .timerStarted(fireAtMilliseconds: 1500))
        XCTAssertEqual(bench.effects, [.timerStarted(run, position: 0, fireAtMilliseconds: 1500)])
        bench.time = 1200
        XCTAssertEqual(bench.timer(run, 0, 500), .timerStarted(fireAtMilliseconds: 1500), "it stays as it is")
        XCTAssertEqual(bench.effects, [])
        XCTAssertEqual(bench.fire(run, 0), .refused(.timerNotDue(fireAtMilliseconds: 1500)))
        XCTAssertEqual(bench.fire(run, 1), .refused(.unknownTimer(position: 1)))
        XCTAssertEqual(bench.machine.nextTimerMilliseconds, 1500)
        XCTAssertEqual(bench.machine.dueTimers(at: 1499, limit: 10), [])
        XCTAssertEqual(
            bench.machine.dueTimers(at: 1500, limit: 10), [Command.TimerFire(run: run, position: 0)])
        XCTAssertTrue(try bench.get(run).records[0].isPending)
        try bench.expectRestores()
        bench.time = 1500
        XCTAssertEqual(bench.fire(run, 0), .timerFired)
        XCTAssertEqual(bench.effects, [.timerFired(run, position: 0)])
        XCTAssertEqual(bench.fire(run, 0), .timerFired)
        XCTAssertEqual(bench.effects, [], "a timer fires once")
        XCTAssertEqual(bench.timer(run, 0, 500), .timerFired)
        XCTAssertFalse(try bench.get(run).records[0].isPending)
        XCTAssertNil(bench.machine.nextTimerMilliseconds)
        try bench.expectRestores()
    }

    func test_timersFireInOrderWhoeverOwnsTheRun() throws {
        let first = try bench.run("a")
        let second = try bench.run("b")
        _ = bench.timer(first, 0, 300)
        _ = bench.timer(second, 0, 100)
        _ = bench.timer(second, 1, 300)
        _ = bench.timer(second, 2, .max)
        XCTAssertEqual(bench.change(second), .ownerChanged(2))
        bench.machine = try WorkflowMachine(snapshot: bench.machine.snapshot())
        let due = bench.machine.dueTimers(at: 1300, limit: 10)
        XCTAssertEqual(due.map { "\($0.run) \($0.position)" }, ["1-2 0", "1-1 0", "1-2 1"])
        XCTAssertEqual(bench.machine.dueTimers(at: 1300, limit: 2).count, 2)
        bench.time = 1300
        for fire in due { XCTAssertEqual(bench.apply(.timerFire(fire)), .timerFired) }
        XCTAssertEqual(bench.machine.nextTimerMilliseconds, .max, "a duration beyond all times is no overflow")
        XCTAssertEqual(bench.checkpoint(second, 3, epoch: 2), .recorded)
        XCTAssertEqual(bench.fire(second, 3), .refused(.unknownTimer(position: 3)), "a step is no timer")
        XCTAssertEqual(bench.end(second, epoch: 2), .ended)
        XCTAssertEqual(bench.machine.pendingTimerCount, 0, "the timers of a run end with it")
        XCTAssertEqual(bench.fire(second, 2), .refused(.runEnded(second, .completed)))
        try bench.expectRestores()
    }

    // MARK: - Variables

    func test_variablesHaveRisingRevisions() throws {
        XCTAssertEqual(bench.put("a", "1"), .variable(revision: 1))
        XCTAssertEqual(bench.put("b", "1"), .variable(revision: 2))
        XCTAssertEqual(bench.put("a", "2"), .variable(revision: 3))
        XCTAssertEqual(bench.machine.variable("a"), Variable(value: Array("2".utf8), revision: 3))
        XCTAssertEqual(bench.swap("a", 1, "x"), .swapped(false, revision: 3))
        XCTAssertEqual(bench.swap("a", 3, "3"), .swapped(true, revision: 4))
        XCTAssertEqual(bench.swap("a", 0, "x"), .swapped(false, revision: 4))
        XCTAssertEqual(bench.swap("c", 7, "x"), .swapped(false, revision: 0))
        XCTAssertEqual(bench.swap("c", 0, "1"), .swapped(true, revision: 5))
        XCTAssertEqual(bench.delete("a"), .deleted(existed: true))
        XCTAssertEqual(bench.delete("a"), .deleted(existed: false))
        XCTAssertNil(bench.machine.variable("a"))
        XCTAssertEqual(bench.put("a", "4"), .variable(revision: 6), "a revision is never given twice")
        XCTAssertEqual(bench.effects, [])
        try bench.expectRestores()
    }

    func test_theSameRequestAboutAVariableGetsTheSameAnswer() throws {
        XCTAssertEqual(bench.put("a", "1", requestID: "r"), .variable(revision: 1))
        XCTAssertEqual(bench.put("a", "2"), .variable(revision: 2))
        XCTAssertEqual(bench.put("a", "1", requestID: "r"), .variable(revision: 1))
        XCTAssertEqual(bench.machine.variable("a")?.value, Array("2".utf8), "it is not put again")
        XCTAssertEqual(bench.swap("a", 2, "3", requestID: "r"), .swapped(true, revision: 3), "another kind")
        XCTAssertEqual(bench.swap("a", 2, "3", requestID: "r"), .swapped(true, revision: 3))
        XCTAssertEqual(bench.swap("a", 1, "4", requestID: "s"), .swapped(false, revision: 3))
        XCTAssertEqual(bench.delete("a", requestID: "r"), .deleted(existed: true))
        XCTAssertEqual(bench.delete("a", requestID: "r"), .deleted(existed: true))
        try bench.expectRestores()
        bench.machine = try WorkflowMachine(snapshot: bench.machine.snapshot())
        XCTAssertEqual(bench.put("a", "1", requestID: "r"), .variable(revision: 1))
        XCTAssertEqual(bench.swap("a", 1, "4", requestID: "s"), .swapped(false, revision: 3))
        XCTAssertEqual(bench.delete("a", requestID: "r"), .deleted(existed: true))
    }

    func test_theOldestRequestIsForgottenFirst() throws {
        var limits = WorkflowLimits()
        limits.rememberedRequestCountMax = 2
        let bench = Bench(limits: limits)
        XCTAssertEqual(bench.put("a", "1", requestID: "1"), .variable(revision: 1))
        XCTAssertEqual(bench.put("a", "1", requestID: "2"), .variable(revision: 2))
        XCTAssertEqual(bench.put("a", "1", requestID: "3"), .variable(revision: 3))
        XCTAssertEqual(bench.put("a", "1", requestID: "2"), .variable(revision: 2))
        XCTAssertEqual(bench.put("a", "1", requestID: "1"), .variable(revision: 4))
        try bench.expectRestores()
    }

    func test_variablesThatAreRefused() throws {
        var limits = WorkflowLimits()
        limits.variableKeyByteCountMax = 3
        limits.variableValueByteCountMax = 4
        limits.variableCountMax = 2
        let bench = Bench(limits: limits)
        XCTAssertEqual(bench.put("", "1"), .refused(.invalid("the key is empty")))
        XCTAssertEqual(bench.delete(""), .refused(.invalid("the key is empty")))
        XCTAssertEqual(
            bench.put("abcd", "1"), .refused(.limitExceeded(.variableKeyByteCount, value: 4, max: 3)))
        XCTAssertEqual(
            bench.swap("abcd", 0, "1"), .refused(.limitExceeded(.variableKeyByteCount, value: 4, max: 3)))
        XCTAssertEqual(
            bench.put("a", "12345", requestID: "r"),
            .refused(.limitExceeded(.variableValueByteCount, value: 5, max: 4)))
        XCTAssertEqual(bench.put("a", "1234", requestID: "r"), .variable(revision: 1), "refusals are not kept")
        XCTAssertEqual(bench.put("b", "1"), .variable(revision: 2))
        XCTAssertEqual(bench.put("c", "1"), .refused(.limitExceeded(.variableCount, value: 3, max: 2)))
        XCTAssertEqual(bench.put("b", "2"), .variable(revision: 3))
        try bench.expectRestores()
    }

    func test_theWholeStateIsBounded() throws {
        var limits = WorkflowLimits()
        limits.stateByteCountMax = 8000
        limits.endedByteCountMax = 3000
        let bench = Bench(limits: limits)
        var count = 0
        while case .variable = bench.put("k\(count)", String(repeating: "x", count: 100)) { count += 1 }
        XCTAssertLessThanOrEqual(bench.machine.stateByteCount, 7000)
        XCTAssertGreaterThan(bench.machine.stateByteCount, 6800)
        guard case .refused(.limitExceeded(.stateByteCount, _, 7000)) = bench.start() else {
            return XCTFail("a run started beyond the limit")
        }
        XCTAssertEqual(bench.delete("k0"), .deleted(existed: true))
        XCTAssertEqual(bench.delete("k1"), .deleted(existed: true))
        XCTAssertEqual(bench.delete("k2"), .deleted(existed: true))
        let run = try bench.run()
        XCTAssertEqual(bench.checkpoint(run, 0), .recorded, "runs in flight have the last eighth")
        var position: UInt32 = 1
        while case .recorded = bench.checkpoint(run, position) { position += 1 }
        XCTAssertLessThanOrEqual(bench.machine.stateByteCount, 8000)
        XCTAssertEqual(bench.end(run), .ended, "an end is always possible")
        try bench.expectRestores()
    }

    // MARK: - Origins

    func test_anOriginIsAppliedOnce() throws {
        func put(_ sequence: UInt64, node: NodeID = 1, incarnation: Incarnation = 1) -> CommandResult {
            let origin = CommandOrigin(node: node, incarnation: incarnation, sequence: sequence)
            return bench.apply(.variablePut(Command.VariablePut(key: "a", value: [])), origin: origin)
        }
        XCTAssertEqual(put(1), .variable(revision: 1))
        XCTAssertEqual(put(3), .variable(revision: 2))
        XCTAssertEqual(put(1), .duplicate)
        XCTAssertEqual(put(3), .duplicate)
        XCTAssertEqual(put(2), .variable(revision: 3))
        XCTAssertEqual(put(1, node: 2), .variable(revision: 4))
        try bench.expectRestores()
        bench.machine = try WorkflowMachine(snapshot: bench.machine.snapshot())
        XCTAssertEqual(put(2), .duplicate)
        XCTAssertEqual(put(1, incarnation: 2), .variable(revision: 5))
        XCTAssertEqual(put(4), .refused(.superseded), "nobody waits for an earlier life's answer")
        XCTAssertEqual(put(1, incarnation: 2), .duplicate)
        // Refusals use the origin up as well: the answer has been given.
        let origin = CommandOrigin(node: 1, incarnation: 2, sequence: 9)
        let refused = bench.apply(
            .end(Command.End(run: unknown, epoch: 1, status: .failed, result: nil)), origin: origin)
        XCTAssertEqual(refused, .refused(.unknownRun(unknown)))
        XCTAssertEqual(put(9, incarnation: 2), .duplicate)
    }

    // MARK: - Forgetting

    func test_endedRunsAreForgottenInTheOrderOfTheirEnds() throws {
        var limits = WorkflowLimits()
        limits.endedCountMax = 2
        let bench = Bench(limits: limits)
        let runs = try (0..<4).map { try bench.run("w\($0)") }
        XCTAssertEqual(bench.end(runs[2]), .ended)
        XCTAssertEqual(bench.end(runs[0]), .ended)
        bench.machine = try WorkflowMachine(snapshot: bench.machine.snapshot(), limits: limits)
        XCTAssertEqual(bench.end(runs[1]), .ended)
        XCTAssertEqual(bench.effects, [.ended(runs[1]), .forgotten(runs[2])])
        XCTAssertNil(bench.machine.run(runs[2]))
        XCTAssertNil(bench.machine.newestRun(workflowID: "w2"))
        XCTAssertNotNil(bench.machine.newestRun(workflowID: "w0"))
        XCTAssertEqual(bench.machine.runCount, 3)
        XCTAssertEqual(bench.end(runs[2]), .refused(.unknownRun(runs[2])))
        try bench.expectRestores()
    }

    func test_aNewerRunOutlivesTheOldOneOfItsID() throws {
        var limits = WorkflowLimits()
        limits.endedCountMax = 1
        let bench = Bench(limits: limits)
        let first = try bench.run("a")
        XCTAssertEqual(bench.end(first), .ended)
        let second = try bench.run("a")
        let other = try bench.run("b")
        XCTAssertEqual(bench.end(other), .ended)
        XCTAssertNil(bench.machine.run(first))
        XCTAssertEqual(bench.machine.newestRun(workflowID: "a")?.id, second)
    }

    func test_endedRunsAreBoundedByTheirBytes() throws {
        var limits = WorkflowLimits()
        limits.endedByteCountMax = 2000
        let bench = Bench(limits: limits)
        for number in 0..<50 {
            let run = try bench.run("w\(number)")
            _ = bench.checkpoint(run, 0)
            XCTAssertEqual(bench.end(run), .ended)
            XCTAssertLessThanOrEqual(bench.machine.stateByteCount, 2000)
        }
        XCTAssertEqual(bench.machine.runCount, bench.machine.count(of: .completed))
        XCTAssertGreaterThan(bench.machine.runCount, 3)
        try bench.expectRestores()
    }

    // MARK: - Queries

    func test_listingGoesFromNewToOldInPages() throws {
        for number in 0..<10 {
            guard case .started(let run, _) = bench.start("w\(number)", type: number % 2 == 0 ? "even" : "odd") else {
                return XCTFail("did not start")
            }
            if number < 4 { XCTAssertEqual(bench.end(run, number < 2 ? .failed : .completed), .ended) }
        }
        func ids(_ type: String? = nil, _ status: WorkflowStatus? = nil, limit: Int) -> [[String]] {
            var pages: [[String]] = []
            var next: RunID?
            repeat {
                let page = bench.machine.list(type: type, status: status, limit: limit, after: next)
                pages.append(page.runs.map(\.workflowID))
                next = page.next
            } while next != nil
            return pages
        }
        XCTAssertEqual(ids(limit: 4), [["w9", "w8", "w7", "w6"], ["w5", "w4", "w3", "w2"], ["w1", "w0"]])
        XCTAssertEqual(ids(limit: 5), [["w9", "w8", "w7", "w6", "w5"], ["w4", "w3", "w2", "w1", "w0"]])
        XCTAssertEqual(ids("even", limit: 100), [["w8", "w6", "w4", "w2", "w0"]])
        XCTAssertEqual(ids(nil, .failed, limit: 1), [["w1"], ["w0"]])
        XCTAssertEqual(ids("odd", .running, limit: 100), [["w9", "w7", "w5"]])
        XCTAssertEqual(ids("none", limit: 100), [[]])
        XCTAssertEqual(ids(nil, .cancelled, limit: 100), [[]])
        XCTAssertEqual(bench.machine.list(limit: 0).runs.count, 0)
        XCTAssertEqual(bench.machine.count(of: .running), 6)
        XCTAssertEqual(bench.machine.count(of: .failed), 2)
    }

    func test_aPageLooksAtABoundedNumberOfRuns() throws {
        var limits = WorkflowLimits()
        limits.listScanCountMax = 3
        let bench = Bench(limits: limits)
        for number in 0..<7 { _ = try bench.run("w\(number)") }
        let first = bench.machine.list(type: "rare", limit: 10)
        XCTAssertEqual(first.runs.count, 0)
        let next = try XCTUnwrap(first.next)
        let second = bench.machine.list(limit: 10, after: next)
        XCTAssertEqual(second.runs.map(\.workflowID), ["w3", "w2", "w1"])
    }

    func test_runsAreFoundByTheirOwners() throws {
        let runs = try (0..<6).map {
            try bench.run("w\($0)", owner: $0 < 4 ? 1 : 2, incarnation: $0 % 2 == 0 ? 1 : 2)
        }
        XCTAssertEqual(bench.machine.owners, [1, 2])
        XCTAssertEqual(bench.machine.runCount(ownedBy: 1), 4)
        XCTAssertEqual(bench.machine.runs(ownedBy: 1).map(\.id), [runs[0], runs[2], runs[1], runs[3]])
        XCTAssertEqual(bench.machine.runs(ownedBy: 1, limit: 3).count, 3)
        XCTAssertEqual(bench.machine.runs(ownedBy: 1, except: 2).map(\.id), [runs[0], runs[2]])
        XCTAssertEqual(bench.machine.runCount(ownedBy: 1, except: 2), 2)
        XCTAssertEqual(bench.machine.runs(ownedBy: 9).count, 0)
        XCTAssertEqual(bench.change(runs[0], from: 1, to: 1, incarnation: 2), .ownerChanged(2))
        XCTAssertEqual(bench.machine.runs(ownedBy: 1, except: 2).map(\.id), [runs[2]])
        for run in [runs[4], runs[5]] { XCTAssertEqual(bench.end(run), .ended) }
        XCTAssertEqual(bench.machine.owners, [1])
    }
}
