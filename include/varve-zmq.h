// varve over ZeroMQ (docs/PROTOCOLS.md, "ZeroMQ"): the commands' numbers, and a client library for
// them, libvarve-zmq, apart from libvarve because it needs libzmq.
//
//     struct varve_zmq *z;
//     uint64_t time;
//     struct varve_zmq_events events;
//     if (varve_zmq_open(&z, "tcp://127.0.0.1:5555", VARVE_ZMQ_REQ, 5000) == VARVE_ZMQ_OK &&
//         varve_zmq_put_event(z, VARVE_ZMQ_EVENTS, "hello", 5, &time) == VARVE_ZMQ_OK &&
//         varve_zmq_get_events(z, VARVE_ZMQ_EVENTS, NULL, &events) == VARVE_ZMQ_OK)
//         fwrite(events.data, 1, events.size, stdout);
//     else
//         fprintf(stderr, "%s\n", varve_zmq_error_text(z));
//     varve_zmq_close(z);
//
// Threads: one connection belongs to one thread at a time; connections are independent.
// Memory: what a call returns through pointers belongs to the connection and lives until the next
// call on it. What a call is given is copied before it returns.
// Times are microseconds since 1970. A write is durable when its call returns VARVE_ZMQ_OK.
//
// Errors: after VARVE_ZMQ_TIMEOUT, VARVE_ZMQ_NETWORK or VARVE_ZMQ_PROTOCOL replies can no longer be
// matched with requests: the connection is broken, every later call returns the same error, and a
// write whose reply was not seen may or may not have happened. Everything else leaves it usable.
#ifndef VARVE_ZMQ_H
#define VARVE_ZMQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// The first byte of a request. X(NAME, number); for ever, never renumber. Up to GET_FAILURES they
// are wx_store's, the rest varve's own.
#define VARVE_ZMQ_COMMANDS(X) \
    X(PUT_OTHER, 0)           \
    X(GET_OTHER, 1)           \
    X(PUT_EVENT, 2)           \
    X(GET_EVENTS, 3)          \
    X(GET_ALL_EVENTS, 4)      \
    X(PUT_FAILURE, 5)         \
    X(GET_FAILURES, 6)        \
    X(PUT_OTHER_TTL, 7)       \
    X(DELETE_EVENT, 8)        \
    X(TRIM_EVENTS, 9)         \
    X(TRIM_FAILURES, 10)      \
    X(GET_ALL_FAILURES, 11)   \
    X(PING, 12)               \
    X(READ_EVENTS, 13)        \
    X(READ_FAILURES, 14)

enum varve_zmq_command {
#define X(name, number) VARVE_ZMQ_##name = number,
    VARVE_ZMQ_COMMANDS(X)
#undef X
        VARVE_ZMQ_COMMAND_COUNT
};

// The first byte of a reply.
enum varve_zmq_status { VARVE_ZMQ_SUCCESS = 0, VARVE_ZMQ_FAILURE = 1 };

#define VARVE_ZMQ_MUST_USE __attribute__((warn_unused_result))

struct varve_zmq;

enum varve_zmq_error {
    VARVE_ZMQ_OK = 0,
    VARVE_ZMQ_REFUSED = 1,   // the server's error; the text is the server's
    VARVE_ZMQ_INVALID = 2,   // the arguments, or the moment, are wrong; nothing was sent
    VARVE_ZMQ_FULL = 3,      // too much is in flight: take replies first; nothing was sent
    VARVE_ZMQ_TIMEOUT = 4,   // broken: no answer in time
    VARVE_ZMQ_NETWORK = 5,   // broken: libzmq refuses
    VARVE_ZMQ_PROTOCOL = 6,  // broken: the reply does not follow the protocol
    VARVE_ZMQ_NO_MEMORY = 7, // out of memory; nothing was sent
};

enum varve_zmq_kind {
    VARVE_ZMQ_REQ,    // one request at a time
    VARVE_ZMQ_DEALER, // also any number in flight: varve_zmq_send_event
};

enum varve_zmq_stream { VARVE_ZMQ_EVENTS, VARVE_ZMQ_FAILURES };

// Connects to "tcp://HOST:PORT" or "ipc://PATH", in the background: a server that is not there
// shows as a VARVE_ZMQ_TIMEOUT of the first call. timeout_ms bounds every call; 0 waits for ever.
// *z is set in any case but VARVE_ZMQ_NO_MEMORY (then it is NULL), so that varve_zmq_error_text can
// tell why, and must be given to varve_zmq_close. VARVE_ZMQ_INVALID: not an endpoint.
VARVE_ZMQ_MUST_USE enum varve_zmq_error varve_zmq_open(struct varve_zmq **z, const char *endpoint,
                                                       enum varve_zmq_kind kind,
                                                       unsigned timeout_ms);
// Closes and frees; replies not taken are dropped. NULL is fine.
void varve_zmq_close(struct varve_zmq *z);
// What the last failed call had to say; "" if none has failed. Never NULL.
const char *varve_zmq_error_text(const struct varve_zmq *z);

// ---- blobs by key ("other"); the keys are those of every protocol

// ttl_ms: gone after that time; 0: as the server is configured (zmq.other_ttl, normally never).
VARVE_ZMQ_MUST_USE enum varve_zmq_error varve_zmq_put_other(struct varve_zmq *z, const void *key,
                                                            size_t key_size, const void *value,
                                                            size_t value_size, uint64_t ttl_ms);
// The value; *size is 0 also if there is no such key.
VARVE_ZMQ_MUST_USE enum varve_zmq_error varve_zmq_get_other(struct varve_zmq *z, const void *key,
                                                            size_t key_size, const void **data,
                                                            size_t *size);

// ---- event streams

// Appends an event. *time: when, unique in its stream and larger than any before.
VARVE_ZMQ_MUST_USE enum varve_zmq_error varve_zmq_put_event(struct varve_zmq *z,
                                                            enum varve_zmq_stream stream,
                                                            const void *data, size_t size,
                                                            uint64_t *time);

// Events, oldest first, one after another: where one ends only they can say.
struct varve_zmq_events {
    uint64_t count;
    const void *data; // not aligned; may be NULL when size is 0
    size_t size;
};
// Those strictly after *after; NULL: those of the server's window (zmq.event_window).
VARVE_ZMQ_MUST_USE enum varve_zmq_error varve_zmq_get_events(struct varve_zmq *z,
                                                             enum varve_zmq_stream stream,
                                                             const uint64_t *after,
                                                             struct varve_zmq_events *events);
VARVE_ZMQ_MUST_USE enum varve_zmq_error varve_zmq_get_all_events(struct varve_zmq *z,
                                                                 enum varve_zmq_stream stream,
                                                                 struct varve_zmq_events *events);

// A page of events with their times and lengths:
//
//     struct varve_zmq_page page;
//     struct varve_zmq_event event;
//     for (uint64_t after = 0; varve_zmq_read_events(z, stream, after, 1 << 20, &page) ==
//                              VARVE_ZMQ_OK && page.count; after = page.last)
//         while (varve_zmq_next_event(&page, &event))
//             ...
struct varve_zmq_page {
    uint64_t count;
    uint64_t last; // time of its last event, to go on after
    const void *at, *end;
};
struct varve_zmq_event {
    uint64_t time;
    const void *data; // not aligned
    size_t size;
};
// Events strictly after `after`, up to max_bytes of them (with some overhead; at least one event).
VARVE_ZMQ_MUST_USE enum varve_zmq_error varve_zmq_read_events(struct varve_zmq *z,
                                                              enum varve_zmq_stream stream,
                                                              uint64_t after, uint64_t max_bytes,
                                                              struct varve_zmq_page *page);
// The page's next event; false at its end.
bool varve_zmq_next_event(struct varve_zmq_page *page, struct varve_zmq_event *event);

// Deletes the event of exactly this time from VARVE_ZMQ_EVENTS. *deleted: whether there was one.
VARVE_ZMQ_MUST_USE enum varve_zmq_error varve_zmq_delete_event(struct varve_zmq *z, uint64_t time,
                                                               bool *deleted);
// Deletes all events before this time.
VARVE_ZMQ_MUST_USE enum varve_zmq_error
varve_zmq_trim_events(struct varve_zmq *z, enum varve_zmq_stream stream, uint64_t before);

VARVE_ZMQ_MUST_USE enum varve_zmq_error varve_zmq_ping(struct varve_zmq *z);

// ---- many events in flight (VARVE_ZMQ_DEALER)

// Sends an event without waiting for the reply, which varve_zmq_receive_event takes later. Replies
// come in the order of the requests; until all are taken, other calls are VARVE_ZMQ_INVALID.
// VARVE_ZMQ_FULL: the socket's queue is.
VARVE_ZMQ_MUST_USE enum varve_zmq_error varve_zmq_send_event(struct varve_zmq *z,
                                                             enum varve_zmq_stream stream,
                                                             const void *data, size_t size);
// The reply to the oldest event sent: *time as of varve_zmq_put_event. VARVE_ZMQ_INVALID if none is
// in flight.
VARVE_ZMQ_MUST_USE enum varve_zmq_error varve_zmq_receive_event(struct varve_zmq *z,
                                                                uint64_t *time);
size_t varve_zmq_in_flight(const struct varve_zmq *z);

#ifdef __cplusplus
}
#endif

#endif
