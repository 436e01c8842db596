import Prelude
import Storage
import StorageTesting
import XCTest

final class DataDirectoryTests: XCTestCase {
    private let identity = NodeIdentity(
        clusterID: "größe", nodeID: 3, incarnation: 1, advertisedAddress: "host-3:5001", groups: [0, 1])

    func test_theIdentityIsKeptAndTheIncarnationRises() throws {
        let disk = MemoryDisk()
        let directory = try DataDirectory.open("/a/b/data", disk: disk)
        XCTAssertNil(directory.identity)
        XCTAssertNil(try directory.beginIncarnation())
        try directory.saveIdentity(identity)
        directory.close()
        for incarnation in [2, 3, 4] as [Incarnation] {
            let directory = try DataDirectory.open("/a/b/data", disk: disk)
            XCTAssertEqual(try directory.beginIncarnation(), incarnation)
            XCTAssertEqual(directory.identity?.clusterID, identity.clusterID)
            XCTAssertEqual(directory.identity?.groups, identity.groups)
            directory.close()
        }
    }

    func test_oneProcessHasItAtATime() throws {
        let disk = MemoryDisk()
        let directory = try DataDirectory.open("/data", disk: disk)
        XCTAssertThrowsError(try DataDirectory.open("/data", disk: disk)) {
            XCTAssertEqual($0 as? StorageError, .lockedByAnotherProcess(directory: "/data"))
        }
        directory.close()
        XCTAssertNoThrow(try DataDirectory.open("/data", disk: disk))
    }

    func test_theJoinTokenOutlivesCrashesAndNotTheNode() throws {
        let disk = FaultDisk()
        let first = try DataDirectory.open("/data", disk: disk)
        XCTAssertEqual(try first.joinToken(or: "one"), "one")
        XCTAssertEqual(try first.joinToken(or: "two"), "one")
        disk.crash()
        let second = try DataDirectory.open("/data", disk: disk)
        XCTAssertEqual(try second.joinToken(or: "three"), "one")
        try second.retire()
        XCTAssertEqual(try second.joinToken(or: "four"), "four")
        second.close()
        // Each byte of it counts.
        for place in 0..<UInt64(8 + 1 + 4 + 4) {
            disk.flip("/data/join-token", at: place, mask: 1)
            let third = try DataDirectory.open("/data", disk: disk)
            XCTAssertThrowsError(try third.joinToken(or: "five"), "byte \(place)") { error in
                guard case .damaged(file: "/data/join-token", _, _) = error as? StorageError else {
                    return XCTFail("\(error)")
                }
            }
            third.close()
            disk.flip("/data/join-token", at: place, mask: 1)
        }
    }

    func test_aDirectoryOfSomethingElseIsLeftAlone() throws {
        let disk = MemoryDisk()
        try disk.createDirectory("/home")
        _ = try disk.open("/home/letter.txt", .createNew)
        XCTAssertThrowsError(try DataDirectory.open("/home", disk: disk)) {
            XCTAssertEqual($0 as? StorageError, .foreign(directory: "/home", found: "letter.txt"))
        }
        XCTAssertEqual(try disk.list("/home"), ["letter.txt"])
    }

    func test_aLogWithoutAnIdentityIsRefused() throws {
        let disk = MemoryDisk()
        let directory = try DataDirectory.open("/data", disk: disk)
        try disk.createDirectory(directory.logPath)
        directory.close()
        XCTAssertThrowsError(try DataDirectory.open("/data", disk: disk)) {
            XCTAssertEqual($0 as? StorageError, .foreign(directory: "/data", found: "log"))
        }
    }

    func test_everyFlippedByteAndEveryLengthOfTheIdentityIsRefused() throws {
        let disk = FaultDisk()
        let directory = try DataDirectory.open("/data", disk: disk)
        try directory.saveIdentity(identity)
        directory.close()
        let path = "/data/identity"
        let bytes = try XCTUnwrap(disk.contents(path))
        for offset in bytes.indices {
            for mask in [1, 0x80, 0xFF] as [UInt8] {
                let flipped = disk.copy()
                flipped.flip(path, at: UInt64(offset), mask: mask)
                assertDamaged(flipped, "\(offset)")
            }
            let cut = disk.copy()
            cut.setContents(path, Array(bytes[..<offset]))
            assertDamaged(cut, "\(offset) bytes")
        }
        let long = disk.copy()
        long.setContents(path, bytes + [0])
        assertDamaged(long, "one byte more")
    }

    private func assertDamaged(_ disk: FaultDisk, _ context: String) {
        XCTAssertThrowsError(try DataDirectory.open("/data", disk: disk), context) {
            guard case StorageError.damaged(file: "/data/identity", _, _) = $0 else { return XCTFail("\($0)") }
        }
        XCTAssertNoThrow(try disk.lock("/data/lock"), "a refused directory is not kept locked")
    }

    func test_anIdentityOfANewerVersionIsRefusedByName() throws {
        let disk = FaultDisk()
        let directory = try DataDirectory.open("/data", disk: disk)
        try directory.saveIdentity(identity)
        directory.close()
        var bytes = try XCTUnwrap(disk.contents("/data/identity"))
        bytes[8] = 3
        disk.setContents("/data/identity", withChecksum(bytes))
        XCTAssertThrowsError(try DataDirectory.open("/data", disk: disk)) {
            XCTAssertEqual($0 as? StorageError, .newerVersion(file: "/data/identity", found: 3, known: 2))
        }
    }

    // MARK: Giving up

    func test_aDamagedIdentityIsToldToWhoAsks() throws {
        let disk = FaultDisk()
        let directory = try DataDirectory.open("/data", disk: disk)
        try directory.saveIdentity(identity)
        directory.close()
        disk.flip("/data/identity", at: 20, mask: 1)
        XCTAssertThrowsError(try DataDirectory.open("/data", disk: disk))
        let opened = try DataDirectory.open("/data", disk: disk, takesDamagedIdentity: true)
        XCTAssertNil(opened.identity)
        guard case .damaged(file: "/data/identity", _, _) = opened.identityDamage else {
            return XCTFail("\(String(describing: opened.identityDamage))")
        }
        try opened.retire()
        XCTAssertNil(opened.identityDamage)
        XCTAssertTrue(opened.isRetired)
    }

    /// However the machine stops on the way, the directory is that of the node, with everything, or that of nobody.
    func test_nothingIsDroppedBeforeTheNodeIsGivenUp() throws {
        let files = ["/data/log/0000000000000001.log", "/data/snapshots/1-5.snapshot", "/data/state/1.sqlite"]
        var operation = 1
        var isComplete = false
        while !isComplete {
            let disk = FaultDisk(seed: UInt64(operation))
            let first = try DataDirectory.open("/data", disk: disk)
            try first.saveIdentity(identity)
            first.close()
            for file in files { disk.setContents(file, [1, 2, 3]) }
            disk.inject(.from(disk.operationCount + operation))
            do {
                let directory = try DataDirectory.open("/data", disk: disk)
                try directory.retire()
                try directory.dropData()
                isComplete = true
            } catch {}
            disk.removeFaults()
            disk.crash()
            let found = try DataDirectory.open("/data", disk: disk)
            if found.isRetired {
                try found.dropData()
                XCTAssertEqual(disk.paths.filter(files.contains), [])
            } else {
                XCTAssertFalse(isComplete)
                XCTAssertEqual(found.identity, identity)
                XCTAssertEqual(disk.paths.filter(files.contains), files)
            }
            operation += 1
        }
        XCTAssertGreaterThan(operation, 12)
    }

    func test_replacingTheIdentityIsAllOrNothing() throws {
        var operation = 1
        var isComplete = false
        while !isComplete {
            for (seed, isCrash) in [(UInt64(0), true), (1, true), (2, true), (3, false)] {
                let disk = FaultDisk(seed: seed &* 1000 &+ UInt64(operation))
                var acknowledged: [NodeIdentity?] = [nil]
                disk.inject(.at(operation))
                do {
                    let directory = try DataDirectory.open("/data", disk: disk)
                    for incarnation in [1, 2] as [Incarnation] {
                        var next = identity
                        next.incarnation = incarnation
                        acknowledged.append(next)
                        try directory.saveIdentity(next)
                        acknowledged.removeFirst()
                    }
                    isComplete = disk.operationCount < operation
                } catch {}
                disk.removeFaults()
                isCrash ? disk.crash() : disk.killProcess()
                let found = try DataDirectory.open("/data", disk: disk).identity
                XCTAssertTrue(acknowledged.contains(found), "operation \(operation): \(String(describing: found))")
                disk.crash()
                XCTAssertEqual(try DataDirectory.open("/data", disk: disk).identity, found)
            }
            operation += 1
        }
        XCTAssertGreaterThan(operation, 15)
    }
}

/// Puts the right checksum at the end of a file that ends with one.
func withChecksum(_ bytes: [UInt8]) -> [UInt8] {
    let body = Array(bytes.dropLast(4))
    return body + withUnsafeBytes(of: naiveCRC32C(body).littleEndian) { Array($0) }
}
