import Foundation
import Prelude
import Raft
import Reactor
import Storage
import XCTest

/// The storage over the files of the machine and the threads of a loop.
final class FilesTests: XCTestCase {
    private var directory = ""

    override func setUpWithError() throws {
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("storage-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        directory = url.path
    }

    override func tearDownWithError() throws { try FileManager.default.removeItem(atPath: directory) }

    func test_aLogOverFilesIsThereAfterwards() throws {
        var limits = LogLimits()
        limits.segmentByteCount = 64 << 10
        limits.fillByteCount = 4 << 10
        let path = directory + "/data/log"
        var index: UInt64 = 0
        for life in 1...3 as ClosedRange<UInt64> {
            let loop = try EventLoop()
            let (log, groups) = try DurableLog.open(
                directory: path, disk: FileDisk(), work: loop.work, limits: limits)
            XCTAssertEqual(groups[1]?.last.index.rawValue ?? 0, index)
            func next() {
                index += 1
                log.append([.entries(1, entries(index...index, byteCount: 700))]) { result in
                    if case .failure(let error) = result {
                        XCTFail("\(error)")
                        return loop.stop()
                    }
                    if index == 300 { log.compact(1, upTo: 150) }
                    if index < life * 200 { next() } else { log.close { loop.stop() } }
                }
            }
            next()
            loop.run()
            loop.close()
            XCTAssertTrue(try LogInspector.verify(directory: path, disk: FileDisk()).isClosed)
        }
        let loop = try EventLoop()
        let (log, groups) = try DurableLog.open(directory: path, disk: FileDisk(), work: loop.work, limits: limits)
        XCTAssertEqual(groups[1]?.entries, entries(151...600, byteCount: 700))
        XCTAssertFalse(try FileDisk().list(path).contains("0000000000000001.log"))
        log.close { loop.stop() }
        loop.run()
        loop.close()
    }

    func test_aDataDirectoryOverFilesIsLockedAndKeepsItsIdentity() throws {
        let path = directory + "/node"
        let opened = try DataDirectory.open(path, disk: FileDisk())
        XCTAssertThrowsError(try DataDirectory.open(path, disk: FileDisk())) {
            XCTAssertEqual($0 as? StorageError, .lockedByAnotherProcess(directory: path))
        }
        let identity = NodeIdentity(
            clusterID: "c", nodeID: 1, incarnation: 0, advertisedAddress: "host:1", groups: [0, 1])
        try opened.saveIdentity(identity)
        opened.close()
        let again = try DataDirectory.open(path, disk: FileDisk())
        XCTAssertEqual(again.identity, identity)
        XCTAssertEqual(try again.beginIncarnation(), 1)
        again.close()
    }

    func test_snapshotsOverFilesReplaceEachOther() throws {
        let loop = try EventLoop()
        let store = try SnapshotStore(directory: directory + "/snapshots", disk: FileDisk(), work: loop.work)
        let snapshots = [3, 9].map {
            Snapshot(metadata: SnapshotMetadata(index: $0, term: 1), data: [UInt8](repeating: 5, count: 3 << 20))
        }
        var savedCount = 0
        for snapshot in snapshots {
            store.save(1, snapshot) { result in
                if case .failure(let error) = result { XCTFail("\(error)") }
                savedCount += 1
                if savedCount == 2 { loop.stop() }
            }
        }
        loop.run()
        loop.close()
        XCTAssertEqual(try store.load(1), snapshots[1])
        XCTAssertEqual(try FileDisk().list(directory + "/snapshots"), ["1-9.snapshot"])
    }
}
