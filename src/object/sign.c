#include "object/sign.h"
#include "base/assert.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#define CANONICAL_MAX (64u << 10)

void hex_of(char *hex, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        hex[2 * i] = digits[p[i] >> 4];
        hex[2 * i + 1] = digits[p[i] & 15];
    }
    hex[2 * n] = 0;
}

enum err sha256_hex(char hex[SHA256_HEX], const struct slice *parts, size_t count, uint64_t from,
                    uint64_t n)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1;
    for (size_t i = 0; good && i < count && n > 0; i++) {
        if (from >= parts[i].n) {
            from -= parts[i].n;
            continue;
        }
        size_t step = parts[i].n - (size_t)from;
        if (step > n)
            step = (size_t)n;
        good = EVP_DigestUpdate(ctx, parts[i].p + from, step) == 1;
        from = 0;
        n -= step;
    }
    good = good && EVP_DigestFinal_ex(ctx, digest, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    if (good)
        hex_of(hex, digest, SHA256_BYTES);
    return good ? ERR_OK : ERR_NO_MEMORY;
}

enum err md5_of(uint8_t digest[16], struct slice s)
{
    return EVP_Digest(s.p, s.n, digest, NULL, EVP_md5(), NULL) == 1 ? ERR_OK : ERR_UNSUPPORTED;
}

static enum err hmac(uint8_t out[SHA256_BYTES], const void *key, size_t key_n, struct slice s)
{
    unsigned n = 0;
    return HMAC(EVP_sha256(), key, (int)key_n, s.p, s.n, out, &n) && n == SHA256_BYTES
               ? ERR_OK
               : ERR_NO_MEMORY;
}

void sign_date(char date[SIGN_DATE], uint64_t seconds)
{
    // Days to a date of the Gregorian calendar: years from March on, so that leap days come last.
    uint64_t days = seconds / 86400, left = seconds % 86400;
    uint64_t z = days + 719468, era = z / 146097, doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint64_t mp = (5 * doy + 2) / 153;
    unsigned day = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    unsigned month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    unsigned year = (unsigned)(yoe + era * 400 + (month <= 2));
    snprintf(date, SIGN_DATE, "%04u%02u%02uT%02u%02u%02uZ", year % 10000, month % 100, day % 100,
             (unsigned)(left / 3600) % 100, (unsigned)(left / 60 % 60) % 100,
             (unsigned)(left % 60) % 100);
}

// A header's value without blanks at its ends and with one for each run of them within.
static enum err put_trimmed(struct buf *b, const char *value)
{
    enum err e = ERR_OK;
    bool some = false, blank = false;
    for (; *value && e == ERR_OK; value++) {
        if (*value == ' ' || *value == '\t') {
            blank = some;
            continue;
        }
        if (blank)
            e = buf_append(b, " ", 1);
        if (e == ERR_OK)
            e = buf_append(b, value, 1);
        some = true;
        blank = false;
    }
    return e;
}

// "a;b;c"; several headers of one name are named once.
static enum err put_names(struct buf *b, const struct sign_request *r)
{
    enum err e = ERR_OK;
    for (size_t i = 0; i < r->header_count && e == ERR_OK; i++)
        if (i == 0 || strcmp(r->headers[i].name, r->headers[i - 1].name) != 0)
            e = buf_printf(b, "%s%s", i ? ";" : "", r->headers[i].name);
    return e;
}

static enum err put_headers(struct buf *b, const struct sign_request *r)
{
    enum err e = ERR_OK;
    for (size_t i = 0; i < r->header_count && e == ERR_OK; i++) {
        const struct sign_header *h = &r->headers[i];
        bool more = i > 0 && strcmp(h->name, h[-1].name) == 0; // values of one name are joined
        VERIFY(i == 0 || strcmp(h->name, h[-1].name) >= 0);
        e = more ? buf_append(b, ",", 1) : buf_printf(b, "%s%s:", i ? "\n" : "", h->name);
        if (e == ERR_OK)
            e = put_trimmed(b, h->value);
    }
    return e == ERR_OK ? buf_append(b, "\n", 1) : e;
}

enum err sign_canonical(struct buf *out, const struct sign_request *r)
{
    VERIFY(r->header_count > 0 && r->header_count <= SIGN_HEADERS);
    enum err e = buf_printf(out, "%s\n%s\n%s\n", r->method, r->path, r->query);
    if (e == ERR_OK)
        e = put_headers(out, r);
    if (e == ERR_OK)
        e = buf_append(out, "\n", 1);
    if (e == ERR_OK)
        e = put_names(out, r);
    return e == ERR_OK ? buf_printf(out, "\n%s", r->payload_hash) : e;
}

enum err sign_text(struct buf *out, const struct sign_key *key, const char *date,
                   const struct sign_request *r)
{
    struct buf canonical;
    buf_init(&canonical, CANONICAL_MAX);
    char hex[SHA256_HEX];
    enum err e = sign_canonical(&canonical, r);
    if (e == ERR_OK) {
        struct slice all = buf_slice(&canonical);
        e = sha256_hex(hex, &all, 1, 0, all.n);
    }
    if (e == ERR_OK)
        e = buf_printf(out, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/%s/aws4_request\n%s", date, date,
                       key->region, key->service, hex);
    buf_release(&canonical);
    return e;
}

enum err sign_v4(struct buf *out, const struct sign_key *key, const char *date,
                 const struct sign_request *r)
{
    struct buf text;
    buf_init(&text, CANONICAL_MAX);
    enum err e = buf_printf(&text, "AWS4%s", key->secret);
    uint8_t k[SHA256_BYTES];
    if (e == ERR_OK)
        e = hmac(k, buf_head(&text), buf_len(&text), slice_of(date, 8));
    const char *steps[] = {key->region, key->service, "aws4_request"};
    for (size_t i = 0; i < 3 && e == ERR_OK; i++)
        e = hmac(k, k, sizeof k, slice_str(steps[i]));
    buf_clear(&text);
    if (e == ERR_OK)
        e = sign_text(&text, key, date, r);
    if (e == ERR_OK)
        e = hmac(k, k, sizeof k, buf_slice(&text));
    buf_release(&text);
    if (e == ERR_OK)
        e = buf_printf(out,
                       "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request, SignedHeaders=",
                       key->access, date, key->region, key->service);
    if (e == ERR_OK)
        e = put_names(out, r);
    if (e != ERR_OK)
        return e;
    char hex[SHA256_HEX];
    hex_of(hex, k, sizeof k);
    return buf_printf(out, ", Signature=%s", hex);
}
