// Writes a log through libvarve-archive, for tests/s3/test_archive.py:
//
//     archive_tool ENDPOINT BUCKET PREFIX direct|batching LABEL FROM COUNT BATCH
//
// appends records "LABEL-N", N from FROM on, with nonces N where LABEL is "nonce", BATCH in an
// append, to the log (ks, key). Prints "stored N" after each append (batching: after a flush) that
// was stored, N the records so far; "failed TEXT" and exit code 1 at the first that was not. The
// keys are test and testtest.
#include "varve-archive.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_MAX = 1000 };

static char texts[BATCH_MAX][64];
static struct varve_record records[BATCH_MAX];

static void fill(const char *label, uint64_t from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int size = snprintf(texts[i], sizeof texts[i], "%.32s-%" PRIu64, label, from + i);
        records[i] = (struct varve_record){.data = texts[i],
                                           .size = (size_t)size,
                                           .has_nonce = !strcmp(label, "nonce"),
                                           .nonce = {from + i, 0}};
    }
}

static int failed(const struct varve_archive *a)
{
    printf("failed %s\n", varve_archive_error_text(a));
    return 1;
}

static int run(struct varve_archive *a, bool batching, const char *label, uint64_t from,
               uint64_t count, size_t batch)
{
    static const struct varve_log log = {"ks", 2, "key", 3};
    struct varve_archive_batching b = {0};
    struct varve_archive_writer *w;
    uint64_t done = 0;
    int code = 0;
    if (varve_archive_writer_open(&w, a, batching ? &b : NULL) != VARVE_OK)
        return failed(a);
    while (done < count && !code) {
        size_t n = count - done < batch ? (size_t)(count - done) : batch;
        fill(label, from + done, n);
        if (varve_archive_append(w, &log, records, n, NULL) != VARVE_OK ||
            varve_archive_flush(w, NULL) != VARVE_OK)
            code = failed(a);
        done += n;
        if (!code)
            printf("stored %" PRIu64 "\n", done);
        fflush(stdout);
    }
    varve_archive_writer_close(w);
    return code;
}

int main(int argc, char **argv)
{
    struct varve_archive_options o = VARVE_ARCHIVE_OPTIONS;
    struct varve_archive *a;
    if (argc != 9)
        return 2;
    o.endpoint = argv[1];
    o.bucket_name = argv[2];
    o.object_prefix = argv[3];
    o.path_style = true;
    o.use_default_credentials = false;
    o.access_key = "test";
    o.secret_key = "testtest";
    o.compact_records_threshold = 100;
    o.compact_objects_threshold = 5;
    size_t batch = strtoul(argv[8], NULL, 10);
    if (varve_archive_open(&a, &o) != VARVE_OK)
        return failed(a);
    int code = run(a, !strcmp(argv[4], "batching"), argv[5], strtoull(argv[6], NULL, 10),
                   strtoull(argv[7], NULL, 10), batch < BATCH_MAX ? batch : BATCH_MAX);
    varve_archive_close(a);
    return code;
}
