#include "object/transfer.h"
#include "base/assert.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define CONNECT_MS    5000L
#define RECEIVE_BYTES (256L << 10) // libcurl's buffer for what comes
#define SEND_BYTES    (256L << 10) // and for what goes; its default of 64 KiB takes more turns
#define TICK_MS       100u         // how often stalls are looked for
#define IDLE_MS       60000u
#define HURRY_NS      1000000000u
#define KEEP_IDLE_S   55L // servers drop idle connections after 60 s and more

struct list {
    struct transfer *first;
    struct transfer **end;
};

struct transfers {
    struct os *os;
    unsigned connections;
    _Atomic uint64_t timeout_ns;
    atomic_bool cancelled; // one of those that wait may be
    bool direct;
    char *ca_file;
    CURLM *multi;
    pthread_t thread;
    pthread_mutex_t lock; // over arrivals, closing, stats
    struct list arrivals;
    bool closing;
    struct transfers_stats stats;
    // The thread's.
    struct list queue;
    struct transfer *delayed;
    struct transfer *active;
    unsigned active_count;
    CURL **spare; // handles with nothing to do, their constant options set
    unsigned spare_count;
    bool stopping; // `closing` as seen at the turn's beginning
};

static void list_add(struct list *l, struct transfer *x)
{
    x->next = NULL;
    *l->end = x;
    l->end = &x->next;
}

static struct transfer *list_take(struct list *l)
{
    struct transfer *x = l->first;
    if (x) {
        l->first = x->next;
        if (!l->first)
            l->end = &l->first;
    }
    return x;
}

static void list_init(struct list *l)
{
    l->first = NULL;
    l->end = &l->first;
}

// ---- bodies

struct transfer_cursor transfer_body_start(const struct transfer_body *b)
{
    struct transfer_cursor c = {.left = b->n};
    uint64_t from = b->from;
    while (c.part < b->count && from >= b->parts[c.part].n)
        from -= b->parts[c.part++].n;
    c.offset = (size_t)from;
    return c;
}

// The next run of bytes that lie together, empty at the end; moves past it.
static struct slice next_run(const struct transfer_body *b, struct transfer_cursor *c, size_t n)
{
    while (c->part < b->count && c->offset == b->parts[c->part].n) {
        c->part++;
        c->offset = 0;
    }
    if (c->left == 0 || n == 0 || c->part == b->count)
        return slice_of(NULL, 0);
    size_t step = b->parts[c->part].n - c->offset;
    step = step < n ? step : n;
    step = step < c->left ? step : (size_t)c->left;
    struct slice run = slice_of(b->parts[c->part].p + c->offset, step);
    c->offset += step;
    c->left -= step;
    return run;
}

size_t transfer_body_read(const struct transfer_body *b, struct transfer_cursor *c, char *to,
                          size_t n)
{
    size_t done = 0;
    for (;;) {
        struct slice run = next_run(b, c, n - done);
        if (run.n == 0)
            return done;
        memcpy(to + done, run.p, run.n);
        done += run.n;
    }
}

// True if the next n bytes of the body are these.
static bool body_matches(const struct transfer_body *b, struct transfer_cursor *c, const char *p,
                         size_t n)
{
    while (n > 0) {
        struct slice run = next_run(b, c, n);
        if (run.n == 0 || memcmp(run.p, p, run.n) != 0)
            return false;
        p += run.n;
        n -= run.n;
    }
    return true;
}

// ---- libcurl's calls, on the thread

static void moved(struct transfer *x)
{
    x->moved_ns = 0; // the turn's end puts the time in: one look at the clock a turn
}

static size_t on_read(char *to, size_t one, size_t n, void *arg)
{
    struct transfer *x = arg;
    moved(x);
    return transfer_body_read(&x->body, &x->cursor, to, one * n);
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct transfer *x = arg;
    if (origin != SEEK_SET || offset != 0)
        return CURL_SEEKFUNC_CANTSEEK;
    x->cursor = transfer_body_start(&x->body);
    return CURL_SEEKFUNC_OK;
}

static int on_request(void *arg, char *remote, char *local, int remote_port, int local_port)
{
    struct transfer *x = arg;
    x->sent++;
    moved(x);
    return CURL_PREREQFUNC_OK;
}

static bool header_is(struct slice line, const char *name, struct slice *value)
{
    size_t n = strlen(name);
    if (line.n <= n || line.p[n] != ':' || strncasecmp((const char *)line.p, name, n) != 0)
        return false;
    const uint8_t *p = line.p + n + 1, *end = line.p + line.n;
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    while (end > p && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' '))
        end--;
    *value = slice_of(p, (size_t)(end - p));
    return true;
}

static void keep_text(char *to, size_t cap, struct slice s)
{
    size_t n = s.n < cap - 1 ? s.n : cap - 1;
    for (size_t i = 0; i < n; i++)
        to[i] = s.p[i] < 0x20 || s.p[i] >= 0x7f ? '?' : (char)s.p[i];
    to[n] = 0;
}

static uint64_t number_of(struct slice s)
{
    char text[24];
    keep_text(text, sizeof text, s);
    char *end;
    uint64_t n = strtoull(text, &end, 10);
    return *text < '0' || *text > '9' || *end ? UINT64_MAX : n;
}

static void forget_answer(struct transfer *x)
{
    x->status = 0;
    x->etag[0] = x->type[0] = x->region[0] = x->sum[0] = 0;
    x->marked = false;
    x->date = -1;
    x->length = x->total = UINT64_MAX;
}

// "bytes 0-9/100": the total.
static uint64_t total_of(struct slice range)
{
    const uint8_t *slash = memchr(range.p, '/', range.n);
    return slash ? number_of(slice_of(slash + 1, range.n - (size_t)(slash - range.p) - 1))
                 : UINT64_MAX;
}

static size_t on_header(char *p, size_t one, size_t n, void *arg)
{
    struct transfer *x = arg;
    struct slice line = slice_of(p, one * n), v;
    moved(x);
    if (slice_starts(line, slice_str("HTTP/"))) {
        forget_answer(x); // a 100 may have come before
        const char *space = memchr(p, ' ', line.n);
        if (space && (size_t)(space - p) + 4 <= line.n)
            x->status = (unsigned)number_of(slice_of(space + 1, 3)) % 1000;
    } else if (header_is(line, "etag", &v)) {
        bool quoted = v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"';
        keep_text(x->etag, sizeof x->etag, quoted ? slice_of(v.p + 1, v.n - 2) : v);
    } else if (header_is(line, "content-length", &v)) {
        x->length = number_of(v);
    } else if (header_is(line, "content-range", &v)) {
        x->total = total_of(v);
    } else if (header_is(line, "content-type", &v)) {
        keep_text(x->type, sizeof x->type, v);
    } else if (header_is(line, "x-amz-bucket-region", &v)) {
        keep_text(x->region, sizeof x->region, v);
    } else if (header_is(line, "x-amz-meta-varve-crc32c", &v)) {
        keep_text(x->sum, sizeof x->sum, v.n ? v : slice_str("?"));
    } else if (header_is(line, "date", &v)) {
        char text[64];
        keep_text(text, sizeof text, v);
        x->date = (int64_t)curl_getdate(text, NULL);
    }
    if (line.n > 6 && strncasecmp(p, "x-amz-", 6) == 0)
        x->marked = true;
    return line.n;
}

// Appends to the caller's buffer, making room for all that is announced at the first bytes.
static bool take_object(struct transfer *x, const char *p, size_t n)
{
    if (x->status == 200 && x->skip > 0) {
        size_t step = x->skip < n ? (size_t)x->skip : n;
        x->skip -= step;
        p += step;
        n -= step;
    }
    n = x->keep < n ? (size_t)x->keep : n;
    if (n == 0)
        return true;
    uint64_t room = n;
    if (buf_len(x->out) == x->out_start && x->length != UINT64_MAX && x->length > n)
        room = x->length < x->keep ? x->length : x->keep;
    x->e = buf_reserve(x->out, (size_t)room);
    if (x->e != ERR_OK)
        return false;
    buf_put(x->out, p, n);
    if (x->keep != UINT64_MAX)
        x->keep -= n;
    return true;
}

static size_t on_body(char *p, size_t one, size_t n, void *arg)
{
    struct transfer *x = arg;
    n *= one;
    moved(x);
    x->received += n;
    bool good = x->status == 200 || x->status == 206;
    if (good && x->sink == TRANSFER_OUT)
        return take_object(x, p, n) ? n : 0;
    if (good && x->sink == TRANSFER_COMPARE) {
        x->same = x->same && body_matches(&x->body, &x->cursor, p, n);
        return n;
    }
    enum err e = buf_append(&x->answer, p, n);
    if (e != ERR_OK)
        x->e = e;
    return e == ERR_OK ? n : 0;
}

// ---- handles

static CURL *new_handle(struct transfers *h)
{
    CURL *easy = curl_easy_init();
    if (!easy)
        return NULL;
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L); // what is signed is what is sent
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "varve/" VARVE_VERSION);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
    curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BYTES);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, KEEP_IDLE_S);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (h->direct)
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    if (*h->ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, h->ca_file);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    return easy;
}

static void set_request(struct transfer *x, CURL *easy)
{
    curl_easy_setopt(easy, CURLOPT_URL, x->url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, x->headers);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, x->error);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, x);
    curl_easy_setopt(easy, CURLOPT_READDATA, x);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, x);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, x);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L); // takes back the two below
    if (x->has_body) {
        curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)x->body.n);
    } else if (strcmp(x->method, "HEAD") == 0) {
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    }
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, x->method);
}

// ---- a transfer's way

static void clear_answer(struct transfer *x)
{
    x->e = ERR_OK;
    x->code = CURLE_OK;
    x->error[0] = 0;
    x->stalled = false;
    x->sent = 0;
    x->received = 0;
    x->same = true;
    x->cursor = transfer_body_start(&x->body);
    x->out_start = x->out ? buf_len(x->out) : 0;
    if (x->answer.max == 0)
        buf_init(&x->answer, TRANSFER_ANSWER_MAX);
    buf_clear(&x->answer);
    forget_answer(x);
}

static void end(struct transfer *x, enum err e)
{
    x->e = e;
    if (x->out && e != ERR_OK)
        x->out->end = x->out->start + x->out_start;
    x->done(x);
}

// Ends it before it began.
static void refuse(struct transfer *x, enum err e)
{
    clear_answer(x);
    end(x, e);
}

static bool is_over(const struct transfers *h, const struct transfer *x)
{
    return !x->farewell &&
           (h->stopping ||
            (x->cancelled && atomic_load_explicit(x->cancelled, memory_order_relaxed)));
}

static void begin(struct transfers *h, struct transfer *x)
{
    clear_answer(x);
    CURL *easy = h->spare_count ? h->spare[--h->spare_count] : new_handle(h);
    enum err e = easy ? x->prepare(x) : ERR_NO_MEMORY;
    if (e == ERR_OK) {
        x->cursor = transfer_body_start(&x->body);
        set_request(x, easy);
        if (curl_multi_add_handle(h->multi, easy) != CURLM_OK)
            e = ERR_NO_MEMORY;
    }
    if (e != ERR_OK) {
        if (easy)
            h->spare[h->spare_count++] = easy;
        end(x, e);
        return;
    }
    x->easy = easy;
    x->moved_ns = os_mono_ns(h->os);
    x->next = h->active;
    h->active = x;
    h->active_count++;
}

// Takes an active transfer off its handle and the list.
static void detach(struct transfers *h, struct transfer *x)
{
    long connects = 0;
    curl_off_t up = 0;
    curl_easy_getinfo(x->easy, CURLINFO_NUM_CONNECTS, &connects);
    curl_easy_getinfo(x->easy, CURLINFO_SIZE_UPLOAD_T, &up);
    pthread_mutex_lock(&h->lock);
    h->stats.connects += (uint64_t)connects;
    h->stats.bytes_out += (uint64_t)up;
    h->stats.bytes_in += x->received;
    pthread_mutex_unlock(&h->lock);
    curl_multi_remove_handle(h->multi, x->easy);
    VERIFY(h->spare_count < h->connections);
    h->spare[h->spare_count++] = x->easy;
    x->easy = NULL;
    struct transfer **at = &h->active;
    while (*at != x)
        at = &(*at)->next;
    *at = x->next;
    h->active_count--;
}

static void finished(struct transfers *h, CURL *easy, CURLcode code)
{
    struct transfer *x = NULL;
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&x);
    enum err e = x->e; // no room for what came
    x->code = code;
    detach(h, x);
    if (e == ERR_OK && code != CURLE_OK)
        e = ERR_NETWORK;
    end(x, e);
}

// ---- the phases

static void take_arrivals(struct transfers *h)
{
    pthread_mutex_lock(&h->lock);
    struct transfer *x = h->arrivals.first;
    list_init(&h->arrivals);
    h->stopping = h->closing;
    pthread_mutex_unlock(&h->lock);
    while (x) {
        struct transfer *next = x->next;
        list_add(&h->queue, x);
        x = next;
    }
}

static void end_active(struct transfers *h)
{
    uint64_t now = os_mono_ns(h->os), timeout = atomic_load(&h->timeout_ns);
    struct transfer *x = h->active;
    while (x) {
        struct transfer *next = x->next;
        if (x->moved_ns == 0)
            x->moved_ns = now;
        bool stalled = now - x->moved_ns > timeout;
        if (is_over(h, x) || stalled) {
            enum err e = is_over(h, x) ? ERR_CLOSED : ERR_NETWORK;
            x->stalled = e == ERR_NETWORK;
            x->code = CURLE_OPERATION_TIMEDOUT;
            detach(h, x);
            end(x, e); // may queue, but never makes active: `next` stays
        }
        x = next;
    }
}

// Many may wait: not to be done at each turn.
static void end_waiting(struct transfers *h)
{
    struct list old = h->queue;
    struct transfer *over = NULL, *x;
    if (!old.first)
        old.end = &old.first;
    list_init(&h->queue);
    while ((x = list_take(&old))) {
        if (is_over(h, x)) {
            x->next = over;
            over = x;
        } else {
            list_add(&h->queue, x);
        }
    }
    for (struct transfer **at = &h->delayed; (x = *at);) {
        if (is_over(h, x)) {
            *at = x->next;
            x->next = over;
            over = x;
        } else {
            at = &x->next;
        }
    }
    while ((x = over)) {
        over = x->next;
        refuse(x, ERR_CLOSED);
    }
}

static void begin_all(struct transfers *h)
{
    uint64_t now = h->delayed ? os_mono_ns(h->os) : 0;
    for (struct transfer **at = &h->delayed, *x; (x = *at);) {
        if (x->not_before <= now) {
            *at = x->next;
            list_add(&h->queue, x);
        } else {
            at = &x->next;
        }
    }
    while (h->active_count < h->connections && h->queue.first)
        begin(h, list_take(&h->queue));
}

static void results(struct transfers *h)
{
    int left;
    CURLMsg *m;
    while ((m = curl_multi_info_read(h->multi, &left)))
        if (m->msg == CURLMSG_DONE)
            finished(h, m->easy_handle, m->data.result);
}

static void pause_until_ready(struct transfers *h)
{
    if (h->queue.first && h->active_count < h->connections)
        return;
    uint64_t ms = h->active ? TICK_MS : IDLE_MS;
    uint64_t now = h->delayed ? os_mono_ns(h->os) : 0;
    for (struct transfer *x = h->delayed; x; x = x->next) {
        uint64_t wait = x->not_before > now ? (x->not_before - now) / 1000000u + 1 : 0;
        ms = wait < ms ? wait : ms;
    }
    curl_multi_poll(h->multi, NULL, 0, (int)ms, NULL);
}

static bool is_idle(const struct transfers *h)
{
    return !h->active && !h->queue.first && !h->delayed;
}

static void *run(void *arg)
{
    struct transfers *h = arg;
    os_thread_name("objects");
    for (;;) {
        bool cancelled =
            atomic_exchange(&h->cancelled, false); // first, so that all of those arrive
        take_arrivals(h);
        end_active(h);
        if (cancelled || h->stopping)
            end_waiting(h);
        if (h->stopping && is_idle(h))
            return NULL;
        begin_all(h);
        int running;
        curl_multi_perform(h->multi, &running);
        results(h);
        pause_until_ready(h);
    }
}

// ---- from outside

void transfers_queue(struct transfers *h, struct transfer *x)
{
    if (x->not_before > os_mono_ns(h->os)) {
        x->next = h->delayed;
        h->delayed = x;
    } else {
        list_add(&h->queue, x);
    }
}

void transfers_start(struct transfers *h, struct transfer *x)
{
    pthread_mutex_lock(&h->lock);
    list_add(&h->arrivals, x);
    pthread_mutex_unlock(&h->lock);
    curl_multi_wakeup(h->multi);
}

void transfers_cancelled(struct transfers *h)
{
    atomic_store(&h->cancelled, true);
    curl_multi_wakeup(h->multi);
}

void transfers_hurry(struct transfers *h)
{
    if (atomic_load(&h->timeout_ns) > HURRY_NS)
        atomic_store(&h->timeout_ns, HURRY_NS);
    curl_multi_wakeup(h->multi);
}

void transfers_get_stats(struct transfers *h, struct transfers_stats *out)
{
    pthread_mutex_lock(&h->lock);
    *out = h->stats;
    pthread_mutex_unlock(&h->lock);
}

void transfer_release(struct transfer *x)
{
    free(x->url);
    curl_slist_free_all(x->headers);
    buf_release(&x->answer);
    x->url = NULL;
    x->headers = NULL;
}

static void free_parts(struct transfers *h)
{
    for (unsigned i = 0; i < h->spare_count; i++)
        curl_easy_cleanup(h->spare[i]);
    if (h->multi)
        curl_multi_cleanup(h->multi);
    free(h->spare);
    free(h->ca_file);
    pthread_mutex_destroy(&h->lock);
    free(h);
    curl_global_cleanup();
}

enum err transfers_new(struct transfers **out, const struct transfers_options *o,
                       struct errmsg *msg)
{
    *out = NULL;
    // Counted inside libcurl, and since 7.84 safe from any thread.
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return err_set(msg, ERR_NO_MEMORY, "libcurl cannot start");
    struct transfers *h = calloc(1, sizeof *h);
    if (!h) {
        curl_global_cleanup();
        return err_set(msg, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    }
    h->os = o->os;
    h->connections = o->connections;
    h->direct = o->direct;
    atomic_init(&h->timeout_ns, (uint64_t)o->timeout_ms * 1000000u);
    h->ca_file = strdup(o->ca_file);
    h->spare = calloc(o->connections, sizeof *h->spare);
    h->multi = curl_multi_init();
    list_init(&h->arrivals);
    list_init(&h->queue);
    VERIFY(pthread_mutex_init(&h->lock, NULL) == 0);
    bool good = h->ca_file && h->spare && h->multi;
    if (good) {
        curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)o->connections);
        // Signals are for the program's other threads; SIGPIPE of a closed connection for none.
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        good = pthread_create(&h->thread, NULL, run, h) == 0;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    if (!good) {
        free_parts(h);
        return err_set(msg, ERR_NO_MEMORY, "no memory or no thread for transfers");
    }
    *out = h;
    return ERR_OK;
}

void transfers_free(struct transfers *h)
{
    pthread_mutex_lock(&h->lock);
    h->closing = true;
    pthread_mutex_unlock(&h->lock);
    curl_multi_wakeup(h->multi);
    pthread_join(h->thread, NULL);
    free_parts(h);
}
