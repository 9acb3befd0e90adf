// A connection without a socket or a loop, to test an edge: define the input, see the output. Takes
// the place of the net room at link time. One thread.
#ifndef VARVE_TESTS_FAKE_CONN_H
#define VARVE_TESTS_FAKE_CONN_H

#include "net/net.h"
#include "base/slice.h"

struct conn {
    const struct protocol *protocol;
    struct buf in;
    struct buf out;
    void *state;
    bool eof;
    bool waiting;     // on_input said CONN_WAIT
    unsigned resumes; // conn_resume came as often since
    bool closed;      // CONN_CLOSE or CONN_DROP
    bool dropped;     // CONN_DROP
    unsigned holds;
    uint64_t deadline; // ms as last set
    uint64_t gate;     // highest sequence asked for
    size_t gates;      // calls of conn_gate with a sequence
    uint64_t taken;    // output bytes taken by fake_conn_take
};

struct conn *fake_conn_new(const struct protocol *p);
// Runs on_dead and on_close first.
void fake_conn_free(struct conn *c);
// Appends input, in a fresh block of memory each time so that a kept pointer is found, and runs
// on_input.
void fake_conn_feed(struct conn *c, const void *p, size_t n);
// Runs on_input if a resume came or nothing is waited for.
void fake_conn_run(struct conn *c);
void fake_conn_eof(struct conn *c);
void fake_conn_deadline(struct conn *c);
// Forgets the output, as if the kernel had taken it.
void fake_conn_take(struct conn *c);

#endif
