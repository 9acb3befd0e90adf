// A line on standard error that tells how far long work has come. Silent when standard error is no
// terminal. One at a time.
#ifndef VARVE_CLI_PROGRESS_H
#define VARVE_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *doing; // "loading"; lives as long as this
    const char *unit;  // "keys"
    uint64_t total;    // 0: unknown
    uint64_t begin_ns;
    uint64_t shown_ns;
    bool on;
};

void progress_begin(struct progress *p, const char *doing, uint64_t total, const char *unit);
// Shows `done`, at most ten times a second.
void progress_show(struct progress *p, uint64_t done);
// Takes the line away until it is shown again, for other text.
void progress_hide(const struct progress *p);
// Takes the line away.
void progress_end(struct progress *p);

#endif
