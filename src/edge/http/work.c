// The pool of working memory. A request holds a piece only while it runs on its loop's thread, so
// there are at most as many as loops.
#include "base/assert.h"
#include "edge/http/http_int.h"
#include <stdlib.h>

#define ARENA_BLOCK (64u << 10)
// Arena bytes for each byte of a request: a number in an array takes 2 bytes there and 28 here, an
// operation at least 30 there and, with a number and a key_ref, 40 here.
#define ARENA_FACTOR 16u
#define KEEP_OPS     1024u       // operations and
#define KEEP_BLOCK   ARENA_BLOCK // arena bytes, and bytes of ids, kept for the next request

struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t cap;
    _Alignas(16) uint8_t data[];
};

static struct http_work *work_new(const struct http *h)
{
    struct http_work *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->json = json_parser_new(h->o.max_request);
    if (!w->json) {
        free(w);
        return NULL;
    }
    buf_init(&w->ids, WORK_IDS);
    w->arena_max = ARENA_FACTOR * h->o.max_request + ARENA_BLOCK;
    return w;
}

struct http_work *work_get(struct http *h)
{
    pthread_mutex_lock(&h->lock);
    struct http_work *w = h->idle;
    if (w)
        h->idle = w->next;
    pthread_mutex_unlock(&h->lock);
    return w ? w : work_new(h);
}

static void drop_blocks(struct http_work *w, size_t keep)
{
    while (w->blocks && (w->blocks->next || w->blocks->cap > keep)) {
        struct arena_block *b = w->blocks;
        w->blocks = b->next;
        free(b);
    }
    if (w->blocks)
        w->blocks->used = 0;
    w->arena_bytes = w->blocks ? w->blocks->cap : 0;
}

void work_put(struct http *h, struct http_work *w)
{
    drop_blocks(w, KEEP_BLOCK);
    buf_clear(&w->ids);
    buf_shrink(&w->ids, KEEP_BLOCK);
    if (w->cap > KEEP_OPS) {
        free(w->ops);
        w->ops = NULL;
        w->cap = 0;
    }
    pthread_mutex_lock(&h->lock);
    w->next = h->idle;
    h->idle = w;
    pthread_mutex_unlock(&h->lock);
}

void work_free(struct http_work *w)
{
    drop_blocks(w, 0);
    buf_release(&w->ids);
    free(w->ops);
    json_parser_free(w->json);
    free(w);
}

bool work_ops(struct http_work *w, size_t n)
{
    if (n <= w->cap)
        return true;
    VERIFY(n <= LIMIT_TXN_OPS);
    size_t cap = n < KEEP_OPS ? KEEP_OPS : n;
    struct txn_op *ops = malloc(cap * sizeof *ops);
    if (!ops)
        return false;
    free(w->ops);
    w->ops = ops;
    w->cap = cap;
    return true;
}

void *work_alloc(struct http_work *w, size_t n)
{
    n = (n + 15) & ~(size_t)15;
    struct arena_block *b = w->blocks;
    if (!b || b->cap - b->used < n) {
        size_t cap = n > ARENA_BLOCK ? n : ARENA_BLOCK;
        if (w->arena_bytes + cap > w->arena_max)
            return NULL;
        b = malloc(sizeof *b + cap);
        if (!b)
            return NULL;
        *b = (struct arena_block){.next = w->blocks, .cap = cap};
        w->blocks = b;
        w->arena_bytes += cap;
    }
    void *p = b->data + b->used;
    b->used += n;
    return p;
}

void work_trim(struct http_work *w, size_t unused)
{
    w->blocks->used -= unused & ~(size_t)15;
}
