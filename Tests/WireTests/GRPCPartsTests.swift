import Foundation
import Prelude
import XCTest

@testable import Wire

/// The parts that calls are made of, each against a naive twin where there is one.
final class GRPCPartsTests: XCTestCase {
    func testBase64() {
        for count in 0..<100 {
            let data = bytes(count, seed: UInt64(count))
            let text = Data(data).base64EncodedString()
            let bare = text.replacingOccurrences(of: "=", with: "")
            XCTAssertEqual(String(decoding: Base64.encode(data), as: UTF8.self), bare)
            XCTAssertEqual(Base64.decode(Array(text.utf8)), data)
            XCTAssertEqual(Base64.decode(Array(bare.utf8)), data)
        }
        for text in ["A", "AA=", "AAA==", "AAAA=", "A===", "AA?A", "AA A", "AAAAA", "=", "=="] {
            XCTAssertNil(Base64.decode(Array(text.utf8)), text)
        }
    }

    func testPercentEncoding() {
        func decode(_ text: String) -> String { Array(text.utf8).withUnsafeBytes { PercentEncoding.decode($0) } }
        for text in ["", "plain", "100%", "a\nb\tc", "größer \u{1F600}", "\u{0}\u{7F}", "%41"] {
            let encoded = PercentEncoding.encode(text, byteCountMax: 1000)
            XCTAssertTrue(encoded.allSatisfy { (0x20...0x7E).contains($0) })
            XCTAssertEqual(decode(String(decoding: encoded, as: UTF8.self)), text)
        }
        XCTAssertEqual(decode("%e4%BD%a0"), "你")
        XCTAssertEqual(decode("%"), "%")
        XCTAssertEqual(decode("%4"), "%4")
        XCTAssertEqual(decode("%zz%41"), "%zzA")
        XCTAssertEqual(decode("%FF"), "\u{FFFD}")
        // Cut between characters, not within one.
        XCTAssertEqual(PercentEncoding.encode("aü", byteCountMax: 2), [UInt8(ascii: "a")])
    }

    func testTimeoutFormatIsReadBack() {
        for timeout in [0, 1, 99_999_999, 100_000_000, 1_500_000_000, .seconds(86_400), .seconds(1 << 30), .max]
            as [Nanoseconds]
        {
            let text = GRPCTimeout.format(timeout)
            XCTAssertLessThanOrEqual(text.count, 9)
            let back = Array(text.utf8).withUnsafeBytes { GRPCTimeout.parse($0) }
            guard let back else { return XCTFail("\(text) is malformed") }
            XCTAssertGreaterThanOrEqual(back, timeout)
            XCTAssertLessThanOrEqual(Double(back), Double(timeout) * 1.001)
        }
        XCTAssertEqual(GRPCTimeout.format(.milliseconds(100)), "100000u")
    }

    func testMetadataRefusesWhatCannotTravel() {
        var metadata = Metadata()
        for name in ["", ":path", "a b", "ü", "a:b", "te", "content-type", "grpc-status", "Grpc-Timeout", "a\n"] {
            XCTAssertFalse(metadata.add(name, "x"), name)
        }
        for value in ["ü", "a\nb", "\u{7F}", " a", "a "] { XCTAssertFalse(metadata.add("a", value), value) }
        XCTAssertFalse(metadata.add("a-bin", "text"))
        XCTAssertFalse(metadata.add("a", bytes: [1]))
        XCTAssertTrue(metadata.isEmpty)
        XCTAssertTrue(metadata.add("A.b_c-1", "x y"))
        XCTAssertTrue(metadata.add("A-Bin", bytes: [1]))
        XCTAssertEqual(metadata["a.b_c-1"], "x y")
        XCTAssertEqual(metadata.bytes("a-bin"), [[1]])
        metadata.removeAll("a-bin")
        XCTAssertEqual(metadata.count, 1)
    }

    func testCapturedBinaryMetadata() {
        var captured = CapturedMetadata()
        func add(_ name: String, _ value: String) {
            Array(name.utf8).withUnsafeBytes { name in
                Array(value.utf8).withUnsafeBytes { captured.append(name: name, value: $0) }
            }
        }
        add("a-bin", "AQ==,AgM, BAUG")
        add("a-bin", "")
        add("a-bin", "?")
        add("text", "a, b")
        let metadata = captured.decoded()
        XCTAssertEqual(metadata.bytes("a-bin"), [[1], [2, 3], [4, 5, 6], []])
        XCTAssertEqual(metadata.texts("text"), ["a, b"])
    }

    /// The reader in random pieces, with pauses, against the messages that were written.
    func testMessageReaderGivesWhatWasWritten() {
        for seed in 0..<100 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            let sizes = (0..<20).map { _ in
                Bool.random(using: &random)
                    ? Int.random(in: 0...9, using: &random) : Int.random(in: 0...900, using: &random)
            }
            let messages = sizes.enumerated().map { bytes($1, seed: UInt64($0)) }
            let stream = messages.flatMap { RawPeer.message($0) }
            var reader = MessageReader(messageByteCountMax: 1000)
            var seen: [[UInt8]] = []
            var offset = 0
            while offset < stream.count || reader.bufferedByteCount > 0 {
                let count = min(stream.count - offset, Int.random(in: 0...600, using: &random))
                let isPaused = offset < stream.count && Int.random(in: 0..<4, using: &random) == 0
                Array(stream[offset..<offset + count]).withUnsafeBytes { chunk in
                    var rest = chunk
                    if isPaused { return reader.keep(chunk) }
                    reading: while true {
                        switch reader.next(&rest) {
                        case .needMore: break reading
                        case .inChunk(let message): seen.append(Array(message))
                        case .assembled(let message): seen.append(Array(message))
                        case .compressed: return XCTFail("seed \(seed): nothing is compressed")
                        case .failed(let failure): return XCTFail("seed \(seed): \(failure)")
                        }
                    }
                    XCTAssertTrue(rest.isEmpty)
                }
                offset += count
            }
            XCTAssertEqual(seen, messages, "seed \(seed)")
        }
    }

    func testOutgoingMessagesComeOutAsTheyWentIn() {
        for seed in 0..<30 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            var queue = OutgoingMessages()
            var expected: [UInt8] = []
            var seen: [UInt8] = []
            for _ in 0..<40 {
                if Bool.random(using: &random) {
                    let size = [0, 1, 300, 4096, 4097, 20_000][Int.random(in: 0..<6, using: &random)]
                    let message = bytes(size, seed: random.next())
                    if Bool.random(using: &random) {
                        queue.append(message: message)
                    } else {
                        message.withUnsafeBytes { queue.append(message: $0) }
                    }
                    expected += RawPeer.message(message)
                } else {
                    let count = Int.random(in: 0...min(queue.byteCount, 16_384), using: &random)
                    seen += [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
                        if count > 0 { queue.move(count, to: UnsafeMutableRawPointer(buffer.baseAddress!)) }
                        filled = count
                    }
                }
                XCTAssertEqual(queue.byteCount, expected.count - seen.count)
            }
            XCTAssertTrue(expected.starts(with: seen), "seed \(seed)")
        }
    }

    func testRouteTable() {
        let table = RouteTable()
        for number in 0..<200 { table.insert(Route(path: "/s/Method\(number)", kind: .unary { _, _ in })) }
        for number in 0..<200 {
            let path = "/s/Method\(number)"
            XCTAssertEqual(Array(path.utf8).withUnsafeBytes { table.find($0)?.path }, path)
        }
        for path in ["", "/", "/s/Method", "/s/Method200", "/s/method1"] {
            XCTAssertNil(Array(path.utf8).withUnsafeBytes { table.find($0) })
        }
    }

    func testFloodGuard() {
        var flood = FloodGuard(burst: 10, perSecond: 100)
        XCTAssertEqual((0..<20).filter { _ in flood.admit(at: .seconds(5)) }.count, 10)
        XCTAssertTrue(flood.admit(at: .seconds(5) + .milliseconds(10)))
        XCTAssertFalse(flood.admit(at: .seconds(5) + .milliseconds(10)))
        XCTAssertEqual((0..<20).filter { _ in flood.admit(at: .seconds(60)) }.count, 10)
    }

    /// The heap against a sorted list.
    func testTimerQueueAgainstASortedList() {
        final class Member: TimerQueueMember {
            var timerPlace = -1
            var time: Nanoseconds?
            let fired: (Member) -> Void
            init(_ fired: @escaping (Member) -> Void) { self.fired = fired }
            func timerFired() { fired(self) }
        }
        for seed in 0..<100 as Range<UInt64> {
            var random = SeededRandom(seed: seed)
            let world = TestWorld()
            let queue = TimerQueue(clock: world)
            var members: [Member] = []
            for _ in 0..<30 {
                members.append(
                    Member { member in
                        XCTAssertEqual(member.time, world.now, "seed \(seed)")
                        member.time = nil
                    })
            }
            for _ in 0..<300 {
                let member = members[Int.random(in: 0..<members.count, using: &random)]
                switch Int.random(in: 0..<4, using: &random) {
                case 0, 1:
                    member.time = world.now + .random(in: 0...1000, using: &random)
                    queue.set(member, at: member.time ?? 0)
                case 2:
                    member.time = nil
                    queue.remove(member)
                default: world.advance(.random(in: 0...200, using: &random))
                }
                XCTAssertEqual(queue.count, members.filter { $0.time != nil }.count)
                XCTAssertTrue(members.allSatisfy { ($0.time != nil) == ($0.timerPlace >= 0) })
            }
            world.advance(2000)
            XCTAssertTrue(members.allSatisfy { $0.time == nil }, "seed \(seed)")
        }
    }
}
