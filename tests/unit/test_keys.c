// The key table against a model: a plain array of keys, what the table must say of each, and what
// it may have forgotten (clean entries after an eviction).
#include "unit.h"

#include "base/limits.h"
#include "base/os.h"
#include "table/keys.h"
#include <inttypes.h>
#include <pthread.h>
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
// ------------------------------------------------------------------------------------

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
    struct fact now[MODEL_KEYS];
    struct fact pinned[MODEL_KEYS]; // as of the pin, version 0 where not pinned
    bool was_dirty[MODEL_KEYS];     // in place and pinned: dirty again if not written
    struct key_entry *pins[MODEL_KEYS];
    size_t pin_count;
    bool pinning;
    bool evicted;
};

struct key {
    char text[80];
    struct slice s;
    enum key_space space;
};

// The same texts stand in both spaces.
static void key_of(unsigned id, struct key *key)
{
    unsigned pad = id / 2 * 7 % 40;
    int n = snprintf(key->text, sizeof key->text, "key-%u-%.*s", id / 2, (int)pad,
                     "........................................");
    key->s = slice_of(key->text, (size_t)n);
    key->space = id % 2 ? SPACE_IDEM : SPACE_KEYS;
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

static void check_entry(const struct key_entry *e, unsigned id, const struct fact *f)
{
    struct key key;
    key_of(id, &key);
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

static void model_write(struct model *m, unsigned id)
{
    static uint8_t value[VALUE_SEED_MAX];
    struct key key;
    key_of(id, &key);
    struct fact f = {.version = ++version_counter, .dirty = true, .resident = true};
    f.absent = below(&m->rnd, 4) == 0;
    f.value_len = f.absent ? 0 : random_length(&m->rnd);
    f.expires = below(&m->rnd, 5) == 0 ? next_random(&m->rnd) | 1 : 0;
    for (size_t i = 0; i < f.value_len; i++)
        value[i] = value_byte(f.version, id, i);
    uint64_t hash = keys_hash(m->k, key.space, key.s);
    keys_lock(m->k, keys_shard(hash));
    const struct key_entry *found = keys_find(m->k, hash, key.space, key.s);
    struct key_fields fields = {.space = key.space,
                                .type = VALUE_BYTES,
                                .absent = f.absent,
                                .version = f.version,
                                .expires_ms = f.expires,
                                .key = key.s,
                                .value = slice_of(value, f.value_len)};
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
    key_of(id, &key);
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
        check_entry(e, id, f);
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
    check_entry(e, id, &m->now[id]);
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
        check_entry(m->pins[i], id, &m->pinned[id]);
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
    check_entry(e, id, &m->now[id]);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_the_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
