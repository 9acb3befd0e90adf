// Pairs of an import in memory, sorted by from and then member, without duplicates: the order in
// which the server takes them fastest, and few bytes each. Pure; one thread at a time.
//
// A pair is one word, `from << shift | member`, as long as both fit (ids below 2^32 do at once;
// otherwise the shift is chosen by what has come so far), else two words, the member first. A batch
// that has gone over to two words stays so.
#ifndef VARVE_CLI_REL_PAIRS_H
#define VARVE_CLI_REL_PAIRS_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rel_pairs {
    uint64_t *words; // of the caller, who may exchange it for another as large
    size_t cap;      // words, 2 at least
    size_t count;    // words in use
    unsigned shift;  // of one word: bits of the member, 1 to 63. 0: two words a pair
};

void rel_pairs_init(struct rel_pairs *p, uint64_t *words, size_t cap);
// Empties it; the layout stays, since what comes is likely to be as what was.
void rel_pairs_clear(struct rel_pairs *p);
bool rel_pairs_add_slow(struct rel_pairs *p, uint64_t from, uint64_t member);
// False: full, and nothing was added.
static inline bool rel_pairs_add(struct rel_pairs *p, uint64_t from, uint64_t member)
{
    unsigned s = p->shift;
    if (s == 0 || member >> s || from >> (64 - s) || p->count == p->cap)
        return rel_pairs_add_slow(p, from, member);
    p->words[p->count++] = from << s | member;
    return true;
}

// Sorts by from and member and takes duplicates out. keep_order: only by from, and the members of a
// list stay in the order in which they came, those that came twice too. `scratch` has as many words
// as the batch; the two may be exchanged.
void rel_pairs_sort(struct rel_pairs *p, uint64_t **scratch, bool keep_order);

static inline size_t rel_pairs_count(const struct rel_pairs *p)
{
    return p->shift ? p->count : p->count / 2;
}
static inline uint64_t rel_pairs_from(const struct rel_pairs *p, size_t i)
{
    return p->shift ? p->words[i] >> p->shift : p->words[2 * i + 1];
}
static inline uint64_t rel_pairs_member(const struct rel_pairs *p, size_t i)
{
    return p->shift ? p->words[i] & (((uint64_t)1 << p->shift) - 1) : p->words[2 * i];
}

#endif
