// What the files of the client library share: requests on a connection (client.c) for the calls in
// log.c and rel.c.
#ifndef VARVE_CLIENT_CLIENT_INT_H
#define VARVE_CLIENT_CLIENT_INT_H

#include "client/wire.h"

// Sets the connection's error text and returns `e`.
enum varve_error client_fail(struct varve *v, enum varve_error e, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// A reply that does not follow the protocol: the connection is broken.
enum varve_error client_malformed(struct varve *v, const char *why);

// Queues a request.
enum varve_error client_queue(struct varve *v, enum wire_type type, const struct slice *args,
                              size_t count);
enum varve_error client_queue_edit(struct varve *v, struct slice relation,
                                   const struct varve_rel_group *groups, size_t count,
                                   uint32_t flags, struct slice idempotency);
// Starts a call that sends one request and waits for its reply: then queue it, then
// client_only_reply, with how that went.
enum varve_error client_begin_alone(struct varve *v);
enum varve_error client_only_reply(struct varve *v, enum varve_error r, struct varve_reply *reply);
// All of it in one: *body is what follows the status byte.
enum varve_error client_ask(struct varve *v, enum wire_type type, const struct slice *args,
                            size_t count, struct slice *body);
// Ends a call whose reply had to be read by `e`.
enum varve_error client_understood(struct varve *v, enum varve_error r, enum err e);

// Pages of names or of keys, each asked for with `type`: `scope` is its first argument.
struct client_listing {
    enum wire_type type;
    struct slice scope;
    bool unscoped;       // it has no such argument
    struct slice prefix; // that every key must have
    size_t limit;        // 0: all
    bool values;
    varve_list_fn fn;
    void *arg;
};
enum varve_error client_list(struct varve *v, const struct client_listing *l, struct slice after);

// True if the oldest outstanding request is a tail.
bool client_tailing(const struct varve *v);
// Queues a PING whose reply is not the user's and takes replies until it has come.
enum varve_error client_end_tail(struct varve *v);

#endif
