import CUV
import CUVShims
import Glibc
import Prelude
import Telemetry

extension EventLoop {
    /// How busy the loop is, and how late what it should do gets done.
    public func collect(into exposition: inout Exposition) {
        exposition.histogram(
            "raftoral_loop_lag_seconds", "How late timers of the event loop ran.", loopClock.lag)
        exposition.counter("raftoral_loop_turns_total", "Turns of the event loop.", turnNumber)
        exposition.counter(
            "raftoral_loop_idle_seconds_total", "Time in which the event loop had nothing to do.",
            Double(uv_metrics_idle_time(uvLoop)) / 1e9)
        exposition.gauge(
            "raftoral_loop_resources", "Open sockets, files and work items of the event loop.", resourceCount)
    }
}

/// What the system knows of this process, under the names that Prometheus gives it everywhere.
public enum ProcessMetrics {
    public static func collect(into exposition: inout Exposition) {
        var usage = rusage()
        if getrusage(RUSAGE_SELF.rawValue, &usage) == 0 {
            let seconds = Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
            let microseconds = Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec)
            exposition.counter(
                "process_cpu_seconds_total", "User and system CPU time of this process.", seconds + microseconds / 1e6)
        }
        if let memory = text(of: "/proc/self/statm")?.split(separator: " "), memory.count > 1,
            let size = UInt64(memory[0]), let resident = UInt64(memory[1])
        {
            let page = UInt64(max(1, sysconf(Int32(_SC_PAGESIZE))))
            exposition.gauge("process_virtual_memory_bytes", "Virtual memory of this process.", size * page)
            exposition.gauge("process_resident_memory_bytes", "Resident memory of this process.", resident * page)
        }
        var limit = rlimit()
        if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
            exposition.gauge("process_max_fds", "Descriptors that this process may have.", UInt64(limit.rlim_cur))
        }
        if let count = descriptorCount() {
            exposition.gauge("process_open_fds", "Descriptors that this process has.", count)
        }
        if let start = startSeconds {
            exposition.gauge("process_start_time_seconds", "When this process began, in Unix time.", start)
        }
    }

    private static func descriptorCount() -> Int? {
        guard let names = try? FileDisk().list("/proc/self/fd") else { return nil }
        // Without the one by which it was counted.
        return max(0, names.count - 1)
    }

    /// Fields 22 of /proc/self/stat (ticks since boot), and the boot time of /proc/stat: proc(5).
    private static let startSeconds: Double? = {
        guard let stat = text(of: "/proc/self/stat"), let system = text(of: "/proc/stat"),
            // The second field is the program's name, which may hold anything.
            let end = stat.lastIndex(of: ")"),
            let boot = system.split(separator: "\n").first(where: { $0.hasPrefix("btime ") })?.dropFirst(6)
        else { return nil }
        let fields = stat[end...].split(separator: " ")
        guard fields.count > 20, let ticks = Double(fields[20]), let bootSeconds = Double(boot) else { return nil }
        return bootSeconds + ticks / Double(max(1, sysconf(Int32(_SC_CLK_TCK))))
    }()

    private static func text(of path: String) -> String? {
        // These files have no size; a page holds what is asked of them, but for the many CPUs of /proc/stat.
        var buffer = [UInt8](repeating: 0, count: 256 << 10)
        guard let file = try? FileDisk().open(path, .readOnly),
            let count = try? buffer.withUnsafeMutableBytes({ bytes throws(DiskError) in
                try file.read(into: bytes, at: 0)
            })
        else { return nil }
        file.close()
        return String(decoding: buffer[..<count], as: UTF8.self)
    }
}
