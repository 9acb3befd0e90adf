// Objects as files below a directory: DIR/NAME, a '/' in a name being a directory below.
//
// An object's checksum is an extended attribute of its file, set before anything of it is durable.
//
// A put writes DIR/.../%tmp-TIME-RANDOM, syncs it, renames it to its name and syncs the directory,
// so a name only ever leads to whole, durable bytes; an absent one is put by a rename that fails if
// the name is taken. Directories that were made on the way are synced into their parents first.
// A temporary that a crash left is removed by a listing that meets it a day later. No name of an
// object begins a part with "%tmp-" (in a percent-encoded name no % stands before a t).
// Directories are never removed, so none can vanish under a put.
#include "object/object_int.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SUM          "user.varve.crc32c"
#define TEMPORARY    "%tmp-"
#define TEMPORARY_MS 86400000u  // age at which a temporary is nobody's any more
#define NAMES_MAX    (1u << 28) // bytes of names in one directory
#define DIR_MAX      (LIMIT_PATH - OBJECT_NAME_MAX - 64u)
#define KNOWN_MAX    4096u // directories remembered as durable

struct directory {
    struct object_store base;
    char *dir;
    uint64_t seed; // of the hashes
    // Directories whose names are known to be durable, by hash; under base.lock. Forgotten when
    // full.
    uint64_t *known;
    size_t known_count;
};

static struct directory *dir_of(struct object_store *s)
{
    return (struct directory *)s;
}

static void count(struct object_store *s, uint64_t *what, uint64_t n)
{
    pthread_mutex_lock(&s->lock);
    *what += n;
    pthread_mutex_unlock(&s->lock);
}

static enum err fail(struct object_store *s, struct object_call *c, enum err e, const char *what)
{
    const char *why = e == ERR_IO ? os_last_error() : err_text(e);
    return err_set(&c->msg, e, "%.200s: %s of \"%.200s\": %s: %.60s", s->where,
                   object_op_name(c->op), c->name, what, why);
}

static void path_of(const struct directory *d, const char *full, char path[LIMIT_PATH])
{
    int n = snprintf(path, LIMIT_PATH, "%s/%s", d->dir, full);
    VERIFY(n > 0 && (unsigned)n < LIMIT_PATH); // DIR_MAX
}

// What a file system, or this file's own names, do not allow.
static enum err check_parts(struct object_store *s, struct object_call *c, const char *full)
{
    for (const char *part = full;; part++) {
        size_t n = strcspn(part, "/");
        if (n > OBJECT_PART_MAX)
            return err_set(&c->msg, ERR_TOO_BIG,
                           "%.200s: name \"%.100s...\": \"%.100s...\" is longer than %u bytes, the "
                           "most between two '/' in a directory",
                           s->where, c->name, part, OBJECT_PART_MAX);
        if (slice_starts(slice_of(part, n), slice_str(TEMPORARY)))
            return err_set(&c->msg, ERR_INVALID,
                           "%.200s: name \"%.200s\": no part may begin with %s", s->where, c->name,
                           TEMPORARY);
        part += n;
        if (!*part)
            return ERR_OK;
    }
}

// ---- directories

static bool is_known(struct directory *d, uint64_t hash)
{
    pthread_mutex_lock(&d->base.lock);
    size_t i = 0;
    while (i < d->known_count && d->known[i] != hash)
        i++;
    bool found = i < d->known_count;
    pthread_mutex_unlock(&d->base.lock);
    return found;
}

static void make_known(struct directory *d, uint64_t hash)
{
    pthread_mutex_lock(&d->base.lock);
    if (d->known_count == KNOWN_MAX)
        d->known_count = 0;
    d->known[d->known_count++] = hash;
    pthread_mutex_unlock(&d->base.lock);
}

// Makes `path` and sees to it that its name in `parent` is durable: whoever made it before may not
// have come to that yet.
static enum err have_dir(struct directory *d, const char *path, const char *parent)
{
    uint64_t hash = hash64(slice_str(path), d->seed);
    if (is_known(d, hash))
        return ERR_OK;
    enum err e = os_mkdir(d->base.os, path);
    if (e != ERR_OK && e != ERR_EXISTS)
        return e;
    e = os_sync_dir(d->base.os, parent);
    if (e == ERR_OK)
        make_known(d, hash);
    return e;
}

// Makes the directories that the object's path leads through.
static enum err have_dirs(struct directory *d, const char *path)
{
    char here[LIMIT_PATH], parent[LIMIT_PATH];
    size_t at = strlen(d->dir) + 1;
    snprintf(parent, sizeof parent, "%s", d->dir);
    for (;;) {
        const char *slash = strchr(path + at, '/');
        if (!slash)
            return ERR_OK;
        snprintf(here, sizeof here, "%.*s", (int)(slash - path), path);
        enum err e = have_dir(d, here, parent);
        if (e != ERR_OK)
            return e;
        memcpy(parent, here, sizeof here);
        at = (size_t)(slash - path) + 1;
    }
}

// The directory that holds `path`.
static void parent_of(const char *path, char parent[LIMIT_PATH])
{
    const char *slash = strrchr(path, '/');
    VERIFY(slash);
    snprintf(parent, LIMIT_PATH, "%.*s", slash == path ? 1 : (int)(slash - path), path);
}

// Tells "no such file" from other errors: also if a part of the path is a file.
static enum err look(struct directory *d, const char *path, struct os_stat *st)
{
    enum err e = os_stat(d->base.os, path, st);
    if (e == ERR_OK)
        return st->is_dir ? ERR_MISSING : ERR_OK;
    if (e != ERR_IO)
        return e;
    char here[LIMIT_PATH];
    for (size_t at = strlen(d->dir) + 1; path[at]; at++) {
        if (path[at] != '/')
            continue;
        snprintf(here, sizeof here, "%.*s", (int)at, path);
        if (os_stat(d->base.os, here, st) == ERR_OK && !st->is_dir)
            return ERR_MISSING;
    }
    return ERR_IO;
}

// ---- put

static enum err write_parts(struct os *os, int fd, const struct object_call *c)
{
    uint64_t at = 0;
    enum err e = ERR_OK;
    for (size_t i = 0; i < c->count && e == ERR_OK; i++) {
        e = os_pwrite(os, fd, c->parts[i].p, c->parts[i].n, at);
        at += c->parts[i].n;
    }
    return e;
}

static enum err write_sum(struct os *os, int fd, const struct object_call *c)
{
    char text[OBJECT_SUM_TEXT];
    if (!c->sum.there)
        return ERR_OK;
    object_sum_format(text, c->sum.crc32c);
    enum err e = os_set_attribute(os, fd, SUM, text, sizeof text - 1);
    return e == ERR_UNSUPPORTED ? ERR_OK : e; // it is served without
}

static enum err write_temporary(struct directory *d, const struct object_call *c, const char *path)
{
    struct os *os = d->base.os;
    int fd;
    enum err e = os_open(os, path, OS_WRITE | OS_CREATE | OS_EXCLUSIVE, &fd);
    if (e != ERR_OK)
        return e;
    e = write_parts(os, fd, c);
    if (e == ERR_OK)
        e = write_sum(os, fd, c);
    if (e == ERR_OK)
        e = os_sync_all(os, fd);
    enum err closed = os_close(os, fd);
    return e != ERR_OK ? e : closed;
}

static enum err put(struct directory *d, struct object_call *c, const char *path)
{
    struct os *os = d->base.os;
    bool absent = c->op == OBJECT_PUT_ABSENT;
    char parent[LIMIT_PATH], temporary[LIMIT_PATH];
    enum err e = have_dirs(d, path);
    if (e != ERR_OK)
        return fail(&d->base, c, e, "a directory on the way cannot be made");
    uint64_t random;
    os_random(os, &random, sizeof random);
    parent_of(path, parent);
    int n = snprintf(temporary, sizeof temporary, "%s/%s%016" PRIx64 "-%016" PRIx64, parent,
                     TEMPORARY, os_wall_ms(os), random);
    VERIFY(n > 0 && (unsigned)n < sizeof temporary);
    e = write_temporary(d, c, temporary);
    if (e != ERR_OK)
        fail(&d->base, c, e, "cannot be written");
    if (e == ERR_OK) {
        e = absent ? os_rename_new(os, temporary, path) : os_rename(os, temporary, path);
        if (e != ERR_OK)
            fail(&d->base, c, e, e == ERR_EXISTS ? "it is there" : "cannot get its name");
    }
    if (e != ERR_OK) {
        ERR_IGNORE(os_unlink(os, temporary)); // a listing will in a day
        return e;
    }
    e = os_sync_dir(os, parent);
    if (e != ERR_OK)
        return fail(&d->base, c, e, "its directory cannot be synced");
    return ERR_OK;
}

// ---- get, head, delete

static enum err read_range(struct directory *d, struct object_call *c, int fd, uint64_t size)
{
    uint64_t from = 0, n = size;
    if (c->op == OBJECT_GET_RANGE) {
        from = c->offset < size ? c->offset : size;
        n = c->length < size - from ? c->length : size - from;
    }
    enum err e = n <= c->out->max ? buf_reserve(c->out, (size_t)n) : ERR_TOO_BIG;
    if (e != ERR_OK)
        return fail(&d->base, c, e, "it does not fit its buffer");
    if (n == 0)
        return ERR_OK;
    size_t got;
    e = os_pread(d->base.os, fd, buf_tail(c->out), (size_t)n, from, &got);
    if (e == ERR_OK && got < n)
        e = ERR_DAMAGED; // nobody makes an object shorter
    if (e != ERR_OK)
        return fail(&d->base, c, e, "cannot be read");
    c->out->end += got;
    count(&d->base, &d->base.stats.bytes_in, n);
    return ERR_OK;
}

static enum err read_sum(struct directory *d, struct object_call *c, int fd)
{
    char text[OBJECT_SUM_TEXT];
    size_t n;
    enum err e = os_get_attribute(d->base.os, fd, SUM, text, sizeof text, &n);
    if (e == ERR_MISSING || e == ERR_UNSUPPORTED)
        return ERR_OK;
    if (e != ERR_OK && e != ERR_TOO_BIG)
        return fail(&d->base, c, e, "its checksum cannot be read");
    c->sum.there = e == ERR_OK && object_sum_parse(slice_of(text, n), &c->sum.crc32c);
    return c->sum.there ? ERR_OK
                        : fail(&d->base, c, ERR_DAMAGED, SUM " is not 8 hexadecimal digits");
}

static enum err get(struct directory *d, struct object_call *c, const char *path)
{
    struct os_stat st;
    int fd;
    enum err e = look(d, path, &st);
    if (e == ERR_OK)
        e = os_open(d->base.os, path, OS_READ, &fd);
    if (e != ERR_OK)
        return fail(&d->base, c, e, "cannot be opened");
    e = os_size(d->base.os, fd, &c->size); // of this file: the name may lead to another by now
    if (e != ERR_OK)
        fail(&d->base, c, e, "has no size");
    if (e == ERR_OK)
        e = read_sum(d, c, fd);
    if (e == ERR_OK)
        e = read_range(d, c, fd, c->size);
    ERR_IGNORE(os_close(d->base.os, fd)); // only read
    return e;
}

static enum err head(struct directory *d, struct object_call *c, const char *path)
{
    struct os_stat st;
    enum err e = look(d, path, &st);
    if (e != ERR_OK)
        return fail(&d->base, c, e, "cannot be looked at");
    c->size = st.size;
    return ERR_OK;
}

static enum err delete_object(struct directory *d, struct object_call *c, const char *path)
{
    char parent[LIMIT_PATH];
    struct os_stat st;
    enum err e = look(d, path, &st);
    if (e == ERR_OK)
        e = os_unlink(d->base.os, path);
    if (e != ERR_OK && e != ERR_MISSING)
        return fail(&d->base, c, e, "cannot be removed");
    // Also if it was gone: whoever removed it may have failed to sync.
    parent_of(path, parent);
    e = os_sync_dir(d->base.os, parent);
    if (e == ERR_OK || e == ERR_MISSING)
        return ERR_OK;
    // Nothing can be below what is a file.
    enum err there = os_stat(d->base.os, parent, &st);
    if (there == ERR_OK ? !st.is_dir : look(d, parent, &st) == ERR_MISSING)
        return ERR_OK;
    return fail(&d->base, c, e, "its directory cannot be synced");
}

static void dir_start(struct object_store *s, struct object_call *c, const char *full)
{
    struct directory *d = dir_of(s);
    uint64_t *counters[OBJECT_OPS] = {&s->stats.put, &s->stats.put,  &s->stats.get,
                                      &s->stats.get, &s->stats.head, &s->stats.delete};
    enum err (*const doers[OBJECT_OPS])(struct directory *, struct object_call *,
                                        const char *) = {put, put, get, get, head, delete_object};
    char path[LIMIT_PATH];
    path_of(d, full, path);
    count(s, counters[c->op], 1);
    c->e = check_parts(s, c, full);
    if (c->e == ERR_OK)
        c->e = doers[c->op](d, c, path);
    if (c->e == ERR_OK && (c->op == OBJECT_PUT || c->op == OBJECT_PUT_ABSENT))
        count(s, &s->stats.bytes_out, object_parts_size(c->parts, c->count));
    object_finish(s, c);
}

// ---- list

struct entry {
    const char *name;
    bool is_dir;
    uint64_t size;
};

struct walk {
    struct directory *d;
    struct slice prefix;
    const char *after;
    uint64_t left;
    object_list_fn fn;
    void *arg;
    bool more;
    char name[LIMIT_PATH]; // of the directory or object, from the store's root
    struct errmsg *msg;
};

struct names {
    struct buf text; // NUL-terminated, one after another
    size_t count;
    enum err e;
};

static void add_name(void *arg, const char *name)
{
    struct names *l = arg;
    if (l->e == ERR_OK)
        l->e = buf_append(&l->text, name, strlen(name) + 1);
    l->count += l->e == ERR_OK;
}

// As names go: a directory's stands with its '/'.
static int by_name(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    const char *p = x->name, *q = y->name;
    while (*p && *p == *q) {
        p++;
        q++;
    }
    int m = *p ? (unsigned char)*p : x->is_dir ? '/' : 0;
    int n = *q ? (unsigned char)*q : y->is_dir ? '/' : 0;
    return m - n;
}

static void remove_if_old(struct walk *w, const char *name)
{
    uint64_t made = strtoull(name + strlen(TEMPORARY), NULL, 16);
    char path[LIMIT_PATH];
    int n = snprintf(path, sizeof path, "%s/%s%s", w->d->dir, w->name, name);
    if (n > 0 && (unsigned)n < sizeof path && made + TEMPORARY_MS < os_wall_ms(w->d->base.os))
        ERR_IGNORE(os_unlink(w->d->base.os, path)); // the next listing tries again
}

// Whether the name, or one below it if it is a directory, can be wanted. w->name ends with it.
static bool wanted(const struct walk *w, bool is_dir)
{
    struct slice name = slice_str(w->name);
    if (!is_dir)
        return slice_starts(name, w->prefix) && strcmp(w->name, w->after) > 0;
    // Names below begin with `name/`.
    size_t common = name.n < w->prefix.n ? name.n : w->prefix.n;
    bool fits = memcmp(name.p, w->prefix.p, common) == 0 &&
                (w->prefix.n <= name.n || w->prefix.p[name.n] == '/');
    int order = strncmp(w->after, w->name, name.n);
    return fits && (order < 0 || (order == 0 && (unsigned char)w->after[name.n] <= '/'));
}

// Keeps of the names in w->name those that are wanted, sorted.
static enum err gather(struct walk *w, const struct names *l, struct entry *entries, size_t *kept)
{
    size_t base = strlen(w->name);
    char path[LIMIT_PATH];
    const char *name = (const char *)buf_head(&l->text);
    enum err e = ERR_OK;
    *kept = 0;
    for (size_t i = 0; i < l->count && e == ERR_OK; i++, name += strlen(name) + 1) {
        if (strncmp(name, TEMPORARY, strlen(TEMPORARY)) == 0) {
            remove_if_old(w, name);
            continue;
        }
        if (base + strlen(name) > OBJECT_NAME_MAX)
            continue; // nothing of ours
        snprintf(w->name + base, sizeof w->name - base, "%s", name);
        if (wanted(w, false) || wanted(w, true)) {
            struct os_stat st;
            path_of(w->d, w->name, path);
            e = os_stat(w->d->base.os, path, &st);
            if (e == ERR_OK && wanted(w, st.is_dir))
                entries[(*kept)++] = (struct entry){name, st.is_dir, st.size};
            if (e == ERR_MISSING)
                e = ERR_OK; // deleted meanwhile
        }
        w->name[base] = 0;
    }
    if (*kept)
        qsort(entries, *kept, sizeof *entries, by_name);
    return e;
}

static enum err walk_dir(struct walk *w);

static enum err visit(struct walk *w, const struct entry *entries, size_t n)
{
    size_t base = strlen(w->name);
    enum err e = ERR_OK;
    for (size_t i = 0; i < n && w->more && e == ERR_OK; i++) {
        snprintf(w->name + base, sizeof w->name - base, "%s%s", entries[i].name,
                 entries[i].is_dir ? "/" : "");
        if (entries[i].is_dir)
            e = walk_dir(w);
        else
            w->more = w->fn(w->arg, w->name, entries[i].size) && --w->left > 0;
        w->name[base] = 0;
    }
    return e;
}

// Visits what is in directory w->name, "" or ending with '/'. As deep as a name has parts.
static enum err walk_dir(struct walk *w)
{
    char path[LIMIT_PATH];
    path_of(w->d, w->name, path);
    struct names l = {.e = ERR_OK};
    buf_init(&l.text, NAMES_MAX);
    enum err e = os_list(w->d->base.os, path, add_name, &l);
    if (e == ERR_OK)
        e = l.e;
    struct entry *entries = calloc(l.count ? l.count : 1, sizeof *entries);
    if (e == ERR_OK && !entries)
        e = ERR_NO_MEMORY;
    size_t n = 0;
    if (e == ERR_OK)
        e = gather(w, &l, entries, &n);
    if (e != ERR_OK)
        err_set(w->msg, e, "%.300s: cannot be listed: %s", path,
                e == ERR_IO ? os_last_error() : err_text(e));
    else
        e = visit(w, entries, n);
    free(entries);
    buf_release(&l.text);
    return e;
}

static enum err dir_list(struct object_store *s, const char *prefix, const char *after,
                         uint64_t max, object_list_fn fn, void *arg, struct errmsg *msg)
{
    struct walk *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(msg, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    *w = (struct walk){.d = dir_of(s),
                       .prefix = slice_str(prefix),
                       .after = after,
                       .left = max,
                       .fn = fn,
                       .arg = arg,
                       .more = true,
                       .msg = msg};
    count(s, &s->stats.list, 1);
    enum err e = walk_dir(w);
    free(w);
    return e;
}

// ---- the store

static void dir_close(struct object_store *s)
{
    struct directory *d = dir_of(s);
    object_base_release(s);
    free(d->dir);
    free(d->known);
    free(d);
}

static const struct object_ops dir_ops = {
    .close = dir_close,
    .start = dir_start,
    .list = dir_list,
};

static enum err make_root(struct os *os, const char *dir, struct errmsg *msg)
{
    char parent[LIMIT_PATH];
    struct os_stat st;
    enum err e = os_mkdir(os, dir);
    if (e == ERR_OK) {
        const char *slash = strrchr(dir, '/');
        if (slash)
            parent_of(dir, parent);
        else
            snprintf(parent, sizeof parent, "%s", ".");
        e = os_sync_dir(os, parent);
    }
    if (e == ERR_EXISTS)
        e = os_stat(os, dir, &st);
    else if (e == ERR_OK)
        st.is_dir = true;
    if (e != ERR_OK)
        return err_set(msg, e, "%.300s: cannot be made: %s", dir,
                       e == ERR_MISSING ? "the directory it is to be in is not there"
                                        : os_last_error());
    return st.is_dir ? ERR_OK : err_set(msg, ERR_INVALID, "%.300s: is there and no directory", dir);
}

enum err object_directory_open(struct object_store **out, const struct object_options *o,
                               struct errmsg *msg)
{
    const char *dir = o->dir ? o->dir : "";
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        n--;
    if (n == 0 || n > DIR_MAX)
        return err_set(msg, ERR_INVALID, "the directory of an object store must have 1 to %u bytes",
                       (unsigned)DIR_MAX);
    struct directory *d = calloc(1, sizeof *d);
    enum err e = d ? ERR_OK : ERR_NO_MEMORY;
    if (d) {
        d->dir = strndup(dir, n);
        os_random(o->os, &d->seed, sizeof d->seed);
        d->known = calloc(KNOWN_MAX, sizeof *d->known);
        e = d->dir && d->known ? object_base_init(&d->base, &dir_ops, o, d->dir) : ERR_NO_MEMORY;
    }
    if (e != ERR_OK) {
        if (d) {
            free(d->dir);
            free(d->known);
        }
        free(d);
        return err_set(msg, e, "%s", err_text(e));
    }
    e = make_root(o->os, d->dir, msg);
    if (e != ERR_OK)
        dir_close(&d->base);
    else
        *out = &d->base;
    return e;
}
