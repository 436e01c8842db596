import Logging
import Raftoral
import XCTest

/// Lines that others can cause at will are held back, each kind for itself.
final class LogGateTests: LoopTestCase {
    private var limits: Limits {
        var limits = Limits()
        limits.telemetry.logBurstCount = 1
        limits.telemetry.logIntervalMilliseconds = 3_600_000
        return limits
    }

    func testWhatPeersAndCallersCause() throws {
        let (loop, limits) = (loop, limits)
        let lines = LoopBound(Lines(), to: loop)
        let counts = try onLoop {
            var configuration = NodeConfiguration(address: .anyPort, dataDirectory: "/data", bootstrap: true)
            configuration.limits = limits
            var logger = LineCatcher.logger(lines)
            // What is told about a peer below that has a gate for each peer.
            logger.logLevel = .info
            let node = try await RunningNode.start(
                configuration, on: loop, disk: MemoryDisk(), logger: logger,
                workflows: { SampleWorkflows.register(in: &$0) })
            let client = RaftoralClient(peers: [node.address], on: loop)
            // Members that come and go without end, each a change of the configurations.
            for number in 1...5 {
                let join = JoinRequest(
                    address: "127.0.0.1:\(number)", requestID: "\(number)", protocolLevel: Version.protocolLevel)
                let joined = try await client.call(ClusterServicePath.join, join, JoinResponse.self, kind: .write)
                try await loop.until("it is a learner") {
                    try await node.status.groups.allSatisfy { group in
                        group.replicas.contains { $0.nodeID == joined.nodeID }
                    }
                }
                let removal = RemoveRequest(nodeID: joined.nodeID)
                _ = try await client.call(ClusterServicePath.remove, removal, RemoveResponse.self, kind: .write)
                try await loop.until("it is gone again") {
                    try await node.status.groups.allSatisfy { $0.replicas.count == 1 }
                }
            }
            await client.close()
            await node.shutdown()
            return Dictionary(lines.value.all.map { ($0.message, 1) }, uniquingKeysWith: +)
        }
        XCTAssertEqual(counts["changing configuration"], 1, "\(counts)")
        XCTAssertEqual(counts.filter { $0.value > 1 }, [:], "not held back")
    }
}
