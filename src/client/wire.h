// The binary protocol seen from the client (docs/PROTOCOLS.md): requests to bytes, replies from
// bytes. Pure functions, no I/O. A reader takes a whole reply body and returns ERR_INVALID for
// anything that does not follow the protocol, whatever the bytes are.
#ifndef VARVE_CLIENT_WIRE_H
#define VARVE_CLIENT_WIRE_H

#include "base/buf.h"
#include "varve.h"

enum wire_type {
    WIRE_GET = 1,
    WIRE_DELETE = 2,
    WIRE_SET = 3,
    WIRE_VGET = 16,
    WIRE_TXN = 17,
    WIRE_LIST = 18,
    WIRE_STAT = 19,
    WIRE_PING = 20,
    WIRE_LOG_CREATE = 21,
    WIRE_LOG_POLICY = 22,
    WIRE_LOG_KEYSPACE = 23,
    WIRE_LOG_META = 24,
    WIRE_LOG_APPEND = 25,
    WIRE_LOG_READ = 26,
    WIRE_LOG_TAIL = 27,
    WIRE_LOG_TRIM = 28,
    WIRE_LOG_ERASE = 29,
    WIRE_LOG_FLUSH = 30,
    WIRE_LOG_LIST = 31,
    WIRE_REL_CREATE = 32,
    WIRE_REL_INFO = 33,
    WIRE_REL_LIST = 34,
    WIRE_REL_ADD = 35,
    WIRE_REL_REMOVE = 36,
    WIRE_REL_EDIT = 37,
    WIRE_REL_GET = 38,
    WIRE_REL_PAGE = 39,
    WIRE_REL_COUNT = 40,
    WIRE_REL_CONTAINS = 41,
    WIRE_REL_MANY = 42,
    WIRE_REL_COMBINE = 43,
    WIRE_REL_FROMS = 44,
};

// The first byte of replies to types from WIRE_VGET up.
enum wire_status {
    WIRE_OK = 0,
    WIRE_MISSING = 1,
    WIRE_CONFLICT = 2,
    WIRE_ERROR = 3,
};

#define WIRE_LIST_VALUES 1u // flag of LIST

enum {
    WIRE_START_BYTES = 32,
    WIRE_POLICY_BYTES = 32,
    WIRE_TRIM_BYTES = 9,
    WIRE_REL_PAGE_BYTES = 24,
    WIRE_REL_LIST_BYTES = 10, // of a list to combine, without its relation's name
};

// Appends a request; all of it or, on error, nothing. Where there are records, ERR_INVALID: a nonce
// or a timestamp is the number that means "none".
MUST_USE
enum err wire_request(struct buf *b, enum wire_type type, const struct slice *args, size_t count);
MUST_USE
enum err wire_request_txn(struct buf *b, const struct varve_op *ops, size_t count,
                          struct slice idempotency);
MUST_USE
enum err wire_request_append(struct buf *b, const struct varve_log *log,
                             const struct varve_record *records, size_t count);
MUST_USE
enum err wire_request_edit(struct buf *b, struct slice relation,
                           const struct varve_rel_group *groups, size_t count, uint32_t flags,
                           struct slice idempotency);
// Arguments of fixed size.
void wire_start(uint8_t start[WIRE_START_BYTES], const struct varve_log_query *q, bool follow);
void wire_policy(uint8_t policy[WIRE_POLICY_BYTES], const struct varve_log_policy *p);
// The last argument of LIST; a page never asks for more than the server's maximum.
void wire_list_page(uint8_t page[8], size_t limit, bool values);
// `order`: also enum varve_rel_combine.
void wire_rel_page(uint8_t page[WIRE_REL_PAGE_BYTES], unsigned order,
                   const struct varve_rel_query *q);
uint32_t wire_rel_options(const struct varve_rel_options *o);

// Readers of what follows the status byte. Slices and data pointers point into `body`.
MUST_USE
enum err wire_read_value(struct slice body, struct varve_value *value);
// Fills new_version and number of each of the `count` operations.
MUST_USE
enum err wire_read_txn(struct slice body, struct varve_op *ops, size_t count, uint64_t *sequence);
// Sets conflict and actual of the operations named.
MUST_USE
enum err wire_read_conflicts(struct slice body, struct varve_op *ops, size_t count);
// A listing is a count, then entries: call wire_read_list, then wire_next_key that many times, then
// check that *rest is empty. `value` is NULL for a listing without values.
MUST_USE
enum err wire_read_list(struct slice body, uint32_t *count, struct slice *rest);
MUST_USE
enum err wire_next_key(struct slice *rest, struct slice *key, struct varve_value *value);

// The creation time alone (LOG_CREATE, `policy` NULL) or with a policy (LOG_KEYSPACE).
MUST_USE
enum err wire_read_keyspace(struct slice body, uint64_t *created_ms,
                            struct varve_log_policy *policy);
MUST_USE
enum err wire_read_meta(struct slice body, struct varve_log_meta *meta);
MUST_USE
enum err wire_read_appended(struct slice body, struct varve_appended *a);
// A page, all of whose records have been looked at: varve_page_next cannot leave it.
MUST_USE
enum err wire_read_page(struct slice body, struct varve_page *page);
MUST_USE
enum err wire_read_u64(struct slice body, uint64_t *n);
MUST_USE
enum err wire_read_u32(struct slice body, uint64_t *n);

MUST_USE
enum err wire_read_rel_info(struct slice body, struct varve_rel_info *info);
MUST_USE
enum err wire_read_edited(struct slice body, uint64_t *added, uint64_t *removed);
// A whole list.
MUST_USE
enum err wire_read_members(struct slice body, struct varve_members *m);
// `total`: a page of one list, which begins with the list's.
MUST_USE
enum err wire_read_rel_page(struct slice body, bool total, struct varve_members *m);
// A list for each of `count` froms, all of which have been looked at: varve_rel_lists_next cannot
// leave them.
MUST_USE
enum err wire_read_lists(struct slice body, const uint64_t *froms, size_t count,
                         struct varve_rel_lists *lists);
MUST_USE
enum err wire_read_contains(struct slice body, bool *found, size_t count);

// What wire.c, wire_log.c and wire_rel.c share.
void wire_put_type(struct buf *b, enum wire_type type);
void wire_put32(struct buf *b, uint32_t v);
// Takes n bytes off the front; NULL if there are not that many.
const uint8_t *wire_take(struct slice *s, size_t n);
// The records of LOG_APPEND: their size, SIZE_MAX past LIMIT_REQUEST_HARD; then into room reserved.
size_t wire_records_size(const struct varve_record *records, size_t count);
bool wire_records_valid(const struct varve_record *records, size_t count);
void wire_put_records(struct buf *b, const struct varve_record *records, size_t count);
// What RELATE and UNRELATE have as key and value.
MUST_USE
bool wire_relate_sizes(const struct varve_op *op, size_t *key, size_t *value);
void wire_put_relate(struct buf *b, const struct varve_op *op);

#endif
