// Relations over the binary edge: requests that are not valid.
#include "rel_world.h"

static void not_valid(void **state)
{
    struct room r;
    enter(&r);
    ask_create(&r, "f", 0);
    expect64(&r, 1);
    raw(&r, FRAME_REL_CREATE, 2, B("g"), B("123"));
    expect_error(&r, "REL_CREATE: the argument options takes 4 bytes, not 3");
    raw(&r, FRAME_REL_LIST, 2, B(""), B(ZERO4));
    expect_error(&r, "REL_LIST: limit and flags takes 8 bytes, not 4");
    raw(&r, FRAME_REL_LIST, 2, B(""), B(ZERO8));
    expect_error(&r, "REL_LIST: the limit is 0");
    raw(&r, FRAME_REL_LIST, 2, B(""), B("\1\0\0\0\1\0\0\0"));
    expect_error(&r, "REL_LIST: unknown flags 1");
    raw(&r, FRAME_REL_GET, 2, B("f"), B("1234567"));
    expect_error(&r, "REL_GET: from takes 8 bytes, not 7");
    raw(&r, FRAME_REL_GET, 2, B(""), B(ZERO8));
    expect_error(&r, "the relation's name is not one");
    raw(&r, FRAME_REL_ADD, 4, B("f"), B(""), B(ZERO8), B(ZERO4));
    expect_error(&r, "REL_ADD: from takes 8 bytes, not 0");
    raw(&r, FRAME_REL_REMOVE, 4, B("f"), B(ZERO8), B(ZERO8), B("\0\0\0"));
    expect_error(&r, "REL_REMOVE: the argument flags takes 4 bytes, not 3");
    raw(&r, FRAME_REL_CONTAINS, 4, B("f"), B(ZERO8), B(ZERO4), B(ZERO4));
    expect_error(&r, "REL_CONTAINS: members take 8 bytes each; 4 is not a multiple of it");
    raw(&r, FRAME_REL_CONTAINS, 4, B("f"), B(ZERO8), B(ZERO8), B("\2\0\0\0"));
    expect_error(&r, "REL_CONTAINS: unknown flags 2");
    raw(&r, FRAME_REL_COUNT, 3, B("f"), B(ZERO8), B(""));
    expect_error(&r, "REL_COUNT: the argument flags takes 4 bytes, not 0");
    raw(&r, FRAME_REL_COUNT, 3, B("f"), B("1"), B(ZERO4));
    expect_error(&r, "REL_COUNT: from takes 8 bytes, not 1");
    raw(&r, FRAME_REL_COUNT, 3, B("f"), B(ZERO8), B("\1\0\0\0"));
    expect_error(&r, "the relation is not declared with reverse");
    raw(&r, FRAME_REL_PAGE, 3, B("f"), B(ZERO8), B(ZERO8));
    expect_error(&r, "REL_PAGE: a page takes 24 bytes, not 8");
    raw(&r, FRAME_REL_PAGE, 3, B("f"), B(ZERO8), B("\3" ZERO8 ZERO8 ZERO4 "\0\0\0"));
    expect_error(&r, "REL_PAGE: unknown order 3");
    raw(&r, FRAME_REL_PAGE, 3, B("f"), B(ZERO8), B("\0\2" ZERO8 ZERO8 ZERO4 "\0\0"));
    expect_error(&r, "REL_PAGE: unknown flags 2 of the page");
    raw(&r, FRAME_REL_PAGE, 3, B("f"), B(ZERO8), B("\0\0\1" ZERO8 ZERO8 ZERO4 "\0"));
    expect_error(&r, "REL_PAGE: bytes 2, 3 and 16 to 23 of the page are not 0");
    raw(&r, FRAME_REL_PAGE, 3, B("f"), B(ZERO8), B(ZERO8 ZERO8 "\0\0\0\0\0\0\0\1"));
    expect_error(&r, "REL_PAGE: bytes 2, 3 and 16 to 23 of the page are not 0");
    raw(&r, FRAME_REL_PAGE, 3, B("f"), B(ZERO8), B("\0\0\0\0\x41\x42\x0f\0" ZERO8 ZERO8));
    expect_error(&r, "REL_PAGE: a page of 1000001 is over the limit of 1000000");
    raw(&r, FRAME_REL_MANY, 3, B("f"), B(ZERO4), B(ZERO8));
    expect_error(&r, "REL_MANY: froms take 8 bytes each; 4 is not a multiple of it");
    raw(&r, FRAME_REL_MANY, 3, B("f"), B(ZERO8), B(ZERO4));
    expect_error(&r, "REL_MANY: limit and flags takes 8 bytes, not 4");
    raw(&r, FRAME_REL_MANY, 3, B("f"), B(ZERO8), B("\1\0\0\0\2\0\0\0"));
    expect_error(&r, "REL_MANY: unknown flags 2");
    raw(&r, FRAME_REL_MANY, 3, B("f"), B(ZERO8), B("\x41\x42\x0f\0\0\0\0\0"));
    expect_error(&r, "REL_MANY: 1000001 members of a list are over the limit of 1000000");
    raw(&r, FRAME_REL_MANY, 3, B("f!"), B(""), B(ZERO8));
    expect_error(&r, "the relation's name is not one");
    raw(&r, FRAME_REL_COMBINE, 2, B(""), B("\3\0\0\0" ZERO8 ZERO8 ZERO4));
    expect_error(&r, "REL_COMBINE: no lists");
    raw(&r, FRAME_REL_COMBINE, 2, B(ZERO8 "\0"), B("\3\0\0\0" ZERO8 ZERO8 ZERO4));
    expect_error(&r, "REL_COMBINE: list 0 is cut short");
    raw(&r, FRAME_REL_COMBINE, 2, B(ZERO8 "\0\1f" ZERO8 "\0\2f"), B("\3\0\0\0" ZERO8 ZERO8 ZERO4));
    expect_error(&r, "REL_COMBINE: list 1 is cut short");
    raw(&r, FRAME_REL_COMBINE, 2, B(ZERO8 "\2\1f"), B("\3\0\0\0" ZERO8 ZERO8 ZERO4));
    expect_error(&r, "REL_COMBINE: unknown flags 2 of list 0");
    raw(&r, FRAME_REL_COMBINE, 2, B(ZERO8 "\1\1f"), B("\3\0\0\0" ZERO8 ZERO8 ZERO4));
    expect_error(&r, "REL_COMBINE: list 0: the relation is not declared with reverse");
    raw(&r, FRAME_REL_COMBINE, 2, B(ZERO8 "\0\1f"), B("\2\0\0\0" ZERO8 ZERO8 ZERO4));
    expect_error(&r, "REL_COMBINE: unknown order 2");
    raw(&r, FRAME_REL_COMBINE, 2, B(ZERO8 "\0\1f"), B("\6\0\0\0" ZERO8 ZERO8 ZERO4));
    expect_error(&r, "REL_COMBINE: unknown order 6");
    raw(&r, FRAME_REL_COMBINE, 2, B(ZERO8 "\0\1f"), B("\3\1\0\0" ZERO8 ZERO8 ZERO4));
    expect_error(&r, "REL_COMBINE: each list has its own flag reverse");
    raw(&r, FRAME_REL_FROMS, 2, B("f"), B("\1\0\0\0" ZERO8 ZERO8 ZERO4));
    expect_error(&r, "REL_FROMS: unknown order 1");
    raw(&r, FRAME_REL_EDIT, 4, B("f"), B(""), B(ZERO4), B(""));
    expect_error(&r, "REL_EDIT: no groups");
    raw(&r, FRAME_REL_EDIT, 4, B("f"), B(ZERO8 ZERO8 ZERO8), B(ZERO4), B(""));
    expect_error(&r, "REL_EDIT: group 1 is cut short");
    raw(&r, FRAME_REL_EDIT, 4, B("f"), B(ZERO8 "\2\0\0\0\0\0\0\0" ZERO8 ZERO4), B(ZERO4), B(""));
    expect_error(&r, "REL_EDIT: group 0 is cut short");
    raw(&r, FRAME_REL_EDIT, 4, B("f"), B(ZERO8 "\xff\xff\xff\xff\0\0\0\0" ZERO8), B(ZERO4), B(""));
    expect_error(&r, "REL_EDIT: group 0 is cut short");
    raw(&r, FRAME_REL_EDIT, 4, B("f"), B(ZERO8 ZERO4 "\2\0\0\0"), B(ZERO4), B(""));
    expect_error(&r, "REL_EDIT: group 0 neither adds nor removes: 2");
    raw(&r, FRAME_REL_EDIT, 4, B("f"), B(ZERO8 ZERO8), B("\1\0\0\0"), B(""));
    expect_error(&r, "REL_EDIT: unknown flags 1");
    ask_from(&r, FRAME_REL_GET, "f", 0);
    expect_ids(&r, nobody);
    run(&r);
    leave(&r);
}

// Lists are counted one by one; 64 do, 65 do not.
static void too_many_lists(void **state)
{
    struct room r;
    struct list lists[LIMIT_REL_LISTS + 1];
    enter(&r);
    ask_add(&r, "f", 1, IDS(1));
    expect32(&r, 1);
    for (size_t i = 0; i <= LIMIT_REL_LISTS; i++)
        lists[i] = (struct list){"f", 1, 0};
    ask_combine(&r, INTERSECT, lists, LIMIT_REL_LISTS, 0, 0, 0);
    expect_combined(&r, false, 0, IDS(1));
    ask_combine(&r, INTERSECT, lists, LIMIT_REL_LISTS + 1, 0, 0, 0);
    expect_error(&r, "REL_COMBINE: more than 64 lists");
    run(&r);
    // An edit that goes back and forth too often.
    struct buf b;
    buf_init(&b, 1 << 25);
    for (uint32_t i = 0; i <= LIMIT_TXN_OPS; i++) {
        put64(&b, 1);
        put32(&b, 0);
        put32(&b, i % 2);
    }
    ask(&r, FRAME_REL_EDIT, "f");
    put_arg(&r.script, buf_head(&b), buf_len(&b));
    put_arg(&r.script, ZERO4, 4);
    put_arg(&r.script, "", 0);
    expect_error(&r, "REL_EDIT: groups change between adding and removing more than 100000 times");
    run(&r);
    buf_release(&b);
    leave(&r);
}

// A length over the limit is refused as soon as it is there.
static void hostile_lengths(void **state)
{
    static const struct {
        uint16_t type;
        unsigned args; // empty ones before it
        uint32_t length;
        const char *text;
    } each[] = {
        {FRAME_REL_CREATE, 0, 256, "REL_CREATE: relation of 256 bytes is over the limit of 255"},
        {FRAME_REL_CREATE, 1, 5, "REL_CREATE: options of 5 bytes is over the limit of 4"},
        {FRAME_REL_GET, 1, 9, "REL_GET: from of 9 bytes is over the limit of 8"},
        {FRAME_REL_ADD, 3, UINT32_MAX, "REL_ADD: flags of 4294967295 bytes is over the limit of 4"},
        {FRAME_REL_ADD, 2, 20000001,
         "REL_ADD: members of 20000001 bytes is over the limit of 20000000"},
        {FRAME_REL_EDIT, 1, 20000000,
         "REL_EDIT: request of 20000010 bytes is over the limit of 20000000"},
        {FRAME_REL_EDIT, 3, 129, "REL_EDIT: idempotency key of 129 bytes is over the limit of 128"},
        {FRAME_REL_PAGE, 2, 25, "REL_PAGE: page of 25 bytes is over the limit of 24"},
        {FRAME_REL_MANY, 1, UINT32_MAX,
         "REL_MANY: froms of 4294967295 bytes is over the limit of 20000000"},
        {FRAME_REL_COMBINE, 0, UINT32_MAX,
         "REL_COMBINE: lists of 4294967295 bytes is over the limit of 20000000"},
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        struct room r;
        enter(&r);
        put(&r.script, &each[i].type, 2);
        for (unsigned j = 0; j < each[i].args; j++)
            put32(&r.script, 0);
        put32(&r.script, each[i].length);
        feed(&r);
        put_arg(&r.expect, each[i].text, strlen(each[i].text));
        check(&r);
        assert_true(r.conn->closed && !r.conn->dropped);
        leave(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(not_valid),
        cmocka_unit_test(too_many_lists),
        cmocka_unit_test(hostile_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
