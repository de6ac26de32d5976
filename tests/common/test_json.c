/* The JSON reader against RFC 8259, and the writers against the reader. */
#include "tests/test.h"

#include "common/json.h"

#include <math.h>

static int valid(const char *text, size_t len)
{
    struct json j;
    json_open(&j, text, len);
    return json_skip(&j) == 0 && json_end(&j) == 0;
}

#define VALID(s)   assert_true(valid(s, sizeof(s) - 1))
#define INVALID(s) assert_false(valid(s, sizeof(s) - 1))

static void test_grammar(void **state)
{
    (void)state;
    VALID("{}");
    VALID(" [ 1 , -0.5e+3 , true , false , null , \"a\\u00e4\\ud83d\\ude00\" , { \"k\" : [ ] } ] ");
    VALID("\"\\u0000\"");
    VALID("\"\xc3\xa4\xf0\x9f\x98\x80\"");
    INVALID("");
    INVALID("{");
    INVALID("{\"a\"}");
    INVALID("{\"a\":}");
    INVALID("{\"a\":1,}");
    INVALID("[1,]");
    INVALID("[1 2]");
    INVALID("[,1]");
    INVALID("{'a':1}");
    INVALID("01");
    INVALID("1.");
    INVALID(".5");
    INVALID("+1");
    INVALID("1e");
    INVALID("-");
    INVALID("NaN");
    INVALID("nul");
    INVALID("\"a\nb\"");
    INVALID("\"a");
    INVALID("\"\\x\"");
    INVALID("\"\\u12g4\"");
    INVALID("\"\\ud800\"");
    INVALID("\"\\ud800\\u0041\"");
    INVALID("\"\\udc00\"");
    INVALID("\"\xff\"");
    INVALID("\"\xc0\xaf\"");
    INVALID("\"\xed\xa0\x80\"");
    INVALID("\xef\xbb\xbf{}");
    INVALID("{} x");
    INVALID("[1]]");
}

static void test_depth(void **state)
{
    (void)state;
    char deep[2 * JSON_DEPTH_MAX + 2];
    memset(deep, '[', JSON_DEPTH_MAX);
    memset(deep + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
    assert_true(valid(deep, 2 * JSON_DEPTH_MAX));
    memset(deep, '[', JSON_DEPTH_MAX + 1);
    memset(deep + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    assert_false(valid(deep, 2 * JSON_DEPTH_MAX + 2));
}

static void test_members(void **state)
{
    (void)state;
    const char text[] = "{\"te\\u0078t\": \"a\\n\\\"\\u00fc\", \"n\": 18446744073709551615, "
                        "\"i\": -9223372036854775808, \"f\": 2.5, \"skip\": [{\"x\": [1]}, 2], "
                        "\"b\": true, \"z\": null}";
    struct json j;
    struct buf s = {0};
    char key[16];
    uint64_t n = 0, seen = 0;
    int64_t i = 0;
    double f = 0;
    bool b = false;
    json_open(&j, text, sizeof(text) - 1);
    assert_int_equal(json_object(&j), 0);
    int more;
    while ((more = json_next_key(&j, key, sizeof(key))) > 0) {
        if (!strcmp(key, "text"))
            assert_int_equal(json_seen(&j, &seen, 0) | json_string(&j, &s), 0);
        else if (!strcmp(key, "n"))
            assert_int_equal(json_u64(&j, &n), 0);
        else if (!strcmp(key, "i"))
            assert_int_equal(json_i64(&j, &i), 0);
        else if (!strcmp(key, "f"))
            assert_int_equal(json_f64(&j, &f), 0);
        else if (!strcmp(key, "b"))
            assert_int_equal(json_bool(&j, &b), 0);
        else
            assert_int_equal(json_skip(&j), 0);
    }
    assert_int_equal(more, 0);
    assert_int_equal(json_end(&j), 0);
    assert_string_equal(s.data, "a\n\"\xc3\xbc");
    assert_true(n == UINT64_MAX && i == INT64_MIN && f == 2.5 && b);
    buf_release(&s);
}

static void test_errors_have_a_place(void **state)
{
    (void)state;
    struct json j;
    struct err e;
    char key[8];
    uint64_t n;
    json_open(&j, "{\"a\": 18446744073709551616}", 27);
    json_object(&j);
    json_next_key(&j, key, sizeof(key));
    assert_int_equal(json_u64(&j, &n), -1);
    json_report(&j, "x.json", &e);
    assert_string_equal(e.msg, "x.json: byte 6: integer too large");
    /* A dead reader stays dead. */
    assert_int_equal(json_skip(&j), -1);
    assert_int_equal(json_end(&j), -1);
}

static void test_long_keys_are_cut(void **state)
{
    (void)state;
    struct json j;
    char key[4];
    json_open(&j, "{\"abcdefgh\":1,\"\\u0061bcdef\":2}", 30);
    json_object(&j);
    assert_int_equal(json_next_key(&j, key, sizeof(key)), 1);
    assert_string_equal(key, "abc");
    json_skip(&j);
    assert_int_equal(json_next_key(&j, key, sizeof(key)), 1);
    assert_string_equal(key, "abc");
}

static void test_writers(void **state)
{
    (void)state;
    struct buf b = {0}, back = {0};
    const char raw[] = "\"\\\n\r\t\b\f\x01\x7f \xc3\xa4 /";
    json_put_string(&b, raw, sizeof(raw) - 1);
    struct json j;
    json_open(&j, b.data, b.len);
    assert_int_equal(json_string(&j, &back), 0);
    assert_int_equal(back.len, sizeof(raw) - 1);
    assert_memory_equal(back.data, raw, back.len);
    static const double numbers[] = {0, -0.0, 1, 0.1, 1e300, 5e-324, 3.141592653589793, 1e21};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        double x = 7;
        buf_clear(&b);
        json_put_f64(&b, numbers[i]);
        json_open(&j, b.data, b.len);
        assert_int_equal(json_f64(&j, &x), 0);
        assert_true(x == numbers[i]);
    }
    buf_clear(&b);
    json_put_f64(&b, 0.1);
    json_put_f64(&b, NAN);
    assert_string_equal(b.data, "0.1null");
    buf_release(&b);
    buf_release(&back);
}

/* What is not UTF-8 is replaced byte by byte, so that our own reader takes what we write. */
static void test_writer_of_bad_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *raw, *text;
    } cases[] = {
        {"\xff", "\xef\xbf\xbd"},
        {"br\xfc"
         "cke\n",
         "br\xef\xbf\xbd"
         "cke\n"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xc3\xa4\xe2\x82", "\xc3\xa4\xef\xbf\xbd\xef\xbf\xbd"},
        {"", ""},
    };
    struct buf b = {0}, back = {0};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct json j;
        buf_clear(&b);
        json_put_cstring(&b, cases[i].raw);
        json_open(&j, b.data, b.len);
        assert_int_equal(json_string(&j, &back), 0);
        assert_int_equal(json_end(&j), 0);
        assert_int_equal(back.len, strlen(cases[i].text));
        assert_memory_equal(back.data ? back.data : "", cases[i].text, back.len);
    }
    buf_release(&b);
    buf_release(&back);
}

/* Each byte that must be escaped at each distance from the words of eight that are scanned. */
static void test_strings_at_every_offset(void **state)
{
    (void)state;
    struct buf b = {0}, back = {0};
    for (int c = 0; c < 128; c++)
        for (size_t at = 0; at < 20; at++) {
            char raw[24];
            struct json j;
            memset(raw, 'x', sizeof(raw));
            memcpy(raw + 20, "\xc3\xa4\xc3\xbf", 4);
            raw[at] = (char)c;
            buf_clear(&b);
            json_put_string(&b, raw, sizeof(raw));
            json_open(&j, b.data, b.len);
            assert_int_equal(json_string(&j, &back), 0);
            assert_int_equal(json_end(&j), 0);
            assert_int_equal(back.len, sizeof(raw));
            assert_memory_equal(back.data, raw, sizeof(raw));
            bool plain = c >= 0x20 && c != 0x7F && c != '"' && c != '\\';
            assert_int_equal(b.len == sizeof(raw) + 2, plain);
        }
    buf_release(&b);
    buf_release(&back);
    /* Two-byte characters and what only begins like one. */
    VALID("\"\xc2\x80\xdf\xbf\"");
    INVALID("\"\xc3\"");
    INVALID("\"\xc3");
    INVALID("\"\xc3\xc3\xa4\"");
    INVALID("\"\xc1\xbf\"");
    INVALID("\"\xe0\xa4\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grammar),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_errors_have_a_place),
        cmocka_unit_test(test_long_keys_are_cut),
        cmocka_unit_test(test_writers),
        cmocka_unit_test(test_writer_of_bad_bytes),
        cmocka_unit_test(test_strings_at_every_offset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
