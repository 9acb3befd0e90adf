// Hashes and checksums, each from a library or the CPU.
#ifndef VARVE_BASE_HASH_H
#define VARVE_BASE_HASH_H

#include "base/slice.h"

// XXH3 64-bit with a seed (the table's seed is random at each start, so keys cannot be chosen to
// collide).
uint64_t hash64(struct slice s, uint64_t seed);

// CRC-32C (Castagnoli, RFC 3720 appendix B.4), continuing from `crc` (0 to start).
uint32_t crc32c(uint32_t crc, const void *p, size_t n);
// The same from a table, for CPUs without the instruction and as the tests' reference.
uint32_t crc32c_portable(uint32_t crc, const void *p, size_t n);

#endif
