// ids_check() over any bytes, then changes. Input: one byte n, a block of n bytes (n & 127 times 4
// with the top bit), and the script: for each change 9 bytes, whose first says what to do.
// Properties: what is accepted decodes to rising ids, packs to the same ones, and follows a sorted
// array through additions and removals.
#include "fuzz.h"
#include "table/ids.h"

struct lot {
    uint8_t *b; // in a heap block of exactly `cap` bytes
    size_t cap;
    bool has_payloads;
    uint64_t ids[IDS_MOST + 1];
    uint64_t payloads[IDS_MOST + 1];
    size_t n;
};

static void lot_check(const struct lot *l)
{
    uint64_t *ids = malloc(l->n * sizeof *ids);
    uint64_t *payloads = malloc(l->n * sizeof *payloads);
    VERIFY(ids && payloads && ids_size(l->b) <= l->cap);
    VERIFY(ids_check(slice_of(l->b, ids_size(l->b))) == ERR_OK);
    VERIFY(ids_has_payloads(l->b) == l->has_payloads && ids_count(l->b) == l->n);
    VERIFY(ids_first(l->b) == l->ids[0] && ids_last(l->b) == l->ids[l->n - 1]);
    VERIFY(ids_decode(l->b, ids, payloads) == l->n);
    VERIFY(memcmp(ids, l->ids, l->n * sizeof *ids) == 0);
    VERIFY(!l->has_payloads || memcmp(payloads, l->payloads, l->n * sizeof *payloads) == 0);
    free(ids);
    free(payloads);
}

// Packs as many of the ids as one block takes; the others are forgotten.
static void lot_pack(struct lot *l)
{
    const uint64_t *payloads = l->has_payloads ? l->payloads : NULL;
    size_t n = ids_cut(l->ids, l->n, l->has_payloads);
    VERIFY(n > 0 && n <= l->n);
    l->n = n;
    free(l->b);
    l->cap = ids_pack_size(l->ids, payloads, n);
    l->b = malloc(l->cap);
    VERIFY(l->b);
    VERIFY(ids_pack(l->ids, payloads, n, l->b) == l->cap);
    lot_check(l);
}

static void lot_add(struct lot *l, size_t at, uint64_t id, uint64_t payload)
{
    bool there = at < l->n && l->ids[at] == id;
    VERIFY(ids_contains(l->b, id, NULL) == there);
    enum ids_result r = ids_add(l->b, l->cap, id, payload);
    VERIFY(there == (r == IDS_NONE) && r != IDS_EMPTY);
    if (there)
        return;
    memmove(l->ids + at + 1, l->ids + at, (l->n - at) * sizeof *l->ids);
    memmove(l->payloads + at + 1, l->payloads + at, (l->n - at) * sizeof *l->payloads);
    l->ids[at] = id;
    l->payloads[at] = payload;
    l->n++;
    if (r == IDS_REPACK)
        lot_pack(l);
}

static void lot_remove(struct lot *l, size_t at, uint64_t id)
{
    bool there = at < l->n && l->ids[at] == id;
    uint64_t payload = 0;
    size_t size = ids_size(l->b);
    enum ids_result r = ids_remove(l->b, id, &payload);
    VERIFY(there == (r != IDS_NONE) && (r == IDS_EMPTY) == (there && l->n == 1));
    VERIFY(ids_size(l->b) <= size);
    if (r == IDS_NONE || r == IDS_EMPTY)
        return;
    VERIFY(payload == (l->has_payloads ? l->payloads[at] : 0));
    l->n--;
    memmove(l->ids + at, l->ids + at + 1, (l->n - at) * sizeof *l->ids);
    memmove(l->payloads + at, l->payloads + at + 1, (l->n - at) * sizeof *l->payloads);
    if (r == IDS_REPACK)
        lot_pack(l);
}

// Bit 0: remove, else add. Bit 1: the id is the one numbered by the argument, plus what bits 4 to 7
// say, less 8; else the argument itself.
static void lot_change(struct lot *l, const uint8_t change[9])
{
    uint64_t id = load64(change + 1);
    if (change[0] & 2)
        id = l->ids[id % l->n] + (change[0] >> 4) - 8;
    size_t at = 0;
    while (at < l->n && l->ids[at] < id)
        at++;
    if (change[0] & 1)
        lot_remove(l, at, id);
    else
        lot_add(l, at, id, load64(change + 1) >> (change[0] >> 2 & 63));
    lot_check(l);
}

static void run(struct lot *l, const uint8_t *data, size_t size)
{
    if (ids_check(slice_of(l->b, l->cap)) != ERR_OK)
        return;
    l->has_payloads = ids_has_payloads(l->b);
    l->n = ids_decode(l->b, l->ids, l->payloads);
    VERIFY(l->n == ids_count(l->b) && ids_size(l->b) == l->cap);
    for (size_t i = 1; i < l->n; i++)
        VERIFY(l->ids[i - 1] < l->ids[i]);
    lot_check(l);
    for (unsigned i = 0; i < 100 && size >= 9; i++, data += 9, size -= 9)
        lot_change(l, data);
    lot_pack(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t n = data[0] < 128 ? data[0] : (data[0] & 127u) * 4;
    if (n > size - 1)
        n = size - 1;
    struct lot *l = calloc(1, sizeof *l);
    VERIFY(l);
    l->cap = n;
    l->b = fuzz_copy(data + 1, n, 0, 0);
    run(l, data + 1 + n, size - 1 - n);
    free(l->b);
    free(l);
    return 0;
}
