// The store on RocksDB 7.8. Each space is a column family. Nothing is ever written through
// RocksDB's own log and memtable: a checkpoint writes sorted SST files into DIR/ingest-tmp and
// hands them over by ingestion, one atomic call a space. README.md has the argument why that is
// durable, and the reasons for the options.
#include "store/spool.h"
#include "store/store_int.h"
#include "base/assert.h"
#include "base/log.h"
#include <inttypes.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_BYTES      (64u << 20) // an SST file is closed at this size (on disk)
#define BLOCK_BYTES     (16u << 10) // a data block before compression
#define META_BYTES      (16u << 10) // a partition of an index or filter
#define FILTER_BITS     10          // a key; one absent key in about 100 passes
#define OPEN_FILES      4096        // table files held open; the rest are opened again when read
#define CACHE_SHARD     (4u << 20)  // a shard of the block cache holds at least this
#define STALL_WAIT_MS   10000       // a commit waits this long at most for compaction to catch up
#define STALL_STEP_US   20000
#define READ_CACHE_ONLY 1 // rocksdb::kBlockCacheTier
#define LEVELS          7
#define CHUNK_LEVEL     1 // of LZ4HC: 3 to 9 win 0 to 3 % of space for up to three times the time

static const char *const space_names[STORE_SPACES] = {
    [STORE_KEYS] = "default", [STORE_IDEM] = "idempotency", [STORE_EXPIRY] = "expiry",
    [STORE_LOGS] = "logs",    [STORE_EVENTS] = "events",    [STORE_RELS] = "relations",
};

struct rocks {
    struct store base;
    rocksdb_t *db;
    rocksdb_column_family_handle_t *cf[STORE_SPACES];
    rocksdb_cache_t *cache;
    rocksdb_options_t *writer_options[STORE_SPACES];
    rocksdb_options_t *hurry_options[STORE_SPACES]; // the same with LZ4 for everything
    rocksdb_envoptions_t *env_options;
    rocksdb_ingestexternalfileoptions_t *ingest_options;
    // Read-only after opening, so every thread uses the same ones.
    rocksdb_readoptions_t *read_disk;
    rocksdb_readoptions_t *read_memory;
    rocksdb_readoptions_t *read_scan;
    rocksdb_readoptions_t *read_verify;
    // False while a space never held anything: its absent keys then cost one load. Set before the
    // first files become visible and never cleared.
    atomic_bool has_data[STORE_SPACES];
    struct spool spool;
    uint64_t missing; // number of a table that RocksDB did not find at open; 0: none
    bool broken;      // the MANIFEST could not be written: no commits until the next open
};

struct rocks_writer {
    struct store_writer base;
    struct rocks *r;
    rocksdb_sstfilewriter_t *sst; // of the space being written, or NULL
    bool open;                    // a file of `sst` is open: the last of `files`
    bool hurried;                 // `sst` has the options for a hurry
    char **files;                 // finished files, then the open one; paths, owned
    size_t count;
    size_t room;
    size_t space_files[STORE_SPACES]; // how many of them each space has; they lie in space order
};

struct rocks_iter {
    struct store_iter base;
    rocksdb_iterator_t *it;
    rocksdb_readoptions_t *options; // its own, or NULL: the store's read_scan
    uint8_t *end;                   // what `options` point to: the first key past the range
};

// What RocksDB's C interface gives of an error is the text of its Status: "Kind: details".
static bool text_starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static enum err error_of(const char *text)
{
    if (text_starts(text, "Result incomplete"))
        return ERR_COLD; // the answer is not in the cache
    if (text_starts(text, "Corruption"))
        return ERR_DAMAGED;
    if (strstr(text, "No space left on device"))
        return ERR_NO_SPACE;
    if (text_starts(text, "Resource busy") || strstr(text, "lock hold by current process") ||
        strstr(text, "While lock file"))
        return ERR_IN_USE;
    if (text_starts(text, "IO error: No such file"))
        return ERR_DAMAGED; // a file that the manifest names
    if (strstr(text, "Column families not opened"))
        return ERR_FORMAT; // a space that this version does not know
    return ERR_IO;
}

// Frees RocksDB's error text.
static enum err take_error(char *text, const char *what, struct errmsg *msg)
{
    enum err e = error_of(text);
    err_set(msg, e, "%s: %s", what, text);
    rocksdb_free(text);
    return e;
}

// ---- options ----

static rocksdb_cache_t *make_cache(uint64_t bytes)
{
    int shard_bits = 0;
    while (shard_bits < 6 && (bytes >> (shard_bits + 1)) >= CACHE_SHARD)
        shard_bits++;
    rocksdb_lru_cache_options_t *o = rocksdb_lru_cache_options_create();
    rocksdb_lru_cache_options_set_capacity(o, bytes);
    rocksdb_lru_cache_options_set_num_shard_bits(o, shard_bits);
    rocksdb_cache_t *cache = rocksdb_cache_create_lru_opts(o);
    rocksdb_lru_cache_options_destroy(o);
    return cache;
}

// Spaces of log rows: most bytes are chunks of 32 KiB, written once and read by key.
static bool holds_chunks(enum store_space space)
{
    return space == STORE_LOGS || space == STORE_EVENTS;
}

// Blocks of ids are packed to the bit: compressing them takes time and gives nothing back.
static bool is_packed(enum store_space space)
{
    return space == STORE_RELS;
}

// Index and filters are cut into partitions and live in the block cache, before data when room is
// short: so memory stays within the cache, whatever the size of the data, and an absent key costs
// at most one small read a level when its partition is cold.
static void set_table_options(rocksdb_options_t *o, enum store_space space, rocksdb_cache_t *cache)
{
    rocksdb_block_based_table_options_t *t = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_size(t, BLOCK_BYTES);
    if (holds_chunks(space)) // a chunk joins no block that it would overflow, metadata least of all
        rocksdb_block_based_options_set_block_size_deviation(t, 99);
    rocksdb_block_based_options_set_metadata_block_size(t, META_BYTES);
    rocksdb_block_based_options_set_index_type(
        t, rocksdb_block_based_table_index_type_two_level_index_search);
    // The expiry space is only iterated. That a chunk is somewhere is known, but not in which
    // table: without a filter each newer one of the same logs costs a block, which is another
    // chunk.
    if (space != STORE_EXPIRY) {
        rocksdb_block_based_options_set_filter_policy(
            t, rocksdb_filterpolicy_create_bloom_full(FILTER_BITS));
        rocksdb_block_based_options_set_partition_filters(t, 1);
    }
    rocksdb_block_based_options_set_block_cache(t, cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(t, 1);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks_with_high_priority(t, 1);
    rocksdb_block_based_options_set_pin_l0_filter_and_index_blocks_in_cache(t, 1);
    rocksdb_block_based_options_set_pin_top_level_index_and_filter(t, 1);
    rocksdb_options_set_block_based_table_factory(o, t);
    rocksdb_block_based_options_destroy(t);
}

static rocksdb_options_t *make_options(const struct rocks *r, enum store_space space,
                                       unsigned background)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_create_missing_column_families(o, 1);
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_max_open_files(o, OPEN_FILES);
    rocksdb_options_set_max_background_jobs(o, (int)background + 1); // one is kept for flushes
    rocksdb_options_set_compaction_style(o, rocksdb_level_compaction);
    rocksdb_options_set_level_compaction_dynamic_level_bytes(o, 1);
    rocksdb_options_set_target_file_size_base(o, FILE_BYTES);
    if (holds_chunks(space)) {
        rocksdb_options_set_compression(o, rocksdb_lz4hc_compression);
        rocksdb_options_set_compression_options(o, -14, CHUNK_LEVEL, 0, 0); // the level; defaults
    } else if (is_packed(space)) {
        rocksdb_options_set_compression(o, rocksdb_no_compression);
    } else {
        rocksdb_options_set_compression(o, rocksdb_lz4_compression);
    }
    // Deleted keys in a row make scans slow (expiry deletes from the front): compact such files
    // soon.
    rocksdb_options_add_compact_on_deletion_collector_factory(o, 4096, 2048);
    // Compaction must not make the log's fdatasync wait behind a mountain of dirty pages, nor hold
    // 2 MB for each file that it reads.
    rocksdb_options_set_bytes_per_sync(o, 1u << 20);
    rocksdb_options_compaction_readahead_size(o, 512u << 10);
    rocksdb_options_set_avoid_unnecessary_blocking_io(o, 1); // readers never unlink files
    rocksdb_options_set_max_manifest_file_size(o, 16u << 20);
    rocksdb_options_set_allow_mmap_reads(o, 0);
    rocksdb_options_set_allow_mmap_writes(o, 0);
    rocksdb_options_set_info_log_level(o, 2); // warnings
    rocksdb_options_set_max_log_file_size(o, 1u << 20);
    rocksdb_options_set_keep_log_file_num(o, 2);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_stats_persist_period_sec(o, 0);
    set_table_options(o, space, r->cache);
    return o;
}

static rocksdb_readoptions_t *make_read_options(bool fill_cache)
{
    rocksdb_readoptions_t *o = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(o, 1);
    rocksdb_readoptions_set_fill_cache(o, fill_cache);
    rocksdb_readoptions_set_background_purge_on_iterator_cleanup(o, 1);
    return o;
}

static void make_shared_options(struct rocks *r, const struct store_options *o)
{
    r->cache = make_cache(o->cache_bytes);
    for (int i = 0; i < STORE_SPACES; i++) {
        r->writer_options[i] = make_options(r, (enum store_space)i, o->background);
        r->hurry_options[i] = make_options(r, (enum store_space)i, o->background);
        if (!is_packed((enum store_space)i))
            rocksdb_options_set_compression(r->hurry_options[i], rocksdb_lz4_compression);
    }
    r->env_options = rocksdb_envoptions_create();
    r->ingest_options = rocksdb_ingestexternalfileoptions_create();
    rocksdb_ingestexternalfileoptions_set_move_files(r->ingest_options, 1);
    // No snapshots are held across ingestions; iterators keep their version of the file set.
    rocksdb_ingestexternalfileoptions_set_snapshot_consistency(r->ingest_options, 0);
    r->read_disk = make_read_options(true);
    r->read_memory = make_read_options(true);
    rocksdb_readoptions_set_read_tier(r->read_memory, READ_CACHE_ONLY);
    r->read_scan = make_read_options(false); // reads ahead by itself, more the further it goes
    r->read_verify = make_read_options(false);
    rocksdb_readoptions_set_readahead_size(r->read_verify, 2u << 20);
}

// ---- open and close ----

static void rocks_close(struct store *s)
{
    struct rocks *r = (struct rocks *)s;
    if (r->db)
        rocksdb_cancel_all_background_work(r->db, 1);
    for (int i = 0; i < STORE_SPACES; i++)
        if (r->cf[i])
            rocksdb_column_family_handle_destroy(r->cf[i]);
    if (r->db)
        rocksdb_close(r->db);
    if (r->cache) { // make_shared_options ran
        rocksdb_readoptions_destroy(r->read_disk);
        rocksdb_readoptions_destroy(r->read_memory);
        rocksdb_readoptions_destroy(r->read_scan);
        rocksdb_readoptions_destroy(r->read_verify);
        rocksdb_ingestexternalfileoptions_destroy(r->ingest_options);
        rocksdb_envoptions_destroy(r->env_options);
        for (int i = 0; i < STORE_SPACES; i++) {
            rocksdb_options_destroy(r->writer_options[i]);
            rocksdb_options_destroy(r->hurry_options[i]);
        }
        rocksdb_cache_destroy(r->cache);
    }
    spool_release(&r->spool);
    store_release(&r->base);
    free(r);
}

struct dir_content {
    bool current;
    bool tables;
};

static void note_file(void *arg, const char *name)
{
    struct dir_content *c = arg;
    size_t n = strlen(name);
    if (strcmp(name, "CURRENT") == 0)
        c->current = true;
    if (n > 4 && strcmp(name + n - 4, ".sst") == 0)
        c->tables = true;
}

// Without its CURRENT file RocksDB would take a full directory for a new one and empty it.
static enum err check_current(struct rocks *r, struct errmsg *msg)
{
    struct dir_content c = {0};
    enum err e = os_list(r->base.os, r->base.dir, note_file, &c);
    if (e != ERR_OK)
        return err_set(msg, e, "%s: cannot list: %s", r->base.dir, os_last_error());
    if (c.tables && !c.current)
        return err_set(msg, ERR_DAMAGED, "%s/CURRENT is missing though there are table files",
                       r->base.dir);
    return ERR_OK;
}

// The number of the table that a text names as DIR/NUMBER.sst (.ldb: where RocksDB looks last).
static uint64_t missing_table(const char *text)
{
    if (!strstr(text, "No such file or directory"))
        return 0;
    for (const char *p = text; (p = strchr(p, '/')); p++) {
        char *end;
        uint64_t number = strtoull(p + 1, &end, 10);
        if (end > p + 1 && (text_starts(end, ".sst") || text_starts(end, ".ldb")))
            return number;
    }
    return 0;
}

static enum err open_db(struct rocks *r, const struct store_options *o, struct errmsg *msg)
{
    rocksdb_options_t *options[STORE_SPACES];
    for (int i = 0; i < STORE_SPACES; i++) {
        options[i] = make_options(r, (enum store_space)i, o->background);
        // Only what compaction brings to the last level, most of the data, is worth zstd's time;
        // but pages of a log are read block by block, and zstd takes more than twice as long there.
        if (!holds_chunks((enum store_space)i) && !is_packed((enum store_space)i))
            rocksdb_options_set_bottommost_compression(options[i], rocksdb_zstd_compression);
    }
    char *text = NULL;
    r->db = rocksdb_open_column_families(options[0], o->dir, STORE_SPACES, space_names,
                                         (const rocksdb_options_t *const *)options, r->cf, &text);
    for (int i = 0; i < STORE_SPACES; i++)
        rocksdb_options_destroy(options[i]);
    if (!text)
        return ERR_OK;
    r->missing = missing_table(text);
    return take_error(text, o->dir, msg);
}

// After a failed sync of the MANIFEST its last record may name tables that RocksDB deleted. They
// are still in the spool: gives them their names back. Their numbers were taken one after another,
// in the order of the files, so the number of a missing one leaves only its place in that order to
// try.
static enum err restore(struct rocks *r, const struct store_options *o, struct errmsg *msg)
{
    struct spool_group g;
    uint64_t missing = r->missing;
    if (missing == 0 || !spool_left(&r->spool, &g))
        return ERR_DAMAGED;
    for (uint64_t i = g.first; i < g.first + g.count && i < missing; i++) {
        uint64_t base = missing - i;
        enum err e = spool_move(&r->spool, &g, base);
        if (e == ERR_EXISTS)
            continue; // not these numbers
        if (e != ERR_OK)
            return err_set(msg, e, "%s: tables cannot be restored: %s", o->dir, err_text(e));
        struct errmsg why;
        if (open_db(r, o, &why) == ERR_OK) {
            log_event(LOG_WARN, "store_tables_restored", "first=%06" PRIu64 ".sst count=%" PRIu64,
                      base + g.first, g.count);
            return ERR_OK;
        }
        e = spool_move_back(&r->spool, &g, base);
        if (e != ERR_OK)
            return err_set(msg, e, "%s: tables cannot be restored: %s", o->dir, err_text(e));
    }
    return ERR_DAMAGED; // msg still says what RocksDB missed
}

static uint64_t int_property(struct rocks *r, int space, const char *name)
{
    uint64_t v = 0;
    return rocksdb_property_int_cf(r->db, r->cf[space], name, &v) == 0 ? v : 0;
}

static void find_data(struct rocks *r)
{
    for (int i = 0; i < STORE_SPACES; i++)
        atomic_store(&r->has_data[i], int_property(r, i, "rocksdb.total-sst-files-size") > 0);
}

// ---- reading ----

static enum err read_failed(char *text)
{
    enum err e = error_of(text);
    if (e != ERR_COLD)
        log_event(LOG_ERROR, "store_read_failed", "reason=%s", log_quote(text));
    rocksdb_free(text);
    return e;
}

// A get from memory whose table file is not open is answered "found", with an empty value:
// TableCache::Get marks the key as one that may exist, and rocksdb_get_pinned_cf does not pass that
// on. True if an empty value is a real one.
static bool really_empty(struct rocks *r, enum store_space space, struct slice key)
{
    char *value = NULL;
    size_t n;
    unsigned char found = 0;
    rocksdb_key_may_exist_cf(r->db, r->read_memory, r->cf[space], (const char *)key.p, key.n,
                             &value, &n, NULL, 0, &found);
    rocksdb_free(value);
    return found;
}

static enum err rocks_get(struct store *s, enum store_space space, struct slice key,
                          bool memory_only, struct buf *out)
{
    struct rocks *r = (struct rocks *)s;
    if (!atomic_load_explicit(&r->has_data[space], memory_order_acquire))
        return ERR_MISSING;
    char *text = NULL;
    rocksdb_pinnableslice_t *v =
        rocksdb_get_pinned_cf(r->db, memory_only ? r->read_memory : r->read_disk, r->cf[space],
                              (const char *)key.p, key.n, &text);
    if (!v)
        return text ? read_failed(text) : ERR_MISSING;
    size_t n;
    const char *p = rocksdb_pinnableslice_value(v, &n);
    enum err e = buf_append(out, p, n);
    rocksdb_pinnableslice_destroy(v);
    if (memory_only && n == 0 && !really_empty(r, space, key))
        return ERR_COLD;
    return e;
}

static void rocks_iter_free(struct store_iter *s)
{
    struct rocks_iter *it = (struct rocks_iter *)s;
    if (it->it)
        rocksdb_iter_destroy(it->it);
    if (it->options)
        rocksdb_readoptions_destroy(it->options);
    free(it->end);
    free(it);
}

// With the end known, RocksDB does not read the block after the last row of the range, which may be
// a chunk, in each of the files that it merges.
static enum err set_end(struct rocks_iter *it, struct slice end)
{
    it->end = malloc(end.n);
    if (!it->end)
        return ERR_NO_MEMORY;
    memcpy(it->end, end.p, end.n);
    it->options = make_read_options(false);
    rocksdb_readoptions_set_iterate_upper_bound(it->options, (const char *)it->end, end.n);
    return ERR_OK;
}

static enum err rocks_iter_new(struct store *s, enum store_space space, struct slice start,
                               struct slice end, struct store_iter **out)
{
    struct rocks *r = (struct rocks *)s;
    struct rocks_iter *it = calloc(1, sizeof *it);
    if (!it)
        return ERR_NO_MEMORY;
    enum err e = end.n ? set_end(it, end) : ERR_OK;
    if (e != ERR_OK) {
        rocks_iter_free(&it->base);
        return e;
    }
    it->it =
        rocksdb_create_iterator_cf(r->db, it->options ? it->options : r->read_scan, r->cf[space]);
    if (start.n)
        rocksdb_iter_seek(it->it, (const char *)start.p, start.n);
    else
        rocksdb_iter_seek_to_first(it->it);
    *out = &it->base;
    return ERR_OK;
}

static bool rocks_iter_valid(const struct store_iter *s)
{
    return rocksdb_iter_valid(((const struct rocks_iter *)s)->it);
}

static struct slice rocks_iter_key(const struct store_iter *s)
{
    size_t n;
    const char *p = rocksdb_iter_key(((const struct rocks_iter *)s)->it, &n);
    return slice_of(p, n);
}

static struct slice rocks_iter_value(const struct store_iter *s)
{
    size_t n;
    const char *p = rocksdb_iter_value(((const struct rocks_iter *)s)->it, &n);
    return slice_of(p, n);
}

static void rocks_iter_next(struct store_iter *s)
{
    rocksdb_iter_next(((struct rocks_iter *)s)->it);
}

static enum err rocks_iter_status(const struct store_iter *s, struct errmsg *msg)
{
    char *text = NULL;
    rocksdb_iter_get_error(((const struct rocks_iter *)s)->it, &text);
    return text ? take_error(text, "reading the store", msg) : ERR_OK;
}

// The C interface has no VerifyChecksum. A scan reads every data block of every file, because a
// block whose keys are all overwritten elsewhere still has to be merged past.
static enum err verify_space(struct rocks *r, int space, struct errmsg *msg)
{
    rocksdb_iterator_t *it = rocksdb_create_iterator_cf(r->db, r->read_verify, r->cf[space]);
    for (rocksdb_iter_seek_to_first(it); rocksdb_iter_valid(it); rocksdb_iter_next(it))
        continue;
    char *text = NULL;
    rocksdb_iter_get_error(it, &text);
    rocksdb_iter_destroy(it);
    return text ? take_error(text, space_names[space], msg) : ERR_OK;
}

static enum err rocks_verify(struct store *s, struct errmsg *msg)
{
    for (int i = 0; i < STORE_SPACES; i++) {
        enum err e = verify_space((struct rocks *)s, i, msg);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

static uint64_t count_files(struct rocks *r, int space)
{
    uint64_t files = 0;
    for (int level = 0; level < LEVELS; level++) {
        char name[64];
        snprintf(name, sizeof name, "rocksdb.num-files-at-level%d", level);
        char *text = rocksdb_property_value_cf(r->db, r->cf[space], name);
        if (text)
            files += strtoull(text, NULL, 10);
        rocksdb_free(text);
    }
    return files;
}

static void rocks_get_stats(struct store *s, struct store_stats *out)
{
    struct rocks *r = (struct rocks *)s;
    for (int i = 0; i < STORE_SPACES; i++) {
        out->disk_bytes += int_property(r, i, "rocksdb.live-sst-files-size");
        out->estimated_keys[i] = int_property(r, i, "rocksdb.estimate-num-keys");
        out->memory += int_property(r, i, "rocksdb.estimate-table-readers-mem") +
                       int_property(r, i, "rocksdb.cur-size-all-mem-tables");
        out->pending_compaction_bytes +=
            int_property(r, i, "rocksdb.estimate-pending-compaction-bytes");
        out->files += count_files(r, i);
    }
    out->cache_used = rocksdb_cache_get_usage(r->cache);
}

// ---- writing ----

static enum err rocks_begin(struct store *s, struct store_writer **out)
{
    if (((struct rocks *)s)->broken)
        return ERR_IO;
    struct rocks_writer *w = calloc(1, sizeof *w);
    if (!w)
        return ERR_NO_MEMORY;
    w->r = (struct rocks *)s;
    *out = &w->base;
    return ERR_OK;
}

static enum err open_file(struct rocks_writer *w, enum store_space space)
{
    if (w->count == w->room) {
        size_t room = w->room ? 2 * w->room : 16;
        char **files = realloc(w->files, room * sizeof *files);
        if (!files)
            return err_set(&w->base.why, ERR_NO_MEMORY, "out of memory");
        w->files = files;
        w->room = room;
    }
    char *path = spool_file(&w->r->spool, space, w->space_files[space]);
    if (!path)
        return err_set(&w->base.why, ERR_NO_MEMORY, "out of memory");
    w->files[w->count++] = path;
    w->space_files[space]++;
    if (!w->sst) {
        rocksdb_options_t **options = w->base.hurry ? w->r->hurry_options : w->r->writer_options;
        w->sst = rocksdb_sstfilewriter_create(w->r->env_options, options[space]);
        w->hurried = w->base.hurry;
    }
    char *text = NULL;
    rocksdb_sstfilewriter_open(w->sst, path, &text);
    if (text)
        return take_error(text, path, &w->base.why);
    w->open = true;
    return ERR_OK;
}

// Syncs and closes the open file, if there is one.
static enum err finish_file(struct rocks_writer *w)
{
    if (!w->open)
        return ERR_OK;
    w->open = false;
    char *text = NULL;
    rocksdb_sstfilewriter_finish(w->sst, &text);
    return text ? take_error(text, w->files[w->count - 1], &w->base.why) : ERR_OK;
}

static void drop_sst(struct rocks_writer *w)
{
    if (w->sst)
        rocksdb_sstfilewriter_destroy(w->sst);
    w->sst = NULL;
    w->open = false;
}

static enum err rocks_add(struct store_writer *b, enum store_space space, struct slice key,
                          struct slice value)
{
    struct rocks_writer *w = (struct rocks_writer *)b;
    enum err e = ERR_OK;
    if (b->any && (space != b->space || b->hurry != w->hurried)) {
        e = finish_file(w);
        drop_sst(w); // each space has its own options
    }
    if (e == ERR_OK && !w->open)
        e = open_file(w, space);
    if (e != ERR_OK)
        return e;
    char *text = NULL;
    if (value.p)
        rocksdb_sstfilewriter_put(w->sst, (const char *)key.p, key.n, (const char *)value.p,
                                  value.n, &text);
    else
        rocksdb_sstfilewriter_delete(w->sst, (const char *)key.p, key.n, &text);
    if (text)
        return take_error(text, w->files[w->count - 1], &b->why);
    uint64_t size = 0;
    rocksdb_sstfilewriter_file_size(w->sst, &size);
    return size >= FILE_BYTES ? finish_file(w) : ERR_OK;
}

static void free_writer(struct rocks_writer *w)
{
    drop_sst(w);
    for (size_t i = 0; i < w->count; i++)
        free(w->files[i]);
    free(w->files);
    free(w);
}

static void rocks_abort(struct store_writer *b)
{
    struct rocks_writer *w = (struct rocks_writer *)b;
    struct rocks *r = w->r;
    bool wrote = w->count > 0;
    free_writer(w);
    if (r->broken) // the files may be needed: see restore
        return;
    struct errmsg msg;
    if (wrote && spool_clean(&r->spool, &msg) != ERR_OK) // opening cleans again
        log_event(LOG_WARN, "store_clean_failed", "reason=%s", log_quote(msg.text));
}

// RocksDB does not hold ingestion back when compaction is behind, so it is done here: too many
// overlapping files make every read slow. Not for ever: a checkpoint late is better than none.
static void wait_for_compaction(struct rocks *r)
{
    for (int waited_us = 0; waited_us < STALL_WAIT_MS * 1000; waited_us += STALL_STEP_US) {
        if (int_property(r, STORE_KEYS, "rocksdb.is-write-stopped") == 0)
            return;
        os_sleep_us(r->base.os, STALL_STEP_US);
    }
    log_event(LOG_WARN, "store_compaction_behind", "waited_ms=%d", STALL_WAIT_MS);
}

static enum err ingest(struct rocks_writer *w, struct errmsg *msg)
{
    struct rocks *r = w->r;
    size_t first = 0;
    for (int space = 0; space < STORE_SPACES; space++) {
        size_t n = w->space_files[space];
        if (n == 0)
            continue;
        os_crash_point("store-next-space");
        // Before the files become visible: a reader must not miss them.
        atomic_store_explicit(&r->has_data[space], true, memory_order_release);
        char *text = NULL;
        rocksdb_ingest_external_file_cf(r->db, r->cf[space],
                                        (const char *const *)(w->files + first), n,
                                        r->ingest_options, &text);
        if (text) {
            // Whether its last record is on disk is not known now. A record that could not even be
            // appended does not count.
            r->broken = strstr(text, "MANIFEST") && !strstr(text, "While appending");
            return take_error(text, space_names[space], msg);
        }
        first += n;
    }
    return ERR_OK;
}

static enum err rocks_commit(struct store_writer *b, struct errmsg *msg)
{
    struct rocks_writer *w = (struct rocks_writer *)b;
    enum err e = finish_file(w);
    if (e != ERR_OK) {
        err_set(msg, e, "%s", b->why.text);
    } else if (w->count > 0) {
        drop_sst(w);
        wait_for_compaction(w->r);
        e = ingest(w, msg);
    }
    if (e != ERR_OK)
        rocks_abort(b);
    else
        free_writer(w); // the files themselves have been moved
    return e;
}

static const struct store_ops rocks_ops = {
    .close = rocks_close,
    .get = rocks_get,
    .begin = rocks_begin,
    .add = rocks_add,
    .commit = rocks_commit,
    .abort = rocks_abort,
    .iter_new = rocks_iter_new,
    .iter_valid = rocks_iter_valid,
    .iter_key = rocks_iter_key,
    .iter_value = rocks_iter_value,
    .iter_next = rocks_iter_next,
    .iter_status = rocks_iter_status,
    .iter_free = rocks_iter_free,
    .verify = rocks_verify,
    .get_stats = rocks_get_stats,
};

enum err store_open_rocks(struct store **s, const struct store_options *o, struct errmsg *msg)
{
    VERIFY(o->background >= 1);
    struct rocks *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(msg, ERR_NO_MEMORY, "%s: out of memory", o->dir);
    enum err e = store_init(&r->base, &rocks_ops, o, msg);
    if (e == ERR_OK) {
        make_shared_options(r, o);
        e = spool_init(&r->spool, o->os, r->base.dir);
        if (e != ERR_OK)
            e = err_set(msg, e, "%s: %s", o->dir, err_text(e));
    }
    if (e == ERR_OK)
        e = check_current(r, msg);
    if (e == ERR_OK)
        e = open_db(r, o, msg);
    if (e == ERR_DAMAGED)
        e = restore(r, o, msg);
    if (e == ERR_OK)
        e = spool_clean(&r->spool, msg); // after the lock is held
    if (e != ERR_OK) {
        rocks_close(&r->base);
        return e;
    }
    find_data(r);
    *s = &r->base;
    return ERR_OK;
}
