// Requests of wx_store's protocol, from bytes. Pure: no I/O, no state.
//
//     u8 command (varve-zmq.h), then the command's arguments in bincode 1's layout: integers
//     little-endian, a string or byte slice is u64 length and bytes, a tuple its members in order.
//
//     PUT_OTHER                      key, value
//     PUT_OTHER_TTL                  key, value, u64 milliseconds
//     GET_OTHER                      the key's bytes, without a length
//     PUT_EVENT, PUT_FAILURE         the event's bytes, without a length
//     GET_EVENTS, GET_FAILURES       nothing, or a string: a time in decimal
//     DELETE_EVENT, TRIM_*           u64 time
//     READ_*                         u64 time, u64 bytes
//     GET_ALL_*                      nothing
//     PING                           any bytes
//
// Times are microseconds since 1970. A request is valid if its arguments end where it ends.
#ifndef VARVE_EDGE_ZMQ_CALL_H
#define VARVE_EDGE_ZMQ_CALL_H

#include "base/err.h"
#include "base/slice.h"
#include "varve-zmq.h"

struct call {
    enum varve_zmq_command id;
    struct slice key;   // of *_OTHER
    struct slice value; // of PUT_*; PING's bytes. Both point into the request
    int64_t time;       // microseconds
    bool has_time;      // READ_*; GET_*, if a time was given
    uint64_t ttl_ms;
    uint64_t max_bytes; // READ_*
};

// ERR_INVALID with msg, which names the command and what is wrong.
MUST_USE enum err call_parse(struct slice request, struct call *c, struct errmsg *msg);
// "PUT_OTHER" and so on.
const char *call_name(enum varve_zmq_command id);

#endif
