// varve-object: objects put and fetched through src/object, so that it can be held against
// `curl --parallel` moving the same bytes (bench/object-curl does both).
//
//     varve-object put|get --endpoint URL --bucket B --access-key K --secret-key S
//         [--prefix P] [--count N] [--bytes N] [--parallel N] [--ca-file F] [--hash-payload true]
//     varve-object put|get --dir DIR ...
//
// Objects are PREFIX0, PREFIX1, ...; each begins with its number, so that no two are alike. Prints
// MB/s (10^6 bytes), and what it took in requests, connections and processor time.
#include "base/buf.h"
#include "object/object.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct options {
    struct object_options o;
    bool puts;
    unsigned count;
    unsigned bytes;
};

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "varve-object: %s: %s\n", what, why);
    return 1;
}

static bool read_options(int argc, char **argv, struct options *p)
{
    const struct {
        const char *flag;
        const char **text;
        unsigned *number;
    } all[] = {
        {"--endpoint", &p->o.s3.endpoint, NULL},
        {"--bucket", &p->o.s3.bucket, NULL},
        {"--access-key", &p->o.s3.access_key, NULL},
        {"--secret-key", &p->o.s3.secret_key, NULL},
        {"--region", &p->o.s3.region, NULL},
        {"--ca-file", &p->o.s3.ca_file, NULL},
        {"--dir", &p->o.dir, NULL},
        {"--prefix", &p->o.prefix, NULL},
        {"--count", NULL, &p->count},
        {"--bytes", NULL, &p->bytes},
        {"--parallel", NULL, &p->o.connections},
    };
    if (argc < 2)
        return false;
    p->puts = strcmp(argv[1], "put") == 0;
    if (!p->puts && strcmp(argv[1], "get") != 0)
        return false;
    for (int i = 2; i < argc; i += 2) {
        bool known = false;
        for (size_t j = 0; j < sizeof all / sizeof *all && i + 1 < argc; j++) {
            if (strcmp(argv[i], all[j].flag) != 0)
                continue;
            known = true;
            if (all[j].text)
                *all[j].text = argv[i + 1];
            else
                *all[j].number = (unsigned)strtoul(argv[i + 1], NULL, 10);
        }
        if (i + 1 < argc && strcmp(argv[i], "--hash-payload") == 0) {
            known = true;
            p->o.s3.hash_payload = strcmp(argv[i + 1], "true") == 0;
        }
        if (!known)
            return false;
    }
    p->o.kind = p->o.dir ? OBJECT_DIRECTORY : OBJECT_S3;
    return p->count > 0 && p->count <= 1000000 && p->bytes >= 8;
}

// A call of the run; all but the number that an object begins with is the same bytes.
struct job {
    struct object_call call;
    char name[16];
    uint64_t number;
    struct slice parts[2];
};

static struct job *make_jobs(const struct options *p, struct slice body)
{
    struct job *jobs = calloc(p->count, sizeof *jobs);
    for (unsigned i = 0; jobs && i < p->count; i++) {
        struct job *j = &jobs[i];
        snprintf(j->name, sizeof j->name, "%u", i);
        j->number = i;
        j->parts[0] = slice_of(&j->number, sizeof j->number);
        j->parts[1] = slice_of(body.p, body.n - sizeof j->number);
        j->call = (struct object_call){.op = p->puts ? OBJECT_PUT : OBJECT_GET,
                                       .name = j->name,
                                       .parts = j->parts,
                                       .count = 2};
    }
    return jobs;
}

static enum err finish(struct object_store *s, const struct options *p, struct job *j)
{
    enum err e = object_wait(s, &j->call);
    const struct buf *out = j->call.out;
    if (e == ERR_OK && !p->puts && (buf_len(out) != p->bytes || load64(buf_head(out)) != j->number))
        e = err_set(&j->call.msg, ERR_DAMAGED, "object %s is another", j->name);
    return e;
}

// As a reader or writer does it: so many under way, the oldest waited for and replaced, its buffer
// used again.
static enum err run(struct object_store *s, const struct options *p, struct job *jobs,
                    struct buf *outs, unsigned window, struct errmsg *msg)
{
    enum err first = ERR_OK;
    for (unsigned i = 0; i < p->count + window; i++) {
        if (i >= window && i - window < p->count) {
            struct job *j = &jobs[i - window];
            enum err e = finish(s, p, j);
            if (e != ERR_OK && first == ERR_OK) {
                first = e;
                *msg = j->call.msg;
            }
        }
        if (i < p->count) {
            jobs[i].call.out = &outs[i % window];
            buf_clear(&outs[i % window]);
            object_start(s, &jobs[i].call);
        }
    }
    return first;
}

int main(int argc, char **argv)
{
    struct os *os = os_real();
    struct options p = {
        .o = {.os = os, .s3 = {.path_style = true}}, .count = 500, .bytes = 1 << 20};
    if (!read_options(argc, argv, &p))
        return fail("usage", "varve-object put|get --endpoint URL --bucket B --access-key K "
                             "--secret-key S [--count N] [--bytes N] [--parallel N]");
    uint8_t *bytes = malloc(p.bytes);
    struct job *jobs = bytes ? make_jobs(&p, slice_of(bytes, p.bytes)) : NULL;
    unsigned window = 2 * (p.o.connections ? p.o.connections : 16);
    struct buf *outs = calloc(window, sizeof *outs);
    struct object_store *s;
    struct errmsg msg = {""};
    if (!jobs || !outs)
        return fail("start", "out of memory");
    os_random(os, bytes, p.bytes);
    for (unsigned i = 0; i < window; i++)
        buf_init(&outs[i], p.bytes);
    if (object_open(&s, &p.o, &msg) != ERR_OK)
        return fail("open", msg.text);
    struct os_usage before, after;
    os_usage(&before);
    uint64_t begin = os_mono_ns(os);
    enum err e = run(s, &p, jobs, outs, window, &msg);
    double seconds = (double)(os_mono_ns(os) - begin) / 1e9;
    os_usage(&after);
    struct object_stats st;
    object_get_stats(s, &st);
    object_close(s);
    for (unsigned i = 0; i < window; i++)
        buf_release(&outs[i]);
    free(outs);
    free(jobs);
    free(bytes);
    if (e != ERR_OK)
        return fail(argv[1], msg.text);
    printf("%s: %.1f MB/s (%u objects of %u bytes in %.2f s; %" PRIu64 " requests, %" PRIu64
           " retries, %" PRIu64 " connections, %.2f s of processor)\n",
           argv[1], (double)p.count * p.bytes / 1e6 / seconds, p.count, p.bytes, seconds,
           st.put + st.get, st.retries, st.connects, (double)(after.cpu_us - before.cpu_us) / 1e6);
    return 0;
}
