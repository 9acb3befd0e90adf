// S3: each call as one request or a few. What is more than one request:
//
//   put            above multipart_bytes: begin, parts (at once), complete; given up if any fails.
//                  If completing was answered badly or not at all, the object itself is asked for:
//                  its ETag tells whether it is this one
//   put_absent     always one request: who may put parts "if absent" differs between stores. If an
//                  answer was lost and then "it is there" comes, the object is read and compared
//   head           HEAD's answers have no body, so why it failed is found out by a get of one byte
//   list           a request for each 1000 names; each begins after the last name of the one
//                  before, so no state is kept at the store. A page without names that is not the
//                  last (S3 gives such where many names were deleted of a bucket that keeps
//                  versions) is followed by its token
#include "object/s3_int.h"
#include "base/assert.h"
#include "base/os_net.h"

#include <stdio.h>
#include <stdlib.h>

#define CONNECTIONS     16u
#define CONNECTIONS_MAX 1024u
#define TIMEOUT_MS      10000u
#define RETRY_MS        60000u
#define PART_BYTES      (8ull << 20)
#define PART_LEAST      (5ull << 20) // S3 takes no smaller ones, but for the last
#define PARTS_MAX       10000u
#define LIST_PAGE       1000u
#define EMPTY_MAX       10000u // pages of a listing without a name, in a row

#define UPLOAD_QUERY (3 * sizeof((struct xml_answer *)0)->upload_id + 16)

struct part {
    struct s3_request r; // the first member
    struct s3_op *op;
    char hash[SHA256_HEX];
    char query[UPLOAD_QUERY + 32];
};

// A call under way.
struct s3_op {
    struct s3_request r; // the first member: the request of the moment
    struct object_call *call;
    atomic_bool cancelled;
    char name[OBJECT_NAME_MAX + 1];
    char hash[SHA256_HEX];
    struct transfer_body body; // PUT, PUT_ABSENT
    enum err e;                // what the call will end with, while more requests tidy up
    struct errmsg msg;
    // In parts.
    struct part *parts;
    unsigned part_count;
    unsigned parts_left;
    char upload[UPLOAD_QUERY]; // "uploadId=...", encoded
    struct buf complete;       // the list of parts, as XML
    struct slice complete_part;
    char etag[64]; // that the object will have, "" if not known
};

static struct s3 *s3_of(struct object_store *s)
{
    return (struct s3 *)s;
}

// ---- a call's end

static void op_free(struct s3_op *op)
{
    for (unsigned i = 0; i < op->part_count; i++)
        s3_request_release(&op->parts[i].r);
    free(op->parts);
    buf_release(&op->complete);
    s3_request_release(&op->r);
    free(op);
}

static void op_end(struct s3_op *op, enum err e, const struct errmsg *msg)
{
    struct object_store *s = &op->r.s3->base;
    struct object_call *c = op->call;
    pthread_mutex_lock(&s->lock);
    c->own.state = NULL; // no cancelling from here on
    pthread_mutex_unlock(&s->lock);
    c->e = e;
    if (e != ERR_OK)
        c->msg = *msg;
    op_free(op);
    object_finish(s, c);
}

static void ended(struct s3_request *r)
{
    op_end((struct s3_op *)r, r->e, &r->msg);
}

// Makes the op's request ready for another one.
static struct s3_request *renew(struct s3_op *op, enum s3_kind kind, const char *method,
                                void (*done)(struct s3_request *))
{
    struct s3 *s = op->r.s3;
    s3_request_release(&op->r);
    op->r = (struct s3_request){
        .s3 = s,
        .kind = kind,
        .verb = object_op_name(op->call->op),
        .name = op->name,
        .done = done,
        .x = {.method = method, .cancelled = &op->cancelled},
    };
    return &op->r;
}

// ---- put, and put_absent with a second look

// Is what is there what was put?
static void compared(struct s3_request *r)
{
    struct s3_op *op = (struct s3_op *)r;
    if (r->e == ERR_OK) {
        bool same = r->x.same && r->x.received == op->body.n;
        op->e = same ? ERR_OK : ERR_EXISTS;
        if (!same)
            err_set(&op->msg, ERR_EXISTS, "put if absent of \"%.256s\" (%.120s): another is there",
                    op->name, r->s3->base.where);
    } else if (r->e != ERR_MISSING && op->e == ERR_EXISTS) {
        op->e = r->e; // whose it is could not be found out
        op->msg = r->msg;
    }
    op_end(op, op->e, &op->msg);
}

static void put_absent_done(struct s3_request *r)
{
    struct s3_op *op = (struct s3_op *)r;
    bool look = r->unsure && (r->e == ERR_EXISTS || r->e == ERR_NETWORK);
    if (!look) {
        ended(r);
        return;
    }
    op->e = r->e;
    op->msg = r->msg;
    r = renew(op, S3_get, "GET", compared);
    r->x.sink = TRANSFER_COMPARE;
    r->x.body = op->body;
    s3_request_queue(r);
}

static enum err payload_hash(const struct s3 *s, const struct transfer_body *b,
                             char hash[SHA256_HEX])
{
    if (s->hashes_payload)
        return sha256_hex(hash, b->parts, b->count, b->from, b->n);
    snprintf(hash, SHA256_HEX, "%s", UNSIGNED_HASH);
    return ERR_OK;
}

// ---- put in parts

static void upload_ended(struct s3_request *r)
{
    struct s3_op *op = (struct s3_op *)r;
    op_end(op, op->e, &op->msg);
}

// Gives the parts that are there up, so that nobody has to pay for them, and ends with op->e.
static void give_up(struct s3_op *op)
{
    if (!*op->upload)
        return op_end(op, op->e, &op->msg);
    struct s3_request *r = renew(op, S3_multipart, "DELETE", upload_ended);
    r->query = op->upload;
    r->once = true;
    r->x.farewell = true;
    s3_request_queue(r);
}

// Whether the object there is what completing would have made.
static void looked_for(struct s3_request *r)
{
    struct s3_op *op = (struct s3_op *)r;
    bool ours = r->e == ERR_OK && r->x.length == op->body.n &&
                (!*op->etag || strcmp(r->x.etag, op->etag) == 0);
    if (ours)
        op_end(op, ERR_OK, NULL);
    else
        give_up(op);
}

static void completed(struct s3_request *r)
{
    struct s3_op *op = (struct s3_op *)r;
    if (r->e == ERR_OK)
        return ended(r);
    op->e = r->e == ERR_MISSING ? ERR_NETWORK : r->e; // NoSuchUpload is no missing object
    op->msg = r->msg;
    if (!r->unsure && r->tries <= 1 && r->e != ERR_MISSING)
        return give_up(op);
    r = renew(op, S3_head, "HEAD", looked_for);
    s3_request_queue(r);
}

// The ETag of an object in parts, as S3, Ceph and MinIO make it: MD5 of the parts' MD5s, and their
// number. Where parts have other ETags (encryption) it is not known.
static void foretell_etag(struct s3_op *op)
{
    struct buf digests;
    buf_init(&digests, 16 * PARTS_MAX);
    for (unsigned i = 0; i < op->part_count; i++) {
        const char *etag = op->parts[i].r.x.etag;
        uint8_t digest[16];
        if (strlen(etag) != 32 || strspn(etag, "0123456789abcdef") != 32)
            break;
        for (size_t j = 0; j < 16; j++) {
            char two[3] = {etag[2 * j], etag[2 * j + 1], 0};
            digest[j] = (uint8_t)strtoul(two, NULL, 16);
        }
        if (buf_append(&digests, digest, sizeof digest) != ERR_OK)
            break;
    }
    uint8_t whole[16];
    char hex[33];
    if (buf_len(&digests) == 16u * op->part_count && md5_of(whole, buf_slice(&digests)) == ERR_OK) {
        hex_of(hex, whole, sizeof whole);
        snprintf(op->etag, sizeof op->etag, "%s-%u", hex, op->part_count);
    }
    buf_release(&digests);
}

static enum err list_parts(struct s3_op *op)
{
    enum err e = buf_printf(&op->complete, "<CompleteMultipartUpload>");
    for (unsigned i = 0; i < op->part_count && e == ERR_OK; i++)
        e = buf_printf(&op->complete,
                       "<Part><PartNumber>%u</PartNumber><ETag>&quot;%s&quot;</ETag></Part>", i + 1,
                       op->parts[i].r.x.etag);
    if (e == ERR_OK)
        e = buf_printf(&op->complete, "</CompleteMultipartUpload>");
    op->complete_part = buf_slice(&op->complete);
    if (e == ERR_OK)
        e = sha256_hex(op->hash, &op->complete_part, 1, 0, op->complete_part.n);
    return e;
}

static void complete(struct s3_op *op)
{
    foretell_etag(op);
    enum err e = list_parts(op);
    if (e != ERR_OK) {
        op->e = err_set(&op->msg, e, "%s", err_text(e));
        return give_up(op);
    }
    struct s3_request *r = renew(op, S3_multipart, "POST", completed);
    r->query = op->upload;
    r->payload_hash = op->hash;
    r->expects = XML_COMPLETED;
    r->x.has_body = true;
    r->x.body = (struct transfer_body){&op->complete_part, 1, 0, op->complete_part.n};
    s3_request_queue(r);
}

static void part_done(struct s3_request *r)
{
    struct s3_op *op = ((struct part *)r)->op;
    enum err e = r->e;
    if (e == ERR_OK && (!*r->x.etag || strpbrk(r->x.etag, "<>&\"")))
        e = err_set(&r->msg, ERR_UNSUPPORTED, "put of \"%.256s\": a part got no proper ETag",
                    op->name);
    if (e != ERR_OK && op->e == ERR_OK) { // the first failure counts, and ends the other parts
        op->e = e;
        op->msg = r->msg;
        atomic_store(&op->cancelled, true);
        transfers_cancelled(r->s3->transfers);
    }
    if (--op->parts_left > 0)
        return;
    if (op->e != ERR_OK)
        give_up(op);
    else
        complete(op);
}

static void upload_begun(struct s3_request *r)
{
    struct s3_op *op = (struct s3_op *)r;
    if (r->e != ERR_OK)
        return ended(r);
    struct buf id;
    buf_init(&id, sizeof op->upload);
    enum err e = *r->xml.upload_id ? url_encode(&id, slice_str(r->xml.upload_id), false)
                                   : err_set(&op->msg, ERR_UNSUPPORTED, "put: no UploadId came");
    if (e == ERR_OK)
        snprintf(op->upload, sizeof op->upload, "uploadId=%.*s", (int)buf_len(&id),
                 (const char *)buf_head(&id));
    buf_release(&id);
    if (e != ERR_OK)
        return op_end(op, e, &op->msg);
    op->parts_left = op->part_count;
    for (unsigned i = 0; i < op->part_count; i++) {
        struct part *p = &op->parts[i];
        snprintf(p->query, sizeof p->query, "partNumber=%u&%s", i + 1, op->upload);
        s3_request_queue(&p->r);
    }
}

// Splits the body, hashes each part.
static enum err make_parts(struct s3_op *op)
{
    struct s3 *s = op->r.s3;
    uint64_t n = op->body.n;
    uint64_t each = s->multipart_bytes > PART_BYTES ? PART_BYTES : s->multipart_bytes;
    if (each < n / PARTS_MAX + 1)
        each = n / PARTS_MAX + 1;
    unsigned count = (unsigned)((n + each - 1) / each);
    op->parts = calloc(count, sizeof *op->parts);
    if (!op->parts)
        return ERR_NO_MEMORY;
    op->part_count = count;
    for (unsigned i = 0; i < count; i++) {
        struct part *p = &op->parts[i];
        uint64_t from = i * each;
        struct transfer_body body = op->body;
        body.from = from;
        body.n = n - from < each ? n - from : each;
        p->op = op;
        p->r = (struct s3_request){
            .s3 = s,
            .kind = S3_multipart,
            .verb = "put of a part",
            .name = op->name,
            .query = p->query,
            .payload_hash = p->hash,
            .done = part_done,
            .x = {.method = "PUT", .has_body = true, .body = body, .cancelled = &op->cancelled},
        };
        enum err e = payload_hash(s, &body, p->hash);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

static enum err begin_upload(struct s3_op *op)
{
    enum err e = make_parts(op);
    if (e != ERR_OK)
        return e;
    buf_init(&op->complete, 256u * PARTS_MAX);
    struct s3_request *r = renew(op, S3_multipart, "POST", upload_begun);
    r->query = "uploads=";
    r->sum = op->call->sum;
    r->expects = XML_INITIATED;
    r->x.has_body = true;
    return ERR_OK;
}

static enum err begin_put(struct s3_op *op)
{
    struct object_call *c = op->call;
    struct s3 *s = op->r.s3;
    bool absent = c->op == OBJECT_PUT_ABSENT;
    op->body = (struct transfer_body){c->parts, c->count, 0, object_parts_size(c->parts, c->count)};
    if (!absent && op->body.n > s->multipart_bytes)
        return begin_upload(op);
    enum err e = payload_hash(s, &op->body, op->hash);
    struct s3_request *r = renew(op, S3_put, "PUT", absent ? put_absent_done : ended);
    r->absent = absent;
    r->sum = c->sum;
    r->payload_hash = op->hash;
    r->x.has_body = true;
    r->x.body = op->body;
    return e;
}

// ---- get, head, delete

// Of an answer that is good.
static void take_sum(struct s3_request *r)
{
    struct s3_op *op = (struct s3_op *)r;
    struct object_sum *sum = &op->call->sum;
    if (!*r->x.sum)
        return;
    sum->there = object_sum_parse(slice_str(r->x.sum), &sum->crc32c);
    if (sum->there)
        return;
    r->e =
        err_set(&r->msg, ERR_DAMAGED,
                "get of \"%.256s\" (%.120s): x-amz-meta-varve-crc32c is not 8 hexadecimal digits",
                op->name, r->s3->base.where);
    if (r->x.out)
        r->x.out->end = r->x.out->start + r->x.out_start;
}

static void got(struct s3_request *r)
{
    struct s3_op *op = (struct s3_op *)r;
    struct transfer *x = &r->x;
    if (r->e == ERR_OK)
        op->call->size = x->total != UINT64_MAX    ? x->total
                         : x->length != UINT64_MAX ? x->length
                                                   : x->received;
    if (r->e == ERR_OK && x->status == 416 && x->total == UINT64_MAX)
        op->call->size = 0; // not told
    else if (r->e == ERR_OK)
        take_sum(r);
    ended(r);
}

// The reason why HEAD failed, from a request whose answer has a body.
static void head_explained(struct s3_request *r)
{
    struct s3_op *op = (struct s3_op *)r;
    if (r->e == ERR_OK && r->x.total != UINT64_MAX)
        op->call->size = r->x.total; // it is there after all
    ended(r);
}

static void head_done(struct s3_request *r)
{
    struct s3_op *op = (struct s3_op *)r;
    bool plain = r->e == ERR_OK || r->e == ERR_NETWORK || r->e == ERR_CLOSED;
    if (r->e == ERR_OK && r->x.length != UINT64_MAX)
        op->call->size = r->x.length;
    if (r->e == ERR_OK && op->call->op != OBJECT_HEAD)
        take_sum(r);
    if (plain || (r->e == ERR_MISSING && r->s3->bucket_seen))
        return ended(r);
    r = renew(op, S3_get, "GET", head_explained);
    r->ranged = true;
    r->length = 1;
    s3_request_queue(r);
}

static void deleted(struct s3_request *r)
{
    op_end((struct s3_op *)r, r->e == ERR_MISSING ? ERR_OK : r->e, &r->msg);
}

static void begin_get(struct s3_op *op)
{
    struct object_call *c = op->call;
    bool ranged = c->op == OBJECT_GET_RANGE;
    if (ranged && (c->length == 0 || c->offset >= INT64_MAX)) { // no range says this
        renew(op, S3_head, "HEAD", head_done);
        return;
    }
    struct s3_request *r = renew(op, S3_get, "GET", got);
    r->x.sink = TRANSFER_OUT;
    r->x.out = c->out;
    r->ranged = ranged;
    r->offset = c->offset;
    r->length = c->length < INT64_MAX - c->offset ? c->length : INT64_MAX - c->offset;
}

// ---- starting and cancelling

static enum err begin(struct s3_op *op)
{
    switch (op->call->op) {
    case OBJECT_PUT:
    case OBJECT_PUT_ABSENT:
        return begin_put(op);
    case OBJECT_GET:
    case OBJECT_GET_RANGE:
        begin_get(op);
        return ERR_OK;
    case OBJECT_HEAD:
        renew(op, S3_head, "HEAD", head_done);
        return ERR_OK;
    case OBJECT_DELETE:
        renew(op, S3_delete, "DELETE", deleted);
        return ERR_OK;
    case OBJECT_OPS:
        break;
    }
    return ERR_INVALID;
}

static void s3_start(struct object_store *s, struct object_call *c, const char *full)
{
    struct s3_op *op = calloc(1, sizeof *op);
    enum err e = op ? ERR_OK : ERR_NO_MEMORY;
    if (op) {
        op->call = c;
        op->r.s3 = s3_of(s);
        snprintf(op->name, sizeof op->name, "%s", full);
        e = begin(op);
    }
    if (e != ERR_OK) {
        if (op)
            op_free(op);
        c->e = err_set(&c->msg, e, "%s", err_text(e));
        object_finish(s, c);
        return;
    }
    pthread_mutex_lock(&s->lock);
    c->own.state = op;
    pthread_mutex_unlock(&s->lock);
    s3_request_start(&op->r);
}

static void s3_cancel(struct object_store *s, struct object_call *c)
{
    struct s3_op *op = c->own.state;
    if (!op)
        return;
    atomic_store(&op->cancelled, true);
    transfers_cancelled(s3_of(s)->transfers);
}

// ---- list

struct page {
    struct s3_request r; // the first member
    bool finished;       // under the store's lock
};

static void page_done(struct s3_request *r)
{
    struct object_store *s = &r->s3->base;
    pthread_mutex_lock(&s->lock);
    ((struct page *)r)->finished = true;
    pthread_cond_broadcast(&s->finished);
    pthread_mutex_unlock(&s->lock);
}

// With a token `after` does not count.
static enum err page_query(struct buf *b, const char *prefix, const char *after, const char *token,
                           uint64_t max)
{
    enum err e = *token ? buf_printf(b, "continuation-token=") : ERR_OK;
    if (e == ERR_OK)
        e = url_encode(b, slice_str(token), false);
    if (e == ERR_OK)
        e = buf_printf(b, "%sencoding-type=url&list-type=2&max-keys=%u&prefix=", *token ? "&" : "",
                       (unsigned)(max < LIST_PAGE ? max : LIST_PAGE));
    if (e == ERR_OK)
        e = url_encode(b, slice_str(prefix), false);
    if (e == ERR_OK && *after && !*token) {
        e = buf_printf(b, "&start-after=");
        e = e ? e : url_encode(b, slice_str(after), false);
    }
    return e == ERR_OK ? buf_append(b, "", 1) : e;
}

static enum err fetch_page(struct object_store *s, struct page *p, const char *query)
{
    *p = (struct page){.r = {
                           .s3 = s3_of(s),
                           .kind = S3_list,
                           .verb = "list",
                           .query = query,
                           .expects = XML_LIST,
                           .done = page_done,
                           .x = {.method = "GET"},
                       }};
    s3_request_start(&p->r);
    pthread_mutex_lock(&s->lock);
    while (!p->finished)
        pthread_cond_wait(&s->finished, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return p->r.e;
}

// Hands a page's names on; `last`, OBJECT_NAME_MAX + 1 bytes, becomes the last of them.
static enum err take_page(struct object_store *s, const struct xml_answer *xml, const char *prefix,
                          char *last, uint64_t *left, object_list_fn fn, void *arg, bool *more,
                          struct errmsg *msg)
{
    const uint8_t *p = buf_head(&xml->names);
    for (size_t i = 0; i < xml->count && *more; i++) {
        uint64_t size = load64(p);
        const char *name = (const char *)p + sizeof size;
        size_t n = strlen(name);
        p += sizeof size + n + 1;
        if (n > OBJECT_NAME_MAX || strcmp(name, last) <= 0 ||
            strncmp(name, prefix, strlen(prefix)) != 0)
            return err_set(
                msg, ERR_UNSUPPORTED,
                "list (%.120s): \"%.128s\" came after \"%.128s\": this endpoint does not "
                "list in order, or not what was asked for",
                s->where, name, last);
        memcpy(last, name, n + 1);
        *more = fn(arg, name, size) && --*left > 0;
    }
    if (*more && xml->truncated && xml->count == 0 && !*xml->next_token)
        return err_set(msg, ERR_UNSUPPORTED, "list (%.120s): a page is empty and not the last",
                       s->where);
    *more = *more && xml->truncated;
    return ERR_OK;
}

static enum err s3_list(struct object_store *s, const char *prefix, const char *after, uint64_t max,
                        object_list_fn fn, void *arg, struct errmsg *msg)
{
    struct page *p = malloc(sizeof *p);
    struct buf query;
    buf_init(&query, 8 * OBJECT_NAME_MAX);
    char last[OBJECT_NAME_MAX + 1];
    snprintf(last, sizeof last, "%s", after);
    char token[sizeof p->r.xml.next_token] = "";
    unsigned empty = 0; // pages in a row
    bool more = true;
    enum err e = p ? ERR_OK : err_set(msg, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    while (e == ERR_OK && more) {
        buf_clear(&query);
        e = page_query(&query, prefix, last, token, max);
        if (e != ERR_OK)
            break;
        e = fetch_page(s, p, (const char *)buf_head(&query));
        if (e != ERR_OK && msg)
            *msg = p->r.msg;
        if (e == ERR_OK)
            e = take_page(s, &p->r.xml, prefix, last, &max, fn, arg, &more, msg);
        bool none = e == ERR_OK && p->r.xml.count == 0;
        snprintf(token, sizeof token, "%s", none ? p->r.xml.next_token : "");
        empty = none ? empty + 1 : 0;
        s3_request_release(&p->r);
        if (more && empty > EMPTY_MAX)
            e = err_set(msg, ERR_UNSUPPORTED, "list (%.120s): %u pages in a row are empty",
                        s->where, empty);
    }
    buf_release(&query);
    free(p);
    return e;
}

// ---- the store

static void s3_stats(struct object_store *base, struct object_stats *out)
{
    struct s3 *s = s3_of(base);
    struct transfers_stats h;
    transfers_get_stats(s->transfers, &h);
#define X(name) out->name = atomic_load_explicit(&s->requests[S3_##name], memory_order_relaxed);
    OBJECT_REQUESTS(X)
#undef X
    out->retries = atomic_load_explicit(&s->retries, memory_order_relaxed);
    out->credentials = atomic_load_explicit(&s->fetches, memory_order_relaxed);
    out->connects = h.connects;
    out->bytes_out = h.bytes_out;
    out->bytes_in = h.bytes_in;
}

static void free_texts(struct s3 *s)
{
    const char *texts[] = {s->sources.access_key, s->sources.secret_key, s->sources.token,
                           s->sources.profile};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free((void *)(uintptr_t)texts[i]);
}

static void s3_close(struct object_store *base)
{
    struct s3 *s = s3_of(base);
    transfers_free(s->transfers);
    free_texts(s);
    object_base_release(base);
    free(s);
}

static void s3_hurry(struct object_store *base)
{
    atomic_store(&s3_of(base)->hurries, true);
    transfers_hurry(s3_of(base)->transfers);
}

static const struct object_ops s3_ops = {
    .close = s3_close,
    .hurry = s3_hurry,
    .start = s3_start,
    .cancel = s3_cancel,
    .stats = s3_stats,
    .list = s3_list,
};

static const char *text_or(const char *text, const char *other)
{
    return text && *text ? text : other;
}

static enum err set_address(struct s3 *s, const struct object_s3_options *o, struct errmsg *msg)
{
    const char *bucket = text_or(o->bucket, ""), *region = text_or(o->region, "us-east-1");
    if (!*bucket)
        return err_set(msg, ERR_INVALID, "bucket_name is not set");
    if (strlen(bucket) >= sizeof s->bucket ||
        strspn(bucket, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") !=
            strlen(bucket))
        return err_set(msg, ERR_INVALID,
                       "bucket_name \"%.100s\" is no bucket's name: 3 to 63 of a-z 0-9 . -",
                       bucket);
    if (strlen(region) >= sizeof s->region ||
        strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-_") != strlen(region))
        return err_set(msg, ERR_INVALID, "region \"%.100s\" is no region's name", region);
    snprintf(s->bucket, sizeof s->bucket, "%s", bucket);
    snprintf(s->region, sizeof s->region, "%s", region);
    char aws[128];
    snprintf(aws, sizeof aws, "https://s3.%s.amazonaws.com%s", region,
             strncmp(region, "cn-", 3) == 0 ? ".cn" : "");
    enum err e = endpoint_parse(&s->endpoint, text_or(o->endpoint, aws), msg);
    if (e != ERR_OK)
        return e;
    s->in_path = o->path_style || endpoint_needs_path(&s->endpoint, bucket);
    snprintf(s->host, sizeof s->host, "%s%s%s%s%s", s->in_path ? "" : bucket, s->in_path ? "" : ".",
             s->endpoint.host, *s->endpoint.port ? ":" : "", s->endpoint.port);
    // Over plain http the signed hash is what keeps bytes from being altered on the way. TLS does
    // so by itself, and to this machine there is no way; there SHA-256 would be most of a put.
    char address[300];
    snprintf(address, sizeof address, "%s:%s", s->endpoint.host, text_or(s->endpoint.port, "80"));
    s->here = s->endpoint.is_address && os_is_loopback(address);
    s->hashes_payload = o->hash_payload || (strcmp(s->endpoint.scheme, "https") != 0 && !s->here);
    return ERR_OK;
}

static enum err set_sources(struct s3 *s, const struct object_options *o, struct errmsg *msg)
{
    const struct object_s3_options *t = &o->s3;
    bool half = !*text_or(t->access_key, "") != !*text_or(t->secret_key, "");
    if (half)
        return err_set(msg, ERR_INVALID, "access_key and secret_key go together: one is not set");
    if (!*text_or(t->access_key, "") && !t->use_default_credentials)
        return err_set(
            msg, ERR_INVALID,
            "access_key and secret_key must be set where use_default_credentials is off");
    s->sources = (struct credentials_options){
        .os = o->os,
        .use_default = t->use_default_credentials,
        .access_key = strdup(text_or(t->access_key, "")),
        .secret_key = strdup(text_or(t->secret_key, "")),
        .token = strdup(text_or(t->session_token, text_or(t->security_token, ""))),
        .profile = strdup(text_or(t->profile, "")),
        .metadata = credentials_http,
    };
    return s->sources.access_key && s->sources.secret_key && s->sources.token && s->sources.profile
               ? ERR_OK
               : err_set(msg, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
}

static enum err set_up(struct s3 *s, const struct object_options *o, struct errmsg *msg)
{
    enum err e = set_address(s, &o->s3, msg);
    if (e == ERR_OK)
        e = set_sources(s, o, msg);
    if (e != ERR_OK)
        return e;
    unsigned connections = o->connections ? o->connections : CONNECTIONS;
    if (connections > CONNECTIONS_MAX)
        return err_set(msg, ERR_INVALID, "connections: at most %u", CONNECTIONS_MAX);
    s->retry_ns = (uint64_t)(o->retry_ms ? o->retry_ms : RETRY_MS) * 1000000u;
    s->multipart_bytes = o->multipart_bytes ? o->multipart_bytes : PART_BYTES;
    if (s->multipart_bytes < PART_LEAST)
        s->multipart_bytes = PART_LEAST;
    char where[800];
    snprintf(where, sizeof where, "s3://%s/%.200s at %s://%s%s%s", s->bucket,
             text_or(o->prefix, ""), s->endpoint.scheme, s->endpoint.host,
             *s->endpoint.port ? ":" : "", s->endpoint.port);
    e = object_base_init(&s->base, &s3_ops, o, where);
    if (e != ERR_OK)
        return err_set(msg, e, "%s", err_text(e));
    struct transfers_options h = {.os = o->os,
                                  .connections = connections,
                                  .timeout_ms = o->timeout_ms ? o->timeout_ms : TIMEOUT_MS,
                                  .direct = s->here,
                                  .ca_file = text_or(o->s3.ca_file, "")};
    e = transfers_new(&s->transfers, &h, msg);
    if (e != ERR_OK)
        object_base_release(&s->base);
    return e;
}

enum err object_s3_open(struct object_store **out, const struct object_options *o,
                        struct errmsg *msg)
{
    struct s3 *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(msg, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    enum err e = set_up(s, o, msg);
    if (e != ERR_OK) {
        free_texts(s);
        free(s);
        return e;
    }
    *out = &s->base;
    return ERR_OK;
}
