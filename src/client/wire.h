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
};

// The first byte of replies to types from WIRE_VGET up.
enum wire_status {
    WIRE_OK = 0,
    WIRE_MISSING = 1,
    WIRE_CONFLICT = 2,
    WIRE_ERROR = 3,
};

#define WIRE_LIST_VALUES 1u // flag of LIST

// Appends a request; all of it or, on error, nothing.
MUST_USE
enum err wire_request(struct buf *b, enum wire_type type, const struct slice *args, size_t count);
MUST_USE
enum err wire_request_txn(struct buf *b, const struct varve_op *ops, size_t count,
                          struct slice idempotency);
// The third argument of LIST; a page never asks for more than the server's maximum.
void wire_list_page(uint8_t page[8], size_t limit, bool values);

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

#endif
