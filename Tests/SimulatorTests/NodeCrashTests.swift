import Foundation
import Prelude
import Storage
import StorageTesting
import XCTest

@_spi(Simulation) @testable import Node
@testable import Simulator

/// A whole node on a disk that fails, loses power or flips bits at every point of a scenario that goes through its start,
/// writes, batches for its state store, truncation of its log, its end and its restart.
///
/// The same few points each time; all of them with `make crash`: see `CrashPoints`.
final class NodeCrashTests: XCTestCase {
    // MARK: - Operations that fail

    /// What becomes of the n-th operation of the disk, and of the machine then.
    private enum Trouble: CaseIterable {
        /// The power fails: nothing works any more, and what was not synchronized is lost in part.
        case powerLoss
        /// The process is killed.
        case kill
        /// This operation fails, and the power fails once the node has ended.
        case failure
        /// There is no room for this operation.
        case noSpace
    }

    func test_noOperationThatFailsLosesAnything() throws {
        let clean = FaultDisk(seed: 1)
        XCTAssertEqual(Scenario(disk: clean).run(), .ended)
        let count = clean.operationCount
        XCTAssertGreaterThan(count, 200, "the scenario has many operations")
        XCTAssertTrue(clean.paths.contains { $0.hasSuffix("/1.state") }, "\(clean.paths)")
        XCTAssertFalse(clean.paths.contains { $0.hasSuffix("/0000000000000001.log") }, "the log was truncated")
        var table = CrashTable("fault", "operations", ["the node ended", "it did not start", "unharmed"])
        for trouble in Trouble.allCases {
            for operation in CrashPoints("operations, \(trouble)", of: count, sample: 40) {
                table.count("\(trouble)", try check(trouble, at: operation + 1))
            }
        }
        table.print()
    }

    /// What the fault did to the node when it struck.
    private func check(_ trouble: Trouble, at operation: Int) throws -> String {
        let context = "\(trouble) at operation \(operation)"
        let disk = FaultDisk(seed: UInt64(operation))
        switch trouble {
        case .powerLoss, .kill: disk.inject(.from(operation))
        case .failure: disk.inject(.at(operation))
        case .noSpace: disk.inject(.at(operation, .noSpace))
        }
        let scenario = Scenario(disk: disk)
        let end = scenario.run()
        XCTAssertNotEqual(end, .hung, context)
        if trouble == .noSpace, case .failed(let error) = end {
            // Where zeros have been written before, no disk should run out of space; a disk that does so has failed.
            switch error {
            case .storage(.noSpace): break
            case .storage(.disk(let error)) where error.kind == .noSpace: break
            default: XCTFail("\(context): \(error)")
            }
        }
        disk.removeFaults()
        trouble == .kill ? disk.killProcess() : disk.crash()
        // What a start has found is there from then on.
        for _ in 0..<2 {
            let node = TestMachine(disk: disk)
            guard case .success = node.start() else {
                XCTFail("\(context): \(node.outcomeText)")
                break
            }
            for (key, accepted) in scenario.accepted {
                let value = node.value(of: key)
                XCTAssertTrue(accepted.contains(value), "\(context): \(key) is \(value ?? "missing")")
                scenario.accepted[key] = [value]
            }
            node.end(losesPower: true)
        }
        if end == .ended { return "unharmed" }
        return scenario.hasStarted ? "the node ended" : "it did not start"
    }

    // MARK: - Bytes that flip

    func test_everyFlippedByteIsHarmlessOrNamed() throws {
        var table = CrashTable("file", "bytes", ["refused", "unharmed"])
        for isClosed in [true, false] {
            let disk = FaultDisk(seed: 1)
            let scenario = Scenario(disk: disk)
            scenario.isClosedAtEnd = isClosed
            XCTAssertEqual(scenario.run(), .ended)
            disk.killProcess()
            let sound = TestMachine(disk: disk.copy())
            guard case .success = sound.start() else { return XCTFail("\(sound.outcomeText)") }
            let state = sound.state
            sound.end()
            // The state stores are most of it, and their own tests flip all bytes of theirs: a sample has fewer of these. A prime
            // number, so that all places in a page have their turn.
            let places = disk.paths.flatMap { path in
                let count = disk.contents(path)?.count ?? 0
                let step = path.contains("/state/") && !CrashPoints.isComplete ? 37 : 1
                return stride(from: 0, to: count, by: step).map { (path: path, offset: UInt64($0)) }
            }
            XCTAssertGreaterThan(places.count, 10_000)
            let end = isClosed ? "ended in order" : "killed"
            for point in CrashPoints("bytes, \(end)", of: places.count, sample: 400) {
                let (path, offset) = places[point]
                let flipped = disk.copy()
                flipped.flip(path, at: offset, mask: 1 << UInt8(point * 5 % 8))
                let outcome = try startAfterFlip(flipped, "\(path) at \(offset)", soundState: state)
                table.count("\(path), \(end)", outcome)
            }
        }
        XCTAssertGreaterThan(table.sum("refused"), CrashPoints.isComplete ? 3_000 / CrashPoints.partCount : 20)
        table.print()
    }

    private func startAfterFlip(_ disk: FaultDisk, _ context: String, soundState: [[UInt8]]) throws -> String {
        let node = TestMachine(disk: disk)
        defer { node.end() }
        switch node.start() {
        case .success:
            XCTAssertEqual(node.state, soundState, context)
            return "unharmed"
        case .failure(.storage(.damaged(let file, let place, _))):
            let length = try XCTUnwrap(disk.contents(file), "\(context): \(file)").count
            XCTAssertLessThanOrEqual(Int(place), length, context)
        default: XCTFail("\(context): \(node.outcomeText)")
        }
        return "refused"
    }
}

/// What happens to one node until its disk has had enough: two lives, with writes in both.
private final class Scenario {
    enum End: Equatable {
        case ended
        case failed(NodeError)
        case hung

        static func == (left: End, right: End) -> Bool {
            switch (left, right) {
            case (.ended, .ended), (.hung, .hung): true
            case (.failed(let left), .failed(let right)): "\(left)" == "\(right)"
            default: false
            }
        }
    }

    let disk: FaultDisk
    /// What each key may be: the value that was acknowledged last, and those that were written since.
    var accepted: [String: [String?]] = [:]
    var isClosedAtEnd = true
    /// The node has run, in whichever life.
    private(set) var hasStarted = false

    init(disk: FaultDisk) { self.disk = disk }

    func run() -> End {
        for life in 0..<2 {
            let node = TestMachine(disk: disk)
            switch node.start() {
            case .success: hasStarted = true
            case .failure(let error):
                node.end()
                return .failed(error)
            case nil:
                node.end()
                return .hung
            }
            for number in 0..<40 {
                let key = "key-\(number % 12)"
                let value = "\(life)-\(number)-" + String(repeating: "x", count: number * 9 % 300)
                accepted[key, default: [nil]].append(value)
                if node.put(key, value) { accepted[key] = [value] }
                guard let error = node.stopReason else { continue }
                node.end()
                return .failed(error)
            }
            if life == 0 || isClosedAtEnd { node.shutDown() }
            node.end()
        }
        return .ended
    }
}
