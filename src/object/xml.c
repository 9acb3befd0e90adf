#include "object/xml.h"
#include "object/url.h"

#include <expat.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_MAX 8192u // bytes of one element's text that are kept: a name of 1024 bytes, encoded

struct parse {
    struct xml_answer *a;
    XML_Parser parser;
    unsigned depth;
    bool in_contents;
    char text[TEXT_MAX + 1]; // of the innermost element begun last
    size_t text_n;
    bool text_cut;
    // Of one Contents element.
    char name[TEXT_MAX + 1];
    size_t name_n;
    bool has_name;
    bool has_size;
    uint64_t size;
    enum err e;
    const char *why;
};

static void stop(struct parse *p, enum err e, const char *why)
{
    if (p->e == ERR_OK) {
        p->e = e;
        p->why = why;
    }
    XML_StopParser(p->parser, XML_FALSE);
}

// The name without its namespace, which expat puts before it and '|'.
static const char *local_name(const char *name)
{
    const char *bar = strrchr(name, '|');
    return bar ? bar + 1 : name;
}

static enum xml_root root_of(const char *name)
{
    static const struct {
        const char *name;
        enum xml_root root;
    } roots[] = {
        {"Error", XML_ERROR},
        {"ListBucketResult", XML_LIST},
        {"InitiateMultipartUploadResult", XML_INITIATED},
        {"CompleteMultipartUploadResult", XML_COMPLETED},
    };
    for (size_t i = 0; i < sizeof roots / sizeof *roots; i++)
        if (strcmp(roots[i].name, name) == 0)
            return roots[i].root;
    return XML_OTHER;
}

static void XMLCALL on_start(void *arg, const XML_Char *full, const XML_Char **attributes)
{
    struct parse *p = arg;
    const char *name = local_name(full);
    p->text_n = 0;
    p->text_cut = false;
    if (p->depth++ == 0)
        p->a->root = root_of(name);
    if (p->depth > XML_DEPTH)
        stop(p, ERR_INVALID, "elements are nested too deep");
    if (p->depth == 2 && p->a->root == XML_LIST && strcmp(name, "Contents") == 0) {
        p->in_contents = true;
        p->has_name = p->has_size = false;
    }
}

static void XMLCALL on_text(void *arg, const XML_Char *s, int n)
{
    struct parse *p = arg;
    size_t room = TEXT_MAX - p->text_n;
    size_t take = (size_t)n < room ? (size_t)n : room;
    memcpy(p->text + p->text_n, s, take);
    p->text_n += take;
    if (take < (size_t)n)
        p->text_cut = true;
}

// Copies, cut to what fits, on one line.
static void keep(char *to, size_t cap, const char *text)
{
    size_t n = 0;
    for (; text[n] && n < cap - 1; n++)
        to[n] = (unsigned char)text[n] < 0x20 || text[n] == 0x7f ? ' ' : text[n];
    to[n] = 0;
}

static void end_of_contents(struct parse *p)
{
    p->in_contents = false;
    struct xml_answer *a = p->a;
    if (!p->has_name || !p->has_size)
        return stop(p, ERR_INVALID, "an object without a name or a size");
    enum err e = buf_append(&a->names, &p->size, sizeof p->size);
    if (e == ERR_OK)
        e = buf_append(&a->names, p->name, p->name_n + 1);
    if (e != ERR_OK)
        return stop(p, e, "too many names");
    a->count++;
}

static void in_contents(struct parse *p, const char *name)
{
    if (strcmp(name, "Key") == 0) {
        if (p->text_cut || p->text_n == 0)
            return stop(p, ERR_INVALID, "a name that is empty or too long");
        memcpy(p->name, p->text, p->text_n + 1);
        p->name_n = p->text_n;
        p->has_name = true;
    } else if (strcmp(name, "Size") == 0) {
        char *end;
        p->size = strtoull(p->text, &end, 10);
        if (p->text[0] < '0' || p->text[0] > '9' || *end)
            return stop(p, ERR_INVALID, "a size that is no number");
        p->has_size = true;
    }
}

// A child of the root.
static void in_root(struct parse *p, const char *name)
{
    struct xml_answer *a = p->a;
    if (a->root == XML_ERROR && strcmp(name, "Code") == 0)
        keep(a->code, sizeof a->code, p->text);
    else if (a->root == XML_ERROR && strcmp(name, "Message") == 0)
        keep(a->message, sizeof a->message, p->text);
    else if (a->root == XML_ERROR && strcmp(name, "Region") == 0)
        keep(a->region, sizeof a->region, p->text);
    else if (a->root == XML_COMPLETED && strcmp(name, "ETag") == 0)
        keep(a->etag, sizeof a->etag, p->text);
    else if (a->root == XML_LIST && strcmp(name, "IsTruncated") == 0)
        a->truncated = strcmp(p->text, "true") == 0;
    else if (a->root == XML_LIST && strcmp(name, "NextContinuationToken") == 0)
        keep(a->next_token, p->text_n < sizeof a->next_token ? sizeof a->next_token : 1, p->text);
    else if (a->root == XML_LIST && strcmp(name, "EncodingType") == 0)
        a->encoded = strcmp(p->text, "url") == 0;
    else if (a->root == XML_INITIATED && strcmp(name, "UploadId") == 0) {
        if (p->text_n >= sizeof a->upload_id)
            return stop(p, ERR_INVALID, "an UploadId that is too long");
        keep(a->upload_id, sizeof a->upload_id, p->text);
    }
}

static void XMLCALL on_end(void *arg, const XML_Char *full)
{
    struct parse *p = arg;
    const char *name = local_name(full);
    p->text[p->text_n] = 0;
    if (p->depth == 3 && p->in_contents)
        in_contents(p, name);
    else if (p->depth == 2 && p->in_contents)
        end_of_contents(p);
    else if (p->depth == 2)
        in_root(p, name);
    p->depth--;
    p->text_n = 0;
}

static void XMLCALL on_doctype(void *arg, const XML_Char *name, const XML_Char *system_id,
                               const XML_Char *public_id, int has_internal_subset)
{
    stop(arg, ERR_INVALID, "a document type declaration, which S3 never sends");
}

// EncodingType may come after the names, so they are decoded at the end.
static enum err decode_names(struct xml_answer *a)
{
    struct buf to;
    buf_init(&to, XML_NAMES_MAX);
    enum err e = buf_reserve(&to, buf_len(&a->names) ? buf_len(&a->names) : 1);
    uint8_t *p = buf_head(&a->names);
    for (size_t i = 0; i < a->count && e == ERR_OK; i++) {
        char *name = (char *)p + sizeof(uint64_t);
        size_t n = strlen(name);
        size_t plain = url_decode(name, n);
        if (plain == SIZE_MAX || memchr(name, 0, plain))
            e = ERR_INVALID;
        if (e == ERR_OK) {
            buf_put(&to, p, sizeof(uint64_t) + plain);
            buf_put(&to, "", 1);
        }
        p += sizeof(uint64_t) + n + 1;
    }
    buf_release(&a->names);
    a->names = to;
    return e;
}

enum err xml_parse(struct xml_answer *a, struct slice text, struct errmsg *msg)
{
    *a = (struct xml_answer){0};
    buf_init(&a->names, XML_NAMES_MAX);
    struct parse *p = calloc(1, sizeof *p);
    XML_Parser parser = p ? XML_ParserCreateNS("UTF-8", '|') : NULL;
    if (!parser || text.n > INT32_MAX) {
        if (parser)
            XML_ParserFree(parser);
        free(p);
        return err_set(msg, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    }
    p->a = a;
    p->parser = parser;
    XML_SetUserData(parser, p);
    XML_SetElementHandler(parser, on_start, on_end);
    XML_SetCharacterDataHandler(parser, on_text);
    XML_SetStartDoctypeDeclHandler(parser, on_doctype);
    enum XML_Status status = XML_Parse(parser, (const char *)text.p, (int)text.n, XML_TRUE);
    enum err e = p->e;
    if (e != ERR_OK)
        err_set(msg, e, "line %lu: %s", XML_GetCurrentLineNumber(parser), p->why);
    else if (status != XML_STATUS_OK && XML_GetErrorCode(parser) == XML_ERROR_NO_MEMORY)
        e = err_set(msg, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    else if (status != XML_STATUS_OK)
        e = err_set(msg, ERR_INVALID, "line %lu: %s", XML_GetCurrentLineNumber(parser),
                    XML_ErrorString(XML_GetErrorCode(parser)));
    else if (a->encoded && (e = decode_names(a)))
        e = err_set(msg, e, "%s",
                    e == ERR_INVALID ? "a name that is not percent-encoded as announced"
                                     : err_text(e));
    XML_ParserFree(parser);
    free(p);
    return e;
}

void xml_release(struct xml_answer *a)
{
    buf_release(&a->names);
}
