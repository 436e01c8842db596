import Prelude
import XCTest

final class CollectionTests: XCTestCase {
    func test_aFlatMapIsADictionaryInTheOrderOfItsKeys() {
        var random = SeededRandom(seed: 5)
        for _ in 0..<200 {
            var map = FlatMap<Int, Int>()
            var twin: [Int: Int] = [:]
            for step in 0..<60 {
                let key = Int.random(in: 0..<12, using: &random)
                switch Int.random(in: 0..<6, using: &random) {
                case 0:
                    map[key] = step
                    twin[key] = step
                case 1: XCTAssertEqual(map.removeValue(forKey: key), twin.removeValue(forKey: key))
                case 2: XCTAssertEqual(map.updateValue(step, forKey: key), twin.updateValue(step, forKey: key))
                case 3:
                    map[key, default: 100] += step
                    twin[key, default: 100] += step
                case 4:
                    map[key] = nil
                    twin[key] = nil
                default: XCTAssertEqual(map[key, default: -1], twin[key, default: -1])
                }
                XCTAssertEqual(map[key], twin[key])
                XCTAssertEqual(map.count, twin.count)
                XCTAssertEqual(map.isEmpty, twin.isEmpty)
                let pairs = twin.sorted { $0.key < $1.key }
                XCTAssertEqual(map.map(\.key), pairs.map(\.key))
                XCTAssertEqual(Array(map.values), pairs.map(\.value))
            }
            let copy = FlatMap(twin)
            XCTAssertEqual(copy.map(\.key), map.map(\.key))
        }
    }

    func test_aDoubleBufferHandsOutWhatCameInAndKeepsItsRoom() {
        var buffer = DoubleBuffer<Int>()
        XCTAssertTrue(buffer.isEmpty)
        for round in 0..<5 {
            buffer.append(contentsOf: [round, round + 1])
            buffer.append(round + 2)
            var taken = buffer.take()
            XCTAssertTrue(buffer.isEmpty)
            // What comes while it is gone through is for the next time.
            for number in taken { buffer.append(-number) }
            XCTAssertEqual(taken, [round, round + 1, round + 2])
            buffer.giveBack(&taken)
            XCTAssertEqual(buffer.take(), [-round, -round - 1, -round - 2])
            XCTAssertEqual(buffer.take(), [])
        }
    }

    func test_aDoubleBufferGivesLargeRoomBack() {
        var buffer = DoubleBuffer<Int>()
        buffer.append(contentsOf: Array(0..<5_000))
        var taken = buffer.take()
        buffer.giveBack(&taken)
        XCTAssertEqual(taken.capacity, 0)
        buffer.append(1)
        XCTAssertEqual(buffer.take(), [1])
        XCTAssertLessThan(buffer.take().capacity, 5_000)
    }
}
