import Prelude
import StorageTesting
import Wire
import XCTest

@_spi(Simulation) @testable import Node
@testable import Simulator

/// A cluster of three of whose disks one or all are full or slow.
final class DiskTroubleTests: XCTestCase {
    private var world = SimulatedWorld(seed: 3)
    private var machines: [TestMachine] = []

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

    private func waitUntil(_ what: String, line: UInt = #line, _ condition: () -> Bool) {
        machines[0].pass(condition)
        XCTAssertTrue(condition(), what, line: line)
    }

    private func isLeader(_ machine: TestMachine) -> Bool {
        machine.node?.observedGroups.contains { $0.role == .leader } == true
    }

    /// The one that leads the group of workflows.
    private func leader() throws -> TestMachine {
        try XCTUnwrap(
            machines.first { machine in
                machine.node?.observedGroups.contains { $0.id == .firstWorkflows && $0.role == .leader } == true
            })
    }

    private func areEqual() -> Bool {
        Set(machines.map { machine in machine.node?.observedGroups.map(\.appliedDigest) ?? [] }).count == 1
    }

    private func letTimePass(_ time: Nanoseconds) {
        let end = world.now + time
        machines[0].pass { world.now >= end }
    }

    /// Puts, again and again, for a minute at most.
    private func isPutAtLast(_ machine: TestMachine, _ key: String, _ value: String) -> Bool {
        let end = world.now + .seconds(60)
        while world.now < end {
            if machine.put(key, value) { return true }
            letTimePass(.milliseconds(50))
        }
        return false
    }

    private func fill(_ machine: TestMachine) { machine.disk.limitCapacity(to: machine.disk.usedByteCount) }

    private func free(_ machine: TestMachine) { machine.disk.limitCapacity(to: nil) }

    func test_aSlowDiskCostsItsNodeTheLeadershipAndTheClusterLittle() throws {
        XCTAssertTrue(machines[1].put("before", "1"))
        let slow = try leader()
        let other = try XCTUnwrap(machines.first { $0 !== slow })
        slow.loop.workLatency = .seconds(20) ... .seconds(20)
        let begin = world.now
        // Asked again as a client would: what waits for the slow disk is not known to have failed.
        var count = 0
        while count < 20, world.now < begin + .seconds(60) {
            if other.put("meanwhile-\(count)", "1") { count += 1 }
        }
        XCTAssertEqual(count, 20)
        XCTAssertLessThan(world.now - begin, .seconds(12), "service is back long before the disk is")
        waitUntil("another one leads") { !isLeader(slow) }
        slow.loop.workLatency = 50_000...400_000
        waitUntil("the slow one catches up") { areEqual() }
    }

    func test_aFullDiskCostsItsNodeTheLeadershipOnly() throws {
        let full = try leader()
        fill(full)
        for number in 0..<1000 where isLeader(full) {
            let isTaken = machines[number % 3].put("key-\(number)", String(repeating: "x", count: 100))
            if !isTaken { letTimePass(.milliseconds(50)) }
        }
        XCTAssertFalse(isLeader(full), "another one leads")
        // The full node hands on what it is asked for: itself it will hear of it when there is room.
        for machine in machines where machine !== full {
            for number in 0..<30 {
                let value = String(repeating: "y", count: 400)
                XCTAssertTrue(isPutAtLast(machine, "\(machine.loop.host)-\(number)", value))
            }
        }
        XCTAssertFalse(isLeader(full))
        free(full)
        waitUntil("the full one catches up") { areEqual() }
        XCTAssertTrue(isPutAtLast(full, "after", "1"))
    }

    func test_whenAllDisksAreFullReadsGoOnAndWritesComeBackByThemselves() throws {
        XCTAssertTrue(machines[1].put("before", "1"))
        for machine in machines { fill(machine) }
        var refusal: GRPCStatus?
        for number in 0..<1000 where refusal == nil {
            guard case .failure(let status)? = machines[number % 3].tryPut("key-\(number)", "value") else { continue }
            if status.code == .resourceExhausted { refusal = status }
        }
        XCTAssertEqual(refusal?.message.contains("is full: free some space"), true, "\(String(describing: refusal))")
        let terms = machines.map { $0.node?.observedGroups.map(\.term) ?? [] }
        let begin = world.now
        while world.now < begin + .seconds(30) {
            // One of them may have used up its reserve before the second was full; it lags behind until there is room.
            let readers = machines.filter { machine in
                if case .success? = machine.tryGet("before") { true } else { false }
            }
            XCTAssertGreaterThanOrEqual(readers.count, 2)
            XCTAssertTrue(readers.contains { isLeader($0) })
            letTimePass(.milliseconds(500))
        }
        // Nobody is better fit: leadership stays where it is, and elections do not eat the reserve.
        XCTAssertEqual(machines.map { $0.node?.observedGroups.map(\.term) ?? [] }, terms)
        for machine in machines { free(machine) }
        XCTAssertTrue(isPutAtLast(machines[0], "after", "1"), "writes come back")
        waitUntil("all are equal") { areEqual() }
    }
}
