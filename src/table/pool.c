#include "table/pool.h"

#include "base/assert.h"
#include "base/os_mem.h"
#include "table/poison.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#define RUN_BYTES     ((size_t)4 << 20)
#define RUN_WORDS     (RUN_BYTES / 4096 / 64) // of a bitmap with a bit a block of the smallest size
#define IDLE_ALLOWED  ((uint64_t)1 << 20)     // idle bytes that are never worth giving back
#define IDLE_FRACTION 16u                     // beyond that, this part of the bytes in use
#define DROP_RUNS     8u                      // whose idle pages are given back at once
#define HUGE_PAGE     ((size_t)2 << 20)
// From this many bytes in use, new runs of small blocks ask for huge pages: a lookup in RAM costs
// half as much when its address is still in the TLB. Small stores do not, as a huge page is taken
// whole.
#define HUGE_FROM ((uint64_t)32 << 20)

struct pool_run {
    struct pool_run *next, *prev; // circular; see struct pool
    uint8_t *base;
    enum pool_kind kind;
    bool huge;
    unsigned free_count;
    unsigned idle_count;
    uint64_t free[RUN_WORDS]; // block i is free
    uint64_t idle[RUN_WORDS]; // it is free and its pages may still be with us
};

struct pool {
    pthread_mutex_t lock;
    struct pool_run *runs[POOL_KINDS]; // those with free blocks first, full ones last
    uint64_t taken_bytes;
    uint64_t idle_bytes;
};

static unsigned run_blocks(enum pool_kind kind)
{
    return (unsigned)(RUN_BYTES / pool_block_size(kind));
}

struct pool *pool_new(void)
{
    struct pool *p = calloc(1, sizeof *p);
    if (p)
        VERIFY(pthread_mutex_init(&p->lock, NULL) == 0);
    return p;
}

static void run_unlink(struct pool_run **head, struct pool_run *r)
{
    if (*head == r)
        *head = r->next == r ? NULL : r->next;
    r->next->prev = r->prev;
    r->prev->next = r->next;
}

static void run_link(struct pool_run **head, struct pool_run *r, bool first)
{
    if (!*head) {
        r->next = r->prev = r;
        *head = r;
        return;
    }
    r->next = *head;
    r->prev = r->next->prev;
    r->next->prev = r->prev->next = r;
    if (first)
        *head = r;
}

static void run_free(struct pool_run *r)
{
    UNPOISON(r->base, RUN_BYTES);
    os_pages_unmap(r->base, RUN_BYTES);
    free(r);
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    for (unsigned kind = 0; kind < POOL_KINDS; kind++) {
        while (p->runs[kind]) {
            struct pool_run *r = p->runs[kind];
            run_unlink(&p->runs[kind], r);
            run_free(r);
        }
    }
    VERIFY(pthread_mutex_destroy(&p->lock) == 0);
    free(p);
}

static struct pool_run *run_new(enum pool_kind kind, bool huge)
{
    struct pool_run *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->base = os_pages_map(RUN_BYTES, HUGE_PAGE);
    if (!r->base) {
        free(r);
        return NULL;
    }
    r->kind = kind;
    r->huge = huge;
    if (huge)
        os_pages_huge(r->base, RUN_BYTES, true);
    r->free_count = run_blocks(kind);
    for (unsigned i = 0; i < r->free_count; i++)
        r->free[i / 64] |= 1ull << (i % 64);
    return r;
}

// The first set bit of `bits`, which has one.
static unsigned first_bit(const uint64_t bits[RUN_WORDS])
{
    for (unsigned w = 0; w < RUN_WORDS; w++)
        if (bits[w])
            return w * 64 + (unsigned)__builtin_ctzll(bits[w]);
    assert_failed("a run has a free block", __FILE__, __LINE__);
}

static void *take(struct pool *p, enum pool_kind kind, struct pool_run **run)
{
    struct pool_run *r = p->runs[kind];
    if (!r || !r->free_count) {
        r = run_new(kind, kind == POOL_4K && p->taken_bytes >= HUGE_FROM);
        if (!r)
            return NULL;
        run_link(&p->runs[kind], r, true);
    }
    unsigned i = first_bit(r->idle_count ? r->idle : r->free);
    uint64_t bit = 1ull << (i % 64);
    VERIFY(r->free[i / 64] & bit);
    r->free[i / 64] &= ~bit;
    if (r->idle[i / 64] & bit) {
        r->idle[i / 64] &= ~bit;
        r->idle_count--;
        p->idle_bytes -= pool_block_size(kind);
    }
    if (--r->free_count == 0) {
        run_unlink(&p->runs[kind], r);
        run_link(&p->runs[kind], r, false);
    }
    p->taken_bytes += pool_block_size(kind);
    *run = r;
    return r->base + i * pool_block_size(kind);
}

void *pool_take(struct pool *p, enum pool_kind kind, struct pool_run **run)
{
    VERIFY(pthread_mutex_lock(&p->lock) == 0);
    void *block = take(p, kind, run);
    VERIFY(pthread_mutex_unlock(&p->lock) == 0);
    return block;
}

// Gives the pages of a run's idle blocks back, neighbours together.
static void run_drop_idle(struct pool_run *r)
{
    size_t size = pool_block_size(r->kind);
    unsigned count = run_blocks(r->kind);
    if (r->huge && r->idle_count)
        os_pages_huge(r->base, RUN_BYTES, r->huge = false);
    for (unsigned i = 0; i < count && r->idle_count; i++) {
        unsigned end = i;
        for (; end < count && r->idle[end / 64] >> (end % 64) & 1; end++)
            r->idle[end / 64] &= ~(1ull << (end % 64));
        if (end == i)
            continue;
        os_pages_drop(r->base + i * size, (end - i) * size);
        r->idle_count -= end - i;
        i = end;
    }
}

// Of a few runs only: the lock is held meanwhile, and there will be more calls.
static void drop_idle(struct pool *p)
{
    unsigned dropped = 0;
    for (unsigned kind = 0; kind < POOL_KINDS; kind++) {
        struct pool_run *r = p->runs[kind];
        // Full runs have nothing idle and stand last.
        for (; r && r->free_count && dropped < DROP_RUNS; r = r->next) {
            if (r->idle_count) {
                p->idle_bytes -= r->idle_count * pool_block_size(r->kind);
                run_drop_idle(r);
                dropped++;
            }
            if (r->next == p->runs[kind])
                break;
        }
    }
}

static void give(struct pool *p, struct pool_run *r, uint8_t *block)
{
    size_t size = pool_block_size(r->kind);
    size_t off = (size_t)(block - r->base);
    unsigned i = (unsigned)(off / size);
    uint64_t bit = 1ull << (i % 64);
    VERIFY(off < RUN_BYTES && off % size == 0 && !(r->free[i / 64] & bit));
    r->free[i / 64] |= bit;
    r->idle[i / 64] |= bit;
    r->idle_count++;
    p->taken_bytes -= size;
    p->idle_bytes += size;
    struct pool_run **head = &p->runs[r->kind];
    if (r->free_count++ == 0) {
        run_unlink(head, r);
        run_link(head, r, true);
    }
    // One empty run is kept where no other has room, or a store at its edge would map and unmap.
    bool others = (*head != r && (*head)->free_count) || (r->next != r && r->next->free_count);
    if (r->free_count == run_blocks(r->kind) && others) {
        run_unlink(head, r);
        p->idle_bytes -= r->idle_count * size;
        run_free(r);
        return;
    }
    if (p->idle_bytes > IDLE_ALLOWED + p->taken_bytes / IDLE_FRACTION)
        drop_idle(p);
}

void pool_give(struct pool *p, struct pool_run *run, void *block)
{
    VERIFY(pthread_mutex_lock(&p->lock) == 0);
    give(p, run, block);
    VERIFY(pthread_mutex_unlock(&p->lock) == 0);
}

uint64_t pool_idle_bytes(struct pool *p)
{
    VERIFY(pthread_mutex_lock(&p->lock) == 0);
    uint64_t n = p->idle_bytes;
    VERIFY(pthread_mutex_unlock(&p->lock) == 0);
    return n;
}
