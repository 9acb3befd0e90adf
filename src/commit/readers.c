// A bounded queue of jobs and the threads that run them, first in first out.
#include "commit/commit_int.h"
#include "base/assert.h"
#include <stdlib.h>

static void *readers_main(void *arg)
{
    struct readers *p = arg;
    os_thread_name("reader");
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->first && !p->stopping)
            pthread_cond_wait(&p->wake, &p->lock);
        struct reader_job *j = p->first;
        if (!j)
            break;
        p->first = j->next;
        p->waiting--;
        pthread_mutex_unlock(&p->lock);
        j->fn(j->arg);
        free(j);
        pthread_mutex_lock(&p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

enum err readers_start(struct readers *p, unsigned threads)
{
    VERIFY(threads <= sizeof p->threads / sizeof *p->threads);
    for (; p->started < threads; p->started++)
        if (pthread_create(&p->threads[p->started], NULL, readers_main, p))
            return ERR_NO_MEMORY;
    return ERR_OK;
}

// Finishes what is queued, then joins.
void readers_stop(struct readers *p)
{
    pthread_mutex_lock(&p->lock);
    p->stopping = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->started; i++)
        pthread_join(p->threads[i], NULL);
    p->started = 0;
}

enum err readers_add(struct readers *p, void (*fn)(void *arg), void *arg)
{
    if (p->started == 0) { // simulation, or not started yet
        fn(arg);
        return ERR_OK;
    }
    struct reader_job *j = malloc(sizeof *j);
    if (!j)
        return ERR_NO_MEMORY;
    *j = (struct reader_job){.fn = fn, .arg = arg};
    pthread_mutex_lock(&p->lock);
    if (p->stopping || p->waiting >= READERS_MAX) {
        enum err e = p->stopping ? ERR_CLOSED : ERR_AGAIN;
        pthread_mutex_unlock(&p->lock);
        free(j);
        return e;
    }
    if (p->first)
        p->last->next = j;
    else
        p->first = j;
    p->last = j;
    p->waiting++;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
    return ERR_OK;
}
