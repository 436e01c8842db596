import Prelude
import Raft
import Wire
import Workflow
import XCTest

/// Whatever the bytes, decoding ends in a value or in a `DecodingFailure`.
final class MessagesHostileBytesTests: XCTestCase {
    /// Decodes; what came out must survive another round. True when something came out.
    @discardableResult
    private func probe(_ message: MessageUnderTest, _ bytes: [UInt8], _ origin: @autoclosure () -> String) -> Bool {
        do {
            let outcome = try message.decode(bytes)
            XCTAssertTrue(outcome.isStable, "\(message): \(origin()) does not survive a round: \(bytes)")
            return true
        } catch {
            return false
        }
    }

    func test_everyTruncation() throws {
        for message in MessageUnderTest.all {
            for seed in 0..<UInt64(8) {
                var values = RandomValues(seed: seed, fill: .everything)
                let bytes = try message.roundTrip(&values).bytes
                for count in bytes.indices { probe(message, Array(bytes[..<count]), "\(count) bytes of seed \(seed)") }
            }
        }
    }

    func test_randomBytes() {
        var random = SeededRandom(seed: 1)
        for round in 0..<100_000 {
            let message = MessageUnderTest.all[round % MessageUnderTest.all.count]
            let count = Int.random(in: 0...64, using: &random)
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
            probe(message, bytes, "round \(round)")
        }
    }

    func test_damagedMessages() throws {
        var random = SeededRandom(seed: 2)
        var decodedCount = 0
        for round in 0..<UInt64(40_000) {
            let message = MessageUnderTest.all[Int(round) % MessageUnderTest.all.count]
            var values = RandomValues(seed: round, fill: .something)
            var bytes = try message.roundTrip(&values).bytes
            for _ in 0..<Int.random(in: 1...4, using: &random) { damage(&bytes, &random) }
            if probe(message, bytes, "round \(round)") { decodedCount += 1 }
        }
        XCTAssertGreaterThan(decodedCount, 4_000, "the damage is too coarse to test anything")
    }

    private func damage(_ bytes: inout [UInt8], _ random: inout SeededRandom) {
        guard !bytes.isEmpty else {
            bytes = [UInt8.random(in: 0...255, using: &random)]
            return
        }
        let place = Int.random(in: bytes.indices, using: &random)
        switch Int.random(in: 0..<5, using: &random) {
        case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: bytes.remove(at: place)
        case 2: bytes.insert(bytes[Int.random(in: bytes.indices, using: &random)], at: place)
        case 3: bytes += bytes[place...]  // fields that occur twice
        default:
            // A length that lies.
            let lengths: [[UInt8]] = [
                [0xFF, 0xFF, 0xFF, 0xFF, 0x0F], [0xFF, 0xFF, 0xFF, 0xFF, 0x07], [0x80, 0x80, 0x04],
            ]
            bytes.replaceSubrange(place...place, with: lengths[Int.random(in: lengths.indices, using: &random)])
        }
    }

    func test_lyingLengthsAreRefused() {
        let lengths: [[UInt8]] = [
            [0xFF, 0xFF, 0xFF, 0xFF, 0x0F], [0xFB, 0xFF, 0xFF, 0xFF, 0x0F], [0x80, 0x80, 0x80, 0x80, 0x08],
        ]
        let rest = [UInt8](repeating: 0x61, count: 64)
        for length in lengths {
            // Text, bytes, a message, and an unknown field.
            for key in [0x0A, 0x12, 0x22, 0x7A] as [UInt8] {
                let bytes = [key] + length + rest
                XCTAssertThrowsError(try PutRequest(decoding: bytes))
                XCTAssertThrowsError(try StartWorkflowRequest(decoding: bytes))
            }
        }
    }

    // MARK: - Memory and stack

    func test_manySmallFieldsAreRefusedBeforeTheyTakeTheMemory() {
        func repeated(_ field: [UInt8]) -> [UInt8] { Array(repeatElement(field, count: 1 << 19).joined()) }
        let unknown = repeated([0x7A, 0x00])
        // Field 15 is unknown to every message here.
        expect(GetRequest.self, unknown, "raftoral.GetRequest", .tooManyFields(byteCount: unknown.count))
        expect(PutRequest.self, unknown, "raftoral.PutRequest", .tooManyFields(byteCount: unknown.count))
        let emptyEntries = repeated([0x42, 0x00])
        expect(
            PeerMessage.self, emptyEntries, "raftoral.peer.PeerMessage",
            .tooManyFields(byteCount: emptyEntries.count))
    }

    func test_theSmallestEntriesThatAreEverSentAreWithinTheBound() throws {
        var message = Message(kind: .append)
        message.entries = (1...300_000).map { Entry(term: 1, index: LogIndex(UInt64($0)), kind: .normal, data: []) }
        let sent = PeerMessage(group: 1, message: message)
        XCTAssertEqual(try PeerMessage(decoding: sent.encoded()), sent)
    }

    func test_largeMessages() throws {
        let join = JoinResponse(nodeID: 1, clusterID: "c", groupIDs: (0..<1_000_000).map { GroupID($0) })
        XCTAssertEqual(try JoinResponse(decoding: join.encoded()), join)
        let put = PutRequest(
            key: String(repeating: "ä", count: 1 << 20), value: [UInt8](repeating: 7, count: 8 << 20))
        XCTAssertEqual(try PutRequest(decoding: put.encoded()), put)
    }

    func test_nestingTakesNoStack() {
        // Each level is a length-delimited field around the next, deeper than any stack.
        var bytes: [UInt8] = []
        var lengths: [[UInt8]] = []
        var count = 0
        for _ in 0..<200_000 {
            var length: [UInt8] = []
            var rest = count
            while rest >= 0x80 {
                length.append(UInt8(rest & 0x7F) | 0x80)
                rest >>= 7
            }
            length.append(UInt8(rest))
            lengths.append(length)
            count += 1 + length.count
        }
        for length in lengths.reversed() { bytes += [0x12] + length }
        // Field 2 is a command in an envelope, whose field 2 is an end, whose field 2 is text.
        XCTAssertThrowsError(try RaftEnvelope(decoding: bytes))
        XCTAssertThrowsError(try DescribeWorkflowResponse(decoding: bytes))
        XCTAssertThrowsError(try Command(decoding: bytes))
        // Field 2 is unknown here.
        XCTAssertEqual(try PutResponse(decoding: bytes), PutResponse(revision: 0))
    }

    func test_groupsAreRefused() {
        let nested = [UInt8](repeating: 0x0B, count: 10_000) + [UInt8](repeating: 0x0C, count: 10_000)
        expect(PutResponse.self, nested, "raftoral.PutResponse", .malformed)
    }

    // MARK: - What the contract does not allow

    private func expect<Value: WireMessage>(
        _ type: Value.Type, _ bytes: [UInt8], _ message: String, _ reason: DecodingFailure.Reason,
        line: UInt = #line
    ) {
        XCTAssertThrowsError(try Value(decoding: bytes), line: line) { error in
            XCTAssertEqual(
                error as? DecodingFailure, DecodingFailure(message: message, reason: reason), line: line)
        }
    }

    func test_textMustBeUTF8WithoutNUL() {
        let invalid: [[UInt8]] = [
            [0xFF], [0x80], [0xC3], [0xC0, 0x80], [0xE2, 0x82], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80],
            [0x61, 0xC3, 0x28], [0x00], [0x61, 0x00], [0x00, 0x61], [0x61, 0x00, 0x62],
        ]
        for text in invalid {
            let field = [UInt8(text.count)] + text
            expect(PutRequest.self, [0x0A] + field, "raftoral.PutRequest", .invalidText(field: "key"))
            let payload = [0x0A] + field
            expect(
                StartWorkflowRequest.self, [0x22, UInt8(payload.count)] + payload, "raftoral.Payload",
                .invalidText(field: "encoding"))
        }
    }

    func test_runIDsMustHaveTheOneForm() {
        let invalid = [
            "1", "-", "1-", "-1", "1-2-3", "+1-2", "1-+2", "01-2", "1-02", " 1-2", "1-2 ", "a-1", "1-a", "1–2",
            "9223372036854775808-1", "1-18446744073709551616", "1-99999999999999999999", "00-1",
        ]
        for text in invalid {
            let field = [0x12, UInt8(text.utf8.count)] + Array(text.utf8)
            expect(
                StartWorkflowResponse.self, field, "raftoral.StartWorkflowResponse", .invalidRunID(field: "run_id"))
            expect(
                GetWorkflowResultRequest.self, field, "raftoral.GetWorkflowResultRequest",
                .invalidRunID(field: "run_id"))
        }
        expect(
            StartWorkflowResponse.self, [], "raftoral.StartWorkflowResponse", .invalidRunID(field: "run_id"))
    }

    func test_identifiersStayBelowTwoToThe63() {
        let tooLarge: [UInt8] = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]
        let value: UInt64 = 1 << 63
        expect(
            RemoveRequest.self, [0x08] + tooLarge, "raftoral.RemoveRequest",
            .identifierOutOfRange(field: "node_id", value: value))
        expect(
            JoinResponse.self, [0x22, 10] + tooLarge, "raftoral.JoinResponse",
            .identifierOutOfRange(field: "group_ids", value: value))
        expect(
            PeerMessage.self, [0x42, 11, 0x10] + tooLarge, "raftoral.peer.Entry",
            .identifierOutOfRange(field: "index", value: value))
    }

    func test_unknownValuesAreRefused() {
        expect(
            ListWorkflowsRequest.self, [0x10, 7], "raftoral.ListWorkflowsRequest",
            .unknownValue(field: "status", value: 7))
        expect(
            DiscoveryResponse.self, [0x10, 4], "raftoral.DiscoveryResponse",
            .unknownValue(field: "role", value: 4))
        expect(
            GetWorkflowResultResponse.self, [], "raftoral.GetWorkflowResultResponse",
            .unknownValue(field: "status", value: 0))
        // -1 as protobuf writes it.
        expect(
            ListWorkflowsRequest.self, [0x10] + [UInt8](repeating: 0xFF, count: 9) + [0x01],
            "raftoral.ListWorkflowsRequest", .unknownValue(field: "status", value: .max))
        expect(
            PeerMessage.self, [0x10, 24], "raftoral.peer.PeerMessage", .unknownValue(field: "kind", value: 24))
        expect(
            PeerMessage.self, [0x10, 0x80, 0x02], "raftoral.peer.PeerMessage",
            .unknownValue(field: "kind", value: 256))
        expect(
            PeerMessage.self, [0x42, 2, 0x18, 3], "raftoral.peer.Entry", .unknownValue(field: "kind", value: 3))
        // An end with the run id 1-1 and status 9.
        expect(
            Command.self, [0x12, 7, 0x12, 3, 0x31, 0x2D, 0x31, 0x20, 9], "raftoral.WorkflowEnd",
            .unknownValue(field: "status", value: 9))
    }

    func test_aCommandMustBeOneThatIsKnown() {
        expect(Command.self, [], "raftoral.WorkflowCommand", .noKnownAlternative)
        expect(Command.self, [0x5A, 0], "raftoral.WorkflowCommand", .noKnownAlternative)
        expect(RaftEnvelope.self, [0x12, 0], "raftoral.WorkflowCommand", .noKnownAlternative)
        expect(DirectoryCommand.self, [0x22, 0], "raftoral.state.DirectoryCommand", .noKnownAlternative)
    }

    func test_theLastOfSeveralAlternativesWins() throws {
        // variable_delete { key: "a" }, then variable_put { key: "b" }
        let command = try Command(decoding: [0x4A, 3, 0x0A, 1, 0x61, 0x3A, 3, 0x0A, 1, 0x62])
        XCTAssertEqual(command, .variablePut(Command.VariablePut(key: "b", value: [])))
    }

    func test_aMissingPartIsNamed() {
        expect(
            DescribeWorkflowResponse.self, [], "raftoral.DescribeWorkflowResponse", .missingField("summary"))
    }

    func test_wrongWireTypesAreRefused() {
        expect(PutRequest.self, [0x08, 1], "raftoral.PutRequest", .malformed)
        expect(PutResponse.self, [0x0A, 1, 0x31], "raftoral.PutResponse", .malformed)
        expect(PeerMessage.self, [0x40, 1], "raftoral.peer.PeerMessage", .malformed)
    }

    func test_failuresSayWhatAndWhere() {
        XCTAssertEqual(
            "\(DecodingFailure(message: "raftoral.RunStall", reason: .invalidRunID(field: "run_id")))",
            "raftoral.RunStall.run_id is not a run id of the form GROUP-INDEX")
    }
}
