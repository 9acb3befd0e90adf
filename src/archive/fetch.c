// The reader's objects: fetched once, checked once, and fetched ahead in parallel. An object never
// changes under its name, so what is kept needs no asking. Memory of objects that were passed is
// used again for the next ones: fresh pages cost as much as copying what goes into them.
#include "archive/reader_int.h"
#include "archive/sum.h"
#include <stdlib.h>

enum { ROUND = 64 << 10 }; // blocks of larger objects are multiples, so that they serve others too

static struct fetched *find(const struct archive_reader *r, const char *dir, const struct name *n)
{
    size_t dir_size = strlen(dir);
    for (size_t i = 0; i < r->objects_n; i++) {
        struct fetched *f = r->objects[i];
        if (name_equal(&f->name, n) && !strncmp(f->full, dir, dir_size) && f->full[dir_size] == '/')
            return f;
    }
    return NULL;
}

// A block for an object of `size` bytes and one more, so that one that is too long is seen to be.
// ERR_NO_MEMORY.
static enum err take_block(struct archive_reader *r, struct buf *b, uint64_t size)
{
    size_t need = size + 1;
    if (need > ROUND)
        need = (need + ROUND - 1) / ROUND * ROUND;
    for (size_t i = r->spare_n; i-- > 0;) {                       // the last one is the warmest
        if (r->spare[i].cap < need || r->spare[i].cap / 2 > need) // the name's size is counted
            continue;
        *b = r->spare[i];
        b->max = need;
        buf_clear(b);
        r->spare_bytes -= b->cap;
        r->spare[i] = r->spare[--r->spare_n];
        return ERR_OK;
    }
    buf_init(b, need);
    return buf_reserve(b, need);
}

// Keeps the block for another object, if there is room for it.
static void give_block(struct archive_reader *r, struct buf *b)
{
    bool keep = r->spare_n < READER_SPARE && b->cap &&
                r->fetching + r->spare_bytes + b->cap <= r->options.ahead_bytes;
    if (!keep) {
        buf_release(b);
        return;
    }
    r->spare_bytes += b->cap;
    r->spare[r->spare_n++] = *b;
}

static void drop_spare(struct archive_reader *r)
{
    while (r->spare_n)
        buf_release(&r->spare[--r->spare_n]);
    r->spare_bytes = 0;
}

static void drop(struct archive_reader *r, size_t i)
{
    struct fetched *f = r->objects[i];
    if (!f->waited) {
        object_cancel(r->store, &f->call);
        ERR_IGNORE(object_wait(r->store, &f->call)); // nobody wants it
    }
    r->fetching -= f->name.size;
    give_block(r, &f->bytes);
    free(f);
    r->objects[i] = r->objects[--r->objects_n];
}

static void drop_this(struct archive_reader *r, const struct fetched *f)
{
    for (size_t i = 0; i < r->objects_n; i++)
        if (r->objects[i] == f) {
            drop(r, i);
            return;
        }
}

void fetch_release(struct archive_reader *r)
{
    while (r->objects_n)
        drop(r, r->objects_n - 1);
    drop_spare(r);
    free(r->objects);
}

void fetch_begin(struct archive_reader *r)
{
    for (size_t i = 0; i < r->objects_n; i++)
        r->objects[i]->pinned = false;
    // What a reading has passed: not used in the last two calls, nor fetched for the next.
    for (size_t i = r->objects_n; i-- > 0;)
        if (r->objects[i]->used + 2 < r->call || r->objects_n > 2 * r->options.ahead + 8)
            drop(r, i);
}

static struct fetched *begin(struct archive_reader *r, const char *dir, const struct name *n)
{
    if (r->objects_n == r->objects_cap) {
        size_t cap = r->objects_cap ? r->objects_cap * 2 : 32;
        struct fetched **v = realloc(r->objects, cap * sizeof(*v));
        if (!v)
            return NULL;
        r->objects = v;
        r->objects_cap = cap;
    }
    struct fetched *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    f->name = *n;
    f->used = r->call;
    data_full_name(dir, n, f->full);
    if (r->fetching + r->spare_bytes + n->size > r->options.ahead_bytes)
        drop_spare(r);
    if (take_block(r, &f->bytes, n->size)) {
        free(f);
        return NULL;
    }
    f->call = (struct object_call){.op = OBJECT_GET, .name = f->full, .out = &f->bytes};
    r->objects[r->objects_n++] = f;
    r->fetching += n->size;
    object_start(r->store, &f->call);
    return f;
}

void fetch_ahead(struct archive_reader *r, const char *dir, const struct name *n)
{
    struct fetched *f = find(r, dir, n);
    if (f)
        f->used = r->call;
    else if (r->fetching + n->size <= r->options.ahead_bytes)
        (void)begin(r, dir, n); // it is fetched when it is read, then
}

// The checksum first, where the size is right: it goes through the bytes faster than they come from
// memory, and leaves them near for the walk along the records.
static enum err check(const struct fetched *f, const char *dir, struct errmsg *msg)
{
    struct slice bytes = buf_slice(&f->bytes);
    enum err e = bytes.n == f->name.size ? sum_check(&f->call, bytes, msg) : ERR_OK;
    return e ? e : data_check(dir, &f->name, bytes, NULL, NULL, msg);
}

enum err fetch_get(struct archive_reader *r, const char *dir, const struct name *n,
                   struct slice *bytes, struct errmsg *msg)
{
    struct fetched *f = find(r, dir, n);
    f = f ? f : begin(r, dir, n);
    if (!f)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    if (!f->waited) {
        ERR_IGNORE(object_wait(r->store, &f->call)); // it is in the call
        f->waited = true;
    }
    enum err e = f->call.e;
    if (e == ERR_TOO_BIG)
        e = data_too_long(dir, n, msg);
    else if (e)
        e = err_set(msg, e, "%s", f->call.msg.text);
    else if (!f->checked)
        e = check(f, dir, msg);
    if (e) {
        drop_this(r, f);
        return e;
    }
    f->checked = f->pinned = true;
    f->used = r->call;
    *bytes = buf_slice(&f->bytes);
    return ERR_OK;
}
