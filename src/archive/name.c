#include "archive/name.h"
#include "base/assert.h"
#include "base/hash.h"
#include <inttypes.h>
#include <stdio.h>

size_t name_format(const struct name *n, char text[NAME_DATA_MAX])
{
    char first_nonce[U128_TEXT], next_nonce[U128_TEXT];
    u128_format(n->first_nonce, first_nonce);
    u128_format(n->next_nonce, next_nonce);
    int w = snprintf(text, NAME_DATA_MAX,
                     NAME_DATA "o%020" PRIu64 "-o%" PRIu64 "_t%" PRId64 "-t%" PRId64
                               "_n%s-n%s_s%" PRIu64 "_p%" PRIu64 ".bin",
                     n->first, n->last, n->min_time, n->max_time, first_nonce, next_nonce, n->size,
                     n->prior);
    VERIFY(w > 0 && w < (int)NAME_DATA_MAX);
    return (size_t)w;
}

// ---- parsing: each takes what it reads off the front of *s

static bool take(struct slice *s, const char *word)
{
    struct slice w = slice_str(word);
    if (!slice_starts(*s, w))
        return false;
    *s = slice_of(s->p + w.n, s->n - w.n);
    return true;
}

// The decimal digits at the front; false if there are none, or a zero too many.
static bool take_digits(struct slice *s, struct slice *digits)
{
    size_t n = 0;
    while (n < s->n && s->p[n] >= '0' && s->p[n] <= '9')
        n++;
    *digits = slice_of(s->p, n);
    bool good = n == 1 || (n > 1 && s->p[0] != '0');
    *s = slice_of(s->p + n, s->n - n);
    return good;
}

static bool take_u128(struct slice *s, u128 *v)
{
    struct slice digits;
    return take_digits(s, &digits) && u128_parse(digits, v);
}

static bool take_u64(struct slice *s, uint64_t *v)
{
    u128 wide;
    bool good = take_u128(s, &wide) && wide <= UINT64_MAX;
    *v = good ? (uint64_t)wide : 0;
    return good;
}

static bool take_i64(struct slice *s, int64_t *v)
{
    bool negative = take(s, "-");
    uint64_t m;
    if (!take_u64(s, &m) || m > (uint64_t)INT64_MAX + negative || (negative && m == 0))
        return false;
    *v = (int64_t)(negative ? 0 - m : m);
    return true;
}

static bool take_first(struct slice *s, uint64_t *v)
{
    u128 wide;
    if (s->n < 20 || !u128_parse(slice_of(s->p, 20), &wide) || wide > UINT64_MAX)
        return false;
    *v = (uint64_t)wide;
    *s = slice_of(s->p + 20, s->n - 20);
    return true;
}

static bool take_all(struct slice *s, struct name *n)
{
    return take(s, NAME_DATA "o") && take_first(s, &n->first) && take(s, "-o") &&
           take_u64(s, &n->last) && take(s, "_t") && take_i64(s, &n->min_time) && take(s, "-t") &&
           take_i64(s, &n->max_time) && take(s, "_n") && take_u128(s, &n->first_nonce) &&
           take(s, "-n") && take_u128(s, &n->next_nonce) && take(s, "_s") &&
           take_u64(s, &n->size) && take(s, "_p") && take_u64(s, &n->prior) && take(s, ".bin");
}

enum err name_parse(struct slice text, struct name *n, struct errmsg *msg)
{
    struct slice s = text;
    const char *wrong = NULL;
    if (!take_all(&s, n))
        wrong = "is not the name of a data object";
    else if (s.n)
        wrong = "goes on after its .bin";
    else if (n->first == 0 || n->last < n->first || n->last == UINT64_MAX)
        wrong = "has offsets that no object has";
    else if (n->prior >= n->first)
        wrong = "names a prior object that is not before it";
    else if (n->first_nonce > n->next_nonce)
        wrong = "has nonces that fall";
    else if (((u128)(n->last - n->first) + 1) * RECORD_OVERHEAD > n->size)
        wrong = "has too few bytes for its records";
    if (!wrong)
        return ERR_OK;
    return err_set(msg, ERR_INVALID, "\"%.*s\" %s (at byte %zu)", text.n < 300 ? (int)text.n : 300,
                   (const char *)text.p, wrong, text.n - s.n);
}

// ---- keyspaces and keys

#define CONFIG_TAIL "_config.ini"

static bool must_encode(struct slice raw, size_t i, bool keyspace, bool utf8)
{
    uint8_t c = raw.p[i];
    if (c < 0x20 || c == 0x7f || c == '%' || c == '/' || c == '\\')
        return true;
    if (c >= 0x80)
        return !utf8;
    if (c == '.')
        return raw.n == 1 || (raw.n == 2 && raw.p[0] == '.' && raw.p[1] == '.');
    if (!keyspace)
        return false;
    size_t tail = sizeof CONFIG_TAIL - 1;
    return (c == '~' && i == 0) ||
           (i + 1 == raw.n && raw.n >= tail && !memcmp(raw.p + raw.n - tail, CONFIG_TAIL, tail));
}

enum err name_encode(struct slice raw, bool keyspace, char *text, size_t cap, struct errmsg *msg)
{
    static const char hex[] = "0123456789ABCDEF";
    const char *what = keyspace ? "keyspace" : "key";
    bool utf8 = utf8_valid(raw);
    size_t n = 0;
    if (raw.n == 0)
        return err_set(msg, ERR_INVALID, "the name of a %s is empty", what);
    for (size_t i = 0; i < raw.n; i++) {
        bool encode = must_encode(raw, i, keyspace, utf8);
        if (n + (encode ? 3 : 1) >= cap)
            return err_set(msg, ERR_TOO_BIG,
                           "the name of a %s is too long for an object's: %zu bytes, of which at "
                           "most %zu may remain when it is percent-encoded",
                           what, raw.n, cap - 1);
        if (!encode) {
            text[n++] = (char)raw.p[i];
            continue;
        }
        text[n++] = '%';
        text[n++] = hex[raw.p[i] >> 4];
        text[n++] = hex[raw.p[i] & 15];
    }
    text[n] = 0;
    return ERR_OK;
}

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static enum err decode(struct slice text, struct buf *out)
{
    enum err e = ERR_OK;
    for (size_t i = 0; !e && i < text.n; i++) {
        uint8_t c = text.p[i];
        if (c == '%') {
            int high = i + 2 < text.n ? hex_digit(text.p[i + 1]) : -1;
            int low = i + 2 < text.n ? hex_digit(text.p[i + 2]) : -1;
            if (high < 0 || low < 0)
                return ERR_INVALID;
            c = (uint8_t)(high << 4 | low);
            i += 2;
        }
        e = buf_append(out, &c, 1);
    }
    return e;
}

enum err name_decode(struct slice text, bool keyspace, struct buf *out)
{
    size_t before = buf_len(out);
    char again[NAME_DIR_MAX];
    enum err e = text.n ? decode(text, out) : ERR_INVALID;
    if (!e) { // one form only
        struct slice raw = slice_of(buf_head(out) + before, buf_len(out) - before);
        e = name_encode(raw, keyspace, again, sizeof again, NULL);
        if (!e && !slice_equal(slice_str(again), text))
            e = ERR_INVALID;
    }
    if (e)
        out->end = out->start + before;
    return e;
}

enum err name_dir(const struct archive_log *log, char dir[NAME_DIR_MAX], struct errmsg *msg)
{
    enum err e = name_encode(log->keyspace, true, dir, NAME_SPACE_MAX + 1, msg);
    if (e)
        return e;
    size_t n = strlen(dir);
    dir[n++] = '/';
    return name_encode(log->key, false, dir + n, OBJECT_PART_MAX + 1, msg);
}

bool epoch_parse(struct slice text, uint64_t *epoch)
{
    return take(&text, NAME_EPOCH) && take_first(&text, epoch) && text.n == 0 && *epoch > 0;
}

bool begin_parse(struct slice text, uint64_t *offset)
{
    return take(&text, NAME_BEGIN) && take_first(&text, offset) && text.n == 0 && *offset > 0;
}

void begin_name(const char *dir, uint64_t offset, char full[NAME_FULL_MAX])
{
    snprintf(full, NAME_FULL_MAX, "%s/" NAME_BEGIN "%020" PRIu64, dir, offset);
}

// ---- tokens

static uint32_t token_check(const struct archive_log *log, bool backwards, uint64_t offset)
{
    uint8_t head[9 + 8];
    head[0] = backwards;
    store64(head + 1, offset);
    store64(head + 9, log->keyspace.n); // where the one name ends and the other begins
    uint32_t crc = crc32c(0, head, sizeof head);
    crc = crc32c(crc, log->keyspace.p, log->keyspace.n);
    return crc32c(crc, log->key.p, log->key.n);
}

size_t token_format(const struct archive_log *log, bool backwards, uint64_t offset,
                    char text[ARCHIVE_TOKEN])
{
    int w = snprintf(text, ARCHIVE_TOKEN, "%c%" PRIu64 "-%08x", backwards ? 'b' : 'f', offset,
                     token_check(log, backwards, offset));
    VERIFY(w > 0 && w < ARCHIVE_TOKEN);
    return (size_t)w;
}

enum err token_parse(struct slice text, const struct archive_log *log, bool *backwards,
                     uint64_t *offset, struct errmsg *msg)
{
    char again[ARCHIVE_TOKEN];
    struct slice s = text;
    *backwards = text.n && text.p[0] == 'b';
    if ((take(&s, "f") || take(&s, "b")) && take_u64(&s, offset) &&
        slice_equal(text, slice_of(again, token_format(log, *backwards, *offset, again))))
        return ERR_OK;
    return err_set(msg, ERR_INVALID, "the continuation token is damaged or belongs to another log");
}
