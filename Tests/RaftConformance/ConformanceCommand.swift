import Foundation
import RaftTrace

/// Runs all traces of a folder: the first argument, or RAFT_TESTDATA, or `../shared/raft-testdata`. The core's log
/// lines are compared too when RAFT_LOG_LINES is set. With `--print FILE` it shows one file with what the core prints
/// instead.
@main
struct ConformanceCommand {
    static func main() {
        if CommandLine.arguments.count == 3, CommandLine.arguments[1] == "--print" {
            return show(CommandLine.arguments[2])
        }
        let folder =
            CommandLine.arguments.dropFirst().first ?? ProcessInfo.processInfo.environment["RAFT_TESTDATA"]
            ?? "../shared/raft-testdata"
        let runner = TraceRunner(
            folder: folder, comparesLogLines: ProcessInfo.processInfo.environment["RAFT_LOG_LINES"] != nil)
        let files: [String]
        do {
            files = try runner.files()
        } catch {
            print("error: \(error)")
            exit(2)
        }
        var failures: [String] = []
        for file in files {
            do {
                try runner.run(file)
                print("ok   \(file)")
            } catch {
                print("FAIL \(file)")
                failures.append("\(error)")
            }
        }
        for failure in failures { print("\n\(failure)") }
        print("\n\(files.count - failures.count) passed, \(failures.count) failed")
        if !failures.isEmpty { exit(1) }
    }

    private static func show(_ file: String) {
        do {
            let url = URL(fileURLWithPath: file)
            let runner = TraceRunner(folder: url.deletingLastPathComponent().path)
            print(try runner.transcript(url.lastPathComponent), terminator: "")
        } catch {
            print("error: \(error)")
            exit(2)
        }
    }
}
