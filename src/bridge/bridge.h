// The Kafka bridge: one consumer of a group that puts a topic's records into logs, in objects or in
// a varve server, and commits an offset only when all records before it are stored.
#ifndef VARVE_BRIDGE_BRIDGE_H
#define VARVE_BRIDGE_BRIDGE_H

#include "base/err.h"

// Runs until SIGTERM or SIGINT, which end it with ERR_OK: all that was read is stored and committed
// then. Blocks both signals for the process; call it before other threads are there. Errors, with
// what to do about them in `msg`; nothing is committed past what is stored:
//   ERR_INVALID, ERR_TOO_BIG  the configuration; a bad record where on_bad_record is stop; two
//                             partitions that feed one log with their offsets as nonces
//   ERR_MISSING   no such topic
//   ERR_DENIED    Kafka or the store does not let it in
//   ERR_CONFLICT  another writer has taken over one of its logs
//   ERR_NETWORK   Kafka has given the consumer up; the server has gone
//   and those of object/object.h
MUST_USE enum err bridge_run(const char *config_path, struct errmsg *msg);

#endif
