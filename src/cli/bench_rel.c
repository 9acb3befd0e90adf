// Requests about relations: RELATE, MEMBERS, INTERSECT, and their replies. Lists are those of the
// relation "bench-MEMBERS-IDS", of `keys` froms; what is added at random goes to "bench-add", so
// that those who read find what was loaded.
//
// Member number n of list l is the place of n in a shuffle of all ids that l chooses. So a list's
// members are as random ids are, all different, made without memory; and the shuffle can be turned
// back: an id is in list l if and only if its number is less than the size of a list. That is how
// the first member of a reply is looked at; besides, a list must have all its members.
//
// Redis's sets stand beside them: SADD, SMEMBERS, SINTER of "setN". Ids there have 1000000000
// added, so that all have ten digits; redis packs them in 32 bits each.
#include "cli/bench_int.h"
#include <stdio.h>

enum {
    REL_ADD = 35, // docs/PROTOCOLS.md
    REL_GET = 38,
    REL_COMBINE = 43,
    INTERSECT = 3,
    PAGE_MOST = 1000000,
    HEAD = 5,       // of a reply: its length, the status
    PAGE_HEAD = 16, // of REL_COMBINE's
    DIGITS = 10,
    BULK = 5 + DIGITS + 2, // "$10\r\n1000000000\r\n"
    ROUNDS = 4,
    NAME_MAX_BYTES = 64,
    LIST = 10, // bytes of a list of REL_COMBINE before the name
};
#define RESP_BASE 1000000000u

// ---- the shuffle: a Feistel network over as many bits as ids have, applied until an id comes out
// (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002)

struct shuffle {
    unsigned half; // bits
    uint64_t mask, ids, list;
};

static struct shuffle shuffle_of(const struct bench_spec *s, uint64_t list)
{
    unsigned half = (64 - (unsigned)__builtin_clzll(s->ids | 3) + 1) / 2;
    return (struct shuffle){half, ((uint64_t)1 << half) - 1, s->ids, list};
}

static uint64_t scramble(const struct shuffle *f, uint64_t v, unsigned round)
{
    v = (v ^ (f->list * ROUNDS + round) * 0xbf58476d1ce4e5b9u) * 0x9e3779b97f4a7c15u;
    return (v ^ v >> 29) * 0x94d049bb133111ebu >> 32 & f->mask;
}

static uint64_t id_of(const struct shuffle *f, uint64_t number)
{
    uint64_t v = number;
    do {
        uint64_t left = v >> f->half, right = v & f->mask;
        for (unsigned i = 0; i < ROUNDS; i++) {
            uint64_t t = left ^ scramble(f, right, i);
            left = right;
            right = t;
        }
        v = left << f->half | right;
    } while (v >= f->ids);
    return v;
}

static uint64_t number_of(const struct shuffle *f, uint64_t id)
{
    uint64_t v = id;
    do {
        uint64_t left = v >> f->half, right = v & f->mask;
        for (unsigned i = ROUNDS; i-- > 0;) {
            uint64_t t = right ^ scramble(f, left, i);
            right = left;
            left = t;
        }
        v = left << f->half | right;
    } while (v >= f->ids);
    return v;
}

static bool in_list(const struct bench_spec *s, uint64_t list, uint64_t id)
{
    struct shuffle f = shuffle_of(s, list);
    return id < s->ids && number_of(&f, id) < s->members;
}

// ---- layouts

static enum err put_argument(struct bench_layout *l, const void *p, size_t n)
{
    uint8_t size[4];
    store32(size, (uint32_t)n);
    enum err e = buf_append(&l->bytes, size, sizeof size);
    return e ? e : buf_append(&l->bytes, p, n);
}

static size_t relation_name(const struct bench_spec *s, char name[NAME_MAX_BYTES])
{
    bool adds = s->op == BENCH_RELATE && !s->sequential;
    int n = snprintf(name, NAME_MAX_BYTES, adds ? "bench-add" : "bench-%llu-%llu",
                     (unsigned long long)s->members, (unsigned long long)s->ids);
    return (size_t)n;
}

static enum err layout_intersect(struct bench_layout *l, const char *name, size_t n)
{
    uint8_t lists[2 * (LIST + NAME_MAX_BYTES)] = {0}, page[24] = {INTERSECT};
    for (size_t i = 0; i < 2; i++) {
        uint8_t *p = lists + i * (LIST + n);
        p[9] = (uint8_t)n;
        memcpy(p + LIST, name, n);
    }
    store32(page + 4, PAGE_MOST);
    l->key_at = buf_len(&l->bytes) + 4;
    l->number_at = l->key_at + LIST + n;
    enum err e = put_argument(l, lists, 2 * (LIST + n));
    return e ? e : put_argument(l, page, sizeof page);
}

static enum err layout_binary(struct bench_layout *l, const struct bench_spec *s)
{
    static const uint8_t zeros[8] = {0};
    char name[NAME_MAX_BYTES];
    size_t name_size = relation_name(s, name);
    uint8_t head[2], size[4];
    store16(head, s->op == BENCH_RELATE ? REL_ADD : s->op == BENCH_MEMBERS ? REL_GET : REL_COMBINE);
    enum err e = buf_append(&l->bytes, head, sizeof head);
    if (s->op == BENCH_INTERSECT)
        return e ? e : layout_intersect(l, name, name_size);
    e = e ? e : put_argument(l, name, name_size);
    l->key_at = buf_len(&l->bytes) + 4;
    e = e ? e : put_argument(l, zeros, 8);
    if (e || s->op == BENCH_MEMBERS)
        return e;
    l->stride = 8;
    l->value_at = buf_len(&l->bytes) + 4;
    store32(size, (uint32_t)(s->items * 8));
    e = buf_append(&l->bytes, size, sizeof size);
    for (size_t i = 0; i < s->items && !e; i++)
        e = buf_append(&l->bytes, zeros, 8);
    return e ? e : put_argument(l, zeros, 4);
}

static enum err layout_resp(struct bench_layout *l, const struct bench_spec *s)
{
    static const char *const words[] = {"SADD", "SMEMBERS", "SINTER"};
    static const char key[] = "set000000000000";
    const char *word = words[s->op - BENCH_RELATE];
    size_t words_count = s->op == BENCH_RELATE ? 2 + s->items : s->op == BENCH_MEMBERS ? 2 : 3;
    enum err e = buf_printf(&l->bytes, "*%zu\r\n$%zu\r\n%s\r\n$%d\r\n", words_count, strlen(word),
                            word, BENCH_KEY);
    l->key_at = buf_len(&l->bytes);
    e = e ? e : buf_append(&l->bytes, key, BENCH_KEY);
    if (!e && s->op == BENCH_INTERSECT) {
        e = buf_printf(&l->bytes, "\r\n$%d\r\n", BENCH_KEY);
        l->number_at = buf_len(&l->bytes);
        e = e ? e : buf_append(&l->bytes, key, BENCH_KEY);
    }
    e = e ? e : buf_append(&l->bytes, "\r\n", 2);
    if (e || s->op != BENCH_RELATE)
        return e;
    l->stride = BULK;
    l->value_at = buf_len(&l->bytes) + 5;
    for (size_t i = 0; i < s->items && !e; i++)
        e = buf_printf(&l->bytes, "$10\r\n1000000000\r\n");
    return e;
}

enum err bench_layout_rel(struct bench_layout *l, const struct bench_spec *s)
{
    return (s->protocol == BENCH_RESP ? layout_resp : layout_binary)(l, s);
}

// ---- what each request is about

static void put_list(const struct bench_spec *s, uint8_t *to, uint64_t list)
{
    if (s->protocol != BENCH_RESP) {
        store64(to, list);
        return;
    }
    bench_put_key(to, list);
    memcpy(to, s->op == BENCH_RELATE && !s->sequential ? "new" : "set", 3);
}

static uint64_t get_list(const struct bench_spec *s, const uint8_t *p)
{
    uint64_t v = 0;
    if (s->protocol != BENCH_RESP)
        return load64(p);
    for (size_t i = BENCH_KEY - BENCH_KEY_DIGITS; i < BENCH_KEY; i++)
        v = v * 10 + (uint64_t)(p[i] - '0');
    return v;
}

static void put_member(const struct bench_spec *s, uint8_t *to, uint64_t id)
{
    if (s->protocol != BENCH_RESP) {
        store64(to, id);
        return;
    }
    uint8_t text[BENCH_KEY];
    bench_put_key(text, id + RESP_BASE);
    memcpy(to, text + BENCH_KEY - DIGITS, DIGITS);
}

// Loading: every member of every list once, one list after another.
static void fill_load(struct bench_conn *c, uint8_t *request)
{
    const struct bench_spec *s = c->thread->spec;
    const struct bench_layout *l = c->thread->layout;
    uint64_t requests = s->members / s->items; // a list
    uint64_t list = c->next / requests % s->keys, first = c->next % requests * s->items;
    struct shuffle f = shuffle_of(s, list);
    c->next += s->connections;
    put_list(s, request + l->key_at, list);
    for (size_t j = 0; j < s->items; j++)
        put_member(s, request + l->value_at + j * l->stride, id_of(&f, first + j));
}

void bench_fill_rel(struct bench_conn *c)
{
    struct bench_thread *t = c->thread;
    const struct bench_spec *s = t->spec;
    const struct bench_layout *l = t->layout;
    size_t n = buf_len(&l->bytes);
    for (uint64_t i = 0; i < c->batch; i++) {
        uint8_t *request = c->out + i * n;
        if (s->op == BENCH_RELATE && s->sequential) {
            fill_load(c, request);
            continue;
        }
        uint64_t list = bench_random_below(t, s->keys);
        put_list(s, request + l->key_at, list);
        if (l->number_at) // another one, if there is another
            put_list(s, request + l->number_at,
                     s->keys < 2 ? list
                                 : (list + 1 + bench_random_below(t, s->keys - 1)) % s->keys);
        for (size_t j = 0; l->value_at && j < s->items; j++)
            put_member(s, request + l->value_at + j * l->stride, bench_random_below(t, s->ids));
    }
    c->out_len = c->batch * n;
    c->out_at = 0;
}

// ---- replies

// A list's members have all been seen. g->records: how many.
static void end_list(struct bench_conn *c)
{
    struct bench_page *g = &c->page;
    struct bench_thread *t = c->thread;
    if (!g->wrong && t->spec->op == BENCH_MEMBERS && g->records != t->spec->members)
        g->wrong = "a list has not as many members as it should";
    if (g->wrong) {
        bench_error(t, 1, g->wrong, slice_of(NULL, 0));
    } else {
        t->counts.requests++;
        t->counts.objects += g->records;
        *(g->records ? &t->counts.hits : &t->counts.misses) += 1;
    }
    c->done++;
    *g = (struct bench_page){0};
}

static void first_member(struct bench_conn *c, uint64_t id)
{
    const struct bench_spec *s = c->thread->spec;
    const struct bench_layout *l = c->thread->layout;
    const uint8_t *request = c->out + c->done * buf_len(&l->bytes);
    if (!in_list(s, get_list(s, request + l->key_at), id) ||
        (l->number_at && !in_list(s, get_list(s, request + l->number_at), id)))
        c->page.wrong = "not a member of the list asked for";
}

static void added(struct bench_conn *c, uint64_t changed)
{
    struct bench_counts *n = &c->thread->counts;
    if (changed > c->thread->spec->items) {
        bench_error(c->thread, 1, "more members were added than given", slice_of(NULL, 0));
    } else {
        *(changed ? &n->hits : &n->misses) += 1;
        n->requests++;
        n->objects += c->thread->spec->items;
    }
    c->done++;
}

// The head of a binary reply, with the first member; 0 if it is not all there.
static size_t binary_head(struct bench_conn *c, const uint8_t *p, size_t n)
{
    bool add = c->thread->spec->op == BENCH_RELATE;
    size_t head = add ? 4 : c->thread->spec->op == BENCH_MEMBERS ? 0 : PAGE_HEAD;
    if (n < HEAD)
        return 0;
    size_t size = load32(p);
    if (size < 1 || size > (64u << 20) || (p[4] != 0 && size > 4096))
        return BENCH_BAD;
    if (p[4] != 0) {
        if (n - 4 < size)
            return 0;
        bench_error(c->thread, 1, "refused", slice_of(p + HEAD, size - 1));
        c->done++;
        return 4 + size;
    }
    if (size < 1 + head || (size - 1 - head) % 8 || (add && size != 1 + head))
        return BENCH_BAD;
    size_t members = (size - 1 - head) / 8;
    if (n < HEAD + head + (members ? 8 : 0))
        return 0;
    if (add) {
        added(c, load32(p + HEAD));
        return HEAD + head;
    }
    c->page = (struct bench_page){.inside = true, .left = members * 8, .records = members};
    if (members)
        first_member(c, load64(p + HEAD + head));
    return HEAD + head;
}

static size_t resp_head(struct bench_conn *c, const uint8_t *p, size_t n)
{
    bool add = c->thread->spec->op == BENCH_RELATE;
    int64_t number = 0;
    if (n == 0)
        return 0;
    if (p[0] == '-') {
        const uint8_t *end = memchr(p, '\n', n);
        if (!end)
            return n > 4096 ? BENCH_BAD : 0;
        bench_error(c->thread, 1, "refused", slice_of(p, (size_t)(end - p)));
        c->done++;
        return (size_t)(end - p) + 1;
    }
    size_t line = p[0] == (add ? ':' : '*') ? bench_resp_line(p, n, &number) : BENCH_BAD;
    if (line == 0 || line == BENCH_BAD || number < 0)
        return line ? BENCH_BAD : 0;
    if (add) {
        added(c, (uint64_t)number);
        return line;
    }
    if (number && n < line + BULK)
        return 0;
    c->page = (struct bench_page){
        .inside = true, .left = (size_t)number * BULK, .records = (uint64_t)number};
    uint64_t id = 0;
    for (size_t i = 0; number && i < DIGITS; i++)
        id = id * 10 + (uint64_t)(p[line + 5 + i] - '0');
    if (number)
        first_member(c, id - RESP_BASE);
    return line;
}

size_t bench_take_rel(struct bench_conn *c, const uint8_t *p, size_t n)
{
    struct bench_page *g = &c->page;
    bool resp = c->thread->spec->protocol == BENCH_RESP;
    size_t at = 0;
    while (c->done < c->batch) {
        size_t used;
        if (g->inside) {
            used = n - at < g->left ? n - at : g->left;
            g->left -= used;
        } else {
            used = (resp ? resp_head : binary_head)(c, p + at, n - at);
        }
        if (used == BENCH_BAD)
            return BENCH_BAD;
        at += used;
        if (g->inside && g->left == 0)
            end_list(c);
        else if (used == 0)
            break;
    }
    return at;
}
