// Relations in RAM against a model written plainly: lists as sorted arrays, and a store below as
// rows in memory, which takes checkpoints or loses them, whole or in part, and from which evicted
// lists are read again. Allocations fail now and then.
#include "unit.h"

#include "op_random.h"
#include "table/ids.h"
#include "table/rels.h"
#include "table/slab.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

// ---- allocations that fail; the linker puts these in the place of the real ones

static struct {
    bool armed;
    uint64_t until; // allocations that still succeed
    uint64_t failed;
} memory;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void *__real_slab_alloc(struct slab_heap *h, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
void *__wrap_slab_alloc(struct slab_heap *h, size_t n);

static bool fails(void)
{
    if (!memory.armed)
        return false;
    if (memory.until) {
        memory.until--;
        return false;
    }
    memory.failed++;
    return true;
}

void *__wrap_malloc(size_t n)
{
    return fails() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
    return fails() ? NULL : __real_realloc(p, n);
}
void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return fails() ? NULL : __real_aligned_alloc(align, n);
}
void *__wrap_slab_alloc(struct slab_heap *h, size_t n)
{
    return fails() ? NULL : __real_slab_alloc(h, n);
}

// ---- the model

enum {
    TABLES = 3, // numbers 0, 7 and 4095; the middle one with payloads
    LISTS = 40, // of each
    IDS = 20000,
    ROWS = 2000,
    BATCH = 6000,
};

static const uint32_t numbers[TABLES] = {0, 7, RELS_TABLES - 1};

struct row {
    bool list; // else a chunk
    uint64_t low;
    uint8_t *bytes; // NULL: the row goes
    size_t n;
};

struct list {
    uint64_t from;
    uint64_t hash;
    uint64_t base, mask; // its ids: base + (random & mask)
    uint64_t ids[IDS];
    uint64_t payloads[IDS];
    size_t n;
    struct row *rows; // below, in order
    size_t rows_n;
};

struct pending {
    struct list *list;
    struct row row;
};

struct world {
    struct rels *r;
    uint64_t rnd;
    struct list *lists; // TABLES * LISTS
    struct pending *pending;
    size_t pending_n;
    bool checkpoint; // one is under way
    uint64_t colds, evicted, failures;
};

static uint64_t pick(struct world *w, uint64_t n)
{
    return next_random(&w->rnd) % n;
}

static bool with_payloads(unsigned table)
{
    return table == 1;
}

static int by_id(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// The place of the first id >= this.
static size_t place(const struct list *l, uint64_t id)
{
    size_t low = 0, high = l->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (l->ids[mid] < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool has(const struct list *l, uint64_t id)
{
    size_t i = place(l, id);
    return i < l->n && l->ids[i] == id;
}

static void model_add(struct list *l, uint64_t id, uint64_t payload)
{
    size_t i = place(l, id);
    assert_true(l->n < IDS);
    memmove(l->ids + i + 1, l->ids + i, (l->n - i) * 8);
    memmove(l->payloads + i + 1, l->payloads + i, (l->n - i) * 8);
    l->ids[i] = id;
    l->payloads[i] = payload;
    l->n++;
}

static void model_remove(struct list *l, uint64_t id)
{
    size_t i = place(l, id);
    l->n--;
    memmove(l->ids + i, l->ids + i + 1, (l->n - i) * 8);
    memmove(l->payloads + i, l->payloads + i + 1, (l->n - i) * 8);
}

static struct list *list_at(struct world *w, unsigned table, size_t i)
{
    return &w->lists[table * LISTS + i];
}

static unsigned list_table(const struct world *w, const struct list *l)
{
    return (unsigned)((size_t)(l - w->lists) / LISTS);
}

static uint32_t list_number(const struct world *w, const struct list *l)
{
    return numbers[list_table(w, l)];
}

static void lock(struct world *w, const struct list *l)
{
    rels_lock(w->r, rels_shard(l->hash));
}

static void unlock(struct world *w, const struct list *l)
{
    rels_unlock(w->r, rels_shard(l->hash));
}

// ---- the store below

static void row_put(struct list *l, const struct row *row)
{
    size_t i = 0;
    while (i < l->rows_n && (row->list ? false : l->rows[i].list || l->rows[i].low < row->low))
        i++;
    bool there = i < l->rows_n && l->rows[i].list == row->list && l->rows[i].low == row->low;
    if (there) {
        free(l->rows[i].bytes);
        memmove(l->rows + i, l->rows + i + 1, (l->rows_n - i - 1) * sizeof *l->rows);
        l->rows_n--;
    }
    if (!row->bytes)
        return;
    assert_true(l->rows_n < ROWS);
    memmove(l->rows + i + 1, l->rows + i, (l->rows_n - i) * sizeof *l->rows);
    l->rows[i] = *row;
    l->rows[i].bytes = __real_malloc(row->n);
    memcpy(l->rows[i].bytes, row->bytes, row->n);
    l->rows_n++;
}

struct collect {
    struct world *w;
    unsigned table;
    const struct pending *last; // of this call, whose keys rise
};

static void collect(void *arg, const struct rels_row *row)
{
    struct collect *c = arg;
    struct world *w = c->w;
    struct list *l = NULL;
    for (unsigned i = 0; i < LISTS && !l; i++)
        if (list_at(w, c->table, i)->hash == row->hash)
            l = list_at(w, c->table, i);
    assert_non_null(l);
    struct row copy = {.list = row->kind == RELS_ROW_LIST, .low = row->low, .n = row->bytes.n};
    if (row->bytes.p) {
        bool head = copy.list && row->bytes.n == 9 && row->bytes.p[0] == 255;
        if (!head)
            assert_ok(ids_check(row->bytes));
        copy.bytes = __real_malloc(row->bytes.n);
        memcpy(copy.bytes, row->bytes.p, row->bytes.n);
    }
    if (c->last) {
        const struct pending *p = c->last;
        bool rises = p->list->hash < row->hash ||
                     (p->list == l && !copy.list && (p->row.list || p->row.low < copy.low));
        assert_true(rises);
    }
    w->pending = __real_realloc(w->pending, (w->pending_n + 1) * sizeof *w->pending);
    w->pending[w->pending_n++] = (struct pending){l, copy};
    c->last = &w->pending[w->pending_n - 1];
}

static void capture(struct world *w)
{
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++) {
        for (unsigned t = 0; t < TABLES; t++) {
            uint64_t cursor = 0;
            for (bool all = false; !all;) {
                struct collect c = {w, t, NULL};
                rels_lock(w->r, shard);
                all =
                    rels_capture(w->r, shard, numbers[t], &cursor, 1 + pick(w, 20000), collect, &c);
                rels_unlock(w->r, shard);
            }
        }
    }
    w->checkpoint = true;
}

static void captured(struct world *w, bool written)
{
    // One that failed may have written anything of it.
    for (size_t i = 0; i < w->pending_n; i++) {
        struct pending *p = &w->pending[i];
        if (written || pick(w, 2))
            row_put(p->list, &p->row);
        free(p->row.bytes);
    }
    w->pending_n = 0;
    w->checkpoint = false;
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++) {
        rels_lock(w->r, shard);
        rels_captured(w->r, shard, written);
        rels_unlock(w->r, shard);
    }
}

static void install(struct world *w, struct list *l)
{
    struct rels_image *m = rels_image_new(w->r, list_number(w, l), l->hash);
    assert_non_null(m);
    for (size_t i = 0; i < l->rows_n; i++) {
        const struct row *row = &l->rows[i];
        struct rels_row r = {row->list ? RELS_ROW_LIST : RELS_ROW_CHUNK, l->hash, row->low,
                             slice_of(row->bytes, row->n)};
        assert_ok(rels_image_add(m, &r));
    }
    lock(w, l);
    assert_ok(rels_install(w->r, m));
    assert_int_equal(rels_find(w->r, list_number(w, l), l->hash), l->n ? RELS_HERE : RELS_NONE);
    unlock(w, l);
    w->colds++;
}

// ---- checks

static void warm(struct world *w, struct list *l)
{
    lock(w, l);
    enum rels_where where = rels_find(w->r, list_number(w, l), l->hash);
    unlock(w, l);
    if (where == RELS_COLD)
        install(w, l);
    else
        assert_int_equal(where, l->n ? RELS_HERE : RELS_NONE);
}

static void check_pages(struct world *w, const struct list *l, bool down, size_t max)
{
    static uint8_t out[8 * IDS + 1], out_payloads[8 * IDS + 1];
    bool payloads = with_payloads(list_table(w, l)) && pick(w, 4);
    bool has_after = pick(w, 2);
    uint64_t after = l->base + (next_random(&w->rnd) & l->mask);
    size_t i = !has_after ? 0 : place(l, after);
    if (has_after && down)
        i = l->n - i;
    else if (has_after)
        i += has(l, after);
    for (bool more = true; more;) {
        size_t n = rels_page(w->r, list_number(w, l), l->hash, down, has_after, after, max, out + 1,
                             payloads ? out_payloads + 1 : NULL, &more);
        size_t left = l->n - i;
        assert_int_equal(n, left < max ? left : max);
        assert_int_equal(more, left > n);
        for (size_t j = 0; j < n; j++, i++) {
            size_t at = down ? l->n - 1 - i : i;
            after = load64(out + 1 + 8 * j);
            assert_int_equal(after, l->ids[at]);
            if (payloads)
                assert_int_equal(load64(out_payloads + 1 + 8 * j), l->payloads[at]);
        }
        has_after = true;
    }
}

static void check_list(struct world *w, struct list *l)
{
    lock(w, l);
    uint32_t table = list_number(w, l);
    assert_int_equal(rels_count(w->r, table, l->hash), l->n);
    check_pages(w, l, false, pick(w, 2) ? IDS : 1 + l->n / (1 + pick(w, 20)));
    check_pages(w, l, true, pick(w, 2) ? IDS : 1 + l->n / (1 + pick(w, 20)));
    uint64_t ids[50];
    uint8_t found[50];
    uint64_t payload = 0;
    for (unsigned i = 0; i < 50; i++)
        ids[i] = l->n && i % 2 ? l->ids[pick(w, l->n)] : l->base + (next_random(&w->rnd) & l->mask);
    rels_contains(w->r, table, l->hash, ids, 50, found, &payload);
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(found[i], has(l, ids[i]));
    if (found[0] && with_payloads(list_table(w, l)))
        assert_int_equal(payload, l->payloads[place(l, ids[0])]);
    unlock(w, l);
}

static void check_stats(struct world *w)
{
    struct rels_stats s, sum = {0};
    for (unsigned t = 0; t < TABLES; t++) {
        uint64_t lists = 0, members = 0;
        for (unsigned i = 0; i < LISTS; i++) {
            struct list *l = list_at(w, t, i);
            lock(w, l);
            if (rels_find(w->r, numbers[t], l->hash) == RELS_HERE) {
                lists++;
                members += l->n;
            }
            unlock(w, l);
        }
        rels_get_stats(w->r, numbers[t], &s);
        assert_int_equal(s.lists, lists);
        assert_int_equal(s.members, members);
        sum.slot_bytes += s.slot_bytes;
        sum.dirty_bytes += s.dirty_bytes;
    }
    rels_get_stats(w->r, RELS_TABLES, &s);
    assert_int_equal(s.slot_bytes, sum.slot_bytes);
    assert_int_equal(s.dirty_bytes, sum.dirty_bytes);
    assert_true(s.used <= s.bytes && s.dirty_bytes <= s.used + s.slot_bytes);
    // Counters are off by one step a shard at most.
    uint64_t off = rels_bytes(w->r) - (s.bytes + s.slot_bytes) + RELS_SHARDS * 4096;
    assert_true(off <= 2 * RELS_SHARDS * 4096);
    off = rels_dirty_bytes(w->r) - s.dirty_bytes + RELS_SHARDS * 4096;
    assert_true(off <= 2 * RELS_SHARDS * 4096);
}

static bool in_combination(enum rels_combine how, struct list **lists, size_t n, uint64_t id)
{
    size_t in = 0;
    for (size_t i = 0; i < n; i++)
        in += has(lists[i], id);
    if (how == RELS_UNION)
        return in > 0;
    return how == RELS_INTERSECT ? in == n : has(lists[0], id) && in == 1;
}

// What the model has of a combination, rising.
static size_t combine_model(struct list **lists, size_t n, enum rels_combine how, bool has_after,
                            uint64_t after, uint64_t *out)
{
    static uint64_t all[5 * IDS];
    size_t m = 0, k = 0;
    for (size_t i = 0; i < n; i++) {
        memcpy(all + m, lists[i]->ids, lists[i]->n * 8);
        m += lists[i]->n;
    }
    qsort(all, m, sizeof *all, by_id);
    for (size_t i = 0; i < m; i++)
        if ((i == 0 || all[i] != all[i - 1]) && (!has_after || all[i] > after) &&
            in_combination(how, lists, n, all[i]))
            out[k++] = all[i];
    return k;
}

static void check_combine(struct world *w)
{
    static uint64_t want[5 * IDS];
    struct list *lists[5];
    struct rels_list names[5];
    size_t n = 1 + pick(w, 5);
    size_t universe = pick(w, 8); // lists of like ids are LISTS / 8 apart
    for (size_t i = 0; i < n; i++) {
        lists[i] = list_at(w, (unsigned)pick(w, TABLES),
                           pick(w, 8) ? universe + 8 * pick(w, LISTS / 8) : pick(w, LISTS));
        warm(w, lists[i]);
        names[i] = (struct rels_list){list_number(w, lists[i]), lists[i]->hash};
    }
    enum rels_combine how = (enum rels_combine)pick(w, 3);
    if (how == RELS_DIFFERENCE)
        for (size_t i = 1; i < n; i++)
            if (lists[i] == lists[0])
                return;
    bool has_after = pick(w, 2);
    uint64_t after = lists[0]->n ? lists[0]->ids[pick(w, lists[0]->n)] : next_random(&w->rnd);
    size_t k = combine_model(lists, n, how, has_after, after, want);
    size_t max = pick(w, 2) ? 1 + pick(w, 5 * IDS) : 1 + k / (1 + pick(w, 5));
    size_t budget = pick(w, 2) ? 1 + pick(w, 3000) : IDS * 10;
    struct buf out;
    buf_init(&out, 8 * 5 * IDS);
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++)
        rels_lock(w->r, shard);
    for (bool more = true; more;) {
        uint64_t next = 0;
        size_t before = buf_len(&out) / 8;
        assert_ok(
            rels_combine(w->r, how, names, n, has_after, after, max, budget, &out, &more, &next));
        assert_true(buf_len(&out) / 8 - before <= max);
        assert_true(!more || !has_after || next > after);
        has_after = true;
        after = next;
    }
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++)
        rels_unlock(w->r, shard);
    assert_int_equal(buf_len(&out), 8 * k);
    if (k)
        assert_memory_equal(buf_head(&out), want, 8 * k);
    buf_release(&out);
}

// ---- changes

// Rising ids of the list's kind. Those of a run lie close together.
static size_t random_ids(struct world *w, const struct list *l, uint64_t *ids)
{
    static const uint64_t sizes[] = {1, 1, 1, 1, 1, 2, 3, 10, 60, 300, 3000, BATCH};
    size_t n = 1 + pick(w, sizes[pick(w, sizeof sizes / sizeof *sizes)]);
    uint64_t start = next_random(&w->rnd);
    bool run = pick(w, 3) == 0, mine = pick(w, 3) == 0 && l->n;
    size_t at = mine ? pick(w, l->n) : 0;
    for (size_t i = 0; i < n; i++) {
        ids[i] = l->base + ((run ? start + i : next_random(&w->rnd)) & l->mask);
        if (mine)
            ids[i] = l->ids[(run ? at + i : pick(w, l->n)) % l->n];
    }
    if (pick(w, 10) == 0) // at the end
        for (size_t i = 0; i < n && l->n; i++)
            if (l->ids[l->n - 1] < l->base + l->mask - n)
                ids[i] = l->ids[l->n - 1] + 1 + i;
    qsort(ids, n, sizeof *ids, by_id);
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || ids[i] != ids[k - 1])
            ids[k++] = ids[i];
    return k;
}

static void change(struct world *w, struct list *l, bool failing)
{
    static uint64_t ids[BATCH], payloads[BATCH], out[BATCH], out_payloads[BATCH];
    bool with = with_payloads(list_table(w, l));
    warm(w, l);
    size_t n = random_ids(w, l, ids), told = 0;
    bool adding = l->n == 0 || (l->n + n <= IDS && pick(w, 16) < 9);
    if (l->n && pick(w, 100) == 0) { // all of it
        n = l->n < BATCH ? l->n : BATCH;
        memcpy(ids, l->ids, n * 8);
        adding = false;
    }
    for (size_t i = 0; i < n; i++)
        payloads[i] = random_number(&w->rnd);
    uint64_t *to = pick(w, 2) ? ids : out;
    static uint64_t given[BATCH];
    memcpy(given, ids, n * 8);
    memory.armed = failing;
    memory.until = pick(w, 4);
    lock(w, l);
    uint32_t t = list_number(w, l);
    enum err e = adding
                     ? rels_add(w->r, t, l->hash, ids, with ? payloads : NULL, n, to,
                                with ? out_payloads : NULL, &told)
                     : rels_remove(w->r, t, l->hash, ids, n, to, with ? out_payloads : NULL, &told);
    unlock(w, l);
    memory.armed = false;
    w->failures += e == ERR_NO_MEMORY;
    if (e == ERR_NO_MEMORY && failing)
        return;
    assert_ok(e);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (has(l, given[i]) == adding)
            continue;
        assert_true(k < told);
        assert_int_equal(to[k], given[i]);
        if (with)
            assert_int_equal(out_payloads[k],
                             adding ? payloads[i] : l->payloads[place(l, given[i])]);
        k++;
        if (adding)
            model_add(l, given[i], payloads[i]);
        else
            model_remove(l, given[i]);
    }
    assert_int_equal(told, k);
}

static void evict(struct world *w)
{
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++) {
        if (pick(w, 2))
            continue;
        rels_lock(w->r, shard);
        uint64_t before = rels_bytes(w->r);
        (void)rels_evict(w->r, shard, pick(w, 2) ? 0 : before / RELS_SHARDS);
        rels_unlock(w->r, shard);
    }
}

static void compact(struct world *w)
{
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++) {
        rels_lock(w->r, shard);
        (void)rels_compact(w->r, shard);
        rels_unlock(w->r, shard);
    }
}

static void step(struct world *w, bool failing)
{
    struct list *l = &w->lists[pick(w, TABLES * LISTS)];
    switch (pick(w, 100)) {
    case 0:
        if (!w->checkpoint)
            capture(w);
        break;
    case 1:
        if (w->checkpoint)
            captured(w, pick(w, 2));
        break;
    case 2:
        evict(w);
        break;
    case 3:
        compact(w);
        break;
    case 4:
    case 5:
    case 6:
        check_combine(w);
        break;
    case 7:
        check_stats(w);
        break;
    default:
        change(w, l, failing && pick(w, 2));
        if (pick(w, 4) == 0)
            check_list(w, l);
    }
}

static void world_init(struct world *w, uint64_t seed, bool complete)
{
    static const uint64_t masks[8] = {0xff,        0x1fff,     0xffff, 0xfffff,
                                      ~0ull >> 32, ~0ull >> 6, ~0ull,  0x3ff};
    *w = (struct world){.rnd = seed};
    const uint64_t secret[4] = {1, 2, 3, seed};
    w->r = rels_new(secret, complete);
    assert_non_null(w->r);
    w->lists = calloc((size_t)TABLES * LISTS, sizeof *w->lists);
    for (unsigned t = 0; t < TABLES; t++) {
        assert_ok(rels_table(w->r, numbers[t], with_payloads(t)));
        assert_ok(rels_table(w->r, numbers[t], with_payloads(t)));
        for (unsigned i = 0; i < LISTS; i++) {
            struct list *l = list_at(w, t, i);
            l->from = i < 4 ? UINT64_MAX - i : i;
            l->hash = rels_hash(w->r, l->from);
            assert_int_equal(rels_from(w->r, l->hash), l->from);
            l->mask = masks[i % 8];
            l->base = i % 8 == 7 ? UINT64_MAX - l->mask : 0; // up to the last id
            l->rows = calloc(ROWS, sizeof *l->rows);
        }
    }
}

static void world_end(struct world *w)
{
    if (w->checkpoint)
        captured(w, false);
    capture(w);
    captured(w, true);
    struct rels_stats s;
    rels_get_stats(w->r, RELS_TABLES, &s);
    assert_int_equal(s.dirty_bytes, 0);
    for (unsigned i = 0; i < TABLES * LISTS; i++) {
        warm(w, &w->lists[i]);
        check_list(w, &w->lists[i]);
    }
    // All of it can go, and comes back from below.
    for (unsigned shard = 0; shard < RELS_SHARDS; shard++) {
        rels_lock(w->r, shard);
        (void)rels_evict(w->r, shard, 0);
        uint64_t hash;
        bool absent;
        for (unsigned t = 0; t < TABLES; t++)
            assert_false(rels_next(w->r, shard, numbers[t], 0, &hash, &absent));
        rels_unlock(w->r, shard);
    }
    rels_get_stats(w->r, RELS_TABLES, &s);
    assert_int_equal(s.bytes + s.slot_bytes + s.used + s.lists + s.chunks + s.inlined, 0);
    for (unsigned i = 0; i < TABLES * LISTS; i++) {
        warm(w, &w->lists[i]);
        check_list(w, &w->lists[i]);
        for (size_t j = 0; j < w->lists[i].rows_n; j++)
            free(w->lists[i].rows[j].bytes);
        free(w->lists[i].rows);
    }
    check_stats(w);
    rels_free(w->r);
    free(w->lists);
    free(w->pending);
}

static void run(uint64_t seed, unsigned steps, bool complete, bool failing)
{
    struct world w;
    printf("seed %" PRIu64 "\n", seed);
    world_init(&w, seed, complete);
    for (unsigned i = 0; i < steps; i++)
        step(&w, failing);
    assert_true(w.colds > 0);
    assert_true(!failing || w.failures > 0);
    world_end(&w);
}

static void test_model(void **state)
{
    for (uint64_t seed = 1; seed <= 4; seed++)
        run(seed, 6000, seed % 2, false);
}

static void test_model_without_memory(void **state)
{
    for (uint64_t seed = 11; seed <= 13; seed++)
        run(seed, 6000, seed % 2, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_model_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
