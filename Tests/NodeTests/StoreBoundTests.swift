import Prelude
import Raft
import Wire
import Workflow
import XCTest

@testable import Node

/// How far a group may go ahead of its state store.
final class StoreBoundTests: XCTestCase {
    private func makeGroup(_ limits: Limits) throws -> RaftGroup {
        let machine = WorkflowGroupMachine(group: 1, limits: limits.workflow)
        let metadata = SnapshotMetadata(index: 1, term: 1, confState: ConfState(voters: [1]))
        let content = GroupSnapshot(digest: 0, machine: machine.snapshot())
        let group = try RaftGroup(
            id: 1, node: 1, incarnation: 1,
            recovered: GroupRecovery(
                snapshot: Snapshot(metadata: metadata, data: content.encoded()),
                hardState: HardState(term: 1, vote: .none, commit: 1)),
            machine: machine, limits: limits, random: SeededRandom(seed: 1))
        try group.core.campaign()
        try settle(group)
        XCTAssertTrue(group.isLeader)
        return group
    }

    private func settle(_ group: RaftGroup) throws {
        while group.core.hasReady {
            try group.takeTurn(now: 0) { for message in $0.writes { _ = try group.written(message) } }
        }
    }

    private func propose(_ sequence: UInt64, to group: RaftGroup) throws {
        let origin = CommandOrigin(node: 1, incarnation: 1, sequence: sequence)
        let data = ProposalEnvelope.encode(payload: [UInt8](repeating: 0, count: 100), origin: origin)
        group.proposals.add(sequence, data, expires: 1_000) { _ in }
        group.propose(now: 1, wallMilliseconds: 1)
        try settle(group)
    }

    func test_entriesThatTheStoreHasNotBeenHandedAreCounted() throws {
        var limits = Limits()
        limits.node.storeEntryCount = 5
        limits.node.unstoredEntryCountMax = 10
        let group = try makeGroup(limits)
        // The leader's first entry is one of them.
        for sequence in UInt64(1)...9 {
            XCTAssertEqual(group.wantsStoring, sequence > 4)
            XCTAssertFalse(group.isAheadOfStore)
            try propose(sequence, to: group)
        }
        XCTAssertTrue(group.isAheadOfStore)
        XCTAssertEqual(group.takeBatch().head.metadata.index, group.appliedIndex)
        XCTAssertFalse(group.wantsStoring || group.isAheadOfStore)
    }

    func test_theirBytesAreCountedToo() throws {
        var limits = Limits()
        limits.node.storeByteCount = 500
        limits.node.unstoredByteCountMax = 1_000
        let group = try makeGroup(limits)
        for sequence in UInt64(1)...12 where !group.isAheadOfStore { try propose(sequence, to: group) }
        XCTAssertTrue(group.isAheadOfStore)
        XCTAssertLessThan(group.appliedIndex, 12)
        _ = group.takeBatch()
        XCTAssertFalse(group.isAheadOfStore)
    }

    /// The first entry that the log still has, once the store has everything and an image as of `held` is being fetched.
    private func firstKept(_ limits: Limits, held: LogIndex?) throws -> (first: LogIndex, stored: LogIndex) {
        let group = try makeGroup(limits)
        for sequence in UInt64(1)...40 { try propose(sequence, to: group) }
        let stored = group.takeBatch().head.metadata.index
        let end = group.noteStored(upTo: stored, keepsEntries: false, held: held)
        XCTAssertEqual(end.map { $0 + 1 }, group.log.firstIndex)
        return (group.log.firstIndex, stored)
    }

    func test_whatComesAfterAnImageThatIsFetchedStaysUpToABound() throws {
        var limits = Limits()
        let all = try firstKept(limits, held: nil)
        XCTAssertEqual(all.first, all.stored + 1, "nobody needs any of it")
        XCTAssertEqual(try firstKept(limits, held: 7).first, 8)
        limits.node.imageHeldEntryCountMax = 10
        let byCount = try firstKept(limits, held: 7)
        XCTAssertEqual(byCount.first, byCount.stored - 9)
        XCTAssertEqual(try firstKept(limits, held: byCount.stored - 3).first, byCount.stored - 2)
        limits = Limits()
        // Four of them, each with 100 bytes and its envelope.
        limits.node.imageHeldByteCountMax = 4 * UInt64(100 + ProposalEnvelope.byteCount) + 50
        let byBytes = try firstKept(limits, held: 7)
        XCTAssertEqual(byBytes.first, byBytes.stored - 3)
    }

    func test_theLimitsOfTheStoreAgree() {
        var limits = Limits()
        limits.node.unstoredEntryCountMax = limits.node.storeEntryCount - 1
        XCTAssertThrowsError(try limits.validate())
        limits = Limits()
        limits.node.unstoredByteCountMax = limits.node.storeByteCount - 1
        XCTAssertThrowsError(try limits.validate())
    }
}
