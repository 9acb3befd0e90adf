// Relations in a dump: a line for each relation, before those of its lists.
//
//     {"relation":R,"order":"id","reverse":false,"durability":"fsync"}
//     {"relation":R,"from":F,"members":[M,...]}
//
// A relation's line: its options, as over HTTP: "order" id or recent, "durability" fsync or
// relaxed; what is left out is the first of these. A list's line: members that rise, or, with order
// recent, in their order of arrival; a long list has several, one after another. Numbers are whole,
// of 64 bits, unsigned. The relation comes first in its line: that is how these are told from the
// lines of keys and logs (cli/lines.h, cli/dump_logs.h).
#ifndef VARVE_CLI_DUMP_RELS_H
#define VARVE_CLI_DUMP_RELS_H

#include "base/json.h"
#include "base/limits.h"
#include "cli/io.h"
#include "cli/place.h"
#include "cli/progress.h"

// Writes all relations; exit code. *members is counted on.
int dump_rels(struct place *p, struct output *out, struct progress *progress, uint64_t *members);

enum { REL_BATCH = 250000, REL_BATCH_LISTS = 10000 };

struct rel_restore {
    struct place *place;
    const struct input *in;                 // whose line it is
    bool skip_existing;                     // members are added to relations that exist
    char relation[LIMIT_RELATION_NAME + 1]; // under way; "": none
    struct varve_rel_group groups[REL_BATCH_LISTS];
    size_t count;
    uint64_t members[REL_BATCH];
    size_t member_count;
    uint64_t restored, skipped; // members
};

void rel_restore_init(struct rel_restore *r, struct place *place, const struct input *in,
                      bool skip_existing);
bool rel_line_is(struct slice text);
// Takes a line (BUF_PADDING readable bytes after it); exit code.
int rel_restore_line(struct rel_restore *r, struct json_parser *parser, struct slice text);
// Adds what is gathered.
int rel_restore_commit(struct rel_restore *r);

#endif
