#include "cli/args.h"
#include <stdio.h>
#include <string.h>

// Digits at the start of `text`; *rest is what follows them.
static enum err digits(const char *text, uint64_t *n, const char **rest)
{
    uint64_t v = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++) {
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return ERR_OVERFLOW;
    }
    *n = v;
    *rest = p;
    return p == text ? ERR_INVALID : ERR_OK;
}

struct unit {
    const char *suffix;
    uint64_t factor;
};

static enum err with_unit(const char *text, const struct unit *units, size_t count, uint64_t *n)
{
    const char *rest;
    enum err e = digits(text, n, &rest);
    for (size_t i = 0; !e && i < count; i++)
        if (!strcmp(rest, units[i].suffix))
            return __builtin_mul_overflow(*n, units[i].factor, n) ? ERR_OVERFLOW : ERR_OK;
    return e ? e : ERR_INVALID;
}

enum err arg_count(const char *text, uint64_t *n)
{
    static const struct unit units[] = {{"", 1}};
    return with_unit(text, units, 1, n);
}

enum err arg_size(const char *text, uint64_t *bytes)
{
    static const struct unit units[] = {{"", 1}, {"k", 1u << 10}, {"m", 1u << 20}, {"g", 1u << 30}};
    return with_unit(text, units, 4, bytes);
}

enum err arg_time(const char *text, uint64_t *ms)
{
    static const struct unit units[] = {{"", 1},      {"ms", 1},      {"s", 1000},
                                        {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    return with_unit(text, units, 6, ms);
}

enum err arg_int(const char *text, int64_t *n)
{
    bool minus = *text == '-';
    uint64_t v;
    enum err e = arg_count(text + minus, &v);
    if (e)
        return e;
    if (v > (uint64_t)INT64_MAX + minus)
        return ERR_OVERFLOW;
    *n = (int64_t)(minus ? 0 - v : v);
    return ERR_OK;
}

static enum err set_option(const struct arg_option *o, const char *text, struct errmsg *msg)
{
    enum err e = ERR_OK;
    switch (o->kind) {
    case ARG_FLAG:
        *(bool *)o->to = true;
        return ERR_OK;
    case ARG_TEXT:
        *(const char **)o->to = text;
        return ERR_OK;
    case ARG_COUNT:
        e = arg_count(text, o->to);
        break;
    case ARG_SIZE:
        e = arg_size(text, o->to);
        break;
    case ARG_TIME:
        e = arg_time(text, o->to);
        break;
    }
    static const char *const wanted[] = {
        [ARG_COUNT] = "a whole number",
        [ARG_SIZE] = "a size such as 100, 4k or 1m",
        [ARG_TIME] = "a time such as 500ms, 10s or 2h",
    };
    return e ? err_set(msg, ERR_INVALID, "--%s: \"%s\" is not %s", o->name, text, wanted[o->kind])
             : ERR_OK;
}

static const struct arg_option *find(const struct arg_list *a, const char *name, size_t n)
{
    for (size_t i = 0; i < a->count; i++)
        if (strlen(a->options[i].name) == n && !memcmp(a->options[i].name, name, n))
            return &a->options[i];
    return NULL;
}

enum err args_parse(struct arg_list *a, int argc, char **argv, struct errmsg *msg)
{
    bool options = true;
    a->operands = (const char **)argv;
    a->operand_count = 0;
    a->help = false;
    for (int i = 0; i < argc; i++) {
        char *arg = argv[i];
        bool number = arg[0] == '-' && arg[1] >= '0' && arg[1] <= '9';
        if (!options || arg[0] != '-' || arg[1] == 0 || number) {
            argv[a->operand_count++] = arg;
            continue;
        }
        if (!strcmp(arg, "--")) {
            options = false;
            continue;
        }
        if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
            a->help = true;
            return ERR_OK;
        }
        const char *name = arg + 2;
        size_t n = strcspn(name, "=");
        const struct arg_option *o = arg[1] == '-' ? find(a, name, n) : NULL;
        if (!o)
            return err_set(msg, ERR_INVALID, "unknown option %s", arg);
        const char *text = name[n] ? name + n + 1 : NULL;
        if (o->kind == ARG_FLAG && text)
            return err_set(msg, ERR_INVALID, "--%s takes no value", o->name);
        if (o->kind != ARG_FLAG && !text) {
            if (++i == argc)
                return err_set(msg, ERR_INVALID, "--%s needs a value: %s", o->name, o->value);
            text = argv[i];
        }
        enum err e = set_option(o, text, msg);
        if (e)
            return e;
    }
    return ERR_OK;
}

void args_help(const struct arg_list *a, void *file)
{
    for (size_t i = 0; i < a->count; i++) {
        const struct arg_option *o = &a->options[i];
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", o->name, o->value ? " " : "",
                 o->value ? o->value : "");
        fprintf(file, "  %-26s %s\n", left, o->help);
    }
    fprintf(file, "  %-26s %s\n", "--help", "show this");
}
