#include "base/buf.h"
#include "base/assert.h"
#include <inttypes.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

// A new block is never smaller, except where max or a caller's `keep` is.
#define BUF_FIRST 256

void buf_init(struct buf *b, size_t max)
{
    VERIFY(max <= SIZE_MAX / 4); // so that doubling cannot wrap
    *b = (struct buf){.max = max};
}

void buf_release(struct buf *b)
{
    free(b->data);
    buf_init(b, b->max);
}

// Moves the live bytes to the start of a block of `cap` bytes; false (and nothing changed) when
// memory is out.
static bool buf_move_to_new(struct buf *b, size_t cap)
{
    size_t len = buf_len(b);
    VERIFY(len <= cap);
    uint8_t *data = malloc(cap + BUF_PADDING);
    if (!data)
        return false;
    if (len)
        memcpy(data, buf_head(b), len);
    memset(data + cap, 0, BUF_PADDING);
    free(b->data);
    b->data = data;
    b->start = 0;
    b->end = len;
    b->cap = cap;
    return true;
}

enum err buf_reserve_slow(struct buf *b, size_t n)
{
    size_t len = buf_len(b);
    VERIFY(len <= b->max);
    if (n > b->max - len)
        return ERR_TOO_BIG;
    if (b->cap - b->end >= n)
        return ERR_OK;
    // Moving down costs `len`; it is paid for by the bytes consumed before, when those are as many.
    // A block that cannot grow any more has no choice.
    if (b->cap - len >= n && (b->start >= len || b->cap == b->max)) {
        memmove(b->data, buf_head(b), len);
        b->start = 0;
        b->end = len;
        return ERR_OK;
    }
    size_t cap = b->cap ? b->cap * 2 : BUF_FIRST;
    if (cap < len + n)
        cap = len + n;
    if (cap > b->max)
        cap = b->max;
    return buf_move_to_new(b, cap) ? ERR_OK : ERR_NO_MEMORY;
}

void buf_shrink(struct buf *b, size_t keep)
{
    if (b->cap <= keep || buf_len(b) > keep)
        return;
    if (keep == 0)
        buf_release(b);
    else
        (void)buf_move_to_new(b, keep); // without memory for the smaller block it stays as it is
}

enum err buf_append(struct buf *b, const void *p, size_t n)
{
    enum err e = buf_reserve(b, n);
    if (e == ERR_OK)
        buf_put(b, p, n);
    return e;
}

enum err buf_printf(struct buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    // The terminating NUL falls into the padding, so all of [end, cap) is for text.
    size_t room = b->data ? b->cap - b->end : 0;
    int n = vsnprintf(b->data ? (char *)buf_tail(b) : NULL, b->data ? room + 1 : 0, format, args);
    va_end(args);
    enum err e = n < 0 ? ERR_INVALID : buf_reserve(b, (size_t)n);
    if (e == ERR_OK && (size_t)n > room)
        (void)vsnprintf((char *)buf_tail(b), (size_t)n + 1, format, again);
    va_end(again);
    if (e == ERR_OK)
        b->end += (size_t)n;
    return e;
}

enum err buf_metric(struct buf *b, const char *name, const char *type, const char *help,
                    uint64_t value)
{
    return buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type,
                      name, value);
}
