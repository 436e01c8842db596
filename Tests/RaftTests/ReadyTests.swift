import Prelude
import XCTest

@testable import Raft

final class ReadyTests: XCTestCase {
    /// A single voter, elected, whose storage work is done by the tests.
    private func leader() throws -> (RawNode, MemoryStorage) {
        let storage = MemoryStorage()
        try storage.applySnapshot(
            Snapshot(metadata: SnapshotMetadata(index: 2, term: 1, confState: ConfState(voters: [1]))))
        var configuration = RaftConfiguration(id: 1, random: SeededRandom(seed: 1))
        configuration.applied = 2
        configuration.asyncStorageWrites = true
        let node = try RawNode(configuration, storage: storage)
        try node.campaign()
        return (node, storage)
    }

    private func write(_ ready: Ready, _ node: RawNode, _ storage: MemoryStorage) throws {
        for message in ready.messages where message.to == .localAppendThread {
            storage.append(message.entries)
            for response in message.responses { try node.step(response) }
        }
    }

    private func applied(_ ready: Ready) -> Message? { ready.messages.first { $0.to == .localApplyThread } }

    func testOneReadyAfterTheOtherInTheSamePlace() throws {
        let (node, storage) = try leader()
        let (twin, twinStorage) = try leader()
        var ready = Ready()
        var count = 0
        while node.hasReady {
            node.takeReady(into: &ready)
            let fresh = twin.ready()
            XCTAssertEqual(ready.messages, fresh.messages)
            XCTAssertEqual(ready.entries, fresh.entries)
            XCTAssertEqual(ready.committedEntries, fresh.committedEntries)
            XCTAssertEqual(ready.hardState, fresh.hardState)
            XCTAssertEqual(ready.softState, fresh.softState)
            XCTAssertEqual(ready.mustSync, fresh.mustSync)
            try write(ready, node, storage)
            try write(fresh, twin, twinStorage)
            if let message = applied(ready) { try node.stepApplied(message) }
            for response in applied(fresh)?.responses ?? [] { try twin.step(response) }
            XCTAssertEqual(node.appliedIndex, twin.appliedIndex)
            count += 1
            if count == 2 {
                try node.propose([7])
                try twin.propose([7])
            }
        }
        XCTAssertFalse(twin.hasReady)
        XCTAssertEqual(node.appliedIndex, node.lastIndex)
        XCTAssertGreaterThan(count, 3)
    }

    func testOnlyWhatWasToBeAppliedIsApplied() throws {
        let (node, _) = try leader()
        let append = try XCTUnwrap(node.ready().messages.first { $0.to == .localAppendThread })
        XCTAssertThrowsError(try node.stepApplied(append))
        let early = Message(kind: .storageApply, entries: [Entry(term: 2, index: 3)])
        XCTAssertThrowsError(try node.stepApplied(early), "never handed out")
        XCTAssertEqual(node.appliedIndex, 2)
    }

    func testResponsesLeaveTheirMessage() {
        let response = Message(kind: .storageAppendResponse, to: 1)
        var message = Message(kind: .storageAppend, context: [1], responses: [response])
        XCTAssertEqual(message.takeResponses(), [response])
        XCTAssertEqual(message, Message(kind: .storageAppend, context: [1]))
        XCTAssertEqual(message.takeResponses(), [])
    }
}
