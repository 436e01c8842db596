import Dispatch
import Prelude
import XCTest

@testable import Wire

final class MessagesArenaTests: XCTestCase {
    func test_allocationsAreAlignedAndDoNotOverlap() {
        var random = SeededRandom(seed: 3)
        ProtobufArena.withArena(budget: .max) { arena in
            var taken: [(start: UnsafeMutableRawPointer, byteCount: Int)] = []
            for _ in 0..<2_000 {
                let byteCount = Int.random(in: 0...600, using: &random)
                guard let start = arena.pointee.allocate(byteCount: UInt(byteCount)) else {
                    return XCTFail("no memory without a bound")
                }
                XCTAssertEqual(Int(bitPattern: start) % MemoryLayout<Int>.alignment, 0)
                XCTAssertEqual(ProtobufArena.byteCount(at: start), byteCount)
                memset(start, 0xA5, byteCount)
                taken.append((start, byteCount))
            }
            taken.sort { $0.start < $1.start }
            for (one, next) in zip(taken, taken.dropFirst()) {
                XCTAssertLessThan(one.start + one.byteCount, next.start)
            }
            // Writing to all of them has left the sizes before them alone.
            for one in taken { XCTAssertEqual(ProtobufArena.byteCount(at: one.start), one.byteCount) }
        }
    }

    func test_theBudgetHolds() {
        ProtobufArena.withArena(budget: 1_000) { arena in
            XCTAssertNotNil(arena.pointee.allocate(byteCount: 500))
            XCTAssertFalse(arena.pointee.isBudgetExceeded)
            XCTAssertNil(arena.pointee.allocate(byteCount: 500))
            XCTAssertTrue(arena.pointee.isBudgetExceeded)
            XCTAssertNil(arena.pointee.allocate(byteCount: .max))
            XCTAssertNil(arena.pointee.allocate(byteCount: UInt(Int.max)))
            XCTAssertNotNil(arena.pointee.allocate(byteCount: 100))
        }
        ProtobufArena.withArena(budget: 1_000) { arena in
            XCTAssertFalse(arena.pointee.isBudgetExceeded)
            XCTAssertNotNil(arena.pointee.allocate(byteCount: 900))
        }
    }

    func test_aUseWithinAUseGetsItsOwnArena() {
        ProtobufArena.withArena(budget: .max) { outer in
            let kept = outer.pointee.allocate(byteCount: 8)
            kept?.storeBytes(of: 0x1234, as: UInt64.self)
            ProtobufArena.withArena(budget: .max) { inner in
                XCTAssertNotEqual(outer, inner)
                let other = inner.pointee.allocate(byteCount: 8)
                other?.storeBytes(of: 0x5678, as: UInt64.self)
            }
            XCTAssertEqual(kept?.load(as: UInt64.self), 0x1234)
        }
    }

    func test_aThreadKeepsItsArena() {
        let one = ProtobufArena.withArena(budget: .max) { $0 }
        let next = ProtobufArena.withArena(budget: .max) { $0 }
        XCTAssertEqual(one, next)
    }

    func test_threadsDoNotDisturbEachOther() {
        DispatchQueue.concurrentPerform(iterations: 8) { thread in
            for round in 0..<UInt64(500) {
                var values = RandomValues(seed: UInt64(thread) << 32 | round, fill: .everything)
                let message = values.peerMessage()
                XCTAssertEqual(try? PeerMessage(decoding: message.encoded()), message)
            }
        }
    }
}
