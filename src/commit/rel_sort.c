// A stable sort of u64 keys: insertion for few, else by bytes from the lowest, without those that
// all keys have in common.
#include "commit/rel_int.h"

enum { FEW_PAIRS = 64 };

static void insertion_sort(struct rel_pair *p, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct rel_pair x = p[i];
        size_t j = i;
        for (; j && p[j - 1].key > x.key; j--)
            p[j] = p[j - 1];
        p[j] = x;
    }
}

struct rel_pair *sort_pairs(struct rel_pair *p, struct rel_pair *other, size_t n)
{
    uint32_t at[8][256];
    if (n <= FEW_PAIRS) {
        insertion_sort(p, n);
        return p;
    }
    memset(at, 0, sizeof at);
    for (size_t i = 0; i < n; i++)
        for (unsigned b = 0; b < 8; b++)
            at[b][p[i].key >> (8 * b) & 255]++;
    for (unsigned b = 0; b < 8; b++) {
        if (at[b][p[0].key >> (8 * b) & 255] == n)
            continue;
        uint32_t sum = 0;
        for (unsigned v = 0; v < 256; v++) {
            uint32_t has = at[b][v];
            at[b][v] = sum;
            sum += has;
        }
        for (size_t i = 0; i < n; i++)
            other[at[b][p[i].key >> (8 * b) & 255]++] = p[i];
        struct rel_pair *t = p;
        p = other;
        other = t;
    }
    return p;
}
