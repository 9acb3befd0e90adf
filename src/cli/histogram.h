// Latencies counted in buckets: exact below 1024, then 512 buckets to each power of two, so that a
// percentile is at most 0.2 % above the true one; the maximum is exact. (The layout of
// HdrHistogram, http://hdrhistogram.org, with two and a half digits.) Not thread-safe: one a
// thread, merged at the end.
#ifndef VARVE_CLI_HISTOGRAM_H
#define VARVE_CLI_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum {
    HISTOGRAM_BITS = 9,
    HISTOGRAM_HALF = 1 << HISTOGRAM_BITS,
    HISTOGRAM_BUCKETS = (64 - HISTOGRAM_BITS + 1) * HISTOGRAM_HALF,
};

struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

static inline size_t histogram_bucket(uint64_t value)
{
    if (value < 2 * HISTOGRAM_HALF)
        return value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HISTOGRAM_BITS;
    return (size_t)(shift + 1) * HISTOGRAM_HALF + (value >> shift) - HISTOGRAM_HALF;
}

// `value` was seen `times` times.
static inline void histogram_add(struct histogram *h, uint64_t value, uint64_t times)
{
    h->buckets[histogram_bucket(value)] += times;
    h->count += times;
    h->sum += value * times;
    if (value > h->max)
        h->max = value;
}

// The greatest value of a bucket.
uint64_t histogram_top(size_t bucket);
void histogram_merge(struct histogram *to, const struct histogram *from);
// The least value that at least `share` (0 to 1) of all values do not exceed; 0 when there are
// none.
uint64_t histogram_at(const struct histogram *h, double share);

#endif
