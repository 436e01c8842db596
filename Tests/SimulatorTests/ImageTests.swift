import Prelude
import Raft
import StorageTesting
import Wire
import Workflow
import XCTest

@_spi(Simulation) @testable import Node
@testable import Simulator

/// A member that comes back so late that the log does not help it any more: it gets an image of the leader's state.
final class ImageTests: XCTestCase {
    private let world = SimulatedWorld(seed: 4)
    private lazy var network = SimulatedNetwork(world: world)
    private var machines: [TestMachine] = []
    private var written = 0

    override func setUp() {
        for host in ["n1", "n2", "n3"] {
            let machine = TestMachine(disk: FaultDisk(seed: 3), network: network, host: host)
            let started = machine.start(
                peers: machines.first.map { [$0.address] } ?? [], untilItLeads: machines.isEmpty)
            guard case .success = started else { return XCTFail(machine.outcomeText) }
            machines.append(machine)
        }
        waitUntil("all are voters") {
            self.machines.allSatisfy { machine in
                machine.node?.observedGroups.allSatisfy { $0.configuration.voters.count == 3 } == true
            }
        }
        // As long as there is one that they joined by, the log goes back to it.
        waitUntil("nothing is left of their joining") { machines.allSatisfy { images($0).isEmpty } }
    }

    override func tearDown() { for machine in machines { machine.end() } }

    private func waitUntil(_ what: String, line: UInt = #line, _ condition: () -> Bool) {
        machines[0].pass(condition)
        XCTAssertTrue(condition(), what, line: line)
    }

    /// More than the log keeps.
    private func writeMuch() {
        for _ in 0..<60 {
            written += 1
            let value = "\(written)-" + String(repeating: "x", count: 400)
            let end = world.now + .seconds(60)
            // The leader may just have gone.
            while !machines[written % 2].put("key-\(written % 90)", value), world.now < end {}
            XCTAssertLessThan(world.now, end)
        }
    }

    private func isCaughtUp(_ machine: TestMachine) -> Bool {
        guard let node = machine.node, let first = machines[0].node else { return false }
        return node.observedGroups.map(\.appliedDigest) == first.observedGroups.map(\.appliedDigest)
            && first.hasSameState(as: node, in: .firstWorkflows)
    }

    private func images(_ machine: TestMachine) -> [String] { machine.disk.paths.filter { $0.contains(".image") } }

    /// The third machine comes back with what its disk has.
    private func restart(_ disk: FaultDisk) -> TestMachine {
        let machine = TestMachine(disk: disk, network: network, host: "n3")
        machines[2] = machine
        return machine
    }

    func test_itGetsWhatTheOthersHaveAndKeepsIt() {
        machines[2].end()
        writeMuch()
        let late = restart(machines[2].disk)
        XCTAssertEqual(late.start(untilItLeads: false)?.isSuccess, true, late.outcomeText)
        waitUntil("it has caught up") { isCaughtUp(late) }
        XCTAssertTrue(machines.contains { $0 !== late && !images($0).isEmpty }, "an image was made for it")
        waitUntil("what was fetched is the state store") { images(late).isEmpty }
        checkCounts(late)
        late.end(losesPower: true)
        let again = restart(late.disk)
        XCTAssertEqual(again.start(untilItLeads: false)?.isSuccess, true, again.outcomeText)
        waitUntil("it is there after a loss of power") { isCaughtUp(again) }
        // Nobody needs the image on the other machines any more.
        waitUntil("the images are gone") { machines.allSatisfy { images($0).isEmpty } }
    }

    private func checkCounts(_ late: TestMachine) {
        func counts(_ machine: TestMachine) -> ImageCounts { machine.node?.metrics.images ?? ImageCounts() }
        waitUntil("the installation is counted") { counts(late).installed > 0 }
        let others = machines.filter { $0 !== late }.map(counts)
        func sum(_ count: KeyPath<ImageCounts, UInt64>) -> UInt64 { others.reduce(0) { $0 + $1[keyPath: count] } }
        XCTAssertGreaterThan(sum(\.made), 0)
        XCTAssertGreaterThan(counts(late).fetchedBytes, 0)
        XCTAssertGreaterThanOrEqual(sum(\.sentBytes), counts(late).fetchedBytes)
        XCTAssertEqual(sum(\.failed) + counts(late).failed, 0)
    }

    func test_aBrokenConnectionDoesNotEndIt() {
        machines[2].end()
        writeMuch()
        let late = restart(machines[2].disk)
        XCTAssertEqual(late.start(untilItLeads: false)?.isSuccess, true, late.outcomeText)
        var largest = 0
        for cut in 0..<6 {
            // A piece more than last time, then nothing for a while.
            late.pass {
                let count = images(late).compactMap { late.disk.contents($0)?.count }.max() ?? 0
                defer { largest = max(largest, count) }
                return count > largest || isCaughtUp(late)
            }
            for choice in 0..<8 as Range<UInt64> { network.resetConnection(of: late.loop, choice: choice) }
            if cut == 3 {
                for host in ["n1", "n2"] {
                    network.block(host, "n3")
                    network.block("n3", host)
                }
                let end = world.now + .seconds(5)
                late.pass { world.now >= end }
                network.healAll()
            }
        }
        waitUntil("it has caught up") { isCaughtUp(late) }
    }

    func test_anImageThatIsTooLargeIsRefusedAndCounted() {
        machines[2].end()
        writeMuch()
        let late = restart(machines[2].disk)
        late.limits.node.imageByteCountMax = 4 << 10
        XCTAssertEqual(late.start(untilItLeads: false)?.isSuccess, true, late.outcomeText)
        waitUntil("it refuses the image") { late.node?.metrics.images.refused ?? 0 > 1 }
        XCTAssertFalse(isCaughtUp(late))
        XCTAssertEqual(late.node?.metrics.images.fetchedBytes, 0)
        XCTAssertEqual(images(late), [])
        late.end()
        let again = restart(late.disk)
        XCTAssertEqual(again.start(untilItLeads: false)?.isSuccess, true, again.outcomeText)
        waitUntil("with its usual limit it takes the image") { isCaughtUp(again) }
    }

    func test_piecesThatAreReadAtTheSameTimeAreBounded() throws {
        let machine = try XCTUnwrap(
            machines.first { $0.node?.observedGroups.allSatisfy { $0.role == .leader } == true })
        let node = try XCTUnwrap(machine.node)
        let group = try XCTUnwrap(node.groups[.firstWorkflows])
        var snapshot: Snapshot?
        waitUntil("an image is made") {
            snapshot = snapshot ?? node.images.snapshot(of: group)
            return snapshot != nil
        }
        let reference = try ImageReference(decoding: XCTUnwrap(snapshot).data)
        let request = ReadImageRequest(groupID: group.id, imageID: reference.imageID, offset: 0, fromNodeID: 3)
        let calls = (0...node.limits.node.imageReaderCountMax).map { _ in PieceCall() }
        for call in calls { node.images.read(call, request) }
        XCTAssertEqual(calls.last?.failure?.code, .resourceExhausted)
        waitUntil("all others are answered") { calls.dropLast().allSatisfy { $0.answer != nil } }
        XCTAssertEqual(calls.filter { $0.failure != nil }.count, 1)
        let late = PieceCall()
        node.images.read(late, request)
        waitUntil("there is room again") { late.answer != nil }
    }

    private final class PieceCall: ServiceCall {
        var onCancel: (() -> Void)?
        var isCancelled: Bool { false }
        var trace: TraceContext? { nil }
        private(set) var answer: [UInt8]?
        private(set) var failure: GRPCStatus?

        func respond(_ bytes: [UInt8]) { answer = bytes }
        func fail(_ status: GRPCStatus) { failure = status }
    }

    /// Whatever stops it on the way, it starts with the old state or the new one, and catches up.
    func test_aCrashAtAnyPointIsHarmless() {
        machines[2].end()
        var operation = 0
        var isComplete = false
        while !isComplete {
            operation += 37
            writeMuch()
            let disk = machines[2].disk
            disk.inject(.from(disk.operationCount + operation))
            let late = restart(disk)
            if case .success? = late.start(untilItLeads: false) {
                late.pass { isCaughtUp(late) }
                isComplete = late.stopReason == nil && isCaughtUp(late)
            }
            late.end(losesPower: operation % 2 == 0)
            disk.removeFaults()
            let again = restart(disk)
            let started = again.start(untilItLeads: false)?.isSuccess == true
            XCTAssertTrue(started, "operation \(operation): \(again.outcomeText)")
            waitUntil("operation \(operation): it has caught up") { isCaughtUp(again) }
            XCTAssertNil(again.stopReason)
            again.end()
        }
        XCTAssertGreaterThan(operation, 200)
    }
}

extension Result {
    fileprivate var isSuccess: Bool { if case .success = self { true } else { false } }
}
