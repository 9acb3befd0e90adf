// Closing the session of another writer: step 2 of session.c, which says why it is so.
#include "archive/session_int.h"
#include "archive/sum.h"
#include "base/assert.h"
#include "base/hash.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define CLOSURE   "closed "
#define UNSETTLED "unsettled_"
#define NOTE_MAX  40u // bytes of a note's last part, with its end

// A session being closed.
struct closing {
    struct session *s;
    uint64_t id;
    const char *dir; // the log that it is closed for
    struct buf text; // of an intent
    // As listed last.
    bool open;
    bool notes;     // of what is unsettled
    uint64_t *seqs; // rising
    size_t n, cap;
    enum err e;
    // Of `dir`, what is under way could not be settled.
    enum err own;
    struct errmsg why;
    bool others; // nor, perhaps, of other logs
};

MUST_USE static enum err no_memory(struct errmsg *msg)
{
    return err_set(msg, ERR_NO_MEMORY, "out of memory");
}

static bool known_closed(const struct session *s, uint64_t id)
{
    for (size_t i = 0; i < s->closed_n && i < SESSION_CLOSED; i++)
        if (s->closed[i] == id)
            return true;
    return false;
}

// ---- what there is of it

// A decimal number of exactly 20 digits.
static bool number_of(const char *text, uint64_t *n)
{
    struct slice s = slice_str(text);
    u128 wide;
    if (s.n != 20 || !u128_parse(s, &wide) || wide > UINT64_MAX)
        return false;
    *n = (uint64_t)wide;
    return true;
}

static bool take_listed(void *arg, const char *name, uint64_t size)
{
    struct closing *k = arg;
    const char *last = strrchr(name, '/');
    uint64_t seq;
    (void)size;
    if (!last)
        return true;
    if (!strcmp(last + 1, "open"))
        k->open = true;
    if (slice_starts(slice_str(last + 1), slice_str(UNSETTLED)))
        k->notes = true;
    if (!number_of(last + 1, &seq))
        return true;
    if (k->n == k->cap) {
        size_t cap = k->cap ? k->cap * 2 : 8;
        uint64_t *seqs = realloc(k->seqs, cap * sizeof *seqs);
        if (!seqs) {
            k->e = ERR_NO_MEMORY;
            return false;
        }
        k->seqs = seqs;
        k->cap = cap;
    }
    k->seqs[k->n++] = seq;
    return true;
}

static enum err list_session(struct closing *k, struct errmsg *msg)
{
    char prefix[NAME_FULL_MAX];
    session_object(k->id, "", prefix);
    k->open = k->notes = false;
    k->n = 0;
    k->e = ERR_OK;
    enum err e = object_list(k->s->store, prefix, NULL, 0, take_listed, k, msg);
    return e ? e : k->e ? no_memory(msg) : ERR_OK;
}

// Reads number `seq` into k->text. *closure: it is one.
static enum err read_number(struct closing *k, uint64_t seq, bool *closure, struct errmsg *msg)
{
    char name[NAME_FULL_MAX];
    session_numbered(k->id, seq, name);
    buf_clear(&k->text);
    enum err e = object_get(k->s->store, name, &k->text, msg);
    // An intent has names of objects, which have a '/', and a keyspace may have any name.
    *closure = !e && slice_starts(buf_slice(&k->text), slice_str(CLOSURE)) &&
               !memchr(buf_head(&k->text), '/', buf_len(&k->text));
    return e;
}

// ---- notes of what is unsettled

// True if the object is one of the log at hand.
static bool is_own(const struct closing *k, const char *name)
{
    size_t n = strlen(k->dir);
    return !strncmp(name, k->dir, n) && name[n] == '/' && !strchr(name + n + 1, '/');
}

// The beginning of the notes' names of a log, so that its own are found among many.
static void note_prefix(const char *dir, size_t dir_size, char text[NOTE_MAX])
{
    snprintf(text, NOTE_MAX, UNSETTLED "%08" PRIx32 "_", crc32c(0, dir, dir_size));
}

// Notes the names of those calls that failed; a session's closers give the same number to the same
// name.
static enum err put_notes(struct closing *k, const struct object_call *failed, size_t n,
                          struct errmsg *msg)
{
    struct object_call *calls = calloc(n, sizeof *calls);
    struct slice *texts = calloc(n, sizeof *texts);
    char(*names)[sizeof NAME_WRITERS + 17 + NOTE_MAX] = calloc(n, sizeof *names);
    enum err e = calls && texts && names ? ERR_OK : no_memory(msg);
    size_t m = 0;
    for (size_t i = 0; i < n && !e; i++) {
        char last[NOTE_MAX], name[NAME_FULL_MAX];
        if (!failed[i].e || failed[i].e == ERR_EXISTS)
            continue;
        texts[m] = slice_str(failed[i].name);
        const char *slash = strrchr(failed[i].name, '/');
        note_prefix(failed[i].name, slash ? (size_t)(slash - failed[i].name) : texts[m].n, last);
        snprintf(last + strlen(last), sizeof last - strlen(last), "%010zu", i);
        session_object(k->id, last, name);
        VERIFY(strlen(name) < sizeof names[m]);
        memcpy(names[m], name, strlen(name) + 1);
        calls[m] = (struct object_call){
            .op = OBJECT_PUT, .name = names[m], .parts = &texts[m], .count = 1};
        m++;
    }
    if (!e)
        e = object_run(k->s->store, calls, m);
    for (size_t i = 0; i < m; i++)
        if (calls[i].e) {
            e = err_set(msg, calls[i].e, "%s", calls[i].msg.text);
            break;
        }
    free(calls);
    free(texts);
    free(names);
    return e;
}

// ---- fences

static struct object_call fence_call(const char *name)
{
    // With a checksum, so that data cut to 0 bytes can be told from a fence.
    return (struct object_call){.op = OBJECT_PUT_ABSENT, .name = name, .sum = sum_of(NULL, 0)};
}

static void take_failure(struct closing *k, const struct object_call *c)
{
    if (!is_own(k, c->name)) {
        k->others = true;
    } else if (!k->own) {
        k->own = c->e;
        k->why = c->msg;
    }
}

// Puts fences at the names, one a line, of the intent in k->text, which is changed. Where that
// fails the name is noted.
static enum err fence_names(struct closing *k, struct errmsg *msg)
{
    size_t n = 0, at = 0, failed = 0;
    struct buf *intent = &k->text;
    char *text = (char *)buf_head(intent);
    for (size_t i = 0; i < buf_len(intent); i++)
        n += text[i] == '\n';
    struct object_call *calls = calloc(n + 1, sizeof *calls);
    if (!calls)
        return no_memory(msg);
    for (size_t i = 0; i < n; i++) {
        char *end = memchr(text + at, '\n', buf_len(intent) - at);
        *end = 0;
        calls[i] = fence_call(text + at);
        at = (size_t)(end + 1 - text);
    }
    ERR_IGNORE(object_run(k->s->store, calls, n)); // each call tells
    enum err e = ERR_OK;
    for (size_t i = 0; i < n && !e; i++) {
        if (!calls[i].e || calls[i].e == ERR_EXISTS)
            continue;
        failed++;
        take_failure(k, &calls[i]);
        if (calls[i].e == ERR_CLOSED || calls[i].e == ERR_NO_MEMORY) // of this process
            e = err_set(msg, calls[i].e, "%s", calls[i].msg.text);
    }
    if (!e && failed)
        e = put_notes(k, calls, n, msg);
    free(calls);
    return e;
}

struct noted {
    char (*names)[NOTE_MAX];
    size_t n, cap;
    char own[NOTE_MAX]; // the beginning of those of the log at hand
    bool others;
    enum err e;
};

static bool take_note(void *arg, const char *name, uint64_t size)
{
    struct noted *l = arg;
    const char *last = strrchr(name, '/');
    (void)size;
    if (!last || strlen(last + 1) >= NOTE_MAX)
        return true;
    if (strncmp(last + 1, l->own, strlen(l->own)) != 0) {
        l->others = true;
        return true;
    }
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        char(*names)[NOTE_MAX] = realloc(l->names, cap * sizeof *names);
        if (!names) {
            l->e = ERR_NO_MEMORY;
            return false;
        }
        l->names = names;
        l->cap = cap;
    }
    snprintf(l->names[l->n++], NOTE_MAX, "%s", last + 1);
    return true;
}

// Settles what one note says, if it is of the log at hand, and deletes it.
static enum err settle_note(struct closing *k, const char *last, struct errmsg *msg)
{
    char name[NAME_FULL_MAX], text[NAME_FULL_MAX];
    struct buf b;
    session_object(k->id, last, name);
    buf_init(&b, sizeof text - 1);
    enum err e = object_get(k->s->store, name, &b, msg);
    snprintf(text, sizeof text, "%.*s", (int)buf_len(&b), e ? "" : (const char *)buf_head(&b));
    buf_release(&b);
    if (e)
        return e == ERR_MISSING ? ERR_OK : e; // another one has settled it
    struct object_call fence = fence_call(text);
    if (!is_own(k, text)) { // by chance it has the same sum
        k->others = true;
        return ERR_OK;
    }
    e = object_run(k->s->store, &fence, 1);
    if (e && e != ERR_EXISTS) {
        take_failure(k, &fence);
        return ERR_OK;
    }
    return object_delete(k->s->store, name, msg);
}

// Settles what is noted of the log at hand.
static enum err settle_notes(struct closing *k, struct errmsg *msg)
{
    char prefix[NAME_FULL_MAX];
    struct noted l = {.names = NULL};
    note_prefix(k->dir, strlen(k->dir), l.own);
    session_object(k->id, UNSETTLED, prefix);
    enum err e = object_list(k->s->store, prefix, NULL, 0, take_note, &l, msg);
    e = e ? e : l.e ? no_memory(msg) : ERR_OK;
    for (size_t i = 0; i < l.n && !e && !k->own; i++)
        e = settle_note(k, l.names[i], msg);
    k->others = k->others || l.others;
    free(l.names);
    return e;
}

// ---- closing

// Deletes the session's record, then everything else listed, but for notes.
static enum err sweep(struct closing *k, struct errmsg *msg)
{
    char name[NAME_FULL_MAX];
    enum err e = ERR_OK;
    session_object(k->id, "open", name);
    if (k->open)
        e = object_delete(k->s->store, name, msg);
    for (size_t i = 0; i < k->n && !e; i++) {
        session_numbered(k->id, k->seqs[i], name);
        e = object_delete(k->s->store, name, msg);
    }
    return e;
}

// Step 2c: the last intent is settled, or noted.
static enum err settle(struct closing *k, struct errmsg *msg)
{
    enum err e = ERR_OK;
    bool closure = true;
    for (size_t i = k->n; i-- > 0 && closure && !e;) {
        e = read_number(k, k->seqs[i], &closure, msg);
        if (!e && !closure)
            e = fence_names(k, msg);
    }
    return e;
}

// One round of step 2. *done: the session is closed. ERR_MISSING: somebody else was at it too.
static enum err close_round(struct closing *k, bool *done, struct errmsg *msg)
{
    char name[NAME_FULL_MAX], closure[64];
    bool closed = false;
    enum err e = list_session(k, msg);
    if (e)
        return e;
    *done = !k->open;
    if (!k->open) {
        // Listed again: that listing may have begun before notes were put and ended after the
        // record went.
        e = settle_notes(k, msg);
        return e ? e : sweep(k, msg);
    }
    uint64_t last = k->n ? k->seqs[k->n - 1] : 0;
    if (last) {
        e = read_number(k, last, &closed, msg);
        if (e)
            return e;
    }
    if (!closed) {
        session_numbered(k->id, last + 1, name);
        snprintf(closure, sizeof closure, CLOSURE "by %016" PRIx64 "\n", k->s->id);
        e = session_put_mine(k->s->store, name, slice_str(closure), msg);
        return e == ERR_EXISTS ? ERR_OK : e; // listed and looked at again in any case
    }
    e = settle(k, msg);
    if (!e && k->notes && !k->own) // of one who was at it before
        e = settle_notes(k, msg);
    e = e ? e : sweep(k, msg);
    *done = !e;
    return e;
}

enum err session_close_other(struct session *s, uint64_t id, const char *dir, bool *unsettled,
                             struct errmsg *msg)
{
    struct closing k = {.s = s, .id = id, .dir = dir};
    enum err e = ERR_OK;
    bool done = id == 0 || id == s->id || known_closed(s, id);
    bool known = done;
    buf_init(&k.text, SESSION_INTENT_MAX);
    for (unsigned i = 0; i < SESSION_ROUNDS && !done && (!e || e == ERR_MISSING); i++)
        e = close_round(&k, &done, msg);
    if (!e && !done)
        e = err_set(msg, ERR_AGAIN, "another writer goes on writing while its log is taken over");
    if (!e && !known && !k.own && !k.others)
        s->closed[s->closed_n++ % SESSION_CLOSED] = id;
    *unsettled = !e && k.own;
    if (*unsettled)
        e = err_set(msg, k.own, "%s", k.why.text);
    buf_release(&k.text);
    free(k.seqs);
    return e;
}
