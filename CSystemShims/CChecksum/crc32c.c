#include "crc32c.h"

uint32_t raftoral_crc32c(uint32_t checksum, const void *bytes, size_t byte_count) {
    const uint8_t *next = bytes;
    uint32_t crc = ~checksum;
    while (byte_count--) {
        crc ^= *next++;
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82F63B78u & (0u - (crc & 1u)));
    }
    return ~crc;
}
