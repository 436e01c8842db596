/// The percent-encoding of `grpc-message`: every byte but the printable ASCII characters without `%`.
enum PercentEncoding {
    private static let digits = Array("0123456789ABCDEF".utf8)

    /// Cut at a character's end before `byteCountMax` bytes of UTF-8 are exceeded.
    static func encode(_ text: String, byteCountMax: Int) -> [UInt8] {
        var encoded: [UInt8] = []
        var byteCount = 0
        for scalar in text.unicodeScalars {
            let bytes = UTF8.encode(scalar)
            guard let bytes, byteCount + bytes.count <= byteCountMax else { break }
            byteCount += bytes.count
            for byte in bytes {
                if (0x20...0x7E).contains(byte), byte != UInt8(ascii: "%") {
                    encoded.append(byte)
                } else {
                    encoded += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
                }
            }
        }
        return encoded
    }

    /// Never fails: what is no escape stands for itself, what is no UTF-8 becomes U+FFFD.
    static func decode(_ bytes: UnsafeRawBufferPointer) -> String {
        var decoded: [UInt8] = []
        decoded.reserveCapacity(bytes.count)
        var place = 0
        while place < bytes.count {
            if bytes[place] == UInt8(ascii: "%"), place + 2 < bytes.count,
                let high = digit(bytes[place + 1]), let low = digit(bytes[place + 2])
            {
                decoded.append(high << 4 | low)
                place += 3
            } else {
                decoded.append(bytes[place])
                place += 1
            }
        }
        return String(decoding: decoded, as: UTF8.self)
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        default: nil
        }
    }
}
