import Prelude
import StorageTesting
import Wire
import XCTest

@_spi(Simulation) @testable import Node
@testable import Simulator

/// A disk that stalls below the state stores: what is applied and not stored is held in memory, up to a bound.
final class StoreBehindTests: XCTestCase {
    private let bound = TestMachine.limits.node.unstoredEntryCountMax

    func test_commandsAreRefusedUntilTheStoreHasCaughtUp() throws {
        let disk = FaultDisk(seed: 5)
        let node = TestMachine(disk: disk)
        guard case .success = node.start() else { return XCTFail(node.outcomeText) }
        node.stallsStateStores = true
        var accepted: [String: String] = [:]
        var refusal: GRPCStatus?
        for number in 0..<10 * Int(bound) where refusal == nil {
            let (key, value) = ("key-\(number % 7)", "\(number)")
            switch node.tryPut(key, value) {
            case .success: accepted[key] = value
            case .failure(let status): refusal = status
            case nil: return XCTFail("put \(number) is not answered")
            }
        }
        XCTAssertEqual(refusal?.code, .resourceExhausted)
        XCTAssertEqual(refusal?.message, "node 1 waits for its disk to take what was applied: try again later")
        guard case .success? = node.tryGet("key-1") else { return XCTFail("reads go on") }
        for (key, value) in accepted { XCTAssertEqual(node.value(of: key), value) }

        node.stallsStateStores = false
        let end = node.now + .seconds(1)
        node.pass { node.now > end }
        for number in 0..<2 * Int(bound) {
            XCTAssertTrue(node.put("after-\(number % 7)", "\(number)"), "put \(number)")
            accepted["after-\(number % 7)"] = "\(number)"
        }
        node.end(losesPower: true)
        let again = TestMachine(disk: disk)
        guard case .success = again.start() else { return XCTFail(again.outcomeText) }
        for (key, value) in accepted { XCTAssertEqual(again.value(of: key), value) }
        again.end()
    }

    func test_aFollowerThatIsBehindHoldsNobodyUpAndCatchesUp() throws {
        let network = SimulatedNetwork(world: SimulatedWorld(seed: 4))
        var machines: [TestMachine] = []
        defer { for machine in machines { machine.end() } }
        for host in ["n1", "n2", "n3"] {
            let machine = TestMachine(disk: FaultDisk(seed: 3), network: network, host: host)
            let started = machine.start(peers: machines.first.map { [$0.address] } ?? [])
            guard case .success = started else { return XCTFail(machine.outcomeText) }
            machines.append(machine)
        }
        machines[0].pass {
            machines.allSatisfy { $0.node?.observedGroups.allSatisfy { $0.configuration.voters.count == 3 } == true }
        }
        func applied(_ machine: TestMachine) -> UInt64 {
            machine.node?.observedGroups.first { $0.id == .firstWorkflows }?.appliedIndex.rawValue ?? 0
        }
        let slow = machines[2]
        slow.stallsStateStores = true
        let begin = applied(slow)
        for number in 0..<4 * Int(bound) {
            XCTAssertTrue(machines[number % 2].put("key-\(number % 7)", "\(number)"), "put \(number)")
        }
        // What it has, and one message of entries more.
        XCTAssertGreaterThan(applied(slow), begin + bound / 2)
        XCTAssertLessThan(applied(slow), begin + 3 * bound)
        slow.stallsStateStores = false
        machines[0].pass { Set(machines.map { $0.node?.observedGroups.map(\.appliedDigest) ?? [] }).count == 1 }
        XCTAssertEqual(Set(machines.map(applied)).count, 1)
    }
}
