import Prelude
import XCTest

@_spi(Simulation) @testable import Node
@testable import Simulator

/// What is committed is found again after a crash, so that to hear of it is no reason to write.
final class CommitWriteTests: ClusterOfThree {
    private var writeCounts: [UInt64] {
        machines.map { $0.node?.metrics.writeSeconds.state.counts.reduce(0, +) ?? 0 }
    }

    func test_anEntryIsOneWriteOnEachNode() throws {
        let leader = try leader()
        waitUntil("all have applied") { self.areEqual() }
        let before = writeCounts
        let count: UInt64 = 20
        for number in 0..<count {
            XCTAssertTrue(leader.put("key", "\(number)"), "put \(number)")
            // The followers hear of the commitment before the next entry comes.
            waitUntil("all have applied") { self.areEqual() }
            letTimePass(.milliseconds(20))
        }
        for (now, before) in zip(writeCounts, before) {
            XCTAssertGreaterThanOrEqual(now - before, count)
            XCTAssertLessThanOrEqual(now - before, count + 5)
        }
    }
}
