import Raftoral
import XCTest

final class TransportTests: LoopTestCase {
    /// A transport with a server, and what it received.
    private final class End {
        let transport: ClusterTransport
        let server: RunningServer
        var received: [(message: Message, group: GroupID)] = []
        var unreachable: [NodeID] = []

        init(_ transport: ClusterTransport, _ server: RunningServer) {
            self.transport = transport
            self.server = server
            transport.onMessage = { [unowned self] in received.append(($0, $1)) }
            transport.onUnreachable = { [unowned self] in unreachable.append($0) }
        }
    }

    private var ends: [End] = []

    private func makeEnd(_ id: NodeID, cluster: String = "c", knowing peers: [End] = []) throws -> End {
        let loop = loop
        // The address is known once the server listens, so it stands in the way of the transport's own.
        let late = LoopBound(Late(), to: loop)
        let server = try onLoop {
            try await RunningServer.start(on: loop, address: .anyPort) { late.value.server = $0 }
        }
        let transport = ClusterTransport(
            local: NodeConfig(nodeID: id, address: server.address), clusterID: cluster,
            peers: peers.map(\.transport.local), on: loop)
        let isRegistered = try onLoop { [bound = LoopBound(transport, to: loop)] in
            guard let server = late.value.server else { return false }
            bound.value.register(on: server)
            return true
        }
        XCTAssertTrue(isRegistered)
        let end = End(transport, server)
        for peer in peers { peer.transport.add(transport.local) }
        ends.append(end)
        return end
    }

    private final class Late { var server: GRPCServer? }

    override func tearDown() {
        let all = ends
        ends = []
        for end in all { end.transport.close() }
        for end in all {
            let server = end.server
            XCTAssertNoThrow(try onLoop { await server.shutdown(grace: .seconds(1)) })
        }
        super.tearDown()
    }

    private func heartbeat(to node: NodeID, from: NodeID, commit: LogIndex = 0) -> Message {
        var message = Message(kind: .heartbeat, to: node, from: from, term: 1)
        message.commit = commit
        return message
    }

    // MARK: - Messages

    func testMessagesPassInOrderBothWays() throws {
        let one = try makeEnd(1)
        let two = try makeEnd(2, knowing: [one])
        let count: UInt64 = 2_000
        for number in 1...count {
            XCTAssertTrue(one.transport.send(heartbeat(to: 2, from: 1, commit: LogIndex(number)), group: 1))
            XCTAssertTrue(two.transport.send(heartbeat(to: 1, from: 2, commit: LogIndex(number)), group: 0))
        }
        wait("all messages") { one.received.count == Int(count) && two.received.count == Int(count) }
        XCTAssertEqual(two.received.map(\.message.commit), (1...count).map { LogIndex($0) })
        XCTAssertEqual(two.received.map(\.group), Array(repeating: 1, count: Int(count)))
        XCTAssertEqual(one.received.map(\.message.commit), (1...count).map { LogIndex($0) })
        XCTAssertEqual(one.received.map(\.group), Array(repeating: 0, count: Int(count)))
        XCTAssertEqual(one.unreachable + two.unreachable, [])
    }

    func testMessageArrivesWhole() throws {
        let one = try makeEnd(1)
        let two = try makeEnd(2, knowing: [one])
        var message = Message(kind: .append, to: 2, from: 1, term: 7)
        message.logTerm = 6
        message.index = 41
        message.commit = 40
        message.entries = (42...60).map {
            Entry(term: 7, index: LogIndex($0), kind: .normal, data: Array(repeating: UInt8($0), count: 1000))
        }
        one.transport.send(message, group: 5)
        wait("the message") { !two.received.isEmpty }
        XCTAssertEqual(two.received.first?.message, message)
        XCTAssertEqual(two.received.first?.group, 5)
    }

    func testSnapshotIsCutIntoPartsAndPutTogether() throws {
        let one = try makeEnd(1)
        let two = try makeEnd(2, knowing: [one])
        var random = SeededRandom(seed: 3)
        var message = Message(kind: .snapshot, to: 2, from: 1, term: 2)
        let data = (0..<5_300_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        message.snapshot = Snapshot(
            metadata: SnapshotMetadata(index: 9, term: 2, confState: ConfState(voters: [1, 2])), data: data)
        one.transport.send(message, group: 1)
        for commit in 1...10 {
            one.transport.send(heartbeat(to: 2, from: 1, commit: LogIndex(UInt64(commit))), group: 1)
        }
        wait("all messages") { two.received.count == 11 }
        XCTAssertEqual(two.received.last?.message, message, "heartbeats do not wait for a snapshot")
        XCTAssertEqual(two.received.dropLast().map(\.message.commit), (1...10).map { LogIndex(UInt64($0)) })
        XCTAssertEqual(one.unreachable, [])
    }

    func testDeliverWaitsForReceipt() throws {
        let one = try makeEnd(1)
        let two = try makeEnd(2, knowing: [one])
        let message = heartbeat(to: 2, from: 1, commit: 9)
        try onLoop { [bound = LoopBound(one.transport, to: loop)] in
            try await bound.value.deliver(message, group: 1)
        }
        XCTAssertEqual(two.received.map(\.message), [message])
    }

    func testDeliverSaysWhyItDidNot() throws {
        let one = try makeEnd(1)
        let two = try makeEnd(2, knowing: [one])
        let stranger = try makeEnd(3, cluster: "another", knowing: [two])
        func code(_ from: End, _ message: Message) throws -> GRPCCode? {
            try onLoop { [bound = LoopBound(from.transport, to: loop)] in
                do throws(GRPCStatus) {
                    try await bound.value.deliver(message, group: 1)
                    return nil
                } catch {
                    return error.code
                }
            }
        }
        XCTAssertEqual(try code(one, heartbeat(to: 9, from: 1)), .notFound)
        XCTAssertEqual(try code(stranger, heartbeat(to: 2, from: 3)), .failedPrecondition)
        // At that address lives another node.
        one.transport.add(NodeConfig(nodeID: 4, address: two.transport.local.address))
        XCTAssertEqual(try code(one, heartbeat(to: 4, from: 1)), .failedPrecondition)
        one.transport.add(NodeConfig(nodeID: 5, address: try silentAddress(on: loop)))
        XCTAssertEqual(try code(one, heartbeat(to: 5, from: 1)), .unavailable)
        XCTAssertTrue(two.received.isEmpty)
    }

    func testStreamOfAnotherClusterIsRefused() throws {
        let one = try makeEnd(1)
        let stranger = try makeEnd(2, cluster: "another", knowing: [one])
        stranger.transport.send(heartbeat(to: 1, from: 2), group: 1)
        wait("the refusal") { stranger.unreachable == [1] }
        XCTAssertTrue(one.received.isEmpty)
    }

    func testUnreachableNodeIsReportedAndReachedWhenItComes() throws {
        let one = try makeEnd(1)
        one.transport.add(NodeConfig(nodeID: 2, address: try silentAddress(on: loop)))
        one.transport.send(heartbeat(to: 2, from: 1), group: 1)
        wait("the report") { one.unreachable.contains(2) }
        let two = try makeEnd(2, knowing: [one])
        one.transport.send(heartbeat(to: 2, from: 1), group: 1)
        wait("the message") { !two.received.isEmpty }
    }

    // MARK: - Nodes

    func testNodesAreAddedListedAndRemoved() throws {
        let addresses = (1...3).map { HostPort(host: "10.0.0.\($0)", port: 5001) }
        let transport = ClusterTransport(
            local: NodeConfig(nodeID: 1, address: addresses[0]),
            peers: [NodeConfig(nodeID: 3, address: addresses[2])], on: loop)
        defer { transport.close() }
        XCTAssertEqual(transport.nodeIDs, [3])
        transport.add(NodeConfig(nodeID: 2, address: addresses[1]))
        XCTAssertEqual(transport.nodeIDs, [2, 3])
        XCTAssertEqual(
            transport.nodes,
            [NodeConfig(nodeID: 2, address: addresses[1]), NodeConfig(nodeID: 3, address: addresses[2])])
        XCTAssertEqual(transport.address(of: 2), addresses[1])
        XCTAssertNil(transport.address(of: 4))
        XCTAssertTrue(transport.remove(3))
        XCTAssertFalse(transport.remove(3))
        XCTAssertNil(transport.address(of: 3))
        XCTAssertEqual(transport.nodeIDs, [2])
        transport.add(NodeConfig(nodeID: 2, address: addresses[0]))
        XCTAssertEqual(transport.address(of: 2), addresses[0])
        XCTAssertFalse(transport.send(heartbeat(to: 3, from: 1), group: 1))
    }

    func testRemovedNodeGetsNothing() throws {
        let one = try makeEnd(1)
        let two = try makeEnd(2, knowing: [one])
        let three = try makeEnd(3, knowing: [one])
        one.transport.send(heartbeat(to: 2, from: 1, commit: 1), group: 1)
        wait("the first message") { two.received.count == 1 }
        one.transport.remove(2)
        XCTAssertFalse(one.transport.send(heartbeat(to: 2, from: 1, commit: 2), group: 1))
        one.transport.send(heartbeat(to: 3, from: 1, commit: 3), group: 1)
        wait("the message to another") { three.received.count == 1 }
        XCTAssertEqual(two.received.count, 1)
    }

    func testNewAddressIsUsed() throws {
        let one = try makeEnd(1)
        let two = try makeEnd(2, knowing: [one])
        one.transport.send(heartbeat(to: 2, from: 1, commit: 1), group: 1)
        wait("the first message") { two.received.count == 1 }
        // The node moved.
        let moved = try makeEnd(2)
        one.transport.add(moved.transport.local)
        one.transport.send(heartbeat(to: 2, from: 1, commit: 2), group: 1)
        wait("the message at the new address") { moved.received.count == 1 }
        XCTAssertEqual(two.received.count, 1)
    }

    func testSpeaksToNodes() throws {
        let nodes = TestNodes(loop: loop)
        let node = try onLoop { try await nodes.start(bootstrap: true) }
        let transport = ClusterTransport(
            local: NodeConfig(nodeID: 9, address: HostPort(host: "127.0.0.1", port: 9)), clusterID: node.clusterID,
            peers: [NodeConfig(nodeID: 1, address: node.address)], on: loop)
        let stale = heartbeat(to: 1, from: 9)
        let found = try onLoop { [bound = LoopBound(transport, to: loop)] in
            try await bound.value.deliver(stale, group: 1)
            return try await bound.value.discover(1)
        }
        XCTAssertEqual(found.nodeID, 1)
        XCTAssertEqual(found.role, .leader)
        XCTAssertEqual(found.clusterID, node.clusterID)
        transport.close()
        try onLoop { await node.shutdown() }
    }
}
