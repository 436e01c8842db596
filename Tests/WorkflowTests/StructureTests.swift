import Prelude
import XCTest

@testable import Workflow

/// The machine's own collections beside naive twins.
final class StructureTests: XCTestCase {
    func test_sortedBucketsAgreeWithASet() {
        for seed in UInt64(1)...6 {
            var random = SeededRandom(seed: seed)
            var buckets = SortedBuckets<UInt64>()
            var twin: Set<UInt64> = []
            let range = seed % 2 == 0 ? 5000 : UInt64(300)
            for step in 0..<5000 {
                let value = random.next() % range
                if random.next() % 100 < (step < 2500 ? 70 : 30) {
                    XCTAssertEqual(buckets.insert(value), twin.insert(value).inserted)
                } else {
                    XCTAssertEqual(buckets.remove(value), twin.remove(value) != nil)
                }
                XCTAssertEqual(buckets.count, twin.count)
                guard step % 250 == 0 else { continue }
                let sorted = twin.sorted()
                XCTAssertEqual(buckets.first, sorted.first)
                XCTAssertEqual(ascending(buckets, nil), sorted)
                XCTAssertEqual(descending(buckets, nil), sorted.reversed())
                for bound in [0, value, random.next() % range, range] {
                    XCTAssertEqual(ascending(buckets, bound), sorted.filter { $0 > bound })
                    XCTAssertEqual(descending(buckets, bound), sorted.reversed().filter { $0 < bound })
                }
            }
            for value in twin.sorted() { XCTAssertTrue(buckets.remove(value)) }
            XCTAssertTrue(buckets.isEmpty)
            XCTAssertNil(buckets.first)
        }
    }

    func test_visitsEndWhenTold() {
        var buckets = SortedBuckets<Int>()
        for value in 0..<1000 { buckets.insert(value) }
        var seen: [Int] = []
        buckets.ascending(above: 10) { value in
            seen.append(value)
            return seen.count < 3
        }
        XCTAssertEqual(seen, [11, 12, 13])
        seen = []
        buckets.descending(below: 10) { value in
            seen.append(value)
            return seen.count < 3
        }
        XCTAssertEqual(seen, [9, 8, 7])
    }

    func test_anOriginWindowAgreesWithASet() throws {
        for seed in UInt64(1)...20 {
            var random = SeededRandom(seed: seed)
            var window = OriginWindow(incarnation: 1)
            var seen: Set<UInt64> = []
            let wordCountMax = 4
            var highest: UInt64 = 0
            for _ in 0..<3000 {
                let sequence: UInt64
                switch random.next() % 20 {
                case 0: sequence = highest + random.next() % 600 + 1
                case 1: sequence = random.next() % (highest + 1) + 1
                default: sequence = max(1, highest &- min(highest, random.next() % 100)) + random.next() % 4
                }
                highest = max(highest, sequence)
                switch window.admit(sequence, wordCountMax: wordCountMax) {
                case .new: XCTAssertTrue(seen.insert(sequence).inserted, "\(sequence) was taken twice")
                case .seen: XCTAssertTrue(seen.contains(sequence), "\(sequence) had never been there")
                case .tooOld: XCTAssertLessThan(sequence + UInt64(wordCountMax - 1) * 64, highest)
                }
                var writer = ByteWriter()
                window.write(to: &writer)
                XCTAssertLessThan(writer.bytes.count, wordCountMax * 8 + 40)
                var reader = ByteReader(writer.bytes)
                XCTAssertEqual(try OriginWindow(from: &reader), window)
            }
        }
    }

    func test_anOriginWindowTakesTheLargestSequences() throws {
        var window = OriginWindow(incarnation: 1)
        XCTAssertEqual(window.admit(1, wordCountMax: 2), .new)
        XCTAssertEqual(window.admit(.max, wordCountMax: 2), .new)
        XCTAssertEqual(window.admit(.max, wordCountMax: 2), .seen)
        XCTAssertEqual(window.admit(.max - 1, wordCountMax: 2), .new)
        XCTAssertEqual(window.admit(1, wordCountMax: 2), .tooOld)
        XCTAssertEqual(window.admit(0, wordCountMax: 2), .tooOld)
        var writer = ByteWriter()
        window.write(to: &writer)
        var reader = ByteReader(writer.bytes)
        XCTAssertEqual(try OriginWindow(from: &reader), window)
    }

    func test_fullWordsLeaveTheWindowAsSeen() {
        var window = OriginWindow(incarnation: 1)
        for sequence in UInt64(1)...1000 { XCTAssertEqual(window.admit(sequence, wordCountMax: 2), .new) }
        for sequence in UInt64(1)...1000 { XCTAssertEqual(window.admit(sequence, wordCountMax: 2), .seen) }
    }

    private func ascending(_ buckets: SortedBuckets<UInt64>, _ bound: UInt64?) -> [UInt64] {
        var found: [UInt64] = []
        buckets.ascending(above: bound) {
            found.append($0)
            return true
        }
        return found
    }

    private func descending(_ buckets: SortedBuckets<UInt64>, _ bound: UInt64?) -> [UInt64] {
        var found: [UInt64] = []
        buckets.descending(below: bound) {
            found.append($0)
            return true
        }
        return found
    }
}
