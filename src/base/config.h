// Configuration by catalogues of keys: the server's, and those of others who read INI files. Of the
// server's each is an INI key `[section] key`, a flag and an environment variable
// VARVE_SECTION_KEY. An unknown key is an error that names the line.
//
// [s3] and [batcher] are the same for all who have them: the server, the bridge, the command line.
// What the values mean is said where they are taken: object/settings.h, archive/settings.h.
#ifndef VARVE_BASE_CONFIG_H
#define VARVE_BASE_CONFIG_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ini_key;

// X(section, key, kind, default, minimum, maximum, help); kinds: TEXT, COUNT, SIZE (bytes; k m g
// suffixes), TIME (milliseconds; us ms s m h d suffixes; kept in microseconds), CHOICE (values in
// help up to ':', separated by '|').
// The flag is --section-key with _ as -, except that [server] keys are --key.
#define CONFIG_S3(X)                                                                            \
    X(s3, bucket_name, TEXT, "", 0, 0, "bucket that logs are moved to; none: they stay here")   \
    X(s3, object_prefix, TEXT, "", 0, 0, "what names of objects begin with")                    \
    X(s3, endpoint, TEXT, "", 0, 0, "URL of the S3 service; none: AWS")                         \
    X(s3, region, TEXT, "us-east-1", 0, 0, "region that requests are signed for")               \
    X(s3, path_style, CHOICE, "false", 0, 0,                                                    \
      "false|true: bucket in the path, not in the host name")                                   \
    X(s3, use_default_credentials, CHOICE, "true", 0, 0,                                        \
      "true|false: where no access_key is set: environment, ~/.aws, instance metadata")         \
    X(s3, access_key, TEXT, "", 0, 0, "access key")                                             \
    X(s3, secret_key, TEXT, "", 0, 0,                                                           \
      "its secret; a file or the environment keeps it from others' eyes")                       \
    X(s3, security_token, TEXT, "", 0, 0, "token of temporary keys; the same as session_token") \
    X(s3, session_token, TEXT, "", 0, 0, "token of temporary keys")                             \
    X(s3, profile, TEXT, "", 0, 0, "profile in ~/.aws")                                         \
    X(s3, ca_file, TEXT, "", 0, 0,                                                              \
      "PEM file of the authorities whose certificates are trusted; none: the system's")         \
    X(s3, hash_payload, CHOICE, "false", 0, 0,                                                  \
      "false|true: hash and sign bodies also over https and to this machine")                   \
    X(s3, compact_records_threshold, COUNT, "1000", 1, 1000000000,                              \
      "records at which objects are merged for good")                                           \
    X(s3, compact_size_threshold, SIZE, "1m", 1, 1073741824, "bytes at which they are")         \
    X(s3, compact_objects_threshold, COUNT, "100", 2, 1000000,                                  \
      "objects at which they are merged for now")                                               \
    X(s3, max_cached_keys, COUNT, "100000", 1, 100000000,                                       \
      "logs whose state a writer of objects remembers")                                         \
    X(s3, default_page_size, COUNT, "1000", 1, 1000000,                                         \
      "records of a page of klstore's readers; nothing looks at it here")

#define CONFIG_BATCHER(X)                                                     \
    X(batcher, writer_thread_count, COUNT, "1", 1, 64, "threads that write")  \
    X(batcher, writer_thread_queue_capacity, COUNT, "0", 0, 1000000000000,    \
      "records queued for a thread at most; 0 is no limit")                   \
    X(batcher, batch_check_interval_millis, COUNT, "100", 1, 3600000,         \
      "how often a thread looks for batches that are due")                    \
    X(batcher, batch_flush_interval_millis, COUNT, "1000", 1, 86400000,       \
      "age at which a batch is due")                                          \
    X(batcher, batch_flush_record_count_threshold, COUNT, "0", 0, UINT64_MAX, \
      "or records; 0 is no limit")                                            \
    X(batcher, batch_flush_size_threshold, SIZE, "1000000", 1, UINT64_MAX, "or bytes of them")

#define VARVE_CONFIG(X)                                                                          \
    X(server, data, TEXT, "./varve-data", 0, 0, "data directory")                                \
    X(server, http, TEXT, "127.0.0.1:8080", 0, 0, "HTTP address, or off")                        \
    X(server, binary, TEXT, "127.0.0.1:3000", 0, 0, "binary protocol address, or off")           \
    X(server, zmq, TEXT, "tcp://127.0.0.1:5555", 0, 0,                                           \
      "ZeroMQ endpoint (tcp:// or ipc://), several separated by commas, or off")                 \
    X(server, threads, COUNT, "0", 0, 256, "event-loop threads; 0 is one a core")                \
    X(server, max_connections, COUNT, "10000", 1, 1000000, "open client connections at most")    \
    X(server, log_level, CHOICE, "info", 0, 0, "debug|info|warn|error: least severity logged")   \
    X(server, insecure_listen, CHOICE, "off", 0, 0,                                              \
      "off|on: allow listening beyond loopback although there is no authentication yet")         \
    X(limits, key, SIZE, "4k", 1, 61440, "key bytes at most")                                    \
    X(limits, value, SIZE, "1m", 1, 16777215, "value bytes at most")                             \
    X(limits, request, SIZE, "8m", 1024, 67108864, "request bytes at most")                      \
    X(storage, batch_time, TIME, "0", 0, 10000000, "how long a commit group may wait for more")  \
    X(storage, max_batch_size, SIZE, "1m", 1, 67108864, "bytes at which a group stops waiting")  \
    X(storage, max_block_size, SIZE, "64m", 65536, 1073741824,                                   \
      "bytes of a write-ahead log segment")                                                      \
    X(storage, max_blocks, COUNT, "16", 2, 10000, "segments before a checkpoint must drop some") \
    X(storage, memory_limit, SIZE, "0", 0, 1099511627776,                                        \
      "resident bytes aimed at; 0 is half of the machine's memory")                              \
    X(storage, durability, CHOICE, "fsync", 0, 0,                                                \
      "fsync|relaxed: when replies leave; relaxed does not wait for the disk")                   \
    X(storage, checkpoint_interval, TIME, "60s", 0, 86400000000,                                 \
      "how often dirty data is checkpointed; 0 only when segments run out")                      \
    X(storage, read_threads, COUNT, "4", 1, 64, "threads that read cold data from disk")         \
    X(zmq, event_window, TIME, "1h", 0, 31536000000000,                                          \
      "how far back GET_EVENTS goes unless told")                                                \
    X(zmq, failure_window, TIME, "1h", 0, 31536000000000,                                        \
      "how far back GET_FAILURES goes unless told")                                              \
    X(zmq, other_ttl, TIME, "0", 0, 31536000000000,                                              \
      "time to live of what PUT_OTHER writes; 0 for ever")                                       \
    X(zmq, max_reply, SIZE, "256m", 65536, 4294967296, "bytes of a reply with events at most")   \
    X(zmq, event_max_age, TIME, "0", 0, 315360000000000, "how long events are kept; 0 for ever") \
    X(zmq, event_max_bytes, SIZE, "0", 0, 1099511627776, "bytes of a stream kept; 0 all")        \
    X(tier, dir, TEXT, "", 0, 0,                                                                 \
      "directory that logs are moved to as objects; s3.bucket_name for S3")                      \
    X(tier, min_bytes, SIZE, "1m", 1024, 1073741824,                                             \
      "bytes of a log that are moved at once, if it has so many")                                \
    X(tier, max_age, TIME, "1h", 0, 315360000000000, "how long less of a log waits to be moved") \
    X(tier, local_bytes, SIZE, "64k", 0, 1099511627776,                                          \
      "bytes of a log's newest records that stay here too")                                      \
    X(tier, local_age, TIME, "0", 0, 315360000000000,                                            \
      "records younger than this stay here too; 0 none for that")                                \
    X(tier, interval, TIME, "1s", 10000, 86400000000,                                            \
      "how often logs are looked at for what to move")                                           \
    CONFIG_S3(X)

enum config_id {
#define X(section, key, kind, def, min, max, help) CONFIG_##section##_##key,
    VARVE_CONFIG(X)
#undef X
        CONFIG_COUNT
};

enum config_kind {
    CONFIG_KIND_TEXT,
    CONFIG_KIND_COUNT,
    CONFIG_KIND_SIZE,
    CONFIG_KIND_TIME,
    CONFIG_KIND_CHOICE
};

struct config_key {
    const char *section, *name;
    enum config_kind kind;
    const char *initial;
    uint64_t min, max;
    const char *help;
};

// A key's id is its place in the catalogue.
struct config_catalogue {
    const struct config_key *keys;
    size_t n;
};
// For X: a line of a catalogue, an element of its `keys`.
#define CONFIG_ROW(section, key, kind, initial, min, max, help) \
    {#section, #key, CONFIG_KIND_##kind, initial, min, max, help},

// VARVE_CONFIG, with ids of enum config_id.
extern const struct config_catalogue config_server;

struct config;

// All defaults. NULL when memory is out.
struct config *config_new(const struct config_catalogue *catalogue);
void config_free(struct config *c);
// Reads an INI file. Errors name the file and line: unknown section or key, bad value.
MUST_USE
enum err config_load_file(struct config *c, const char *path, struct errmsg *msg);
// Takes one key of an INI file, for those who read it themselves. ERR_INVALID, naming the place: an
// unknown key, with the nearest there is; a key set twice; a bad value. *id may be NULL.
MUST_USE
enum err config_load_key(struct config *c, const struct ini_key *key, size_t *id,
                         struct errmsg *msg);
// Takes every variable VARVE_SECTION_KEY of the environment that begins with `prefix`; an unknown
// one is an error.
MUST_USE
enum err config_load_env(struct config *c, const char *prefix, struct errmsg *msg);
// Sets one key from text; `where` says where it came from, for the error ("--http", "line 3").
MUST_USE
enum err config_set(struct config *c, size_t id, const char *text, const char *where,
                    struct errmsg *msg);
// The id of a flag's name of the server without dashes ("http", "storage-batch-time"); false if
// there is none.
bool config_find_flag(const char *flag, enum config_id *id);
// The id of "section.key", which must be in the catalogue.
size_t config_id(const struct config *c, const char *name);
const char *config_text(const struct config *c, size_t id);
// COUNT, SIZE (bytes) and TIME (microseconds); of the other kinds 0.
uint64_t config_number(const struct config *c, size_t id);
// True if a CHOICE is set to `value`.
bool config_is(const struct config *c, size_t id, const char *value);
// Prints every key of the server with its help, range, flag, variable and default, as a valid INI
// file: for --help. Returns ERR_IO if `file` (a FILE *) fails.
MUST_USE
enum err config_help(void *file);

#endif
