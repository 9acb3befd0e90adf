// A growable byte buffer with a maximum. Bytes live in [start, end) of `data`: appended at the end,
// consumed from the start. There are always BUF_PADDING readable bytes past `cap` (the JSON parser
// reads ahead). Empty: start == end. Full: a reserve that would pass `max` fails with ERR_TOO_BIG
// and changes nothing. Not thread-safe.
#ifndef VARVE_BASE_BUF_H
#define VARVE_BASE_BUF_H

#include "base/err.h"
#include "base/slice.h"

#define BUF_PADDING 64

struct buf {
    uint8_t *data; // NULL until the first reserve
    size_t start;
    size_t end;
    size_t cap;
    size_t max; // bytes between start and end never exceed this
};

void buf_init(struct buf *b, size_t max);
void buf_release(struct buf *b);
// Makes room for `n` more bytes after end: moves the live bytes down or grows (doubling).
// ERR_TOO_BIG past max, ERR_NO_MEMORY.
MUST_USE enum err buf_reserve_slow(struct buf *b, size_t n);
// Gives memory back when at most `keep` bytes would do for the live bytes.
void buf_shrink(struct buf *b, size_t keep);
MUST_USE enum err buf_append(struct buf *b, const void *p, size_t n);
MUST_USE enum err buf_printf(struct buf *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// One number in Prometheus' text format, with its HELP and TYPE lines.
MUST_USE enum err buf_metric(struct buf *b, const char *name, const char *type, const char *help,
                             uint64_t value);

static inline size_t buf_len(const struct buf *b)
{
    return b->end - b->start;
}
// NULL before the first reserve (C17 does not even allow NULL + 0).
static inline uint8_t *buf_head(const struct buf *b)
{
    return b->data ? b->data + b->start : NULL;
}
static inline uint8_t *buf_tail(const struct buf *b)
{
    return b->data ? b->data + b->end : NULL;
}
static inline struct slice buf_slice(const struct buf *b)
{
    return (struct slice){buf_head(b), buf_len(b)};
}
// Empties and keeps the memory.
static inline void buf_clear(struct buf *b)
{
    b->start = b->end = 0;
}
static inline void buf_consume(struct buf *b, size_t n)
{
    b->start += n;
    if (b->start == b->end)
        b->start = b->end = 0;
}
MUST_USE static inline enum err buf_reserve(struct buf *b, size_t n)
{
    if (b->cap - b->end >= n && b->end - b->start + n <= b->max)
        return ERR_OK;
    return buf_reserve_slow(b, n);
}
// Appends into room reserved before; the caller has checked.
static inline void buf_put(struct buf *b, const void *p, size_t n)
{
    if (n)
        memcpy(b->data + b->end, p, n);
    b->end += n;
}

#endif
