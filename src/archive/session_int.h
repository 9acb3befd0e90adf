// What session.c and close.c share.
#ifndef VARVE_ARCHIVE_SESSION_INT_H
#define VARVE_ARCHIVE_SESSION_INT_H

#include "archive/session.h"

// The name of an object of the session `id`.
void session_object(uint64_t id, const char *what, char name[NAME_FULL_MAX]);
// That of its intent or closure `seq`.
void session_numbered(uint64_t id, uint64_t seq, char name[NAME_FULL_MAX]);
// put_absent that knows its own bytes: ERR_EXISTS only if there is something else.
MUST_USE enum err session_put_mine(struct object_store *store, const char *name, struct slice bytes,
                                   struct errmsg *msg);

// close.c: closes the session `id`, so that it can put nothing any more, and settles what it may
// have had under way in the log `dir`. *unsettled: it is closed, but that could not be found out,
// which is the error; else the error may be of anything.
MUST_USE enum err session_close_other(struct session *s, uint64_t id, const char *dir,
                                      bool *unsettled, struct errmsg *msg);

enum {
    SESSION_ROUNDS = 64,          // of closing a session that goes on writing, of claiming
    SESSION_CLOSED = 256,         // sessions known to be closed
    SESSION_INTENT_MAX = 64 << 20 // bytes
};

#endif
