import CUV

/// A call of libuv that failed.
public struct ReactorError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What was done: "loop init", "tcp connect", …
    public var operation: String
    /// libuv's code, negative.
    public var code: Int32

    package init(operation: String, code: Int32) {
        self.operation = operation
        self.code = code
    }

    public var reason: String { uvReason(code) }
    public var description: String { "\(operation): \(reason)" }
}

/// Every call of libuv whose failure matters goes through here.
@discardableResult
func uv(_ result: Int32, _ operation: StaticString) throws(ReactorError) -> Int32 {
    if _slowPath(result < 0) { throw ReactorError(operation: operation.description, code: result) }
    return result
}

/// What libuv says about a code. The plain `uv_strerror` would leak for codes that it does not know.
func uvReason(_ code: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
        guard let base = buffer.baseAddress else { return "error \(code)" }
        return String(cString: uv_strerror_r(code, base, buffer.count))
    }
}

/// The reason for a value of `errno`.
func systemReason(_ number: Int32) -> String { uvReason(uv_translate_sys_error(number)) }
