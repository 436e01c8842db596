import Prelude
import XCTest

final class BytesTests: XCTestCase {
    func test_whatIsWrittenIsRead() throws {
        var writer = ByteWriter()
        writer.append(UInt8(7))
        writer.append(fixed: UInt32.max - 1)
        writer.append(fixed: UInt64.max - 1)
        for value in [0, 1, 127, 128, 300, UInt64(UInt32.max), .max] { writer.append(varint: value) }
        writer.append(signed: -5)
        writer.append(true)
        writer.append(text: "größe")
        writer.append(string: [UInt8]())

        var reader = ByteReader(writer.bytes)
        XCTAssertEqual(try reader.byte(), 7)
        XCTAssertEqual(try reader.fixed32(), UInt32.max - 1)
        XCTAssertEqual(try reader.fixed64(), UInt64.max - 1)
        for value in [0, 1, 127, 128, 300, UInt64(UInt32.max), .max] { XCTAssertEqual(try reader.varint(), value) }
        XCTAssertEqual(try reader.signed(), -5)
        XCTAssertEqual(try reader.bool(), true)
        XCTAssertEqual(try reader.text(), "größe")
        XCTAssertEqual(try reader.string(), [])
        XCTAssertNoThrow(try reader.end())
    }

    func test_everyTruncationIsRefused() {
        var writer = ByteWriter()
        writer.append(text: "abc")
        writer.append(fixed: UInt64(1))
        for count in 0..<writer.bytes.count {
            var reader = ByteReader(Array(writer.bytes.prefix(count)))
            XCTAssertThrowsError(
                try {
                    _ = try reader.text(); _ = try reader.fixed64()
                }())
        }
    }

    func test_hostileLengthsAndVarintsAreRefused() {
        var tooLong = ByteReader([UInt8](repeating: 0xFF, count: 11))
        XCTAssertThrowsError(try tooLong.varint())
        var lying = ByteReader([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01])
        XCTAssertThrowsError(try lying.string())
        var count = ByteReader([100, 0, 0])
        XCTAssertThrowsError(try count.count(minimumByteCount: 1))
        var notText = ByteReader([2, 0xC3, 0x28])
        XCTAssertThrowsError(try notText.text())
    }

    func test_aTextIsWhatIsValidUTF8() throws {
        var random = SeededRandom(seed: 8)
        // Bytes that begin, continue and break characters of every length.
        let pieces: [[UInt8]] = [
            [0x61], [0], [0xC3, 0xB6], [0xE2, 0x82, 0xAC], [0xEF, 0xBF, 0xBD], [0xF0, 0x9F, 0x98, 0x80], [0x80], [0xC3],
            [0xC0, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90, 0x80, 0x80], [0xFF],
        ]
        var validCount = 0
        for _ in 0..<4000 {
            let few = Int.random(in: 1...12, using: &random)
            let bytes = (0..<Int.random(in: 0...9, using: &random)).flatMap { _ in
                pieces[Int.random(in: 0..<few, using: &random)]
            }
            var writer = ByteWriter()
            writer.append(string: bytes)
            var reader = ByteReader(writer.bytes)
            if let text = String(validating: bytes, as: UTF8.self) {
                XCTAssertTrue(try reader.text().utf8.elementsEqual(text.utf8))
                XCTAssertTrue(reader.isAtEnd)
                validCount += 1
            } else {
                XCTAssertThrowsError(try reader.text(), "\(bytes)")
            }
        }
        XCTAssertTrue((500...3500).contains(validCount), "\(validCount)")
    }

    func test_defaultLimitsAgree() {
        XCTAssertNoThrow(try Limits().validate())
        var limits = Limits()
        limits.raft.electionTicks = 2
        XCTAssertThrowsError(try limits.validate())
        limits = Limits()
        limits.node.backupPieceByteCount = limits.wire.messageByteCountMax
        XCTAssertThrowsError(try limits.validate())
        limits = Limits()
        limits.node.backupBytesPerSecondMax = 0
        XCTAssertThrowsError(try limits.validate())
        limits = Limits()
        limits.node.imageBytesPerSecondMax = 0
        XCTAssertThrowsError(try limits.validate())
    }

    func test_addressesAndRunIDsParse() {
        XCTAssertEqual(HostPort("127.0.0.1:5001"), HostPort(host: "127.0.0.1", port: 5001))
        XCTAssertEqual(HostPort("[::1]:80")?.description, "[::1]:80")
        for bad in ["", "host", "host:", ":80", "a b:1", "::1:80", "h:70000", "h/p:1"] {
            XCTAssertNil(HostPort(bad), bad)
        }
        XCTAssertEqual(RunID("1-42")?.description, "1-42")
        for bad in ["", "1", "1-", "-1", "1-2-3", "a-b"] { XCTAssertNil(RunID(bad), bad) }
    }
}
