import Glibc

/// Stops the process when one of our own rules is broken, in release builds too.
///
/// For our bugs only: what comes from outside (peers, clients, files, flags) gets an error instead.
@inlinable
public func invariant(
    _ condition: @autoclosure () -> Bool, _ rule: @autoclosure () -> String,
    file: StaticString = #fileID, line: UInt = #line
) {
    if _slowPath(!condition()) { invariantBroken(rule(), file: file, line: line) }
}

/// As `invariant(false, …)`, for places that cannot be reached.
public func invariantBroken(_ rule: String, file: StaticString = #fileID, line: UInt = #line) -> Never {
    // Optimised code traps without a word.
    let text = "invariant broken: \(rule) (\(file):\(line))\n"
    _ = Array(text.utf8).withUnsafeBytes { write(STDERR_FILENO, $0.baseAddress, $0.count) }
    preconditionFailure(text)
}
