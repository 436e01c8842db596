import Logging
@_spi(Simulation) import Node
import Raftoral
import XCTest

/// Members that are not what they seem: too old, or never come.
final class MembershipTests: LoopTestCase {
    private var nodes: TestNodes { TestNodes(loop: loop) }

    private func configuration(
        level: UInt32 = 1, bootstrap: Bool = false, peers: [HostPort] = [], address: HostPort = .anyPort
    ) -> NodeConfiguration {
        var configuration = NodeConfiguration(
            address: address, dataDirectory: "/data", bootstrap: bootstrap, peers: peers, discoveryTimeoutSeconds: 60)
        configuration.protocolLevel = level
        return configuration
    }

    private func start(
        _ configuration: NodeConfiguration, disk: any Disk = MemoryDisk(),
        onStop: @escaping @Sendable (NodeError) -> Void = { _ in }
    ) async throws -> RunningNode {
        try await RunningNode.start(
            configuration, on: loop, disk: disk,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, onStop: onStop,
            workflows: { SampleWorkflows.register(in: &$0) })
    }

    /// The cluster of an old and a new program is at the old one's level, and never goes back once it has risen.
    func testProtocolLevelIsWhatEveryMemberKnows() throws {
        let test = LoopBound(self, to: loop)
        let stopped = LoopBound(Stopped(), to: loop)
        let loop = loop
        let disk = MemoryDisk()
        try onLoop {
            let test = test.value
            let new = try await test.start(test.configuration(level: 2, bootstrap: true))
            try await loop.until("alone it knows all") { try await new.status.protocolLevel == 2 }
            do {
                _ = try await test.start(test.configuration(level: 1, peers: [new.address]))
                XCTFail("an old program joins")
            } catch NodeError.joinRefused(let reason) {
                XCTAssertTrue(reason.contains("too old"), reason)
            }
            let other = try await test.start(test.configuration(level: 3, peers: [new.address]), disk: disk)
            try await loop.until("both have come") {
                try await new.status.members.map(\.protocolLevel) == [2, 3]
            }
            let level = try await new.status.protocolLevel
            XCTAssertEqual(level, 2)
            let address = other.address
            await other.shutdown()
            // Going back to what all know is possible; further is not.
            let back = try await test.start(test.configuration(level: 2, address: address), disk: disk)
            try await loop.until("it is known") { try await new.status.members.map(\.protocolLevel) == [2, 2] }
            await back.shutdown()
            do {
                let old = try await test.start(
                    test.configuration(level: 1, address: address), disk: disk,
                    onStop: { stopped.value.reason = $0 })
                try await loop.until("the old program stops") { stopped.value.reason != nil }
                await old.shutdown()
            } catch let error as NodeError {
                stopped.value.reason = error
            }
            guard case .protocolTooOld(known: 1, needed: 2) = stopped.value.reason else {
                return XCTFail("\(String(describing: stopped.value.reason))")
            }
            await new.shutdown()
        }
    }

    /// A joiner that never heard its id, and never asked again.
    func testMemberThatNeverCameIsDropped() throws {
        let loop = loop
        let test = LoopBound(self, to: loop)
        try onLoop {
            var configuration = test.value.configuration(bootstrap: true)
            configuration.limits.node.proposalTimeoutMilliseconds = 2_000
            configuration.limits.node.unseenMemberMilliseconds = 3_000
            let first = try await test.value.start(configuration)
            let client = NodeClient(
                seams: loop.seams(disk: MemoryDisk(), randomSeed: 1), limits: Limits().wire, target: first.address,
                random: SeededRandom(seed: 1))
            let answer = try await client.call(
                ClusterServicePath.join, JoinRequest(address: "127.0.0.1:1", requestID: "ghost"), JoinResponse.self,
                timeout: .seconds(60))
            client.close()
            XCTAssertEqual(answer.nodeID, 2)
            let second = try await test.value.start(test.value.configuration(peers: [first.address]))
            XCTAssertEqual(second.id, 3)
            try await loop.until("nobody is left of it") {
                let status = try await first.status
                return status.members.map(\.nodeID) == [1, 3]
                    && status.groups.allSatisfy { $0.replicas.map(\.nodeID) == [1, 3] }
            }
            // Who has come stays, however long it is silent.
            let members = try await first.status.members
            XCTAssertTrue(members.allSatisfy { $0.protocolLevel > 0 })
            await [first, second].shutdown()
        }
    }

    private final class Stopped { var reason: NodeError? }
}
