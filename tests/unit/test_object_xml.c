#include "unit.h"
#include "object/xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"

static enum err parse(struct xml_answer *a, const char *text, struct errmsg *msg)
{
    return xml_parse(a, slice_str(text), msg);
}

static void errors(void **state)
{
    struct xml_answer a;
    struct errmsg msg;
    assert_ok(parse(&a,
                    HEAD "<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region "
                         "&lt;x&gt; is wrong</Message><Region>eu-west-1</Region><Extra><Code>No"
                         "</Code></Extra></Error>",
                    &msg));
    assert_int_equal(a.root, XML_ERROR);
    assert_string_equal(a.code, "AuthorizationHeaderMalformed");
    assert_string_equal(a.message, "the region <x> is wrong");
    assert_string_equal(a.region, "eu-west-1");
    xml_release(&a);
}

static void lists(void **state)
{
    struct xml_answer a;
    struct errmsg msg;
    const char *text =
        HEAD "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>"
             "<Contents><Key>a/b%20c%2B</Key><Owner><ID>x</ID></Owner><Size>12</Size></Contents>"
             "<Contents><Size>18446744073709551615</Size><Key>z&amp;</Key></Contents>"
             "<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
             "<CommonPrefixes><Prefix>p</Prefix></CommonPrefixes></ListBucketResult>";
    assert_ok(parse(&a, text, &msg));
    assert_int_equal(a.root, XML_LIST);
    assert_true(a.truncated);
    assert_int_equal(a.count, 2);
    const uint8_t *p = buf_head(&a.names);
    assert_true(load64(p) == 12);
    assert_string_equal((const char *)p + 8, "a/b c+");
    p += 8 + 7;
    assert_true(load64(p) == UINT64_MAX);
    assert_string_equal((const char *)p + 8, "z&");
    xml_release(&a);
    // Not announced as encoded: taken as it is.
    assert_ok(parse(&a,
                    "<ListBucketResult><Contents><Key>a%20+</Key><Size>0</Size></Contents>"
                    "</ListBucketResult>",
                    &msg));
    assert_string_equal((const char *)buf_head(&a.names) + 8, "a%20+");
    assert_false(a.truncated);
    xml_release(&a);
}

static void uploads(void **state)
{
    struct xml_answer a;
    struct errmsg msg;
    assert_ok(parse(&a,
                    "<InitiateMultipartUploadResult><Bucket>b</Bucket><UploadId>2~a/+=</UploadId>"
                    "</InitiateMultipartUploadResult>",
                    &msg));
    assert_int_equal(a.root, XML_INITIATED);
    assert_string_equal(a.upload_id, "2~a/+=");
    xml_release(&a);
    assert_ok(parse(&a,
                    "<CompleteMultipartUploadResult><ETag>&quot;ab-2&quot;</ETag>"
                    "</CompleteMultipartUploadResult>",
                    &msg));
    assert_int_equal(a.root, XML_COMPLETED);
    assert_string_equal(a.etag, "\"ab-2\"");
    xml_release(&a);
}

static void others_are_told_apart(void **state)
{
    struct xml_answer a;
    struct errmsg msg;
    assert_ok(parse(&a, "<html><body>hello</body></html>", &msg));
    assert_int_equal(a.root, XML_OTHER);
    xml_release(&a);
}

static void bad_ones_are_refused(void **state)
{
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"", "line 1"},
        {"not xml", "line 1"},
        {"<a>\n<b></a>", "line 2"},
        {"<ListBucketResult>", "line 1"},
        {"<!DOCTYPE a [<!ENTITY e \"x\">]><a>&e;</a>", "document type"},
        {"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>", "size"},
        {"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>", "name"},
        {"<ListBucketResult><Contents><Key></Key><Size>1</Size></Contents></ListBucketResult>",
         "empty"},
        {"<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
         "no number"},
        {"<ListBucketResult><Contents><Key>a</Key><Size>1x</Size></Contents></ListBucketResult>",
         "no number"},
        {"<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>a%0</Key><Size>1</Size>"
         "</Contents></ListBucketResult>",
         "percent-encoded"},
        {"<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>a%00b</Key><Size>1"
         "</Size></Contents></ListBucketResult>",
         "percent-encoded"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct xml_answer a;
        struct errmsg msg = {""};
        assert_err(parse(&a, bad[i].text, &msg), ERR_INVALID);
        if (!strstr(msg.text, bad[i].part))
            print_error("%s: %s\n", bad[i].text, msg.text);
        assert_non_null(strstr(msg.text, bad[i].part));
        xml_release(&a);
    }
}

static void depth_and_length_have_bounds(void **state)
{
    char text[20000] = "";
    struct xml_answer a;
    struct errmsg msg;
    for (int i = 0; i < XML_DEPTH + 1; i++)
        strncat(text, "<a>", sizeof text - strlen(text) - 1);
    assert_err(parse(&a, text, &msg), ERR_INVALID);
    assert_non_null(strstr(msg.text, "too deep"));
    xml_release(&a);
    int n = snprintf(text, sizeof text, "<ListBucketResult><Contents><Key>");
    memset(text + n, 'k', 9000);
    snprintf(text + n + 9000, sizeof text - (size_t)n - 9000,
             "</Key><Size>1</Size></Contents></ListBucketResult>");
    assert_err(parse(&a, text, &msg), ERR_INVALID);
    assert_non_null(strstr(msg.text, "too long"));
    xml_release(&a);
    n = snprintf(text, sizeof text, "<Error><Message>");
    memset(text + n, 'm', 9000);
    snprintf(text + n + 9000, sizeof text - (size_t)n - 9000, "</Message></Error>");
    assert_ok(parse(&a, text, &msg)); // a message is cut
    assert_int_equal(strlen(a.message), sizeof a.message - 1);
    xml_release(&a);
}

// Any prefix of a document is refused, any change of a byte survived.
static void damage_is_survived(void **state)
{
    static const char text[] =
        "<ListBucketResult><IsTruncated>true</IsTruncated><EncodingType>url</EncodingType>"
        "<Contents><Key>a%20</Key><Size>1</Size></Contents></ListBucketResult>";
    struct xml_answer a;
    for (size_t n = 0; n < sizeof text - 1; n++) {
        assert_err(xml_parse(&a, slice_of(text, n), NULL), ERR_INVALID);
        xml_release(&a);
    }
    for (size_t i = 0; i < sizeof text - 1; i++)
        for (int bit = 0; bit < 8; bit++) {
            char *copy = malloc(sizeof text);
            memcpy(copy, text, sizeof text);
            copy[i] = (char)(copy[i] ^ 1 << bit);
            enum err e = xml_parse(&a, slice_of(copy, sizeof text - 1), NULL);
            assert_true(e == ERR_OK || e == ERR_INVALID);
            xml_release(&a);
            free(copy);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors),
        cmocka_unit_test(lists),
        cmocka_unit_test(uploads),
        cmocka_unit_test(others_are_told_apart),
        cmocka_unit_test(bad_ones_are_refused),
        cmocka_unit_test(depth_and_length_have_bounds),
        cmocka_unit_test(damage_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
