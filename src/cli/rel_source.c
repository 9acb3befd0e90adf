#include "cli/rel_source.h"
#include "base/hash.h"
#include "base/os.h"
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
    BLOCK = 4 << 20, // bytes read at once; a line that is longer is none
    ENDS = 64 << 10, // bytes at either end of a file that tell it from others
    NAMED = 20,      // bad lines that are named
    TURN_US = 1000,  // how soon one thread sees what the other did
};

enum state { EMPTY, FULL };

struct rel_source {
    struct rel_input in;
    struct os *os;
    const char *name;
    int fd; // -1: standard input
    struct rel_text text;
    struct rel_place place;
    uint8_t *block;
    size_t have, taken; // bytes in it, and of them those that were taken
    bool ended;
    bool skipping;  // within a line that is too long
    uint64_t named; // bad lines
    uint64_t *scratch;
    struct rel_batch batches[2];
    _Atomic int states[2];
    _Atomic bool stop;
    pthread_t thread;
    bool started;
    size_t next; // of rel_source_next
    bool given;  // the one before is still the caller's
};

static bool is_stdin(const char *path)
{
    return !path || !strcmp(path, "-");
}

// ---- reading

// Reads into what is free of the block. At the end of the text, its last line gets its end.
static enum err fill(struct rel_source *s, struct errmsg *msg)
{
    size_t got = 0, left = s->have - s->taken;
    memmove(s->block, s->block + s->taken, left);
    s->have = left;
    s->taken = 0;
    enum err e =
        s->fd < 0 ? os_input_read(s->block + left, BLOCK - left, &got)
                  : os_pread(s->os, s->fd, s->block + left, BLOCK - left, s->place.at + left, &got);
    if (e)
        return err_set(msg, e, "%s: %s", s->name, os_last_error());
    s->have += got;
    s->ended = got == 0;
    if (s->ended && left && !s->in.pairs && s->block[left - 1] != '\n')
        s->block[s->have++] = '\n';
    return ERR_OK;
}

static void take(struct rel_source *s, size_t n)
{
    s->taken += n;
    s->place.at += n;
}

// What of the block is whole lines or pairs.
static struct slice whole(const struct rel_source *s)
{
    const uint8_t *p = s->block + s->taken;
    size_t n = s->have - s->taken;
    if (s->in.pairs)
        return slice_of(p, n - n % REL_PAIR);
    const uint8_t *end = n ? memrchr(p, '\n', n) : NULL;
    return slice_of(p, end ? (size_t)(end - p) + 1 : 0);
}

// Counts a bad line, which has been taken. False: it ends the input.
static bool bad(struct rel_source *s, struct rel_batch *b, struct errmsg *msg)
{
    const char *what = s->in.pairs ? "pair" : "line";
    if (!s->in.skip_bad) {
        b->e = err_set(&b->msg, ERR_INVALID, "%s: %s %" PRIu64 ": %s", s->name, what, s->text.line,
                       msg->text);
        return false;
    }
    s->place.bad++;
    if (s->named++ < NAMED &&
        buf_printf(&b->notes, "%s: %s %" PRIu64 ": %s\n", s->name, what, s->text.line, msg->text))
        b->e = err_set(&b->msg, ERR_NO_MEMORY, "out of memory");
    return !b->e;
}

// A block without a whole line: more of it is wanted, or the line is too long. False: the end.
static bool no_line(struct rel_source *s, struct rel_batch *b)
{
    struct errmsg msg;
    size_t n = s->have - s->taken;
    if (s->ended && n == 0)
        return false;
    if (s->skipping) {
        take(s, n);
        n = 0;
    }
    if (s->in.pairs ? !s->ended : n < BLOCK) {
        b->e = fill(s, &b->msg);
        return !b->e;
    }
    s->text.line++;
    (void)err_set(&msg, ERR_INVALID, s->in.pairs ? "the input ends within it" : "it is over 4 MiB");
    if (!bad(s, b, &msg))
        return false; // nor is it taken: another run may skip it
    s->skipping = !s->in.pairs;
    take(s, n);
    return true;
}

// Takes what is whole. False: the batch is full, or the input ends before a bad line.
static bool take_whole(struct rel_source *s, struct rel_batch *b, struct slice text)
{
    struct errmsg msg;
    size_t used;
    if (s->skipping) { // this is the rest of it
        const uint8_t *end = memchr(text.p, '\n', text.n);
        take(s, (size_t)(end - text.p) + 1);
        s->skipping = false;
        return true;
    }
    size_t before = rel_pairs_count(&b->pairs);
    enum rel_took took = rel_text_take(&s->text, text, &b->pairs, &used, &msg);
    s->place.pairs += rel_pairs_count(&b->pairs) - before;
    if (took == REL_TOOK_BAD && !s->in.skip_bad) {            // it stays, for a run that skips it
        const uint8_t *end = memrchr(text.p, '\n', used - 1); // of the line before
        used = end ? (size_t)(end - text.p) + 1 : 0;
    }
    take(s, used);
    return took == REL_TOOK_ALL || (took == REL_TOOK_BAD && bad(s, b, &msg));
}

static void fill_batch(struct rel_source *s, struct rel_batch *b)
{
    bool more = true;
    rel_pairs_clear(&b->pairs);
    buf_clear(&b->notes);
    while (more && !b->last && !atomic_load_explicit(&s->stop, memory_order_relaxed)) {
        struct slice text = whole(s);
        if (text.n)
            more = take_whole(s, b, text);
        else
            b->last = !no_line(s, b);
        b->last = b->last || b->e;
    }
    s->place.line = s->text.line - (b->e == ERR_INVALID);
    b->end = s->place;
}

static void *thread_main(void *arg)
{
    struct rel_source *s = arg;
    for (size_t i = 0;; i ^= 1) {
        struct rel_batch *b = &s->batches[i];
        while (atomic_load(&s->states[i]) == FULL && !atomic_load(&s->stop))
            os_sleep_us(s->os, TURN_US);
        if (atomic_load(&s->stop))
            return NULL;
        fill_batch(s, b);
        rel_pairs_sort(&b->pairs, &s->scratch, s->in.keep_order);
        atomic_store(&s->states[i], FULL);
        if (b->last)
            return NULL;
    }
}

// ---- for the other thread

static enum err init(struct rel_source *s, struct errmsg *msg)
{
    size_t words = s->in.memory / 3 / sizeof(uint64_t);
    s->block = malloc(BLOCK + 1);
    s->scratch = malloc(words * sizeof *s->scratch);
    for (size_t i = 0; i < 2; i++) {
        uint64_t *p = malloc(words * sizeof *p);
        if (p)
            rel_pairs_init(&s->batches[i].pairs, p, words);
        buf_init(&s->batches[i].notes, 1 << 20);
    }
    if (!s->block || !s->scratch || !s->batches[0].pairs.words || !s->batches[1].pairs.words)
        return err_set(msg, ERR_NO_MEMORY, "no memory for batches of %zu bytes", s->in.memory);
    if (is_stdin(s->in.path))
        return ERR_OK;
    enum err e = os_open(s->os, s->in.path, OS_READ, &s->fd);
    if (e)
        s->fd = -1;
    return e ? err_set(msg, e, "%s: %s", s->in.path, os_last_error()) : ERR_OK;
}

enum err rel_source_open(struct rel_source **source, const struct rel_input *in,
                         const struct rel_place *from, struct errmsg *msg)
{
    struct rel_source *s = calloc(1, sizeof *s);
    *source = NULL;
    if (!s)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    s->in = *in;
    s->os = os_real();
    s->name = is_stdin(in->path) ? "standard input" : in->path;
    s->fd = -1;
    s->place = *from;
    s->text = (struct rel_text){
        .pairs = in->pairs, .header = in->header && from->at == 0, .line = from->line};
    enum err e = init(s, msg);
    if (!e && pthread_create(&s->thread, NULL, thread_main, s))
        e = err_set(msg, ERR_NO_MEMORY, "cannot start a thread");
    s->started = !e;
    if (e)
        rel_source_close(s);
    else
        *source = s;
    return e;
}

const struct rel_batch *rel_source_next(struct rel_source *s)
{
    if (s->given) {
        atomic_store(&s->states[s->next], EMPTY);
        s->next ^= 1;
        s->given = false;
    }
    if (atomic_load(&s->states[s->next]) != FULL)
        return NULL;
    s->given = true;
    return &s->batches[s->next];
}

void rel_source_close(struct rel_source *s)
{
    if (!s)
        return;
    atomic_store(&s->stop, true);
    if (s->started)
        pthread_join(s->thread, NULL);
    if (s->fd >= 0)
        (void)!os_close(s->os, s->fd);
    for (size_t i = 0; i < 2; i++) {
        free(s->batches[i].pairs.words);
        buf_release(&s->batches[i].notes);
    }
    free(s->scratch);
    free(s->block);
    free(s);
}

enum err rel_input_identity(const char *path, uint64_t *size, uint64_t *identity,
                            struct errmsg *msg)
{
    struct os *os = os_real();
    uint8_t bytes[8];
    size_t got = 0;
    int fd;
    *size = 0;
    if (is_stdin(path))
        return ERR_UNSUPPORTED;
    enum err e = os_open(os, path, OS_READ, &fd);
    if (e)
        return err_set(msg, e, "%s: %s", path, os_last_error());
    uint8_t *block = malloc(ENDS);
    bool file = !os_size(os, fd, size) && *size > 0;
    if (!block)
        e = err_set(msg, ERR_NO_MEMORY, "out of memory");
    else if (file)
        e = os_pread(os, fd, block, ENDS, 0, &got);
    store64(bytes, *size);
    *identity = hash64(slice_of(bytes, sizeof bytes), 0);
    if (block && file && !e) {
        *identity = hash64(slice_of(block, got), *identity);
        e = os_pread(os, fd, block, ENDS, *size > ENDS ? *size - ENDS : 0, &got);
        *identity = hash64(slice_of(block, got), *identity);
    }
    if (e && e != ERR_NO_MEMORY)
        e = err_set(msg, e, "%s: %s", path, os_last_error());
    free(block);
    (void)!os_close(os, fd);
    return e ? e : file ? ERR_OK : ERR_UNSUPPORTED;
}
