import Prelude
import Raft
import Wire
import Workflow
import XCTest

@testable import Node

final class PendingTests: XCTestCase {
    // MARK: - Proposals

    func test_proposalsGoOutOnceInOrderAndWithinTheirBytes() {
        var pending = PendingProposals()
        for sequence in UInt64(1)...5 { pending.add(sequence, [UInt8](repeating: 0, count: 10), expires: 100) { _ in } }
        XCTAssertEqual(pending.nextBatch(byteCountMax: 25, now: 1).map(\.sequence), [1, 2])
        XCTAssertEqual(
            pending.nextBatch(byteCountMax: 5, now: 1).map(\.sequence), [3], "one goes out whatever its size")
        XCTAssertEqual(pending.nextBatch(byteCountMax: 1000, now: 1).map(\.sequence), [4, 5])
        XCTAssertFalse(pending.hasUnproposed)
        XCTAssertEqual(pending.byteCount, 50)
    }

    func test_whatIsGivenBackComesFirst() {
        var pending = PendingProposals()
        for sequence in UInt64(1)...3 { pending.add(sequence, [0], expires: 100) { _ in } }
        let batch = pending.nextBatch(byteCountMax: 2, now: 1)
        pending.giveBack(batch)
        XCTAssertEqual(pending.nextBatch(byteCountMax: 10, now: 2).map(\.sequence), [1, 2, 3])
    }

    func test_aLostLeaderMeansProposingAgainWhatIsNotApplied() {
        var pending = PendingProposals()
        for sequence in UInt64(1)...3 { pending.add(sequence, [0], expires: 100) { _ in } }
        _ = pending.nextBatch(byteCountMax: 10, now: 1)
        XCTAssertNotNil(pending.complete(2))
        XCTAssertNil(pending.complete(2), "completed once")
        pending.proposeAllAgain()
        XCTAssertEqual(pending.nextBatch(byteCountMax: 10, now: 2).map(\.sequence), [1, 3])
    }

    func test_silenceMeansProposingAgain() {
        var pending = PendingProposals()
        pending.add(1, [0], expires: 100) { _ in }
        _ = pending.nextBatch(byteCountMax: 10, now: 5)
        pending.proposeAgain(proposedBefore: 5, countMax: 10)
        XCTAssertFalse(pending.hasUnproposed)
        pending.proposeAgain(proposedBefore: 6, countMax: 10)
        XCTAssertEqual(pending.nextBatch(byteCountMax: 10, now: 7).map(\.sequence), [1])
    }

    func test_proposalsAreFoundByTheirSequenceWhateverIsDoneOrLeftOut() {
        var pending = PendingProposals()
        var random = SeededRandom(seed: 7)
        var waiting: Set<UInt64> = []
        var next: UInt64 = 1
        for _ in 0..<5_000 {
            if Int.random(in: 0..<3, using: &random) > 0 || waiting.isEmpty {
                // Other groups take sequences in between.
                next += UInt64.random(in: 1...3, using: &random)
                pending.add(next, [UInt8](repeating: 0, count: Int(next % 5)), expires: 100) { _ in }
                waiting.insert(next)
            } else {
                let sequence = UInt64.random(in: 0...next + 2, using: &random)
                XCTAssertEqual(pending.complete(sequence) != nil, waiting.remove(sequence) != nil)
                XCTAssertNil(pending.complete(sequence))
            }
            XCTAssertEqual(pending.count, waiting.count)
        }
        XCTAssertEqual(pending.byteCount, waiting.reduce(0) { $0 + Int($1 % 5) })
        XCTAssertEqual(pending.nextBatch(byteCountMax: .max, now: 1).map(\.sequence), waiting.sorted())
        pending.proposeAllAgain()
        XCTAssertEqual(pending.nextBatch(byteCountMax: .max, now: 2).map(\.sequence), waiting.sorted())
        XCTAssertEqual(pending.expire(now: 100).count, waiting.count)
        XCTAssertEqual(pending.count, 0)
        XCTAssertEqual(pending.byteCount, 0)
        XCTAssertFalse(pending.hasUnproposed)
    }

    func test_proposalsExpireInOrder() {
        var pending = PendingProposals()
        var outcomes: [UInt64] = []
        for sequence in UInt64(1)...3 {
            pending.add(sequence, [0], expires: 10 * sequence) { _ in outcomes.append(sequence) }
        }
        for completion in pending.expire(now: 20) { completion(.failure(.shuttingDown)) }
        XCTAssertEqual(outcomes, [1, 2])
        XCTAssertEqual(pending.count, 1)
        XCTAssertEqual(pending.nextBatch(byteCountMax: 10, now: 21).map(\.sequence), [3])
    }

    func test_whatExpiresWithoutALeaderIsForgotten() {
        var pending = PendingProposals()
        for sequence in UInt64(1)...100 {
            pending.add(sequence, [0], expires: 10) { _ in }
        }
        XCTAssertEqual(pending.expire(now: 10).count, 100)
        XCTAssertFalse(pending.hasUnproposed)
    }

    func test_theLogKeepsWhatFitsIntoCountAndBytes() {
        let log = MemoryStorage()
        log.append((1...10).map { Entry(term: 1, index: LogIndex($0), data: [UInt8](repeating: 0, count: 10)) })
        XCTAssertEqual(log.compactionEnd(before: 8, countMax: 3, byteCountMax: 1000), 5)
        XCTAssertEqual(log.compactionEnd(before: 8, countMax: 100, byteCountMax: 1000), 0)
        XCTAssertEqual(log.compactionEnd(before: 8, countMax: 100, byteCountMax: 25), 6)
        XCTAssertEqual(log.compactionEnd(before: 8, countMax: 100, byteCountMax: 5), 8)
        try? log.compact(to: 4)
        XCTAssertEqual(log.compactionEnd(before: 8, countMax: 100, byteCountMax: 1000), 4)
        XCTAssertEqual(log.compactionEnd(before: 4, countMax: 100, byteCountMax: 1000), 4)
    }

    // MARK: - Reads

    func test_readsShareOneQuestionAndWaitForTheMachine() throws {
        var reads = PendingReads()
        var answered = 0
        for _ in 0..<3 { reads.add(expires: 100) { _ in answered += 1 } }
        let question = try XCTUnwrap(reads.nextQuestion(now: 1, retryAfter: 10))
        reads.add(expires: 100) { _ in answered += 1 }
        XCTAssertNil(reads.nextQuestion(now: 2, retryAfter: 10), "one question at a time")
        reads.confirm(question, index: 7)
        XCTAssertTrue(reads.takeReady(applied: 6).isEmpty)
        for completion in reads.takeReady(applied: 7) { completion(.success(())) }
        XCTAssertEqual(answered, 3, "the read that came later needs a question of its own")
        XCTAssertNotNil(reads.nextQuestion(now: 3, retryAfter: 10))
    }

    func test_anAnswerThatComesAfterTheNextQuestionIsGood() throws {
        var reads = PendingReads()
        reads.add(expires: 100) { _ in }
        let first = try XCTUnwrap(reads.nextQuestion(now: 1, retryAfter: 10))
        let second = try XCTUnwrap(reads.nextQuestion(now: 11, retryAfter: 10))
        XCTAssertNotEqual(first, second)
        reads.confirm(first, index: 1)
        XCTAssertEqual(reads.takeReady(applied: 100).count, 1, "a late answer is an answer")
        reads.confirm(second, index: 1)
        XCTAssertEqual(reads.takeReady(applied: 100).count, 0)
    }

    func test_anAnswerIsGoodForWhatCameBeforeItsQuestionOnly() throws {
        var reads = PendingReads()
        reads.add(expires: 100) { _ in }
        let first = try XCTUnwrap(reads.nextQuestion(now: 1, retryAfter: 10))
        reads.add(expires: 100) { _ in }
        let second = try XCTUnwrap(reads.nextQuestion(now: 11, retryAfter: 10))
        reads.add(expires: 100) { _ in }
        reads.confirm(first, index: 1)
        XCTAssertEqual(reads.takeReady(applied: 1).count, 1)
        reads.confirm(second, index: 2)
        XCTAssertEqual(reads.takeReady(applied: 2).count, 1)
        XCTAssertEqual(reads.count, 1)
        XCTAssertNotNil(reads.nextQuestion(now: 12, retryAfter: 10))
        XCTAssertNil(reads.nextQuestion(now: 13, retryAfter: 10))
        reads.askAgain()
        XCTAssertNotNil(reads.nextQuestion(now: 13, retryAfter: 10), "another leader is asked at once")
    }

    func test_readsExpireWhereverTheyWait() throws {
        var reads = PendingReads()
        reads.add(expires: 10) { _ in }
        let question = try XCTUnwrap(reads.nextQuestion(now: 1, retryAfter: 10))
        reads.confirm(question, index: 5)
        reads.add(expires: 20) { _ in }
        XCTAssertEqual(reads.expire(now: 15).count, 1)
        XCTAssertEqual(reads.expire(now: 25).count, 1)
        XCTAssertEqual(reads.count, 0)
    }

    // MARK: - Envelopes and snapshots

    func test_theEnvelopeCarriesTimeOriginAndPayload() throws {
        let origin = CommandOrigin(node: 3, incarnation: 7, sequence: 9)
        var data = ProposalEnvelope.encode(payload: [1, 2, 3], origin: origin)
        XCTAssertEqual(data.count, ProposalEnvelope.byteCount + 3)
        ProposalEnvelope.stamp(&data, timeMilliseconds: -5)
        let envelope = try ProposalEnvelope(decoding: data)
        XCTAssertEqual(envelope.timeMilliseconds, -5)
        XCTAssertEqual(envelope.origin, origin)
        XCTAssertEqual(Array(envelope.payload), [1, 2, 3])
        for count in 0..<ProposalEnvelope.byteCount {
            var cut = Array(data.prefix(count))
            XCTAssertThrowsError(try ProposalEnvelope(decoding: cut))
            ProposalEnvelope.stamp(&cut, timeMilliseconds: 1)
            XCTAssertEqual(cut, Array(data.prefix(count)), "what is no envelope is not stamped")
        }
        data[0] = 2
        XCTAssertThrowsError(try ProposalEnvelope(decoding: data))
    }

    private func snapshotMessage(_ data: [UInt8]) -> Message {
        var message = Message(kind: .snapshot, to: 2, from: 1)
        message.snapshot = Snapshot(
            metadata: SnapshotMetadata(index: 9, term: 2, confState: ConfState(voters: [1, 2])), data: data)
        return message
    }

    func test_snapshotsTravelInPartsOfAnySize() {
        let room = SnapshotRoom(byteCountMax: 1000, snapshotCountMax: 100)
        for (count, size) in [(0, 4), (1, 4), (4, 4), (5, 4), (11, 4), (11, 100)] {
            let message = snapshotMessage((0..<count).map { UInt8($0) })
            let parts = PeerMessage.snapshotParts(of: message, group: 1, byteCountMax: size)
            let assembler = SnapshotAssembler(room: room)
            let whole = parts.compactMap { assembler.add($0) }
            XCTAssertEqual(whole, [message], "\(count) bytes in parts of \(size)")
        }
    }

    func test_partsOutOfOrderOrOverTheLimitGiveNothing() {
        let parts = PeerMessage.snapshotParts(of: snapshotMessage([1, 2, 3, 4, 5, 6]), group: 1, byteCountMax: 2)
        let missing = SnapshotAssembler(room: SnapshotRoom(byteCountMax: 10_000, snapshotCountMax: 1))
        XCTAssertNil(missing.add(parts[0]))
        XCTAssertNil(missing.add(parts[2]))
        XCTAssertNil(missing.add(parts[1]), "what was begun is dropped")
        let room = SnapshotRoom(byteCountMax: 5, snapshotCountMax: 10_000)
        let small = SnapshotAssembler(room: room)
        XCTAssertEqual(parts.compactMap { small.add($0) }, [])
        XCTAssertEqual(room.usedByteCount, 0)
    }

    func test_snapshotsOfAllStreamsShareTheirRoom() {
        let room = SnapshotRoom(byteCountMax: 10_000, snapshotCountMax: 1)
        func parts(_ group: GroupID) -> [PeerMessage] {
            let data = [UInt8](repeating: 1, count: 6_000)
            return PeerMessage.snapshotParts(of: snapshotMessage(data), group: group, byteCountMax: 3_000)
        }
        var first: SnapshotAssembler? = SnapshotAssembler(room: room)
        XCTAssertNil(first?.add(parts(1)[0]))
        XCTAssertNil(first?.add(parts(2)[0]), "a second group finds no room")
        let second = SnapshotAssembler(room: room)
        XCTAssertEqual(parts(1).compactMap { second.add($0) }, [], "nor does a second stream")
        first = nil
        XCTAssertEqual(room.usedByteCount, 0, "what was begun goes with its stream")
        XCTAssertEqual(parts(1).compactMap { second.add($0) }.count, 0, "4 KiB and 6,000 bytes are too many")
        let wide = SnapshotRoom(byteCountMax: 20_000, snapshotCountMax: 1)
        XCTAssertEqual(parts(1).compactMap { SnapshotAssembler(room: wide).add($0) }.count, 0, "each knows its own")
        let third = SnapshotAssembler(room: wide)
        XCTAssertEqual(parts(1).compactMap { third.add($0) }.count, 1)
        XCTAssertEqual(wide.usedByteCount, 0)
    }

    func test_groupSnapshotsAreReadBackOrRefused() throws {
        let bytes = GroupSnapshot(digest: 5, machine: [1, 2]).encoded()
        let read = try GroupSnapshot(decoding: bytes)
        XCTAssertEqual(read.digest, 5)
        XCTAssertEqual(read.machine, [1, 2])
        for count in 0..<bytes.count { XCTAssertThrowsError(try GroupSnapshot(decoding: Array(bytes.prefix(count)))) }
    }

    func test_theDigestTellsEntriesApart() {
        let entry = Entry(term: 1, index: 1, kind: .normal, data: [1])
        let other = Entry(term: 2, index: 1, kind: .normal, data: [1])
        XCTAssertEqual(AppliedDigest.extend(0, with: entry), AppliedDigest.extend(0, with: entry))
        XCTAssertNotEqual(AppliedDigest.extend(0, with: entry), AppliedDigest.extend(0, with: other))
        XCTAssertNotEqual(AppliedDigest.extend(0, with: entry), AppliedDigest.extend(1, with: entry))
    }
}
