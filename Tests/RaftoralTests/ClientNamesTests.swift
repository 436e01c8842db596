import Logging
import Raftoral
import XCTest

/// Names that stand for several nodes, nodes that have several names.
final class ClientNamesTests: LoopTestCase {
    private var nodes: TestNodes { TestNodes(loop: loop) }

    private struct World {
        let network: NamedNetwork
        let channel: ClusterChannel
    }

    private final class Bound { var address = HostPort.anyPort }

    private func put(_ key: String, _ channel: ClusterChannel) async throws {
        let request = PutRequest(key: key, value: [1], requestID: key)
        _ = try await channel.call(
            VariableServicePath.put, request, PutResponse.self, kind: .write, timeout: .seconds(60))
    }

    private func world(_ peers: [HostPort], _ names: [String: [HostPort]] = [:]) -> World {
        var limits = Limits()
        limits.client.resolveMilliseconds = 1
        limits.client.askMilliseconds = 1
        var seams = loop.seams(disk: MemoryDisk(), randomSeed: 1)
        let network = NamedNetwork(over: seams.network)
        network.names = names
        seams.network = network
        return World(network: network, channel: ClusterChannel(peers: peers, seams: seams, limits: limits))
    }

    func testANameIsAListThatIsResolvedAnew() throws {
        let nodes = nodes
        let test = LoopBound(self, to: loop)
        try onLoop {
            let cluster = try await nodes.cluster(3)
            let addresses = cluster.map(\.address)
            let name = HostPort(host: "cluster.example", port: 1)
            // One that is dead does not count.
            let dead = HostPort(host: "127.0.0.9", port: 1)
            let world = test.value.world([name], ["cluster.example": Array(addresses.prefix(2)) + [dead]])
            try await test.value.put("first", world.channel)
            XCTAssertTrue(Set(world.network.dialled).isSuperset(of: addresses.prefix(2)))
            world.network.names["cluster.example"] = [addresses[2], dead]
            while !world.network.dialled.contains(addresses[2]) { try await test.value.put("again", world.channel) }
            try await test.value.put("last", world.channel)
            world.channel.close()
            await cluster.shutdown()
        }
    }

    func testANodeThatTellsANameGetsOneConnection() throws {
        let loop = loop
        let test = LoopBound(self, to: loop)
        try onLoop {
            let bound = LoopBound(Bound(), to: loop)
            let node = try await RunningNode.start(
                NodeConfiguration(
                    address: .anyPort, dataDirectory: "/data", bootstrap: true,
                    advertisedAddress: HostPort(host: "node.example", port: 1)),
                on: loop, disk: MemoryDisk(), logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
                report: { if case .starting(let address, _) = $0 { bound.value.address = address } },
                workflows: { SampleWorkflows.register(in: &$0) })
            let world = test.value.world([bound.value.address])
            for number in 0..<20 { try await test.value.put("\(number)", world.channel) }
            XCTAssertEqual(world.network.dialled, [bound.value.address])
            world.channel.close()
            await node.shutdown()
        }
    }
}
