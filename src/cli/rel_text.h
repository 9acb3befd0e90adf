// What an import reads: lines of two numbers, or packed pairs.
//
//   lines   FROM SEPARATOR TO, the separator one comma, semicolon or tab with or without blanks
//           around it, or blanks alone; LF or CRLF. Empty lines, and those that begin with '#', are
//           none. With `header` the first other one may be anything.
//   pairs   u64 from, u64 to, little-endian, end to end
//
// Numbers are whole, decimal, 0 to 2^64 - 1. Pure; no I/O.
#ifndef VARVE_CLI_REL_TEXT_H
#define VARVE_CLI_REL_TEXT_H

#include "base/err.h"
#include "base/slice.h"
#include "cli/rel_pairs.h"

#define REL_PAIR 16u // bytes of a packed pair

// A number that is the whole of `s`. ERR_INVALID.
MUST_USE enum err rel_id(struct slice s, uint64_t *id);
// Says in `msg` what an id must be, in place of what `s` is; gives ERR_INVALID.
enum err rel_not_id(struct errmsg *msg, const char *name, struct slice s);

struct rel_text {
    bool pairs;    // the format
    bool header;   // the first line may be a header; false once it is past
    uint64_t line; // taken so far; of pairs, how many
};

enum rel_took {
    REL_TOOK_ALL,
    REL_TOOK_FULL, // the batch is full; the line after `used` was not taken
    REL_TOOK_BAD,  // the last line before `used`, number t->line, is wrong; msg says how
};
// Takes pairs off the front of `text`, which holds whole lines, each with its end, or whole pairs.
enum rel_took rel_text_take(struct rel_text *t, struct slice text, struct rel_pairs *to,
                            size_t *used, struct errmsg *msg);

#endif
