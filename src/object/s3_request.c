// One request to S3: signing it, reading what its answer means, trying again.
//
// An attempt's outcome is *unsure* when the request went out and no answer told what became of it:
// the connection broke, timed out, or a 5xx came. A put that must be the first under its name has
// then to be looked at (s3.c) before anybody may be told that another was there.
#include "object/s3_int.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>

#define TRIES_MAX       40u
#define TRIES_UNKNOWN   3u // of an endpoint that has never answered, when connecting fails
#define BACKOFF_MS      50u
#define BACKOFF_MAX_MS  5000u
#define SKEW_S          240 // S3 refuses from 900 s on; less proves nothing without a code
#define FETCH_AGAIN_MS  60000u
#define FETCH_FAILED_MS 1000u

// ---- what S3's errors mean

enum act { GIVE_UP, TRY_AGAIN, RENEW_KEYS, SET_CLOCK };

struct meaning {
    const char *code;
    enum err e;
    enum act act;
    const char *hint; // what to do
};

static const struct meaning meanings[] = {
    {"NoSuchKey", ERR_MISSING, GIVE_UP, ""},
    {"NoSuchUpload", ERR_MISSING, GIVE_UP, ""},
    {"NoSuchBucket", ERR_INVALID, GIVE_UP, "create the bucket, or correct bucket_name"},
    {"InvalidBucketName", ERR_INVALID, GIVE_UP, "correct bucket_name"},
    {"PreconditionFailed", ERR_EXISTS, GIVE_UP, ""},
    {"InvalidAccessKeyId", ERR_DENIED, RENEW_KEYS, "check access_key"},
    {"SignatureDoesNotMatch", ERR_DENIED, GIVE_UP, "check secret_key and region"},
    {"AccessDenied", ERR_DENIED, GIVE_UP, "check what the bucket's policy lets these keys do"},
    {"AllAccessDisabled", ERR_DENIED, GIVE_UP, "check the account"},
    {"ExpiredToken", ERR_DENIED, RENEW_KEYS, "get a new session_token"},
    {"InvalidToken", ERR_DENIED, RENEW_KEYS, "check session_token"},
    {"TokenRefreshRequired", ERR_DENIED, RENEW_KEYS, "get a new session_token"},
    {"RequestTimeTooSkewed", ERR_DENIED, SET_CLOCK, "set this machine's clock"},
    {"PermanentRedirect", ERR_INVALID, GIVE_UP, "set region and endpoint to the bucket's"},
    {"TemporaryRedirect", ERR_INVALID, GIVE_UP, "set region and endpoint to the bucket's"},
    {"AuthorizationHeaderMalformed", ERR_INVALID, GIVE_UP, "set region to the bucket's"},
    {"IllegalLocationConstraintException", ERR_INVALID, GIVE_UP, "set region to the bucket's"},
    {"NotImplemented", ERR_UNSUPPORTED, GIVE_UP, "use an endpoint that has it"},
    {"KeyTooLongError", ERR_TOO_BIG, GIVE_UP, "use shorter names"},
    {"EntityTooLarge", ERR_TOO_BIG, GIVE_UP, "put smaller objects"},
    {"QuotaExceeded", ERR_NO_SPACE, GIVE_UP, "raise the quota or delete something"},
    {"XMinioStorageFull", ERR_NO_SPACE, GIVE_UP, "the store is full"},
    {"SlowDown", ERR_NETWORK, TRY_AGAIN, "the store is overloaded"},
    {"InternalError", ERR_NETWORK, TRY_AGAIN, "the store fails; see its own log"},
    {"ServiceUnavailable", ERR_NETWORK, TRY_AGAIN, "the store is overloaded or down"},
    {"RequestTimeout", ERR_NETWORK, TRY_AGAIN, "the network is too slow"},
    {"OperationAborted", ERR_NETWORK, TRY_AGAIN, "others change the same"},
    {"ConditionalRequestConflict", ERR_NETWORK, TRY_AGAIN, "others put the same name"},
    {"BadDigest", ERR_NETWORK, TRY_AGAIN, "something between here and the store alters bytes"},
    {"XAmzContentSHA256Mismatch", ERR_NETWORK, TRY_AGAIN,
     "something between here and the store alters bytes"},
    {"IncompleteBody", ERR_NETWORK, TRY_AGAIN, "something between here and the store cuts bodies"},
};

static const struct meaning *meaning_of(const char *code)
{
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++)
        if (strcmp(meanings[i].code, code) == 0)
            return &meanings[i];
    return NULL;
}

// ---- messages

// `S3 put of "name" (s3://bucket at http://host): what, hint`
static enum act fail(struct s3_request *r, enum err e, enum act act, const char *what,
                     const char *hint)
{
    char name[300];
    if (r->name)
        snprintf(name, sizeof name, " of \"%.256s\"", r->name);
    else
        name[0] = 0;
    r->e = err_set(&r->msg, e, "%s%s (%.120s): %.200s%s%.120s", r->verb, name, r->s3->base.where,
                   what, *hint ? ": " : "", hint);
    return act;
}

static enum act not_s3(struct s3_request *r, const char *what)
{
    return fail(r, ERR_UNSUPPORTED, GIVE_UP, what,
                "this endpoint does not answer as S3 does; check endpoint");
}

// ---- before an attempt

// By the store's clock, as far as it is known.
static int64_t now_ms(const struct s3 *s)
{
    int64_t now = (int64_t)os_wall_ms(s->base.os) + s->clock_offset_ms;
    return now > 0 ? now : 0;
}

// Which takes seconds where nobody answers, and nothing else is done meanwhile: so no more often
// than is of use, for all requests together. Keys that are near their end, or past it by a clock
// that is wrong, are fetched again after a quarter of what is left.
static enum err fetch_keys(struct s3 *s)
{
    struct credentials fresh;
    uint64_t wait_ms = FETCH_FAILED_MS;
    atomic_fetch_add_explicit(&s->fetches, 1, memory_order_relaxed);
    s->fetch_e = credentials_get(&fresh, &s->sources, &s->fetch_why);
    if (s->fetch_e == ERR_OK) {
        s->keys = fresh;
        s->has_keys = true;
        s->generation++;
    }
    uint64_t now = (uint64_t)now_ms(s);
    if (s->has_keys && s->keys.expires_ms > now)
        wait_ms += (s->keys.expires_ms - now) / 4;
    wait_ms = wait_ms < FETCH_AGAIN_MS ? wait_ms : FETCH_AGAIN_MS;
    s->fetch_at_ns = os_mono_ns(s->base.os) + wait_ms * 1000000u;
    return s->fetch_e;
}

static enum err have_keys(struct s3_request *r)
{
    struct s3 *s = r->s3;
    uint64_t now = (uint64_t)now_ms(s);
    if (s->has_keys && !credentials_stale(&s->keys, now))
        return ERR_OK;
    bool good = s->has_keys && now < s->keys.expires_ms;
    enum err e = s->fetch_e;
    if (s->fetch_at_ns <= os_mono_ns(s->base.os)) {
        e = fetch_keys(s);
        if (e && good) // for some minutes yet
            log_event(LOG_WARN, "s3_keys_not_renewed", "error=%s", log_quote(s->fetch_why.text));
    }
    return e && !good ? err_set(&r->msg, e, "%s", s->fetch_why.text) : ERR_OK;
}

static bool add_header(struct s3_request *r, const char *line)
{
    struct curl_slist *l = curl_slist_append(r->x.headers, line);
    if (l)
        r->x.headers = l;
    return l != NULL;
}

// The URL's path as it is signed.
static enum err put_path(struct s3_request *r, struct buf *b)
{
    const struct s3 *s = r->s3;
    enum err e = ERR_OK;
    if (s->in_path)
        e = buf_printf(b, "/%s", s->bucket);
    if (e == ERR_OK && (r->name || !s->in_path))
        e = buf_append(b, "/", 1);
    if (e == ERR_OK && r->name)
        e = url_encode(b, slice_str(r->name), true);
    return e == ERR_OK ? buf_append(b, "", 1) : e;
}

static enum err make_url(struct s3_request *r, const char *path)
{
    const char *query = r->query ? r->query : "";
    size_t n = strlen(r->s3->host) + strlen(path) + strlen(query) + 16;
    free(r->x.url);
    r->x.url = malloc(n);
    if (!r->x.url)
        return ERR_NO_MEMORY;
    snprintf(r->x.url, n, "%s://%s%s%s%s", r->s3->endpoint.scheme, r->s3->host, path,
             *query ? "?" : "", query);
    return ERR_OK;
}

// All headers, Authorization among them.
static enum err make_headers(struct s3_request *r, const char *path)
{
    struct s3 *s = r->s3;
    char date[SIGN_DATE], line[sizeof s->keys.token + 64], range[96] = "";
    sign_date(date, (uint64_t)now_ms(s) / 1000);
    char sum[OBJECT_SUM_TEXT];
    const char *hash = r->payload_hash ? r->payload_hash : EMPTY_HASH;
    if (r->ranged)
        snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)r->offset,
                 (unsigned long long)(r->offset + r->length - 1));
    struct sign_header signed_ones[SIGN_HEADERS];
    size_t n = 0;
    signed_ones[n++] = (struct sign_header){"host", s->host};
    if (r->absent)
        signed_ones[n++] = (struct sign_header){"if-none-match", "*"};
    if (r->ranged)
        signed_ones[n++] = (struct sign_header){"range", range};
    signed_ones[n++] = (struct sign_header){"x-amz-content-sha256", hash};
    signed_ones[n++] = (struct sign_header){"x-amz-date", date};
    object_sum_format(sum, r->sum.crc32c);
    if (r->sum.there)
        signed_ones[n++] = (struct sign_header){"x-amz-meta-varve-crc32c", sum};
    if (*s->keys.token)
        signed_ones[n++] = (struct sign_header){"x-amz-security-token", s->keys.token};
    struct sign_request sr = {r->x.method, path, r->query ? r->query : "", signed_ones, n, hash};
    struct sign_key key = {s->keys.access, s->keys.secret, s->region, "s3"};
    struct buf b;
    buf_init(&b, 4096);
    enum err e = buf_printf(&b, "Authorization: ");
    if (e == ERR_OK)
        e = sign_v4(&b, &key, date, &sr);
    if (e == ERR_OK)
        e = buf_append(&b, "", 1);
    curl_slist_free_all(r->x.headers);
    r->x.headers = NULL;
    bool good = e == ERR_OK && add_header(r, (const char *)buf_head(&b));
    buf_release(&b);
    for (size_t i = 1; i < n && good; i++) { // the first, Host, is libcurl's
        snprintf(line, sizeof line, "%s: %s", signed_ones[i].name, signed_ones[i].value);
        good = add_header(r, line);
    }
    // Expect would cost a round trip before each body; the others are of no use.
    good = good && add_header(r, "Expect:") && add_header(r, "Accept:");
    return e != ERR_OK || good ? e : ERR_NO_MEMORY;
}

static enum err prepare(struct transfer *x)
{
    struct s3_request *r = (struct s3_request *)x;
    x->skip = r->ranged ? r->offset : 0;
    x->keep = r->ranged ? r->length : UINT64_MAX;
    enum err e = have_keys(r);
    r->signed_by = r->s3->generation;
    if (e != ERR_OK)
        return e;
    struct buf path;
    buf_init(&path, 4 * OBJECT_NAME_MAX);
    e = put_path(r, &path);
    if (e == ERR_OK)
        e = make_url(r, (const char *)buf_head(&path));
    if (e == ERR_OK)
        e = make_headers(r, (const char *)buf_head(&path));
    buf_release(&path);
    if (e != ERR_OK)
        return err_set(&r->msg, e, "%s", err_text(e));
    if (r->tries++)
        atomic_fetch_add_explicit(&r->s3->retries, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->s3->requests[r->kind], 1, memory_order_relaxed);
    return ERR_OK;
}

// ---- after an attempt

static enum act judge_broken(struct s3_request *r)
{
    struct transfer *x = &r->x;
    bool known = r->s3->answered;
    char what[200];
    snprintf(what, sizeof what, "%.180s", *x->error ? x->error : curl_easy_strerror(x->code));
    if (x->stalled)
        snprintf(what, sizeof what, "%s", "no byte moved for too long");
    switch (x->code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return fail(r, ERR_NETWORK, GIVE_UP, what,
                    "the endpoint's certificate is not trusted; set ca_file to its authority's");
    case CURLE_SSL_CONNECT_ERROR:
        return fail(r, ERR_NETWORK, known ? TRY_AGAIN : GIVE_UP, what,
                    "no TLS there; should endpoint be http://?");
    case CURLE_COULDNT_RESOLVE_HOST:
        return fail(r, ERR_NETWORK, TRY_AGAIN, what, "check endpoint");
    case CURLE_COULDNT_CONNECT:
        return fail(r, ERR_NETWORK, TRY_AGAIN, what, "is it running? check endpoint");
    case CURLE_UNSUPPORTED_PROTOCOL: // something came that is not HTTP
    case CURLE_WEIRD_SERVER_REPLY:
        return known ? fail(r, ERR_NETWORK, TRY_AGAIN, what, "") : not_s3(r, what);
    case CURLE_PARTIAL_FILE:
        if (r->x.sink != TRANSFER_ANSWER)
            return fail(r, ERR_DAMAGED, TRY_AGAIN, what, "the body was cut short");
        return fail(r, ERR_NETWORK, TRY_AGAIN, what, "");
    default:
        return fail(r, ERR_NETWORK, TRY_AGAIN, what, "");
    }
}

static enum act judge_clock(struct s3_request *r)
{
    struct s3 *s = r->s3;
    int64_t now = (int64_t)os_wall_ms(s->base.os);
    char what[96];
    if (r->x.date < 0)
        return fail(r, ERR_DENIED, GIVE_UP, "the clocks differ", "set this machine's clock");
    int64_t offset = r->x.date * 1000 - now;
    snprintf(what, sizeof what, "this machine's clock and the store's differ by %lld s",
             (long long)(offset / 1000));
    enum act act = fail(r, ERR_DENIED, SET_CLOCK, what, "set the clock");
    if (r->clock_set)
        return GIVE_UP;
    r->clock_set = true;
    s->clock_offset_ms = offset;
    log_event(LOG_WARN, "s3_clock",
              "ahead_s=%lld effect=\"requests carry the store's time\" remedy=\"set this machine's "
              "clock\"",
              (long long)(offset / 1000));
    return act;
}

// True if the attempt was signed with a time that the answer's own is far from.
static bool clocks_differ(const struct s3_request *r)
{
    int64_t now = ((int64_t)os_wall_ms(r->s3->base.os) + r->s3->clock_offset_ms) / 1000;
    return r->x.date >= 0 && llabs(r->x.date - now) > SKEW_S;
}

static enum act judge_code(struct s3_request *r, const struct xml_answer *xml)
{
    const struct meaning *m = meaning_of(xml->code);
    char what[200];
    snprintf(what, sizeof what, "%u %s%s%.120s", r->x.status, xml->code, *xml->message ? ", " : "",
             xml->message);
    snprintf(r->code, sizeof r->code, "%s", xml->code);
    r->s3->answered = true;
    if (strcmp(xml->code, "NoSuchKey") == 0 || strcmp(xml->code, "NoSuchUpload") == 0)
        r->s3->bucket_seen = true;
    if (!m) {
        bool again = r->x.status >= 500 || r->x.status == 429 || r->x.status == 200;
        return fail(r, again ? ERR_NETWORK : ERR_INVALID, again ? TRY_AGAIN : GIVE_UP, what, "");
    }
    char hint[160];
    const char *region = *xml->region ? xml->region : r->x.region;
    const char *source = m->e == ERR_DENIED && r->s3->has_keys ? r->s3->keys.source : "";
    if (m->e == ERR_INVALID && *region)
        snprintf(hint, sizeof hint, "the bucket is in region %s: %s", region, m->hint);
    else
        snprintf(hint, sizeof hint, "%s%s%s%s", m->hint, *source ? " (keys from " : "", source,
                 *source ? ")" : "");
    enum act act = fail(r, m->e, m->act, what, hint);
    return act == SET_CLOCK ? judge_clock(r) : act;
}

// An error without S3's XML: as HEAD gives them, or from something that is not S3.
static enum act judge_status(struct s3_request *r)
{
    struct transfer *x = &r->x;
    char what[160];
    snprintf(what, sizeof what, "status %u, %s", x->status, *x->type ? x->type : "no content type");
    bool head = strcmp(x->method, "HEAD") == 0;
    if (x->status >= 500 || x->status == 429 || x->status == 408)
        return fail(r, ERR_NETWORK, TRY_AGAIN, what, "the store or something before it fails");
    if (x->status == 412)
        return fail(r, ERR_EXISTS, GIVE_UP, what, "");
    if (x->status == 403 && clocks_differ(r))
        return judge_clock(r);
    if (x->status >= 300 && x->status < 400 && *x->region) {
        snprintf(what, sizeof what, "the bucket is in region %s", x->region);
        return fail(r, ERR_INVALID, GIVE_UP, what, "set region and endpoint to the bucket's");
    }
    if (head && x->status == 404)
        return fail(r, ERR_MISSING, GIVE_UP, what, "");
    if (head && x->status == 403)
        return fail(r, ERR_DENIED, GIVE_UP, what, "check the keys and what they may do");
    return not_s3(r, what);
}

static enum act judge_error(struct s3_request *r)
{
    struct xml_answer xml = {0};
    enum act act;
    if (buf_len(&r->x.answer) > 0 && xml_parse(&xml, buf_slice(&r->x.answer), NULL) == ERR_OK &&
        xml.root == XML_ERROR && *xml.code)
        act = judge_code(r, &xml);
    else
        act = judge_status(r);
    xml_release(&xml);
    return act;
}

// Status 2xx: what the answer must have to be S3's.
static enum act judge_good(struct s3_request *r)
{
    struct transfer *x = &r->x;
    r->e = ERR_OK;
    r->msg.text[0] = 0;
    if (r->expects != XML_OTHER) {
        struct errmsg why = {"it is XML of another kind"};
        if (xml_parse(&r->xml, buf_slice(&x->answer), &why) != ERR_OK ||
            (r->xml.root != r->expects && r->xml.root != XML_ERROR)) {
            xml_release(&r->xml);
            char what[200];
            snprintf(what, sizeof what, "status %u with an answer not understood (%.60s): %.80s",
                     x->status, *x->type ? x->type : "no content type", why.text);
            return not_s3(r, what);
        }
        if (r->xml.root == XML_ERROR) { // a 200 was sent before the outcome was known
            enum act act = judge_code(r, &r->xml);
            xml_release(&r->xml);
            return act;
        }
        r->has_xml = true;
    } else if (strcmp(x->method, "DELETE") != 0 && !x->marked && !*x->etag) {
        return not_s3(r, "the answer has none of the headers that S3 gives");
    }
    r->s3->answered = r->s3->bucket_seen = true;
    return GIVE_UP;
}

static enum act judge(struct s3_request *r)
{
    struct transfer *x = &r->x;
    switch (x->e) {
    case ERR_OK:
        break;
    case ERR_NETWORK:
        if (x->code != CURLE_OK)
            return judge_broken(r);
        r->e = x->e; // keys could not be fetched; the message is there
        return TRY_AGAIN;
    case ERR_TOO_BIG:
        return fail(r, ERR_TOO_BIG, GIVE_UP, "what came does not fit its buffer", "");
    case ERR_CLOSED:
        return fail(r, ERR_CLOSED, GIVE_UP, "cancelled", "");
    default:
        r->e = x->e;
        if (!r->msg.text[0])
            fail(r, x->e, GIVE_UP, err_text(x->e), "");
        return GIVE_UP;
    }
    if (r->ranged && x->status == 416) { // the object ends before
        r->e = ERR_OK;
        return GIVE_UP;
    }
    bool good = x->status >= 200 && x->status < 300;
    return good ? judge_good(r) : judge_error(r);
}

// ---- trying again

// Full jitter: anything up to a bound that doubles. Source: M. Brooker, "Exponential Backoff And
// Jitter", AWS Architecture Blog, 2015.
static uint64_t backoff_ns(struct s3_request *r)
{
    unsigned doubled = r->tries < 8 ? r->tries : 8;
    uint64_t bound_ms = (uint64_t)BACKOFF_MS << doubled, random;
    if (bound_ms > BACKOFF_MAX_MS)
        bound_ms = BACKOFF_MAX_MS;
    os_random(r->s3->base.os, &random, sizeof random);
    return random % (bound_ms * 1000000u);
}

static bool may_retry(const struct s3_request *r, uint64_t now)
{
    bool unknown = !r->s3->answered && r->x.sent == 0;
    return !r->once && !atomic_load(&r->s3->hurries) &&
           r->tries < (unknown ? TRIES_UNKNOWN : TRIES_MAX) && now - r->begun_ns < r->s3->retry_ns;
}

// True if the request was queued again.
static bool again(struct s3_request *r, enum act act)
{
    struct s3 *s = r->s3;
    uint64_t now = os_mono_ns(s->base.os);
    if (act == GIVE_UP)
        return false;
    if (act == RENEW_KEYS) {
        bool other = !r->renewed && !(s->sources.access_key && *s->sources.access_key);
        r->renewed = true;
        if (!other)
            return false;
        // Of many that were refused at once, one fetches them.
        if (r->signed_by == s->generation && fetch_keys(s) != ERR_OK)
            return false;
    }
    if (act == TRY_AGAIN && !may_retry(r, now)) {
        struct errmsg last = r->msg;
        err_set(&r->msg, r->e, "%.400s (given up after %u tries in %.1f s)", last.text, r->tries,
                (double)(now - r->begun_ns) / 1e9);
        return false;
    }
    r->x.not_before = act == TRY_AGAIN ? now + backoff_ns(r) : 0;
    bool keyless = r->x.e == ERR_NETWORK && r->x.code == CURLE_OK;
    if (keyless && s->fetch_at_ns > r->x.not_before)
        r->x.not_before = s->fetch_at_ns;
    transfers_queue(s->transfers, &r->x);
    return true;
}

static void attempt_done(struct transfer *x)
{
    struct s3_request *r = (struct s3_request *)x;
    bool told = x->e == ERR_OK && x->status < 500;
    // What libcurl sent again by itself may have been carried out the first time.
    if ((x->sent > 0 && !told) || x->sent > 1)
        r->unsure = true;
    r->code[0] = 0;
    enum act act = judge(r);
    if (r->e != ERR_OK && r->x.out)
        r->x.out->end = r->x.out->start + r->x.out_start; // no error page among the bytes
    if (!again(r, act))
        r->done(r);
}

static void set_up(struct s3_request *r)
{
    r->x.prepare = prepare;
    r->x.done = attempt_done;
    r->begun_ns = os_mono_ns(r->s3->base.os);
}

void s3_request_start(struct s3_request *r)
{
    set_up(r);
    transfers_start(r->s3->transfers, &r->x);
}

void s3_request_queue(struct s3_request *r)
{
    set_up(r);
    transfers_queue(r->s3->transfers, &r->x);
}

void s3_request_release(struct s3_request *r)
{
    if (r->has_xml)
        xml_release(&r->xml);
    r->has_xml = false;
    transfer_release(&r->x);
}
