import ArgumentParser
import Raftoral

/// Looks into the log of a node that is stopped. Changes nothing.
struct LogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log", abstract: "Look into the log of a stopped node.",
        subcommands: [Verify.self, Dump.self])

    struct Target: ParsableArguments {
        @Argument(help: "The data directory of a node, or the directory of a log.")
        var directory: String

        /// Runs `body` with the directory that has the segments, while no node uses it.
        func look(_ body: (_ log: String, _ disk: any Disk) throws(StorageError) -> Void) throws {
            let disk = FileDisk()
            do throws(StorageError) {
                try LogInspector.withLog(in: directory, disk: disk) { log throws(StorageError) in try body(log, disk) }
            } catch {
                Console.error("✗ \(error)")
                throw ExitCode(1)
            }
        }
    }

    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check every byte that a start checks; exit with 1 and name file and offset at the first damage.")
        @OptionGroup var target: Target

        func run() throws {
            try target.look { log, disk throws(StorageError) in
                let report = try LogInspector.verify(directory: log, disk: disk)
                Console.out("✓ \(log) is whole")
                Console.out(
                    "  \(report.segmentCount) segments, \(report.batchCount) batches, \(report.recordCount) records, "
                        + "\(report.entryCount) entries, \(report.byteCount) bytes")
                if let torn = report.torn {
                    Console.out(
                        "  a write was cut short at bytes \(torn.from) to \(torn.to) of \(torn.file): "
                            + "it was never acknowledged, and the next start removes it")
                } else if report.isClosed {
                    Console.out("  the node was stopped in order")
                }
            }
        }
    }

    struct Dump: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print every record: segment, offset, group, kind, index, term, bytes.")
        @OptionGroup var target: Target

        func run() throws {
            try target.look { log, disk throws(StorageError) in
                var segment = ""
                try LogInspector.dump(directory: log, disk: disk) { item in
                    if item.file != segment {
                        segment = item.file
                        Console.out(segment)
                    }
                    Console.out(Self.line(item))
                }
            }
        }

        private static func line(_ item: LogInspector.Item) -> String {
            let what =
                switch item.kind {
                case .entry: "entry \(item.index) term \(item.term)"
                case .hardState: "hard state: term \(item.term), committed up to \(item.index)"
                case .snapshot: "snapshot at \(item.index) term \(item.term)"
                case .compacted: "compacted up to \(item.index) term \(item.term)"
                case .groupState: "state so far: log up to \(item.index) term \(item.term)"
                }
            return "  \(item.offset)  group \(item.group)  \(what)  \(item.byteCount) bytes"
        }
    }
}
