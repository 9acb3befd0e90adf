// The client library's calls of relations against a scripted server: requests as docs/PROTOCOLS.md
// has them, replies whole and malformed.
#include "fake_server.h"
#include "unit.h"

#include "base/limits.h"
#include "base/os.h"
#include "client/wire.h"

#include <stdlib.h>

#define ID(n)    n "\0\0\0\0\0\0\0" // the packed id of one small byte
#define BYTES(s) ((struct slice){(const uint8_t *)(s), sizeof(s) - 1})

static const uint64_t ids[] = {1, 2, UINT64_MAX};
#define IDS ID("\1") ID("\2") "\xff\xff\xff\xff\xff\xff\xff\xff"

// Keeps the one request and answers it.
struct exchange {
    struct slice reply; // body
    uint16_t type;
    uint8_t args[1024];
    size_t n;
};

static void script_exchange(struct fake *f)
{
    struct exchange *x = (struct exchange *)(uintptr_t)f->arg;
    if (fake_request(f, &x->type, x->args, sizeof x->args, &x->n))
        fake_reply(f, x->reply.p, x->reply.n);
}

static void expect_request(const struct exchange *x, unsigned type, struct slice args)
{
    assert_int_equal(x->type, type);
    assert_int_equal(x->n, args.n);
    assert_memory_equal(x->args, args.p, args.n);
}

static bool put_name(void *arg, const void *key, size_t n, const struct varve_value *value)
{
    assert_null(value);
    assert_true(n < 8);
    memcpy(arg, key, n);
    return false;
}

static bool put_from(void *arg, uint64_t from, uint64_t count)
{
    uint64_t *sum = arg;
    *sum += from * count;
    return *sum < 100;
}

static const struct varve_rel_options options = {.reverse = true, .relaxed = true};
static const struct varve_rel_group groups[] = {{7, ids, 2, false}, {8, ids, 0, true}};
static const struct varve_rel_list lists[] = {{"ab", 7, false}, {"c", 8, true}};
static const struct varve_rel_query query = {
    .order = VARVE_REL_NEWEST, .flags = 1, .has_after = true, .after = 9, .limit = 5};

// One call of each kind; what it gives is looked at if it went well.
static enum varve_error call(struct varve *v, unsigned type)
{
    enum varve_error e = VARVE_OK;
    uint64_t n = 0, m = 0;
    bool found[3] = {false, true, false};
    char name[8] = "";
    struct varve_rel_info info;
    struct varve_members members;
    struct varve_rel_lists many;
    switch (type) {
    case WIRE_REL_CREATE:
        e = varve_rel_create(v, "ab", &options, &n);
        assert_int_equal(n, e ? 0 : 3);
        break;
    case WIRE_REL_INFO:
        e = varve_rel_info(v, "ab", &info);
        if (!e)
            assert_true(info.created_ms == 3 && info.options.reverse && !info.options.recent &&
                        info.options.relaxed && info.resident_lists == 5 &&
                        info.resident_members == 6);
        break;
    case WIRE_REL_LIST:
        e = varve_rel_list(v, "ab", 3, put_name, name);
        assert_string_equal(name, e ? "" : "abc");
        break;
    case WIRE_REL_ADD:
        e = varve_rel_add(v, "ab", 7, ids, 3, VARVE_REL_RELAXED, &n);
        assert_int_equal(n, e ? 0 : 3);
        break;
    case WIRE_REL_REMOVE:
        e = varve_rel_remove(v, "ab", 7, ids, 3, 0, &n);
        assert_int_equal(n, e ? 0 : 3);
        break;
    case WIRE_REL_EDIT:
        e = varve_rel_edit(v, "ab", groups, 2, 0, "i", 1, &n, &m);
        assert_true(n == (e ? 0 : 3) && m == (e ? 0 : 5));
        break;
    case WIRE_REL_GET:
        e = varve_rel_get(v, "ab", 7, &members);
        if (!e)
            assert_true(members.count == 3 && members.total == 3 && !members.more &&
                        varve_rel_id(&members, 1) == 2 && varve_rel_id(&members, 2) == UINT64_MAX);
        break;
    case WIRE_REL_PAGE:
        e = varve_rel_page(v, "ab", 7, &query, &members);
        if (!e)
            assert_true(members.count == 3 && members.total == 9 && members.more &&
                        members.next == 5 && varve_rel_id(&members, 1) == 2);
        break;
    case WIRE_REL_COUNT:
        e = varve_rel_count(v, "ab", 7, VARVE_REL_REVERSE, &n);
        assert_int_equal(n, e ? 0 : 3);
        break;
    case WIRE_REL_CONTAINS:
        e = varve_rel_contains(v, "ab", 7, ids, 3, VARVE_REL_REVERSE, found);
        if (!e)
            assert_true(found[0] && !found[1] && found[2]);
        break;
    case WIRE_REL_MANY:
        e = varve_rel_many(v, "ab", ids, 3, 2, VARVE_REL_REVERSE, &many);
        if (e)
            break;
        assert_true(varve_rel_lists_next(&many, &members));
        assert_true(members.from == 1 && members.count == 2 && members.total == 4 && members.more &&
                    members.next == 2 && varve_rel_id(&members, 0) == 1);
        assert_true(varve_rel_lists_next(&many, &members));
        assert_true(members.from == 2 && members.count == 0 && members.total == 0 && !members.more);
        assert_true(varve_rel_lists_next(&many, &members));
        assert_true(members.from == UINT64_MAX && members.count == 0 && members.more);
        assert_false(varve_rel_lists_next(&many, &members));
        break;
    case WIRE_REL_COMBINE:
        e = varve_rel_combine(v, VARVE_REL_DIFFERENCE, lists, 2, &query, &members);
        if (!e)
            assert_true(members.count == 3 && !members.total && !members.more && !members.next &&
                        varve_rel_id(&members, 0) == 1);
        break;
    default:
        e = varve_rel_froms(v, "ab", ids, 2, VARVE_REL_REVERSE, put_from, &n);
        assert_int_equal(n, e ? 0 : 1 * 2 + 2 * 49);
    }
    return e;
}

#define PAGE(order, flags, limit, after) \
    order flags "\0\0" limit "\0\0\0" ID(after) "\0\0\0\0\0\0\0\0"

static const struct {
    unsigned type;
    struct slice request; // arguments joined
    struct slice reply;
    bool missing, conflict;
    bool sized; // its size is the request's to say: a byte more or less is malformed
} calls[] = {
    {WIRE_REL_CREATE, BYTES("ab\5\0\0\0"), BYTES("\0" ID("\3")), false, true, true},
    {WIRE_REL_INFO, BYTES("ab"), BYTES("\0" ID("\3") "\5\0\0\0" ID("\5") ID("\6")), true, false,
     true},
    {WIRE_REL_LIST, BYTES("ab\3\0\0\0\0\0\0\0"), BYTES("\0\1\0\0\0\3\0\0\0abc"), false, false,
     false},
    {WIRE_REL_ADD, BYTES("ab" ID("\7") IDS "\2\0\0\0"), BYTES("\0\3\0\0\0"), false, false, true},
    {WIRE_REL_REMOVE, BYTES("ab" ID("\7") IDS "\0\0\0\0"), BYTES("\0\3\0\0\0"), false, false, true},
    {WIRE_REL_EDIT,
     BYTES("ab" ID("\7") "\2\0\0\0\0\0\0\0" ID("\1") ID("\2") ID("\x08") "\0\0\0\0\1\0\0\0"
                                                                         "\0\0\0\0i"),
     BYTES("\0" ID("\3") ID("\5")), false, false, true},
    {WIRE_REL_GET, BYTES("ab" ID("\7")), BYTES("\0" IDS), false, false, true},
    {WIRE_REL_PAGE, BYTES("ab" ID("\7") PAGE("\2", "\5", "\5", "\x09")),
     BYTES("\0" ID("\x09") ID("\5") "\1\0\0\0\0\0\0\0" IDS), false, false, true},
    {WIRE_REL_COUNT, BYTES("ab" ID("\7") "\1\0\0\0"), BYTES("\0" ID("\3")), false, false, true},
    {WIRE_REL_CONTAINS, BYTES("ab" ID("\7") IDS "\1\0\0\0"), BYTES("\0\1\0\1"), false, false, true},
    {WIRE_REL_MANY, BYTES("ab" IDS "\2\0\0\0\1\0\0\0"),
     BYTES("\0" ID("\4") "\2\0\0\0" ID("\1") ID("\2") ID("\0") "\0\0\0\0" ID("\5") "\0\0\0\0"),
     false, false, true},
    {WIRE_REL_COMBINE, BYTES(ID("\7") "\0\2ab" ID("\x08") "\1\1c" PAGE("\5", "\4", "\5", "\x09")),
     BYTES("\0" ID("\0") "\0\0\0\0\0\0\0\0" IDS), false, false, true},
    {WIRE_REL_FROMS, BYTES("ab" PAGE("\0", "\5", "\2", "\1")),
     BYTES("\0" ID("\1") ID("\2") ID("\2") ID("\x31")), false, false, true},
};

// The call with this reply.
static void expect(size_t i, struct slice reply, enum varve_error wanted)
{
    struct exchange x = {.reply = reply};
    struct fake f = {.arg = &x};
    struct varve *v = fake_start(&f, script_exchange, 5000);
    enum varve_error e = call(v, calls[i].type);
    if (e != wanted)
        fail_msg("call %u with a reply of %zu bytes: %s (%s)", calls[i].type, reply.n,
                 varve_error_name(e), varve_error_text(v));
    expect_request(&x, calls[i].type, calls[i].request);
    fake_end(&f, v);
}

static void test_calls(void **state)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        struct slice good = calls[i].reply;
        uint8_t bytes[128];
        memcpy(bytes, good.p, good.n);
        bytes[good.n] = 0;
        expect(i, good, VARVE_OK);
        expect(i, slice_of(good.p, good.n - 1), VARVE_PROTOCOL);
        if (calls[i].sized)
            expect(i, slice_of(bytes, good.n + 1), VARVE_PROTOCOL);
        expect(i, BYTES("\1"), calls[i].missing ? VARVE_MISSING : VARVE_PROTOCOL);
        expect(i, BYTES("\2"), calls[i].conflict ? VARVE_CONFLICT : VARVE_PROTOCOL);
        expect(i, BYTES("\3no"), VARVE_ERROR);
    }
}

// Numbers in replies that cannot be.
static void test_malformed(void **state)
{
    static const struct {
        unsigned type;
        size_t at; // in the reply with its status byte
        uint8_t to;
    } wrong[] = {
        {WIRE_REL_PAGE, 1 + 16, 2}, // more
        {WIRE_REL_PAGE, 1 + 20, 1}, // the 0 behind it
        {WIRE_REL_COMBINE, 1 + 8, 2},  {WIRE_REL_COMBINE, 1 + 12, 1},
        {WIRE_REL_CONTAINS, 1, 2},     {WIRE_REL_MANY, 1, 1}, // a total below the count
        {WIRE_REL_MANY, 1 + 8, 3},                            // counts over what is there
        {WIRE_REL_MANY, 1 + 11, 0x80},                        //
        {WIRE_REL_LIST, 1, 4},                                // names: more than were asked for
        {WIRE_REL_LIST, 1 + 4 + 4, 1},                        // one that is not past the one before
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        for (size_t j = 0; j < sizeof calls / sizeof *calls; j++) {
            uint8_t bytes[128];
            if (calls[j].type != wrong[i].type)
                continue;
            memcpy(bytes, calls[j].reply.p, calls[j].reply.n);
            bytes[wrong[i].at] = wrong[i].to;
            expect(j, slice_of(bytes, calls[j].reply.n), VARVE_PROTOCOL);
        }
}

// Answers every request with the same page of two froms.
static void script_for_ever(struct fake *f)
{
    uint16_t type;
    uint8_t args[256];
    size_t n;
    while (fake_request(f, &type, args, sizeof args, &n))
        fake_reply(f, "\0" ID("\1") ID("\0") ID("\2") ID("\0"), 33);
}

static void test_froms_without_end(void **state)
{
    struct fake f = {.chunk = 3};
    struct varve *v = fake_start(&f, script_for_ever, 5000);
    uint64_t sum = 0;
    assert_int_equal(varve_rel_froms(v, "ab", NULL, 0, 0, put_from, &sum), VARVE_PROTOCOL);
    fake_end(&f, v);
    // More than were asked for.
    v = fake_start(&f, script_for_ever, 5000);
    assert_int_equal(varve_rel_froms(v, "ab", NULL, 1, 0, put_from, &sum), VARVE_PROTOCOL);
    fake_end(&f, v);
}

// What is refused before anything is sent.
static void test_invalid(void **state)
{
    static const uint64_t none[1];
    char name[LIMIT_RELATION_NAME + 2];
    memset(name, 'n', sizeof name);
    name[LIMIT_RELATION_NAME + 1] = 0;
    struct varve_rel_group many[2] = {{1, none, LIMIT_REL_MEMBERS, false}, {1, none, 1, true}};
    struct varve_rel_list long_name = {name, 1, false};
    struct varve_op op = {.kind = VARVE_OP_RELATE, .relation = name};
    struct varve_rel_lists many_lists;
    struct varve_members m;
    uint64_t n;
    struct fake f = {0};
    struct varve *v = fake_start(&f, script_silent, 5000);
    assert_int_equal(varve_rel_create(v, name, NULL, NULL), VARVE_INVALID);
    assert_non_null(strstr(varve_error_text(v), "128 bytes"));
    assert_int_equal(varve_rel_get(v, name, 1, &m), VARVE_INVALID);
    assert_int_equal(varve_rel_list(v, name, 0, put_name, NULL), VARVE_INVALID);
    assert_int_equal(varve_rel_combine(v, VARVE_REL_UNION, &long_name, 1, NULL, &m), VARVE_INVALID);
    assert_int_equal(
        varve_rel_combine(v, VARVE_REL_UNION, &long_name, LIMIT_REL_LISTS + 1, NULL, &m),
        VARVE_INVALID);
    assert_int_equal(varve_rel_many(v, "r", none, LIMIT_REL_MANY + 1, 0, 0, &many_lists),
                     VARVE_INVALID);
    assert_int_equal(varve_rel_add(v, "r", 1, none, LIMIT_REL_MEMBERS + 1, 0, &n), VARVE_INVALID);
    assert_int_equal(varve_rel_add(v, "r", 1, none, SIZE_MAX, 0, &n), VARVE_INVALID);
    assert_non_null(strstr(varve_error_text(v), "1000000"));
    assert_int_equal(varve_rel_edit(v, "r", many, 2, 0, NULL, 0, NULL, NULL), VARVE_INVALID);
    assert_int_equal(varve_txn(v, &op, 1, NULL, 0, NULL), VARVE_INVALID);
    op = (struct varve_op){
        .kind = VARVE_OP_UNRELATE, .relation = "r", .member_count = LIMIT_REL_MEMBERS + 1};
    assert_int_equal(varve_txn(v, &op, 1, NULL, 0, NULL), VARVE_INVALID);
    fake_end(&f, v);
}

static void test_txn(void **state)
{
    static const char reply[] =
        "\0" ID("\x09") "\3\0\0\0" ID("\3") ID("\0") ID("\0") ID("\2") ID("\0") ID("\0");
    static const char relates[] =
        "\5\0\0\0\x0a\0\0\0\x10\0\0\0" ID("\0") ID("\0") ID("\7") "ab" ID("\1")
            ID("\2") "\6\0\0\0\x09\0\0\0\0\0\0\0" ID("\0") ID("\0") ID("\x08") "c";
    struct varve_op ops[3] = {
        {.kind = VARVE_OP_PUT, .key = "a", .key_size = 1},
        {.kind = VARVE_OP_RELATE, .relation = "ab", .from = 7, .members = ids, .member_count = 2},
        {.kind = VARVE_OP_UNRELATE, .relation = "c", .from = 8},
    };
    struct exchange x = {.reply = BYTES(reply)};
    struct fake f = {.arg = &x};
    struct varve *v = fake_start(&f, script_exchange, 5000);
    uint64_t sequence;
    assert_int_equal(varve_txn(v, ops, 3, NULL, 0, &sequence), VARVE_OK);
    assert_int_equal(sequence, 9);
    assert_int_equal(ops[0].new_version, 3);
    assert_int_equal(ops[1].number, 2);
    assert_int_equal(ops[2].number, 0);
    assert_int_equal(x.n, 28 + 1 + sizeof relates - 1);
    assert_memory_equal(x.args + 29, relates, sizeof relates - 1);
    fake_end(&f, v);
}

// Echoes what it is asked: a pipeline's replies by type.
static void script_pipeline(struct fake *f)
{
    uint16_t type;
    uint8_t args[1024];
    size_t n;
    while (fake_request(f, &type, args, sizeof args, &n))
        for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
            if (calls[i].type == type)
                fake_reply(f, calls[i].reply.p, calls[i].reply.n);
}

static void test_pipeline(void **state)
{
    struct fake f = {.chunk = 11};
    struct varve *v = fake_start(&f, script_pipeline, 5000);
    struct varve_reply r;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(varve_queue_rel_add(v, "ab", 7, ids, 3, 0), VARVE_OK);
        assert_int_equal(varve_queue_rel_remove(v, "ab", 7, ids, 3, 0), VARVE_OK);
        assert_int_equal(varve_queue_rel_edit(v, "ab", groups, 2, 0, NULL, 0), VARVE_OK);
        assert_int_equal(varve_queue_rel_get(v, "ab", 7), VARVE_OK);
        assert_int_equal(varve_queue_rel_page(v, "ab", 7, &query), VARVE_OK);
    }
    struct varve_members m;
    assert_int_equal(varve_rel_get(v, "ab", 7, &m), VARVE_INVALID);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(varve_next_reply(v, &r), VARVE_OK);
        assert_int_equal(r.error, VARVE_OK);
        assert_int_equal(r.added, i % 5 == 0 || i % 5 == 2 ? 3 : 0);
        assert_int_equal(r.removed, i % 5 == 1 ? 3 : i % 5 == 2 ? 5 : 0);
        assert_int_equal(r.members.count, i % 5 >= 3 ? 3 : 0);
        assert_int_equal(r.members.total, i % 5 == 3 ? 3 : i % 5 == 4 ? 9 : 0);
    }
    assert_int_equal(varve_rel_get(v, "ab", 7, &m), VARVE_OK);
    fake_end(&f, v);
}

// Random damage to good replies: refused, or what is read lies within them.
static void test_damaged(void **state)
{
    uint64_t seed;
    os_random(os_real(), &seed, sizeof seed);
    print_message("seed %llu\n", (unsigned long long)seed);
    srandom((unsigned)seed);
    for (size_t round = 0; round < 20000; round++) {
        struct slice good = calls[round % (sizeof calls / sizeof *calls)].reply;
        size_t n = good.n - 1 - (size_t)random() % 2;
        uint8_t *block = malloc(n);
        assert_non_null(block);
        memcpy(block, good.p + 1, n);
        for (long i = random() % 3; i >= 0; i--)
            block[(size_t)random() % n] = (uint8_t)(random() % 3 ? random() % 8 : random());
        struct slice body = slice_of(block, n);
        struct varve_members m;
        struct varve_rel_lists l;
        if (!wire_read_rel_page(body, random() % 2, &m))
            assert_true((const uint8_t *)m.data + m.count * 8 == block + n);
        if (!wire_read_lists(body, ids, (size_t)random() % 4, &l))
            while (varve_rel_lists_next(&l, &m))
                assert_true((const uint8_t *)m.data + m.count * 8 <= block + n);
        free(block);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),   cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_invalid), cmocka_unit_test(test_froms_without_end),
        cmocka_unit_test(test_txn),     cmocka_unit_test(test_pipeline),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
