// Logs kept as objects, in an S3 bucket or a directory, without a server: klstore's layout
// (docs/FORMATS.md, "Log objects"). libvarve-archive, apart from libvarve because it needs libcurl,
// OpenSSL and expat; it uses libvarve's types.
//
//     struct varve_archive_options o = VARVE_ARCHIVE_OPTIONS;
//     struct varve_archive *a;
//     struct varve_archive_writer *w;
//     struct varve_log log = {"ks", 2, "key", 3};
//     struct varve_record r = {.data = "hello", .size = 5};
//     o.bucket_name = "bucket"; // or o.directory = "/srv/logs"
//     if (varve_archive_open(&a, &o) == VARVE_OK &&
//         varve_archive_writer_open(&w, a, NULL) == VARVE_OK &&
//         varve_archive_append(w, &log, &r, 1, NULL) == VARVE_OK)
//         puts("stored");
//     else
//         fprintf(stderr, "%s\n", varve_archive_error_text(a));
//     varve_archive_writer_close(w);
//     varve_archive_close(a);
//
// Writers: a direct one stores each append before it returns; a batching one queues records and
// stores them on threads of its own, and varve_archive_flush tells that they are stored. Two
// writers of one log cannot both succeed: the one that came last takes over, the other's calls
// return VARVE_CONFLICT from then on, and nothing of what they did not confirm is in the log. Close
// it then.
//
// Readers need nothing but the objects. Continuation tokens work with any reader, before and after
// compactions, in both directions.
//
// Threads: an archive and a batching writer may be used by all threads, direct writers and readers
// by one at a time. Texts of errors are the calling thread's.
//
// Errors: VARVE_MISSING, VARVE_CONFLICT (fenced, or a keyspace exists), VARVE_INVALID (arguments, a
// token of another log), VARVE_NETWORK (no answer: a write may or may not have happened),
// VARVE_NO_MEMORY, VARVE_ERROR (everything else: refused by the store, an object that is damaged).
#ifndef VARVE_ARCHIVE_H
#define VARVE_ARCHIVE_H

#include "varve.h"

#ifdef __cplusplus
extern "C" {
#endif

// Either a directory or a bucket. The text members may be NULL, the numbers 0: the default.
struct varve_archive_options {
    const char *directory; // made if missing
    const char *object_prefix;
    const char *bucket_name;
    const char *endpoint; // "http://HOST:PORT"; default: AWS
    const char *region;   // us-east-1
    bool path_style;
    bool use_default_credentials; // environment, ~/.aws, metadata; else the keys below
    const char *access_key;
    const char *secret_key;
    const char *security_token;
    const char *session_token;
    const char *profile;
    uint64_t compact_records_threshold; // 1000
    uint64_t compact_size_threshold;    // 1 MiB
    uint64_t compact_objects_threshold; // 100
    uint64_t max_cached_keys;           // 100,000
    uint64_t default_page_size;         // 1000
    const char *ca_file;                // PEM, of the authorities to trust; default: the system's
    bool hash_payload;                  // hash and sign bodies also over https and to this machine
};
#define VARVE_ARCHIVE_OPTIONS                                              \
    {                                                                      \
        0, 0, 0, 0, 0, false, true, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, false \
    }

struct varve_archive;
struct varve_archive_writer;
struct varve_archive_reader;

// Opens; no request is made yet. *archive is NULL after an error.
VARVE_API VARVE_MUST_USE enum varve_error
varve_archive_open(struct varve_archive **archive, const struct varve_archive_options *options);
// Close writers and readers first. NULL does nothing.
VARVE_API void varve_archive_close(struct varve_archive *archive);
// What the calling thread's last failed call said. `archive` may be NULL.
VARVE_API const char *varve_archive_error_text(const struct varve_archive *archive);

// VARVE_CONFLICT if it exists. created_ms may be NULL.
VARVE_API VARVE_MUST_USE enum varve_error
varve_archive_keyspace_create(struct varve_archive *archive, const void *keyspace,
                              size_t keyspace_size, uint64_t *created_ms);
// VARVE_MISSING if it does not.
VARVE_API VARVE_MUST_USE enum varve_error varve_archive_keyspace_get(struct varve_archive *archive,
                                                                     const void *keyspace,
                                                                     size_t keyspace_size,
                                                                     uint64_t *created_ms);

// ---- writing

// Zero is the default.
struct varve_archive_batching {
    unsigned writer_thread_count;                // 1
    uint64_t writer_thread_queue_capacity;       // no limit but 64 MiB a thread
    uint64_t batch_check_interval_millis;        // 100
    uint64_t batch_flush_interval_millis;        // 1000
    uint64_t batch_flush_record_count_threshold; // no limit
    uint64_t batch_flush_size_threshold;         // 1,000,000
};

// `batching` NULL: a direct writer.
VARVE_API VARVE_MUST_USE enum varve_error
varve_archive_writer_open(struct varve_archive_writer **writer, struct varve_archive *archive,
                          const struct varve_archive_batching *batching);
// What was appended and not flushed may be lost. NULL does nothing.
VARVE_API void varve_archive_writer_close(struct varve_archive_writer *writer);
// Appends records (offsets are not looked at); those whose nonces are below the log's next one are
// there already and are dropped. `result` may be NULL; with a batching writer, which knows nothing
// of it yet, it must be.
VARVE_API VARVE_MUST_USE enum varve_error varve_archive_append(struct varve_archive_writer *writer,
                                                               const struct varve_log *log,
                                                               const struct varve_record *records,
                                                               size_t count,
                                                               struct varve_appended *result);
// Returns when all that was appended so far, to the log or (NULL) to any, is stored. The first
// error of a batching writer is what every later call says.
VARVE_API VARVE_MUST_USE enum varve_error varve_archive_flush(struct varve_archive_writer *writer,
                                                              const struct varve_log *log);
// Deletes the log's objects all of whose records have offsets below `before`, oldest first; the
// newest object, and what may be merged yet, stay. Readers see a log that begins later. `first`
// (may be NULL): where it begins now. The log becomes the writer's, as with an append: another
// writer of it is fenced. Not with a batching writer: VARVE_INVALID.
VARVE_API VARVE_MUST_USE enum varve_error varve_archive_trim(struct varve_archive_writer *writer,
                                                             const struct varve_log *log,
                                                             uint64_t before, uint64_t *first);
// Flushes a log and lets it go: another writer can then have it without fencing this one.
VARVE_API VARVE_MUST_USE enum varve_error varve_archive_release(struct varve_archive_writer *writer,
                                                                const struct varve_log *log);

// ---- reading

VARVE_API VARVE_MUST_USE enum varve_error
varve_archive_reader_open(struct varve_archive_reader **reader, struct varve_archive *archive);
VARVE_API void varve_archive_reader_close(struct varve_archive_reader *reader);
// VARVE_MISSING if there is no such log.
VARVE_API VARVE_MUST_USE enum varve_error varve_archive_meta(struct varve_archive_reader *reader,
                                                             const struct varve_log *log,
                                                             uint64_t *next_offset,
                                                             struct varve_u128 *next_nonce);

struct varve_archive_page {
    const struct varve_record *records; // in the reading's direction; they and their bytes live
    size_t count;                       // until the reader's next call
    bool more;
    size_t continuation_size;
    char continuation[VARVE_CONTINUATION];
};
// Reads a page: up to query->page_size records, or 4 MiB of them. query->continuation may point
// into `page`. Filters are VARVE_INVALID. A log that does not exist is empty.
VARVE_API VARVE_MUST_USE enum varve_error varve_archive_read(struct varve_archive_reader *reader,
                                                             const struct varve_log *log,
                                                             const struct varve_log_query *query,
                                                             struct varve_archive_page *page);

#ifdef __cplusplus
}
#endif

#endif
