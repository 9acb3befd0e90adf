// Prints a log with the stateless reader: log_tool DIRECTORY|- KEYSPACE KEY forwards|backwards PAGE
// For S3 ("-") VARVE_TEST_S3 is its endpoint, path style; bucket, keys and token are those of
// klstore's example. A line a record: offset, timestamp, nonce or "-", bytes in hex ("." none).
#include "archive/reader.h"
#include "base/os.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print(const struct record *r)
{
    char nonce[U128_TEXT] = "-";
    if (r->nonce != NONCE_NONE)
        u128_format(r->nonce, nonce);
    printf("%" PRIu64 " %" PRId64 " %s %s", r->offset, r->timestamp, nonce, r->bytes.n ? "" : ".");
    for (size_t i = 0; i < r->bytes.n; i++)
        printf("%02x", r->bytes.p[i]);
    putchar('\n');
}

static enum err pages(struct archive_reader *r, char **argv, struct errmsg *msg)
{
    const struct archive_log log = {slice_str(argv[2]), slice_str(argv[3])};
    struct archive_query q = {.backwards = !strcmp(argv[4], "backwards"),
                              .page_size = strtoull(argv[5], NULL, 10)};
    struct archive_page page = {.more = true};
    char token[ARCHIVE_TOKEN];
    enum err e = ERR_OK;
    while (!e && page.more) {
        e = archive_read(r, &log, &q, &page, msg);
        for (size_t i = 0; !e && i < page.count; i++)
            print(&page.records[i]);
        memcpy(token, page.token, sizeof token);
        q.continuation = slice_of(token, page.token_size);
    }
    return e;
}

int main(int argc, char **argv)
{
    struct object_store *store;
    struct archive_reader *reader = NULL;
    struct errmsg msg = {""};
    if (argc != 6)
        return 2;
    bool s3 = !strcmp(argv[1], "-");
    const struct object_options o = {.os = os_real(),
                                     .kind = s3 ? OBJECT_S3 : OBJECT_DIRECTORY,
                                     .dir = argv[1],
                                     .s3 = {.bucket = "my-bucket",
                                            .endpoint = os_env("VARVE_TEST_S3"),
                                            .path_style = true,
                                            .access_key = "test",
                                            .secret_key = "test",
                                            .session_token = "test"}};
    enum err e = object_open(&store, &o, &msg);
    e = e ? e : archive_reader_new(&reader, store, NULL, &msg);
    e = e ? e : pages(reader, argv, &msg);
    if (e)
        fprintf(stderr, "%s\n", msg.text);
    archive_reader_free(reader);
    object_close(store);
    return e ? 1 : 0;
}
