// Names of objects, and continuation tokens. Everything here is a pure function of its arguments.
//
//     {keyspace}_config.ini                 "[keyspace]\ncreated=<ms>"
//     {keyspace}/{key}/data_o..._p....bin   records, see below
//     {keyspace}/{key}/begin_{offset}       nothing: data objects below are not of the log any
//     more;
//                                           the highest counts (archive/trim.c)
//     {keyspace}/{key}/epoch_{epoch}        who writes the log (archive/session.c)
//     {keyspace}/{key}/watermark            u64: first offset of the newest complete data object,
//                                           or of one not long before it; or, where trimming took
//                                           that, of the log
//     ~writers/{writer}/...                 archive/session.c
//
// A data object is records end to end (op/record.h) with all the offsets from first to last:
//
//     data_o{first}-o{last}_t{min}-t{max}_n{first nonce}-n{next nonce}_s{bytes}_p{prior}.bin
//
// All are decimal without leading zeros, but `first`, which has 20 digits, so that names sort by
// it; times may be negative. `first nonce` is that of the first record that has one, or else the
// log's next nonce before it; `next nonce` is the log's after it. `prior` is the first offset of
// the object before it when it was written, 0 if it was the log's first.
//
// Validity: 1 <= first <= last; prior < first; first nonce <= next nonce; bytes >= 40 a record.
// (klstore's merged objects may have min > max; ours have the true ones, or, where names were
// fenced, a min a little earlier.)
//
// keyspace and key are percent-encoded: `%`, `/`, `\`, control bytes and bytes that do not make the
// whole UTF-8; the dots of "." and ".."; a leading `~` of a keyspace, and the last byte of one that
// ends with "_config.ini", so that no log lies where another object is. Only what must be encoded
// may be, with upper-case digits, so each name has one form.
//
// A continuation token is [f|b][offset]-[8 hex digits: CRC-32C of all that and the log's name].
#ifndef VARVE_ARCHIVE_NAME_H
#define VARVE_ARCHIVE_NAME_H

#include "archive/archive.h"

struct name {
    uint64_t first, last;
    int64_t min_time, max_time;
    u128 first_nonce, next_nonce;
    uint64_t size;
    uint64_t prior;
};

static inline bool name_equal(const struct name *a, const struct name *b)
{
    return a->first == b->first && a->last == b->last && a->min_time == b->min_time &&
           a->max_time == b->max_time && a->first_nonce == b->first_nonce &&
           a->next_nonce == b->next_nonce && a->size == b->size && a->prior == b->prior;
}

#define NAME_DATA      "data_"
#define NAME_DATA_MAX  256u // of what name_format writes, with its end
#define NAME_DIR_MAX   512u // of "keyspace/key", encoded, with its end
#define NAME_FULL_MAX  800u // of any object's name, with its end
#define NAME_SPACE_MAX 244u // bytes of an encoded keyspace, so that its config has a name
#define NAME_WRITERS   "~writers/"

// Writes the name without its directory, NUL-terminated; returns its length.
size_t name_format(const struct name *n, char text[NAME_DATA_MAX]);
// ERR_INVALID with a sentence if `text` is not exactly such a name.
MUST_USE enum err name_parse(struct slice text, struct name *n, struct errmsg *msg);

// The encoded form, NUL-terminated, in at most `cap` bytes. ERR_INVALID for an empty name,
// ERR_TOO_BIG for one that has no room.
MUST_USE enum err name_encode(struct slice raw, bool keyspace, char *text, size_t cap,
                              struct errmsg *msg);
// The raw bytes, appended to `out`. ERR_INVALID if `text` is not what name_encode makes of any.
MUST_USE enum err name_decode(struct slice text, bool keyspace, struct buf *out);
// "keyspace/key" of a log, encoded.
MUST_USE enum err name_dir(const struct archive_log *log, char dir[NAME_DIR_MAX],
                           struct errmsg *msg);

// "epoch_" and 20 digits, the number of a claim of the log.
#define NAME_EPOCH "epoch_"
bool epoch_parse(struct slice text, uint64_t *epoch);
// "begin_" and 20 digits, an offset. Such names sort before those of data.
#define NAME_BEGIN "begin_"
bool begin_parse(struct slice text, uint64_t *offset);
void begin_name(const char *dir, uint64_t offset, char full[NAME_FULL_MAX]);

size_t token_format(const struct archive_log *log, bool backwards, uint64_t offset,
                    char text[ARCHIVE_TOKEN]);
MUST_USE enum err token_parse(struct slice text, const struct archive_log *log, bool *backwards,
                              uint64_t *offset, struct errmsg *msg);

#endif
