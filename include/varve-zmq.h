// varve's commands over ZeroMQ, see docs/PROTOCOLS.md ("ZeroMQ").
#ifndef VARVE_ZMQ_H
#define VARVE_ZMQ_H

// The first byte of a request. X(NAME, number); for ever, never renumber. Up to GET_FAILURES they
// are wx_store's, the rest varve's own.
#define VARVE_ZMQ_COMMANDS(X) \
    X(PUT_OTHER, 0)           \
    X(GET_OTHER, 1)           \
    X(PUT_EVENT, 2)           \
    X(GET_EVENTS, 3)          \
    X(GET_ALL_EVENTS, 4)      \
    X(PUT_FAILURE, 5)         \
    X(GET_FAILURES, 6)        \
    X(PUT_OTHER_TTL, 7)       \
    X(DELETE_EVENT, 8)        \
    X(TRIM_EVENTS, 9)         \
    X(TRIM_FAILURES, 10)      \
    X(GET_ALL_FAILURES, 11)   \
    X(PING, 12)               \
    X(READ_EVENTS, 13)        \
    X(READ_FAILURES, 14)

enum varve_zmq_command {
#define X(name, number) VARVE_ZMQ_##name = number,
    VARVE_ZMQ_COMMANDS(X)
#undef X
        VARVE_ZMQ_COMMAND_COUNT
};

#endif
