import CChecksum

/// CRC-32C of `bytes`, continuing `checksum`.
func crc32c(_ bytes: UnsafeRawBufferPointer, continuing checksum: UInt32 = 0) -> UInt32 {
    raftoral_crc32c(checksum, bytes.baseAddress, bytes.count)
}

func crc32c(_ bytes: [UInt8]) -> UInt32 { bytes.withUnsafeBytes { crc32c($0) } }

/// CRC-32C of the eight bytes of `value`, as a start for a checksum that is bound to `value`.
func crc32c(of value: UInt64) -> UInt32 { withUnsafeBytes(of: value.littleEndian) { crc32c($0) } }
