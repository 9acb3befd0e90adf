#include "cli/dump_rels.h"
#include "cli/rel_lists.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NAMES = 1000,             // relations asked for at once
    FROMS = 10000,            // lists likewise
    PAGE = 100000,            // members likewise, and in a line
    FLUSH = 1 << 20,          // bytes of lines gathered before they are written
    ARRIVAL_MAX = 1024 << 20, // bytes of a list in its order of arrival
};

struct dump {
    struct place *place;
    struct output *out;
    struct progress *progress;
    uint64_t *members;
    const char *relation; // under way
    uint64_t froms[FROMS];
    size_t from_count;
    struct buf arrival; // the members of a list, packed, the newest first
    enum err e;
    struct errmsg msg;
};

static int failed(const struct dump *d, enum err e)
{
    return command_fail(d->place->c, CLI_FAILED, "%s", d->e ? d->msg.text : err_text(e));
}

// ---- dump

// Writes a line of members; with `backwards` from the last to the first.
static bool put_line(struct dump *d, uint64_t from, const struct varve_members *m, bool backwards)
{
    struct buf *b = &d->out->buf;
    enum err e =
        buf_printf(b, "{\"relation\":\"%s\",\"from\":%" PRIu64 ",\"members\":[", d->relation, from);
    for (size_t i = 0; i < m->count && !e; i++) {
        e = i ? buf_append(b, ",", 1) : ERR_OK;
        e = e ? e : json_put_uint(b, varve_rel_id(m, backwards ? m->count - 1 - i : i));
    }
    e = e ? e : buf_append(b, "]}\n", 3);
    d->e = e ? err_set(&d->msg, e, "%s", err_text(e)) : output_flush(d->out, FLUSH, &d->msg);
    *d->members += m->count;
    progress_show(d->progress, *d->members);
    return !d->e;
}

static bool put_list(void *arg, uint64_t from, const struct varve_members *members)
{
    return put_line(arg, from, members, false);
}

// What was gathered of a list, the oldest first.
static void put_arrival(struct dump *d, uint64_t from)
{
    size_t left = buf_len(&d->arrival) / sizeof(uint64_t);
    while (left && !d->e) {
        size_t n = left < PAGE ? left : PAGE;
        left -= n;
        struct varve_members part = {.data = buf_head(&d->arrival) + left * sizeof(uint64_t),
                                     .count = n};
        (void)put_line(d, from, &part, true);
    }
}

static int dump_list(struct dump *d, uint64_t from, bool recent)
{
    struct varve_rel_query q = {.order = recent ? VARVE_REL_NEWEST : VARVE_REL_RISING,
                                .limit = PAGE};
    struct varve_members page = {.more = true};
    int code = CLI_OK;
    buf_clear(&d->arrival);
    while (page.more && !code && !d->e) {
        code = place_members(d->place, d->relation, from, &q, &page);
        if (code || page.count == 0)
            break;
        if (!recent)
            (void)put_line(d, from, &page, false);
        else if ((d->e = buf_append(&d->arrival, page.data, page.count * sizeof(uint64_t))))
            (void)err_set(&d->msg, d->e, "relation %s: the list of %" PRIu64 ": %s", d->relation,
                          from, err_text(d->e));
        q.has_after = true;
        q.after = page.next;
    }
    if (!code && !d->e)
        put_arrival(d, from);
    return code ? code : d->e ? failed(d, d->e) : CLI_OK;
}

static bool keep_from(void *arg, uint64_t from, uint64_t count)
{
    struct dump *d = arg;
    (void)count;
    d->froms[d->from_count++] = from;
    return true;
}

static int dump_lists(struct dump *d, bool recent)
{
    uint64_t last;
    const uint64_t *after = NULL;
    int code;
    do {
        d->from_count = 0;
        code = place_froms(d->place, d->relation, after, FROMS, keep_from, d);
        for (size_t i = 0; i < d->from_count && !code; i++)
            code = dump_list(d, d->froms[i], recent);
        if (d->from_count) {
            last = d->froms[d->from_count - 1];
            after = &last;
        }
    } while (!code && d->from_count == FROMS);
    return code;
}

static int dump_relation(struct dump *d, const char *name)
{
    struct varve_rel_info info;
    struct place *p = d->place;
    d->relation = name;
    int code = place_relation(p, name, &info);
    if (code)
        return code == CLI_NO ? CLI_OK : code;
    enum err e = buf_printf(
        &d->out->buf,
        "{\"relation\":\"%s\",\"order\":\"%s\",\"reverse\":%s,\"durability\":\"%s\"}\n", name,
        info.options.recent ? "recent" : "id", info.options.reverse ? "true" : "false",
        info.options.relaxed ? "relaxed" : "fsync");
    if (e)
        return failed(d, e);
    if (!p->server || info.options.recent)
        return dump_lists(d, info.options.recent);
    enum varve_error r = rel_each_list(p->server, name, 0, put_list, d); // many lists at once
    if (r == VARVE_NO_MEMORY || d->e)
        return failed(d, ERR_NO_MEMORY);
    return r ? command_failed_call(p->c, p->server, r) : CLI_OK;
}

struct names {
    char (*names)[LIMIT_RELATION_NAME + 1];
    size_t count;
};

// Copies a page of names, since the place may not be used while it lists.
static bool keep_name(void *arg, const void *name, size_t n, const struct varve_value *value)
{
    struct names *names = arg;
    (void)value;
    snprintf(names->names[names->count++], LIMIT_RELATION_NAME + 1, "%.*s", (int)n,
             (const char *)name);
    return true;
}

int dump_rels(struct place *p, struct output *out, struct progress *progress, uint64_t *members)
{
    char last[LIMIT_RELATION_NAME + 1] = "";
    struct names names = {calloc(NAMES, sizeof *names.names), NAMES};
    struct dump *d = calloc(1, sizeof *d);
    int code = CLI_OK;
    if (!names.names || !d)
        code = command_fail(p->c, CLI_FAILED, "out of memory");
    if (d) {
        *d = (struct dump){.place = p, .out = out, .progress = progress, .members = members};
        buf_init(&d->arrival, ARRIVAL_MAX);
    }
    while (!code && names.count == NAMES) {
        names.count = 0;
        code = place_relations(p, last, NAMES, keep_name, &names);
        for (size_t i = 0; i < names.count && !code; i++)
            code = dump_relation(d, names.names[i]);
        if (names.count)
            memcpy(last, names.names[names.count - 1], sizeof last);
    }
    if (d)
        buf_release(&d->arrival);
    free(d);
    free(names.names);
    return code;
}

// ---- restore

void rel_restore_init(struct rel_restore *r, struct place *place, const struct input *in,
                      bool skip_existing)
{
    r->place = place;
    r->in = in;
    r->skip_existing = skip_existing;
}

bool rel_line_is(struct slice text)
{
    return slice_starts(text, slice_str("{\"relation\""));
}

static int bad_line(const struct rel_restore *r, const char *what)
{
    return command_fail(r->place->c, CLI_USAGE, "%s: line %" PRIu64 ": %s", r->in->name,
                        r->in->line, what);
}

struct rel_line {
    char relation[LIMIT_RELATION_NAME + 1];
    struct varve_rel_options options;
    bool has_options;
    bool has_from;
    uint64_t from;
    bool has_members;
    struct json members;
};

static bool get_id(struct json v, uint64_t *id)
{
    enum json_kind k = json_kind(v);
    if (k != JSON_UINT && (k != JSON_INT || json_int(v) < 0))
        return false;
    *id = json_uint(v);
    return true;
}

// One of two words; false: neither.
static bool get_word(struct json v, const char *no, const char *yes, bool *is)
{
    struct slice s = json_kind(v) == JSON_STRING ? json_string(v) : slice_of(NULL, 0);
    *is = slice_equal(s, slice_str(yes));
    return *is || slice_equal(s, slice_str(no));
}

static enum err get_member(struct rel_line *l, struct slice name, struct json v, struct errmsg *msg)
{
    bool ok = true;
    l->has_options = true;
    if (slice_equal(name, slice_str("order")))
        ok = get_word(v, "id", "recent", &l->options.recent);
    else if (slice_equal(name, slice_str("durability")))
        ok = get_word(v, "fsync", "relaxed", &l->options.relaxed);
    else if (slice_equal(name, slice_str("reverse"))) {
        ok = json_kind(v) == JSON_BOOL;
        l->options.reverse = ok && json_bool(v);
    } else {
        l->has_options = false;
    }
    if (l->has_options)
        return ok ? ERR_OK
                  : err_set(msg, ERR_INVALID, "%.*s is not what it can be", (int)name.n,
                            (const char *)name.p);
    if (slice_equal(name, slice_str("from"))) {
        l->has_from = get_id(v, &l->from);
        return l->has_from
                   ? ERR_OK
                   : err_set(msg, ERR_INVALID, "from is not a whole number from 0 to 2^64 - 1");
    }
    if (slice_equal(name, slice_str("members"))) {
        l->has_members = json_kind(v) == JSON_ARRAY;
        l->members = v;
        return l->has_members ? ERR_OK : err_set(msg, ERR_INVALID, "members is no array");
    }
    return err_set(msg, ERR_INVALID, "member \"%.*s\" is unknown", name.n < 60 ? (int)name.n : 60,
                   (const char *)name.p);
}

static enum err get_line(struct rel_line *l, struct json_parser *parser, struct slice text,
                         struct errmsg *msg)
{
    struct json root, v;
    struct slice name;
    bool options = false;
    enum err e = json_parse(parser, text, &root, msg);
    if (e)
        return e;
    struct json_iter it = json_iterate(root); // an object: it begins as one
    while (!e && json_next(&it, &name, &v)) {
        if (!slice_equal(name, slice_str("relation"))) {
            e = get_member(l, name, v, msg);
            options = options || l->has_options;
            continue;
        }
        struct slice s = json_kind(v) == JSON_STRING ? json_string(v) : slice_of(NULL, 0);
        if (s.n == 0 || s.n > LIMIT_RELATION_NAME || memchr(s.p, 0, s.n))
            return err_set(msg, ERR_INVALID, "relation is no name of one");
        memcpy(l->relation, s.p, s.n);
        l->relation[s.n] = 0;
    }
    if (!e && (l->has_from != l->has_members || (l->has_from && options)))
        e = err_set(msg, ERR_INVALID, "neither a relation nor a list of one");
    return e;
}

int rel_restore_commit(struct rel_restore *r)
{
    uint64_t added = 0;
    const uint64_t *p = r->members;
    if (r->count == 0)
        return CLI_OK;
    for (size_t i = 0; i < r->count; i++) {
        r->groups[i].members = p;
        p += r->groups[i].count;
    }
    int code = place_relate(r->place, r->relation, r->groups, r->count, &added);
    if (code)
        return code == CLI_NO ? command_fail(r->place->c, CLI_FAILED, "a relation conflicts")
                              : code;
    r->restored += added;
    r->skipped += r->member_count - added;
    r->count = r->member_count = 0;
    return CLI_OK;
}

static int refuse(const struct rel_restore *r, const char *relation)
{
    return command_fail(r->place->c, CLI_NO,
                        "relation \"%s\" exists. --skip-existing adds what it lacks", relation);
}

// Makes the relation of a line, or, if it is a list's, looks whether it is there.
static int begin_relation(struct rel_restore *r, const struct rel_line *l)
{
    struct varve_rel_info info;
    int code = rel_restore_commit(r);
    if (code)
        return code;
    if (!l->has_from) {
        code = place_declare(r->place, l->relation, &l->options);
        if (code == CLI_NO)
            code = r->skip_existing ? CLI_OK : refuse(r, l->relation);
    } else {
        code = place_relation(r->place, l->relation, &info);
        if (code == CLI_NO)
            code = bad_line(r, "the relation does not exist, and no line before made it");
        else if (!code && !r->skip_existing)
            code = refuse(r, l->relation);
    }
    memcpy(r->relation, l->relation, sizeof r->relation);
    return code;
}

static int restore_list(struct rel_restore *r, const struct rel_line *l)
{
    struct json_iter it = json_iterate(l->members);
    struct varve_rel_group *g = NULL;
    struct json v;
    uint64_t id;
    while (json_next(&it, NULL, &v)) {
        if (!get_id(v, &id))
            return bad_line(r, "a member is not a whole number from 0 to 2^64 - 1");
        if (r->member_count == REL_BATCH || (!g && r->count == REL_BATCH_LISTS)) {
            int code = rel_restore_commit(r);
            if (code)
                return code;
            g = NULL;
        }
        if (!g) {
            g = &r->groups[r->count++];
            *g = (struct varve_rel_group){.from = l->from};
        }
        r->members[r->member_count++] = id;
        g->count++;
    }
    return CLI_OK;
}

int rel_restore_line(struct rel_restore *r, struct json_parser *parser, struct slice text)
{
    struct rel_line l = {.has_from = false};
    struct errmsg msg = {""};
    int code = CLI_OK;
    if (get_line(&l, parser, text, &msg))
        return bad_line(r, msg.text);
    if (!l.has_from || strcmp(l.relation, r->relation) != 0)
        code = begin_relation(r, &l);
    return code || !l.has_from ? code : restore_list(r, &l);
}
