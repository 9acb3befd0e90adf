// Lines and packed pairs of an import. The first byte chooses the format, a header and how many
// words a batch has. Properties: no byte outside of the text is read; every call takes something,
// or the batch is full; what is wrong is said; a pair that was taken, written and read again is the
// same; sorting gives rising pairs, none twice.
#include "fuzz.h"
#include "cli/rel_text.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { WORDS = 64 };

static void check_again(uint64_t from, uint64_t member)
{
    char line[48];
    uint64_t words[2];
    struct rel_pairs pairs;
    struct rel_text text = {.line = 0};
    struct errmsg msg;
    size_t used;
    rel_pairs_init(&pairs, words, 2);
    snprintf(line, sizeof line, "%" PRIu64 ",%" PRIu64 "\n", from, member);
    VERIFY(rel_text_take(&text, slice_str(line), &pairs, &used, &msg) == REL_TOOK_ALL);
    VERIFY(rel_pairs_count(&pairs) == 1 && rel_pairs_from(&pairs, 0) == from);
    VERIFY(rel_pairs_member(&pairs, 0) == member);
}

static void check_sorted(struct rel_pairs *p, uint64_t **scratch)
{
    for (size_t i = 0; i < rel_pairs_count(p); i++)
        check_again(rel_pairs_from(p, i), rel_pairs_member(p, i));
    rel_pairs_sort(p, scratch, false);
    for (size_t i = 1; i < rel_pairs_count(p); i++) {
        uint64_t a = rel_pairs_from(p, i - 1), b = rel_pairs_from(p, i);
        VERIFY(a < b || (a == b && rel_pairs_member(p, i - 1) < rel_pairs_member(p, i)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n == 0)
        return 0;
    struct rel_text t = {.pairs = data[0] & 1, .header = data[0] & 2};
    uint64_t *words = malloc(WORDS * sizeof *words), *scratch = malloc(WORDS * sizeof *scratch);
    uint8_t *copy = malloc(n); // exactly as large, so that a byte too many is seen
    struct rel_pairs pairs;
    struct errmsg msg;
    VERIFY(words && scratch && copy);
    rel_pairs_init(&pairs, words, data[0] & 4 ? 2 : WORDS);
    size_t size = n - 1;
    memcpy(copy, data + 1, size);
    if (t.pairs)
        size -= size % REL_PAIR;
    else
        copy[size++] = '\n';
    struct slice rest = slice_of(copy, size);
    while (rest.n) {
        size_t used, before = rel_pairs_count(&pairs);
        uint64_t line = t.line;
        msg.text[0] = 0;
        enum rel_took took = rel_text_take(&t, rest, &pairs, &used, &msg);
        VERIFY(used <= rest.n && rel_pairs_count(&pairs) - before <= t.line - line);
        VERIFY(took != REL_TOOK_ALL || used == rest.n);
        VERIFY(took != REL_TOOK_BAD || (used > 0 && msg.text[0] && !t.pairs));
        rest = slice_of(rest.p + used, rest.n - used);
        if (took == REL_TOOK_FULL) {
            VERIFY(rel_pairs_count(&pairs) > 0);
            check_sorted(&pairs, &scratch);
            rel_pairs_clear(&pairs);
        }
    }
    check_sorted(&pairs, &scratch);
    free(copy);
    free(pairs.words);
    free(scratch);
    return 0;
}
