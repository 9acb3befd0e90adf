// The catalogue of logged changes, and their encoding: protobuf wire format, the messages of
// proto/varve.proto. A change is physical (it says what is there afterwards: key, version, value),
// so that applying a change again, or to a later checkpoint, gives the same state.
#ifndef VARVE_OP_OP_H
#define VARVE_OP_OP_H

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

// Spaces of keys; the same numbers as store's spaces.
enum key_space { SPACE_KEYS = 0, SPACE_IDEM = 1 };

// Types a value can have; on disk for ever, never renumber.
enum value_type {
    VALUE_BYTES = 0,  // came over a byte protocol
    VALUE_STRING = 1, // valid UTF-8
    VALUE_INT = 2,    // 8 bytes, little-endian i64
    VALUE_FLOAT = 3,  // 8 bytes, IEEE 754 double
    VALUE_BOOL = 4,   // 1 byte, 0 or 1
    VALUE_ARRAY = 5,  // canonical JSON text of an array of numbers
    VALUE_TYPES
};

// X(NAME, field number in message Change, "name for people")
#define VARVE_CHANGES(X)       \
    X(PUT, 1, "put")           \
    X(DELETE, 2, "delete")     \
    X(KEYSPACE, 3, "keyspace") \
    X(APPEND, 4, "append")     \
    X(TRIM, 5, "trim")         \
    X(ERASE, 6, "erase")       \
    X(RELATION, 7, "relation") \
    X(RELATE, 8, "relate")     \
    X(UNRELATE, 9, "unrelate") \
    X(TIER, 10, "tier")

enum change_kind {
#define X(name, field, text) CHANGE_##name = field,
    VARVE_CHANGES(X)
#undef X
};

// How long the logs of a keyspace are kept, and who gives timestamps. 0: without limit.
struct log_policy {
    uint64_t max_age_ms;
    uint64_t max_bytes;   // of one log's records, as encoded
    uint64_t max_records; // of one log
    bool server_time;     // the server gives strictly rising microseconds: an event stream
};

struct relation_options {
    bool reverse; // also kept from each member to the `from`s that have it
    bool recent;  // members can be read in their order of arrival
    bool relaxed; // replies about it do not wait for the disk
};

struct change {
    enum change_kind kind;
    enum key_space space;
    enum value_type type; // PUT
    uint64_t version;     // PUT: the new version. DELETE: the version that went
    uint64_t expires_ms;  // PUT: wall clock ms, 0 never
    struct slice key;     // of a key; KEYSPACE, RELATION: its name; APPEND, TRIM, ERASE,
                          // TIER: the log's key
    struct slice value;   // PUT; APPEND: records as op/record.h lays them out, one at least
    uint32_t keyspace;    // KEYSPACE and what names a log: its id, from 1
    uint64_t log;         // APPEND, TRIM, ERASE, TIER: the log's id, from 1
    uint64_t offset; // TRIM: records before it are gone. ERASE: the one that is gone. TIER: those
                     // before it are in objects too
    uint64_t created_ms;             // KEYSPACE, RELATION
    struct log_policy policy;        // KEYSPACE
    uint32_t relation;               // RELATION, RELATE, UNRELATE: its id, from 1
    struct relation_options options; // RELATION
    // RELATE, UNRELATE: lists one after another, columns of packed little-endian u64: `froms` has
    // one for each list; `counts`, packed u32, how many members of it; `members` all of them, in
    // each list strictly rising; `stamps`, of relations with `recent` only, the place in the order
    // of arrival that each member got (UNRELATE: had).
    struct slice froms, counts, members, stamps;
};

// Bytes that op_append adds for `c`, exactly.
size_t op_size(const struct change *c);
// Appends one `changes` field of message Transaction (tag, length, message) to room reserved before
// (op_size bytes).
void op_append(struct buf *b, const struct change *c);

// Walks the changes of a transaction's payload. Slices point into it.
struct op_reader {
    struct slice rest;
};
static inline struct op_reader op_read(struct slice payload)
{
    return (struct op_reader){payload};
}
// ERR_OK and the next change, ERR_MISSING at the end, ERR_DAMAGED (msg says what) when the bytes do
// not follow the schema. Unknown fields are skipped, an unknown change kind is ERR_FORMAT.
MUST_USE enum err op_next(struct op_reader *r, struct change *c, struct errmsg *msg);
// One line for people: `put "key" version 3, 100 bytes`.
void op_describe(const struct change *c, char *text, size_t cap);
const char *value_type_name(enum value_type t);
// Is it 1 to LIMIT_RELATION_NAME bytes of letters, digits and "_.:-", the first a letter, digit or
// "_"?
bool op_relation_name(struct slice name);

#endif
