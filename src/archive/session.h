// Who may write a log: sessions, claims, intents and fences. session.c begins with the protocol.
// Of this room only. A session belongs to one thread at a time.
#ifndef VARVE_ARCHIVE_SESSION_H
#define VARVE_ARCHIVE_SESSION_H

#include "archive/name.h"

struct session {
    struct object_store *store;
    struct os *os;
    uint64_t id;
    uint64_t seq;    // of the last intent; 0: none
    bool open;       // its record is there
    enum err broken; // ERR_OK: it is not; else what every call returns
    struct errmsg why;
    uint64_t *closed; // sessions known to be closed, a ring
    size_t closed_n;
};

MUST_USE enum err session_init(struct session *s, struct object_store *store, struct os *os);
// Ends it: if nothing is in doubt its objects are deleted.
void session_release(struct session *s);
// Remembers the error and returns it.
enum err session_break(struct session *s, enum err e, const struct errmsg *why);
// What broke it, if it is broken.
MUST_USE enum err session_state(const struct session *s, struct errmsg *msg);

// A claim in progress.
struct claim {
    const char *dir;
    bool held;      // results: the log is ours,
    uint64_t epoch; // by this claim
};
// Puts the first claim of each log, in parallel: it succeeds (held) where nobody ever had one. List
// the log then: if there is a higher claim, it is session_claim_stands that fails.
MUST_USE enum err session_claim_fresh(struct session *s, struct claim *claims, size_t n,
                                      struct errmsg *msg);
// ERR_CONFLICT if others claim a log whose first claim is ours.
MUST_USE enum err session_claim_stands(struct session *s, const char *dir, struct errmsg *msg);
// Takes a log over: a claim above all others, whose sessions are closed. ERR_CONFLICT if somebody
// took it over meanwhile.
MUST_USE enum err session_claim(struct session *s, struct claim *c, struct errmsg *msg);

// Lets a log go that is held, and whose puts are all settled: its claim is nobody's then.
MUST_USE enum err session_unclaim(struct session *s, const char *dir, uint64_t epoch,
                                  struct errmsg *msg);

// Announces what will be put: nobody else can from here on, nor can this session if it was closed
// (ERR_CONFLICT). `names` are those of objects, from the store's root.
MUST_USE enum err session_intend(struct session *s, const char *const *names, size_t n,
                                 struct errmsg *msg);
// After the puts: ERR_OK if nobody had closed the session when they were done, so that they count;
// else ERR_CONFLICT, and only the log itself tells which of them came before the fences.
MUST_USE enum err session_check(struct session *s, struct errmsg *msg);
// The name of the intent before the last one, to be deleted while the data is put; false: none.
bool session_old_intent(const struct session *s, char name[NAME_FULL_MAX]);

#endif
