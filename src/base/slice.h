// A borrowed run of bytes. Whoever made it says how long the bytes live.
#ifndef VARVE_BASE_SLICE_H
#define VARVE_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *p;
    size_t n;
};

static inline struct slice slice_of(const void *p, size_t n)
{
    return (struct slice){(const uint8_t *)p, n};
}

static inline struct slice slice_str(const char *s)
{
    return slice_of(s, strlen(s));
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool slice_starts(struct slice s, struct slice prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

// Bytewise order, a shorter prefix first: the order of RocksDB's default comparator.
static inline int slice_compare(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

// Little-endian loads and stores of unaligned bytes (the host is little-endian, asserted in
// slice.c).
static inline uint16_t load16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint32_t load32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint64_t load64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void store16(void *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}
static inline void store32(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}
static inline void store64(void *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

// True if `s` is well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF).
bool utf8_valid(struct slice s);

#endif
