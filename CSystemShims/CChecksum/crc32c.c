#include "crc32c.h"

#include <pthread.h>
#include <string.h>

#if defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#endif

// Reflected form of the polynomial 0x1EDC6F41.
static const uint32_t polynomial = 0x82F63B78u;

// tables[k][b]: the checksum of byte b followed by k zero bytes, so that eight bytes take eight independent look-ups.
static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void fill_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (polynomial & (0u - (crc & 1u)));
        tables[0][byte] = crc;
    }
    for (int zeros = 1; zeros < 8; zeros++) {
        for (int byte = 0; byte < 256; byte++) {
            uint32_t crc = tables[zeros - 1][byte];
            tables[zeros][byte] = (crc >> 8) ^ tables[0][crc & 0xFF];
        }
    }
}

static uint32_t load32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

uint32_t raftoral_crc32c_by_table(uint32_t checksum, const void *bytes, size_t byte_count) {
    pthread_once(&tables_once, fill_tables);
    const uint8_t *next = bytes;
    uint32_t crc = ~checksum;
    while (byte_count >= 8) {
        uint32_t low = crc ^ load32(next);
        uint32_t high = load32(next + 4);
        crc = tables[7][low & 0xFF] ^ tables[6][low >> 8 & 0xFF] ^ tables[5][low >> 16 & 0xFF] ^ tables[4][low >> 24]
            ^ tables[3][high & 0xFF] ^ tables[2][high >> 8 & 0xFF] ^ tables[1][high >> 16 & 0xFF]
            ^ tables[0][high >> 24];
        next += 8;
        byte_count -= 8;
    }
    while (byte_count--) crc = (crc >> 8) ^ tables[0][(crc ^ *next++) & 0xFF];
    return ~crc;
}

#if defined(__x86_64__)

__attribute__((target("sse4.2")))
static uint32_t crc32c_by_instruction(uint32_t checksum, const void *bytes, size_t byte_count) {
    const uint8_t *next = bytes;
    uint64_t crc = (uint32_t)~checksum;
    while (byte_count >= 8) {
        uint64_t word;
        memcpy(&word, next, sizeof word);
        crc = __builtin_ia32_crc32di(crc, word);
        next += 8;
        byte_count -= 8;
    }
    uint32_t rest = (uint32_t)crc;
    while (byte_count--) rest = __builtin_ia32_crc32qi(rest, *next++);
    return ~rest;
}

bool raftoral_crc32c_is_by_instruction(void) { return __builtin_cpu_supports("sse4.2"); }

uint32_t raftoral_crc32c(uint32_t checksum, const void *bytes, size_t byte_count) {
    if (__builtin_cpu_supports("sse4.2")) return crc32c_by_instruction(checksum, bytes, byte_count);
    return raftoral_crc32c_by_table(checksum, bytes, byte_count);
}

#elif defined(__ARM_FEATURE_CRC32) && defined(__LITTLE_ENDIAN__)

bool raftoral_crc32c_is_by_instruction(void) { return true; }

uint32_t raftoral_crc32c(uint32_t checksum, const void *bytes, size_t byte_count) {
    const uint8_t *next = bytes;
    uint32_t crc = ~checksum;
    while (byte_count >= 8) {
        uint64_t word;
        memcpy(&word, next, sizeof word);
        crc = __crc32cd(crc, word);
        next += 8;
        byte_count -= 8;
    }
    while (byte_count--) crc = __crc32cb(crc, *next++);
    return ~crc;
}

#else

bool raftoral_crc32c_is_by_instruction(void) { return false; }

uint32_t raftoral_crc32c(uint32_t checksum, const void *bytes, size_t byte_count) {
    return raftoral_crc32c_by_table(checksum, bytes, byte_count);
}

#endif
