import Foundation

/// Another process of this program.
enum Child {
    struct Result {
        var isSuccess: Bool
        var ending: String
        var errors: String

        /// Where the program found a rule of its own broken: the frame of the backtrace that asked for the check.
        var brokenPlace: String? {
            let frames = errors.split(separator: "\n").filter { $0.contains(" in ") && $0.contains(" at /") }
            return frames.first { !$0.contains("invariantBroken") }?.split(separator: " at ").last
                .map { $0.split(separator: "/").suffix(2).joined(separator: "/") }
        }
    }

    static func run(_ arguments: [String], line: (String) -> Void) -> Result {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        process.arguments = arguments
        var environment = ProcessInfo.processInfo.environment
        environment["SWIFT_BACKTRACE"] =
            environment["SWIFT_BACKTRACE"] ?? "enable=yes,color=no,registers=none,images=none"
        process.environment = environment
        let output = Pipe()
        let errorFile = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        _ = FileManager.default.createFile(atPath: errorFile.path, contents: nil)
        defer { try? FileManager.default.removeItem(at: errorFile) }
        process.standardOutput = output
        process.standardError = (try? FileHandle(forWritingTo: errorFile)) ?? FileHandle.standardError
        do { try process.run() } catch { return Result(isSuccess: false, ending: "\(error)", errors: "") }
        var rest = Data()
        while waitForOutput(output.fileHandleForReading.fileDescriptor, of: process) {
            let data = output.fileHandleForReading.availableData
            if data.isEmpty { break }
            rest.append(data)
            while let end = rest.firstIndex(of: 10) {
                line(String(decoding: rest[rest.startIndex..<end], as: UTF8.self))
                rest = Data(rest[(end + 1)...])
            }
        }
        process.waitUntilExit()
        let isSignal = process.terminationReason == .uncaughtSignal
        let errors = (try? String(contentsOf: errorFile, encoding: .utf8)) ?? ""
        return Result(
            isSuccess: !isSignal && process.terminationStatus == 0,
            ending: "\(isSignal ? "signal" : "status") \(process.terminationStatus)", errors: errors)
    }

    /// False when the process has ended and all that it wrote was read. Somebody whom it has started, as the program that
    /// prints backtraces, may live on and keep the other end open.
    private static func waitForOutput(_ descriptor: Int32, of process: Process) -> Bool {
        while true {
            let wasRunning = process.isRunning
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            if poll(&entry, 1, 100) > 0 { return true }
            if !wasRunning { return false }
        }
    }
}
