import Foundation

/// A rule of the node's own that is broken ends the process. Then at least it is said in which run.
enum TrapReport {
    // Written between runs, read by a signal handler on the same thread.
    nonisolated(unsafe) static var seed: UInt64 = 0

    static func install() {
        for number in [SIGILL, SIGTRAP, SIGABRT, SIGSEGV, SIGBUS, SIGFPE] {
            // Only what a signal handler may do: no allocation.
            signal(number) { number in
                var digits: (UInt64, UInt64, UInt64) = (0, 0, 0)
                withUnsafeMutableBytes(of: &digits) { TrapReport.say($0) }
                signal(number, SIG_DFL)
                raise(number)
            }
        }
    }

    private static func say(_ buffer: UnsafeMutableRawBufferPointer) {
        writeText("seed ")
        var place = buffer.count
        var rest = seed
        repeat {
            place -= 1
            buffer[place] = UInt8(48 + rest % 10)
            rest /= 10
        } while rest > 0 && place > 0
        _ = write(1, buffer.baseAddress?.advanced(by: place), buffer.count - place)
        writeText(" failed: the process was stopped by a rule of its own\n")
    }

    private static func writeText(_ text: StaticString) { _ = write(1, text.utf8Start, text.utf8CodeUnitCount) }
}
