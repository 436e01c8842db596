import Prelude
import StorageTesting
import XCTest

@_spi(Simulation) @testable import Node
@testable import Simulator

/// Tests of a cluster of three machines over virtual time.
class ClusterOfThree: XCTestCase {
    private(set) var world = SimulatedWorld(seed: 3)
    private(set) var machines: [TestMachine] = []

    override func setUp() {
        let network = SimulatedNetwork(world: world)
        for host in ["n1", "n2", "n3"] {
            let machine = TestMachine(disk: FaultDisk(seed: 3), network: network, host: host)
            let started = machine.start(peers: machines.first.map { [$0.address] } ?? [])
            guard case .success = started else { return XCTFail(machine.outcomeText) }
            machines.append(machine)
        }
        waitUntil("all are voters") {
            self.machines.allSatisfy { machine in
                machine.node?.observedGroups.allSatisfy { $0.configuration.voters.count == 3 } == true
            }
        }
    }

    override func tearDown() { for machine in machines { machine.end() } }

    func waitUntil(_ what: String, line: UInt = #line, _ condition: () -> Bool) {
        machines[0].pass(condition)
        XCTAssertTrue(condition(), what, line: line)
    }

    func isLeader(_ machine: TestMachine) -> Bool {
        machine.node?.observedGroups.contains { $0.role == .leader } == true
    }

    /// The one that leads the group.
    func leader(of group: GroupID = .firstWorkflows) throws -> TestMachine {
        try XCTUnwrap(
            machines.first { machine in
                machine.node?.observedGroups.contains { $0.id == group && $0.role == .leader } == true
            })
    }

    func areEqual() -> Bool {
        Set(machines.map { machine in machine.node?.observedGroups.map(\.appliedDigest) ?? [] }).count == 1
    }

    func letTimePass(_ time: Nanoseconds) {
        let end = world.now + time
        machines[0].pass { world.now >= end }
    }
}
