#include "cli/histogram.h"

uint64_t histogram_top(size_t bucket)
{
    if (bucket < 2 * HISTOGRAM_HALF)
        return bucket;
    unsigned shift = (unsigned)(bucket / HISTOGRAM_HALF) - 1;
    uint64_t from = (uint64_t)(bucket % HISTOGRAM_HALF + HISTOGRAM_HALF) << shift;
    return from + ((1ull << shift) - 1);
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    to->count += from->count;
    to->sum += from->sum;
    if (from->max > to->max)
        to->max = from->max;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->buckets[i] += from->buckets[i];
}

uint64_t histogram_at(const struct histogram *h, double share)
{
    double exact = (double)h->count * share;
    uint64_t want = (uint64_t)exact;
    if ((double)want < exact)
        want++;
    uint64_t seen = 0;
    if (h->count == 0)
        return 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= want && seen > 0) {
            uint64_t top = histogram_top(i);
            return top < h->max ? top : h->max;
        }
    }
    return h->max;
}
