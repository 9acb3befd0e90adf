// What the files of logs over HTTP share.
//
//   log.c         names and starts as they are written, keyspaces, metadata, trimming
//   log_append.c  bodies to records, and back what became of them
//   log_page.c    pages in every encoding
//   log_tail.c    server-sent events
#ifndef VARVE_EDGE_HTTP_LOG_INT_H
#define VARVE_EDGE_HTTP_LOG_INT_H

#include "commit/log.h"
#include "edge/http/http_int.h"

// ---- log.c ----

// The names in the path, decoded; checks them as log_check_names does.
MUST_USE unsigned log_path(struct request *rq, struct log_name *name, struct errmsg *msg);
// Neither empty nor too long; a NULL key is not looked at.
MUST_USE unsigned log_check_names(const struct http_options *o, const struct log_name *name,
                                  struct errmsg *msg);
// Numbers as arguments.
MUST_USE unsigned query_signed(const struct param *p, int64_t *v, struct errmsg *msg);
MUST_USE unsigned query_nonce(const struct param *p, u128 *v, struct errmsg *msg);
// `first`, `offset:N`, `timestamp:T` and, with `nonce`, `nonce:N`, into all of `from` but its
// direction.
MUST_USE unsigned query_start(const struct param *p, bool nonce, struct log_from *from,
                              struct errmsg *msg);
// The filter that prefix or contains asks for.
MUST_USE unsigned query_filter(const struct param *prefix, const struct param *contains,
                               struct log_query *q, struct errmsg *msg);

enum conn_verdict route_keyspaces(struct request *rq);
enum conn_verdict route_keyspace_create(struct request *rq);
enum conn_verdict route_keyspace_policy(struct request *rq);
enum conn_verdict route_keyspace_get(struct request *rq);
enum conn_verdict route_log_meta(struct request *rq);
enum conn_verdict route_log_flush(struct request *rq);
enum conn_verdict route_flush_all(struct request *rq);
enum conn_verdict route_log_delete(struct request *rq);

// ---- log_append.c ----

// Reads an array of records into a->records, whose memory is the work's. The message names the
// record.
MUST_USE unsigned log_read_records(const struct http_options *o, struct http_work *w,
                                   struct json list, struct log_append *a, struct errmsg *msg);
enum conn_verdict route_log_append(struct request *rq);

// ---- log_page.c ----

// {"offset":O,"timestamp":T,"nonce":"X","record":"..."}; with base64, or if it is not UTF-8,
// "base64" in place of "record".
MUST_USE enum err log_put_record(struct buf *b, const struct record *r, bool base64);
enum conn_verdict route_log_page(struct request *rq);

// Reads a page of a log that is on disk, on a reader thread.
struct page_job {
    struct job job;
    struct log_query query;
    struct log_page page;
    bool filled;     // page is to be released
    uint8_t bytes[]; // what the query's slices point to
};
// ERR_NO_MEMORY: NULL.
struct page_job *page_job_new(const struct log_query *q);

// ---- log_tail.c ----

enum conn_verdict route_log_tail(struct request *rq);
// on_input and on_deadline of a connection that a tail has taken.
enum conn_verdict tail_input(struct conn *c, struct http_conn *st);
enum conn_verdict tail_deadline(struct conn *c);
// Nothing will wake the connection any more. Freeing the tail is free().
void tail_unwatch(struct conn *c, struct tail *t);

#endif
