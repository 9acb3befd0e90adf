// A scripted server of the binary protocol in a thread, for one connection of the client library.
#ifndef FAKE_SERVER_H
#define FAKE_SERVER_H

#include "varve.h"
#include <pthread.h>

struct fake {
    int listener;
    int fd;
    char addr[64];
    pthread_t thread;
    void (*script)(struct fake *f);
    const void *arg;
    size_t n;
    size_t chunk; // bytes a send may have; 0: all at once
};

// Starts the script and connects to it.
struct varve *fake_start(struct fake *f, void (*script)(struct fake *), unsigned timeout_ms);
// Closes the connection and waits for the script's end.
void fake_end(struct fake *f, struct varve *v);

// For scripts. Reads one request whole: its type, and its arguments joined; false at the end.
bool fake_request(struct fake *f, uint16_t *type, uint8_t *args, size_t cap, size_t *n);
void fake_send(struct fake *f, const void *p, size_t n);
// Sends a reply with its length; 16,000 bytes at most.
void fake_reply(struct fake *f, const void *body, size_t n);

// Answers the first request with the bytes of f->arg, as they are.
void script_bytes(struct fake *f);
// Takes requests and says nothing.
void script_silent(struct fake *f);

#endif
