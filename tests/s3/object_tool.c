// The object stores from the command line, for the tests of tests/s3: a store's options as
// arguments, then one command a line on standard input, one line of answer each: the error's name,
// a number, and the message.
//
//     object_tool --endpoint URL --bucket B --access-key K --secret-key S ... | --dir DIR
//
//     put NAME FILE            get NAME FILE          range NAME OFFSET LENGTH FILE
//     put-absent NAME FILE     head NAME              delete NAME
//     put-sum NAME FILE HEX    put-absent-sum NAME FILE HEX      with a checksum
//     sum NAME                 range-sum NAME OFFSET LENGTH      the one it has, as the message
//     list PREFIX AFTER MAX FILE    names and sizes go to FILE; ^ is the empty text
//     put-many PREFIX COUNT FILE    the file's bytes under PREFIX0, PREFIX1, ... at once
//     get-many PREFIX COUNT FILE    each must have the file's bytes
//     cancel NAME FILE MS      a get that is cancelled after so long
//     cancel-second NAME FILE MS   the same, begun after another one
//     hurry NAME FILE MS       a get, while which the store is told to hurry, after so long
//     race NAME COUNT          that many put_absents at once; the number is how many won
//     probe    stats    sleep MS
#include "base/buf.h"
#include "object/object.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define WORDS     8
#define LINE      8192
#define CALLS_MAX 10000u
#define OUT_MAX   (1u << 30)

struct tool {
    struct object_store *store;
    struct os *os;
};

static void answer(enum err e, uint64_t n, const char *text)
{
    printf("%s %" PRIu64 " %s\n", err_name(e), n, text);
    fflush(stdout);
}

static struct slice load(const char *path)
{
    uint8_t *p;
    size_t n;
    if (os_read_file(os_real(), path, OUT_MAX, &p, &n) != ERR_OK) {
        fprintf(stderr, "object_tool: %s: cannot be read\n", path);
        exit(2);
    }
    return slice_of(p, n);
}

static void save(const char *path, struct slice s)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(s.p ? (const void *)s.p : "", 1, s.n, f) != s.n || fclose(f) != 0) {
        fprintf(stderr, "object_tool: %s: cannot be written\n", path);
        exit(2);
    }
}

// `sum` may be NULL.
static void put(struct tool *t, bool absent, const char *name, const char *path, const char *sum)
{
    struct slice whole = load(path);
    // In several parts, so that borders between them are met.
    struct slice parts[4] = {slice_of(whole.p, whole.n / 3), slice_of(whole.p, 0)};
    parts[2] = slice_of(whole.p + parts[0].n, whole.n / 2);
    parts[3] = slice_of(whole.p + parts[0].n + parts[2].n, whole.n - parts[0].n - parts[2].n);
    struct object_call c = {
        .op = absent ? OBJECT_PUT_ABSENT : OBJECT_PUT, .name = name, .parts = parts, .count = 4};
    if (sum)
        c.sum = (struct object_sum){true, (uint32_t)strtoul(sum, NULL, 16)};
    enum err e = object_run(t->store, &c, 1);
    answer(e, whole.n, c.msg.text);
    free((void *)(uintptr_t)whole.p);
}

static void get(struct tool *t, const char *name, const char *offset, const char *length,
                const char *path)
{
    struct buf out;
    struct errmsg msg = {""};
    buf_init(&out, OUT_MAX);
    enum err e = buf_append(&out, "before", 6); // must stay
    if (e == ERR_OK && offset)
        e = object_get_range(t->store, name, strtoull(offset, NULL, 10), strtoull(length, NULL, 10),
                             &out, &msg);
    else if (e == ERR_OK)
        e = object_get(t->store, name, &out, &msg);
    if (buf_len(&out) < 6 || memcmp(buf_head(&out), "before", 6) != 0 ||
        (e != ERR_OK && buf_len(&out) != 6)) {
        fprintf(stderr, "object_tool: the buffer is not as it was\n");
        exit(2);
    }
    buf_consume(&out, 6);
    save(path, buf_slice(&out));
    answer(e, buf_len(&out), msg.text);
    buf_release(&out);
}

static void get_sum(struct tool *t, const char *name, const char *offset, const char *length)
{
    struct buf out;
    char text[16] = "none";
    buf_init(&out, OUT_MAX);
    struct object_call c = {
        .op = offset ? OBJECT_GET_RANGE : OBJECT_GET,
        .name = name,
        .offset = offset ? strtoull(offset, NULL, 10) : 0,
        .length = offset ? strtoull(length, NULL, 10) : 0,
        .out = &out,
    };
    enum err e = object_run(t->store, &c, 1);
    if (c.sum.there)
        snprintf(text, sizeof text, "%08" PRIx32, c.sum.crc32c);
    answer(e, buf_len(&out), e == ERR_OK ? text : c.msg.text);
    buf_release(&out);
}

static bool print_name(void *arg, const char *name, uint64_t size)
{
    struct buf *b = arg;
    return buf_printf(b, "%" PRIu64 " %s\n", size, name) == ERR_OK;
}

static void list(struct tool *t, char **w)
{
    struct buf out;
    struct errmsg msg = {""};
    buf_init(&out, OUT_MAX);
    const char *prefix = strcmp(w[1], "^") ? w[1] : "", *after = strcmp(w[2], "^") ? w[2] : "";
    enum err e =
        object_list(t->store, prefix, after, strtoull(w[3], NULL, 10), print_name, &out, &msg);
    save(w[4], buf_slice(&out));
    answer(e, buf_len(&out), msg.text);
    buf_release(&out);
}

static void many(struct tool *t, bool puts, const char *prefix, const char *count, const char *path)
{
    size_t n = strtoul(count, NULL, 10);
    n = n < CALLS_MAX ? n : CALLS_MAX;
    struct slice data = load(path);
    struct object_call *calls = calloc(n, sizeof *calls);
    char(*names)[64] = calloc(n, sizeof *names);
    struct buf *outs = calloc(n, sizeof *outs);
    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], sizeof names[i], "%s%zu", prefix, i);
        buf_init(&outs[i], OUT_MAX);
        calls[i] = (struct object_call){.op = puts ? OBJECT_PUT : OBJECT_GET,
                                        .name = names[i],
                                        .parts = &data,
                                        .count = 1,
                                        .out = &outs[i]};
    }
    enum err e = object_run(t->store, calls, n);
    size_t good = 0, failed = n;
    for (size_t i = 0; i < n; i++) {
        good += calls[i].e == ERR_OK && (puts || slice_equal(buf_slice(&outs[i]), data));
        if (calls[i].e != ERR_OK && failed == n)
            failed = i;
        buf_release(&outs[i]);
    }
    answer(e, good, failed < n ? calls[failed].msg.text : "");
    free(calls);
    free(names);
    free(outs);
    free((void *)(uintptr_t)data.p);
}

static void race(struct tool *t, const char *name, const char *count)
{
    size_t n = strtoul(count, NULL, 10);
    n = n < CALLS_MAX ? n : CALLS_MAX;
    struct object_call *calls = calloc(n, sizeof *calls);
    struct slice *parts = calloc(n, sizeof *parts);
    char(*texts)[16] = calloc(n, sizeof *texts);
    for (size_t i = 0; i < n; i++) {
        snprintf(texts[i], sizeof texts[i], "racer %zu", i);
        parts[i] = slice_str(texts[i]);
        calls[i] = (struct object_call){
            .op = OBJECT_PUT_ABSENT, .name = name, .parts = &parts[i], .count = 1};
    }
    ERR_IGNORE(object_run(t->store, calls, n)); // the losers' error
    size_t won = 0;
    const char *other = "";
    for (size_t i = 0; i < n; i++) {
        won += calls[i].e == ERR_OK;
        if (calls[i].e != ERR_OK && calls[i].e != ERR_EXISTS)
            other = calls[i].msg.text;
    }
    answer(*other ? ERR_NETWORK : ERR_OK, won, other);
    free(calls);
    free(parts);
    free(texts);
}

static void cancel(struct tool *t, const char *how, const char *name, const char *path,
                   const char *ms)
{
    struct buf out, none;
    buf_init(&out, OUT_MAX);
    buf_init(&none, OUT_MAX);
    struct object_call c = {.op = OBJECT_GET, .name = name, .out = &out};
    struct object_call before = {.op = OBJECT_GET, .name = name, .out = &none};
    bool two = strcmp(how, "cancel-second") == 0;
    if (two)
        object_start(t->store, &before);
    object_start(t->store, &c);
    os_sleep_us(t->os, strtoull(ms, NULL, 10) * 1000);
    if (strcmp(how, "hurry") == 0)
        object_hurry(t->store);
    else
        object_cancel(t->store, &c);
    enum err e = object_wait(t->store, &c);
    if (two) {
        object_cancel(t->store, &before);
        ERR_IGNORE(object_wait(t->store, &before));
    }
    buf_release(&none);
    save(path, buf_slice(&out));
    answer(e, buf_len(&out), c.msg.text);
    buf_release(&out);
}

static void probe(struct tool *t)
{
    struct object_guarantees g;
    struct errmsg msg = {""};
    enum err e = object_probe(t->store, &g, &msg);
    uint64_t bits = (uint64_t)g.put_absent | (uint64_t)g.list_after_put << 1 |
                    (uint64_t)g.read_after_put << 2 | (uint64_t)g.ranges << 3 |
                    (uint64_t)g.list_in_order << 4 | (uint64_t)g.sums << 5;
    answer(e, bits, msg.text);
}

static void stats(struct tool *t)
{
    struct object_stats st;
    object_get_stats(t->store, &st);
    printf("OK 0");
#define X(name) printf(" " #name "=%" PRIu64, st.name);
    OBJECT_REQUESTS(X)
    OBJECT_COUNTS(X)
#undef X
    printf("\n");
    fflush(stdout);
}

static bool is(char **w, int words, const char *command, int arguments)
{
    return words == arguments + 1 && strcmp(w[0], command) == 0;
}

static void command(struct tool *t, char **w, int n)
{
    uint64_t size = 0;
    struct errmsg msg = {""};
    if (is(w, n, "put", 2) || is(w, n, "put-absent", 2)) {
        put(t, w[0][3] != 0, w[1], w[2], NULL);
    } else if (is(w, n, "put-sum", 3) || is(w, n, "put-absent-sum", 3)) {
        put(t, strcmp(w[0], "put-sum") != 0, w[1], w[2], w[3]);
    } else if (is(w, n, "sum", 1) || is(w, n, "range-sum", 3)) {
        get_sum(t, w[1], n > 2 ? w[2] : NULL, n > 2 ? w[3] : NULL);
    } else if (is(w, n, "get", 2)) {
        get(t, w[1], NULL, NULL, w[2]);
    } else if (is(w, n, "range", 4)) {
        get(t, w[1], w[2], w[3], w[4]);
    } else if (is(w, n, "head", 1)) {
        enum err e = object_head(t->store, w[1], &size, &msg);
        answer(e, size, msg.text);
    } else if (is(w, n, "delete", 1)) {
        enum err e = object_delete(t->store, w[1], &msg);
        answer(e, 0, msg.text);
    } else if (is(w, n, "list", 4)) {
        list(t, w);
    } else if (is(w, n, "put-many", 3) || is(w, n, "get-many", 3)) {
        many(t, w[0][0] == 'p', w[1], w[2], w[3]);
    } else if (is(w, n, "cancel", 3) || is(w, n, "cancel-second", 3) || is(w, n, "hurry", 3)) {
        cancel(t, w[0], w[1], w[2], w[3]);
    } else if (is(w, n, "race", 2)) {
        race(t, w[1], w[2]);
    } else if (is(w, n, "probe", 0)) {
        probe(t);
    } else if (is(w, n, "stats", 0)) {
        stats(t);
    } else if (is(w, n, "sleep", 1)) {
        os_sleep_us(t->os, strtoull(w[1], NULL, 10) * 1000);
        answer(ERR_OK, 0, "");
    } else {
        answer(ERR_INVALID, 0, "no such command");
    }
}

static void read_options(int argc, char **argv, struct object_options *o)
{
    const struct {
        const char *flag;
        const char **to;
    } texts[] = {
        {"--dir", &o->dir},
        {"--prefix", &o->prefix},
        {"--bucket", &o->s3.bucket},
        {"--endpoint", &o->s3.endpoint},
        {"--region", &o->s3.region},
        {"--access-key", &o->s3.access_key},
        {"--secret-key", &o->s3.secret_key},
        {"--session-token", &o->s3.session_token},
        {"--profile", &o->s3.profile},
        {"--ca-file", &o->s3.ca_file},
    };
    const struct {
        const char *flag;
        unsigned *to;
    } numbers[] = {{"--connections", &o->connections},
                   {"--timeout-ms", &o->timeout_ms},
                   {"--retry-ms", &o->retry_ms}};
    for (int i = 1; i + 1 < argc; i += 2) {
        for (size_t j = 0; j < sizeof texts / sizeof *texts; j++)
            if (strcmp(argv[i], texts[j].flag) == 0)
                *texts[j].to = argv[i + 1];
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++)
            if (strcmp(argv[i], numbers[j].flag) == 0)
                *numbers[j].to = (unsigned)strtoul(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--multipart-bytes") == 0)
            o->multipart_bytes = strtoull(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--path-style") == 0)
            o->s3.path_style = strcmp(argv[i + 1], "true") == 0;
        if (strcmp(argv[i], "--hash-payload") == 0)
            o->s3.hash_payload = strcmp(argv[i + 1], "true") == 0;
        if (strcmp(argv[i], "--default-credentials") == 0)
            o->s3.use_default_credentials = strcmp(argv[i + 1], "true") == 0;
    }
}

int main(int argc, char **argv)
{
    struct tool t = {.os = os_real()};
    struct object_options o = {.os = t.os};
    read_options(argc, argv, &o);
    o.kind = o.dir ? OBJECT_DIRECTORY : OBJECT_S3;
    struct errmsg msg = {""};
    enum err e = object_open(&t.store, &o, &msg);
    answer(e, 0, msg.text); // the first answer
    if (e != ERR_OK)
        return 1;
    static char line[LINE];
    while (fgets(line, sizeof line, stdin)) {
        char *w[WORDS], *save_word = NULL;
        int n = 0;
        for (char *p = line; n < WORDS; p = NULL) {
            char *word = strtok_r(p, " \n", &save_word);
            if (!word)
                break;
            w[n++] = word;
        }
        if (n > 0)
            command(&t, w, n);
    }
    object_close(t.store);
    return 0;
}
