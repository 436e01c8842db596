// CRC-32C (Castagnoli), by the processor's instruction where it has one.
#pragma once
#include <stddef.h>
#include <stdint.h>

// Continues `checksum` (0 at first) over `byte_count` bytes.
uint32_t raftoral_crc32c(uint32_t checksum, const void *bytes, size_t byte_count);
