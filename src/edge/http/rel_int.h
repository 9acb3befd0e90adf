// What the files of relations over HTTP share.
//
//   rel.c       names, ids and arguments as they are written; relations; reading one list
//   rel_edit.c  ids in bodies; adding and removing members
//   rel_many.c  several lists: many at once, combined, all of a relation
#ifndef VARVE_EDGE_HTTP_REL_INT_H
#define VARVE_EDGE_HTTP_REL_INT_H

#include "commit/rel.h"
#include "edge/http/http_int.h"

// ---- rel.c

// Of an error text, after what is not an id.
#define REL_NOT_ID "is not an id: whole numbers from 0 to 18446744073709551615"
// The relation in the path, decoded, and its FROM; a NULL `from` is not looked at. The name is the
// commit room's to check.
MUST_USE unsigned rel_path(struct request *rq, struct slice *relation, uint64_t *from,
                           struct errmsg *msg);
// A number of decimal digits.
bool rel_parse_id(struct slice s, uint64_t *id);
MUST_USE unsigned query_id(const struct param *p, uint64_t *id, struct errmsg *msg);
// `1,2,3` as packed ids in the work's arena.
MUST_USE unsigned query_ids(const struct param *p, struct http_work *w, uint8_t **ids,
                            size_t *count, struct errmsg *msg);
// ids=string: they are strings in the reply.
MUST_USE unsigned query_quoted(const struct param *p, bool *quoted, struct errmsg *msg);
// durability=relaxed
MUST_USE unsigned query_relaxed(const struct param *p, bool *relaxed, struct errmsg *msg);

// An id of a reply, or several.
void reply_id(struct request *rq, uint64_t id, bool quoted);
void reply_ids(struct request *rq, const uint8_t *packed, size_t n, bool quoted);
// The end of a page of ids: ],"more":M,"next":X}
void reply_page_end(struct request *rq, const struct rel_page *page, bool quoted);
// {"relation":R,"from":FROM
void reply_list_name(struct request *rq, struct slice relation, uint64_t from, bool quoted);

// Finds a list; the 400 says how a relation is declared that lacks what is asked for.
MUST_USE enum err rel_find(struct request *rq, struct slice relation, uint64_t from, bool reverse,
                           struct rel_ref *r, struct errmsg *msg);
// The reply to a read that failed, or the wait for the lists it needs.
enum conn_verdict rel_failed(struct request *rq, enum err e, const struct rel_ref *cold, size_t n,
                             const struct errmsg *msg);
// Runs `run` with working memory.
enum conn_verdict rel_with_work(struct request *rq,
                                enum conn_verdict (*run)(struct request *rq, struct http_work *w));

enum conn_verdict route_relations(struct request *rq);
enum conn_verdict route_relation_get(struct request *rq);
enum conn_verdict route_relation_create(struct request *rq);
enum conn_verdict route_rel_page(struct request *rq);
enum conn_verdict route_rel_count(struct request *rq);
enum conn_verdict route_rel_contains(struct request *rq);

// ---- rel_edit.c

// An id: a JSON number or a string of decimal digits. `name` is the member that holds it, for the
// 400.
MUST_USE unsigned rel_read_id(struct json v, const char *name, uint64_t *id, struct errmsg *msg);
// An array of ids, at most `max`, packed into the work's arena.
MUST_USE unsigned rel_read_ids(struct http_work *w, struct json list, const char *name, size_t max,
                               uint8_t **ids, size_t *count, struct errmsg *msg);
// Puts `NAME[index]: ` in front of the message.
unsigned rel_in(const char *name, size_t index, unsigned status, struct errmsg *msg);
// relate and unrelate of a txn: the edit, in the work's arena. `left`, LIMIT_REL_MEMBERS at first,
// counts down the members that a request may hold.
MUST_USE unsigned rel_read_edit(struct http_work *w, struct json relation, struct json from,
                                struct json members, size_t *left, struct rel_edit **edit,
                                struct errmsg *msg);
enum conn_verdict route_rel_add(struct request *rq);
enum conn_verdict route_rel_remove(struct request *rq);
enum conn_verdict route_rel_edit(struct request *rq);

// ---- rel_many.c

enum conn_verdict route_rel_many(struct request *rq);
enum conn_verdict route_rel_intersect(struct request *rq);
enum conn_verdict route_rel_union(struct request *rq);
enum conn_verdict route_rel_difference(struct request *rq);
enum conn_verdict route_rel_froms(struct request *rq);

#endif
