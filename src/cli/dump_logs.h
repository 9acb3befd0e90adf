// Logs in a dump: a line for each keyspace, before those of its records.
//
//     {"keyspace":KS,"timestamps":"client","max_age_ms":A,"max_bytes":B,"max_records":R}
//     {"keyspace":KS,"log":KEY,"offset":O,"timestamp":T,"nonce":"N","record":"..."}
//
// A keyspace's line: "timestamps" is client or server; "max_age_ms", "max_bytes", "max_records" are
// its retention, left out where there is none. A record's line: the members of cli/record.h. Names
// that are not UTF-8 are in "keyspace_base64" and "log_base64". The keyspace comes first in its
// line: that is how these are told from the lines of keys (cli/lines.h).
//
// Not restored: offsets start from 1 and have no holes; timestamps that a server gave are given
// anew; nonces of records that were no longer kept are forgotten.
#ifndef VARVE_CLI_DUMP_LOGS_H
#define VARVE_CLI_DUMP_LOGS_H

#include "cli/io.h"
#include "cli/place.h"
#include "cli/progress.h"
#include "cli/record.h"

// Writes all keyspaces and records; exit code. *records is counted on.
int dump_logs(struct place *p, struct output *out, struct progress *progress, uint64_t *records);

enum { LOG_BATCH = 1000, LOG_BATCH_BYTES = 1 << 20 };

struct log_restore {
    struct place *place;
    const struct input *in;   // whose line it is
    bool skip_existing;       // a log that exists is the beginning of the dumped one
    struct buf keyspace, key; // of the log under way
    bool server_time;
    uint64_t skip; // records of it that are there already
    struct varve_record records[LOG_BATCH];
    size_t count;
    struct buf bytes; // of the records, end to end
    uint64_t restored, skipped;
    uint64_t retimed; // of the restored ones, with a new timestamp
};

void log_restore_init(struct log_restore *r, struct place *place, const struct input *in,
                      bool skip_existing);
void log_restore_release(struct log_restore *r);
bool log_line_is(struct slice text);
// Takes a line (BUF_PADDING readable bytes after it); exit code.
int log_restore_line(struct log_restore *r, struct json_parser *parser, struct slice text);
// Appends what is gathered.
int log_restore_commit(struct log_restore *r);

#endif
