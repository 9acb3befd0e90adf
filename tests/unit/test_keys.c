// The key table against a model: a plain array of keys, what the table must say of each, and what
// it may have forgotten (clean entries after an eviction).
#include "unit.h"

#include "base/limits.h"
#include "base/os.h"
#include "table/keys.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

struct random {
    uint64_t state;
};

static uint64_t next_random(struct random *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t below(struct random *r, uint64_t n)
{
    return next_random(r) % n;
}

// ---- the model

enum { MODEL_KEYS = 6000, VALUE_SEED_MAX = 40000 };

// What a key has: its version (0: never written), and the value that value_byte gives.
struct fact {
    uint64_t version;
    uint64_t expires;
    uint32_t value_len;
    bool absent;
    bool dirty;
    bool resident; // must be; otherwise it may have been evicted
};

struct model {
    struct keys *k;
    struct random rnd;
    unsigned salt[MODEL_KEYS]; // puts all keys into few shards, so that these have many slabs
    struct fact now[MODEL_KEYS];
    struct fact pinned[MODEL_KEYS]; // as of the pin, version 0 where not pinned
    bool was_dirty[MODEL_KEYS];     // in place and pinned: dirty again if not written
    struct key_entry *pins[MODEL_KEYS];
    size_t pin_count;
    bool pinning;
    unsigned overwrites;
};

struct key {
    char text[80];
    struct slice s;
    enum key_space space;
};

// Neighbours have the same text, in the two spaces, unless their salts differ.
static void key_of(const struct model *m, unsigned id, struct key *key)
{
    unsigned pad = id / 2 * 7 % 40;
    int n = snprintf(key->text, sizeof key->text, "key-%u-%u-%.*s", id / 2, m->salt[id], (int)pad,
                     "........................................");
    key->s = slice_of(key->text, (size_t)n);
    key->space = id % 2 ? SPACE_IDEM : SPACE_KEYS;
}

static void choose_salts(struct model *m)
{
    for (unsigned id = 0; id < MODEL_KEYS; id++) {
        struct key key;
        do {
            m->salt[id]++;
            key_of(m, id, &key);
        } while (keys_shard(keys_hash(m->k, key.space, key.s)) % 64);
    }
}

static unsigned id_of(const struct key_entry *e)
{
    char text[80] = {0};
    memcpy(text, entry_key(e).p, entry_key(e).n);
    unsigned n = 0;
    assert_int_equal(sscanf(text, "key-%u-", &n), 1);
    return 2 * n + (entry_space(e) == SPACE_IDEM);
}

static uint8_t value_byte(uint64_t version, unsigned id, size_t i)
{
    return (uint8_t)(version * 31 + id + i * 7 + (i >> 8));
}

static void check_entry(const struct model *m, const struct key_entry *e, unsigned id,
                        const struct fact *f)
{
    struct key key;
    key_of(m, id, &key);
    assert_true(slice_equal(entry_key(e), key.s));
    assert_int_equal(entry_space(e), key.space);
    assert_true(e->version == f->version);
    assert_int_equal(e->seq32, (uint32_t)f->version);
    assert_int_equal(!!(e->flags & ENTRY_ABSENT), f->absent);
    assert_true(entry_expires(e) == f->expires);
    assert_int_equal(e->value_len, f->value_len);
    for (size_t i = 0; i < f->value_len; i++)
        if (entry_value(e).p[i] != value_byte(f->version, id, i))
            fail_msg("key %u version %" PRIu64 ": byte %zu of its value", id, f->version, i);
}

static uint32_t random_length(struct random *r)
{
    switch (below(r, 20)) {
    case 0:
        return 0;
    case 1:
        return (uint32_t)below(r, VALUE_SEED_MAX);
    case 2:
    case 3:
        return (uint32_t)below(r, 3000);
    default:
        return (uint32_t)below(r, 200);
    }
}

static uint64_t version_counter;

// Half of the writes that fit where the entry lies are made there. Never may one
// that a checkpoint reads, and one of the same length always does.
static bool model_overwrite(struct model *m, unsigned id, struct key_entry *e, uint64_t hash,
                            const struct key_fields *f)
{
    const struct fact *was = &m->now[id];
    bool pinned = was->version && m->pinned[id].version == was->version;
    bool may = !pinned && was->absent == f->absent && !was->expires == !f->expires_ms;
    bool fits = keys_fits(e, f);
    assert_true(may || !fits);
    if (may && was->value_len == f->value.n && e->key_len + was->value_len < 8000)
        assert_true(fits);
    if (!fits || below(&m->rnd, 2))
        return false;
    keys_overwrite(m->k, hash, e, f, f->version);
    assert_ptr_equal(keys_find(m->k, hash, f->space, f->key), e);
    m->overwrites++;
    return true;
}

static void model_write(struct model *m, unsigned id)
{
    static uint8_t value[VALUE_SEED_MAX];
    struct key key;
    key_of(m, id, &key);
    struct fact f = {.version = ++version_counter, .dirty = true, .resident = true};
    f.absent = below(&m->rnd, 4) == 0;
    f.value_len = f.absent ? 0 : random_length(&m->rnd);
    if (!f.absent && below(&m->rnd, 3) == 0) // about as long as before: may fit where that lies
        f.value_len = m->now[id].value_len + (uint32_t)below(&m->rnd, 4);
    f.value_len = f.value_len < VALUE_SEED_MAX ? f.value_len : 0;
    f.expires = below(&m->rnd, 5) == 0 ? next_random(&m->rnd) | 1 : 0;
    for (size_t i = 0; i < f.value_len; i++)
        value[i] = value_byte(f.version, id, i);
    uint64_t hash = keys_hash(m->k, key.space, key.s);
    keys_lock(m->k, keys_shard(hash));
    struct key_entry *found = keys_find(m->k, hash, key.space, key.s);
    struct key_fields fields = {.space = key.space,
                                .type = VALUE_BYTES,
                                .absent = f.absent,
                                .version = f.version,
                                .expires_ms = f.expires,
                                .key = key.s,
                                .value = slice_of(value, f.value_len)};
    if (found && keys_fits(found, &fields) && below(&m->rnd, 2)) {
        keys_overwrite(m->k, hash, found, &fields, f.version);
        keys_unlock(m->k, keys_shard(hash));
        m->now[id] = f;
        return;
    }
    if (found && model_overwrite(m, id, found, hash, &fields)) {
        m->now[id] = f;
        keys_unlock(m->k, keys_shard(hash));
        return;
    }
    struct key_entry *e = keys_prepare(m->k, hash, &fields);
    assert_non_null(e);
    assert_int_equal((uintptr_t)e % 16, 0);
    assert_ptr_equal(keys_find(m->k, hash, key.space, key.s), found);
    if (below(&m->rnd, 8) == 0) {
        keys_discard(m->k, hash, e);
    } else {
        // Clean only where nothing resident is newer: what a cold read brings.
        f.dirty = found || below(&m->rnd, 4);
        keys_publish(m->k, hash, e, f.version, f.dirty);
        m->now[id] = f;
    }
    keys_unlock(m->k, keys_shard(hash));
}

static void model_check(struct model *m, unsigned id)
{
    struct key key;
    key_of(m, id, &key);
    uint64_t hash = keys_hash(m->k, key.space, key.s);
    keys_prefetch_slot(m->k, hash);
    keys_prefetch_entry(m->k, hash);
    keys_lock(m->k, keys_shard(hash));
    struct key_entry *e = keys_find(m->k, hash, key.space, key.s);
    const struct fact *f = &m->now[id];
    if (!e) {
        if (f->dirty || (f->resident && m->pinned[id].version == f->version))
            fail_msg("key %u is unwritten and gone", id);
        if (f->version && !f->absent)
            assert_false(keys_complete(m->k, keys_shard(hash)));
        m->now[id].resident = false;
    } else {
        check_entry(m, e, id, f);
        assert_int_equal(!!(e->flags & ENTRY_PINNED),
                         f->version && m->pinned[id].version == f->version);
        if (below(&m->rnd, 2))
            keys_touch(e);
    }
    keys_unlock(m->k, keys_shard(hash));
}

static void note_pin(void *arg, struct key_entry *e)
{
    struct model *m = arg;
    unsigned id = id_of(e);
    assert_true(m->now[id].dirty);
    assert_true(e->flags & ENTRY_PINNED);
    check_entry(m, e, id, &m->now[id]);
    m->pinned[id] = m->now[id];
    m->now[id].dirty = false;
    m->pins[m->pin_count++] = e;
}

static void model_pin(struct model *m)
{
    m->pin_count = 0;
    memset(m->pinned, 0, sizeof m->pinned);
    for (unsigned s = 0; s < KEYS_SHARDS; s++) {
        keys_lock(m->k, s);
        keys_pin_dirty(m->k, s, note_pin, m);
        keys_unlock(m->k, s);
    }
    for (unsigned id = 0; id < MODEL_KEYS; id++)
        assert_false(m->now[id].dirty);
    m->pinning = true;
}

static void model_unpin(struct model *m, bool written)
{
    // Whatever was written since, the pinned bytes are as they were.
    for (size_t i = 0; i < m->pin_count; i++) {
        unsigned id = id_of(m->pins[i]);
        check_entry(m, m->pins[i], id, &m->pinned[id]);
    }
    for (unsigned s = 0; s < KEYS_SHARDS; s++) {
        keys_lock(m->k, s);
        keys_unpin(m->k, s, written);
        keys_unlock(m->k, s);
    }
    for (unsigned id = 0; id < MODEL_KEYS; id++)
        if (m->pinned[id].version && m->pinned[id].version == m->now[id].version && !written)
            m->now[id].dirty = true;
    memset(m->pinned, 0, sizeof m->pinned);
    m->pinning = false;
}

static void note_dirty(void *arg, const struct key_entry *e)
{
    struct model *m = arg;
    unsigned id = id_of(e);
    assert_true(m->now[id].dirty || m->pinned[id].version == m->now[id].version);
    check_entry(m, e, id, &m->now[id]);
    m->was_dirty[id] = true;
}

struct tally {
    uint64_t entries, live;
};

static void note_any(void *arg, const struct key_entry *e)
{
    struct tally *t = arg;
    t->entries++;
    t->live += !(e->flags & ENTRY_ABSENT);
}

static void model_check_all(struct model *m)
{
    for (unsigned id = 0; id < MODEL_KEYS; id++)
        model_check(m, id);
    memset(m->was_dirty, 0, sizeof m->was_dirty);
    struct tally tally = {0};
    uint64_t shard_bytes = 0;
    for (unsigned s = 0; s < KEYS_SHARDS; s++) {
        keys_lock(m->k, s);
        keys_each_dirty(m->k, s, note_dirty, m);
        keys_each(m->k, s, note_any, &tally);
        shard_bytes += keys_shard_bytes(m->k, s);
        keys_unlock(m->k, s);
    }
    uint64_t unwritten = m->pinning ? m->pin_count : 0;
    for (unsigned id = 0; id < MODEL_KEYS; id++) {
        bool in_place = m->pinned[id].version && m->pinned[id].version == m->now[id].version;
        assert_int_equal(m->was_dirty[id], m->now[id].dirty || in_place);
        unwritten += m->now[id].dirty;
    }
    struct keys_stats stats;
    keys_get_stats(m->k, &stats);
    assert_true(stats.entries == tally.entries && stats.live == tally.live);
    assert_true(stats.dirty == unwritten);
    assert_true((stats.dirty == 0) == (stats.dirty_bytes == 0));
    assert_true(stats.bytes >= stats.dirty_bytes);
    assert_true(stats.bytes + stats.slot_bytes == shard_bytes);
    int64_t drift = (int64_t)(keys_bytes(m->k) - shard_bytes);
    assert_true(drift < 256 * 4096 && drift > -256 * 4096);
    drift = (int64_t)(keys_dirty_bytes(m->k) - stats.dirty_bytes);
    assert_true(drift < 256 * 4096 && drift > -256 * 4096);
}

static void model_evict(struct model *m)
{
    unsigned part = (unsigned)below(&m->rnd, 5);
    for (unsigned s = 0; s < KEYS_SHARDS; s++) {
        keys_lock(m->k, s);
        uint64_t before = keys_shard_bytes(m->k, s);
        uint64_t freed = keys_evict(m->k, s, before * part / 4);
        assert_true(keys_shard_bytes(m->k, s) == before - freed);
        keys_unlock(m->k, s);
    }
}

static void run_model(uint64_t seed, bool complete)
{
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->rnd.state = seed;
    m->k = keys_new(next_random(&m->rnd), complete);
    assert_non_null(m->k);
    choose_salts(m);
    for (unsigned round = 0; round < 30; round++) {
        unsigned range = below(&m->rnd, 3) ? MODEL_KEYS : 200;
        for (unsigned i = 0; i < 3000; i++) {
            unsigned id = (unsigned)below(&m->rnd, range);
            if (below(&m->rnd, 2))
                model_write(m, id);
            else
                model_check(m, id);
        }
        switch (below(&m->rnd, 4)) {
        case 0:
            model_evict(m);
            break;
        case 1:
            if (!m->pinning)
                model_pin(m);
            break;
        case 2:
            if (m->pinning)
                model_unpin(m, below(&m->rnd, 3) > 0);
            break;
        default:
            break;
        }
        model_check_all(m);
    }
    print_message("%u writes in place\n", m->overwrites);
    assert_true(m->overwrites > 500);
    keys_free(m->k);
    free(m);
}

static void follows_the_model(void **state)
{
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    const char *given = os_env("VARVE_TEST_SEED");
    if (given)
        seed = strtoull(given, NULL, 0);
    print_message("seed: VARVE_TEST_SEED=%" PRIu64 "\n", seed);
    run_model(seed, false);
    run_model(seed + 1, true);
}

// ---- single properties

static struct key_entry *find(struct keys *k, struct slice key)
{
    uint64_t hash = keys_hash(k, SPACE_KEYS, key);
    keys_lock(k, keys_shard(hash));
    struct key_entry *e = keys_find(k, hash, SPACE_KEYS, key);
    keys_unlock(k, keys_shard(hash));
    return e;
}

static void put(struct keys *k, struct slice key, struct slice value, uint64_t version, bool dirty)
{
    // No value at all: absent.
    struct key_fields f = {.version = version, .key = key, .value = value, .absent = !value.p};
    uint64_t hash = keys_hash(k, SPACE_KEYS, key);
    keys_lock(k, keys_shard(hash));
    struct key_entry *e = keys_prepare(k, hash, &f);
    assert_non_null(e);
    keys_publish(k, hash, e, version, dirty);
    keys_unlock(k, keys_shard(hash));
}

static void ignore_entry(void *arg, struct key_entry *e)
{
    unsigned *count = arg;
    *count += 1;
}

static unsigned pin_all(struct keys *k)
{
    unsigned count = 0;
    for (unsigned i = 0; i < KEYS_SHARDS; i++) {
        keys_lock(k, i);
        keys_pin_dirty(k, i, ignore_entry, &count);
        keys_unlock(k, i);
    }
    return count;
}

static void unpin_all(struct keys *k, bool written)
{
    for (unsigned i = 0; i < KEYS_SHARDS; i++) {
        keys_lock(k, i);
        keys_unpin(k, i, written);
        keys_unlock(k, i);
    }
}

static void evict_all(struct keys *k)
{
    for (unsigned i = 0; i < KEYS_SHARDS; i++) {
        keys_lock(k, i);
        (void)keys_evict(k, i, 0);
        keys_unlock(k, i);
    }
}

static void takes_every_length(void **state)
{
    struct keys *k = keys_new(1, true);
    uint8_t *bytes = calloc(1, LIMIT_VALUE_HARD);
    assert_non_null(bytes);
    const size_t key_lengths[] = {1, 2, 255, 256, 4096, LIMIT_KEY_HARD};
    const size_t value_lengths[] = {0, 1, 1000, 8192, 65536, LIMIT_VALUE_HARD - 1};
    for (size_t i = 0; i < 36; i++) {
        memset(bytes, (int)i + 1, LIMIT_VALUE_HARD);
        struct slice key = slice_of(bytes, key_lengths[i / 6]);
        struct slice value = slice_of(bytes, value_lengths[i % 6]);
        put(k, key, value, i + 1, false);
        struct key_entry *e = find(k, key);
        assert_true(slice_equal(entry_key(e), key) && slice_equal(entry_value(e), value));
        put(k, key, slice_str("short"), i + 2, false);
        assert_true(slice_equal(entry_value(find(k, key)), slice_str("short")));
        assert_null(find(k, slice_of(bytes + 1, key.n > 1 ? key.n - 1 : 2)));
    }
    put(k, slice_str("pinned"), slice_of(bytes, LIMIT_VALUE_HARD - 1), 7, true);
    assert_int_equal(pin_all(k), 1);
    put(k, slice_str("pinned"), slice_of(bytes, LIMIT_VALUE_HARD - 1), 8, true);
    assert_true(keys_bytes(k) > 2 * (LIMIT_VALUE_HARD - 1));
    assert_true(keys_dirty_bytes(k) > 2 * (LIMIT_VALUE_HARD - 1));
    keys_free(k); // while pinned, as when the power goes
    free(bytes);
}

static void complete_until_something_live_goes(void **state)
{
    struct keys *k = keys_new(2, true);
    const struct slice here = slice_str("here"), gone = slice_str("gone");
    unsigned shard_here = keys_shard(keys_hash(k, SPACE_KEYS, here));
    unsigned shard_gone = keys_shard(keys_hash(k, SPACE_KEYS, gone));
    assert_true(shard_here != shard_gone);
    put(k, here, slice_str("value"), 1, true);
    put(k, gone, (struct slice){NULL, 0}, 1, true);
    assert_int_equal(pin_all(k), 2);
    unpin_all(k, false);
    assert_non_null(find(k, gone)); // the deletion is not yet below
    assert_int_equal(pin_all(k), 2);
    evict_all(k);
    assert_non_null(find(k, here)); // pinned
    unpin_all(k, true);
    assert_null(find(k, gone)); // it is, and complete shards need not remember
    assert_non_null(find(k, here));

    put(k, gone, (struct slice){NULL, 0}, 0, false);
    evict_all(k);
    assert_null(find(k, gone));
    assert_null(find(k, here));
    assert_true(keys_complete(k, shard_gone));
    assert_false(keys_complete(k, shard_here));
    put(k, here, slice_str("value"), 1, false);
    assert_false(keys_complete(k, shard_here)); // for ever
    put(k, here, (struct slice){NULL, 0}, 2, true);
    assert_int_equal(pin_all(k), 1);
    unpin_all(k, true);
    assert_non_null(find(k, here)); // worth remembering: it saves asking below
    keys_free(k);
}

static void used_entries_outlive_others(void **state)
{
    enum { COUNT = 200000 };
    struct keys *k = keys_new(3, false);
    char text[32];
    for (unsigned i = 0; i < COUNT; i++) {
        int n = snprintf(text, sizeof text, "key-%u", i);
        put(k, slice_of(text, (size_t)n), slice_of("0123456789abcdef0123456789abcdef", 32), 1,
            false);
    }
    for (unsigned pass = 0; pass < 4; pass++) {
        for (unsigned i = 0; i < COUNT; i += 10) { // a tenth is read again and again
            int n = snprintf(text, sizeof text, "key-%u", i);
            struct key_entry *e = find(k, slice_of(text, (size_t)n));
            if (e)
                keys_touch(e);
        }
        for (unsigned i = 0; i < KEYS_SHARDS; i++) {
            keys_lock(k, i);
            uint64_t target = keys_shard_bytes(k, i) * 9 / 10;
            (void)keys_evict(k, i, target);
            assert_true(keys_shard_bytes(k, i) <= target);
            keys_unlock(k, i);
        }
    }
    unsigned kept[2] = {0};
    for (unsigned i = 0; i < COUNT; i++) {
        int n = snprintf(text, sizeof text, "key-%u", i);
        kept[i % 10 == 0] += find(k, slice_of(text, (size_t)n)) != NULL;
    }
    print_message("kept %u of %u used, %u of %u others\n", kept[1], COUNT / 10, kept[0],
                  COUNT / 10 * 9);
    assert_true(kept[1] > COUNT / 10 * 8 / 10);
    assert_true(kept[0] < COUNT / 10 * 9 * 7 / 10);
    keys_free(k);
}

static void memory_goes_when_entries_go(void **state)
{
    enum { COUNT = 100000 };
    struct keys *k = keys_new(4, false);
    char text[32];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            int n = snprintf(text, sizeof text, "key-%u-%u", round, i);
            put(k, slice_of(text, (size_t)n), slice_of(text, (size_t)n), 1, true);
        }
        uint64_t full = keys_bytes(k);
        assert_true(full > COUNT * 48ull);
        evict_all(k);
        assert_true(keys_bytes(k) == full); // all dirty
        assert_int_equal(pin_all(k), COUNT);
        evict_all(k);
        unpin_all(k, true);
        evict_all(k);
        struct keys_stats s;
        keys_get_stats(k, &s);
        assert_true(s.entries == 0 && s.live == 0 && s.dirty == 0 && s.bytes == 0);
        assert_true(s.slot_bytes == 16 * 8 * KEYS_SHARDS);
        assert_true(s.evictions == (round + 1) * (uint64_t)COUNT);
        assert_true(keys_bytes(k) <= 4096 * KEYS_SHARDS);
    }
    keys_free(k);
}

// New keys come and old ones are evicted, for long: tombstones must not add up.
static void churn_keeps_the_slots_small(void **state)
{
    enum { COUNT = 200000, ROOM = 4000 };
    struct keys *k = keys_new(7, false);
    for (uint64_t i = 0; i < COUNT; i++) {
        uint64_t hash = keys_hash(k, SPACE_KEYS, slice_of(&i, 8));
        if (keys_shard(hash) % 64)
            continue;
        put(k, slice_of(&i, 8), slice_of(&i, 8), 1, false);
        keys_lock(k, keys_shard(hash));
        (void)keys_evict(k, keys_shard(hash), ROOM * 48 / 4);
        keys_unlock(k, keys_shard(hash));
    }
    struct keys_stats s;
    keys_get_stats(k, &s);
    assert_true(s.entries > ROOM / 4 && s.evictions > 0);
    assert_true(s.slot_bytes <= s.entries * 8 * 4);
    keys_free(k);
}

// ---- collisions

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// Pairs of keys with one shard and one tag (bits 36-54 of the hash), and of those the ones with one
// home in the smallest table: only the keys' bytes tell them apart.
static void colliding_keys_stay_apart(void **state)
{
    enum { CANDIDATES = 1 << 20 };
    const uint64_t shard_and_tag = 0xff7ffff000000000u;
    struct keys *k = keys_new(5, false);
    uint64_t *ids = calloc(CANDIDATES, sizeof *ids);
    assert_non_null(ids);
    // Sort by shard, tag and home, with the key's number in the hash's other bits.
    for (uint64_t i = 0; i < CANDIDATES; i++) {
        uint64_t hash = keys_hash(k, SPACE_KEYS, slice_of(&i, 8));
        ids[i] = (hash & shard_and_tag) | (hash & 15) << 32 | i;
    }
    qsort(ids, CANDIDATES, sizeof *ids, by_number);
    unsigned pairs = 0;
    for (uint64_t i = 1; i < CANDIDATES; i++) {
        if ((ids[i] ^ ids[i - 1]) >> 32)
            continue;
        uint64_t a = ids[i - 1] & UINT32_MAX, b = ids[i] & UINT32_MAX;
        put(k, slice_of(&a, 8), slice_of(&a, 8), 1, false);
        assert_null(find(k, slice_of(&b, 8)));
        put(k, slice_of(&b, 8), slice_of(&b, 8), 2, true);
        assert_true(slice_equal(entry_value(find(k, slice_of(&a, 8))), slice_of(&a, 8)));
        assert_true(slice_equal(entry_value(find(k, slice_of(&b, 8))), slice_of(&b, 8)));
        evict_all(k);
        assert_null(find(k, slice_of(&a, 8)));
        assert_true(slice_equal(entry_value(find(k, slice_of(&b, 8))), slice_of(&b, 8)));
        pairs++;
    }
    print_message("%u colliding pairs\n", pairs);
    assert_true(pairs > 50);
    free(ids);
    keys_free(k);
}

// ---- threads

enum { THREAD_KEYS = 5000, THREAD_OPS = 60000 };

struct crowd {
    struct keys *k;
    pthread_barrier_t start;
    atomic_uint writers;
    atomic_ullong versions;
};

struct worker {
    struct crowd *c;
    uint64_t seed;
    pthread_t thread;
};

// Every value is its version, over and over, so that a torn or freed one shows.
static void check_value(const struct key_entry *e)
{
    struct slice v = entry_value(e);
    for (size_t i = 0; i + 8 <= v.n; i += 8)
        if (load64(v.p + i) != e->version)
            abort();
}

static void *write_and_read(void *arg)
{
    struct worker *w = arg;
    struct random rnd = {w->seed};
    struct keys *k = w->c->k;
    uint64_t value[64];
    pthread_barrier_wait(&w->c->start);
    for (unsigned i = 0; i < THREAD_OPS; i++) {
        uint64_t id = below(&rnd, THREAD_KEYS);
        struct key_fields f = {.key = slice_of(&id, 8), .type = VALUE_BYTES};
        uint64_t hash = keys_hash(k, SPACE_KEYS, f.key);
        keys_prefetch_slot(k, hash);
        keys_prefetch_entry(k, hash);
        keys_lock(k, keys_shard(hash));
        struct key_entry *e = keys_find(k, hash, SPACE_KEYS, f.key);
        if (e) {
            check_value(e);
            keys_touch(e);
        }
        if (below(&rnd, 2)) {
            f.version = atomic_fetch_add(&w->c->versions, 1) + 1;
            for (unsigned j = 0; j < 64; j++)
                value[j] = f.version;
            f.value = slice_of(value, 8 * below(&rnd, 64));
            if (e && keys_fits(e, &f)) {
                keys_overwrite(k, hash, e, &f, f.version);
            } else {
                e = keys_prepare(k, hash, &f);
                if (!e)
                    abort();
                keys_publish(k, hash, e, f.version, true);
            }
        }
        keys_unlock(k, keys_shard(hash));
    }
    atomic_fetch_sub(&w->c->writers, 1);
    return NULL;
}

struct pins {
    struct key_entry *at[THREAD_KEYS];
    unsigned count;
};

static void collect(void *arg, struct key_entry *e)
{
    struct pins *p = arg;
    p->at[p->count++] = e;
}

// Pins a shard, reads what is pinned without the lock, unpins.
static void *checkpoint(void *arg)
{
    struct worker *w = arg;
    struct keys *k = w->c->k;
    struct pins *p = calloc(1, sizeof *p);
    if (!p)
        abort();
    pthread_barrier_wait(&w->c->start);
    for (unsigned i = 0; atomic_load(&w->c->writers); i++) {
        unsigned shard = i % KEYS_SHARDS;
        p->count = 0;
        keys_lock(k, shard);
        keys_pin_dirty(k, shard, collect, p);
        keys_unlock(k, shard);
        for (unsigned j = 0; j < p->count; j++)
            check_value(p->at[j]);
        keys_lock(k, shard);
        keys_unpin(k, shard, i % 8 != 0);
        keys_unlock(k, shard);
    }
    free(p);
    return NULL;
}

static void *evict(void *arg)
{
    struct worker *w = arg;
    struct random rnd = {w->seed};
    struct keys *k = w->c->k;
    pthread_barrier_wait(&w->c->start);
    for (unsigned i = 0; atomic_load(&w->c->writers); i++) {
        unsigned shard = i % KEYS_SHARDS;
        keys_lock(k, shard);
        (void)keys_evict(k, shard, keys_shard_bytes(k, shard) * below(&rnd, 4) / 4);
        keys_unlock(k, shard);
        struct keys_stats s;
        if (shard == 0)
            keys_get_stats(k, &s);
        (void)keys_bytes(k);
    }
    return NULL;
}

static void threads_agree(void **state)
{
    struct crowd c = {.k = keys_new(6, false)};
    assert_non_null(c.k);
    void *(*const what[])(void *) = {write_and_read, write_and_read, checkpoint, evict};
    struct worker w[4];
    atomic_init(&c.writers, 2);
    assert_int_equal(pthread_barrier_init(&c.start, NULL, 4), 0);
    for (unsigned i = 0; i < 4; i++) {
        w[i] = (struct worker){.c = &c, .seed = i};
        assert_int_equal(pthread_create(&w[i].thread, NULL, what[i], &w[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_join(w[i].thread, NULL), 0);
    (void)pin_all(c.k);
    unpin_all(c.k, true);
    evict_all(c.k);
    struct keys_stats s;
    keys_get_stats(c.k, &s);
    assert_true(s.entries == 0 && s.bytes == 0 && s.dirty == 0 && s.dirty_bytes == 0);
    keys_free(c.k);
    pthread_barrier_destroy(&c.start);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_the_model),
        cmocka_unit_test(takes_every_length),
        cmocka_unit_test(complete_until_something_live_goes),
        cmocka_unit_test(used_entries_outlive_others),
        cmocka_unit_test(memory_goes_when_entries_go),
        cmocka_unit_test(churn_keeps_the_slots_small),
        cmocka_unit_test(colliding_keys_stay_apart),
        cmocka_unit_test(threads_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
