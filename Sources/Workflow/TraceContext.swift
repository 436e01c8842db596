import Prelude

/// Where a run stands in a trace that spans several systems: the headers of https://www.w3.org/TR/trace-context/.
///
/// Passed through, never made up: a node keeps what the start of a run came with, and whoever calls further systems
/// for that run hands it on. What does not follow the standard is ignored, as the standard asks.
public struct TraceContext: Hashable, Sendable, CustomStringConvertible {
    /// `00-TRACE-PARENT-FLAGS`, 55 characters.
    public let traceparent: String
    /// What the systems on the way have added for themselves; empty: nothing.
    public let tracestate: String

    /// The context of the task: inside a run's code that of the run, elsewhere what the program sets by
    /// `TraceContext.$current.withValue(_:operation:)`. Calls for workflows take it along.
    @TaskLocal public static var current: TraceContext?

    public static let traceparentName = "traceparent"
    public static let tracestateName = "tracestate"

    /// Nil when `traceparent` is not one. A `tracestate` that is none counts as empty; the parts of one that is too
    /// long are left out, the longest first and then from the end (§3.3.1.5). Several headers are joined by commas.
    public init?(traceparent: String, tracestate: String = "") {
        guard let parent = Self.version00(of: traceparent) else { return nil }
        self.traceparent = parent
        self.tracestate = Self.bounded(tracestate)
    }

    /// Reads `description`.
    public init?(_ text: String) {
        let parts = text.split(separator: " ", maxSplits: 1)
        guard let parent = parts.first else { return nil }
        self.init(traceparent: String(parent), tracestate: parts.count > 1 ? String(parts[1]) : "")
    }

    /// 32 hexadecimal digits.
    public var traceID: String { String(traceparent.dropFirst(3).prefix(32)) }
    /// Of the span that started the run: 16 hexadecimal digits.
    public var parentID: String { String(traceparent.dropFirst(36).prefix(16)) }
    public var isSampled: Bool { traceparent.utf8.last.map { "13579bdf".utf8.contains($0) } ?? false }

    public var description: String { tracestate.isEmpty ? traceparent : traceparent + " " + tracestate }

    // MARK: - traceparent (§3.2)

    /// A later version says the same in its first fields, and may say more, which nobody here understands.
    private static func version00(of text: String) -> String? {
        let bytes = Array(text.utf8.prefix(TraceLimits.traceparentByteCount + 1))
        let end = TraceLimits.traceparentByteCount
        guard bytes.count >= end else { return nil }
        let version = bytes[0..<2], trace = bytes[3..<35], parent = bytes[36..<52], flags = bytes[53..<55]
        let dashes = [bytes[2], bytes[35], bytes[52]]
        guard dashes.allSatisfy({ $0 == dash }), [version, trace, parent, flags].allSatisfy({ $0.allSatisfy(isHex) })
        else { return nil }
        guard trace.contains(where: { $0 != zero }), parent.contains(where: { $0 != zero }) else { return nil }
        if version.elementsEqual("00".utf8) { return bytes.count == end ? text : nil }
        guard !version.elementsEqual("ff".utf8), bytes.count == end || bytes[end] == dash else { return nil }
        return "00" + String(decoding: bytes[2..<end], as: UTF8.self)
    }

    private static let dash = UInt8(ascii: "-")
    private static let zero = UInt8(ascii: "0")

    private static func isHex(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
    }

    // MARK: - tracestate (§3.3)

    private static func bounded(_ text: String) -> String {
        guard text.utf8.count <= TraceLimits.receivedTracestateByteCountMax else { return "" }
        var members: [Substring.UTF8View] = []
        var keys: Set<String> = []
        for part in text.utf8.split(separator: UInt8(ascii: ",")) {
            let member = Substring(part).trimmed
            if member.isEmpty { continue }
            guard let key = key(of: member), keys.insert(key).inserted else { return "" }
            members.append(member)
        }
        guard members.count <= TraceLimits.tracestateMemberCountMax else { return "" }
        func byteCount() -> Int { members.reduce(members.count - 1) { $0 + $1.count } }
        while !members.isEmpty, byteCount() > TraceLimits.tracestateByteCountMax {
            let long = members.lastIndex { $0.count > TraceLimits.shortMemberByteCountMax }
            members.remove(at: long ?? members.count - 1)
        }
        return members.map { String(Substring($0)) }.joined(separator: ",")
    }

    /// Nil: it is no member of a list.
    private static func key(of member: Substring.UTF8View) -> String? {
        guard let sign = member.firstIndex(of: UInt8(ascii: "=")) else { return nil }
        let value = member[member.index(after: sign)...]
        // Spaces at its end were of the list.
        guard (1...256).contains(value.count), value.allSatisfy({ (0x20...0x7E).contains($0) && $0 != 0x3D }) else {
            return nil
        }
        let key = member[..<sign]
        let parts = key.split(separator: UInt8(ascii: "@"), omittingEmptySubsequences: false)
        let isLegal =
            switch parts.count {
            case 1: isKey(parts[0], countMax: 256, mayBeginWithDigit: false)
            case 2:
                isKey(parts[0], countMax: 241, mayBeginWithDigit: true)
                    && isKey(parts[1], countMax: 14, mayBeginWithDigit: false)
            default: false
            }
        return isLegal ? String(Substring(key)) : nil
    }

    private static func isKey(_ key: Substring.UTF8View, countMax: Int, mayBeginWithDigit: Bool) -> Bool {
        guard let first = key.first, key.count <= countMax else { return false }
        let isDigit = (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first)
        guard isLowercase(first) || (mayBeginWithDigit && isDigit) else { return false }
        return key.allSatisfy { byte in
            isLowercase(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || "_-*/".utf8.contains(byte)
        }
    }

    private static func isLowercase(_ byte: UInt8) -> Bool {
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
    }
}

extension Substring {
    /// Without spaces and tabs around it.
    fileprivate var trimmed: Substring.UTF8View {
        func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }
        var rest = utf8.drop(while: isBlank)
        while let last = rest.last, isBlank(last) { rest.removeLast() }
        return rest
    }
}
