// What the tests of archive/ share: short ways to append, and the log as its objects show it,
// worked out apart from the reader.
#ifndef VARVE_TESTS_ARCHIVE_WORLD_H
#define VARVE_TESTS_ARCHIVE_WORLD_H

#include "archive/data.h"
#include "archive/tiles.h"
#include "archive/writer.h"
#include "fake_object.h"

extern const struct archive_log world_log; // keyspace "ks", key "key"

// Appends `count` records, texts "{label}{i}", with nonces from `nonce` on (NONCE_NONE: without),
// timestamps 1000 + the number of records that this process appended.
enum err world_append(struct archive_writer *w, const struct archive_log *log, const char *label,
                      unsigned count, u128 nonce, struct archive_batch *result);
// What the last world_append said.
const char *world_why(void);
// All records' texts of a log, a space after each, as its path says. Fails the test if an object on
// it is not what its name and its checksum say, or if there is a gap.
void world_text(struct object_store *s, const char *dir, struct buf *out);
// The same, and where the log begins (1, if it has nothing).
void world_text_from(struct object_store *s, const char *dir, struct buf *out, uint64_t *first);
// Fails the test if archive_check finds a defect.
void world_check(struct object_store *s);
// Objects whose names begin with `prefix`.
size_t world_count(struct object_store *s, const char *prefix);

#endif
