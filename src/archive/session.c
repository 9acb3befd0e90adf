// Fencing: how two writers of one log cannot both succeed, with nothing but put, put_absent, list
// and delete. A writer may be stopped between any two calls for any time, and an answer may be
// lost.
//
// Objects:
//     ~writers/{id}/open          the session `id`, 16 hex digits, random
//     ~writers/{id}/{seq}         20 digits: its intent number `seq`, names of data objects, a line
//                                 each; or the *closure* by another session, "closed ..."
//     {log}/epoch_{epoch}         20 digits: a claim, the id of a session
// and fences: data objects of 0 bytes.
//
// A session begins with its record (before its first claim). To take a log, a writer W
//  1. puts a claim with put_absent, at a number above all that it has seen;
//  2. lists the claims. A higher one: W has lost. For each lower one, W closes its session V:
//     a. lists V's objects. No record: V is closed, and all of it is settled;
//     b. puts a closure at V's next number with put_absent, and lists again: it holds if it is the
//        highest. If V was faster, again from a. From now on V cannot intend anything;
//     c. puts a fence with put_absent at each name in V's last intent. Where the data is there
//        already the put fails, and the data stands; elsewhere V's put of it will fail;
//     d. deletes V's record first, then the rest.
//  3. lists the log, whose end is now settled, and deletes the lower claims.
// To append, W
//  4. puts an intent with put_absent at its next number. It is there already, and not the same: W
//  is
//     fenced. (The same: an answer had been lost.)
//  5. looks for its record. Gone: W is fenced, and its intent fell into what was cleaned up;
//  6. puts the data with put_absent at the names intended. Something is there: if it is the same
//     bytes, an answer had been lost; else it is a fence, and W is fenced;
//  7. looks for its record again. Gone: W is fenced, and of what it put that counts which the log
//     shows: a fence may have been cleaned up before the put of 6, which then made a stray;
//  8. deletes the intent before this one (during 6), and acknowledges.
// To trim a log (archive/trim.c) it does 4 and 5 with the name of a begin marker, which has no
// bytes, and puts that with put_absent. A fence at that name (2c) is the marker: so whoever takes
// over either has the marker there before it lists the log, or prevents it. What W deletes then
// is not of the log for anybody, fenced or not, and no look at its record is needed.
//
// Why a fenced writer writes nothing: its put of data comes after its intent and the look at its
// record. Whoever takes over closes it first. If the closure came before the intent, 4 or 5 fails:
// 5 because the record goes before the closure does. If it came after, the taker finds the intent
// (it is the last one, which is deleted only after the next) and fences what is not there yet. When
// fences may be cleaned up is said in archive/tiles.h.
//
// Why the claims need not be kept: a session that may still write a log has a claim there, unless
// that was deleted by one who had closed it. One taker sees the other, as both list after they put;
// the lower gives way.
//
// Claim number 1 stays for ever, so that whoever gets it is the first, and a number is used once.
// To let a log go, W makes its claim nobody's (id 0). Should that come late, after the claim was
// overcome, it changes nothing: all that W had put is settled.
//
// What remains: of a log its first and its last claim; of a session that ended well nothing; of one
// that did not, its record and two objects, until the next claim of any of its logs.
#include "archive/session.h"
#include "archive/sum.h"
#include "base/assert.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TRIES = 4,            // of a put whose answer was lost
    ROUNDS = 64,          // of closing a session that goes on writing, of claiming
    CLOSED_KEPT = 256,    // sessions known to be closed
    INTENT_MAX = 64 << 20 // bytes
};

MUST_USE static enum err no_memory(struct errmsg *msg)
{
    return err_set(msg, ERR_NO_MEMORY, "out of memory");
}

enum err session_init(struct session *s, struct object_store *store, struct os *os)
{
    *s = (struct session){.store = store, .os = os};
    os_random(os, &s->id, sizeof s->id);
    s->closed = calloc(CLOSED_KEPT, sizeof *s->closed);
    return s->closed ? ERR_OK : ERR_NO_MEMORY;
}

enum err session_break(struct session *s, enum err e, const struct errmsg *why)
{
    if (!s->broken) {
        s->broken = e;
        s->why = *why;
    }
    return e;
}

enum err session_state(const struct session *s, struct errmsg *msg)
{
    return s->broken ? err_set(msg, s->broken, "%s", s->why.text) : ERR_OK;
}

static void object_of(uint64_t id, const char *what, char name[NAME_FULL_MAX])
{
    snprintf(name, NAME_FULL_MAX, NAME_WRITERS "%016" PRIx64 "/%s", id, what);
}

static void numbered(uint64_t id, uint64_t seq, char name[NAME_FULL_MAX])
{
    char digits[24];
    snprintf(digits, sizeof digits, "%020" PRIu64, seq);
    object_of(id, digits, name);
}

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

// put_absent that knows its own bytes: ERR_EXISTS only if there is something else.
static enum err put_mine(struct object_store *store, const char *name, struct slice bytes,
                         struct errmsg *msg)
{
    enum err e = ERR_NETWORK;
    for (unsigned i = 0; i < TRIES && e == ERR_NETWORK; i++)
        e = object_put_absent(store, name, &bytes, 1, msg);
    if (e != ERR_EXISTS)
        return e;
    struct buf found;
    buf_init(&found, INTENT_MAX);
    e = object_get(store, name, &found, msg);
    if (!e && !slice_equal(buf_slice(&found), bytes))
        e = err_set(msg, ERR_EXISTS, "%s is there already", name);
    if (e == ERR_MISSING) // gone again: it was not ours to lose
        e = err_set(msg, ERR_EXISTS, "%s was there and went", name);
    buf_release(&found);
    return e;
}

static enum err ensure_open(struct session *s, struct errmsg *msg)
{
    char name[NAME_FULL_MAX];
    if (s->open)
        return ERR_OK;
    object_of(s->id, "open", name);
    enum err e = put_mine(s->store, name, slice_str(name), msg);
    s->open = e == ERR_OK;
    return e;
}

void session_release(struct session *s)
{
    char name[NAME_FULL_MAX];
    struct errmsg msg;
    // What is left behind is cleaned up by the next claim of one of its logs.
    if (s->open && !s->broken) {
        object_of(s->id, "open", name);
        enum err e = object_delete(s->store, name, &msg);
        numbered(s->id, s->seq, name);
        if (!e && s->seq)
            ERR_IGNORE(object_delete(s->store, name, &msg));
    }
    free(s->closed);
    s->closed = NULL;
}

// Another one has taken a log over.
static enum err fenced(struct session *s, struct errmsg *msg)
{
    struct errmsg m;
    err_set(&m, ERR_CONFLICT,
            "fenced: another writer has taken over a log of this one; close it, and open it again "
            "if this one shall write");
    session_break(s, ERR_CONFLICT, &m);
    return err_set(msg, ERR_CONFLICT, "%s", m.text);
}

// ---- closing another session

static bool known_closed(const struct session *s, uint64_t id)
{
    for (size_t i = 0; i < s->closed_n && i < CLOSED_KEPT; i++)
        if (s->closed[i] == id)
            return true;
    return false;
}

struct listed {
    bool open;
    uint64_t *seqs; // rising
    size_t n, cap;
    enum err e;
};

static bool take_listed(void *arg, const char *name, uint64_t size)
{
    struct listed *l = arg;
    const char *last = strrchr(name, '/');
    uint64_t seq;
    (void)size;
    if (!last)
        return true;
    if (!strcmp(last + 1, "open"))
        l->open = true;
    if (!number_of(last + 1, &seq))
        return true;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 8;
        uint64_t *seqs = realloc(l->seqs, cap * sizeof *seqs);
        if (!seqs) {
            l->e = ERR_NO_MEMORY;
            return false;
        }
        l->seqs = seqs;
        l->cap = cap;
    }
    l->seqs[l->n++] = seq;
    return true;
}

static enum err list_session(struct session *s, uint64_t id, struct listed *l, struct errmsg *msg)
{
    char prefix[NAME_FULL_MAX];
    object_of(id, "", prefix);
    l->open = false;
    l->n = 0;
    l->e = ERR_OK;
    enum err e = object_list(s->store, prefix, NULL, 0, take_listed, l, msg);
    return e ? e : l->e ? no_memory(msg) : ERR_OK;
}

#define CLOSURE "closed "

// Reads number `seq` of a session into `out`. *closure: it is one.
static enum err read_number(struct session *s, uint64_t id, uint64_t seq, struct buf *out,
                            bool *closure, struct errmsg *msg)
{
    char name[NAME_FULL_MAX];
    numbered(id, seq, name);
    buf_clear(out);
    enum err e = object_get(s->store, name, out, msg);
    // An intent has names of objects, which have a '/', and a keyspace may have any name.
    *closure = !e && slice_starts(buf_slice(out), slice_str(CLOSURE)) &&
               !memchr(buf_head(out), '/', buf_len(out));
    return e;
}

// Puts fences at the names, one a line, of an intent; its memory is changed.
static enum err fence_names(struct session *s, struct buf *intent, struct errmsg *msg)
{
    size_t n = 0, at = 0;
    char *text = (char *)buf_head(intent);
    for (size_t i = 0; i < buf_len(intent); i++)
        n += text[i] == '\n';
    struct object_call *calls = calloc(n + 1, sizeof *calls);
    if (!calls)
        return no_memory(msg);
    for (size_t i = 0; i < n; i++) {
        char *end = memchr(text + at, '\n', buf_len(intent) - at);
        *end = 0;
        // With a checksum, so that data cut to 0 bytes can be told from a fence.
        calls[i] = (struct object_call){
            .op = OBJECT_PUT_ABSENT, .name = text + at, .sum = sum_of(NULL, 0)};
        at = (size_t)(end + 1 - text);
    }
    ERR_IGNORE(object_run(s->store, calls, n)); // each call tells
    enum err e = ERR_OK;
    for (size_t i = 0; i < n && !e; i++)
        if (calls[i].e && calls[i].e != ERR_EXISTS)
            e = err_set(msg, calls[i].e, "%s", calls[i].msg.text);
    free(calls);
    return e;
}

// Deletes the session's record, then everything else listed.
static enum err sweep(struct session *s, uint64_t id, const struct listed *l, struct errmsg *msg)
{
    char name[NAME_FULL_MAX];
    enum err e = ERR_OK;
    object_of(id, "open", name);
    if (l->open)
        e = object_delete(s->store, name, msg);
    for (size_t i = 0; i < l->n && !e; i++) {
        numbered(id, l->seqs[i], name);
        e = object_delete(s->store, name, msg);
    }
    return e;
}

// Step 2c: the last intent is settled.
static enum err settle(struct session *s, uint64_t id, const struct listed *l, struct buf *text,
                       struct errmsg *msg)
{
    enum err e = ERR_OK;
    bool closure = true;
    for (size_t i = l->n; i-- > 0 && closure && !e;) {
        e = read_number(s, id, l->seqs[i], text, &closure, msg);
        if (!e && !closure)
            e = fence_names(s, text, msg);
    }
    return e;
}

// One round of step 2. *done: the session is closed. ERR_MISSING: somebody else was at it too.
static enum err close_round(struct session *s, uint64_t id, struct listed *l, struct buf *text,
                            bool *done, struct errmsg *msg)
{
    char name[NAME_FULL_MAX], closure[64];
    bool closed = false;
    enum err e = list_session(s, id, l, msg);
    if (e)
        return e;
    *done = !l->open;
    if (!l->open)
        return sweep(s, id, l, msg);
    uint64_t last = l->n ? l->seqs[l->n - 1] : 0;
    if (last) {
        e = read_number(s, id, last, text, &closed, msg);
        if (e)
            return e;
    }
    if (!closed) {
        numbered(id, last + 1, name);
        snprintf(closure, sizeof closure, CLOSURE "by %016" PRIx64 "\n", s->id);
        e = put_mine(s->store, name, slice_str(closure), msg);
        return e == ERR_EXISTS ? ERR_OK : e; // listed and looked at again in any case
    }
    e = settle(s, id, l, text, msg);
    e = e ? e : sweep(s, id, l, msg);
    *done = !e;
    return e;
}

static enum err close_session(struct session *s, uint64_t id, struct errmsg *msg)
{
    struct listed l = {.seqs = NULL};
    struct buf text;
    bool done = id == 0 || id == s->id || known_closed(s, id);
    enum err e = ERR_OK;
    buf_init(&text, INTENT_MAX);
    for (unsigned i = 0; i < ROUNDS && !done && (!e || e == ERR_MISSING); i++)
        e = close_round(s, id, &l, &text, &done, msg);
    if (!e && !done)
        e = err_set(msg, ERR_AGAIN, "another writer goes on writing while its log is taken over");
    if (!e && id != s->id && !known_closed(s, id))
        s->closed[s->closed_n++ % CLOSED_KEPT] = id;
    buf_release(&text);
    free(l.seqs);
    return e;
}

// ---- claims

static void claim_name(const char *dir, uint64_t epoch, char name[NAME_FULL_MAX])
{
    snprintf(name, NAME_FULL_MAX, "%s/" NAME_EPOCH "%020" PRIu64, dir, epoch);
}

#define NOBODY "0000000000000000\n"

static size_t claim_text(const struct session *s, char text[32])
{
    return (size_t)snprintf(text, 32, "%016" PRIx64 "\n", s->id);
}

enum err session_claim_fresh(struct session *s, struct claim *claims, size_t n, struct errmsg *msg)
{
    char text[32];
    struct slice part = slice_of(text, claim_text(s, text));
    enum err e = ensure_open(s, msg);
    struct object_call *calls = calloc(n + 1, sizeof *calls);
    char(*names)[NAME_FULL_MAX] = calloc(n + 1, sizeof *names);
    if (!e && (!calls || !names))
        e = no_memory(msg);
    if (!e) {
        for (size_t i = 0; i < n; i++) {
            claim_name(claims[i].dir, 1, names[i]);
            calls[i] = (struct object_call){
                .op = OBJECT_PUT_ABSENT, .name = names[i], .parts = &part, .count = 1};
        }
        ERR_IGNORE(object_run(s->store, calls, n)); // each call tells
        for (size_t i = 0; i < n && !e; i++) {
            claims[i].held = calls[i].e == ERR_OK;
            claims[i].epoch = 1;
            if (calls[i].e && calls[i].e != ERR_EXISTS)
                e = err_set(msg, calls[i].e, "%s", calls[i].msg.text);
        }
    }
    free(calls);
    free(names);
    return e;
}

struct epochs {
    uint64_t v[ROUNDS];
    size_t n;
    bool more;
};

static bool take_epoch(void *arg, const char *name, uint64_t size)
{
    struct epochs *p = arg;
    const char *last = strrchr(name, '/');
    (void)size;
    if (last && epoch_parse(slice_str(last + 1), &p->v[p->n]))
        p->n++;
    p->more = p->n == ROUNDS;
    return !p->more;
}

static enum err list_epochs(struct session *s, const char *dir, struct epochs *p,
                            struct errmsg *msg)
{
    char prefix[NAME_FULL_MAX];
    *p = (struct epochs){.n = 0};
    snprintf(prefix, sizeof prefix, "%s/" NAME_EPOCH, dir);
    enum err e = object_list(s->store, prefix, NULL, ROUNDS, take_epoch, p, msg);
    return !e && p->more ? err_set(msg, ERR_AGAIN, "%s has too many claims at once", dir) : e;
}

// The session whose claim this is. ERR_MISSING: it went, so it was settled by another taker.
static enum err claimant(struct session *s, const char *name, uint64_t *id, struct errmsg *msg)
{
    struct buf text;
    buf_init(&text, 64);
    enum err e = object_get(s->store, name, &text, msg);
    char digits[17] = "";
    if (!e && buf_len(&text) == 17) {
        memcpy(digits, buf_head(&text), 16);
        *id = strtoull(digits, NULL, 16);
    } else if (!e || e == ERR_TOO_BIG) {
        e = err_set(msg, ERR_DAMAGED, "%s does not say whose claim it is", name);
    }
    buf_release(&text);
    return e;
}

// Closes the sessions of the claims below `mine`, then deletes those claims.
static enum err overcome(struct session *s, const char *dir, const struct epochs *p, uint64_t mine,
                         struct errmsg *msg)
{
    char name[NAME_FULL_MAX];
    enum err e = ERR_OK;
    for (size_t i = 0; i < p->n && !e && p->v[i] < mine; i++) {
        uint64_t id = s->id;
        claim_name(dir, p->v[i], name);
        e = claimant(s, name, &id, msg);
        if (e == ERR_MISSING) // settled by another taker, who is above this claim too
            e = ERR_OK;
        else if (!e)
            e = close_session(s, id, msg);
    }
    for (size_t i = 0; i < p->n && !e && p->v[i] < mine; i++) {
        claim_name(dir, p->v[i], name);
        if (p->v[i] > 1)
            e = object_delete(s->store, name, msg);
    }
    return e;
}

enum err session_claim(struct session *s, struct claim *c, struct errmsg *msg)
{
    char name[NAME_FULL_MAX], text[32];
    struct slice part = slice_of(text, claim_text(s, text));
    struct epochs p;
    uint64_t mine = 0;
    enum err e = ensure_open(s, msg);
    c->held = false;
    for (unsigned i = 0; !e && i < ROUNDS && !mine; i++) {
        e = list_epochs(s, c->dir, &p, msg);
        if (e)
            break;
        mine = p.n ? p.v[p.n - 1] + 1 : 1;
        claim_name(c->dir, mine, name);
        e = put_mine(s->store, name, part, msg);
        if (e == ERR_EXISTS) { // somebody else at the same time
            mine = 0;
            e = ERR_OK;
        }
    }
    e = e ? e : list_epochs(s, c->dir, &p, msg);
    if (!e && (!mine || p.n == 0 || p.v[p.n - 1] != mine))
        e = fenced(s, msg);
    e = e ? e : overcome(s, c->dir, &p, mine, msg);
    c->held = e == ERR_OK;
    c->epoch = mine;
    return e;
}

enum err session_claim_stands(struct session *s, const char *dir, struct errmsg *msg)
{
    struct epochs p;
    enum err e = list_epochs(s, dir, &p, msg);
    return e || (p.n == 1 && p.v[0] == 1) ? e : fenced(s, msg);
}

enum err session_unclaim(struct session *s, const char *dir, uint64_t epoch, struct errmsg *msg)
{
    char name[NAME_FULL_MAX];
    struct slice nobody = slice_str(NOBODY);
    claim_name(dir, epoch, name);
    return object_put(s->store, name, &nobody, 1, msg);
}

// ---- intents

bool session_old_intent(const struct session *s, char name[NAME_FULL_MAX])
{
    if (s->seq > 1)
        numbered(s->id, s->seq - 1, name);
    return s->seq > 1;
}

enum err session_check(struct session *s, struct errmsg *msg)
{
    char name[NAME_FULL_MAX];
    uint64_t size;
    enum err e = ERR_NETWORK;
    object_of(s->id, "open", name);
    for (unsigned i = 0; i < TRIES && e == ERR_NETWORK; i++)
        e = object_head(s->store, name, &size, msg);
    return e == ERR_MISSING ? fenced(s, msg) : e;
}

enum err session_intend(struct session *s, const char *const *names, size_t n, struct errmsg *msg)
{
    struct buf text;
    struct errmsg m = {""};
    char name[NAME_FULL_MAX];
    buf_init(&text, INTENT_MAX);
    enum err e = session_state(s, &m);
    for (size_t i = 0; i < n && !e; i++)
        e = buf_printf(&text, "%s\n", names[i]);
    if (e) {
        buf_release(&text);
        return err_set(msg, e, "%s", m.text[0] ? m.text : err_text(e));
    }
    VERIFY(s->open && n > 0);
    numbered(s->id, s->seq + 1, name);
    e = put_mine(s->store, name, buf_slice(&text), &m);
    buf_release(&text);
    if (e == ERR_EXISTS)
        return fenced(s, msg);
    if (!e) {
        s->seq++;
        e = session_check(s, &m);
        if (e == ERR_CONFLICT) {
            struct errmsg ignored;
            ERR_IGNORE(object_delete(s->store, name, &ignored)); // litter at worst
            return err_set(msg, e, "%s", m.text);
        }
    }
    if (e) // it may be there: nobody may put anything in its place
        session_break(s, e, &m);
    return e ? err_set(msg, e, "%s", m.text) : ERR_OK;
}
