// Jobs: requests that run on a thread of the commit room while their connection waits.
#include "edge/binary/binary_int.h"

// On a thread of the commit room.
static void job_run(void *arg)
{
    struct binary_job *j = arg;
    j->run(j);
    conn_resume(j->c); // the job is the loop's again
}

// On some thread of the commit room.
static void job_may_run_again(void *arg, enum err e)
{
    struct binary_job *j = arg;
    j->e = e;
    conn_resume(j->c);
}

void binary_job_release(struct binary_job *j)
{
    if (j)
        j->release(j);
}

// It has run, or could not; the session is rid of it.
static enum conn_verdict job_conclude(struct conn *c, struct binary_job *j)
{
    struct session *s = conn_state(c);
    s->job = NULL;
    enum conn_verdict v = j->reply(j);
    j->release(j);
    return v;
}

enum conn_verdict binary_job_start(struct conn *c, struct binary_job *j)
{
    struct session *s = conn_state(c);
    s->job = j;
    j->c = c;
    conn_hold(c);
    enum err e = commit_background(j->commit, job_run, j);
    if (e == ERR_OK)
        return CONN_WAIT;
    conn_unhold(c);
    j->e = e;
    if (e == ERR_AGAIN)
        (void)err_set(&j->msg, e, "%s: too many requests wait for the disk; try again",
                      frame_name(j->type));
    return job_conclude(c, j);
}

enum conn_verdict binary_job_reply(struct conn *c)
{
    struct session *s = conn_state(c);
    struct binary_job *j = s->job;
    if (j->again) {
        j->again = false;
        return j->e ? job_conclude(c, j) : binary_job_start(c, j);
    }
    bool cold = j->e == ERR_COLD && j->fetch;
    if (j->e != ERR_FULL && !cold)
        return job_conclude(c, j);
    j->again = true;
    conn_hold(c);
    enum err e = cold ? j->fetch(j, job_may_run_again, j)
                      : commit_wait_room(j->commit, job_may_run_again, j);
    if (e == ERR_OK)
        return CONN_WAIT;
    conn_unhold(c);
    j->e = e;
    return job_conclude(c, j);
}
