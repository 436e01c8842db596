import Prelude
import Simulator
import XCTest

final class LinearizabilityTests: XCTestCase {
    private typealias Action = RegisterOperation.Action
    private typealias Outcome = RegisterOperation.Outcome

    private func operation(
        _ called: Nanoseconds, _ returned: Nanoseconds?, _ action: Action, _ outcome: Outcome?, key: String = "k"
    ) -> RegisterOperation {
        RegisterOperation(client: 0, key: key, action: action, called: called, returned: returned, outcome: outcome)
    }

    private func verdict(_ operations: RegisterOperation...) -> LinearizabilityVerdict {
        LinearizabilityChecker().check(operations)
    }

    private func assertViolated(
        _ operations: RegisterOperation..., line: UInt = #line
    ) {
        guard case .violated = LinearizabilityChecker().check(operations) else {
            return XCTFail("the bad history was accepted", line: line)
        }
    }

    // MARK: - Good histories

    func test_writesAndReadsInSequence() {
        XCTAssertEqual(
            verdict(
                operation(0, 1, .get, .read(nil, revision: 0)), operation(2, 3, .put("a"), .written(revision: 1)),
                operation(4, 5, .get, .read("a", revision: 1)), operation(6, 7, .delete, .deleted(existed: true)),
                operation(8, 9, .get, .read(nil, revision: 0)),
                operation(10, 11, .compareAndSwap(expected: 0, "b"), .swapped(true, revision: 5)),
                operation(12, 13, .compareAndSwap(expected: 1, "c"), .swapped(false, revision: 5))), .linearizable)
    }

    func test_concurrentReadsMaySeeEither() {
        XCTAssertEqual(
            verdict(
                operation(0, 1, .put("a"), .written(revision: 1)), operation(2, 10, .put("b"), .written(revision: 2)),
                operation(3, 4, .get, .read("a", revision: 1)), operation(5, 6, .get, .read("b", revision: 2))),
            .linearizable)
    }

    func test_anUnknownWriteMayTakeEffectLateOrNever() {
        XCTAssertEqual(
            verdict(
                operation(0, nil, .put("a"), nil), operation(1, 2, .get, .read(nil, revision: 0)),
                operation(3, 4, .get, .read("a", revision: 7)),
                operation(5, 6, .compareAndSwap(expected: 7, "b"), .swapped(true, revision: 8))), .linearizable)
        XCTAssertEqual(
            verdict(operation(0, nil, .put("a"), nil), operation(1, 2, .get, .read(nil, revision: 0))), .linearizable)
    }

    // MARK: - Known-bad histories

    func test_aStaleRead() {
        assertViolated(
            operation(0, 1, .put("a"), .written(revision: 1)), operation(2, 3, .put("b"), .written(revision: 2)),
            operation(4, 5, .get, .read("a", revision: 1)))
    }

    func test_aReadThatGoesBack() {
        assertViolated(
            operation(0, 1, .put("a"), .written(revision: 1)), operation(2, 20, .put("b"), .written(revision: 2)),
            operation(3, 4, .get, .read("b", revision: 2)), operation(5, 6, .get, .read("a", revision: 1)))
    }

    func test_aLostWrite() {
        assertViolated(
            operation(0, 1, .put("a"), .written(revision: 1)), operation(2, 3, .get, .read(nil, revision: 0)))
    }

    func test_aValueOutOfNowhere() {
        assertViolated(operation(0, 1, .get, .read("x", revision: 3)))
    }

    func test_aValueBeforeItsWriteWasAsked() {
        assertViolated(operation(0, 1, .get, .read("a", revision: 1)), operation(2, nil, .put("a"), nil))
    }

    func test_twoSwapsOfOneRevision() {
        assertViolated(
            operation(0, 1, .put("a"), .written(revision: 1)),
            operation(2, 5, .compareAndSwap(expected: 1, "b"), .swapped(true, revision: 2)),
            operation(3, 6, .compareAndSwap(expected: 1, "c"), .swapped(true, revision: 3)))
    }

    func test_aWriteThatIsAppliedTwice() {
        assertViolated(
            operation(0, 1, .put("a"), .written(revision: 1)), operation(2, 3, .put("b"), .written(revision: 2)),
            operation(4, 5, .get, .read("b", revision: 2)), operation(6, 7, .get, .read("a", revision: 3)))
    }

    func test_aRevisionThatFalls() {
        assertViolated(
            operation(0, 1, .put("a"), .written(revision: 5)), operation(2, 3, .put("b"), .written(revision: 4)))
    }

    func test_aDeleteThatDidNothing() {
        assertViolated(
            operation(0, 1, .put("a"), .written(revision: 1)), operation(2, 3, .delete, .deleted(existed: true)),
            operation(4, 5, .get, .read("a", revision: 1)))
        assertViolated(
            operation(0, 1, .put("a"), .written(revision: 1)), operation(2, 3, .delete, .deleted(existed: false)))
    }

    func test_theViolationNamesTheVariable() {
        let verdict = verdict(
            operation(0, 1, .put("a"), .written(revision: 1), key: "fine"),
            operation(0, 1, .get, .read("x", revision: 1), key: "wrong"))
        guard case .violated("wrong", let stuckAt) = verdict else { return XCTFail("\(verdict)") }
        XCTAssertTrue(stuckAt.contains("wrong"), stuckAt)
    }

    // MARK: - Random histories of a real register

    /// Operations of several clients on a register that takes effect at a random moment within each operation.
    private func randomHistory(seed: UInt64, count: Int) -> [RegisterOperation] {
        var random = SeededRandom(seed: seed)
        var value: String?
        var revision: UInt64 = 0
        var counter: UInt64 = 0
        var now: Nanoseconds = 0
        var busyUntil: [Nanoseconds] = [0, 0, 0, 0]
        return (0..<count).map { index in
            now += UInt64.random(in: 1...10, using: &random)
            let client = Int.random(in: 0..<4, using: &random)
            // Effects come in the order of `now`; a call is at or before its effect, a return at or after it.
            let called = max(busyUntil[client], now - min(now, UInt64.random(in: 0...30, using: &random)))
            let returned = max(now, called) + UInt64.random(in: 0...30, using: &random)
            now = max(now, called)
            busyUntil[client] = returned + 1
            var made = operation(called, returned, .get, nil)
            made.client = client
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<3:
                counter += 1
                (value, revision) = ("v\(index)", counter)
                made.action = .put("v\(index)")
                made.outcome = .written(revision: counter)
            case 3:
                made.action = .delete
                made.outcome = .deleted(existed: value != nil)
                (value, revision) = (nil, 0)
            case 4:
                let expected = Bool.random(using: &random) ? revision : revision + 1
                made.action = .compareAndSwap(expected: expected, "v\(index)")
                if expected == revision {
                    counter += 1
                    (value, revision) = ("v\(index)", counter)
                }
                made.outcome = .swapped(expected != revision && value == "v\(index)", revision: revision)
            default:
                made.outcome = .read(value, revision: revision)
            }
            made.returned = returned
            if Int.random(in: 0..<12, using: &random) == 0 { (made.returned, made.outcome) = (nil, nil) }
            return made
        }
    }

    func test_historiesOfARealRegisterAreAccepted() {
        for seed in UInt64(0)..<300 {
            XCTAssertEqual(
                LinearizabilityChecker().check(randomHistory(seed: seed, count: 120)), .linearizable, "seed \(seed)")
        }
    }

    func test_aReadOfAnOverwrittenValueIsFoundInARandomHistory() {
        for seed in UInt64(0)..<100 {
            var history = randomHistory(seed: seed, count: 60)
            let end = history.compactMap(\.returned).max() ?? 0
            let firstWrite = history.first {
                if case .put = $0.action, $0.outcome != nil { return true } else { return false }
            }
            guard case .put(let old)? = firstWrite?.action, case .written(let revision)? = firstWrite?.outcome else {
                continue
            }
            history.append(operation(end + 100, end + 101, .put("last"), .written(revision: 10_000)))
            history.append(operation(end + 102, end + 103, .get, .read(old, revision: revision)))
            guard case .violated = LinearizabilityChecker().check(history) else {
                XCTFail("seed \(seed): the stale read was accepted")
                continue
            }
        }
    }
}
