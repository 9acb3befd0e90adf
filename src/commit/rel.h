// Relations, as the edges see them: named maps from a u64 to a set of u64. The rule of replies is
// commit.h's: no answer leaves before commit_durable() >= dep.
//
// A relation is made by its first addition, or declared with options first. Reading one that does
// not exist finds empty lists. A name is 1 to LIMIT_RELATION_NAME bytes of letters, digits and
// "_.:-", the first a letter, digit or "_".
#ifndef VARVE_COMMIT_REL_H
#define VARVE_COMMIT_REL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"
#include "op/op.h"

struct commit;
struct relation; // never freed, read without a lock

// ---- relations

struct relation_view {
    struct slice name; // lives as long as the process
    uint64_t created_ms;
    struct relation_options options; // op/op.h: reverse, recent, relaxed
    // What is resident of it now, an estimate: lists with members, and those members.
    uint64_t resident_lists, resident_members;
};

// ERR_EXISTS with the options it has; ERR_INVALID (name) with msg; ERR_TOO_BIG: LIMIT_RELATIONS;
// ERR_FULL, ERR_NO_SPACE as commit_txn. A second declaration with the same options is ERR_EXISTS
// too.
MUST_USE
enum err commit_relation_create(struct commit *c, struct slice name,
                                const struct relation_options *o, uint64_t *created_ms,
                                uint64_t *dep, struct errmsg *msg);
// ERR_MISSING; ERR_INVALID with msg.
MUST_USE
enum err commit_relation_get(struct commit *c, struct slice name, struct relation_view *v,
                             uint64_t *dep, struct errmsg *msg);
// Names in rising bytewise order past `after`, at most `limit`; fn returns false to stop.
typedef bool (*relation_fn)(void *arg, const struct relation_view *v);
MUST_USE
enum err commit_relation_list(struct commit *c, struct slice after, size_t limit, relation_fn fn,
                              void *arg, uint64_t *dep);

// ---- changing: an operation TXN_RELATE or TXN_UNRELATE of a transaction points to this

struct rel_group {
    // in
    uint64_t from;
    const uint8_t *members; // packed little-endian u64, not aligned, in any order; one given twice
    uint32_t count;         // counts once. May be 0
    // out
    uint32_t changed; // members added or removed; the others were there, or not there
};
// A `from` may stand in several groups and edits of one transaction; they take effect in order.
// Members of one group arrive, for order=recent, in the order in which they are given.
struct rel_edit {
    // in
    struct slice relation;
    struct rel_group *groups;
    size_t count; // of groups, one at least; in all of a transaction at most LIMIT_REL_MEMBERS
                  // members and as many groups
    // out
    uint64_t changed; // sum over the groups
};

// ---- reading

// A list, looked up once: prefetch for a batch, then read.
struct rel_ref {
    const struct relation *relation; // NULL: does not exist; every list of it is empty
    uint64_t hash;
    uint32_t table;
};
// `reverse`: the list of those that have `from` as a member. ERR_INVALID with msg: the name, or
// reverse of a relation that does not keep it.
MUST_USE
enum err commit_rel_ref(struct commit *c, struct slice relation, uint64_t from, bool reverse,
                        struct rel_ref *r, struct errmsg *msg);
// Call for all of a batch, then commit_rel_prefetch_list for all, then read.
void commit_rel_prefetch_slot(const struct commit *c, const struct rel_ref *r);
void commit_rel_prefetch_list(const struct commit *c, const struct rel_ref *r);

enum rel_order {
    REL_RISING,
    REL_FALLING,
    REL_NEWEST, // the last that arrived first; only of relations with order=recent, not reverse
};
struct rel_page_query {
    enum rel_order order;
    bool has_after;
    uint64_t after; // RISING, FALLING: a member; NEWEST: `next` of the page before
    size_t max;     // members, 1 to LIMIT_REL_PAGE
};
struct rel_page {
    uint64_t total; // members of the whole list
    size_t count;   // in this page
    bool more;
    uint64_t next; // with more: `after` of the next page
};
// Appends members to `out` as packed little-endian u64. ERR_COLD: nothing appended, see
// commit_rel_fetch. ERR_INVALID with msg (order). ERR_TOO_BIG: out is full. *dep is set for ERR_OK.
MUST_USE
enum err commit_rel_page(struct commit *c, const struct rel_ref *r, const struct rel_page_query *q,
                         struct buf *out, struct rel_page *page, uint64_t *dep, struct errmsg *msg);
MUST_USE
enum err commit_rel_count(struct commit *c, const struct rel_ref *r, uint64_t *n, uint64_t *dep);
// found[i]: 1 if members[i] (packed u64) is in the list.
MUST_USE
enum err commit_rel_contains(struct commit *c, const struct rel_ref *r, const uint8_t *members,
                             size_t n, uint8_t *found, uint64_t *dep);

enum rel_combine { REL_INTERSECT, REL_UNION, REL_DIFFERENCE }; // the first without the others
// Members of 1 to LIMIT_REL_LISTS lists combined, rising, past `after`; all against one moment.
// page->total is not set. Looks at about LIMIT_REL_WORK members, then stops with `more`.
MUST_USE
enum err commit_rel_combine(struct commit *c, enum rel_combine how, const struct rel_ref *lists,
                            size_t n, bool has_after, uint64_t after, size_t max, struct buf *out,
                            struct rel_page *page, uint64_t *dep);
// Members that this may have to look at, at most; past some number it belongs on a thread of
// commit_background. ERR_COLD as commit_rel_count.
MUST_USE
enum err commit_rel_cost(struct commit *c, enum rel_combine how, const struct rel_ref *lists,
                         size_t n, size_t limit, uint64_t *members);

// Brings lists in from the disk on a reader thread, then calls done there; as commit_fetch.
MUST_USE
enum err commit_rel_fetch(struct commit *c, const struct rel_ref *lists, size_t n,
                          void (*done)(void *arg, enum err e), void *arg);

// The `from`s of a relation (reverse: of its reverse) that have members, in an order of the
// server's own that never changes; past `after`, which need not be there any more. At most `limit`;
// fn returns false to stop. `count`: members. Blocks on the disk: through commit_background. Sees
// every list that is there throughout the call.
typedef bool (*rel_from_fn)(void *arg, uint64_t from, uint64_t count);
MUST_USE
enum err commit_rel_froms(struct commit *c, struct slice relation, bool reverse, bool has_after,
                          uint64_t after, size_t limit, rel_from_fn fn, void *arg, uint64_t *dep,
                          struct errmsg *msg);

#endif
