import Prelude
import Wire
import XCTest

@testable import Node

final class DirectoryTests: XCTestCase {
    private let directory = DirectoryMachine(
        clusterID: "c", firstNode: 1, address: "a:1", groups: [.directory, .firstWorkflows])

    private func apply(_ command: DirectoryCommand) -> DirectoryResult? {
        let entry = AppliedEntry(
            group: .directory, index: 2, timeMilliseconds: 0, origin: .init(node: 1, incarnation: 1, sequence: 1))
        guard case .directory(let result) = directory.apply(command.encoded()[...], entry).result else { return nil }
        return result
    }

    private func add(_ address: String, id: NodeID = .none, request: String = "", above: NodeID = .none)
        -> DirectoryResult?
    {
        apply(.add(.init(address: address, nodeID: id, requestID: request, aboveNodeID: above)))
    }

    func test_joinersGetDifferentIDs() {
        XCTAssertEqual(add("b:1"), .added(2))
        XCTAssertEqual(add("c:1"), .added(3))
        XCTAssertEqual(directory.state.highestNodeID, 3)
    }

    func test_theSameRequestGetsTheSameID() {
        XCTAssertEqual(add("b:1", request: "r"), .added(2))
        XCTAssertEqual(add("b:1", request: "r"), .added(2))
        XCTAssertEqual(add("b:1", request: "s"), .added(3))
    }

    func test_aGivenIDIsTakenOnce() {
        XCTAssertEqual(add("b:1", id: 5), .added(5))
        XCTAssertEqual(add("c:1", id: 5), .idInUse(5))
        XCTAssertEqual(add("c:1", id: 1), .idInUse(1))
        XCTAssertEqual(add("c:1", id: 3), .added(3))
        XCTAssertEqual(add("d:1"), .added(6))
    }

    func test_idsAreNeverUsedTwice() {
        XCTAssertEqual(add("b:1"), .added(2))
        XCTAssertEqual(apply(.remove(.init(nodeID: 2))), .done)
        XCTAssertTrue(directory.isRemoved(2))
        XCTAssertEqual(add("b:1", id: 2), .idInUse(2))
        XCTAssertEqual(add("b:1"), .added(3))
    }

    func test_whatAJoinerHeardCountsWhenItIsNear() {
        XCTAssertEqual(add("b:1", above: 9), .added(10))
        XCTAssertEqual(add("c:1", above: NodeID(UInt64(Int64.max))), .added(11))
        XCTAssertEqual(add("d:1", id: NodeID(1 << 60)), .idsExhausted)
    }

    func test_theLastNodeStays() {
        XCTAssertEqual(apply(.remove(.init(nodeID: 1))), .lastNode)
        XCTAssertEqual(apply(.remove(.init(nodeID: 7))), .unknownNode(7))
    }

    func test_anAddressCanChange() {
        XCTAssertEqual(apply(.setAddress(.init(nodeID: 1, address: "z:9"))), .done)
        XCTAssertEqual(directory.member(1)?.address, "z:9")
        XCTAssertEqual(apply(.setAddress(.init(nodeID: 2, address: "z:9"))), .unknownNode(2))
    }

    func test_aSnapshotHoldsEverything() throws {
        _ = add("b:1", request: "r")
        _ = add("c:1")
        _ = apply(.remove(.init(nodeID: 3)))
        let other = DirectoryMachine()
        try other.restore(directory.snapshot())
        XCTAssertEqual(other.state, directory.state)
        XCTAssertThrowsError(try other.restore([0xFF, 0xFF, 0x01]))
    }

    func test_whoAsksAgainFromAnotherAddressIsTheSameJoiner() {
        XCTAssertEqual(add("b:1", request: "r"), .added(2))
        XCTAssertEqual(add("b:2", request: "r"), .added(2))
        XCTAssertEqual(directory.member(2)?.address, "b:2")
        // Once it is there, it speaks for itself: an old request that is proposed again changes nothing.
        XCTAssertEqual(apply(.setAddress(.init(nodeID: 2, address: "b:3", protocolLevel: 1))), .done)
        XCTAssertEqual(add("b:2", request: "r"), .added(2))
        XCTAssertEqual(directory.member(2)?.address, "b:3")
    }

    func test_aRemovalCanBeRepeated() {
        XCTAssertEqual(add("b:1"), .added(2))
        XCTAssertEqual(apply(.remove(.init(nodeID: 2))), .done)
        XCTAssertEqual(apply(.remove(.init(nodeID: 2))), .done)
        XCTAssertEqual(directory.state.removedNodeIDs, [2])
    }

    func test_theProtocolLevelIsWhatAllKnowAndNeverFalls() {
        func announce(_ id: NodeID, _ level: UInt32) -> DirectoryResult? {
            apply(.setAddress(.init(nodeID: id, address: "x:1", protocolLevel: level)))
        }
        XCTAssertEqual(announce(1, 3), .done)
        XCTAssertEqual(directory.state.protocolLevel, 3)
        let machine = DirectoryMachine(
            clusterID: "c", firstNode: 1, address: "a:1", groups: [.directory, .firstWorkflows])
        XCTAssertEqual(machine.state.protocolLevel, 1)
        // Too old to join.
        XCTAssertEqual(apply(.add(.init(address: "b:1", protocolLevel: 2))), .protocolTooOld(needed: 3))
        XCTAssertEqual(add("b:1"), .protocolTooOld(needed: 3))
        // One that never came holds nothing down.
        XCTAssertEqual(apply(.add(.init(address: "b:1", protocolLevel: 3))), .added(2))
        XCTAssertEqual(announce(1, 4), .done)
        XCTAssertEqual(directory.state.protocolLevel, 4)
        XCTAssertEqual(announce(2, 3), .done)
        XCTAssertEqual(announce(1, 5), .done)
        XCTAssertEqual(directory.state.protocolLevel, 4)
        XCTAssertEqual(apply(.remove(.init(nodeID: 2))), .done)
        XCTAssertEqual(directory.state.protocolLevel, 5)
    }

    func test_bytesThatAreNoCommandChangeNothing() {
        let before = directory.state
        let entry = AppliedEntry(
            group: .directory, index: 2, timeMilliseconds: 0, origin: .init(node: 1, incarnation: 1, sequence: 1))
        guard case .undecodable = directory.apply([0xFF, 0x07], entry).result else { return XCTFail("decoded") }
        XCTAssertEqual(directory.state, before)
    }

    func test_nextNodeID() {
        func peer(_ id: NodeID, _ highest: NodeID) -> DiscoveredPeer {
            DiscoveredPeer(
                address: HostPort(host: "h", port: 1), nodeID: id, role: .follower, highestKnownNodeID: highest)
        }
        XCTAssertEqual(nextNodeID([]), 1)
        XCTAssertEqual(nextNodeID([peer(1, 1)]), 2)
        XCTAssertEqual(nextNodeID([peer(1, 3), peer(2, 7), peer(9, 0)]), 10)
        XCTAssertEqual(nextNodeID([peer(1, NodeID(.max))]), NodeID(.max))
    }

    func test_joinersAskTheLeaderAndThenTheNearest() {
        let addresses = (1...4).map { HostPort(host: "h\($0)", port: 1) }
        func peer(_ number: Int, _ role: NodeRole, _ latency: Nanoseconds, leader: HostPort? = nil) -> DiscoveredPeer {
            DiscoveredPeer(
                address: addresses[number - 1], nodeID: NodeID(UInt64(number)), role: role, highestKnownNodeID: 4,
                leaderAddress: leader, latency: latency)
        }
        XCTAssertEqual(joinTargets([]), [])
        XCTAssertEqual(
            joinTargets([peer(1, .follower, 30), peer(2, .follower, 10), peer(3, .leader, 90, leader: addresses[2])]),
            [addresses[2], addresses[1], addresses[0]])
        // The leader did not answer itself: somebody named it.
        XCTAssertEqual(
            joinTargets([peer(1, .follower, 30), peer(2, .follower, 10, leader: addresses[3])]),
            [addresses[3], addresses[1], addresses[0]])
    }
}
