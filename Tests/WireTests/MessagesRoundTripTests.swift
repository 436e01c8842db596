import Prelude
import Wire
import Workflow
import XCTest

final class MessagesRoundTripTests: XCTestCase {
    func test_decodingGivesBackWhatWasEncoded() throws {
        for message in MessageUnderTest.all {
            for fill in RandomValues.Fill.allCases {
                for seed in 0..<UInt64(fill == .nothing ? 20 : 1_000) {
                    var values = RandomValues(seed: seed, fill: fill)
                    let outcome = try message.roundTrip(&values)
                    guard outcome.isEqual else { return XCTFail("\(message) filled with \(fill), seed \(seed)") }
                }
            }
        }
    }

    func test_whatIsNotSetTakesNoByte() {
        XCTAssertEqual(DiscoveryRequest().encoded(), [])
        XCTAssertEqual(GetRequest(key: "").encoded(), [])
        XCTAssertEqual(RaftEnvelope().encoded(), [])
        XCTAssertEqual(DirectoryState().encoded(), [])
        XCTAssertEqual(ListWorkflowsRequest().encoded(), [])
    }

    func test_anEmptyMessageIsAllDefaults() throws {
        XCTAssertEqual(try RaftEnvelope(decoding: []), RaftEnvelope())
        XCTAssertEqual(try DiscoveryResponse(decoding: []), DiscoveryResponse())
        XCTAssertEqual(try PutRequest(decoding: []), PutRequest(key: ""))
        XCTAssertEqual(try GetWorkflowResultRequest(decoding: []), GetWorkflowResultRequest(workflowID: ""))
    }

    func test_anAbsentPayloadDiffersFromAnEmptyOne() throws {
        let absent = StartWorkflowRequest(type: "t")
        let empty = StartWorkflowRequest(type: "t", input: Payload(encoding: "", data: []))
        XCTAssertNotEqual(absent.encoded(), empty.encoded())
        XCTAssertNil(try StartWorkflowRequest(decoding: absent.encoded()).input)
        XCTAssertEqual(try StartWorkflowRequest(decoding: empty.encoded()).input, Payload(encoding: "", data: []))
    }

    func test_aCommandThatStartsWithoutInputStartsWithAnEmptyOne() throws {
        // start { workflow_id: "w" }
        let command = try Command(decoding: [0x0A, 0x03, 0x0A, 0x01, 0x77])
        guard case .start(let start) = command else {
            return XCTFail("not a start: \(command)")
        }
        XCTAssertEqual(start.workflowID, "w")
        XCTAssertEqual(start.input, Payload(encoding: "", data: []))
    }

    func test_everyRunIDHasOneText() throws {
        for (group, index) in [(0, 0), (1, 4711), (CodecLimits.identifierMax, CodecLimits.identifierMax), (7, 10)] {
            let run = RunID(group: GroupID(group), index: LogIndex(index))
            let bytes = StartWorkflowResponse(workflowID: "", runID: run).encoded()
            XCTAssertEqual(bytes, [0x12, UInt8(run.description.utf8.count)] + Array(run.description.utf8))
            XCTAssertEqual(try StartWorkflowResponse(decoding: bytes).runID, run)
        }
    }

    func test_nulInTextIsReplacedAsItCannotTravel() throws {
        let request = PutRequest(key: "a\0b\0", value: [0, 1, 0], requestID: "\0")
        let received = try PutRequest(decoding: request.encoded())
        XCTAssertEqual(received, PutRequest(key: "a\u{FFFD}b\u{FFFD}", value: [0, 1, 0], requestID: "\u{FFFD}"))
    }

    func test_unknownFieldsAreDropped() throws {
        let known = GetRequest(key: "k", stale: true)
        // Field 100 of each wire type.
        let unknown: [[UInt8]] = [
            [0xA0, 0x06, 0x05], [0xA1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8], [0xA2, 0x06, 0x02, 0xFF, 0xFF],
            [0xA5, 0x06, 1, 2, 3, 4],
        ]
        for field in unknown {
            XCTAssertEqual(try GetRequest(decoding: field + known.encoded() + field), known)
        }
    }

    func test_theLastOfSeveralScalarsWins() throws {
        XCTAssertEqual(try PutResponse(decoding: [0x08, 1, 0x08, 2]).revision, 2)
    }

    func test_repeatedNumbersMayComePackedOrNot() throws {
        let expected = JoinResponse(nodeID: .none, clusterID: "", groupIDs: [1, 300, 2])
        XCTAssertEqual(try JoinResponse(decoding: [0x22, 4, 1, 0xAC, 0x02, 2]), expected)
        XCTAssertEqual(try JoinResponse(decoding: [0x20, 1, 0x20, 0xAC, 0x02, 0x20, 2]), expected)
        XCTAssertEqual(try JoinResponse(decoding: [0x20, 1, 0x22, 3, 0xAC, 0x02, 2]), expected)
    }
}
