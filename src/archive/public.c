// The library of include/varve-archive.h: this room's and object's interfaces in the types of
// varve.h. Compiled into libvarve-archive only.
#include "varve-archive.h"
#include "archive/batcher.h"
#include "archive/reader.h"
#include <stdlib.h>

struct varve_archive {
    struct object_store *store;
    struct archive_options options;
};

struct varve_archive_writer {
    struct varve_archive *archive;
    struct archive_writer *direct; // one of the two
    struct archive_batcher *batching;
};

struct varve_archive_reader {
    struct varve_archive *archive;
    struct archive_reader *reader;
    struct varve_record *records;
    size_t cap;
};

static _Thread_local struct errmsg last;

const char *varve_archive_error_text(const struct varve_archive *archive)
{
    (void)archive;
    return last.text;
}

static enum varve_error told(enum err e)
{
    switch (e) {
    case ERR_OK:
        return VARVE_OK;
    case ERR_MISSING:
    case ERR_NO_KEYSPACE:
        return VARVE_MISSING;
    case ERR_CONFLICT:
    case ERR_EXISTS:
        return VARVE_CONFLICT;
    case ERR_INVALID:
    case ERR_TOO_BIG:
        return VARVE_INVALID;
    case ERR_NETWORK:
        return VARVE_NETWORK;
    case ERR_NO_MEMORY:
        return VARVE_NO_MEMORY;
    default:
        return VARVE_ERROR;
    }
}

static enum varve_error no_memory(void)
{
    return told(err_set(&last, ERR_NO_MEMORY, "out of memory"));
}

static struct archive_log name_of(const struct varve_log *log)
{
    return (struct archive_log){slice_of(log->keyspace, log->keyspace_size),
                                slice_of(log->key, log->key_size)};
}

static u128 wide(struct varve_u128 v)
{
    return (u128)v.high << 64 | v.low;
}

static struct varve_u128 narrow(u128 v)
{
    struct varve_u128 n;
    n.low = (uint64_t)v;
    n.high = (uint64_t)(v >> 64);
    return n;
}

enum varve_error varve_archive_open(struct varve_archive **archive,
                                    const struct varve_archive_options *o)
{
    struct varve_archive *a = *archive = calloc(1, sizeof *a);
    if (!a)
        return no_memory();
    struct object_options options = {.os = os_real(),
                                     .kind = o->directory ? OBJECT_DIRECTORY : OBJECT_S3,
                                     .prefix = o->object_prefix ? o->object_prefix : "",
                                     .dir = o->directory,
                                     .s3 = {.bucket = o->bucket_name,
                                            .endpoint = o->endpoint,
                                            .region = o->region,
                                            .path_style = o->path_style,
                                            .use_default_credentials = o->use_default_credentials,
                                            .access_key = o->access_key,
                                            .secret_key = o->secret_key,
                                            .security_token = o->security_token,
                                            .session_token = o->session_token,
                                            .profile = o->profile,
                                            .ca_file = o->ca_file,
                                            .hash_payload = o->hash_payload}};
    a->options = (struct archive_options){o->compact_records_threshold, o->compact_size_threshold,
                                          o->compact_objects_threshold, o->max_cached_keys,
                                          o->default_page_size};
    enum err e = !o->directory == !o->bucket_name
                     ? err_set(&last, ERR_INVALID, "either a directory or a bucket_name is wanted")
                     : object_open(&a->store, &options, &last);
    if (e) {
        free(a);
        *archive = NULL;
    }
    return told(e);
}

void varve_archive_close(struct varve_archive *archive)
{
    if (archive)
        object_close(archive->store);
    free(archive);
}

enum varve_error varve_archive_keyspace_create(struct varve_archive *archive, const void *keyspace,
                                               size_t keyspace_size, uint64_t *created_ms)
{
    return told(archive_create_keyspace(archive->store, os_real(),
                                        slice_of(keyspace, keyspace_size), created_ms, &last));
}

enum varve_error varve_archive_keyspace_get(struct varve_archive *archive, const void *keyspace,
                                            size_t keyspace_size, uint64_t *created_ms)
{
    struct archive_reader *r;
    uint64_t created = 0;
    enum err e = archive_reader_new(&r, archive->store, NULL, &last);
    e = e ? e : archive_keyspace_meta(r, slice_of(keyspace, keyspace_size), &created, &last);
    archive_reader_free(r);
    if (!e && created_ms)
        *created_ms = created;
    return told(e);
}

// ---- writing

enum varve_error varve_archive_writer_open(struct varve_archive_writer **writer,
                                           struct varve_archive *archive,
                                           const struct varve_archive_batching *b)
{
    struct varve_archive_writer *w = *writer = calloc(1, sizeof *w);
    enum err e;
    if (!w)
        return no_memory();
    w->archive = archive;
    if (b) {
        struct archive_batcher_options o = {
            .writer_thread_count = b->writer_thread_count,
            .writer_thread_queue_capacity = b->writer_thread_queue_capacity,
            .batch_check_interval_millis = b->batch_check_interval_millis,
            .batch_flush_interval_millis = b->batch_flush_interval_millis,
            .batch_flush_record_count_threshold = b->batch_flush_record_count_threshold,
            .batch_flush_size_threshold = b->batch_flush_size_threshold};
        e = archive_batcher_new(&w->batching, archive->store, os_real(), &archive->options, &o,
                                &last);
    } else {
        e = archive_writer_new(&w->direct, archive->store, os_real(), &archive->options, &last);
    }
    if (e) {
        free(w);
        *writer = NULL;
    }
    return told(e);
}

void varve_archive_writer_close(struct varve_archive_writer *writer)
{
    if (!writer)
        return;
    archive_batcher_free(writer->batching);
    archive_writer_free(writer->direct);
    free(writer);
}

static enum err append(struct varve_archive_writer *w, const struct varve_log *log,
                       const struct archive_insert *in, size_t count, struct varve_appended *result)
{
    struct archive_log name = name_of(log);
    if (w->batching)
        return archive_batcher_append(w->batching, &name, in, count, &last);
    struct archive_batch b = {.log = name, .records = in, .count = count};
    enum err e = archive_append(w->direct, &b, &last);
    if (!e && result) {
        result->first_offset = b.first_offset;
        result->next_offset = b.next_offset;
        result->appended = b.taken;
        result->next_nonce = narrow(b.next_nonce);
        result->timestamp = 0;
    }
    return e;
}

enum varve_error varve_archive_append(struct varve_archive_writer *writer,
                                      const struct varve_log *log,
                                      const struct varve_record *records, size_t count,
                                      struct varve_appended *result)
{
    if (writer->batching && result)
        return told(err_set(&last, ERR_INVALID, "a batching writer has no result yet"));
    struct archive_insert *in = calloc(count + 1, sizeof *in);
    if (!in)
        return no_memory();
    for (size_t i = 0; i < count; i++) {
        const struct varve_record *r = &records[i];
        in[i] = (struct archive_insert){r->has_timestamp, r->timestamp,
                                        r->has_nonce ? wide(r->nonce) : NONCE_NONE,
                                        slice_of(r->data, r->size)};
    }
    enum err e = append(writer, log, in, count, result);
    free(in);
    return told(e);
}

enum varve_error varve_archive_flush(struct varve_archive_writer *writer,
                                     const struct varve_log *log)
{
    if (!writer->batching) // all is stored
        return VARVE_OK;
    if (!log)
        return told(archive_batcher_flush_all(writer->batching, &last));
    struct archive_log name = name_of(log);
    return told(archive_batcher_flush_key(writer->batching, &name, &last));
}

enum varve_error varve_archive_release(struct varve_archive_writer *writer,
                                       const struct varve_log *log)
{
    struct archive_log name = name_of(log);
    return told(writer->batching ? archive_batcher_release(writer->batching, &name, &last)
                                 : archive_writer_release(writer->direct, &name, &last));
}

enum varve_error varve_archive_trim(struct varve_archive_writer *writer,
                                    const struct varve_log *log, uint64_t before, uint64_t *first)
{
    if (writer->batching)
        return told(err_set(&last, ERR_INVALID, "a batching writer does not trim"));
    struct archive_trim t = {.log = name_of(log), .before = before};
    enum err e;
    do
        e = archive_trim(writer->direct, &t, &last);
    while (!e && t.more);
    if (!e && first)
        *first = t.first;
    return told(e);
}

// ---- reading

enum varve_error varve_archive_reader_open(struct varve_archive_reader **reader,
                                           struct varve_archive *archive)
{
    struct varve_archive_reader *r = *reader = calloc(1, sizeof *r);
    struct archive_reader_options o = {.default_page_size = archive->options.default_page_size};
    if (!r)
        return no_memory();
    r->archive = archive;
    enum err e = archive_reader_new(&r->reader, archive->store, &o, &last);
    if (e) {
        free(r);
        *reader = NULL;
    }
    return told(e);
}

void varve_archive_reader_close(struct varve_archive_reader *reader)
{
    if (!reader)
        return;
    archive_reader_free(reader->reader);
    free(reader->records);
    free(reader);
}

enum varve_error varve_archive_meta(struct varve_archive_reader *reader,
                                    const struct varve_log *log, uint64_t *next_offset,
                                    struct varve_u128 *next_nonce)
{
    struct archive_log name = name_of(log);
    struct archive_meta meta;
    enum err e = archive_key_meta(reader->reader, &name, &meta, &last);
    if (!e) {
        *next_offset = meta.next_offset;
        *next_nonce = narrow(meta.next_nonce);
    }
    return told(e);
}

static enum err give(struct varve_archive_reader *r, const struct archive_page *from,
                     struct varve_archive_page *page)
{
    if (from->count > r->cap) {
        struct varve_record *v = realloc(r->records, from->count * sizeof *v);
        if (!v)
            return err_set(&last, ERR_NO_MEMORY, "out of memory");
        r->records = v;
        r->cap = from->count;
    }
    for (size_t i = 0; i < from->count; i++) {
        const struct record *in = &from->records[i];
        r->records[i] = (struct varve_record){.offset = in->offset,
                                              .timestamp = in->timestamp,
                                              .has_timestamp = true,
                                              .has_nonce = in->nonce != NONCE_NONE,
                                              .data = in->bytes.p,
                                              .size = in->bytes.n};
        if (in->nonce != NONCE_NONE)
            r->records[i].nonce = narrow(in->nonce);
    }
    *page = (struct varve_archive_page){.records = r->records,
                                        .count = from->count,
                                        .more = from->more,
                                        .continuation_size = from->token_size};
    memcpy(page->continuation, from->token, from->token_size);
    return ERR_OK;
}

enum varve_error varve_archive_read(struct varve_archive_reader *reader,
                                    const struct varve_log *log,
                                    const struct varve_log_query *query,
                                    struct varve_archive_page *page)
{
    static const enum archive_start starts[] = {
        [VARVE_START_FIRST] = ARCHIVE_FIRST,
        [VARVE_START_OFFSET] = ARCHIVE_OFFSET,
        [VARVE_START_TIMESTAMP] = ARCHIVE_TIMESTAMP,
        [VARVE_START_NONCE] = ARCHIVE_NONCE,
    };
    if (query->filter != VARVE_FILTER_NONE || query->start > VARVE_START_NONCE)
        return told(err_set(&last, ERR_INVALID, "objects are read without filters and tails"));
    struct archive_log name = name_of(log);
    struct archive_query q = {.backwards = query->backwards,
                              .start = starts[query->start],
                              .offset = query->offset,
                              .timestamp = query->timestamp,
                              .nonce = wide(query->nonce),
                              .page_size = query->page_size,
                              .continuation =
                                  slice_of(query->continuation, query->continuation_size)};
    struct archive_page got;
    enum err e = archive_read(reader->reader, &name, &q, &got, &last);
    return told(e ? e : give(reader, &got, page));
}
