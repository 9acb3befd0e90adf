// Stopping. A thread of its own waits for SIGTERM and SIGINT, as the consumer's may be waiting for
// a store or a server. The first asks it to store, commit and leave. If that takes longer than a
// supervisor has patience for, or at a second signal, requests that are not answered are given up:
// what was not stored by then is not committed, and comes again.
#include "base/log.h"
#include "bridge/bridge_int.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

enum { PATIENCE_S = 20 };

static void signals_of(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
}

bool stop_asked(const struct bridge *b)
{
    return atomic_load(&b->stop.asked);
}

static void hurry(struct bridge *b)
{
    struct sink *sink = atomic_load(&b->stop.sink);
    log_event(
        LOG_WARN, "stopping_in_a_hurry", "effect=%s",
        log_quote(sink ? "requests that are not answered are given up" : "nothing was begun"));
    if (!sink) // it is being opened, and perhaps will never be
        _Exit(STOP_HURRIED);
    sink_hurry(sink);
}

static void *wait_for_signals(void *arg)
{
    struct bridge *b = arg;
    const struct timespec patience = {.tv_sec = PATIENCE_S};
    sigset_t set;
    int sig = 0;
    os_thread_name("signals");
    signals_of(&set);
    while (sigwait(&set, &sig) != 0)
        ;
    if (atomic_load(&b->stop.over))
        return NULL;
    log_event(LOG_INFO, "stopping", "signal=%d", sig);
    atomic_store(&b->stop.asked, true);
    while (sigtimedwait(&set, NULL, &patience) < 0 && errno == EINTR)
        ;
    if (!atomic_load(&b->stop.over))
        hurry(b);
    return NULL;
}

enum err stop_begin(struct bridge *b, struct errmsg *msg)
{
    sigset_t set;
    signal(SIGPIPE, SIG_IGN);
    signals_of(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL); // of every thread made from here on
    b->stop.begun = pthread_create(&b->stop.thread, NULL, wait_for_signals, b) == 0;
    return b->stop.begun ? ERR_OK : err_set(msg, ERR_NO_MEMORY, "a thread cannot be started");
}

void stop_end(struct bridge *b)
{
    if (!b->stop.begun)
        return;
    atomic_store(&b->stop.over, true);
    pthread_kill(b->stop.thread, SIGTERM); // it may have ended: then nothing comes of it
    pthread_join(b->stop.thread, NULL);
}
