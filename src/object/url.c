#include "object/url.h"

#include <stdio.h>
#include <stdlib.h>

static bool plain(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

enum err url_encode(struct buf *b, struct slice s, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";
    enum err e = buf_reserve(b, 3 * s.n);
    if (e != ERR_OK)
        return e;
    for (size_t i = 0; i < s.n; i++) {
        uint8_t c = s.p[i];
        if (plain(c) || (c == '/' && keep_slash))
            buf_put(b, &c, 1);
        else
            buf_put(b, (char[]){'%', digits[c >> 4], digits[c & 15]}, 3);
    }
    return ERR_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t url_decode(char *s, size_t n)
{
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] != '%') {
            s[to++] = s[i] == '+' ? ' ' : s[i];
            continue;
        }
        int high = n - i > 2 ? hex_digit(s[i + 1]) : -1;
        int low = high >= 0 ? hex_digit(s[i + 2]) : -1;
        if (low < 0)
            return SIZE_MAX;
        s[to++] = (char)(high << 4 | low);
        i += 2;
    }
    return to;
}

static int by_bytes(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;
    // By name first: "a=..." comes before "a-b=..." although '=' is greater than '-'.
    const uint8_t *ends[2] = {memchr(x->p, '=', x->n), memchr(y->p, '=', y->n)};
    struct slice names[2] = {slice_of(x->p, ends[0] ? (size_t)(ends[0] - x->p) : x->n),
                             slice_of(y->p, ends[1] ? (size_t)(ends[1] - y->p) : y->n)};
    int order = slice_compare(names[0], names[1]);
    return order ? order : slice_compare(*x, *y);
}

enum err url_sort_query(struct buf *b, const char *query)
{
    struct slice members[URL_QUERY_MEMBERS];
    size_t count = 0;
    while (*query) {
        size_t n = strcspn(query, "&");
        if (n > 0 && count == URL_QUERY_MEMBERS)
            return ERR_TOO_BIG;
        if (n > 0)
            members[count++] = slice_of(query, n);
        query += n + (query[n] == '&');
    }
    qsort(members, count, sizeof *members, by_bytes);
    for (size_t i = 0; i < count; i++) {
        bool bare = !memchr(members[i].p, '=', members[i].n); // "acl" is signed as "acl="
        enum err e = buf_printf(b, "%s%.*s%s", i ? "&" : "", (int)members[i].n,
                                (const char *)members[i].p, bare ? "=" : "");
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

static bool four_numbers(const char *host)
{
    return host[0] && strspn(host, "0123456789.") == strlen(host);
}

static enum err bad_endpoint(const char *text, const char *why, struct errmsg *msg)
{
    return err_set(msg, ERR_INVALID,
                   "endpoint \"%.200s\": %s (it must be http://HOST[:PORT] or https://HOST[:PORT])",
                   text, why);
}

enum err endpoint_parse(struct endpoint *e, const char *text, struct errmsg *msg)
{
    *e = (struct endpoint){0};
    size_t scheme = strcspn(text, ":");
    if (strncmp(text + scheme, "://", 3) != 0)
        return bad_endpoint(text, "has no scheme", msg);
    bool tls = scheme == 5 && strncmp(text, "https", 5) == 0;
    if (!tls && (scheme != 4 || strncmp(text, "http", 4) != 0))
        return bad_endpoint(text, "its scheme is neither http nor https", msg);
    snprintf(e->scheme, sizeof e->scheme, "%s", tls ? "https" : "http");
    const char *host = text + scheme + 3;
    size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/?#");
    if (n == 0 || n >= sizeof e->host || n > strlen(host))
        return bad_endpoint(text, "has no host", msg);
    if (memchr(host, '@', n))
        return bad_endpoint(text, "may not hold a user; keys are options of their own", msg);
    memcpy(e->host, host, n);
    const char *rest = host + n;
    if (*rest == ':') {
        size_t digits = strspn(++rest, "0123456789");
        if (digits == 0 || digits > 5 || strtoul(rest, NULL, 10) - 1 >= 65535)
            return bad_endpoint(text, "its port is no number from 1 to 65535", msg);
        snprintf(e->port, sizeof e->port, "%lu", strtoul(rest, NULL, 10));
        rest += digits;
    }
    if (strcmp(rest, "") != 0 && strcmp(rest, "/") != 0)
        return bad_endpoint(text, "may not have anything after the host", msg);
    if (strcmp(e->port, tls ? "443" : "80") == 0)
        e->port[0] = 0;
    e->is_address = *e->host == '[' || four_numbers(e->host) || strcmp(e->host, "localhost") == 0;
    return ERR_OK;
}

bool endpoint_needs_path(const struct endpoint *e, const char *bucket)
{
    size_t n = strlen(bucket);
    bool label = n >= 3 && n <= 63 && strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789-.") == n;
    // A dot in the bucket's name fits no wildcard certificate.
    bool dotted = strchr(bucket, '.') && strcmp(e->scheme, "https") == 0;
    return e->is_address || !label || dotted;
}
