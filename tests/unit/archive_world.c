#include "unit.h"

#include "archive_world.h"
#include "archive/check.h"
#include "base/hash.h"
#include "base/os.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

const struct archive_log world_log = {{(const uint8_t *)"ks", 2}, {(const uint8_t *)"key", 3}};

static struct errmsg why;

const char *world_why(void)
{
    return why.text;
}

enum err world_append(struct archive_writer *w, const struct archive_log *log, const char *label,
                      unsigned count, u128 nonce, struct archive_batch *result)
{
    static int64_t now = 1000;
    struct archive_insert *in = calloc(count, sizeof *in);
    char(*texts)[32] = calloc(count, sizeof *texts);
    for (unsigned i = 0; i < count; i++) {
        int n = snprintf(texts[i], sizeof *texts, "%s%u", label, i);
        in[i] = (struct archive_insert){true, now++, nonce == NONCE_NONE ? nonce : nonce + i,
                                        slice_of(texts[i], (size_t)n)};
    }
    struct archive_batch b = {.log = *log, .records = in, .count = count};
    struct errmsg msg = {""};
    enum err e = archive_append(w, &b, &msg);
    if (e)
        assert_true(msg.text[0]);
    why = msg;
    if (result)
        *result = b;
    free(in);
    free(texts);
    return e;
}

struct taker {
    struct tiles t;
    const char *dir;
    size_t count;
};

static bool take(void *arg, const char *name, uint64_t size)
{
    struct taker *k = arg;
    tiles_take(&k->t, k->dir, name + strlen(k->dir) + 1, size);
    return true;
}

static void put_tile(struct object_store *s, const char *dir, const struct name *n, struct buf *out)
{
    char full[NAME_FULL_MAX];
    struct errmsg msg = {""};
    data_full_name(dir, n, full);
    struct slice bytes = fake_object_bytes(s, full);
    int64_t min, max;
    enum err e = data_check(dir, n, bytes, &min, &max, &msg);
    if (e)
        fail_msg("%s", msg.text);
    assert_true(n->min_time <= min && n->min_time > min - 100 && max == n->max_time);
    struct object_sum sum = fake_object_sum(s, full);
    assert_true(sum.there && sum.crc32c == crc32c(0, bytes.p, bytes.n));
    for (const uint8_t *p = bytes.p; p < bytes.p + bytes.n; p += record_span(p)) {
        struct record r = record_read(p);
        assert_ok(buf_append(out, r.bytes.p, r.bytes.n));
        assert_ok(buf_append(out, " ", 1));
    }
}

void world_text(struct object_store *s, const char *dir, struct buf *out)
{
    uint64_t first;
    world_text_from(s, dir, out, &first);
}

void world_text_from(struct object_store *s, const char *dir, struct buf *out, uint64_t *first)
{
    struct taker k = {.dir = dir};
    char prefix[NAME_FULL_MAX];
    snprintf(prefix, sizeof prefix, "%s/", dir);
    fake_object_names(s, prefix, take, &k);
    assert_ok(k.t.e);
    size_t *path = calloc(k.t.n + 1, sizeof *path);
    uint64_t end;
    size_t n = tiles_path(&k.t, *first = tiles_first(&k.t), path, &end);
    if (tiles_beyond(&k.t, end + 1)) {
        for (size_t i = 0; i < k.t.n; i++)
            print_message("%" PRIu64 " to %" PRIu64 ", %" PRIu64 " bytes\n", k.t.v[i].name.first,
                          k.t.v[i].name.last, k.t.v[i].stored);
        fail_msg("no object of %s holds offset %" PRIu64, dir, end);
    }
    for (size_t i = 0; i < k.t.n; i++)
        if (k.t.v[i].stored == 0) {
            char fence[NAME_FULL_MAX];
            data_full_name(dir, &k.t.v[i].name, fence);
            assert_true(fake_object_sum(s, fence).there);
        }
    for (size_t i = 0; i < n; i++)
        put_tile(s, dir, &k.t.v[path[i]].name, out);
    assert_ok(buf_append(out, "", 1)); // a string
    out->end--;
    free(path);
    tiles_release(&k.t);
}

static void fail_with(void *arg, const char *what)
{
    (void)arg;
    fail_msg("%s", what);
}

void world_check(struct object_store *s)
{
    struct archive_check c = {.ahead = 3, .require_sums = true, .defect = fail_with};
    struct errmsg msg = {""};
    if (archive_check(s, &c, &msg))
        fail_msg("%s", msg.text);
}

static bool count_one(void *arg, const char *name, uint64_t size)
{
    (void)name;
    (void)size;
    ++*(size_t *)arg;
    return true;
}

size_t world_count(struct object_store *s, const char *prefix)
{
    size_t n = 0;
    fake_object_names(s, prefix, count_one, &n);
    return n;
}
