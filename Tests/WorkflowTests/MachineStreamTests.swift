import Prelude
import XCTest

@testable import Workflow

/// Draws commands that often meet each other: few ids, few positions, old and new epochs.
private struct CommandStream {
    var random: SeededRandom
    private var sequence: UInt64 = 0
    private var incarnation: Incarnation = 1

    init(seed: UInt64) { random = SeededRandom(seed: seed) }

    mutating func draw(_ count: UInt64) -> UInt64 { random.next() % count }

    mutating func origin() -> CommandOrigin? {
        switch draw(10) {
        case 0: return nil
        case 1: return CommandOrigin(node: 1, incarnation: incarnation, sequence: draw(sequence + 1) + 1)
        case 2:
            return CommandOrigin(
                node: NodeID(draw(3) + 1), incarnation: Incarnation(draw(3) + 1), sequence: draw(900) + 1)
        default:
            if draw(200) == 0 { incarnation = Incarnation(incarnation.rawValue + 1) }
            sequence += draw(20) == 0 ? draw(500) + 1 : 1
            return CommandOrigin(node: 1, incarnation: incarnation, sequence: sequence)
        }
    }

    mutating func command(_ machine: WorkflowMachine, _ index: LogIndex) -> Command {
        let page = machine.list(limit: 8)
        let pick = page.runs.isEmpty ? nil : page.runs[Int(draw(UInt64(page.runs.count)))]
        let run = draw(30) == 0 ? RunID(group: 1, index: LogIndex(draw(index.rawValue))) : pick?.id
        let id = run ?? RunID(group: 1, index: 1)
        let current = pick?.epoch.rawValue ?? 1
        let epoch = Epoch(draw(10) == 0 ? max(1, current + draw(3) - 1) : current)
        let position = UInt32(draw(12))
        switch draw(100) {
        case 0..<20: return start()
        case 20..<28: return end(id, epoch)
        case 28..<55: return checkpoint(id, epoch, position)
        case 55..<63:
            return .ownerChange(
                Command.OwnerChange(
                    run: id, oldOwner: pick?.owner ?? 1, newOwner: NodeID(draw(4)),
                    newOwnerIncarnation: Incarnation(draw(3) + 1), reason: .nodeFailure, epoch: epoch))
        case 63..<70:
            return .timerStart(
                Command.TimerStart(
                    run: id, epoch: epoch, position: position, key: "k\(position % 3)",
                    durationMilliseconds: draw(50) == 0 ? .max : draw(200)))
        case 70..<78:
            return .timerFire(
                machine.dueTimers(at: .max, limit: 1).first ?? Command.TimerFire(run: id, position: position))
        case 78..<80: return .stall(Command.Stall(run: id, epoch: epoch, reason: draw(5) == 0 ? "" : "stalled"))
        default: return variable()
        }
    }

    private mutating func start() -> Command {
        .start(
            Command.Start(
                workflowID: draw(40) == 0 ? "" : "w\(draw(12))", type: "t\(draw(3))", version: UInt32(draw(2)),
                input: payload(), owner: NodeID(draw(3) + 1), ownerIncarnation: Incarnation(draw(2) + 1),
                requestID: draw(3) == 0 ? "r\(draw(20))" : ""))
    }

    private mutating func end(_ id: RunID, _ epoch: Epoch) -> Command {
        let status = WorkflowStatus(rawValue: UInt32(draw(6) + 1)) ?? .failed
        return .end(
            Command.End(
                run: id, epoch: epoch, status: status, result: draw(2) == 0 ? payload() : nil,
                failure: status == .failed ? "failed" : ""))
    }

    private mutating func checkpoint(_ id: RunID, _ epoch: Epoch, _ position: UInt32) -> Command {
        let isFailure = draw(6) == 0
        return .checkpoint(
            Command.Checkpoint(
                run: id, epoch: epoch, position: position,
                kind: CheckpointKind(rawValue: UInt32(position % 3)) ?? .step,
                key: draw(20) == 0 ? "other" : "k\(position % 3)", value: isFailure ? nil : payload(),
                failure: isFailure ? "no" : "", attempt: UInt32(draw(3) + 1)))
    }

    private mutating func variable() -> Command {
        let key = "v\(draw(15))"
        let value = [UInt8](repeating: UInt8(draw(256)), count: Int(draw(40)))
        let requestID = draw(3) == 0 ? "r\(draw(10))" : ""
        switch draw(4) {
        case 0: return .variableDelete(Command.VariableDelete(key: key, requestID: requestID))
        case 1:
            return .variableCompareAndSwap(
                Command.VariableCompareAndSwap(
                    key: key, expectedRevision: draw(3) == 0 ? 0 : draw(60), value: value, requestID: requestID))
        default: return .variablePut(Command.VariablePut(key: key, value: value, requestID: requestID))
        }
    }

    private mutating func payload() -> Payload {
        Payload(
            encoding: draw(4) == 0 ? "x" : Payload.jsonEncoding,
            data: [UInt8](repeating: UInt8(draw(256)), count: Int(draw(60))))
    }
}

final class MachineStreamTests: XCTestCase {
    private var limits: WorkflowLimits {
        var limits = WorkflowLimits()
        limits.payloadByteCountMax = 55
        limits.checkpointCountPerRunMax = 11
        limits.historyByteCountPerRunMax = 1700
        limits.endedCountMax = 6
        limits.endedByteCountMax = 5000
        limits.runningCountMax = 9
        limits.stateByteCountMax = 16_000
        limits.variableCountMax = 12
        limits.rememberedRequestCountMax = 8
        limits.originWindowCountMax = 256
        return limits
    }

    func test_aMachineFromASnapshotGoesOnAsTheOriginal() throws {
        var outcomes: Set<String> = []
        var comparisons: [Bool: Int] = [:]
        for seed in UInt64(1)...12 {
            var stream = CommandStream(seed: seed)
            let original = WorkflowMachine(group: 1, limits: limits)
            var copy = WorkflowMachine(group: 1, limits: limits)
            var time: Int64 = 0
            for step in UInt64(1)...1500 {
                time += Int64(stream.draw(40)) - 5
                let origin = stream.origin()
                let context = ApplyContext(group: 1, index: LogIndex(step), timeMilliseconds: time, origin: origin)
                let command = stream.command(original, LogIndex(step))
                let (result, effects) = original.apply(command, context)
                if step % 5 == 0 {
                    let isSame = original.snapshot() == copy.snapshot()
                    XCTAssertEqual(original.hasSameState(as: copy), isSame, "\(command)")
                    comparisons[isSame, default: 0] += 1
                }
                let (copyResult, copyEffects) = copy.apply(command, context)
                XCTAssertEqual(result, copyResult, "seed \(seed), step \(step)")
                XCTAssertEqual(effects, copyEffects, "seed \(seed), step \(step)")
                outcomes.insert(String("\(result)".prefix { $0 != "(" }))
                if stream.draw(25) == 0 {
                    let bytes = original.snapshot()
                    XCTAssertEqual(copy.snapshot(), bytes, "seed \(seed), step \(step)")
                    copy = try WorkflowMachine(snapshot: bytes, limits: limits)
                    XCTAssertEqual(copy.snapshot(), bytes, "seed \(seed), step \(step)")
                }
            }
            XCTAssertEqual(copy.snapshot(), original.snapshot())
            XCTAssertTrue(copy.hasSameState(as: original))
        }
        XCTAssertTrue(comparisons.values.allSatisfy { $0 > 100 } && comparisons.count == 2, "\(comparisons)")
        XCTAssertEqual(outcomes.count, 13, "every outcome comes up: \(outcomes.sorted())")
    }

    func test_aMachineFromItsContentIsTheSame() throws {
        for seed in UInt64(201)...208 {
            var stream = CommandStream(seed: seed)
            let machine = WorkflowMachine(group: 1, limits: limits)
            for step in UInt64(1)...600 {
                let context = ApplyContext(
                    group: 1, index: LogIndex(step), timeMilliseconds: Int64(step), origin: stream.origin())
                _ = machine.apply(stream.command(machine, LogIndex(step)), context)
                guard stream.draw(20) == 0 else { continue }
                var content = MachineContent()
                content.revision = machine.revision
                content.runs = machine.allRuns()
                content.variables = machine.allVariables()
                content.firstAnswer = machine.firstAnswer
                content.answers = machine.answers(from: 0)
                content.origins = machine.originWindows()
                let copy = try WorkflowMachine(content, group: 1, limits: limits)
                XCTAssertEqual(copy.snapshot(), machine.snapshot(), "seed \(seed), step \(step)")
            }
        }
    }

    func test_whatHoldsAfterEveryCommand() throws {
        for seed in UInt64(101)...106 {
            var stream = CommandStream(seed: seed)
            let machine = WorkflowMachine(group: 1, limits: limits)
            var recorded: [String: WorkflowRecord] = [:]
            var ended: [RunID: WorkflowStatus] = [:]
            var revision: UInt64 = 0
            for step in UInt64(1)...1200 {
                let context = ApplyContext(
                    group: 1, index: LogIndex(step), timeMilliseconds: Int64(step * 10), origin: stream.origin())
                let command = stream.command(machine, LogIndex(step))
                let before = machine.snapshot()
                let (result, effects) = machine.apply(command, context)
                switch result {
                case .refused, .duplicate, .alreadyRecorded:
                    XCTAssertEqual(effects, [], "\(result)")
                    if context.origin == nil { XCTAssertEqual(machine.snapshot(), before, "\(result)") }
                default: break
                }
                for (key, record) in records(of: machine) {
                    if let known = recorded[key] { XCTAssertEqual(record, known, "a record changed") }
                    recorded[key] = record
                }
                for run in machine.list(limit: .max).runs where run.status.isEnded {
                    if let known = ended[run.id] { XCTAssertEqual(run.status, known, "an end changed") }
                    ended[run.id] = run.status
                }
                XCTAssertGreaterThanOrEqual(machine.revision, revision)
                revision = machine.revision
                expectIndexes(machine)
            }
        }
    }

    /// Every record that will not change any more, by run and position.
    private func records(of machine: WorkflowMachine) -> [(String, WorkflowRecord)] {
        machine.list(limit: .max).runs.flatMap { run in
            run.records.filter { !$0.isPending }.map { ("\(run.id) \($0.position)", $0) }
        }
    }

    /// The indexes say what a look at every run says.
    private func expectIndexes(_ machine: WorkflowMachine) {
        let runs = machine.list(limit: .max).runs
        let running = runs.filter { $0.status == .running }
        XCTAssertEqual(runs.count, machine.runCount)
        XCTAssertEqual(Set(running.map(\.workflowID)).count, running.count, "one running run per id")
        XCTAssertLessThanOrEqual(running.count, limits.runningCountMax)
        for status in WorkflowStatus.allCases {
            XCTAssertEqual(machine.count(of: status), runs.count { $0.status == status })
        }
        XCTAssertEqual(machine.owners, Set(running.map(\.owner)).sorted())
        for node in machine.owners {
            let owned = running.filter { $0.owner == node }
            XCTAssertEqual(machine.runs(ownedBy: node).map(\.id).sorted(), owned.map(\.id).sorted())
            XCTAssertEqual(
                machine.runs(ownedBy: node, except: 1).map(\.id).sorted(),
                owned.filter { $0.ownerIncarnation != 1 }.map(\.id).sorted())
        }
        let pending = running.flatMap { run in run.records.filter(\.isPending).map { ($0.fireAtMilliseconds, run.id) } }
        XCTAssertEqual(machine.pendingTimerCount, pending.count)
        XCTAssertEqual(machine.nextTimerMilliseconds, pending.map(\.0).min())
        let byteCount = runs.reduce(0) { $0 + $1.byteCount } + machine.variableByteCount
        XCTAssertEqual(machine.stateByteCount, byteCount)
        XCTAssertLessThanOrEqual(byteCount, limits.stateByteCountMax + limits.runningCountMax * 200)
        XCTAssertLessThanOrEqual(runs.count - running.count, limits.endedCountMax)
    }

    func test_damagedSnapshotsAreRefused() throws {
        var stream = CommandStream(seed: 5)
        let machine = WorkflowMachine(group: 1, limits: limits)
        for step in UInt64(1)...400 {
            let context = ApplyContext(
                group: 1, index: LogIndex(step), timeMilliseconds: Int64(step * 10), origin: stream.origin())
            _ = machine.apply(stream.command(machine, LogIndex(step)), context)
        }
        let bytes = machine.snapshot()
        for length in 0..<bytes.count {
            XCTAssertThrowsError(try WorkflowMachine(snapshot: Array(bytes[..<length]), limits: limits))
        }
        XCTAssertThrowsError(try WorkflowMachine(snapshot: bytes + [0], limits: limits))
        var refused = 0
        for place in stride(from: 0, to: bytes.count, by: 3) {
            for flip: UInt8 in [0x01, 0x80, 0xFF] {
                var damaged = bytes
                damaged[place] ^= flip
                // Damage that still is a state must be one that works; a checksum tells that it is damage.
                guard let other = try? WorkflowMachine(snapshot: damaged, limits: limits) else {
                    refused += 1
                    continue
                }
                exercise(other, step: 401)
            }
        }
        XCTAssertGreaterThan(refused, bytes.count / 6)
    }

    private func exercise(_ machine: WorkflowMachine, step: UInt64) {
        var stream = CommandStream(seed: step)
        for step in step..<step + 10 {
            let context = ApplyContext(
                group: 1, index: LogIndex(step), timeMilliseconds: .max, origin: stream.origin())
            _ = machine.apply(stream.command(machine, LogIndex(step)), context)
        }
        _ = machine.snapshot()
    }
}
