import Prelude
import XCTest

@testable import Wire

final class SessionMemoryTests: XCTestCase {
    func testKeepsWhatIsGivenBackUpToItsBound() {
        let memory = SessionMemory(keptByteCountMax: 1024)
        let blocks = (0..<32).compactMap { _ in memory.allocate(100) }
        XCTAssertEqual(blocks.count, 32)
        for block in blocks { memory.release(block) }
        XCTAssertEqual(memory.keptByteCount, 1024, "eight blocks of 128 bytes")
        XCTAssertNotNil(memory.allocate(128).map(memory.release))
        XCTAssertEqual(memory.keptByteCount, 1024)
        memory.release(memory.allocate(1 << 20))
        XCTAssertEqual(memory.keptByteCount, 1024, "large ones go back to the system")
    }

    func testWhatIsAllocatedHoldsWhatItWasAskedFor() {
        let memory = SessionMemory(keptByteCountMax: 64 << 10)
        var random = SeededRandom(seed: 1)
        let functions = memory.functions
        var live: [(start: UnsafeMutableRawPointer, byteCount: Int, mark: UInt8)] = []
        for step in 0..<5_000 {
            let mark = UInt8(truncatingIfNeeded: step)
            let byteCount = [0, 1, 64, 65, 500, 1024, 1025, 20_000][Int.random(in: 0..<8, using: &random)]
            switch Int.random(in: 0..<4, using: &random) {
            case 0:
                guard let start = functions.malloc(byteCount, functions.mem_user_data) else {
                    return XCTFail("no memory")
                }
                memset(start, Int32(mark), byteCount)
                live.append((start, byteCount, mark))
            case 1:
                guard let start = functions.calloc(1, byteCount, functions.mem_user_data) else {
                    return XCTFail("no memory")
                }
                XCTAssertTrue(UnsafeRawBufferPointer(start: start, count: byteCount).allSatisfy { $0 == 0 })
                memset(start, Int32(mark), byteCount)
                live.append((start, byteCount, mark))
            case 2 where !live.isEmpty:
                let place = live.indices.randomElement(using: &random) ?? 0
                let (old, oldCount, oldMark) = live[place]
                guard let start = functions.realloc(old, byteCount, functions.mem_user_data) else {
                    return XCTFail("no memory")
                }
                let kept = UnsafeRawBufferPointer(start: start, count: min(oldCount, byteCount))
                XCTAssertTrue(kept.allSatisfy { $0 == oldMark })
                memset(start, Int32(mark), byteCount)
                live[place] = (start, byteCount, mark)
            case 3 where !live.isEmpty:
                let (start, byteCount, mark) = live.remove(at: live.indices.randomElement(using: &random) ?? 0)
                XCTAssertTrue(UnsafeRawBufferPointer(start: start, count: byteCount).allSatisfy { $0 == mark })
                functions.free(start, functions.mem_user_data)
            default: continue
            }
        }
        for block in live { functions.free(block.start, functions.mem_user_data) }
        functions.free(nil, functions.mem_user_data)
    }
}
