import Prelude

/// The form of the file that holds the token of a join: magic, byte count, token, checksum of all before.
enum JoinTokenFile {
    static let name = "join-token"
    static let temporaryName = "join-token.new"
    static let magic: [UInt8] = Array("RAFTOJT1".utf8)
    static let tokenByteCountMax = 64
    static let byteCountMax = UInt64(magic.count + 1 + tokenByteCountMax + 4)

    static func encoded(_ token: String) -> [UInt8] {
        let text = Array(token.utf8)
        invariant(text.count <= tokenByteCountMax, "a token is short")
        var file = ByteWriter()
        for byte in magic { file.append(byte) }
        file.append(UInt8(text.count))
        for byte in text { file.append(byte) }
        file.append(fixed: crc32c(file.bytes))
        return file.bytes
    }

    static func decoded(_ bytes: [UInt8], path: String) throws(StorageError) -> String {
        guard bytes.count > magic.count + 4, bytes.starts(with: magic) else {
            throw .damaged(file: path, offset: 0, reason: "it does not begin as a join token does")
        }
        let tokenEnd = bytes.count - 4
        let checksum = bytes.withUnsafeBytes { $0.load(UInt32.self, at: tokenEnd) }
        let text = bytes[(magic.count + 1)..<tokenEnd]
        guard crc32c(Array(bytes[..<tokenEnd])) == checksum, Int(bytes[magic.count]) == text.count,
            let token = String(validating: text, as: UTF8.self)
        else { throw .damaged(file: path, offset: UInt64(magic.count), reason: "the checksum does not match") }
        return token
    }
}
