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

    /// What the recorded traces do not use: options of nodes, kinds of changes, several commands in one directive.
    func testOwnTraces() throws {
        let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Traces").path
        let runner = TraceRunner(folder: folder, comparesLogLines: true)
        let files = try runner.files()
        XCTAssertGreaterThan(files.count, 5)
        for file in files { XCTAssertNoThrow(try runner.run(file)) }
    }

    func testMalformedFilesAreNamedWithTheLine() throws {
        let malformed: [(text: String, message: String)] = [
            ("campaign 1\n", "bad.txt:1: no ---- follows this directive"),
            ("# comment\n\ncampaign 1\nmore\n", "bad.txt:3: no ---- follows this directive"),
            ("add-nodes 1 voters=(1\n----\nok\n", "bad.txt:1: parentheses do not match: add-nodes 1 voters=(1"),
            ("campaign 1)\n----\nok\n", "bad.txt:1: parentheses do not match: campaign 1)"),
            ("raft-state\n----\n----\nno end\n", "bad.txt:4: no doubled ---- ends this output"),
            ("", "bad.txt holds no directives"),
        ]
        for (text, message) in malformed {
            XCTAssertThrowsError(try run(text, name: "bad.txt")) { XCTAssertEqual("\($0)", message) }
        }
        XCTAssertThrowsError(try run(Data([0x61, 0xFF, 0x0A]), name: "bad.txt")) { error in
            XCTAssertEqual("\(error)", "bad.txt is no UTF-8 text")
        }
    }

    /// What a file asks for and cannot have is an answer, never a trap.
    func testImpossibleDirectivesAreAnswered() throws {
        let directives = [
            "add-nodes", "add-nodes x", "add-nodes 101", "add-nodes 1 voters=(0)", "add-nodes 1 voters=(1,1) index=2",
            "add-nodes 1 voters=(18446744073709551615) index=2", "add-nodes 1 voters=(1) index=18446744073709551615",
            "add-nodes 1 voters=(1) index=1", "add-nodes 1 voters=(1) index=2 inflight=0",
            "add-nodes 1 voters=(1) index=2 read-only=lease-based", "add-nodes 1 voters=(1) index=2 prevote=maybe",
            "campaign", "campaign 9", "campaign -1", "propose 1", "propose 9 x", "process-ready 9", "deliver-msgs x",
            "deliver-msgs 18446744073709551615", "deliver-msgs 1 type=MsgNothing", "deliver-msgs 1 drop=1",
            "stabilize 9", "stabilize log-level=loud", "log-level", "compact 1", "compact 1 18446744073709551615",
            "compact 1 4", "raft-log 9", "status 0", "tick-election", "transfer-leadership from=1",
            "transfer-leadership from=1 to=18446744073709551614", "forget-leader 7", "report-unreachable 1",
            "report-unreachable 1 9", "send-snapshot 1", "send-snapshot 1 9", "set-randomized-election-timeout 1",
            "propose-conf-change 1 color=red", "propose-conf-change 1 v1=true transition=explicit", "no-such-thing",
            "propose-conf-change 1\nv18446744073709551615", "propose-conf-change 1\nx2",
            "propose-conf-change 1 v1=true\n",
        ]
        for directive in directives {
            let text =
                "add-nodes 1 voters=(1) index=2\ncampaign 1\nstabilize\n----\n\n\(directive)\n----\nanother answer\n"
            let folder = try temporaryFolder(holding: Data(text.utf8), name: "one.txt")
            defer { try? FileManager.default.removeItem(at: folder) }
            let transcript = try TraceRunner(folder: folder.path).transcript("one.txt")
            let answer = transcript.components(separatedBy: "----\n").last ?? ""
            XCTAssertFalse(answer.trimmingCharacters(in: .whitespacesAndNewlines).isEmpty, directive)
            XCTAssertNotEqual(answer, "ok\n", directive)
        }
    }

    func testLineEndsOfOtherSystems() throws {
        try run("vote cfg=(1) votes=(y)\r\n----\r\nVoteWon\r\n", name: "dos.txt")
    }

    private func temporaryFolder(holding data: Data, name: String) throws -> URL {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("traces-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try data.write(to: folder.appendingPathComponent(name))
        return folder
    }

    private func run(_ data: Data, name: String) throws {
        let folder = try temporaryFolder(holding: data, name: name)
        defer { try? FileManager.default.removeItem(at: folder) }
        try TraceRunner(folder: folder.path, comparesLogLines: true).run(name)
    }

    private func run(_ text: String, name: String) throws { try run(Data(text.utf8), name: name) }

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

    func testParsing() throws {
        let trace = try TraceFile(
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
                        .init(key: "c", values: ["1", "2"]), .init(key: "d", values: [""]),
                        .init(key: "e", values: ["x"]),
                    ],
                    input: "input line\n\nmore", expected: "out\n", expectedLine: 7),
                Directive(
                    line: 9, command: "two", arguments: [], input: "", expected: "with\n\nblank\n", expectedLine: 12),
            ])
    }
}
