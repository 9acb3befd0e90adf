// stat and check: what a server counts; whether a data directory is sound.
#include "base/os.h"
#include "cli/command.h"
#include <stdio.h>
#include <stdlib.h>

enum { TIMEOUT_MS = 10000, NAME_MAX_BYTES = 160, METRICS_MAX = 4096, EVERY_MS = 1000 };

struct metric {
    char name[NAME_MAX_BYTES]; // with its labels
    double value;
    bool counter; // rises only, so that a rate says something
};

struct metrics {
    size_t count;
    uint64_t at_ns;
    struct metric list[METRICS_MAX];
};

// Reads the Prometheus text format, as far as varve writes it: `# TYPE name kind` and `name{labels}
// value`.
static void read_metrics(struct metrics *m, const char *text)
{
    bool counter = false;
    m->count = 0;
    m->at_ns = os_mono_ns(os_real());
    for (const char *p = text; *p && m->count < METRICS_MAX;) {
        size_t n = strcspn(p, "\n");
        const char *next = p[n] ? p + n + 1 : p + n;
        const char *space = memrchr(p, ' ', n);
        if (n > 7 && !memcmp(p, "# TYPE ", 7)) {
            counter = n > 8 && !memcmp(p + n - 8, " counter", 8);
        } else if (*p != '#' && space && (size_t)(space - p) < NAME_MAX_BYTES) {
            struct metric *to = &m->list[m->count++];
            snprintf(to->name, sizeof to->name, "%.*s", (int)(space - p), p);
            to->value = strtod(space + 1, NULL);
            to->counter = counter;
        }
        p = next;
    }
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

// Numbers for people: bytes and times get units, whole numbers no fraction.
static void print_number(char *to, size_t cap, const char *name, double v)
{
    static const char *const sizes[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    bool bytes = strstr(name, "bytes") != NULL;
    bool ns = strstr(name, "nanoseconds") != NULL;
    bool us = strstr(name, "microseconds") != NULL;
    if (bytes) {
        int i = 0;
        for (; v >= 1024 && i < 4; i++)
            v /= 1024;
        snprintf(to, cap, i ? "%.1f %s" : "%.0f %s", v, sizes[i]);
    } else if (ns || us) {
        snprintf(to, cap, "%.3f s", v / (ns ? 1e9 : 1e6));
    } else if (ends_with(name, "seconds")) {
        snprintf(to, cap, "%.0f s", v);
    } else {
        snprintf(to, cap, v < 1e15 && v == (double)(int64_t)v ? "%.0f" : "%g", v);
    }
}

static const struct metric *same(const struct metrics *m, size_t i, const char *name)
{
    return m && i < m->count && !strcmp(m->list[i].name, name) ? &m->list[i] : NULL;
}

// With `before`: also how much the counters rise in a second.
static void print_metrics(const struct metrics *m, const struct metrics *before)
{
    double seconds = before ? (double)(m->at_ns - before->at_ns) / 1e9 : 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct metric *x = &m->list[i];
        const struct metric *old = same(before, i, x->name);
        const char *name = !strncmp(x->name, "varve_", 6) ? x->name + 6 : x->name;
        char value[64], rate[64] = "";
        print_number(value, sizeof value, x->name, x->value);
        if (old && x->counter && seconds > 0)
            print_number(rate, sizeof rate, x->name, (x->value - old->value) / seconds);
        printf("%-44s %16s%s%s%s\n", name, value, *rate ? "  +" : "", rate, *rate ? "/s" : "");
    }
}

static enum varve_error ask(struct varve *v, struct metrics *m, bool raw)
{
    const char *text;
    size_t n;
    enum varve_error r = varve_stat(v, &text, &n);
    if (r)
        return r;
    if (raw)
        (void)!fwrite(text, 1, n, stdout);
    else
        read_metrics(m, text);
    return VARVE_OK;
}

static enum varve_error watch(struct varve *v, struct metrics *m, struct metrics *before)
{
    bool terminal = os_is_terminal(1);
    bool first = true;
    for (;;) {
        enum varve_error r = ask(v, m, false);
        if (r)
            return r;
        fputs(terminal ? "\033[H\033[2J" : "", stdout);
        print_metrics(m, first ? NULL : before);
        if (!terminal)
            puts("");
        if (fflush(stdout))
            return VARVE_OK; // cli_main tells
        struct metrics *swap = m;
        m = before;
        before = swap;
        first = false;
        os_sleep_us(os_real(), EVERY_MS * 1000u);
    }
}

int command_stat(const struct command *c, int argc, char **argv)
{
    const char *server = NULL;
    bool watching = false, raw = false;
    const struct arg_option options[] = {
        {"server", ARG_TEXT, &server, "ADDR", "binary protocol, HOST:PORT"},
        {"watch", ARG_FLAG, &watching, NULL, "again every second, with rates"},
        {"raw", ARG_FLAG, &raw, NULL, "the Prometheus text"},
    };
    struct arg_list a = {.options = options, .count = sizeof options / sizeof *options};
    int code;
    if (!command_parse(c, &a, argc, argv, 0, 0, NULL, &code))
        return code;
    struct metrics *m = calloc(2, sizeof *m);
    struct varve *v = m ? command_connect(c, server, TIMEOUT_MS) : NULL;
    if (!v) {
        free(m);
        return CLI_FAILED;
    }
    enum varve_error r = watching ? watch(v, m, m + 1) : ask(v, m, raw);
    if (r)
        code = command_failed_call(c, v, r);
    else if (!watching && !raw)
        print_metrics(m, NULL);
    varve_close(v);
    free(m);
    return code;
}

int command_check(const struct command *c, int argc, char **argv)
{
    const char *dir = "./varve-data";
    const struct arg_option options[] = {
        {"data", ARG_TEXT, &dir, "DIR", "the data directory (./varve-data)"},
    };
    struct arg_list a = {.options = options, .count = 1};
    struct errmsg msg;
    int code;
    if (!command_parse(c, &a, argc, argv, 0, 0,
                       "Reads every frame of the log and every block of the store and changes "
                       "nothing.\n",
                       &code))
        return code;
    if (!c->offline)
        return command_fail(c, CLI_USAGE, "not built in");
    enum err e = c->offline->check(dir, stdout, &msg);
    return e ? command_fail(c, CLI_FAILED, "%s", msg.text) : CLI_OK;
}
