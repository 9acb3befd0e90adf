// The binary protocol on TCP (docs/PROTOCOLS.md): a protocol for net_listen that executes requests
// in the commit room.
#ifndef VARVE_EDGE_BINARY_BINARY_H
#define VARVE_EDGE_BINARY_BINARY_H

#include "commit/commit.h"
#include "net/net.h"

struct binary;

struct binary_options {
    struct commit *commit;
    uint32_t max_key;     // bytes
    uint32_t max_value;   // bytes
    uint32_t max_request; // bytes of a whole request
    // Appends the metrics in Prometheus' text format. Called on event-loop threads.
    enum err (*stat)(void *arg, struct buf *out);
    void *stat_arg;
};

MUST_USE enum err binary_new(struct binary **b, const struct binary_options *o);
// Frees; only after net_free of the net that listens for it.
void binary_free(struct binary *b);
// For net_listen. Lives as long as `b`.
const struct protocol *binary_protocol(const struct binary *b);

#endif
