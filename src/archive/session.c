// Fencing: how two writers of one log cannot both succeed, with nothing but put, put_absent, list
// and delete. A writer may be stopped between any two calls for any time, and an answer may be
// lost.
//
// Objects:
//     ~writers/{id}/open          the session `id`, 16 hex digits, random
//     ~writers/{id}/{seq}         20 digits: its intent number `seq`, names of data objects, a line
//                                 each; or the *closure* by another session, "closed ..."
//     ~writers/{id}/unsettled_{sum}_{n}   the session is closed, and what became of its put of this
//                                 name is not known; `sum` is the CRC-32C of the log's directory
//     {log}/epoch_{epoch}         20 digits: a claim, the id of a session
// and fences: data objects of 0 bytes.
//
// A session begins with its record (before its first claim). To take a log, a writer W
//  1. puts a claim with put_absent, at a number above all that it has seen;
//  2. lists the claims. A higher one: W has lost. For each lower one, W closes its session V:
//     a. lists V's objects. No record: V is closed, and all of it is settled, but for names that
//        are noted as unsettled: W does c for those of this log, and deletes the notes;
//     b. puts a closure at V's next number with put_absent, and lists again: it holds if it is the
//        highest. If V was faster, again from a. From now on V cannot intend anything;
//     c. puts a fence with put_absent at each name in V's last intent. Where the data is there
//        already the put fails, and the data stands; elsewhere V's put of it will fail. Names at
//        which nothing can be put now are noted as unsettled;
//     d. deletes V's record first, then the rest, but for notes. Is a name of this log unsettled W
//        does not have the log, and its claim and V's stay; of another one, it is no matter here.
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
// Why one object that cannot be put keeps only its own log from being taken: notes are put before
// the record goes, so whoever finds no record, and then lists the notes, sees all of them. As long
// as a name is noted its log is nobody's: V's claim stays there, and who overcomes it settles the
// name first. V itself, should its put succeed after all, finds its record gone and its records in
// the log, and may say that they are there: no fence can take that place any more. A note that is
// put late, of what another closer has settled, makes a fence where the log has gone on; it is
// cleaned up when that log is listed next.
//
// Claim number 1 stays for ever, so that whoever gets it is the first, and a number is used once.
// To let a log go, W makes its claim nobody's (id 0). Should that come late, after the claim was
// overcome, it changes nothing: all that W had put is settled.
//
// What remains: of a log its first and its last claim; of a session that ended well nothing; of one
// that did not, its record and two objects, until the next claim of any of its logs, and notes
// until that of the log.
#include "archive/session_int.h"
#include "base/assert.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { TRIES = 4 }; // of a put whose answer was lost

MUST_USE static enum err no_memory(struct errmsg *msg)
{
    return err_set(msg, ERR_NO_MEMORY, "out of memory");
}

enum err session_init(struct session *s, struct object_store *store, struct os *os)
{
    *s = (struct session){.store = store, .os = os};
    os_random(os, &s->id, sizeof s->id);
    s->closed = calloc(SESSION_CLOSED, sizeof *s->closed);
    return s->closed ? ERR_OK : ERR_NO_MEMORY;
}

enum err session_break(struct session *s, enum err e, const struct errmsg *why)
{
    if (!s->broken) {
        s->broken = e;
        if (why)
            s->why = *why;
        else
            err_set(&s->why, e, "%s", err_text(e)); // nobody wanted to know at the time
    }
    return e;
}

enum err session_state(const struct session *s, struct errmsg *msg)
{
    return s->broken ? err_set(msg, s->broken, "%s", s->why.text) : ERR_OK;
}

void session_object(uint64_t id, const char *what, char name[NAME_FULL_MAX])
{
    snprintf(name, NAME_FULL_MAX, NAME_WRITERS "%016" PRIx64 "/%s", id, what);
}

void session_numbered(uint64_t id, uint64_t seq, char name[NAME_FULL_MAX])
{
    char digits[24];
    snprintf(digits, sizeof digits, "%020" PRIu64, seq);
    session_object(id, digits, name);
}

enum err session_put_mine(struct object_store *store, const char *name, struct slice bytes,
                          struct errmsg *msg)
{
    enum err e = ERR_NETWORK;
    for (unsigned i = 0; i < TRIES && e == ERR_NETWORK; i++)
        e = object_put_absent(store, name, &bytes, 1, msg);
    if (e != ERR_EXISTS)
        return e;
    struct buf found;
    buf_init(&found, SESSION_INTENT_MAX);
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
    session_object(s->id, "open", name);
    enum err e = session_put_mine(s->store, name, slice_str(name), msg);
    s->open = e == ERR_OK;
    return e;
}

void session_release(struct session *s)
{
    char name[NAME_FULL_MAX];
    struct errmsg msg;
    // What is left behind is cleaned up by the next claim of one of its logs.
    if (s->open && !s->broken) {
        session_object(s->id, "open", name);
        enum err e = object_delete(s->store, name, &msg);
        session_numbered(s->id, s->seq, name);
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
    uint64_t v[SESSION_ROUNDS];
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
    p->more = p->n == SESSION_ROUNDS;
    return !p->more;
}

static enum err list_epochs(struct session *s, const char *dir, struct epochs *p,
                            struct errmsg *msg)
{
    char prefix[NAME_FULL_MAX];
    *p = (struct epochs){.n = 0};
    snprintf(prefix, sizeof prefix, "%s/" NAME_EPOCH, dir);
    enum err e = object_list(s->store, prefix, NULL, SESSION_ROUNDS, take_epoch, p, msg);
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

// Closes the session of one claim below ours, and deletes that claim.
static enum err overcome_one(struct session *s, const char *dir, uint64_t epoch, bool *unsettled,
                             struct errmsg *msg)
{
    char name[NAME_FULL_MAX];
    uint64_t id = s->id;
    claim_name(dir, epoch, name);
    enum err e = claimant(s, name, &id, msg);
    *unsettled = false;
    if (e) // missing: settled by another taker, who is above this claim too
        return e == ERR_MISSING ? ERR_OK : e;
    e = session_close_other(s, id, dir, unsettled, msg);
    if (!e && epoch > 1)
        e = object_delete(s->store, name, msg);
    return e;
}

// All claims below `mine`. One that keeps the log from being taken, until what its session had
// under way is settled, stays; the others go even so, or each try would leave one more.
static enum err overcome(struct session *s, const char *dir, const struct epochs *p, uint64_t mine,
                         struct errmsg *msg)
{
    enum err first = ERR_OK;
    bool unsettled = true;
    for (size_t i = 0; i < p->n && unsettled && p->v[i] < mine; i++) {
        struct errmsg why;
        enum err e = overcome_one(s, dir, p->v[i], &unsettled, &why);
        if (e && !first)
            first = err_set(msg, e, "%s", why.text);
        unsettled = unsettled || !e;
    }
    return first;
}

enum err session_claim(struct session *s, struct claim *c, struct errmsg *msg)
{
    char name[NAME_FULL_MAX], text[32];
    struct slice part = slice_of(text, claim_text(s, text));
    struct epochs p;
    uint64_t mine = 0;
    enum err e = ensure_open(s, msg);
    c->held = false;
    for (unsigned i = 0; !e && i < SESSION_ROUNDS && !mine; i++) {
        e = list_epochs(s, c->dir, &p, msg);
        if (e)
            break;
        mine = p.n ? p.v[p.n - 1] + 1 : 1;
        claim_name(c->dir, mine, name);
        e = session_put_mine(s->store, name, part, msg);
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
        session_numbered(s->id, s->seq - 1, name);
    return s->seq > 1;
}

enum err session_check(struct session *s, struct errmsg *msg)
{
    char name[NAME_FULL_MAX];
    uint64_t size;
    enum err e = ERR_NETWORK;
    session_object(s->id, "open", name);
    for (unsigned i = 0; i < TRIES && e == ERR_NETWORK; i++)
        e = object_head(s->store, name, &size, msg);
    return e == ERR_MISSING ? fenced(s, msg) : e;
}

enum err session_intend(struct session *s, const char *const *names, size_t n, struct errmsg *msg)
{
    struct buf text;
    struct errmsg m = {""};
    char name[NAME_FULL_MAX];
    buf_init(&text, SESSION_INTENT_MAX);
    enum err e = session_state(s, &m);
    for (size_t i = 0; i < n && !e; i++)
        e = buf_printf(&text, "%s\n", names[i]);
    if (e) {
        buf_release(&text);
        return err_set(msg, e, "%s", m.text[0] ? m.text : err_text(e));
    }
    VERIFY(s->open && n > 0);
    session_numbered(s->id, s->seq + 1, name);
    e = session_put_mine(s->store, name, buf_slice(&text), &m);
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
