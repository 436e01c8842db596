// CRC-32C (Castagnoli), by the processor's instruction where it has one.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Continues `checksum` (0 at first) over `byte_count` bytes.
uint32_t raftoral_crc32c(uint32_t checksum, const void *bytes, size_t byte_count);

// The same by tables, on every machine.
uint32_t raftoral_crc32c_by_table(uint32_t checksum, const void *bytes, size_t byte_count);

// Whether `raftoral_crc32c` uses the processor's instruction here.
bool raftoral_crc32c_is_by_instruction(void);
