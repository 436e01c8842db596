import Raftoral
import XCTest

final class DiscoveryTests: LoopTestCase {
    private var nodes: TestNodes { TestNodes(loop: loop) }

    func testNobodyToAsk() throws {
        let loop = loop
        XCTAssertEqual(try onLoop { await discoverPeers([], on: loop) }, [])
    }

    func testOnePeer() throws {
        let (loop, nodes) = (loop, nodes)
        try onLoop {
            let node = try await nodes.start(bootstrap: true)
            let found = await discoverPeers([node.address], on: loop)
            let latency = found.first?.latency ?? 0
            XCTAssertGreaterThan(latency, 0)
            XCTAssertEqual(
                found,
                [
                    DiscoveredPeer(
                        address: node.address, nodeID: 1, role: .leader, highestKnownNodeID: 1,
                        clusterID: node.clusterID, leaderAddress: node.address, latency: latency)
                ])
            XCTAssertEqual(nextNodeID(found), 2)
            await node.shutdown()
        }
    }

    func testPeersAnswerInTheOrderInWhichTheyWereGiven() throws {
        let (loop, nodes) = (loop, nodes)
        let silent = try silentAddress(on: loop)
        try onLoop {
            let cluster = try await nodes.cluster(3)
            let asked = [cluster[2].address, silent, cluster[0].address, cluster[1].address]
            let found = await discoverPeers(asked, on: loop)
            XCTAssertEqual(found.map(\.nodeID), [3, 1, 2])
            XCTAssertEqual(found.map(\.highestKnownNodeID), [3, 3, 3])
            XCTAssertEqual(nextNodeID(found), 4)
            await cluster.shutdown()
        }
    }

    func testPatienceWaitsForThePeer() throws {
        let (loop, nodes) = (loop, nodes)
        let address = try silentAddress(on: loop)
        try onLoop {
            async let found = discoverPeers([address], on: loop, patience: .seconds(120))
            let impatient = await discoverPeers([address], on: loop)
            XCTAssertEqual(impatient, [])
            let node = try await nodes.start(bootstrap: true, address: address)
            let ids = await found.map(\.nodeID)
            XCTAssertEqual(ids, [1])
            await node.shutdown()
        }
    }

    func testPatienceEnds() throws {
        let loop = loop
        let address = try silentAddress(on: loop)
        let found = try onLoop { await discoverPeers([address], on: loop, patience: .milliseconds(300)) }
        XCTAssertEqual(found, [])
    }
}
