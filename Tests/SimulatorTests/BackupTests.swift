import Prelude
import Storage
import StorageTesting
import Wire
import XCTest

@_spi(Simulation) @testable import Node
@testable import Simulator

/// Backups of a running node, and new clusters out of them.
final class BackupTests: XCTestCase {
    private struct Problem: Error { var text: String }

    private func makeNode(_ disk: FaultDisk = FaultDisk(seed: 5)) throws -> TestMachine {
        let node = TestMachine(disk: disk)
        guard case .success = node.start() else { throw Problem(text: node.outcomeText) }
        for number in 0..<40 { XCTAssertTrue(node.put("key-\(number)", "\(number)")) }
        return node
    }

    private func begin(_ node: TestMachine) throws -> BeginBackupResponse {
        try XCTUnwrap(node.ask { node throws(GRPCStatus) in try await node.beginBackup() }).get()
    }

    private func read(
        _ node: TestMachine, _ id: UInt64, at offset: UInt64
    ) -> Result<ReadBackupResponse, GRPCStatus>? {
        node.ask { node throws(GRPCStatus) in
            try await node.readBackup(ReadBackupRequest(backupID: id, offset: offset))
        }
    }

    private func fetch(_ node: TestMachine, _ begun: BeginBackupResponse) throws -> [UInt8] {
        var file: [UInt8] = []
        while true {
            let piece = try XCTUnwrap(read(node, begun.backupID, at: UInt64(file.count))).get()
            XCTAssertEqual(StateFiles.checksumOf(piece.data), piece.checksum)
            XCTAssertLessThanOrEqual(piece.data.count, 4 << 10)
            if piece.data.isEmpty { break }
            file += piece.data
        }
        XCTAssertEqual(UInt64(file.count), begun.byteCount)
        XCTAssertEqual(StateFiles.checksumOf(file), begun.checksum)
        return file
    }

    private func backups(_ disk: FaultDisk) -> [String] { disk.paths.filter { $0.hasPrefix("/data/backup/") } }

    func test_whatWasAcknowledgedBeforeIsInItAndNothingElse() throws {
        let node = try makeNode()
        let begun = try begin(node)
        XCTAssertTrue(node.put("later", "1"))
        XCTAssertTrue(node.put("key-3", "changed"))
        let start = node.now
        let file = try fetch(node, begun)
        XCTAssertGreaterThanOrEqual(
            node.now - start, (begun.byteCount - (4 << 10)) * 1_000_000_000 / (64 << 10), "it is read at its rate")
        XCTAssertEqual(backups(node.disk).count, 1)
        _ = node.ask { node throws(GRPCStatus) in
            try await node.endBackup(EndBackupRequest(backupID: begun.backupID))
        }
        node.pass { backups(node.disk).isEmpty }
        XCTAssertEqual(backups(node.disk), [])

        let disk = FaultDisk(seed: 6)
        disk.setContents("/backup.sqlite", file)
        let outcome = try XCTUnwrap(TestMachine(disk: disk).restore("/backup.sqlite")).get()
        XCTAssertEqual(outcome.variableCount, 40)
        XCTAssertEqual(outcome.identity.nodeID, 2)
        XCTAssertNotEqual(outcome.identity.clusterID, node.node?.clusterID)
        checkRestored(disk)
        XCTAssertEqual(disk.contents("/backup.sqlite"), file, "the backup itself stays as it is")
        node.shutDown()
        node.end()
    }

    private func checkRestored(_ disk: FaultDisk, _ context: String = "") {
        for life in 0..<2 {
            let node = TestMachine(disk: disk)
            guard case .success = node.start() else { return XCTFail("\(context): \(node.outcomeText)") }
            for number in 0..<40 { XCTAssertEqual(node.value(of: "key-\(number)"), "\(number)", context) }
            XCTAssertNil(node.value(of: "later"), context)
            XCTAssertTrue(node.put("new-\(life)", "it"), context)
            node.shutDown()
            node.end()
        }
    }

    /// The ended runs that a backup holds, the machine's own and those that only the store knew, by workflow.
    private func endedRuns(in file: [UInt8]) throws -> [String] {
        let disk = FaultDisk(seed: 8)
        disk.setContents("/opened/1.state", file)
        return try storedRuns(in: "/opened", on: disk).map { "\($0.workflowID) \($0.status)" }.sorted()
    }

    /// From backup to backup, over two restores.
    func test_runsThatTheMachineHasForgottenAreRestored() throws {
        var node = TestMachine(disk: FaultDisk(seed: 5))
        SampleWorkflows.register(in: &node.registry)
        guard case .success = node.start() else { return XCTFail(node.outcomeText) }
        for number in 0..<6 { try node.completePingPong("run-\(number)") }
        let expected = (0..<6).map { "run-\($0) completed" }
        for round in 0..<3 {
            XCTAssertEqual(
                node.node?.observedMachine(of: .firstWorkflows)?.runCount, 2, "the machine has forgotten four")
            let file = try fetch(node, try begin(node))
            XCTAssertEqual(try endedRuns(in: file), expected, "round \(round)")
            node.shutDown()
            node.end()
            let disk = FaultDisk(seed: UInt64(6 + round))
            disk.setContents("/backup.sqlite", file)
            _ = try XCTUnwrap(TestMachine(disk: disk).restore("/backup.sqlite")).get()
            XCTAssertEqual(backups(disk), [])
            node = TestMachine(disk: disk)
            guard case .success = node.start() else { return XCTFail(node.outcomeText) }
        }
        node.end()
    }

    func test_oneAtATimeAndNotForEver() throws {
        let node = try makeNode()
        let first = try begin(node)
        guard case .failure(let refusal)? = node.ask({ node throws(GRPCStatus) in try await node.beginBackup() }) else {
            return XCTFail("a second one is begun")
        }
        XCTAssertEqual(refusal.code, .resourceExhausted)
        // Somebody reads now and then: it stays.
        for _ in 0..<3 {
            let start = node.now
            node.pass { node.now > start + .seconds(40) }
            XCTAssertNotNil(try read(node, first.backupID, at: 0)?.get())
        }
        for _ in 0..<2 { node.pass { backups(node.disk).isEmpty } }
        XCTAssertEqual(backups(node.disk), [], "nobody reads it any more")
        guard case .failure(let gone)? = read(node, first.backupID, at: 0) else { return XCTFail("it is read") }
        XCTAssertEqual(gone.code, .notFound)
        // What a killed process leaves goes at the next start.
        _ = try begin(node)
        XCTAssertEqual(backups(node.disk).count, 1)
        node.end()
        let again = TestMachine(disk: node.disk)
        guard case .success = again.start() else { return XCTFail(again.outcomeText) }
        XCTAssertEqual(backups(again.disk), [])
        again.end()
    }

    func test_aDiskWithoutRoomFailsTheBackupOnly() throws {
        let node = try makeNode()
        for operation in stride(from: 1, through: 61, by: 4) {
            node.disk.inject(.at(node.disk.operationCount + operation, .noSpace))
            let answer = node.ask { node throws(GRPCStatus) in try await node.beginBackup() }
            node.disk.removeFaults()
            switch answer {
            case .failure(let status)?: XCTAssertEqual(status.code, .resourceExhausted, status.message)
            case .success(let begun)?:
                _ = node.ask { node throws(GRPCStatus) in
                    try await node.endBackup(EndBackupRequest(backupID: begun.backupID))
                }
            case nil: XCTFail("no answer")
            }
            node.pass { backups(node.disk).isEmpty }
            XCTAssertEqual(backups(node.disk), [])
            XCTAssertNil(node.stopReason)
        }
        XCTAssertTrue(node.put("after", "it"))
        node.end()
    }

    /// However the machine stops on the way, a restore can be made again.
    func test_anInterruptedRestoreCanBeRepeated() throws {
        let node = try makeNode()
        let file = try fetch(node, try begin(node))
        node.end()
        var operation = 0
        var isComplete = false
        while !isComplete {
            operation += 3
            let disk = FaultDisk(seed: UInt64(operation))
            disk.setContents("/backup.sqlite", file)
            disk.inject(.from(disk.operationCount + operation))
            let machine = TestMachine(disk: disk)
            if case .success = machine.restore("/backup.sqlite") { isComplete = true }
            machine.end()
            disk.removeFaults()
            operation % 2 == 0 ? disk.crash() : disk.killProcess()
            disk.setContents("/backup.sqlite", file)
            switch TestMachine(disk: disk).restore("/backup.sqlite", seed: 3) {
            case .success?: XCTAssertFalse(isComplete)
            case .failure(.cannotUseBackup(_, let reason))?:
                XCTAssertTrue(reason.contains("holds node 2"), reason)
            case .failure(let error)?: XCTFail("operation \(operation): \(error)")
            case nil: XCTFail("operation \(operation): it hangs")
            }
            checkRestored(disk, "operation \(operation)")
        }
        XCTAssertGreaterThan(operation, 30)
    }
}
