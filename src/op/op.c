// The codec of proto/varve.proto, by hand. A transaction's payload is a run of fields
//
//     0x0a  varint length of a Change      (field 1 of Transaction, length-delimited)
//       tag varint length of the kind      (field number of Change = enum change_kind)
//         fields of Put, Delete, ...       (FIELDS_* below)
//
// proto3 rules: a scalar that is zero and bytes that are empty are left out; fields are written in
// rising order; a reader takes them in any order, the last of several, and skips what it does not
// know. Stricter than protobuf: a known field with another wire type, a Change with two kinds, an
// enum outside its range, a key or value over its hard limit, repeated scalars that are not packed
// or come in several pieces, and groups are damage, because this program never wrote them.
#include "op/op.h"

#include "base/assert.h"
#include "base/limits.h"
#include "op/record.h"
#include <inttypes.h>
#include <stdio.h>

// F(number, wire form, member of struct change), in rising order. Numbers stay below 16 (a tag is
// one byte). U32 is a varint that must fit 32 bits.
#define FIELDS_PUT(F)         \
    F(1, BYTES, key)          \
    F(2, U64, version)        \
    F(3, U32, type)           \
    F(4, BYTES, value)        \
    F(5, FIXED64, expires_ms) \
    F(6, U32, space)
#define FIELDS_DELETE(F) \
    F(1, BYTES, key)     \
    F(2, U64, version)   \
    F(3, U32, space)
#define FIELDS_KEYSPACE(F)        \
    F(1, BYTES, key)              \
    F(2, U32, keyspace)           \
    F(3, U64, created_ms)         \
    F(4, U64, policy.max_age_ms)  \
    F(5, U64, policy.max_bytes)   \
    F(6, U64, policy.max_records) \
    F(7, U32, policy.server_time)
#define FIELDS_APPEND(F) \
    F(1, U32, keyspace)  \
    F(2, BYTES, key)     \
    F(3, U64, log)       \
    F(4, BYTES, value)
#define FIELDS_TRIM(F)  \
    F(1, U32, keyspace) \
    F(2, BYTES, key)    \
    F(3, U64, log)      \
    F(4, U64, offset)
#define FIELDS_ERASE(F) FIELDS_TRIM(F)
#define FIELDS_TIER(F)  FIELDS_TRIM(F)
#define FIELDS_RELATION(F)     \
    F(1, BYTES, key)           \
    F(2, U32, relation)        \
    F(3, U64, created_ms)      \
    F(4, U32, options.reverse) \
    F(5, U32, options.recent)  \
    F(6, U32, options.relaxed)
// Packed repeated fields are bytes on the wire.
#define FIELDS_RELATE(F) \
    F(1, U32, relation)  \
    F(2, BYTES, froms)   \
    F(3, BYTES, counts)  \
    F(4, BYTES, members) \
    F(5, BYTES, stamps)
#define FIELDS_UNRELATE(F) FIELDS_RELATE(F)

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };
enum { TAG_CHANGES = 1 << 3 | WIRE_BYTES };

#define X(name, field, text) _Static_assert((field) < 16, "the tag of " text " is one byte");
VARVE_CHANGES(X)
#undef X

static const char *kind_name(enum change_kind k)
{
    switch (k) {
#define X(name, field, text) \
    case CHANGE_##name:      \
        return text;
        VARVE_CHANGES(X)
#undef X
    }
    return "unknown change";
}

// Is `v` laid out as its type says? (That strings are UTF-8 and arrays JSON is the edges'
// business.)
static bool layout_fits(enum value_type t, struct slice v)
{
    switch (t) {
    case VALUE_INT:
    case VALUE_FLOAT:
        return v.n == 8;
    case VALUE_BOOL:
        return v.n == 1 && v.p[0] <= 1;
    default:
        return true;
    }
}

static const char *wrong_key(const struct change *c)
{
    if (c->key.n == 0)
        return "no key";
    return c->key.n > LIMIT_KEY_HARD ? "a key over the hard limit" : NULL;
}

static const char *wrong_put(const struct change *c)
{
    if ((unsigned)c->type >= VALUE_TYPES)
        return "a value type that does not exist";
    if (c->value.n >= LIMIT_VALUE_HARD)
        return "a value over the hard limit";
    if (!layout_fits(c->type, c->value))
        return "a value that is not laid out as its type says";
    return NULL;
}

// Of APPEND, TRIM, ERASE and TIER.
static const char *wrong_log(const struct change *c)
{
    if (c->keyspace == 0 || c->log == 0)
        return "no keyspace or no log";
    if (c->kind != CHANGE_APPEND)
        return c->offset ? NULL : "no offset";
    // About 3 ns a record, also when writing: bytes that no reader takes must never get into the
    // log.
    struct record_walk w = {.rest = c->value};
    struct record r;
    enum err e;
    while (!(e = record_next(&w, &r, NULL)))
        if (r.bytes.n >= LIMIT_VALUE_HARD)
            return "a record over the hard limit";
    return e == ERR_MISSING && c->value.n ? NULL : "records that are not laid out as records are";
}

bool op_relation_name(struct slice name)
{
    for (size_t i = 0; i < name.n; i++) {
        uint8_t ch = name.p[i];
        bool letter = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z');
        bool first = letter || (ch >= '0' && ch <= '9') || ch == '_';
        if (!first && (i == 0 || (ch != '.' && ch != ':' && ch != '-')))
            return false;
    }
    return name.n > 0 && name.n <= LIMIT_RELATION_NAME;
}

// Of RELATE and UNRELATE. About 1 ns a member.
static const char *wrong_lists(const struct change *c)
{
    size_t lists = c->froms.n / 8, left = c->members.n / 8;
    const uint8_t *m = c->members.p;
    if (lists == 0 || c->froms.n % 8 || c->counts.n != 4 * lists || c->members.n % 8)
        return "columns that do not fit each other";
    if (c->stamps.n && c->stamps.n != c->members.n)
        return "stamps that are not as many as its members";
    for (size_t i = 0; i < lists; i++) {
        uint32_t n = load32(c->counts.p + 4 * i);
        if (n == 0 || n > left)
            return "counts that do not add up to its members";
        uint64_t falls = 0; // looked at once a list, so that the compiler may do several at a time
        for (uint32_t j = 1; j < n; j++)
            falls |= load64(m + 8 * (size_t)j) <= load64(m + 8 * (size_t)(j - 1));
        if (falls)
            return "members that do not rise";
        m += 8 * (size_t)n;
        left -= n;
    }
    return left ? "counts that do not add up to its members" : NULL;
}

static const char *wrong_relation(const struct change *c)
{
    if (c->relation == 0)
        return "no relation";
    if (c->kind != CHANGE_RELATION)
        return wrong_lists(c);
    return op_relation_name(c->key) ? NULL : "a name that none may have";
}

// NULL, or what a change has that no valid one has. Asserted before writing, checked after reading.
static const char *what_is_wrong(const struct change *c)
{
    if (c->kind == CHANGE_RELATION || c->kind == CHANGE_RELATE || c->kind == CHANGE_UNRELATE)
        return wrong_relation(c);
    const char *wrong = wrong_key(c);
    if (wrong)
        return wrong;
    switch (c->kind) {
    case CHANGE_PUT:
    case CHANGE_DELETE:
        if (c->space != SPACE_KEYS && c->space != SPACE_IDEM)
            return "a space of keys that does not exist";
        return c->kind == CHANGE_PUT ? wrong_put(c) : NULL;
    case CHANGE_KEYSPACE:
        if (c->keyspace == 0)
            return "no keyspace";
        return c->key.n > LIMIT_KEYSPACE_NAME ? "a name over the hard limit" : NULL;
    case CHANGE_APPEND:
    case CHANGE_TRIM:
    case CHANGE_ERASE:
    case CHANGE_TIER:
        return wrong_log(c);
    case CHANGE_RELATION:
    case CHANGE_RELATE:
    case CHANGE_UNRELATE:
        break; // above
    }
    return "an unknown kind";
}

// ---- writing

static size_t varint_size(uint64_t v)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(v | 1);
    return (bits + 6) / 7;
}

static uint8_t *write_varint(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

static size_t size_U64(uint64_t v)
{
    return v ? 1 + varint_size(v) : 0;
}
static size_t size_U32(uint32_t v)
{
    return size_U64(v);
}
static size_t size_FIXED64(uint64_t v)
{
    return v ? 1 + 8 : 0;
}
static size_t size_BYTES(struct slice s)
{
    return s.n ? 1 + varint_size(s.n) + s.n : 0;
}

static uint8_t *write_U64(uint8_t *p, unsigned number, uint64_t v)
{
    if (!v)
        return p;
    *p++ = (uint8_t)(number << 3 | WIRE_VARINT);
    return write_varint(p, v);
}
static uint8_t *write_U32(uint8_t *p, unsigned number, uint32_t v)
{
    return write_U64(p, number, v);
}
static uint8_t *write_FIXED64(uint8_t *p, unsigned number, uint64_t v)
{
    if (!v)
        return p;
    *p++ = (uint8_t)(number << 3 | WIRE_FIXED64);
    store64(p, v);
    return p + 8;
}
static uint8_t *write_BYTES(uint8_t *p, unsigned number, struct slice s)
{
    if (!s.n)
        return p;
    *p++ = (uint8_t)(number << 3 | WIRE_BYTES);
    p = write_varint(p, s.n);
    memcpy(p, s.p, s.n);
    return p + s.n;
}

// Bytes of the kind's own message.
static size_t body_size(const struct change *c)
{
    switch (c->kind) {
#define F(number, form, member) +size_##form(c->member)
#define X(name, field, text) \
    case CHANGE_##name:      \
        return 0 FIELDS_##name(F);
        VARVE_CHANGES(X)
#undef X
#undef F
    }
    assert_failed("a change of a known kind", __FILE__, __LINE__);
}

static uint8_t *write_body(uint8_t *p, const struct change *c)
{
    switch (c->kind) {
#define F(number, form, member) p = write_##form(p, number, c->member);
#define X(name, field, text) \
    case CHANGE_##name:      \
        FIELDS_##name(F) return p;
        VARVE_CHANGES(X)
#undef X
#undef F
    }
    assert_failed("a change of a known kind", __FILE__, __LINE__);
}

size_t op_size(const struct change *c)
{
    size_t body = body_size(c);
    size_t change = 1 + varint_size(body) + body;
    return 1 + varint_size(change) + change;
}

void op_append(struct buf *b, const struct change *c)
{
    VERIFY(what_is_wrong(c) == NULL);
    size_t body = body_size(c);
    size_t change = 1 + varint_size(body) + body;
    VERIFY(b->cap - b->end >= 1 + varint_size(change) + change);
    uint8_t *p = buf_tail(b);
    *p++ = TAG_CHANGES;
    p = write_varint(p, change);
    *p++ = (uint8_t)((unsigned)c->kind << 3 | WIRE_BYTES);
    p = write_varint(p, body);
    uint8_t *end = write_body(p, c);
    VERIFY(end == p + body);
    b->end = (size_t)(end - b->data);
}

// ---- reading

static bool read_varint(struct slice *s, uint64_t *v)
{
    uint64_t got = 0;
    for (unsigned i = 0; i < 10 && i < s->n; i++) {
        uint64_t byte = s->p[i];
        if (i == 9 && byte > 1)
            return false; // past 64 bits
        got |= (byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *v = got;
            *s = slice_of(s->p + i + 1, s->n - i - 1);
            return true;
        }
    }
    return false;
}

// One field as it stands on the wire.
struct field {
    uint32_t number;
    unsigned wire;
    uint64_t scalar;    // varint, fixed64, fixed32
    struct slice bytes; // length-delimited
};

static bool read_field(struct slice *s, struct field *f)
{
    uint64_t tag;
    if (!read_varint(s, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
        return false;
    *f = (struct field){.number = (uint32_t)(tag >> 3), .wire = tag & 7};
    size_t fixed;
    switch (f->wire) {
    case WIRE_VARINT:
        return read_varint(s, &f->scalar);
    case WIRE_BYTES:
        if (!read_varint(s, &f->scalar) || f->scalar > s->n)
            return false;
        f->bytes = slice_of(s->p, (size_t)f->scalar);
        *s = slice_of(s->p + f->bytes.n, s->n - f->bytes.n);
        return true;
    case WIRE_FIXED64:
    case WIRE_FIXED32:
        fixed = f->wire == WIRE_FIXED64 ? 8 : 4;
        if (s->n < fixed)
            return false;
        f->scalar = fixed == 8 ? load64(s->p) : load32(s->p);
        *s = slice_of(s->p + fixed, s->n - fixed);
        return true;
    default:
        return false;
    }
}

static bool take_U64(const struct field *f, uint64_t *v)
{
    *v = f->scalar;
    return f->wire == WIRE_VARINT;
}
static bool take_U32(const struct field *f, uint32_t *v)
{
    *v = (uint32_t)f->scalar;
    return f->wire == WIRE_VARINT && f->scalar <= UINT32_MAX;
}
static bool take_FIXED64(const struct field *f, uint64_t *v)
{
    *v = f->scalar;
    return f->wire == WIRE_FIXED64;
}
static bool take_BYTES(const struct field *f, struct slice *v)
{
    *v = f->bytes;
    return f->wire == WIRE_BYTES;
}

// What a field is read into before it becomes a member of struct change (enums have their own
// types).
typedef uint64_t wire_U64;
typedef uint32_t wire_U32;
typedef uint64_t wire_FIXED64;
typedef struct slice wire_BYTES;

// Takes one field of c->kind's message. False: the field has the wrong form.
static bool take_field(struct change *c, const struct field *f)
{
    switch (c->kind) {
#define F(num, form, member)                  \
    case num: {                               \
        wire_##form v;                        \
        if (!take_##form(f, &v))              \
            return false;                     \
        c->member = (__typeof__(c->member))v; \
        return true;                          \
    }
#define X(name, number_, text) \
    case CHANGE_##name:        \
        switch (f->number) {   \
            FIELDS_##name(F)   \
        }                      \
        return true;
        VARVE_CHANGES(X)
#undef X
#undef F
    }
    return false;
}

static bool known_kind(uint32_t number)
{
    switch (number) {
#define X(name, field, text) case field:
        VARVE_CHANGES(X)
#undef X
        return true;
    default:
        return false;
    }
}

static enum err read_change(struct slice s, struct change *c, struct errmsg *msg)
{
    struct field f;
    struct slice body = {NULL, 0};
    uint32_t kind = 0;
    uint32_t unknown = 0;
    while (s.n) {
        if (!read_field(&s, &f))
            return err_set(msg, ERR_DAMAGED, "a change is cut short or not protobuf");
        if (!known_kind(f.number)) {
            unknown = f.number;
            continue;
        }
        if (kind || f.wire != WIRE_BYTES)
            return err_set(msg, ERR_DAMAGED, "a change has two kinds, or one that is no message");
        kind = f.number;
        body = f.bytes;
    }
    if (!kind && unknown)
        return err_set(msg, ERR_FORMAT, "a change of unknown kind %" PRIu32, unknown);
    if (!kind)
        return err_set(msg, ERR_DAMAGED, "a change that changes nothing");

    *c = (struct change){.kind = (enum change_kind)kind};
    while (body.n)
        if (!read_field(&body, &f) || !take_field(c, &f))
            return err_set(msg, ERR_DAMAGED, "a %s is cut short or does not follow its schema",
                           kind_name(c->kind));
    const char *wrong = what_is_wrong(c);
    if (wrong)
        return err_set(msg, ERR_DAMAGED, "a %s has %s", kind_name(c->kind), wrong);
    return ERR_OK;
}

enum err op_next(struct op_reader *r, struct change *c, struct errmsg *msg)
{
    while (r->rest.n) {
        struct field f;
        if (!read_field(&r->rest, &f))
            return err_set(msg, ERR_DAMAGED, "a transaction is cut short or not protobuf");
        if (f.number != TAG_CHANGES >> 3)
            continue;
        if (f.wire != WIRE_BYTES)
            return err_set(msg, ERR_DAMAGED, "a transaction's changes have wire type %u", f.wire);
        return read_change(f.bytes, c, msg);
    }
    return ERR_MISSING;
}

// ---- for people

const char *value_type_name(enum value_type t)
{
    switch (t) {
    case VALUE_BYTES:
        return "bytes";
    case VALUE_STRING:
        return "string";
    case VALUE_INT:
        return "integer";
    case VALUE_FLOAT:
        return "float";
    case VALUE_BOOL:
        return "bool";
    case VALUE_ARRAY:
        return "array";
    case VALUE_TYPES:
        break;
    }
    return "unknown type";
}

// Quotes at most KEY_SHOWN bytes of a key; what is not printable ASCII becomes \xNN.
enum { KEY_SHOWN = 64 };

static void quote_key(struct slice key, char text[4 * KEY_SHOWN + 8])
{
    static const char hex[] = "0123456789abcdef";
    char *t = text;
    *t++ = '"';
    for (size_t i = 0; i < key.n && i < KEY_SHOWN; i++) {
        uint8_t byte = key.p[i];
        if (byte == '"' || byte == '\\') {
            *t++ = '\\';
            *t++ = (char)byte;
        } else if (byte >= 0x20 && byte < 0x7f) {
            *t++ = (char)byte;
        } else {
            *t++ = '\\';
            *t++ = 'x';
            *t++ = hex[byte >> 4];
            *t++ = hex[byte & 15];
        }
    }
    *t++ = '"';
    if (key.n > KEY_SHOWN)
        for (int i = 0; i < 3; i++)
            *t++ = '.';
    *t = 0;
}

static void describe_log(const struct change *c, const char *key, char *text, size_t cap)
{
    if (c->kind == CHANGE_KEYSPACE)
        (void)snprintf(text, cap, "keyspace %s id %" PRIu32, key, c->keyspace);
    else if (c->kind == CHANGE_APPEND)
        (void)snprintf(text, cap, "append %s in keyspace %" PRIu32 " log %" PRIu64 ", %zu bytes",
                       key, c->keyspace, c->log, c->value.n);
    else
        (void)snprintf(text, cap, "%s %s in keyspace %" PRIu32 " log %" PRIu64 " offset %" PRIu64,
                       kind_name(c->kind), key, c->keyspace, c->log, c->offset);
}

static void describe_relation(const struct change *c, const char *name, char *text, size_t cap)
{
    if (c->kind == CHANGE_RELATION)
        (void)snprintf(text, cap, "relation %s id %" PRIu32 "%s%s%s", name, c->relation,
                       c->options.reverse ? ", reverse" : "", c->options.recent ? ", recent" : "",
                       c->options.relaxed ? ", relaxed" : "");
    else
        (void)snprintf(text, cap, "%s %zu members in %zu lists of relation %" PRIu32,
                       kind_name(c->kind), c->members.n / 8, c->froms.n / 8, c->relation);
}

void op_describe(const struct change *c, char *text, size_t cap)
{
    char key[4 * KEY_SHOWN + 8];
    quote_key(c->key, key);
    if (c->relation) {
        describe_relation(c, key, text, cap);
        return;
    }
    if (c->kind != CHANGE_PUT && c->kind != CHANGE_DELETE) {
        describe_log(c, key, text, cap);
        return;
    }
    const char *idem = c->space == SPACE_IDEM ? " (idempotency)" : "";
    int n =
        snprintf(text, cap, "%s %s%s version %" PRIu64, kind_name(c->kind), key, idem, c->version);
    if (n < 0 || (size_t)n >= cap || c->kind != CHANGE_PUT)
        return;
    size_t at = (size_t)n;
    bool plain = c->type == VALUE_BYTES;
    n = snprintf(text + at, cap - at, ", %s%s%zu bytes", plain ? "" : value_type_name(c->type),
                 plain ? "" : " of ", c->value.n);
    if (n < 0 || (size_t)n >= cap - at || !c->expires_ms)
        return;
    at += (size_t)n;
    (void)snprintf(text + at, cap - at, ", expires %" PRIu64, c->expires_ms);
}
