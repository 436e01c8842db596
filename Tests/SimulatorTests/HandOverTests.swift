import Prelude
import Storage
import StorageTesting
import XCTest

@_spi(Simulation) @testable import Node
@testable import Simulator

/// A node that was told that the directory is without it, while its own copy of the directory never hears of that.
final class HandOverTests: ClusterOfThree {
    func test_whoIsOutOfTheDirectoryHandsOverWhatItLeads() throws {
        let former = try leader()
        let node = try XCTUnwrap(former.node)
        XCTAssertNotNil(node.directory.member(node.id), "its own copy has it")
        node.isToldToHandOver = true
        waitUntil("others lead") {
            !isLeader(former) && machines.contains { $0 !== former && isLeader($0) }
        }
        XCTAssertTrue(try leader() !== former)
        XCTAssertTrue(try leader(of: .directory) !== former)
    }
}

/// A directory whose node the cluster has let go, in the middle of a repair.
final class RetiredDirectoryTests: XCTestCase {
    func test_aRetiredDirectoryBeginsNoClusterOfItsOwn() throws {
        let disk = FaultDisk(seed: 3)
        let machine = TestMachine(disk: disk)
        guard case .success = machine.start() else { return XCTFail(machine.outcomeText) }
        machine.shutDown()
        machine.end()
        let directory = try DataDirectory.open("/data", disk: disk)
        try directory.retire()
        directory.close()

        let again = TestMachine(disk: disk)
        defer { again.end() }
        // Without peers it is to bootstrap.
        guard case .failure(.joinRefused(let reason))? = again.start() else { return XCTFail(again.outcomeText) }
        XCTAssertTrue(reason.contains("name others by --peers"), reason)
    }
}
