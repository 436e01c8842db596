/// Base64 (RFC 4648 §4) as metadata uses it: written without padding, read with or without.
enum Base64 {
    private static let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let values: [UInt8] = {
        var values = [UInt8](repeating: 0xFF, count: 256)
        for (value, letter) in letters.enumerated() { values[Int(letter)] = UInt8(value) }
        return values
    }()

    static func encode(_ bytes: [UInt8]) -> [UInt8] {
        var encoded: [UInt8] = []
        encoded.reserveCapacity((bytes.count * 4 + 2) / 3)
        var bits: UInt32 = 0
        var bitCount = 0
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            bitCount += 8
            while bitCount >= 6 {
                bitCount -= 6
                encoded.append(letters[Int(bits >> UInt32(bitCount)) & 63])
            }
        }
        if bitCount > 0 { encoded.append(letters[Int(bits << UInt32(6 - bitCount)) & 63]) }
        return encoded
    }

    /// nil when `text` is not base64.
    static func decode(_ text: some BidirectionalCollection<UInt8>) -> [UInt8]? {
        var rest = text[...]
        var paddingCount = 0
        while paddingCount < 2, rest.last == UInt8(ascii: "=") {
            rest = rest.dropLast()
            paddingCount += 1
        }
        var decoded: [UInt8] = []
        var bits: UInt32 = 0
        var bitCount = 0
        var letterCount = 0
        for letter in rest {
            let value = values[Int(letter)]
            guard value != 0xFF else { return nil }
            bits = bits << 6 | UInt32(value)
            bitCount += 6
            letterCount += 1
            if bitCount >= 8 {
                bitCount -= 8
                decoded.append(UInt8(truncatingIfNeeded: bits >> UInt32(bitCount)))
            }
        }
        guard letterCount % 4 != 1, paddingCount == 0 || (letterCount + paddingCount) % 4 == 0 else { return nil }
        return decoded
    }
}
