import CChecksum
import Prelude
import XCTest

/// Bit by bit, from the definition.
func naiveCRC32C(_ bytes: some Sequence<UInt8>, continuing checksum: UInt32 = 0) -> UInt32 {
    var crc = ~checksum
    for byte in bytes {
        crc ^= UInt32(byte)
        for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82F6_3B78 : crc >> 1 }
    }
    return ~crc
}

final class ChecksumTests: XCTestCase {
    /// RFC 3720 B.4.
    func test_rfc_3720_B_4_examples() {
        let examples: [([UInt8], UInt32)] = [
            ([UInt8](repeating: 0, count: 32), 0x8A91_36AA),
            ([UInt8](repeating: 0xFF, count: 32), 0x62A8_AB43),
            (Array(0..<32), 0x46DD_794E),
            ((0..<32).reversed(), 0x113F_DB5C),
        ]
        for (bytes, checksum) in examples {
            XCTAssertEqual(raftoral_crc32c(0, bytes, bytes.count), checksum)
            XCTAssertEqual(raftoral_crc32c_by_table(0, bytes, bytes.count), checksum)
            XCTAssertEqual(naiveCRC32C(bytes), checksum)
        }
    }

    func test_instructionAndTableAgreeOnEveryLengthAndAlignment() {
        var random = SeededRandom(seed: 5)
        let bytes = (0..<600).map { _ in UInt8.random(in: 0...255, using: &random) }
        bytes.withUnsafeBytes { all in
            for start in 0..<16 {
                for count in 0..<300 {
                    let part = UnsafeRawBufferPointer(rebasing: all[start..<start + count])
                    let seed = UInt32.random(in: 0...(.max), using: &random)
                    let expected = naiveCRC32C(part, continuing: seed)
                    XCTAssertEqual(raftoral_crc32c(seed, part.baseAddress, count), expected)
                    XCTAssertEqual(raftoral_crc32c_by_table(seed, part.baseAddress, count), expected)
                }
            }
        }
    }

    #if arch(x86_64)
        func test_theProcessorsInstructionIsUsedWhereThereIsOne() throws {
            let information = try String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)
            XCTAssertEqual(raftoral_crc32c_is_by_instruction(), information.contains("sse4_2"))
        }
    #endif
}
