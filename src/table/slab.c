// A slab is a pool block: a header of 64 bytes, then objects of one size. Objects are handed out
// from the list of freed ones first, then from the part never yet written (so a slab takes memory
// only as it fills). The header is found by rounding an object's address down to the block size of
// its class.
#include "table/slab.h"

#include "base/assert.h"
#include "table/poison.h"
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

struct __attribute__((aligned(64))) slab {
    struct slab *next, *prev; // circular, among those of the class with room, or thin; or NULL
    struct pool_run *run;
    uint32_t free_at;  // offset of the first freed object, 0: none; each holds the next one's
    uint16_t used;     // objects handed out
    uint16_t touched;  // objects ever handed out; those beyond were never written
    uint16_t capacity; // objects in all
    uint8_t class;
    bool draining; // it is being emptied: do not hand out from it
};
_Static_assert(sizeof(struct slab) == 64, "a slab's header is one cache line");

enum { MAX_OBJECTS = 512 };  // in one slab: (4096 - 64) / 8 = 504
enum { LARGE_HEADER = 16 };  // what malloc keeps beside an object, about
enum { COMPACT_LOOKS = 16 }; // slabs examined for the thinnest

enum {
    FINE_MOST = 256, // bytes up to which a fine heap goes by 8
    FINE_FIRST = 88, // its classes for those
};

static unsigned class_of(const struct slab_heap *h, size_t n)
{
    if (h->fine && n <= FINE_MOST)
        return FINE_FIRST + (n ? (unsigned)((n - 1) / 8) : 0);
    if (n <= 1024)
        return n ? (unsigned)((n - 1) / 16) : 0;
    unsigned octave = 63 - (unsigned)__builtin_clzll(n - 1) - 10; // 0: (1024, 2048]
    return 64 + 8 * octave + (unsigned)((n - 1 - ((size_t)1024 << octave)) >> (7 + octave));
}

static size_t class_size(unsigned class)
{
    if (class >= FINE_FIRST)
        return 8 * (size_t)(class - FINE_FIRST + 1);
    if (class < 64)
        return 16 * ((size_t) class + 1);
    unsigned octave = (class - 64) / 8;
    return ((size_t)1024 << octave) + ((size_t)128 << octave) * ((class - 64) % 8 + 1);
}

static enum pool_kind class_kind(unsigned class)
{
    return class < 16 || class >= FINE_FIRST ? POOL_4K : class < 64 ? POOL_16K : POOL_64K;
}

static struct slab *slab_of(const void *object, unsigned class)
{
    uintptr_t mask = pool_block_size(class_kind(class)) - 1;
    struct slab *s = (struct slab *)((uintptr_t)object & ~mask); // NOLINT: rounding down
    VERIFY(s->class == class);
    return s;
}

static void *object_at(struct slab *s, size_t offset)
{
    return (uint8_t *)s + offset;
}

static void list_link(struct slab **head, struct slab *s, bool first)
{
    if (!*head) {
        s->next = s->prev = s;
        *head = s;
        return;
    }
    s->next = *head;
    s->prev = s->next->prev;
    s->next->prev = s->prev->next = s;
    if (first)
        *head = s;
}

static void list_unlink(struct slab **head, struct slab *s)
{
    if (*head == s)
        *head = s->next == s ? NULL : s->next;
    s->next->prev = s->prev;
    s->prev->next = s->next;
    s->next = s->prev = NULL;
}

void slab_heap_init(struct slab_heap *h, struct pool *pool)
{
    *h = (struct slab_heap){.pool = pool};
}

void slab_heap_init_fine(struct slab_heap *h, struct pool *pool)
{
    *h = (struct slab_heap){.pool = pool, .fine = true};
}

static struct slab *slab_new(struct slab_heap *h, unsigned class)
{
    enum pool_kind kind = class_kind(class);
    struct pool_run *run;
    struct slab *s = pool_take(h->pool, kind, &run);
    if (!s)
        return NULL;
    UNPOISON(s, sizeof *s);
    *s = (struct slab){.run = run, .class = (uint8_t) class};
    s->capacity = (uint16_t)((pool_block_size(kind) - sizeof *s) / class_size(class));
    VERIFY(s->capacity > 1 && s->capacity <= MAX_OBJECTS);
    h->bytes += sizeof *s;
    list_link(&h->room[s->class], s, true);
    return s;
}

static void slab_release(struct slab_heap *h, struct slab *s)
{
    h->bytes -= sizeof *s + s->touched * class_size(s->class);
    UNPOISON(s, pool_block_size(class_kind(s->class)));
    pool_give(h->pool, s->run, s);
}

static void *large_alloc(struct slab_heap *h, size_t n)
{
    void *object = malloc(n);
    if (!object)
        return NULL;
    size_t size = slab_size(h, object, n);
    h->bytes += size;
    h->used += size;
    h->large++;
    return object;
}

void *slab_alloc(struct slab_heap *h, size_t n)
{
    if (n > SLAB_MAX)
        return large_alloc(h, n);
    unsigned class = class_of(h, n);
    size_t size = class_size(class);
    struct slab *s = h->room[class];
    if (!s && !(s = slab_new(h, class)))
        return NULL;
    void *object;
    if (s->free_at) {
        object = object_at(s, s->free_at);
        UNPOISON(object, size);
        memcpy(&s->free_at, object, sizeof s->free_at);
    } else {
        object = object_at(s, sizeof *s + s->touched * size);
        s->touched++;
        h->bytes += size;
    }
    h->used += size;
    if (++s->used == s->capacity)
        list_unlink(&h->room[s->class], s);
    return object;
}

void slab_free(struct slab_heap *h, void *object, size_t n)
{
    size_t size = slab_size(h, object, n);
    h->used -= size;
    if (n > SLAB_MAX) {
        h->bytes -= size;
        h->large--;
        free(object);
        return;
    }
    struct slab *s = slab_of(object, class_of(h, n));
    VERIFY(s->used > 0);
    memcpy(object, &s->free_at, sizeof s->free_at);
    s->free_at = (uint32_t)((uint8_t *)object - (uint8_t *)s);
    POISON(object, size);
    bool was_full = s->used-- == s->capacity;
    if (s->draining) {
        if (s->used == 0 && s->next) { // in the list of thin ones
            list_unlink(&h->thin, s);
            slab_release(h, s);
        }
        return;
    }
    if (was_full)
        list_link(&h->room[s->class], s, true);
    if (s->used == 0) {
        list_unlink(&h->room[s->class], s);
        slab_release(h, s);
    }
}

static const struct slab_heap coarse;

bool slab_same(size_t n, size_t m)
{
    return n <= SLAB_MAX && m <= SLAB_MAX && class_of(&coarse, n) == class_of(&coarse, m);
}

size_t slab_size(const struct slab_heap *h, void *object, size_t n)
{
    if (n <= SLAB_MAX)
        return class_size(class_of(h, n));
    return malloc_usable_size(object) + LARGE_HEADER;
}

size_t slab_usable(void *object, size_t n)
{
    return slab_size(&coarse, object, n);
}

// The thinnest of the first few slabs of a class whose objects fit in the others' room, or NULL.
static struct slab *thinnest(struct slab_heap *h, unsigned class)
{
    struct slab *s = h->room[class];
    struct slab *best = s;
    unsigned room = 0;
    for (unsigned i = 0; s && i < COMPACT_LOOKS; i++) {
        room += (unsigned)(s->capacity - s->used);
        if (s->used < best->used)
            best = s;
        s = s->next;
        if (s == h->room[class])
            break;
    }
    // Its own room does not count, and a slab for a slab would win nothing.
    if (!best || room - (unsigned)(best->capacity - best->used) < best->used)
        return NULL;
    return best;
}

bool slab_compact(struct slab_heap *h, unsigned class, void (*move)(void *arg, void *object),
                  void *arg)
{
    struct slab *s = thinnest(h, class);
    if (!s)
        return false;
    size_t size = class_size(class);
    uint64_t is_free[MAX_OBJECTS / 64] = {0};
    for (uint32_t at = s->free_at; at;) {
        size_t i = (at - sizeof *s) / size;
        is_free[i / 64] |= 1ull << (i % 64);
        UNPOISON(object_at(s, at), sizeof at);
        uint32_t next;
        memcpy(&next, object_at(s, at), sizeof next);
        POISON(object_at(s, at), sizeof at);
        at = next;
    }
    list_unlink(&h->room[s->class], s);
    s->draining = true;
    for (unsigned i = 0; i < s->touched; i++)
        if (!(is_free[i / 64] >> (i % 64) & 1))
            move(arg, object_at(s, sizeof *s + i * size));
    s->draining = false;
    if (s->used) {
        list_link(&h->room[s->class], s,
                  false); // last, so that the next attempt looks at others first
        return false;
    }
    slab_release(h, s);
    return true;
}

// How many slabs of a class to empty, by the number of their objects: the thinnest, as long as the
// rest has room. False: none.
static bool choose_thin(const struct slab_heap *h, unsigned class, uint32_t chosen[MAX_OBJECTS])
{
    const struct slab *s = h->room[class];
    uint32_t slabs[MAX_OBJECTS] = {0};
    uint64_t room = 0, moved = 0;
    do {
        slabs[s->used]++;
        room += (uint64_t)(s->capacity - s->used);
        s = s->next;
    } while (s != h->room[class]);
    memset(chosen, 0, MAX_OBJECTS * sizeof *chosen);
    bool any = false;
    for (unsigned used = 1; used < s->capacity; used++) {
        unsigned own = s->capacity - used;
        for (; slabs[used] && moved + used + own <= room; slabs[used]--) {
            chosen[used]++;
            moved += used;
            room -= own;
            any = true;
        }
    }
    return any;
}

bool slab_thin_begin(struct slab_heap *h)
{
    VERIFY(!h->thin);
    for (unsigned class = 0; class < SLAB_CLASSES; class ++) {
        uint32_t chosen[MAX_OBJECTS];
        if (!h->room[class] || !choose_thin(h, class, chosen))
            continue;
        struct slab *s = h->room[class];
        struct slab *last = s->prev;
        for (bool end = false; !end;) {
            struct slab *next = s->next;
            end = s == last;
            if (chosen[s->used]) {
                chosen[s->used]--;
                list_unlink(&h->room[class], s);
                list_link(&h->thin, s, false);
                s->draining = true;
            }
            s = next;
        }
    }
    return h->thin;
}

bool slab_thin(const struct slab_heap *h, const void *object, size_t n)
{
    return n <= SLAB_MAX && slab_of(object, class_of(h, n))->draining;
}

void slab_thin_end(struct slab_heap *h)
{
    while (h->thin) {
        struct slab *s = h->thin;
        list_unlink(&h->thin, s);
        s->draining = false;
        list_link(&h->room[s->class], s, false);
    }
}
