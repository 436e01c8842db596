import Prelude
import XCTest

final class LimitsTests: XCTestCase {
    func test_theDefaultsFitTogether() throws { try Limits().validate() }

    /// A leader that may send more than the queue takes sends for nothing, again and again.
    func test_whatIsOnItsWayToAFollowerFitsIntoItsQueue() {
        var limits = Limits()
        limits.raft.inflightByteCountMax = UInt64(limits.node.peerQueueByteCountMax) / 4 + 1
        XCTAssertThrowsError(try limits.validate()) { error in
            XCTAssertEqual(
                "\(error)",
                "limits contradict each other: raft.inflightByteCountMax ≤ node.peerQueueByteCountMax / 4")
        }
    }
}
