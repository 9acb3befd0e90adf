// The numbers of this room and those below, as Prometheus text.
#include "commit/log_int.h"
#include "commit/rel_int.h"

// X(name, type, help, expression); in scope: c, w (wal_stats), k (keys_stats), l (logs_stats),
// r (rels_stats), s (store_stats), tier_bytes, tier_seconds.
#define METRICS(X)                                                                                 \
    X(varve_lookups_total, counter, "keys looked up in memory, for reads and writes", k.lookups)   \
    X(varve_writes_total, counter, "entries written, deletions too", k.writes)                     \
    X(varve_conflicts_total, counter, "transactions refused for a version", c->conflicts)          \
    X(varve_replays_total, counter, "first results given again", c->replays)                       \
    X(varve_expired_total, counter, "keys deleted past their time", c->expired)                    \
    X(varve_lists_total, counter, "listings", c->lists)                                            \
    X(varve_loads_total, counter, "keys and chunks brought in from the store", c->cold_reads)      \
    X(varve_cold_waits_total, counter, "requests that waited for the disk to read", c->cold_waits) \
    X(varve_full_waits_total, counter, "requests that waited for a checkpoint", c->full_waits)     \
    X(varve_refused_total, counter, "writes refused for want of disk space", c->refused)           \
    X(varve_wal_frames_total, counter, "log frames appended", w.appended)                          \
    X(varve_wal_payload_bytes_total, counter, "log payload bytes appended", w.appended_bytes)      \
    X(varve_wal_written_bytes_total, counter, "log bytes written", w.written_bytes)                \
    X(varve_wal_syncs_total, counter, "log syncs: commit groups", w.syncs)                         \
    X(varve_wal_sync_nanoseconds_total, counter, "time in write and sync", w.sync_ns)              \
    X(varve_wal_sync_last_nanoseconds, gauge, "of the last group", w.sync_ns_last)                 \
    X(varve_wal_segments, gauge, "log segments in use", w.segments)                                \
    X(varve_wal_spare_segments, gauge, "log segments prepared", w.spares)                          \
    X(varve_sequence, gauge, "last sequence given out", w.next_seq - 1)                            \
    X(varve_sequence_durable, gauge, "last durable sequence", commit_durable(c))                   \
    X(varve_sequence_checkpoint, gauge, "last sequence below", c->checkpointed)                    \
    X(varve_checkpoints_total, counter, "checkpoints done", c->checkpoints)                        \
    X(varve_checkpoint_failures_total, counter, "checkpoints failed", c->checkpoint_failures)      \
    X(varve_checkpoint_nanoseconds_total, counter, "time in checkpoints", c->checkpoint_ns)        \
    X(varve_checkpoint_entries_total, counter, "entries written below", c->checkpoint_entries)     \
    X(varve_keys_resident, gauge, "keys in memory", k.live)                                        \
    X(varve_entries_resident, gauge, "entries in memory, absent ones too", k.entries)              \
    X(varve_entries_dirty, gauge, "entries not yet below", k.dirty)                                \
    X(varve_dirty_bytes, gauge, "memory of those", k.dirty_bytes)                                  \
    X(varve_table_bytes, gauge, "memory of entries", k.bytes)                                      \
    X(varve_slot_bytes, gauge, "memory of hash slots", k.slot_bytes)                               \
    X(varve_evictions_total, counter, "entries evicted", k.evictions)                              \
    X(varve_keyspaces, gauge, "keyspaces of logs", l.keyspaces)                                    \
    X(varve_logs, gauge, "logs", l.logs)                                                           \
    X(varve_records_appended_total, counter, "records appended to logs", c->appended)              \
    X(varve_records_duplicate_total, counter, "records dropped for their nonce", c->duplicates)    \
    X(varve_log_pages_total, counter, "pages of logs read", c->pages)                              \
    X(varve_log_page_records_total, counter, "records in those", c->page_records)                  \
    X(varve_log_trims_total, counter, "times a log was trimmed", c->trims)                         \
    X(varve_records_erased_total, counter, "records deleted one by one", c->erased)                \
    X(varve_retention_runs_total, counter, "looks for what keyspaces do not keep",                 \
      c->retention_runs)                                                                           \
    X(varve_retention_nanoseconds_total, counter, "time that took", c->retention_ns)               \
    X(varve_retention_records_total, counter, "records it removed", c->retained_out)               \
    X(varve_tier_reads_total, counter, "chunks read from the tier's objects", c->tier_reads)       \
    X(varve_tier_read_failures_total, counter, "times that failed", c->tier_read_failures)         \
    X(varve_tier_dropped_total, counter, "chunks whose bytes are only in objects now",             \
      c->tier_dropped)                                                                             \
    X(varve_tier_waiting_bytes, gauge, "bytes of records that are not in objects yet", tier_bytes) \
    X(varve_tier_oldest_waiting_seconds, gauge, "since the oldest of those was first seen",        \
      tier_seconds)                                                                                \
    X(varve_log_chunks, gauge, "chunks in loaded indexes", l.chunks)                               \
    X(varve_log_chunks_resident, gauge, "chunks in memory", l.resident)                            \
    X(varve_log_block_bytes, gauge, "memory of those", l.block_bytes)                              \
    X(varve_log_index_bytes, gauge, "memory of indexes", l.index_bytes)                            \
    X(varve_log_header_bytes, gauge, "memory of logs themselves", l.header_bytes)                  \
    X(varve_log_dirty_bytes, gauge, "memory of chunks not yet below", l.dirty_bytes)               \
    X(varve_log_evictions_total, counter, "chunks evicted", l.evictions)                           \
    X(varve_relations, gauge, "relations", c->relations->count)                                    \
    X(varve_relation_lists_resident, gauge, "lists in memory, reverse ones too", r.lists)          \
    X(varve_relation_members_resident, gauge, "members in those", r.members)                       \
    X(varve_relation_chunks_resident, gauge, "chunks of long lists in memory", r.chunks)           \
    X(varve_relation_bytes, gauge, "memory of lists", r.bytes)                                     \
    X(varve_relation_slot_bytes, gauge, "memory of the slots of lists", r.slot_bytes)              \
    X(varve_relation_dirty_bytes, gauge, "memory of lists not yet below", r.dirty_bytes)           \
    X(varve_relation_evictions_total, counter, "lists evicted", r.evictions)                       \
    X(varve_relation_loads_total, counter, "lists looked up in the store", c->rel_loads)           \
    X(varve_relation_added_total, counter, "members added to lists", c->related)                   \
    X(varve_relation_removed_total, counter, "members removed from lists", c->unrelated)           \
    X(varve_memory_limit_bytes, gauge, "storage.memory_limit in force", c->o.memory_limit)         \
    X(varve_store_disk_bytes, gauge, "files of the store below", s.disk_bytes)                     \
    X(varve_store_cache_bytes, gauge, "its block cache in use", s.cache_used)                      \
    X(varve_store_memory_bytes, gauge, "its memory outside the cache", s.memory)                   \
    X(varve_store_keys, gauge, "keys below, estimated", s.estimated_keys[STORE_KEYS])              \
    X(varve_store_pending_compaction_bytes, gauge, "waiting for compaction",                       \
      s.pending_compaction_bytes)                                                                  \
    X(varve_recovery_frames, gauge, "frames replayed at start", c->recovery.frames)                \
    X(varve_recovery_replay_nanoseconds, gauge, "time that took", c->recovery.replay_ns)           \
    X(varve_recovery_nanoseconds, gauge, "time recovery took in all", c->recovery.total_ns)

enum err commit_metrics(struct commit *c, struct buf *out)
{
    struct wal_stats w;
    struct keys_stats k;
    struct logs_stats l;
    struct rels_stats r = {0};
    struct store_stats s;
    uint64_t tier_bytes, tier_seconds;
    tier_waits(c, &tier_bytes, &tier_seconds);
    wal_get_stats(c->wal, &w);
    keys_get_stats(c->keys, &k);
    logs_get_stats(c->logs, &l);
    rels_get_stats(c->rels, RELS_TABLES, &r);
    store_get_stats(c->store, &s);
    enum err e = ERR_OK;
#define X(name, type, help, value) \
    if (!e)                        \
        e = buf_metric(out, #name, #type, help, (uint64_t)(value));
    METRICS(X)
#undef X
    return e;
}
