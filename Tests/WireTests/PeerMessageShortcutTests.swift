import Prelude
import Raft
import XCTest

@testable import Wire

/// Plain messages of Raft are read and written without the generated structs: both ways have to agree.
final class PeerMessageShortcutTests: XCTestCase {
    private func plain(seed: UInt64, _ fill: RandomValues.Fill) -> PeerMessage {
        var values = RandomValues(seed: seed, fill: fill)
        var message = values.peerMessage()
        message.message.snapshot = nil
        message.snapshotPart = 0
        message.snapshotPartCount = 0
        return message
    }

    private func general(_ message: PeerMessage, to peer: NodeID) -> [UInt8] {
        RaftEnvelope(raftMessage: message.encoded(), fromNodeID: message.message.from, toNodeID: peer).encoded()
    }

    func testBothWaysWriteTheSame() throws {
        for fill in [RandomValues.Fill.everything, .something] {
            for seed in UInt64(0)..<300 {
                let message = plain(seed: seed, fill)
                let peer = NodeID(seed % 7)
                let bytes = try XCTUnwrap(RaftEnvelope.encoded(carrying: message, to: peer))
                XCTAssertEqual(bytes, general(message, to: peer), "seed \(seed)")
            }
        }
    }

    func testWhatIsWrittenIsRead() throws {
        for seed in UInt64(0)..<300 {
            var message = plain(seed: seed, .something)
            for place in message.message.entries.indices { message.message.entries[place].term = 7 }
            for place in message.message.entries.indices { message.message.entries[place].index = 300 }
            let bytes = try XCTUnwrap(RaftEnvelope.encoded(carrying: message, to: 3))
            let read = try XCTUnwrap(bytes.withUnsafeBytes { RaftEnvelope.carried(by: $0) }, "seed \(seed)")
            XCTAssertEqual(read.message, message)
            XCTAssertEqual(read.to, 3)
        }
    }

    func testSnapshotsTakeTheGeneralWay() {
        var message = plain(seed: 1, .everything)
        message.message.snapshot = Snapshot()
        XCTAssertNil(RaftEnvelope.encoded(carrying: message, to: 1))
        XCTAssertNil(RaftEnvelope.encoded(carrying: plain(seed: 1, .nothing), to: 1))
        let part = PeerMessage(group: 1, message: Message(kind: .append), snapshotPart: 0, snapshotPartCount: 2)
        XCTAssertNil(RaftEnvelope.encoded(carrying: part, to: 1))
        let bytes = general(part, to: 1)
        XCTAssertNil(bytes.withUnsafeBytes { RaftEnvelope.carried(by: $0) })
    }

    /// Whatever the shortcut takes, the general way takes, and for the same.
    func testNothingIsTakenThatTheGeneralWayRefuses() throws {
        var random = SeededRandom(seed: 11)
        var takenCount = 0
        for seed in UInt64(0)..<4_000 {
            var bytes = general(plain(seed: seed % 400, .something), to: NodeID(seed % 4))
            for _ in 0..<Int.random(in: 1...3, using: &random) where !bytes.isEmpty {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
                case 1: bytes.insert(UInt8.random(in: 0...255, using: &random), at: place)
                default: bytes.remove(at: place)
                }
            }
            guard let read = bytes.withUnsafeBytes({ RaftEnvelope.carried(by: $0) }) else { continue }
            takenCount += 1
            let envelope = try RaftEnvelope(decoding: bytes)
            XCTAssertEqual(try PeerMessage(decoding: envelope.raftMessage), read.message, "seed \(seed)")
            XCTAssertEqual(envelope.toNodeID, read.to)
            XCTAssertEqual(envelope.fromNodeID, read.message.message.from)
            XCTAssertEqual(envelope.clusterID, "")
            XCTAssertNil(envelope.command)
        }
        XCTAssertGreaterThan(takenCount, 100)
    }
}
