#include "archive/check.h"
#include "archive/data.h"
#include "archive/sum.h"
#include "archive/tiles.h"
#include "base/assert.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { AHEAD = 16, AHEAD_BYTES = 64 << 20, ROUNDS = 4 };

// An object under way.
struct fetch {
    struct object_call call;
    struct buf bytes;
    char full[NAME_FULL_MAX];
    struct name name;
    uint64_t stored;
    size_t tile; // in the listing
};

struct checker {
    struct archive_check *c;
    struct object_store *store;
    struct errmsg *msg;
    enum err e; // that ends it
    // The log at hand.
    char dir[NAME_FULL_MAX]; // "keyspace/key/", or less where the store's prefix has some of it
    bool has_log;
    struct tiles t;                 // as listed last
    struct tiles done;              // what was verified
    bool went;                      // an object was listed, and then gone
    bool last;                      // the log will not be listed again
    char mark[NAME_FULL_MAX + 120]; // what is wrong with the watermark
    // A ring: [first, first + n) of `fetches` are under way.
    struct fetch *fetches;
    size_t first, n;
    uint64_t fetching;
};

static void tell(struct checker *k, const char *what)
{
    k->c->defects++;
    k->c->defect(k->c->arg, what);
}

static void object_name(const struct checker *k, const struct name *n, char full[NAME_FULL_MAX])
{
    char data[NAME_DATA_MAX];
    name_format(n, data);
    snprintf(full, NAME_FULL_MAX, "%.511s%s", k->dir, data);
}

// ---- an object

// What its name says of times and nonces. Only ours are sure to be right (archive/name.h), and
// those have a checksum. They may say that times begin earlier (archive/append.c, other_name).
static enum err check_name(const struct fetch *f, int64_t min, int64_t max, struct errmsg *msg)
{
    const uint8_t *at = buf_head(&f->bytes), *end = at + buf_len(&f->bytes);
    u128 first = NONCE_NONE, next = f->name.next_nonce;
    for (; at < end; at += record_span(at)) {
        struct record r = record_read(at);
        if (r.nonce == NONCE_NONE)
            continue;
        first = first == NONCE_NONE ? r.nonce : first;
        next = r.nonce + 1;
    }
    const char *wrong = min < f->name.min_time || max != f->name.max_time           ? "times"
                        : first < f->name.first_nonce || next != f->name.next_nonce ? "nonces"
                                                                                    : NULL;
    return wrong ? err_set(msg, ERR_DAMAGED, "%.400s: its records have other %s than its name says",
                           f->full, wrong)
                 : ERR_OK;
}

// Of 0 bytes: a fence, unless its checksum says that there were some.
static enum err check_fence(struct checker *k, const struct fetch *f, struct errmsg *msg)
{
    k->c->fences++;
    if (f->call.sum.there && f->call.sum.crc32c != 0)
        return err_set(msg, ERR_DAMAGED, "%.400s is damaged: it was cut to 0 bytes", f->full);
    return ERR_OK;
}

static enum err check_data(struct checker *k, const struct fetch *f, struct errmsg *msg)
{
    char dir[NAME_FULL_MAX];
    int64_t min, max;
    struct slice bytes = buf_slice(&f->bytes);
    bool sum = f->call.sum.there;
    snprintf(dir, sizeof dir, "%.*s", (int)(strlen(k->dir) - (*k->dir != 0)), k->dir);
    enum err e = data_check(*dir ? dir : ".", &f->name, bytes, &min, &max, msg);
    e = e ? e : sum_check(&f->call, bytes, msg);
    if (!e && sum)
        e = check_name(f, min, max, msg);
    if (!e && !sum && k->c->require_sums)
        e = err_set(msg, ERR_DAMAGED, "%.400s has no checksum", f->full);
    k->c->objects++;
    k->c->without_sum += !sum;
    if (!e) {
        k->c->records += f->name.last - f->name.first + 1;
        k->c->bytes += bytes.n;
    }
    return e;
}

static void take_fetched(struct checker *k)
{
    struct fetch *f = &k->fetches[k->first];
    struct errmsg why;
    k->first = (k->first + 1) % k->c->ahead;
    k->n--;
    k->fetching -= f->stored;
    enum err e = object_wait(k->store, &f->call);
    why = f->call.msg;
    if (e == ERR_MISSING) {
        k->went = true;
        k->t.v[f->tile].stored = UINT64_MAX; // no listing says that: it is fetched again if listed
        if (!k->last)
            return;
        e = err_set(&why, ERR_DAMAGED, "%.400s is listed, and is not there", f->full);
    } else if (!e || e == ERR_TOO_BIG) {
        e = f->stored ? check_data(k, f, &why) : check_fence(k, f, &why);
    }
    if (e == ERR_DAMAGED)
        tell(k, why.text);
    else if (e && !k->e)
        k->e = err_set(k->msg, e, "%s", why.text);
    if (buf_len(&f->bytes) > k->c->ahead_bytes / k->c->ahead)
        buf_release(&f->bytes); // else kept for the next
    if (k->c->progress)
        k->c->progress(k->c->arg);
}

// One of another size than its name says need not be fetched.
static void tell_size(struct checker *k, const struct tile *t)
{
    char full[NAME_FULL_MAX], what[NAME_FULL_MAX + 120];
    object_name(k, &t->name, full);
    snprintf(what, sizeof what, "%s is damaged: it has %" PRIu64 " bytes, its name says %" PRIu64,
             full, t->stored, t->name.size);
    k->c->objects++;
    tell(k, what);
}

static void begin_fetch(struct checker *k, size_t tile)
{
    const struct tile *t = &k->t.v[tile];
    if (t->stored && t->stored != t->name.size) {
        tell_size(k, t);
        return;
    }
    while (k->n && (k->n == k->c->ahead || k->fetching + t->stored > k->c->ahead_bytes))
        take_fetched(k);
    struct fetch *f = &k->fetches[(k->first + k->n) % k->c->ahead];
    f->name = t->name;
    f->stored = t->stored;
    f->tile = tile;
    object_name(k, &t->name, f->full);
    buf_clear(&f->bytes);
    // A byte more than is listed, so that one that is longer by now is seen to be.
    f->bytes.max = (size_t)t->stored + 1;
    f->call = (struct object_call){.op = OBJECT_GET, .name = f->full, .out = &f->bytes};
    k->n++;
    k->fetching += t->stored;
    object_start(k->store, &f->call);
}

// ---- a log

static bool same_tile(const struct tile *a, const struct tile *b)
{
    return a->stored == b->stored && memcmp(&a->name, &b->name, sizeof a->name) == 0;
}
_Static_assert(sizeof(struct name) == 80, "compared whole: no padding");

// Verifies what was not yet; both listings are in the same order but for equal firsts.
static void check_objects(struct checker *k)
{
    size_t from = 0;
    k->went = false;
    for (size_t i = 0; i < k->t.n && !k->e; i++) {
        bool known = false;
        while (from < k->done.n && k->done.v[from].name.first < k->t.v[i].name.first)
            from++;
        for (size_t j = from;
             j < k->done.n && !known && k->done.v[j].name.first == k->t.v[i].name.first; j++)
            known = same_tile(&k->done.v[j], &k->t.v[i]);
        if (!known)
            begin_fetch(k, i);
    }
    while (k->n)
        take_fetched(k);
}

static bool is_fence(const struct tile *t)
{
    return t->stored == 0;
}

// The first object at or past the offset that is no fence; t->n: none.
static size_t sound_from(const struct tiles *t, uint64_t offset)
{
    size_t i = 0;
    while (i < t->n && (is_fence(&t->v[i]) || t->v[i].name.first < offset))
        i++;
    return i;
}

// Where the log begins its first object may say that there was one before: it went, or the log was
// trimmed and has a marker there. A fence at the same offset means nothing by it: the name had only
// to be another one (archive/append.c).
static bool lacks_start(const struct tiles *t, size_t first)
{
    bool fenced = false;
    if (t->begin)
        return t->v[first].name.first != t->begin;
    for (size_t i = 0; i < t->n; i++)
        fenced = fenced || (is_fence(&t->v[i]) && t->v[i].name.first == t->v[first].name.first);
    return t->v[first].name.prior != 0 && !fenced;
}

// Borders between neighbours on the path that do not agree.
static void check_border(struct checker *k, const struct tile *a, const struct tile *b)
{
    char full[NAME_FULL_MAX], what[NAME_FULL_MAX + 120];
    const struct name *x = &a->name, *y = &b->name;
    const char *wrong = y->first_nonce < x->next_nonce              ? "nonce"
                        : y->prior < x->first || y->prior > x->last ? "prior"
                                                                    : NULL;
    if (!wrong)
        return;
    object_name(k, y, full);
    snprintf(what, sizeof what, "%s: the %s in its name does not follow from the object before it",
             full, wrong);
    tell(k, what);
}

// Tells what is wrong with the path if `out`; returns whether anything is missing. *end is where it
// ends.
static bool check_path(struct checker *k, bool out, uint64_t *end)
{
    char what[NAME_FULL_MAX + 200];
    size_t *path = malloc((k->t.n + 1) * sizeof *path);
    size_t i = sound_from(&k->t, 0);
    bool gap = i < k->t.n && lacks_start(&k->t, i);
    *end = 0;
    if (!path) {
        k->e = err_set(k->msg, ERR_NO_MEMORY, "out of memory");
        return false;
    }
    if (gap && out) {
        snprintf(what, sizeof what,
                 "%.511s: no object holds what is before offset %" PRIu64
                 ", but there was one at offset %" PRIu64,
                 k->dir, k->t.v[i].name.first, k->t.v[i].name.prior);
        tell(k, what);
    }
    while (i < k->t.n) {
        size_t n = tiles_path(&k->t, k->t.v[i].name.first, path, end);
        for (size_t j = 1; j < n && out; j++)
            check_border(k, &k->t.v[path[j - 1]], &k->t.v[path[j]]);
        i = sound_from(&k->t, *end + 1);
        gap = gap || i < k->t.n;
        if (i == k->t.n || !out)
            continue;
        snprintf(what, sizeof what,
                 "%.511s: no object holds offset %" PRIu64 "; the next begins at %" PRIu64, k->dir,
                 *end, k->t.v[i].name.first);
        tell(k, what);
    }
    free(path);
    return gap;
}

// Fills k->mark if it is not 8 bytes, or if the log ends before what it points to.
static void check_watermark(struct checker *k, uint64_t end)
{
    char name[NAME_FULL_MAX];
    struct buf b;
    k->mark[0] = 0;
    if (!k->t.watermark)
        return;
    buf_init(&b, 8);
    snprintf(name, sizeof name, "%.511swatermark", k->dir);
    enum err e = object_get(k->store, name, &b, k->msg);
    if (e == ERR_TOO_BIG || (!e && buf_len(&b) != 8))
        snprintf(k->mark, sizeof k->mark, "%s is damaged: it is not 8 bytes", name);
    else if (!e && load64(buf_head(&b)) >= end)
        snprintf(k->mark, sizeof k->mark,
                 "%s: the log had an object at offset %" PRIu64 ", and ends before it", name,
                 load64(buf_head(&b)));
    else if (e && e != ERR_MISSING)
        k->e = e;
    buf_release(&b);
}

static void take_name(struct checker *k, const char *file, uint64_t size, bool out)
{
    struct errmsg why;
    struct name n;
    char what[NAME_FULL_MAX + 600];
    if (strncmp(file, NAME_DATA, strlen(NAME_DATA)) == 0 &&
        name_parse(slice_str(file), &n, &why) != ERR_OK) {
        snprintf(what, sizeof what, "%.511s%.256s: %s", k->dir, file, why.text);
        if (out)
            tell(k, what);
        return;
    }
    tiles_take(&k->t, k->dir, file, size);
    if (k->t.e && !k->e)
        k->e = err_set(k->msg, k->t.e, "%s", k->t.wrong.text);
}

static bool take_again(void *arg, const char *name, uint64_t size)
{
    struct checker *k = arg;
    const char *file = name + strlen(k->dir);
    if (!strchr(file, '/'))
        take_name(k, file, size, false);
    return k->e == ERR_OK;
}

static void list_again(struct checker *k)
{
    struct tiles old = k->done;
    k->done = k->t;
    k->t = old;
    tiles_clear(&k->t);
    enum err e = object_list(k->store, k->dir, NULL, 0, take_again, k, k->msg);
    k->e = k->e ? k->e : e;
}

// All that the listing shows of the log at hand is known.
static void check_log(struct checker *k)
{
    uint64_t end;
    bool again = k->has_log;
    for (unsigned round = 1; again && !k->e; round++) {
        k->last = round == ROUNDS;
        check_objects(k);
        bool gap = !k->e && check_path(k, false, &end);
        if (!k->e)
            check_watermark(k, end);
        // What went was merged; and a listing of several pages may show neither parts nor whole.
        again = !k->e && !k->last && (k->went || (round == 1 && (gap || *k->mark)));
        if (again)
            list_again(k);
    }
    if (k->has_log && !k->e) {
        (void)check_path(k, true, &end);
        if (*k->mark)
            tell(k, k->mark);
        k->c->logs++;
    }
    k->has_log = false;
    tiles_clear(&k->t);
    tiles_clear(&k->done);
}

static bool take(void *arg, const char *name, uint64_t size)
{
    struct checker *k = arg;
    const char *slash = strrchr(name, '/');
    const char *file = slash ? slash + 1 : name;
    size_t n = (size_t)(file - name);
    bool of_log = strncmp(file, NAME_DATA, strlen(NAME_DATA)) == 0 ||
                  strncmp(file, NAME_BEGIN, strlen(NAME_BEGIN)) == 0 || !strcmp(file, "watermark");
    if (!of_log || n >= NAME_DIR_MAX)
        return true; // claims, what writers note, what is none of ours
    if (!k->has_log || strlen(k->dir) != n || strncmp(k->dir, name, n) != 0) {
        check_log(k);
        snprintf(k->dir, sizeof k->dir, "%.*s", (int)n, name);
        k->has_log = true;
    }
    take_name(k, file, size, true);
    return k->e == ERR_OK;
}

enum err archive_check(struct object_store *store, struct archive_check *c, struct errmsg *msg)
{
    struct errmsg own;
    struct checker k = {.c = c, .store = store, .msg = msg ? msg : &own};
    c->ahead = c->ahead ? c->ahead : AHEAD;
    c->ahead_bytes = c->ahead_bytes ? c->ahead_bytes : AHEAD_BYTES;
    k.fetches = calloc(c->ahead, sizeof *k.fetches);
    if (!k.fetches)
        return err_set(msg, ERR_NO_MEMORY, "out of memory");
    enum err e = object_list(store, "", NULL, 0, take, &k, k.msg);
    if (!e && !k.e)
        check_log(&k);
    e = k.e ? k.e : e;
    for (unsigned i = 0; i < c->ahead; i++)
        buf_release(&k.fetches[i].bytes);
    free(k.fetches);
    tiles_release(&k.t);
    tiles_release(&k.done);
    return e;
}
