// log check: verifies logs kept as objects, without a server.
#include "archive/check.h"
#include "cli/log.h"
#include "cli/objects.h"
#include "cli/progress.h"
#include <inttypes.h>
#include <stdio.h>

struct checking {
    struct archive_check check;
    struct progress progress;
};

static void on_defect(void *arg, const char *what)
{
    const struct checking *k = arg;
    progress_hide(&k->progress);
    printf("%s\n", what);
    fflush(stdout); // as it is found: the whole may take hours
}

static void on_progress(void *arg)
{
    struct checking *k = arg;
    progress_show(&k->progress, k->check.objects);
}

int command_log_check(const struct command *c, int argc, char **argv)
{
    struct objects_options how = {0};
    struct objects o;
    struct errmsg msg = {""};
    struct checking k = {.check = {.defect = on_defect, .progress = on_progress, .arg = &k}};
    const struct arg_option options[] = {
        {"require-sums", ARG_FLAG, &k.check.require_sums, NULL,
         "an object without a checksum is a defect"},
        OBJECTS_OPTIONS(how),
    };
    struct arg_list a = {.options = options, .count = LOG_COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 1, 1,
                       "URL is s3://BUCKET[/PREFIX][/KEYSPACE[/KEY]] or dir:///PATH...: all logs "
                       "there are read. Prints a\nline for each defect, then what there was. Exit "
                       "code 1 if there are defects.\n",
                       &code))
        return code;
    const char *url = a.operands[0];
    if (!objects_is(url))
        return command_fail(c, CLI_USAGE, "%s: s3:// or dir:// is wanted", url);
    enum err e = objects_open_below(&o, url, &how, &msg);
    if (e)
        return command_fail(c, e == ERR_INVALID ? CLI_USAGE : CLI_FAILED, "%s: %s", url, msg.text);
    progress_begin(&k.progress, "checking", 0, "objects");
    e = archive_check(o.store, &k.check, &msg);
    progress_end(&k.progress);
    objects_close(&o);
#define X(name) printf(#name " %" PRIu64 "\n", k.check.name);
    ARCHIVE_CHECKED(X)
#undef X
    if (e)
        return command_fail(c, CLI_FAILED, "not all was read: %s", msg.text);
    return k.check.defects ? CLI_NO : CLI_OK;
}
