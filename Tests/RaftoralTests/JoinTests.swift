import Raftoral
import XCTest

/// Ids are assigned by the cluster, whoever asks when.
final class JoinTests: LoopTestCase {
    private var nodes: TestNodes { TestNodes(loop: loop) }

    func testFirstNodeGetsOne() throws {
        let nodes = nodes
        try onLoop {
            let node = try await nodes.start(bootstrap: true)
            XCTAssertEqual(node.id, 1)
            await node.shutdown()
        }
    }

    func testJoinersGetTheNextIDs() throws {
        let nodes = nodes
        try onLoop {
            var all = [try await nodes.start(bootstrap: true)]
            for id in 2...4 {
                all.append(try await nodes.start(peers: all.map(\.address)))
                XCTAssertEqual(all.last?.id, NodeID(UInt64(id)))
            }
            XCTAssertEqual(Set(all.map(\.clusterID)).count, 1)
            await all.shutdown()
        }
    }

    func testGivenIDIsTakenAndNeverGivenAgain() throws {
        let nodes = nodes
        try onLoop {
            let first = try await nodes.start(bootstrap: true)
            let given = try await nodes.start(peers: [first.address], nodeID: 7)
            XCTAssertEqual(given.id, 7)
            let next = try await nodes.start(peers: [first.address])
            XCTAssertEqual(next.id, 8)
            do {
                _ = try await nodes.start(peers: [first.address], nodeID: 7)
                XCTFail("two nodes have id 7")
            } catch NodeError.nodeIDExists(let id, let peer) {
                XCTAssertEqual(id, 7)
                XCTAssertEqual(peer, first.address.description)
            }
            await [first, given, next].shutdown()
        }
    }

    func testJoinersOfTheSameMomentGetDifferentIDs() throws {
        let (loop, nodes) = (loop, nodes)
        // The joiners come before there is anybody to join.
        let address = try silentAddress(on: loop)
        try onLoop {
            let joined = try await withThrowingTaskGroup(of: RunningNode.self) { group in
                for _ in 0..<5 { group.addTask { try await nodes.start(peers: [address]) } }
                group.addTask { try await nodes.start(bootstrap: true, address: address) }
                var joined: [RunningNode] = []
                for try await node in group { joined.append(node) }
                return joined.sorted { $0.id < $1.id }
            }
            XCTAssertEqual(joined.map(\.id), [1, 2, 3, 4, 5, 6])
            // Five of them become voters.
            try await nodes.waitForVoters(5, joined)
            for node in joined {
                let members = try await node.status.members.map(\.nodeID)
                XCTAssertEqual(members, [1, 2, 3, 4, 5, 6])
            }
            await joined.shutdown()
        }
    }

    func testNobodyAnswers() throws {
        let loop = loop
        let address = try silentAddress(on: loop)
        var configuration = NodeConfiguration(address: .anyPort, dataDirectory: "/data", peers: [address])
        configuration.discoveryTimeoutSeconds = 1
        try onLoop { [configuration] in
            do {
                _ = try await RunningNode.start(configuration, on: loop, disk: MemoryDisk()) { _ in }
                XCTFail("there is nobody to join")
            } catch NodeError.noPeersFound(let peers, timeoutSeconds: 1) {
                XCTAssertEqual(peers, [address])
            }
        }
    }

    func testStartIsToldStepByStep() throws {
        let (loop, nodes) = (loop, nodes)
        let told = LoopBound(Lines(), to: loop)
        try onLoop {
            let first = try await nodes.start(bootstrap: true)
            let second = try await nodes.start(
                peers: [first.address], report: { told.value.lines.append("\($0)".prefix { $0 != "(" }.description) })
            XCTAssertEqual(
                told.value.lines,
                [
                    "starting", "discovering", "discovered", "nodeID", "clusterNodes", "clusterInitialised",
                    "listening", "runtimeReady",
                ])
            await [first, second].shutdown()
        }
    }

    private final class Lines { var lines: [String] = [] }
}
