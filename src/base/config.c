// Configuration: catalogues of keys (base/config.h), three ways in.
#include "base/config.h"
#include "base/assert.h"
#include "base/ini.h"
#include "base/limits.h"
#include "base/os.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_MAX_BYTES 64 // of a key's spelled name, "section.key" and the like, with its NUL

static const struct config_key server_keys[] = {VARVE_CONFIG(CONFIG_ROW)};
const struct config_catalogue config_server = {server_keys, CONFIG_COUNT};

#define X(section, key, kind, def, min, max, help) \
    _Static_assert(sizeof "VARVE_" #section "_" #key <= NAME_MAX_BYTES, "name too long: " #key);
VARVE_CONFIG(X)
#undef X

struct value {
    char *text; // as given
    uint64_t number;
    unsigned line; // of the file that set it, 0 for none
};

struct config {
    const struct config_catalogue *of;
    struct value v[];
};

// Suffixes from the largest unit down; a plain number is in the unit of factor `plain`.
struct unit {
    const char *suffix;
    uint64_t factor;
};
static const struct unit count_units[] = {{"", 1}, {NULL, 0}};
static const struct unit size_units[] = {
    {"g", 1u << 30}, {"m", 1u << 20}, {"k", 1u << 10}, {"", 1}, {NULL, 0}};
static const struct unit time_units[] = {{"d", 86400000000u}, {"h", 3600000000u}, {"m", 60000000},
                                         {"s", 1000000},      {"ms", 1000},       {"", 1000},
                                         {"us", 1},           {NULL, 0}};

static const struct unit *units_of(enum config_kind kind)
{
    return kind == CONFIG_KIND_SIZE   ? size_units
           : kind == CONFIG_KIND_TIME ? time_units
                                      : count_units;
}

// What a number of this kind looks like, for errors.
static const char *shape_of(enum config_kind kind)
{
    switch (kind) {
    case CONFIG_KIND_SIZE:
        return "a number of bytes, or of k, m or g (\"64k\")";
    case CONFIG_KIND_TIME:
        return "a number of milliseconds, or of us, ms, s, m, h or d (\"5s\")";
    default:
        return "a number";
    }
}

// Digits and a suffix of `units`; ERR_OVERFLOW past 64 bits, ERR_INVALID for anything else.
static enum err parse_number(const char *text, const struct unit *units, uint64_t *value)
{
    const char *c = text;
    uint64_t v = 0;
    bool over = false;
    for (; *c >= '0' && *c <= '9'; c++)
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*c - '0'), &v))
            over = true;
    if (c == text)
        return ERR_INVALID;
    for (; units->suffix; units++)
        if (strcasecmp(c, units->suffix) == 0) {
            if (__builtin_mul_overflow(v, units->factor, value))
                over = true;
            return over ? ERR_OVERFLOW : ERR_OK;
        }
    return ERR_INVALID;
}

// In the largest unit that divides it.
static void format_number(uint64_t v, const struct unit *units, char *text, size_t cap)
{
    while (units[1].suffix && (v == 0 || v % units->factor != 0))
        units++;
    (void)snprintf(text, cap, "%" PRIu64 "%s", v / units->factor, v ? units->suffix : "");
}

// The range of a number as a person would write it.
static void format_range(const struct config_key *k, char *text, size_t cap)
{
    char min[32], max[32];
    format_number(k->min, units_of(k->kind), min, sizeof min);
    format_number(k->max, units_of(k->kind), max, sizeof max);
    (void)snprintf(text, cap, "%s to %s", min, max);
}

// Bytes of a CHOICE's help that list its values, "a|b|c".
static size_t choices_length(const struct config_key *k)
{
    return strcspn(k->help, ":");
}

static bool is_choice(const struct config_key *k, const char *text)
{
    const char *at = k->help, *end = at + choices_length(k);
    while (at < end) {
        size_t n = strcspn(at, "|:");
        if (strlen(text) == n && memcmp(at, text, n) == 0)
            return true;
        at += n + 1;
    }
    return false;
}

struct config *config_new(const struct config_catalogue *catalogue)
{
    struct config *c = calloc(1, sizeof *c + catalogue->n * sizeof *c->v);
    if (c)
        c->of = catalogue;
    for (size_t id = 0; c && id < catalogue->n; id++) {
        enum err e = config_set(c, id, catalogue->keys[id].initial, "default", NULL);
        VERIFY(e == ERR_OK || e == ERR_NO_MEMORY);
        if (e != ERR_OK) {
            config_free(c);
            return NULL;
        }
    }
    return c;
}

void config_free(struct config *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->of->n; i++)
        free(c->v[i].text);
    free(c);
}

static const struct config_key *key_of(const struct config *c, size_t id)
{
    VERIFY(id < c->of->n);
    return &c->of->keys[id];
}

// Checks `text` against the key's kind and range; *number is set for the kinds that have one.
static enum err check(const struct config_key *k, const char *text, uint64_t *number,
                      const char *where, struct errmsg *msg)
{
    char range[80];
    enum err e;
    *number = 0;
    switch (k->kind) {
    case CONFIG_KIND_TEXT:
        if (!*text && *k->initial)
            return err_set(msg, ERR_INVALID, "%s: %s.%s is empty", where, k->section, k->name);
        if (strlen(text) >= LIMIT_PATH)
            return err_set(msg, ERR_TOO_BIG, "%s: %s.%s is longer than %u bytes", where, k->section,
                           k->name, LIMIT_PATH - 1);
        return ERR_OK;
    case CONFIG_KIND_CHOICE:
        if (!is_choice(k, text))
            return err_set(msg, ERR_INVALID, "%s: %s.%s: \"%s\" is not one of %.*s", where,
                           k->section, k->name, text, (int)choices_length(k), k->help);
        return ERR_OK;
    default:
        e = parse_number(text, units_of(k->kind), number);
        if (e == ERR_INVALID)
            return err_set(msg, e, "%s: %s.%s: \"%s\" is not %s", where, k->section, k->name, text,
                           shape_of(k->kind));
        format_range(k, range, sizeof range);
        if (e == ERR_OVERFLOW || *number < k->min || *number > k->max)
            return err_set(msg, ERR_INVALID, "%s: %s.%s: %s is out of the range %s", where,
                           k->section, k->name, text, range);
        return ERR_OK;
    }
}

enum err config_set(struct config *c, size_t id, const char *text, const char *where,
                    struct errmsg *msg)
{
    uint64_t number;
    enum err e = check(key_of(c, id), text, &number, where, msg);
    if (e != ERR_OK)
        return e;
    char *copy = strdup(text);
    if (!copy)
        return err_set(msg, ERR_NO_MEMORY, "%s: out of memory", where);
    free(c->v[id].text);
    c->v[id].text = copy;
    c->v[id].number = number;
    return ERR_OK;
}

const char *config_text(const struct config *c, size_t id)
{
    (void)key_of(c, id);
    return c->v[id].text;
}

uint64_t config_number(const struct config *c, size_t id)
{
    (void)key_of(c, id);
    return c->v[id].number;
}

bool config_is(const struct config *c, size_t id, const char *value)
{
    const struct config_key *k = key_of(c, id);
    VERIFY(k->kind == CONFIG_KIND_CHOICE &&
           is_choice(k, value)); // or the code would wait for a value that cannot be
    return strcmp(c->v[id].text, value) == 0;
}

// How a key is spelled in each place.
enum spelling { IN_FILE, IN_FLAG, IN_ENV };

static void spell(const struct config_key *k, enum spelling how, char name[static NAME_MAX_BYTES])
{
    if (how == IN_FILE)
        (void)snprintf(name, NAME_MAX_BYTES, "%s.%s", k->section, k->name);
    else if (how == IN_ENV)
        (void)snprintf(name, NAME_MAX_BYTES, "VARVE_%s_%s", k->section, k->name);
    else if (strcmp(k->section, "server") == 0)
        (void)snprintf(name, NAME_MAX_BYTES, "%s", k->name);
    else
        (void)snprintf(name, NAME_MAX_BYTES, "%s-%s", k->section, k->name);
    for (char *c = name; *c; c++)
        if (how == IN_ENV)
            *c = (char)toupper((unsigned char)*c);
        else if (how == IN_FLAG && *c == '_')
            *c = '-';
}

static bool find(const struct config_catalogue *of, const char *name, enum spelling how, size_t *id)
{
    char spelled[NAME_MAX_BYTES];
    for (*id = 0; *id < of->n; ++*id) {
        spell(&of->keys[*id], how, spelled);
        if (strcmp(name, spelled) == 0)
            return true;
    }
    return false;
}

bool config_find_flag(const char *flag, enum config_id *id)
{
    size_t found;
    bool is = find(&config_server, flag, IN_FLAG, &found);
    *id = is ? (enum config_id)found : *id;
    return is;
}

size_t config_id(const struct config *c, const char *name)
{
    size_t id;
    VERIFY(find(c->of, name, IN_FILE, &id));
    return id;
}

// Edit distance (Levenshtein) without regard to case; too long a name is far from everything.
static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n >= NAME_MAX_BYTES || m >= NAME_MAX_BYTES)
        return SIZE_MAX / 2;
    size_t row[NAME_MAX_BYTES]; // row[j]: from the first i bytes of a to the first j of b
    for (size_t j = 0; j <= m; j++)
        row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            bool same = tolower((unsigned char)a[i - 1]) == tolower((unsigned char)b[j - 1]);
            size_t replace = diagonal + !same;
            size_t skip = 1 + (row[j] < row[j - 1] ? row[j] : row[j - 1]);
            diagonal = row[j];
            row[j] = replace < skip ? replace : skip;
        }
    }
    return row[m];
}

// `name` without its section, or without the prefix that every variable has.
static const char *last_part(const char *name, enum spelling how)
{
    const char *dot = strchr(name, '.');
    if (dot)
        return dot + 1;
    return how == IN_ENV ? name + strlen("VARVE_") : name;
}

// "unknown key X", with the nearest key there is if one is near: by its whole name, or by its last
// part alone under another section.
static enum err unknown_key(const struct config *c, const char *name, enum spelling how,
                            const char *where, struct errmsg *msg)
{
    const char *last = last_part(name, how);
    size_t best = strlen(last) / 3 + 1;
    char near[NAME_MAX_BYTES] = "";
    for (size_t i = 0; i < c->of->n; i++) {
        char spelled[NAME_MAX_BYTES];
        spell(&c->of->keys[i], how, spelled);
        size_t whole = distance(name, spelled), part = distance(last, c->of->keys[i].name) + 1;
        size_t d = whole < part ? whole : part;
        if (d < best) {
            best = d;
            memcpy(near, spelled, sizeof near);
        }
    }
    if (!*near)
        return err_set(msg, ERR_INVALID, "%s: unknown key \"%s\"", where, name);
    return err_set(msg, ERR_INVALID, "%s: unknown key \"%s\" (did you mean \"%s\"?)", where, name,
                   near);
}

enum err config_load_key(struct config *c, const struct ini_key *key, size_t *id,
                         struct errmsg *msg)
{
    char full[2 * NAME_MAX_BYTES];
    size_t found;
    (void)snprintf(full, sizeof full, "%s.%s", key->section, key->name);
    if (!find(c->of, full, IN_FILE, &found))
        return unknown_key(c, full, IN_FILE, key->where, msg);
    unsigned *line = &c->v[found].line;
    if (*line)
        return err_set(msg, ERR_INVALID, "%s: %s is set on line %u already", key->where, full,
                       *line);
    *line = key->line;
    if (id)
        *id = found;
    return config_set(c, found, key->value, key->where, msg);
}

static enum err load_key(void *arg, const struct ini_key *key, struct errmsg *msg)
{
    return config_load_key(arg, key, NULL, msg);
}

enum err config_load_file(struct config *c, const char *path, struct errmsg *msg)
{
    for (size_t i = 0; i < c->of->n; i++)
        c->v[i].line = 0;
    return ini_read(path, load_key, c, msg);
}

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

enum err config_load_env(struct config *c, const char *prefix, struct errmsg *msg)
{
    for (char **e = environ; e && *e; e++) {
        const char *entry = *e, *equals = strchr(entry, '=');
        // The last three are for the test suite, the benchmarks and the command line.
        if (!equals || !starts_with(entry, prefix) || starts_with(entry, "VARVE_TEST_") ||
            starts_with(entry, "VARVE_BENCH_") || starts_with(entry, "VARVE_SERVER="))
            continue;
        char name[2 * NAME_MAX_BYTES];
        (void)snprintf(name, sizeof name, "%.*s", (int)(equals - entry), entry);
        size_t id;
        if (!find(c->of, name, IN_ENV, &id))
            return unknown_key(c, name, IN_ENV, "environment", msg);
        enum err result = config_set(c, id, equals + 1, name, msg);
        if (result != ERR_OK)
            return result;
    }
    return ERR_OK;
}

enum err config_help(void *file)
{
    FILE *f = file;
    const char *section = "";
    for (size_t i = 0; i < CONFIG_COUNT; i++) {
        const struct config_key *k = &server_keys[i];
        char flag[NAME_MAX_BYTES], env[NAME_MAX_BYTES], range[80];
        spell(k, IN_FLAG, flag);
        spell(k, IN_ENV, env);
        if (strcmp(section, k->section) != 0)
            (void)fprintf(f, "%s[%s]\n", *section ? "\n" : "", k->section);
        section = k->section;
        (void)fprintf(f, "# %s", k->help);
        if (k->kind != CONFIG_KIND_TEXT && k->kind != CONFIG_KIND_CHOICE) {
            format_range(k, range, sizeof range);
            (void)fprintf(f, " (%s)", range);
        }
        (void)fprintf(f, "; --%s, %s\n%s = %s\n", flag, env, k->name, k->initial);
    }
    return fflush(f) == 0 && !ferror(f) ? ERR_OK : ERR_IO;
}
