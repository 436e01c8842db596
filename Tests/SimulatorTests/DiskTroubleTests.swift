import Prelude
import StorageTesting
import Wire
import XCTest

@_spi(Simulation) @testable import Node
@testable import Simulator

/// A cluster of three of whose disks one or all are full or slow.
final class DiskTroubleTests: ClusterOfThree {
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

    /// A leader without a majority that has room tells the others that it takes nothing; and does not count what a leader
    /// of another group says in that way of itself, or the two would wait for each other for ever.
    func test_aLeaderWithoutAMajorityThatHasRoomSaysSo() throws {
        let machine = try leader()
        let node = try XCTUnwrap(machine.node)
        let others = try machines.filter { $0 !== machine }.map { try XCTUnwrap($0.node) }
        let led = try XCTUnwrap(node.groups[.firstWorkflows])
        func say(_ condition: DiskCondition, _ id: NodeID, to node: Node) { node.noteDisk(condition.rawValue, of: id) }
        XCTAssertEqual(node.toldDiskCondition(world.now), .inOrder)

        say(.full, others[0].id, to: node)
        XCTAssertEqual(node.toldDiskCondition(world.now), .inOrder, "two of three have room")
        XCTAssertNil(node.fullDisk(of: led))

        say(.full, others[1].id, to: node)
        XCTAssertEqual(node.toldDiskCondition(world.now), .fullMajority)
        XCTAssertEqual(node.diskCondition(world.now), .inOrder, "its own has room")
        XCTAssertEqual(node.fullDisk(of: led), others.map(\.id).min())

        // Who hears of it takes no commands for that leader.
        let follower = others[0]
        let followed = try XCTUnwrap(follower.groups[.firstWorkflows])
        say(.fullMajority, node.id, to: follower)
        XCTAssertEqual(follower.fullDisk(of: followed), node.id)

        // What other leaders say of their majorities counts for nothing in one's own.
        say(.fullMajority, others[0].id, to: node)
        say(.fullMajority, others[1].id, to: node)
        XCTAssertEqual(node.toldDiskCondition(world.now), .inOrder)
        XCTAssertNil(node.fullDisk(of: led))
    }
}
