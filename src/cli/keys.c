// get, put, delete, list: one key, or the keys.
#include "base/json.h"
#include "cli/command.h"
#include "cli/io.h"
#include "cli/lines.h"
#include "cli/value.h"
#include <stdio.h>

#define SERVER_OPTION                                                     \
    {                                                                     \
        "server", ARG_TEXT, &server, "ADDR", "binary protocol, HOST:PORT" \
    }
#define TIMEOUT_OPTION                                                                  \
    {                                                                                   \
        "timeout", ARG_TIME, &timeout, "TIME", "for the server's answer (10s); 0: none" \
    }
#define COUNT(a) (sizeof(a) / sizeof *(a))

enum { TIMEOUT_MS = 10000, VALUE_MAX = 16 << 20 };

static void write_out(struct slice s)
{
    // Errors of standard output are looked at once, at the end, by cli_main.
    (void)!fwrite(s.p, 1, s.n, stdout);
}

// How get and list print a value.
enum shape { AS_TEXT, AS_RAW, AS_VERSION, AS_JSON };

struct printer {
    enum shape shape;
    struct json_parser *parser;
    struct buf text;
    enum err e; // the first error
};

static void printer_init(struct printer *p, enum shape shape)
{
    *p = (struct printer){.shape = shape, .parser = json_parser_new(LINE_BYTES)};
    buf_init(&p->text, LINE_BYTES);
    p->e = p->parser ? ERR_OK : ERR_NO_MEMORY;
}

static void printer_release(struct printer *p)
{
    buf_release(&p->text);
    json_parser_free(p->parser);
}

static void print_value(struct printer *p, struct slice key, const struct varve_value *v)
{
    if (p->e)
        return;
    buf_clear(&p->text);
    if (p->shape == AS_VERSION)
        p->e = buf_printf(&p->text, "%llu", (unsigned long long)v->version);
    else if (p->shape == AS_JSON)
        p->e = line_put(&p->text, p->parser, key, v);
    else
        p->e = value_put_text(&p->text, v);
    if (!p->e && (p->shape == AS_TEXT || p->shape == AS_VERSION))
        p->e = buf_append(&p->text, "\n", 1);
    if (!p->e && buf_len(&p->text))
        write_out(buf_slice(&p->text));
}

int command_get(const struct command *c, int argc, char **argv)
{
    const char *server = NULL;
    uint64_t timeout = TIMEOUT_MS;
    bool raw = false, version = false, json = false;
    const struct arg_option options[] = {
        SERVER_OPTION,
        {"raw", ARG_FLAG, &raw, NULL, "the value's bytes and nothing else, no newline"},
        {"version", ARG_FLAG, &version, NULL, "only the version"},
        {"json", ARG_FLAG, &json, NULL, "key, type, version and value as a dump line"},
        TIMEOUT_OPTION,
    };
    struct arg_list a = {.options = options, .count = COUNT(options)};
    struct varve_value value;
    int code;
    if (!command_parse(c, &a, argc, argv, 1, 1, NULL, &code))
        return code;
    struct slice key = slice_str(a.operands[0]);
    struct varve *v = command_connect(c, server, timeout);
    if (!v)
        return CLI_FAILED;
    enum varve_error r = varve_get(v, key.p, key.n, &value);
    enum shape shape = version ? AS_VERSION : json ? AS_JSON : raw ? AS_RAW : AS_TEXT;
    struct printer p;
    printer_init(&p, shape);
    if (r)
        code = command_failed_call(c, v, r);
    else
        print_value(&p, key, &value);
    if (p.e)
        code = command_fail(c, CLI_FAILED, "%s", err_text(p.e));
    printer_release(&p);
    varve_close(v);
    return code;
}

// The stored form of the VALUE operand, or of standard input for "-".
static int read_value(const struct command *c, const char *operand, const char *type_name,
                      struct buf *value, enum varve_type *type)
{
    struct errmsg msg;
    struct buf text;
    struct json_parser *parser = json_parser_new(LINE_BYTES);
    buf_init(&text, VALUE_MAX);
    enum err e = parser ? ERR_OK : err_set(&msg, ERR_NO_MEMORY, "out of memory");
    if (!e && !strcmp(operand, "-"))
        e = input_all("-", &text, &msg);
    else if (!e && buf_append(&text, operand, strlen(operand)))
        e = err_set(&msg, ERR_NO_MEMORY, "out of memory");
    // An empty buffer has no block, hence no address.
    struct slice s = buf_len(&text) ? buf_slice(&text) : slice_str("");
    e = e ? e : value_from_text(value, parser, s, type_name, type, &msg);
    buf_release(&text);
    json_parser_free(parser);
    return e ? command_fail(c, CLI_USAGE, "%s", msg.text) : CLI_OK;
}

// One operation as a transaction; prints the new version, or the conflict.
static int commit_one(const struct command *c, const char *server, uint64_t timeout,
                      struct varve_op *op)
{
    struct varve *v = command_connect(c, server, timeout);
    if (!v)
        return CLI_FAILED;
    int code = CLI_OK;
    enum varve_error r = varve_txn(v, op, 1, NULL, 0, NULL);
    if (r == VARVE_CONFLICT)
        code = command_fail(c, CLI_NO, "the key is at version %llu, not %llu",
                            (unsigned long long)op->actual, (unsigned long long)op->version);
    else if (r)
        code = command_failed_call(c, v, r);
    else if (op->kind == VARVE_OP_PUT)
        printf("%llu\n", (unsigned long long)op->new_version);
    varve_close(v);
    return code;
}

int command_put(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *type_name = NULL;
    uint64_t timeout = TIMEOUT_MS, version = UINT64_MAX, ttl = 0;
    const struct arg_option options[] = {
        SERVER_OPTION,
        {"version", ARG_COUNT, &version, "N",
         "only if the key is at this version; 0: is not there"},
        {"type", ARG_TEXT, &type_name, "TYPE", "string int float bool array bytes; else a string"},
        {"ttl", ARG_TIME, &ttl, "TIME", "the key goes after this long"},
        TIMEOUT_OPTION,
    };
    struct arg_list a = {.options = options, .count = COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 2, 2,
                       "VALUE - reads standard input to its end. Prints the new version.\n", &code))
        return code;
    struct buf value;
    struct varve_op op = {.kind = VARVE_OP_PUT,
                          .key = a.operands[0],
                          .key_size = strlen(a.operands[0]),
                          .has_version = version != UINT64_MAX,
                          .version = version,
                          .ttl_ms = ttl};
    buf_init(&value, VALUE_MAX);
    code = read_value(c, a.operands[1], type_name, &value, &op.type);
    op.value = buf_len(&value) ? buf_head(&value) : NULL;
    op.value_size = buf_len(&value);
    if (!code)
        code = commit_one(c, server, timeout, &op);
    buf_release(&value);
    return code;
}

int command_delete(const struct command *c, int argc, char **argv)
{
    const char *server = NULL;
    uint64_t timeout = TIMEOUT_MS, version = UINT64_MAX;
    const struct arg_option options[] = {
        SERVER_OPTION,
        {"version", ARG_COUNT, &version, "N", "only if the key is at this version"},
        TIMEOUT_OPTION,
    };
    struct arg_list a = {.options = options, .count = COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 1, 1, "Deleting what is not there is not an error.\n",
                       &code))
        return code;
    struct varve_op op = {.kind = VARVE_OP_DELETE,
                          .key = a.operands[0],
                          .key_size = strlen(a.operands[0]),
                          .has_version = version != UINT64_MAX,
                          .version = version};
    return commit_one(c, server, timeout, &op);
}

static bool print_key(void *arg, const void *key, size_t n, const struct varve_value *v)
{
    struct printer *p = arg;
    if (v) {
        print_value(p, slice_of(key, n), v);
    } else {
        write_out(slice_of(key, n));
        write_out(slice_str("\n"));
    }
    return !p->e && !ferror(stdout);
}

int command_list(const struct command *c, int argc, char **argv)
{
    const char *server = NULL, *prefix = "", *after = "";
    uint64_t timeout = TIMEOUT_MS, limit = 0;
    bool values = false;
    const struct arg_option options[] = {
        SERVER_OPTION,
        {"prefix", ARG_TEXT, &prefix, "TEXT", "only keys that begin so"},
        {"after", ARG_TEXT, &after, "KEY", "only keys after this one"},
        {"limit", ARG_COUNT, &limit, "N", "so many keys at most (all)"},
        {"values", ARG_FLAG, &values, NULL, "dump lines, instead of keys only"},
        TIMEOUT_OPTION,
    };
    struct arg_list a = {.options = options, .count = COUNT(options)};
    int code;
    if (!command_parse(c, &a, argc, argv, 0, 0, NULL, &code))
        return code;
    struct varve *v = command_connect(c, server, timeout);
    if (!v)
        return CLI_FAILED;
    struct printer p;
    printer_init(&p, AS_JSON);
    enum varve_error r =
        varve_list(v, prefix, strlen(prefix), after, strlen(after), limit, values, print_key, &p);
    if (r)
        code = command_failed_call(c, v, r);
    else if (p.e)
        code = command_fail(c, CLI_FAILED, "%s", err_text(p.e));
    printer_release(&p);
    varve_close(v);
    return code;
}
