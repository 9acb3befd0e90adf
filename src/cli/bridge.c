// bridge: records from Kafka into logs, until it is told to stop.
#include "bridge/bridge.h"
#include "cli/command.h"

int command_bridge(const struct command *c, int argc, char **argv)
{
    const char *config = NULL;
    const struct arg_option options[] = {
        {"config", ARG_TEXT, &config, "FILE", "the configuration; required"},
    };
    struct arg_list a = {.options = options, .count = sizeof options / sizeof *options};
    int code;
    if (!command_parse(c, &a, argc, argv, 0, 0,
                       "FILE is klstore's INI: [s3] [batcher] [kafka] [parser], and [bridge]. It "
                       "runs until SIGTERM\nor SIGINT; then all that was read is stored and its "
                       "offsets are committed.\n",
                       &code))
        return code;
    if (!config)
        return command_fail(c, CLI_USAGE, "--config FILE is missing");
    struct errmsg msg = {""};
    enum err e = bridge_run(config, &msg);
    if (!e)
        return CLI_OK;
    return command_fail(c, e == ERR_INVALID || e == ERR_TOO_BIG ? CLI_USAGE : CLI_FAILED, "%s",
                        msg.text);
}
