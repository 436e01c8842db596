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

    /// Whoever the process leaves behind, as the program that prints backtraces, may live on with its output open: what counts
    /// is its own end.
    static func run(_ arguments: [String], line: (String) -> Void) -> Result {
        let errorFile = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: errorFile) }
        let pipe = Pipe()
        for end in [pipe.fileHandleForReading, pipe.fileHandleForWriting] {
            // A child that another thread starts just now has a copy all the same, which does no harm.
            _ = fcntl(end.fileDescriptor, F_SETFD, FD_CLOEXEC)
        }
        let (process, failure) = spawn(
            arguments, output: pipe.fileHandleForWriting.fileDescriptor, errors: errorFile.path)
        try? pipe.fileHandleForWriting.close()
        guard failure == 0 else {
            return Result(isSuccess: false, ending: "not started: \(String(cString: strerror(failure)))", errors: "")
        }
        let status = readLines(from: pipe.fileHandleForReading.fileDescriptor, of: process, line)
        let errors = (try? String(contentsOf: errorFile, encoding: .utf8)) ?? ""
        let (signal, code) = (status & 0x7F, status >> 8 & 0xFF)
        return Result(
            isSuccess: status == 0, ending: signal != 0 ? "signal \(signal)" : "status \(code)", errors: errors)
    }

    private static func spawn(_ arguments: [String], output: Int32, errors: String) -> (pid_t, Int32) {
        let program = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().path
        var environment = ProcessInfo.processInfo.environment
        environment["SWIFT_BACKTRACE"] =
            environment["SWIFT_BACKTRACE"] ?? "enable=yes,color=no,registers=none,images=none"
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO)
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, errors, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        var texts = ([program] + arguments).map { strdup($0) } + [nil]
        var settings = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for text in texts + settings { free(text) } }
        var process = pid_t()
        let failure = posix_spawn(&process, program, &actions, nil, &texts, &settings)
        return (process, failure)
    }

    /// Returns how the process ended, as `waitpid` tells it.
    private static func readLines(from input: Int32, of process: pid_t, _ line: (String) -> Void) -> Int32 {
        var rest = Data()
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        var status: Int32 = 0
        var hasEnded = false
        var isOpen = true
        while isOpen {
            var entry = pollfd(fd: input, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, hasEnded ? 0 : 100) > 0 else {
                if hasEnded { break }
                hasEnded = wait(for: process, &status, WNOHANG)
                continue
            }
            let count = read(input, &piece, piece.count)
            if count < 0, errno == EINTR { continue }
            isOpen = count > 0
            rest.append(contentsOf: piece.prefix(max(0, count)))
            while let end = rest.firstIndex(of: 10) {
                line(String(decoding: rest[rest.startIndex..<end], as: UTF8.self))
                rest = Data(rest[(end + 1)...])
            }
        }
        while !hasEnded { hasEnded = wait(for: process, &status, 0) }
        return status
    }

    /// True when it has ended. How, nobody can tell where the signal of its end is ignored: that counts as a failure.
    private static func wait(for process: pid_t, _ status: inout Int32, _ options: Int32) -> Bool {
        let found = waitpid(process, &status, options)
        guard found < 0 else { return found == process }
        if errno == EINTR { return false }
        status = 127 << 8
        return true
    }
}
