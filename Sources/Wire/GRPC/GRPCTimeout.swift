import Prelude

/// The value of `grpc-timeout`: one to eight digits and a unit.
enum GRPCTimeout {
    private static let units: [(letter: UInt8, nanoseconds: UInt64)] = [
        (UInt8(ascii: "n"), 1), (UInt8(ascii: "u"), 1_000), (UInt8(ascii: "m"), 1_000_000),
        (UInt8(ascii: "S"), 1_000_000_000), (UInt8(ascii: "M"), 60_000_000_000), (UInt8(ascii: "H"), 3_600_000_000_000),
    ]

    /// nil when malformed. What is more than 64 bits of nanoseconds, 584 years, counts as the most that fits.
    static func parse(_ text: UnsafeRawBufferPointer) -> Nanoseconds? {
        guard (2...9).contains(text.count) else { return nil }
        var count: UInt64 = 0
        for byte in text.dropLast() {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
            count = count * 10 + UInt64(byte - UInt8(ascii: "0"))
        }
        let letter = text[text.count - 1]
        guard let unit = units.first(where: { $0.letter == letter }) else { return nil }
        let (product, overflow) = count.multipliedReportingOverflow(by: unit.nanoseconds)
        return overflow ? .max : product
    }

    /// In the finest unit that needs no more than eight digits, rounded up.
    static func format(_ timeout: Nanoseconds) -> String {
        for unit in units {
            let count = timeout / unit.nanoseconds + (timeout % unit.nanoseconds == 0 ? 0 : 1)
            if count <= 99_999_999 { return "\(count)\(Character(UnicodeScalar(unit.letter)))" }
        }
        return "99999999H"
    }
}
