import Prelude
import Storage
import StorageTesting
import Workflow
import XCTest

@_spi(Simulation) @testable import Node
@testable import Simulator

/// A new cluster out of what a stopped node has.
final class RecoveryTests: XCTestCase {
    /// A stopped node with a snapshot and a log after it.
    private func makeSurvivor() throws -> (disk: FaultDisk, identity: NodeIdentity) {
        let disk = FaultDisk(seed: 3)
        let node = TestMachine(disk: disk)
        guard case .success = node.start() else { throw Problem(text: node.outcomeText) }
        for number in 0..<40 { XCTAssertTrue(node.put("key-\(number)", "\(number)")) }
        // Not in order: the end of the log is what was acknowledged, and not marked as an end.
        node.end()
        return (disk, try identity(on: disk))
    }

    private struct Problem: Error { var text: String }

    private func identity(on disk: FaultDisk) throws -> NodeIdentity {
        let directory = try DataDirectory.open("/data", disk: disk)
        defer { directory.close() }
        return try XCTUnwrap(directory.identity)
    }

    private func checkServes(_ disk: FaultDisk, _ context: String = "") {
        let node = TestMachine(disk: disk)
        guard case .success = node.start() else { return XCTFail("\(context): \(node.outcomeText)") }
        for number in 0..<40 { XCTAssertEqual(node.value(of: "key-\(number)"), "\(number)", context) }
        XCTAssertTrue(node.put("after", "it"), context)
        node.shutDown()
        node.end()
    }

    func test_theNewClusterHasWhatTheNodeHadAndOtherNames() throws {
        let (disk, old) = try makeSurvivor()
        // The empty logs beside the state stores may go.
        func files() -> Set<String> { Set(disk.paths.filter { !$0.hasSuffix("-wal") || disk.contents($0) != [] }) }
        let before = files()
        let looked = try ClusterRecovery(dataDirectory: "/data", disk: disk)
        looked.close()
        XCTAssertEqual(files(), before, "looking changes nothing")
        XCTAssertEqual(looked.report.nodeID, old.nodeID)
        XCTAssertEqual(looked.report.groups.map(\.group), [0, 1])
        XCTAssertEqual(looked.report.groups.map(\.configuration.voters), [[old.nodeID], [old.nodeID]])
        XCTAssertGreaterThan(looked.report.groups[1].last.index, 40)

        let machine = TestMachine(disk: disk)
        let new = try XCTUnwrap(machine.recover()).get()
        XCTAssertNotEqual(new.clusterID, old.clusterID)
        XCTAssertEqual(new.nodeID, NodeID(old.nodeID.rawValue + 1))
        for _ in 0..<2 { checkServes(disk) }
        // What was in use before is gone.
        let unused = ["log", "state", "snapshots"].map { "/data/\($0)/" }
        XCTAssertEqual(disk.paths.filter { path in unused.contains { path.hasPrefix($0) } }, [])
        // And once more: each time another cluster.
        let third = try XCTUnwrap(TestMachine(disk: disk).recover(seed: 3)).get()
        XCTAssertNotEqual(third.clusterID, new.clusterID)
        XCTAssertEqual(third.nodeID, NodeID(new.nodeID.rawValue + 1))
        checkServes(disk)
    }

    /// From one recovery to the next, also those that were forgotten after the store's newest batch.
    func test_runsThatTheMachineHasForgottenComeAlong() throws {
        let disk = FaultDisk(seed: 5)
        var expected: [String] = []
        for round in 0..<3 {
            let node = TestMachine(disk: disk)
            SampleWorkflows.register(in: &node.registry)
            guard case .success = node.start() else { return XCTFail(node.outcomeText) }
            for number in 0..<6 {
                let id = "run-\(round)-\(number)"
                try node.completePingPong(id)
                expected.append(id)
            }
            let machine = try XCTUnwrap(node.node?.observedMachine(of: .firstWorkflows))
            XCTAssertEqual(machine.runCount, 2, "the machine has forgotten all others")
            node.end()
            _ = try XCTUnwrap(TestMachine(disk: disk).recover(seed: UInt64(round))).get()
        }
        let found = try storedRuns(in: "/data/state.3", on: disk)
        // The machine remembers the two newest ones, in its snapshot.
        XCTAssertEqual(found.map(\.workflowID).sorted(), Array(expected.dropLast(2)))
        XCTAssertTrue(found.allSatisfy { !$0.isRemembered })
    }

    func test_aDamagedStoreDoesNotKeepTheRestBack() throws {
        let (disk, _) = try makeSurvivor()
        // Some pages are in no table that a start reads.
        let file = "/data/state/1.state"
        let size = try XCTUnwrap(disk.contents(file)).count
        var passedOver = 0
        for page in stride(from: 4096, to: size, by: 4096) {
            let damaged = disk.copy()
            damaged.flip(file, at: UInt64(page + 100), mask: 1)
            guard let looked = try? ClusterRecovery(dataDirectory: "/data", disk: damaged.copy()) else { continue }
            looked.close()
            _ = try XCTUnwrap(TestMachine(disk: damaged).recover()).get()
            passedOver += 1
            checkServes(damaged, "page at \(page)")
        }
        XCTAssertGreaterThan(passedOver, 0)
    }

    /// However the machine stops on the way, the directory is that of the old node, with everything, or the new one's.
    func test_aCrashLeavesTheOldOrTheNewCluster() throws {
        let (survivor, old) = try makeSurvivor()
        var (oldCount, newCount, operation) = (0, 0, 0)
        var isComplete = false
        while !isComplete {
            operation += 1
            for losesPower in [true, false] {
                let disk = survivor.copy()
                disk.inject(.from(disk.operationCount + operation))
                let machine = TestMachine(disk: disk)
                if case .success = machine.recover() { isComplete = true }
                machine.end()
                disk.removeFaults()
                losesPower ? disk.crash() : disk.killProcess()
                let found = try identity(on: disk)
                if found.clusterID == old.clusterID {
                    oldCount += 1
                    XCTAssertEqual(found, old)
                    XCTAssertFalse(isComplete)
                } else {
                    newCount += 1
                    XCTAssertEqual(found.nodeID, NodeID(old.nodeID.rawValue + 1))
                }
                checkServes(disk, "operation \(operation), power \(losesPower)")
            }
        }
        XCTAssertGreaterThan(oldCount, 20)
        XCTAssertGreaterThan(newCount, 2)
    }

    /// A node that found damage in use is refused at its start. Made into a new cluster, it counts by what is needed of it.
    func test_notedDamageIsPassedOverUnlessItIsNeeded() throws {
        let (disk, _) = try makeSurvivor()
        let file = "/data/state/1.state"
        disk.setContents(file + ".damaged", Array("4096 the checksum of the page does not match".utf8))
        let refused = TestMachine(disk: disk.copy())
        guard case .failure(.storage(.damaged(file, 4096, _))) = refused.start() else {
            return XCTFail(refused.outcomeText)
        }
        refused.end()
        let needed = disk.copy()
        needed.flip(file, at: 100, mask: 1)
        XCTAssertThrowsError(try ClusterRecovery(dataDirectory: "/data", disk: needed)) { error in
            guard case NodeError.cannotRecover(_, let reason) = error else { return XCTFail("\(error)") }
            XCTAssertEqual(reason, "\(file) is damaged at byte 0: the checksum of the page does not match")
        }
        _ = try XCTUnwrap(TestMachine(disk: disk).recover()).get()
        XCTAssertFalse(disk.paths.contains(file + ".damaged"))
        checkServes(disk)
    }

    func test_whatIsNoNodeIsRefused() throws {
        let disk = FaultDisk(seed: 4)
        XCTAssertThrowsError(try ClusterRecovery(dataDirectory: "/nowhere", disk: disk)) {
            guard case NodeError.storage(.disk(let error)) = $0 else { return XCTFail("\($0)") }
            XCTAssertEqual(error.kind, .notFound)
        }
        let directory = try DataDirectory.open("/data", disk: disk)
        directory.close()
        XCTAssertThrowsError(try ClusterRecovery(dataDirectory: "/data", disk: disk)) {
            guard case NodeError.cannotRecover = $0 else { return XCTFail("\($0)") }
        }
    }
}
