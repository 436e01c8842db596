import Prelude
import Raft
import Wire
import Workflow
import XCTest

@testable import Node

/// A long log that is committed and not applied, as a start finds it: applied in bounded pieces, one a turn.
final class BacklogTests: XCTestCase {
    private static let entryCount: UInt64 = 3_000
    private static let begin: LogIndex = 1

    /// Small pieces, of which the entries make many.
    private var limits: Limits {
        var limits = Limits()
        limits.raft.committedByteCountPerReadyMax = 4 << 10
        limits.node.appliedByteCountPerTurnMax = 128 << 10
        limits.node.appliedEntryCountPerTurnMax = 512
        return limits
    }

    private func makeGroup(_ limits: Limits, payloadByteCount: Int = 40) throws -> RaftGroup {
        let machine = WorkflowGroupMachine(group: 1, limits: limits.workflow)
        let metadata = SnapshotMetadata(index: Self.begin, term: 1, confState: ConfState(voters: [1, 2, 3]))
        let content = GroupSnapshot(digest: 0, machine: machine.snapshot())
        let entries = (1...Self.entryCount).map { number in
            let origin = CommandOrigin(node: 1, incarnation: 1, sequence: number)
            let payload = [UInt8](repeating: 0, count: payloadByteCount)
            return Entry(
                term: 1, index: Self.begin + number, data: ProposalEnvelope.encode(payload: payload, origin: origin))
        }
        return try RaftGroup(
            id: 1, node: 1, incarnation: 2,
            recovered: GroupRecovery(
                snapshot: Snapshot(metadata: metadata, data: content.encoded()),
                hardState: HardState(term: 1, vote: 2, commit: Self.begin + Self.entryCount), entries: entries),
            machine: machine, limits: limits, random: SeededRandom(seed: 1))
    }

    /// How many entries a turn applied, and what it wants to be sent.
    private func turn(_ group: RaftGroup) throws -> (appliedCount: UInt64, messages: [Message]) {
        let before = group.appliedIndex
        var messages: [Message] = []
        try group.takeTurn(now: 0) { output in
            messages += output.messages
            for message in output.writes { messages += try group.written(message) }
        }
        return (group.appliedIndex - before, messages)
    }

    func test_aTurnAppliesABoundedNumberOfEntries() throws {
        let group = try makeGroup(limits)
        let bound = limits.node.appliedEntryCountPerTurnMax
        // The piece that reaches the bound is applied whole.
        let pieceMax = limits.raft.committedByteCountPerReadyMax / 40
        var turnCount = 0
        while group.core.hasReady {
            let count = try turn(group).appliedCount
            turnCount += 1
            XCTAssertLessThan(count, bound + pieceMax)
            XCTAssertGreaterThan(count, 0, "each turn gets on")
            guard count > 0 else { break }
        }
        XCTAssertEqual(group.appliedIndex, Self.begin + Self.entryCount)
        XCTAssertGreaterThan(turnCount, 1)
    }

    func test_aTurnAppliesABoundedNumberOfBytes() throws {
        var limits = limits
        limits.raft.committedByteCountPerReadyMax = 1_000
        limits.node.appliedByteCountPerTurnMax = 2_000
        let group = try makeGroup(limits, payloadByteCount: 400)
        var turnCount: UInt64 = 0
        while group.core.hasReady {
            let count = try turn(group).appliedCount
            turnCount += 1
            XCTAssertLessThan(count * 400, 2_000 + 1_000)
            guard count > 0 else { return XCTFail("each turn gets on") }
        }
        XCTAssertEqual(group.appliedIndex, Self.begin + Self.entryCount)
        XCTAssertGreaterThanOrEqual(turnCount, Self.entryCount * 400 / 3_000)
    }

    func test_heartbeatsAreAnsweredWhileABacklogIsApplied() throws {
        let group = try makeGroup(limits)
        var answerCount = 0
        while group.core.hasReady {
            group.step(
                Message(kind: .heartbeat, to: 1, from: 2, term: 2, commit: Self.begin + Self.entryCount),
                wallMilliseconds: 0)
            let turn = try turn(group)
            if group.appliedIndex < Self.begin + Self.entryCount {
                // The next turn sends it when this one was ended by its share.
                answerCount += turn.messages.count { $0.kind == .heartbeatResponse && $0.to == 2 }
            } else if !group.core.hasReady {
                break
            }
        }
        XCTAssertEqual(group.leader, 2)
        XCTAssertGreaterThan(answerCount, 0)
        XCTAssertEqual(group.appliedIndex, Self.begin + Self.entryCount)
    }

    func test_theStoreIsBroughtUpToDateMoreOftenWhileABacklogIsApplied() throws {
        var limits = limits
        limits.node.replayedStoreEntryCount = 700
        let group = try makeGroup(limits)
        var batches: [LogIndex] = []
        while group.core.hasReady {
            guard try turn(group).appliedCount > 0 else { return XCTFail("each turn gets on") }
            if group.wantsStoring { batches.append(group.takeBatch().head.metadata.index) }
        }
        XCTAssertGreaterThan(batches.count, 1, "\(batches)")
        XCTAssertFalse(group.wantsStoring)
    }

    func test_theLimitsOfATurnAgree() {
        var limits = Limits()
        limits.node.appliedByteCountPerTurnMax = limits.raft.committedByteCountPerReadyMax - 1
        XCTAssertThrowsError(try limits.validate())
        limits = Limits()
        limits.raft.committedByteCountPerReadyMax = 0
        XCTAssertThrowsError(try limits.validate())
        limits = Limits()
        limits.node.appliedEntryCountPerTurnMax = 0
        XCTAssertThrowsError(try limits.validate())
        limits = Limits()
        limits.node.replayedStoreEntryCount = 0
        XCTAssertThrowsError(try limits.validate())
    }
}
