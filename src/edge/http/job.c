// Work that blocks on the disk, done on a reader thread while the request's connection waits. When
// it is done the request is run again, and finds it with job_take.
#include "base/assert.h"
#include "edge/http/http_int.h"

static void run(void *arg)
{
    struct job *j = arg;
    struct conn *c = j->conn;
    // A job whose connection has died still ends here: on_close frees it.
    if (!conn_dead(c))
        j->run(j);
    atomic_store_explicit(&j->done, true, memory_order_release);
    conn_resume(c);
}

void job_hand_over(struct conn *c, struct commit *commit, struct job *j)
{
    struct http_conn *st = conn_state(c);
    VERIFY(!st->job);
    j->conn = c;
    j->commit = commit;
    st->job = j;
    conn_hold(c);
    enum err e = commit_background(commit, run, j);
    if (e) { // as if it had run and failed
        j->e = e;
        atomic_store_explicit(&j->done, true, memory_order_relaxed);
        conn_resume(c);
    }
}

enum conn_verdict job_start(struct request *rq, struct job *j)
{
    job_hand_over(rq->conn, rq->http->o.commit, j);
    return CONN_WAIT;
}

struct job *job_take(struct request *rq)
{
    struct job *j = rq->state->job;
    rq->state->job = NULL;
    return j;
}
