import Foundation
@testable import RaftTrace
import XCTest

/// The core against recorded traces: the folder named by RAFT_TESTDATA, or `../shared/raft-testdata` beside the
/// package.
final class TraceTests: XCTestCase {
    private static var folder: String {
        if let named = ProcessInfo.processInfo.environment["RAFT_TESTDATA"] { return named }
        let package = URL(fileURLWithPath: #filePath).appendingPathComponent("../../..").standardizedFileURL
        return package.appendingPathComponent("../shared/raft-testdata").standardizedFileURL.path
    }

    func testEveryTrace() throws {
        // With the log lines: not only what is done has to agree, but why.
        let runner = TraceRunner(folder: TraceTests.folder, comparesLogLines: true)
        for file in try runner.files() {
            XCTAssertNoThrow(try runner.run(file))
        }
    }

    func testMissingFolderIsAnError() {
        XCTAssertThrowsError(try TraceRunner(folder: "/nowhere/at/all").files()) { error in
            XCTAssertTrue("\(error)".contains("/nowhere/at/all"))
        }
    }

    func testDifferenceNamesPlaceExpectedAndActual() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("traces-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let trace = """
            # A comment.
            add-nodes 1 voters=(1) index=2
            ----
            INFO this line is not compared

            propose 1 foo
            ----
            ok
            """
        try Data(trace.utf8).write(to: folder.appendingPathComponent("wrong.txt"))
        XCTAssertThrowsError(try TraceRunner(folder: folder.path).run("wrong.txt")) { error in
            XCTAssertEqual(
                error as? TraceDifference,
                TraceDifference(
                    file: "wrong.txt", line: 8, command: "propose 1 foo", expected: "ok",
                    actual: "raft proposal dropped"))
        }
    }

    func testParsing() {
        let trace = TraceFile(
            parsing: """
                # comment
                one 1 a=b c=(1, 2) d=() e=(x)
                input line

                more
                ----
                out

                two
                ----
                ----
                with

                blank
                ----
                ----
                """)
        XCTAssertEqual(
            trace.directives,
            [
                Directive(
                    line: 2, command: "one",
                    arguments: [
                        .init(key: "1", values: []), .init(key: "a", values: ["b"]),
                        .init(key: "c", values: ["1", "2"]), .init(key: "d", values: []),
                        .init(key: "e", values: ["x"]),
                    ],
                    input: "input line\n\nmore", expected: "out\n", expectedLine: 7),
                Directive(
                    line: 9, command: "two", arguments: [], input: "", expected: "with\n\nblank\n", expectedLine: 12),
            ])
    }
}
