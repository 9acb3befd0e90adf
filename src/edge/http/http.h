// The HTTP/1.1 edge: keys as JSON (docs/PROTOCOLS.md, "HTTP"), health and metrics. It turns bytes
// into calls of the commit room and its answers into bytes; it keeps nothing between requests.
#ifndef VARVE_EDGE_HTTP_HTTP_H
#define VARVE_EDGE_HTTP_HTTP_H

#include "base/buf.h"
#include "base/err.h"
#include "net/net.h"

struct commit;
struct http;

struct http_options {
    struct commit *commit;
    uint32_t max_key;   // bytes
    uint32_t max_value; // bytes
    size_t max_request; // bytes of a request's body
    // Appends everything the process counts, as Prometheus text. Any loop's thread; must not block.
    enum err (*metrics)(void *arg, struct buf *out);
    void *arg;
};

// ERR_NO_MEMORY.
MUST_USE enum err http_new(struct http **h, const struct http_options *o);
// For net_listen; lives as long as `h`.
const struct protocol *http_protocol(const struct http *h);
// After net_stop and when no commit callback is under way any more.
void http_free(struct http *h);

#endif
