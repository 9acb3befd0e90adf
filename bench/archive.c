// varve-archive: logs as objects, written and read through src/archive: how many requests that
// takes, and how fast a log is read.
//
//     varve-archive requests STORE [--millions N] [--interval MS]
//     varve-archive fill STORE [--objects N] [--records N]
//     varve-archive seek STORE [--tries N]
//     varve-archive read STORE
//     varve-archive objects STORE
//
// STORE is --dir DIR, or --endpoint URL --bucket B --access-key K --secret-key S; and [--prefix P].
// requests appends millions of records of 100 bytes over 100 logs through the batching writer, with
// its defaults (--interval: the age at which a batch is written), and prints as JSON what each
// million took. fill writes one log of so many objects, each of so many records of 100 bytes and
// complete as it is. Of that log: seek reads single records at random, each time with a reader that
// knows nothing; read reads all of it once, and looks at every record; objects prints the names of
// its data objects.
//
// Record n of a log has the offset n, timestamp n and nonce n and begins with n in 8 bytes.
#include "archive/batcher.h"
#include "archive/reader.h"
#include "archive/writer.h"
#include "base/os.h"
#include "cli/histogram.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MILLION = 1000000, LOGS = 100, VALUE = 100, RECORDS_MOST = 1000000, PAGE = 10000 };
#define KEYSPACE "bench"
#define LOG      "log"

struct options {
    struct object_options o;
    uint64_t connections; // to S3 at once; 0: the default
    uint64_t millions, interval_ms, objects, records, tries;
};

static const struct archive_log the_log = {{(const uint8_t *)KEYSPACE, sizeof KEYSPACE - 1},
                                           {(const uint8_t *)LOG, sizeof LOG - 1}};

static void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "varve-archive: %s: %s\n", what, why);
    exit(1);
}

static void must(const char *what, enum err e, const struct errmsg *msg)
{
    if (e)
        die(what, msg->text[0] ? msg->text : err_text(e));
}

static uint64_t now_ns(void)
{
    return os_mono_ns(os_real());
}

static uint64_t requests(struct object_store *s)
{
    struct object_stats st;
    object_get_stats(s, &st);
    return st.put + st.get + st.head + st.list + st.delete + st.multipart;
}

static struct archive_insert record_of(uint8_t bytes[VALUE], uint64_t number)
{
    memset(bytes, 'v', VALUE);
    store64(bytes, number);
    return (struct archive_insert){.has_timestamp = true,
                                   .timestamp = (int64_t)number,
                                   .nonce = number,
                                   .bytes = slice_of(bytes, VALUE)};
}

static void look(const struct record *r)
{
    if (r->bytes.n != VALUE || load64(r->bytes.p) != r->offset)
        die("reading", "a record is not the one that was written");
}

// ---- requests a million

static void append_million(struct archive_batcher *b, uint64_t from)
{
    struct errmsg msg = {""};
    uint8_t bytes[VALUE];
    for (uint64_t i = from; i < from + MILLION; i++) {
        struct archive_insert in = record_of(bytes, i / LOGS + 1);
        char key[16];
        int n = snprintf(key, sizeof key, "key%02u", (unsigned)(i % LOGS));
        struct archive_log log = {the_log.keyspace, slice_of(key, (size_t)n)};
        must("append", archive_batcher_append(b, &log, &in, 1, &msg), &msg);
    }
    must("flush", archive_batcher_flush_all(b, &msg), &msg);
}

static void count_requests(struct object_store *s, const struct options *o)
{
    struct archive_batcher_options batching = {.batch_flush_interval_millis = o->interval_ms};
    struct archive_batcher *b;
    struct errmsg msg = {""};
    must("open", archive_batcher_new(&b, s, os_real(), NULL, &batching, &msg), &msg);
    printf("[");
    for (uint64_t i = 0; i < o->millions; i++) {
        uint64_t before = requests(s), begin = now_ns();
        append_million(b, i * MILLION);
        printf("%s{\"requests\":%" PRIu64 ",\"seconds\":%.3f}", i ? "," : "", requests(s) - before,
               (double)(now_ns() - begin) / 1e9);
    }
    printf("]\n");
    struct archive_batcher_stats st;
    archive_batcher_get_stats(b, &st);
    if (st.stored != o->millions * MILLION)
        die("append", "not all records were stored");
    archive_batcher_free(b);
}

// ---- one log

static void fill(struct object_store *s, const struct options *o)
{
    struct archive_options options = {.compact_records_threshold = o->records};
    struct archive_writer *w;
    struct errmsg msg = {""};
    struct archive_insert *in = calloc(o->records, sizeof *in);
    uint8_t(*bytes)[VALUE] = calloc(o->records, sizeof *bytes);
    if (!in || !bytes)
        die("memory", "none");
    must("open", archive_writer_new(&w, s, os_real(), &options, &msg), &msg);
    uint64_t number = 1;
    for (uint64_t i = 0; i < o->objects; i++) {
        for (uint64_t j = 0; j < o->records; j++)
            in[j] = record_of(bytes[j], number++);
        struct archive_batch batch = {.log = the_log, .records = in, .count = o->records};
        must("append", archive_append(w, &batch, &msg), &msg);
        if (batch.taken != o->records)
            die("append", "the log was there before");
    }
    archive_writer_free(w);
    free(bytes);
    free(in);
}

static struct archive_reader *new_reader(struct object_store *s)
{
    struct archive_reader *r;
    struct errmsg msg = {""};
    must("reader", archive_reader_new(&r, s, NULL, &msg), &msg);
    return r;
}

static void seek(struct object_store *s, const struct options *o)
{
    static const char *const names[] = {"offset", "timestamp", "nonce"};
    static struct histogram latency;
    struct archive_meta meta;
    struct errmsg msg = {""};
    struct archive_reader *r = new_reader(s);
    must("meta", archive_key_meta(r, &the_log, &meta, &msg), &msg);
    archive_reader_free(r);
    for (unsigned start = 0; start < 3; start++) {
        uint64_t worst = 0, all = 0;
        memset(&latency, 0, sizeof latency);
        for (uint64_t i = 0; i < o->tries; i++) {
            uint64_t random;
            os_random(os_real(), &random, sizeof random);
            uint64_t number = 1 + random % (meta.next_offset - 1);
            struct archive_query q = {.start = (enum archive_start)(ARCHIVE_OFFSET + start),
                                      .offset = number,
                                      .timestamp = (int64_t)number,
                                      .nonce = number,
                                      .page_size = 1};
            struct archive_page page;
            uint64_t before = requests(s), begin = now_ns();
            r = new_reader(s);
            must("read", archive_read(r, &the_log, &q, &page, &msg), &msg);
            histogram_add(&latency, now_ns() - begin, 1);
            if (page.count != 1 || page.records[0].offset != number)
                die("read", "a record was not found");
            look(&page.records[0]);
            archive_reader_free(r); // what it fetches ahead counts too
            uint64_t cost = requests(s) - before;
            worst = cost > worst ? cost : worst;
            all += cost;
        }
        printf("%s\"%s\":{\"most\":%" PRIu64 ",\"mean\":%.2f,\"p50_us\":%.1f}", start ? "," : "{",
               names[start], worst, (double)all / (double)o->tries,
               (double)histogram_at(&latency, 0.5) / 1000);
    }
    printf("}\n");
}

static void read_all(struct object_store *s, const struct options *o)
{
    struct archive_reader *r = new_reader(s);
    struct archive_query q = {.page_size = PAGE, .reads_on = true};
    struct archive_page page = {.more = true};
    struct errmsg msg = {""};
    char token[ARCHIVE_TOKEN];
    uint64_t number = 1;
    (void)o;
    while (page.more) {
        must("read", archive_read(r, &the_log, &q, &page, &msg), &msg);
        for (size_t i = 0; i < page.count; i++) {
            if (page.records[i].offset != number++)
                die("read", "a record is missing");
            look(&page.records[i]);
        }
        memcpy(token, page.token, page.token_size);
        q.continuation = slice_of(token, page.token_size);
    }
    archive_reader_free(r);
    printf("{\"records\":%" PRIu64 "}\n", number - 1);
}

static bool print_object(void *arg, const char *name, uint64_t size)
{
    const struct options *o = arg;
    printf("%s%s %" PRIu64 "\n", o->o.prefix ? o->o.prefix : "", name, size);
    return true;
}

static void print_objects(struct object_store *s, const struct options *o)
{
    struct errmsg msg = {""};
    must("list",
         object_list(s, KEYSPACE "/" LOG "/data_", NULL, 0, print_object, (void *)(uintptr_t)o,
                     &msg),
         &msg);
}

// ---- options

typedef void (*verb_fn)(struct object_store *s, const struct options *o);

static verb_fn find_verb(const char *name)
{
    static const struct {
        const char *name;
        verb_fn fn;
    } verbs[] = {{"requests", count_requests},
                 {"fill", fill},
                 {"seek", seek},
                 {"read", read_all},
                 {"objects", print_objects}};
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (strcmp(name, verbs[i].name) == 0)
            return verbs[i].fn;
    return NULL;
}

static verb_fn parse(struct options *o, int argc, char **argv)
{
    const struct {
        const char *name;
        const char **text;
        uint64_t *number, max;
    } all[] = {
        {"--dir", &o->o.dir, NULL, 0},
        {"--endpoint", &o->o.s3.endpoint, NULL, 0},
        {"--bucket", &o->o.s3.bucket, NULL, 0},
        {"--access-key", &o->o.s3.access_key, NULL, 0},
        {"--secret-key", &o->o.s3.secret_key, NULL, 0},
        {"--prefix", &o->o.prefix, NULL, 0},
        {"--parallel", NULL, &o->connections, 256},
        {"--millions", NULL, &o->millions, 1000},
        {"--interval", NULL, &o->interval_ms, 86400000},
        {"--objects", NULL, &o->objects, MILLION},
        {"--records", NULL, &o->records, RECORDS_MOST},
        {"--tries", NULL, &o->tries, MILLION},
    };
    verb_fn verb = argc % 2 == 0 ? find_verb(argv[1]) : NULL;
    *o = (struct options){.o = {.os = os_real(), .s3 = {.path_style = true}},
                          .millions = 3,
                          .objects = 10000,
                          .records = 3,
                          .tries = 200};
    for (int i = 2; verb && i + 1 < argc; i += 2) {
        size_t j = 0;
        while (j < sizeof all / sizeof *all && strcmp(argv[i], all[j].name) != 0)
            j++;
        char *end = NULL;
        if (j == sizeof all / sizeof *all)
            return NULL;
        if (all[j].text) {
            *all[j].text = argv[i + 1];
            continue;
        }
        *all[j].number = strtoull(argv[i + 1], &end, 10);
        if (*end || *all[j].number < 1 || *all[j].number > all[j].max)
            return NULL;
    }
    o->o.connections = (unsigned)o->connections;
    o->o.kind = o->o.dir ? OBJECT_DIRECTORY : OBJECT_S3;
    return verb;
}

int main(int argc, char **argv)
{
    struct options o;
    struct object_store *s;
    struct errmsg msg = {""};
    verb_fn verb = parse(&o, argc, argv);
    if (!verb) {
        (void)fprintf(stderr,
                      "usage: varve-archive requests|fill|seek|read|objects --dir DIR | "
                      "--endpoint URL --bucket B\n       --access-key K --secret-key S "
                      "[--prefix P] [--parallel N] [--millions N] [--interval MS] [--objects N] "
                      "[--records N] [--tries N]\n");
        return 2;
    }
    must("open", object_open(&s, &o.o, &msg), &msg);
    verb(s, &o);
    object_close(s);
    return 0;
}
