#include "unit.h"

#include "base/os.h"
#include "table/slab.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t test_seed(void)
{
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    const char *given = os_env("VARVE_TEST_SEED");
    if (given)
        seed = strtoull(given, NULL, 0);
    print_message("seed: VARVE_TEST_SEED=%" PRIu64 "\n", seed);
    return seed;
}

static void sizes_waste_little(void **state)
{
    struct pool *pool = pool_new();
    assert_non_null(pool);
    struct slab_heap h;
    slab_heap_init(&h, pool);
    size_t before = 0;
    for (size_t n = 1; n <= SLAB_MAX; n++) {
        uint8_t *p = slab_alloc(&h, n);
        assert_non_null(p);
        memset(p, 0xa5, n);
        size_t usable = slab_usable(p, n);
        assert_true(usable >= n && usable >= before);
        assert_true(usable - n < (n <= 1024 ? 16 : n / 8));
        assert_int_equal((uintptr_t)p % 16, 0);
        // A lone object costs itself and a header, not a block.
        assert_true(h.used == usable && h.bytes == usable + 64);
        slab_free(&h, p, n);
        assert_true(h.used == 0 && h.bytes == 0);
        before = usable;
    }
    pool_free(pool);
}

static void fine_sizes_waste_less(void **state)
{
    struct pool *pool = pool_new();
    assert_non_null(pool);
    struct slab_heap h;
    slab_heap_init_fine(&h, pool);
    size_t before = 0;
    for (size_t n = 1; n <= SLAB_MAX; n++) {
        uint8_t *p = slab_alloc(&h, n);
        assert_non_null(p);
        memset(p, 0xa5, n);
        size_t usable = slab_size(&h, p, n);
        assert_true(usable >= n && usable >= before && usable % 8 == 0);
        assert_true(usable - n < (n <= 256 ? 8 : n <= 1024 ? 16 : n / 8));
        assert_int_equal((uintptr_t)p % 8, 0);
        assert_true(h.used == usable && h.bytes == usable + 64);
        slab_free(&h, p, usable); // its own size will do as well
        assert_true(h.used == 0 && h.bytes == 0);
        before = usable;
    }
    pool_free(pool);
}

enum { OBJECTS = 20000 };

struct object {
    uint8_t *p;
    size_t n;
};

static void fill(struct object *o)
{
    for (size_t i = 0; i < o->n; i++)
        o->p[i] = (uint8_t)(o->n + i);
}

static void check(const struct object *o)
{
    for (size_t i = 0; i < o->n; i++)
        if (o->p[i] != (uint8_t)(o->n + i))
            fail_msg("byte %zu of an object of %zu was changed", i, o->n);
}

static size_t random_size(uint64_t *rnd)
{
    switch (next_random(rnd) % 10) {
    case 0:
        return 1 + next_random(rnd) % 20000;
    case 1:
    case 2:
        return 1 + next_random(rnd) % SLAB_MAX;
    default:
        return 1 + next_random(rnd) % 300;
    }
}

static void objects_keep_their_bytes(void **state)
{
    uint64_t rnd = test_seed();
    struct pool *pool = pool_new();
    struct slab_heap h[2]; // two shards on one pool
    slab_heap_init(&h[0], pool);
    slab_heap_init(&h[1], pool);
    struct object *all = calloc(OBJECTS, sizeof *all);
    assert_non_null(all);
    uint64_t used = 0;
    for (unsigned i = 0; i < 20 * OBJECTS; i++) {
        unsigned at = (unsigned)(next_random(&rnd) % OBJECTS);
        struct object *o = &all[at];
        // Waves of growth and decline.
        bool wanted = next_random(&rnd) % 8 < (i / OBJECTS % 4 < 2 ? 6 : 2);
        if (o->p) {
            check(o);
            used -= slab_usable(o->p, o->n);
            slab_free(&h[at % 2], o->p, o->n);
            o->p = NULL;
        }
        if (wanted) {
            o->n = random_size(&rnd);
            o->p = slab_alloc(&h[at % 2], o->n);
            assert_non_null(o->p);
            used += slab_usable(o->p, o->n);
            fill(o);
        }
        assert_true(h[0].used + h[1].used == used && h[0].bytes + h[1].bytes >= used);
    }
    for (unsigned i = 0; i < OBJECTS; i++) {
        if (!all[i].p)
            continue;
        check(&all[i]);
        slab_free(&h[i % 2], all[i].p, all[i].n);
    }
    free(all);
    assert_true(h[0].bytes == 0 && h[1].bytes == 0 && h[0].large == 0);
    assert_true(pool_idle_bytes(pool) <= 1 << 20);
    pool_free(pool);
}

// What a mover needs: where each object stands now.
struct stand {
    struct slab_heap h;
    struct object all[OBJECTS];
    unsigned moved;
    unsigned refuse; // every nth, 0: none
};

static void move(void *arg, void *object)
{
    struct stand *s = arg;
    unsigned id;
    memcpy(&id, object, sizeof id);
    struct object *o = &s->all[id];
    assert_ptr_equal(o->p, object);
    if (s->refuse && id % s->refuse == 0)
        return;
    uint8_t *to = slab_alloc(&s->h, o->n);
    assert_non_null(to);
    memcpy(to, o->p, o->n);
    slab_free(&s->h, o->p, o->n);
    o->p = to;
    s->moved++;
}

static void compaction_gives_slabs_back(void **state)
{
    uint64_t rnd = test_seed();
    struct stand *s = calloc(1, sizeof *s);
    assert_non_null(s);
    struct pool *pool = pool_new();
    slab_heap_init(&s->h, pool);
    for (unsigned id = 0; id < OBJECTS; id++) {
        s->all[id] = (struct object){.n = id % 2 ? 150 : 2100};
        s->all[id].p = slab_alloc(&s->h, s->all[id].n);
        assert_non_null(s->all[id].p);
        memcpy(s->all[id].p, &id, sizeof id);
    }
    for (unsigned id = 0; id < OBJECTS; id++)
        if (next_random(&rnd) % 10 < 6) {
            slab_free(&s->h, s->all[id].p, s->all[id].n);
            s->all[id].p = NULL;
        }
    uint64_t used = s->h.used;
    assert_true(s->h.bytes > used * 2); // random holes keep nearly every slab
    for (s->refuse = 3;; s->refuse = 0) {
        for (unsigned class = 0; class < SLAB_CLASSES; class ++)
            for (unsigned failed = 0; failed < 100;)
                failed += !slab_compact(&s->h, class, move, s);
        assert_true(s->h.used == used);
        if (!s->refuse)
            break;
    }
    assert_true(s->moved > 0);
    assert_true(s->h.bytes < used + used / 16 + (2 << 16));
    for (unsigned id = 0; id < OBJECTS; id++) {
        if (!s->all[id].p)
            continue;
        assert_memory_equal(s->all[id].p, &id, sizeof id);
        slab_free(&s->h, s->all[id].p, s->all[id].n);
    }
    assert_true(s->h.bytes == 0);
    pool_free(pool);
    free(s);
}

// Thin slabs are emptied by who knows the objects only; some of them stay.
static void thin_slabs_are_emptied(void **state)
{
    uint64_t rnd = test_seed();
    struct stand *s = calloc(1, sizeof *s);
    assert_non_null(s);
    struct pool *pool = pool_new();
    slab_heap_init_fine(&s->h, pool);
    assert_false(slab_thin_begin(&s->h));
    slab_thin_end(&s->h);
    for (unsigned id = 0; id < OBJECTS; id++) {
        s->all[id] = (struct object){.n = id % 3 ? 20 : id % 2 ? 300 : 2100};
        s->all[id].p = slab_alloc(&s->h, s->all[id].n);
        assert_non_null(s->all[id].p);
        memcpy(s->all[id].p, &id, sizeof id);
    }
    assert_false(slab_thin_begin(&s->h)); // all are full but the last
    for (unsigned id = 0; id < OBJECTS; id++)
        if (next_random(&rnd) % 10 < 6) {
            slab_free(&s->h, s->all[id].p, s->all[id].n);
            s->all[id].p = NULL;
        }
    uint64_t used = s->h.used;
    assert_true(s->h.bytes > used * 2);
    for (s->refuse = 3;; s->refuse = 0) {
        assert_true(slab_thin_begin(&s->h));
        uint64_t bytes = s->h.bytes;
        for (unsigned id = 0; id < OBJECTS; id++) {
            struct object *o = &s->all[id];
            if (o->p && slab_thin(&s->h, o->p, o->n))
                move(s, o->p);
            assert_true(!o->p || s->refuse || !slab_thin(&s->h, o->p, o->n));
        }
        slab_thin_end(&s->h);
        assert_true(s->h.used == used && s->h.bytes <= bytes);
        if (!s->refuse)
            break;
    }
    assert_true(s->moved > 0);
    assert_true(s->h.bytes < used + used / 16 + (3 << 16));
    for (unsigned id = 0; id < OBJECTS; id++) {
        if (!s->all[id].p)
            continue;
        assert_memory_equal(s->all[id].p, &id, sizeof id);
        slab_free(&s->h, s->all[id].p, s->all[id].n);
    }
    assert_true(s->h.bytes == 0);
    pool_free(pool);
    free(s);
}

static void memory_goes_back_to_the_kernel(void **state)
{
    enum { COUNT = 200000 };
    struct pool *pool = pool_new();
    struct slab_heap h;
    slab_heap_init(&h, pool);
    uint8_t **all = calloc(COUNT, sizeof *all);
    assert_non_null(all);
    for (unsigned i = 0; i < COUNT; i++) {
        all[i] = slab_alloc(&h, 200);
        assert_non_null(all[i]);
        memset(all[i], 1, 200);
    }
    struct os_usage full, after;
    os_usage(&full);
    // Keep every 64th, so that no run of blocks is wholly free.
    for (unsigned i = 0; i < COUNT; i++)
        if (i % 64)
            slab_free(&h, all[i], 200);
    os_usage(&after);
    assert_true(h.bytes < COUNT * 200 / 2);
    assert_true(pool_idle_bytes(pool) <= (1 << 20) + h.bytes / 8);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    if (full.rss_bytes) // where the machine tells
        assert_true(after.rss_bytes < full.rss_bytes - COUNT * 200 / 3);
#endif
    free(all);
    pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_waste_little),
        cmocka_unit_test(fine_sizes_waste_less),
        cmocka_unit_test(objects_keep_their_bytes),
        cmocka_unit_test(compaction_gives_slabs_back),
        cmocka_unit_test(thin_slabs_are_emptied),
        cmocka_unit_test(memory_goes_back_to_the_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
