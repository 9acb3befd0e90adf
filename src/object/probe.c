// Finding out what a store keeps of what varve relies on. Everything is tried on objects of its
// own, which are deleted at the end as far as they can be.
#include "object/object_int.h"
#include "base/hash.h"
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

#define RACERS      8
#define ROUNDS      2
#define LISTED      3
#define PROBE_BYTES 4096u
#define NAME_BYTES  64
// Half of the names lie in this directory, which is the same for all, as a store that is one keeps
// it; the others beside it, so that '/' has to sort among other bytes. No keyspace begins with '~'.
#define BASE "~varve-probe"

struct probe {
    struct object_store *s;
    struct object_guarantees *g;
    struct errmsg *msg;
    struct buf out;
    char names[ROUNDS + LISTED][NAME_BYTES];
};

static enum err run(struct probe *p, struct object_call *c)
{
    enum err e = object_run(p->s, c, 1);
    if (e != ERR_OK)
        *p->msg = c->msg;
    return e;
}

static enum err put_text(struct probe *p, const char *name, const char *text)
{
    struct slice part = slice_str(text);
    struct object_call c = {.op = OBJECT_PUT,
                            .name = name,
                            .parts = &part,
                            .count = 1,
                            .sum = {true, crc32c(0, part.p, part.n)}};
    return run(p, &c);
}

// *sum: of what was read, and what is kept with it.
static enum err reads_as(struct probe *p, const char *name, const char *text, bool *same, bool *sum)
{
    struct object_call c = {.op = OBJECT_GET, .name = name, .out = &p->out};
    buf_clear(&p->out);
    enum err e = run(p, &c);
    *same = e == ERR_OK && slice_equal(buf_slice(&p->out), slice_str(text));
    *sum = *same && c.sum.there && c.sum.crc32c == crc32c(0, text, strlen(text));
    return e == ERR_MISSING ? ERR_OK : e;
}

// Racers with bytes of their own put one name at once: one wins, its bytes are there, and a late
// one is told so too.
static enum err race(struct probe *p, const char *name, bool *kept)
{
    struct object_call calls[RACERS];
    struct slice parts[RACERS];
    char texts[RACERS][16];
    for (size_t i = 0; i < RACERS; i++) {
        snprintf(texts[i], sizeof texts[i], "racer %zu", i);
        parts[i] = slice_str(texts[i]);
        calls[i] = (struct object_call){
            .op = OBJECT_PUT_ABSENT, .name = name, .parts = &parts[i], .count = 1};
    }
    ERR_IGNORE(object_run(p->s, calls, RACERS)); // each call's own error is looked at
    size_t winners = 0, winner = 0;
    for (size_t i = 0; i < RACERS; i++) {
        if (calls[i].e == ERR_OK) {
            winners++;
            winner = i;
        } else if (calls[i].e == ERR_UNSUPPORTED) {
            return ERR_OK; // it says so itself
        } else if (calls[i].e != ERR_EXISTS) {
            *p->msg = calls[i].msg;
            return calls[i].e;
        }
    }
    bool same = false, sum;
    enum err e = ERR_OK;
    if (winners == 1)
        e = reads_as(p, name, texts[winner], &same, &sum);
    if (e != ERR_OK)
        return e;
    struct slice late = slice_str("late");
    e = object_put_absent(p->s, name, &late, 1, p->msg);
    if (e != ERR_OK && e != ERR_EXISTS)
        return e;
    *kept = same && e == ERR_EXISTS;
    return ERR_OK;
}

static enum err try_races(struct probe *p)
{
    p->g->put_absent = true;
    for (size_t i = 0; i < ROUNDS; i++) {
        bool kept = false;
        enum err e = race(p, p->names[i], &kept);
        if (e != ERR_OK)
            return e;
        p->g->put_absent = p->g->put_absent && kept;
    }
    return ERR_OK;
}

struct seen {
    struct probe *p;
    unsigned listed; // a bit for each of the listed names
    bool in_order;
    char last[NAME_BYTES];
};

static bool note(void *arg, const char *name, uint64_t size)
{
    struct seen *s = arg;
    s->in_order = s->in_order && strcmp(name, s->last) > 0;
    snprintf(s->last, sizeof s->last, "%s", name);
    for (unsigned i = 0; i < LISTED; i++)
        if (strcmp(s->p->names[ROUNDS + i], name) == 0)
            s->listed |= 1u << i;
    return true;
}

static enum err list(struct probe *p, struct seen *seen)
{
    *seen = (struct seen){.p = p, .in_order = true};
    enum err e = object_list(p->s, BASE, NULL, 0, note, seen, p->msg);
    if (e == ERR_UNSUPPORTED) { // which says that names were out of order
        seen->in_order = false;
        return ERR_OK;
    }
    return e;
}

static enum err try_lists(struct probe *p)
{
    struct seen seen;
    enum err e = ERR_OK;
    p->g->list_after_put = p->g->list_in_order = true;
    for (unsigned i = 0; i < LISTED && e == ERR_OK; i++) {
        e = put_text(p, p->names[ROUNDS + i], "listed");
        if (e == ERR_OK)
            e = list(p, &seen);
        if (e != ERR_OK)
            return e;
        p->g->list_in_order = p->g->list_in_order && seen.in_order;
        p->g->list_after_put = p->g->list_after_put && seen.listed == (2u << i) - 1;
    }
    if (e == ERR_OK)
        e = object_delete(p->s, p->names[ROUNDS], p->msg);
    if (e == ERR_OK)
        e = list(p, &seen);
    p->g->list_after_put = p->g->list_after_put && !(seen.listed & 1u);
    return e;
}

static enum err try_reads(struct probe *p)
{
    const char *name = p->names[ROUNDS + 1];
    p->g->read_after_put = p->g->sums = true;
    for (int i = 0; i < 3; i++) {
        char text[24];
        bool same = false, sum = false;
        snprintf(text, sizeof text, "version %d", i);
        enum err e = put_text(p, name, text);
        if (e == ERR_OK)
            e = reads_as(p, name, text, &same, &sum);
        if (e != ERR_OK)
            return e;
        p->g->read_after_put = p->g->read_after_put && same;
        p->g->sums = p->g->sums && sum;
    }
    buf_clear(&p->out);
    enum err e = object_get_range(p->s, name, 2, 4, &p->out, p->msg);
    p->g->ranges = e == ERR_OK && slice_equal(buf_slice(&p->out), slice_str("rsio"));
    return e;
}

static void tell(struct probe *p)
{
    const struct object_guarantees *g = p->g;
    if (g->put_absent && g->list_after_put && g->read_after_put && g->ranges && g->list_in_order) {
        p->msg->text[0] = 0;
        return;
    }
    err_set(
        p->msg, ERR_UNSUPPORTED, "%.200s does not keep what is relied on:%s%s%s%s%s", p->s->where,
        g->put_absent ? ""
                      : " of several writers that put a name if it is absent not exactly one wins;",
        g->list_after_put ? "" : " listings lag behind puts or deletes;",
        g->read_after_put ? "" : " reads lag behind puts;",
        g->ranges ? "" : " ranges are not given as asked for;",
        g->list_in_order ? "" : " listings are not in order;");
}

enum err object_probe(struct object_store *s, struct object_guarantees *g, struct errmsg *msg)
{
    struct errmsg own;
    struct probe p = {.s = s, .g = g, .msg = msg ? msg : &own};
    uint64_t random;
    os_random(s->os, &random, sizeof random);
    *g = (struct object_guarantees){0};
    buf_init(&p.out, PROBE_BYTES);
    for (size_t i = 0; i < ROUNDS + LISTED; i++)
        snprintf(p.names[i], sizeof p.names[i], BASE "%s%016" PRIx64 "-%zu", i % 2 ? "-" : "/",
                 random, i);
    enum err e = try_races(&p);
    if (e == ERR_OK)
        e = try_lists(&p);
    if (e == ERR_OK)
        e = try_reads(&p);
    struct errmsg ignored;
    // After a failure of the network, or without the right, deleting would only wait in vain.
    for (size_t i = 0; i < ROUNDS + LISTED && (e == ERR_OK || e == ERR_UNSUPPORTED); i++)
        ERR_IGNORE(object_delete(s, p.names[i], &ignored)); // some were never put
    buf_release(&p.out);
    if (e == ERR_OK && !g->sums)
        log_event(LOG_WARN, "objects_without_sums", "store=%s", log_quote(s->where));
    if (e == ERR_OK)
        tell(&p);
    return e;
}
