// JSON bodies of requests, and the members of the objects in them.
#include "edge/http/http_int.h"

unsigned body_parse(const struct request *rq, struct http_work *w, struct json *root,
                    struct errmsg *msg)
{
    enum err e = json_parse(w->json, rq->body, root, msg);
    return e == ERR_TOO_BIG ? 413 : e == ERR_NO_MEMORY ? 503 : e ? 400 : 0;
}

unsigned body_members(struct json object, const char *what, struct json_member *m, size_t count,
                      struct errmsg *msg)
{
    char text[KEY_TEXT];
    struct slice name;
    struct json v;
    if (json_kind(object) != JSON_OBJECT)
        return refuse(msg, 400, "%s must be an object, not %s", what,
                      json_kind_name(json_kind(object)));
    for (struct json_iter it = json_iterate(object); json_next(&it, &name, &v);) {
        size_t i = 0;
        while (i < count && !slice_equal(name, slice_str(m[i].name)))
            i++;
        if (i == count)
            return refuse(msg, 400, "unknown member \"%s\"", key_text(name, text));
        if (m[i].given)
            return refuse(msg, 400, "member \"%s\" is given twice", m[i].name);
        m[i].given = true;
        m[i].v = v;
    }
    return 0;
}
