import XCTest

@testable import Prelude
@testable import Workflow

/// https://www.w3.org/TR/trace-context/
final class TraceContextTests: XCTestCase {
    private let trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    private let parent = "00f067aa0ba902b7"
    private var good: String { "00-\(trace)-\(parent)-01" }

    func test_3_2_traceparent() throws {
        let context = try XCTUnwrap(TraceContext(traceparent: good))
        XCTAssertEqual(context.traceID, trace)
        XCTAssertEqual(context.parentID, parent)
        XCTAssertTrue(context.isSampled)
        XCTAssertFalse(try XCTUnwrap(TraceContext(traceparent: "00-\(trace)-\(parent)-02")).isSampled)
    }

    func test_3_2_whatIsNoneIsIgnored() {
        let zeros = String(repeating: "0", count: 32)
        for bad in [
            "", "00", "00-\(trace)-\(parent)", "00-\(trace)-\(parent)-1", "00-\(trace)-\(parent)-0x",
            "00-\(trace)-\(parent)-01-", "00-\(trace)-\(parent)-01-more", "00-\(trace)-\(parent)-01 ",
            "00_\(trace)-\(parent)-01", "00-\(trace.uppercased())-\(parent)-01", "00-\(zeros)-\(parent)-01",
            "00-\(trace)-\(zeros.prefix(16))-01", "ff-\(trace)-\(parent)-01", "0-\(trace)-\(parent)-01",
            "00-\(trace.dropLast())é-\(parent)-01", String(repeating: "0", count: 1 << 20),
        ] {
            XCTAssertNil(TraceContext(traceparent: bad), "\(bad.prefix(80))")
        }
    }

    /// §4.3: later versions are read by the fields that version 00 has.
    func test_4_3_aLaterVersion() throws {
        XCTAssertEqual(TraceContext(traceparent: "01-\(trace)-\(parent)-01")?.traceparent, good)
        XCTAssertEqual(TraceContext(traceparent: "cc-\(trace)-\(parent)-01-what-comes")?.traceparent, good)
        XCTAssertNil(TraceContext(traceparent: "cc-\(trace)-\(parent)-01.what"))
    }

    private func state(_ text: String) -> String? { TraceContext(traceparent: good, tracestate: text)?.tracestate }

    func test_3_3_tracestate() {
        XCTAssertEqual(state("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
        XCTAssertEqual(state(" a=1 ,\t, b@v=x y,2x@y=z"), "a=1,b@v=x y,2x@y=z")
        for bad in [
            "a", "a=", "=1", "A=1", "a=1,a=2", "1a=2", "a@=1", "a@b@c=1", "a=ü", "a=b=c", "a b=1",
            String(repeating: "k", count: 257) + "=1", "k=" + String(repeating: "v", count: 257),
            (0...TraceLimits.tracestateMemberCountMax).map { "k\($0)=1" }.joined(separator: ","),
            String(repeating: ",", count: TraceLimits.receivedTracestateByteCountMax + 1),
        ] {
            XCTAssertEqual(state(bad), "", "\(bad.prefix(80))")
        }
        XCTAssertEqual(TraceContext(traceparent: good, tracestate: "a")?.traceparent, good)
    }

    func test_3_3_1_5_whatIsTooLongGoesFirst() throws {
        let long = "long=" + String(repeating: "x", count: TraceLimits.shortMemberByteCountMax)
        let short = (0..<8).map { "k\($0)=" + String(repeating: "y", count: 50) }
        let kept = try XCTUnwrap(state(([short[0], long] + short[1...]).joined(separator: ",")))
        XCTAssertEqual(kept, short.joined(separator: ","))
        let many = (0..<30).map { "k\($0)=" + String(repeating: "y", count: 50) }
        let first = try XCTUnwrap(state(many.joined(separator: ",")))
        XCTAssertLessThanOrEqual(first.utf8.count, TraceLimits.tracestateByteCountMax)
        XCTAssertEqual(first, many.prefix(9).joined(separator: ","))
    }

    func test_theTextFormAndBack() throws {
        for tracestate in ["", "a=1", "a=x y,b=2"] {
            let context = try XCTUnwrap(TraceContext(traceparent: good, tracestate: tracestate))
            XCTAssertEqual(TraceContext(context.description), context)
        }
        XCTAssertNil(TraceContext(""))
    }

    // MARK: - With a run

    private func machine(_ trace: TraceContext?) -> WorkflowMachine {
        let machine = WorkflowMachine(group: 1)
        for (index, trace) in [trace, nil].enumerated() {
            let start = Command.Start(
                workflowID: "w\(index)", type: "t", version: 1, input: Payload(data: []), owner: 1,
                ownerIncarnation: 1, trace: trace)
            _ = machine.apply(
                .start(start), ApplyContext(group: 1, index: LogIndex(5 + UInt64(index)), timeMilliseconds: 7))
        }
        return machine
    }

    func test_aSnapshotKeepsIt() throws {
        let context = try XCTUnwrap(TraceContext(traceparent: good, tracestate: "a=1"))
        let traced = machine(context)
        let snapshot = traced.snapshot()
        XCTAssertEqual(snapshot.first, 2)
        let copy = try WorkflowMachine(snapshot: snapshot)
        XCTAssertEqual(copy.newestRun(workflowID: "w0")?.trace, context)
        XCTAssertNil(copy.newestRun(workflowID: "w1")?.trace)
        XCTAssertTrue(copy.hasSameState(as: traced))
        XCTAssertEqual(copy.snapshot(), snapshot)
        XCTAssertFalse(machine(nil).hasSameState(as: traced))
    }

    /// What programs that know no traces read.
    func test_withoutAnyTheSnapshotIsAsBefore() throws {
        let snapshot = machine(nil).snapshot()
        XCTAssertEqual(snapshot.first, 1)
        XCTAssertEqual(try WorkflowMachine(snapshot: snapshot).snapshot(), snapshot)
    }
}
