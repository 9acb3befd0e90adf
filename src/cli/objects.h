// Logs kept as objects, for the commands that read them without a server: what names one, and how
// to get at the store.
//
//     s3://BUCKET/PREFIX/KEYSPACE/KEY     dir:///PATH/PREFIX/KEYSPACE/KEY
//
// KEYSPACE and KEY are as in object names: percent-encoded where they must be. How to reach S3 is
// said by options, else by VARVE_S3_* in the environment, else in [s3] of --config FILE (other
// sections are not looked at); credentials may also come from where all AWS tools look.
#ifndef VARVE_CLI_OBJECTS_H
#define VARVE_CLI_OBJECTS_H

#include "archive/reader.h"
#include "cli/command.h"

struct objects_options {
    const char *config, *endpoint, *region, *profile;
    bool path_style;
};

#define OBJECTS_OPTIONS(o)                                                           \
    {"config", ARG_TEXT, &(o).config, "FILE", "s3://: file whose [s3] says how"},    \
        {"endpoint", ARG_TEXT, &(o).endpoint, "URL", "s3://: of the service (AWS)"}, \
        {"region", ARG_TEXT, &(o).region, "NAME", "s3://: region (us-east-1)"},      \
        {"profile", ARG_TEXT, &(o).profile, "NAME", "s3://: profile in ~/.aws"},     \
    {                                                                                \
        "path-style", ARG_FLAG, &(o).path_style, NULL, "s3://: bucket in the path"   \
    }

// True if the operand names a log of objects.
bool objects_is(const char *operand);

struct objects {
    struct object_store *store;
    struct archive_reader *reader;
    struct archive_log log;
    struct buf names;
};
// Opens what `operand` names; ERR_INVALID (wrong operand or options) or another error with msg.
MUST_USE enum err objects_open(struct objects *o, const char *operand,
                               const struct objects_options *options, struct errmsg *msg);
// The same of what `operand` names and all below it: a bucket or directory, a prefix, a keyspace, a
// log. o->log is empty.
MUST_USE enum err objects_open_below(struct objects *o, const char *operand,
                                     const struct objects_options *options, struct errmsg *msg);
void objects_close(struct objects *o);

#endif
