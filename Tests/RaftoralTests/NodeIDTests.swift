import Raftoral
import XCTest

final class NodeIDTests: XCTestCase {
    private func peer(_ id: NodeID, highestKnown: NodeID) -> DiscoveredPeer {
        DiscoveredPeer(
            address: HostPort(host: "127.0.0.1", port: 5001), nodeID: id, role: .follower,
            highestKnownNodeID: highestKnown)
    }

    func testFirstIDIsOne() {
        XCTAssertEqual(nextNodeID([]), 1)
    }

    func testOneAboveTheHighestKnown() {
        XCTAssertEqual(nextNodeID([peer(1, highestKnown: 1)]), 2)
        // Node 7 was known once, whoever is there now.
        XCTAssertEqual(nextNodeID([peer(1, highestKnown: 7)]), 8)
        XCTAssertEqual(nextNodeID([peer(1, highestKnown: 3), peer(2, highestKnown: 9), peer(3, highestKnown: 4)]), 10)
    }

    func testPeersOwnIDCounts() {
        XCTAssertEqual(nextNodeID([peer(5, highestKnown: 0), peer(2, highestKnown: 3)]), 6)
    }

    func testHighestNumberDoesNotOverflow() {
        XCTAssertEqual(nextNodeID([peer(NodeID(.max), highestKnown: 0)]), NodeID(.max))
    }
}
