// What is sent: one request of each kind laid out once, and the keys that are written over it.
#include "base/base64.h"
#include "cli/bench_int.h"
#include <stdio.h>

enum {
    HTTP_HEAD = 256,
    SAMPLE = 64, // bytes of a key or value with what is written over it
};

// A random number; xorshift128+ (Vigna, "Further scramblings of Marsaglia's xorshift generators").
static inline uint64_t next_random(struct bench_thread *t)
{
    uint64_t a = t->random[0], b = t->random[1];
    t->random[0] = b;
    a ^= a << 23;
    t->random[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
    return t->random[1] + b;
}

uint64_t bench_random_below(struct bench_thread *t, uint64_t n)
{
    return (uint64_t)((unsigned __int128)next_random(t) * n >> 64);
}

static const char pairs[] = "0001020304050607080910111213141516171819"
                            "2021222324252627282930313233343536373839"
                            "4041424344454647484950515253545556575859"
                            "6061626364656667686970717273747576777879"
                            "8081828384858687888990919293949596979899";

static inline void put_six(uint8_t *p, uint32_t n)
{
    memcpy(p, pairs + n / 10000 * 2, 2);
    memcpy(p + 2, pairs + n / 100 % 100 * 2, 2);
    memcpy(p + 4, pairs + n % 100 * 2, 2);
}

static inline void put_digits(uint8_t *p, uint64_t n)
{
    put_six(p, (uint32_t)(n / 1000000 % 1000000));
    put_six(p + 6, (uint32_t)(n % 1000000));
}

void bench_put_key(uint8_t *p, uint64_t n)
{
    memcpy(p, "key", 3);
    put_digits(p + 3, n);
}

static void put_uuid(struct bench_thread *t, uint8_t *p)
{
    static const char hex[] = "0123456789abcdef";
    uint64_t bits[2] = {next_random(t), next_random(t)};
    size_t at = 0;
    for (size_t i = 0; i < 32; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20)
            p[at++] = '-';
        p[at++] = (uint8_t)hex[bits[i / 16] >> (i % 16 * 4) & 15];
    }
    p[14] = '4';
    p[19] = (uint8_t)hex[8 | (bits[1] & 3)];
}

// The key of item j of the next request; `first` is that of item 0. No request names a key twice.
static uint64_t next_key(struct bench_conn *c, size_t j, uint64_t first)
{
    const struct bench_spec *s = c->thread->spec;
    if (s->sequential) {
        uint64_t key = c->next;
        c->next += s->connections;
        return key % s->keys; // the last round may be short
    }
    if (j)
        return (first + j) % s->keys;
    return bench_random_below(c->thread, s->keys);
}

// Writes key number n with its value, which tells the key's last digits; or, for new keys, two
// UUIDs.
static void put_item(struct bench_conn *c, const struct bench_layout *l, uint64_t n, uint8_t *key,
                     uint8_t *value)
{
    uint8_t k[SAMPLE], v[SAMPLE];
    size_t kn = l->uuid ? BENCH_UUID : BENCH_KEY;
    size_t vn = l->uuid ? BENCH_UUID : BENCH_KEY_DIGITS;
    if (l->uuid) {
        put_uuid(c->thread, k);
        if (value)
            put_uuid(c->thread, v);
    } else {
        bench_put_key(k, n);
        memcpy(v, k + 3, BENCH_KEY_DIGITS);
    }
    size_t skip = vn > l->value_size ? vn - l->value_size : 0;
    if (!l->base64) {
        memcpy(key, k, kn);
        if (value)
            memcpy(value, v + skip, vn - skip);
        return;
    }
    // Both lengths are multiples of 3, so that nothing depends on what follows.
    base64_write(key, slice_of(k, kn));
    if (value && skip == 0)
        base64_write(value, slice_of(v, vn));
}

void bench_fill(struct bench_conn *c)
{
    const struct bench_layout *l = c->thread->layout;
    size_t n = buf_len(&l->bytes);
    for (uint64_t i = 0; i < c->batch; i++) {
        uint8_t *request = c->out + i * n;
        uint64_t first = 0;
        for (size_t j = 0; j < l->items; j++) {
            uint8_t *key = request + l->key_at + j * l->stride;
            uint64_t number = l->uuid ? 0 : next_key(c, j, first);
            first = j ? first : number;
            put_item(c, l, number, key, l->value_at ? request + l->value_at + j * l->stride : NULL);
        }
    }
    c->out_len = c->batch * n;
    c->out_at = 0;
}

// Appends a placeholder of n bytes as they will stand in the request, and says where it begins.
static enum err put_hole(struct bench_layout *l, size_t n, size_t *at)
{
    *at = buf_len(&l->bytes);
    size_t size = l->base64 ? BASE64_SIZE(n) : n;
    enum err e = buf_reserve(&l->bytes, size + n);
    if (e)
        return e;
    uint8_t *to = buf_tail(&l->bytes);
    memset(to + size, 'v', n);
    if (l->base64)
        base64_write(to, slice_of(to + size, n));
    else
        memcpy(to, to + size, n);
    l->bytes.end += size;
    return ERR_OK;
}

static enum err put_text(struct bench_layout *l, const char *text)
{
    return buf_append(&l->bytes, text, strlen(text));
}

static enum err layout_binary(struct bench_layout *l, enum bench_op op, size_t key)
{
    uint8_t head[6];
    bool writes = op == BENCH_SET || op == BENCH_PUT;
    store16(head, op == BENCH_GET ? 1 : op == BENCH_DELETE ? 2 : 3); // docs/PROTOCOLS.md
    store32(head + 2, (uint32_t)key);
    enum err e = buf_append(&l->bytes, head, sizeof head);
    e = e ? e : put_hole(l, key, &l->key_at);
    if (e || !writes)
        return e;
    store32(head, (uint32_t)l->value_size);
    e = buf_append(&l->bytes, head, 4);
    return e ? e : put_hole(l, l->value_size, &l->value_at);
}

static enum err layout_resp(struct bench_layout *l, enum bench_op op, size_t key)
{
    static const char *const words[] = {"GET", "SET", "DEL", "SET"};
    bool writes = op == BENCH_SET || op == BENCH_PUT;
    enum err e =
        buf_printf(&l->bytes, "*%d\r\n$3\r\n%s\r\n$%zu\r\n", writes ? 3 : 2, words[op], key);
    e = e ? e : put_hole(l, key, &l->key_at);
    if (!e && writes)
        e = buf_printf(&l->bytes, "\r\n$%zu\r\n", l->value_size);
    if (!e && writes)
        e = put_hole(l, l->value_size, &l->value_at);
    return e ? e : put_text(l, "\r\n");
}

// Puts a head before the body that is laid out already.
static enum err prepend_head(struct bench_layout *l, const char *line, const char *host)
{
    char head[HTTP_HEAD];
    size_t body = buf_len(&l->bytes);
    int n = snprintf(head, sizeof head,
                     "%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
                     "Content-Length: %zu\r\n\r\n",
                     line, host, body);
    if (n < 0 || (size_t)n >= sizeof head)
        return ERR_INVALID;
    size_t size = (size_t)n;
    enum err e = buf_reserve(&l->bytes, size);
    if (e)
        return e;
    memmove(buf_head(&l->bytes) + size, buf_head(&l->bytes), body);
    memcpy(buf_head(&l->bytes), head, size);
    l->bytes.end += size;
    l->key_at += size;
    if (l->value_at)
        l->value_at += size;
    return ERR_OK;
}

// One object of a put or txn.
static enum err put_object(struct bench_layout *l, enum bench_op op, size_t key, size_t *key_at,
                           size_t *value_at)
{
    enum err e = put_text(l, op == BENCH_SET ? "{\"op\":\"put\",\"key\":\"" : "{\"key\":\"");
    e = e ? e : put_hole(l, key, key_at);
    e = e ? e : put_text(l, "\",\"value\":\"");
    e = e ? e : put_hole(l, l->value_size, value_at);
    return e ? e : put_text(l, op == BENCH_SET ? "\"}" : "\",\"version\":0}");
}

static enum err layout_http(struct bench_layout *l, enum bench_op op, size_t key, const char *host)
{
    enum err e = ERR_OK;
    if (op == BENCH_GET || op == BENCH_DELETE) {
        e = put_text(l, op == BENCH_GET ? "GET /v1/get?key=" : "DELETE /v1/key?key=");
        e = e ? e : put_hole(l, key, &l->key_at);
        return e ? e : buf_printf(&l->bytes, " HTTP/1.1\r\nHost: %s\r\n\r\n", host);
    }
    e = put_text(l, op == BENCH_SET ? "{\"ops\":[" : "[");
    for (size_t i = 0; !e && i < l->items; i++) {
        size_t key_at, value_at;
        if (i)
            e = put_text(l, ",");
        e = e ? e : put_object(l, op, key, &key_at, &value_at);
        if (i == 0 && !e) {
            l->key_at = key_at;
            l->value_at = value_at;
        } else if (i == 1 && !e) {
            l->stride = key_at - l->key_at;
        }
    }
    e = e ? e : put_text(l, op == BENCH_SET ? "]}" : "]");
    return e ? e : prepend_head(l, op == BENCH_SET ? "POST /v1/txn" : "POST /v1/put", host);
}

static enum err layout_etcd(struct bench_layout *l, enum bench_op op, size_t key, const char *host)
{
    bool writes = op == BENCH_SET || op == BENCH_PUT;
    l->base64 = true;
    enum err e = put_text(l, "{\"key\":\"");
    e = e ? e : put_hole(l, key, &l->key_at);
    if (!e && writes)
        e = put_text(l, "\",\"value\":\"");
    if (!e && writes)
        e = put_hole(l, l->value_size, &l->value_at);
    e = e ? e : put_text(l, "\"}");
    return e ? e
             : prepend_head(l,
                            writes            ? "POST /v3/kv/put"
                            : op == BENCH_GET ? "POST /v3/kv/range"
                                              : "POST /v3/kv/deleterange",
                            host);
}

enum err bench_layout_init(struct bench_layout *l, const struct bench_spec *s)
{
    *l = (struct bench_layout){.items = s->items, .value_size = s->value_size};
    buf_init(&l->bytes, 64u << 20);
    if (bench_is_log(s->op))
        return bench_layout_log(l, s);
    if (bench_is_rel(s->op))
        return bench_layout_rel(l, s);
    l->uuid = s->op == BENCH_PUT || (s->op == BENCH_GET && s->missing);
    size_t key = l->uuid ? BENCH_UUID : BENCH_KEY;
    switch (s->protocol) {
    case BENCH_HTTP:
    case BENCH_ECHO_HTTP:
        return layout_http(l, s->op, key, s->server);
    case BENCH_RESP:
        return layout_resp(l, s->op, key);
    case BENCH_ETCD:
        return layout_etcd(l, s->op, key, s->server);
    case BENCH_BINARY:
    case BENCH_ECHO:
    case BENCH_PROTOCOLS:
        break;
    }
    return layout_binary(l, s->op, key);
}
