/*
 * Result files: order, replacement, what is found again, and broken lines.
 */
#include "tests/test.h"

#include "eval/store.h"

static char *path(void)
{
    return fs_join(test_folder(), "tasks.jsonl");
}

static void put(const char *text)
{
    struct err e;
    char *p = path();
    assert_works(fs_write(p, text, strlen(text), &e), e);
    free(p);
}

static void file_is(const char *text)
{
    struct err e;
    struct buf b = {0};
    char *p = path();
    assert_works(fs_read(&b, p, 1 << 20, &e), e);
    assert_string_equal(b.data, text);
    buf_release(&b);
    free(p);
}

static void add(struct store *s, const char *line)
{
    store_add(s, line, strlen(line));
}

#define A                                                                                          \
    "{\"step\": 1, \"task\": \"a\", \"seed\": 42, \"checkpoint_hash\": \"x\", \"settings\": "      \
    "\"s\"}"
#define B                                                                                          \
    "{\"step\": 2, \"task\": \"a\", \"seed\": 42, \"checkpoint_hash\": \"y\", \"settings\": "      \
    "\"s\"}"
#define C                                                                                          \
    "{\"step\": 2, \"task\": \"a\", \"seed\": 43, \"checkpoint_hash\": \"y\", \"settings\": "      \
    "\"s\"}"
#define D                                                                                          \
    "{\"step\": 2, \"task\": \"b\", \"seed\": 42, \"checkpoint_hash\": \"y\", \"settings\": "      \
    "\"t\"}"

static void lines_are_ordered_whatever_the_order_they_come_in(void **state)
{
    (void)state;
    struct err e;
    struct store s;
    char *p = path();
    remove(p);
    assert_works(store_open(&s, p, &e), e);
    assert_int_equal(s.count, 0);
    add(&s, D);
    add(&s, A);
    add(&s, C);
    add(&s, B);
    assert_works(store_save(&s, &e), e);
    file_is(A "\n" B "\n" C "\n" D "\n");
    store_release(&s);
    assert_works(store_open(&s, p, &e), e);
    assert_works(store_save(&s, &e), e);
    file_is(A "\n" B "\n" C "\n" D "\n");
    store_release(&s);
    free(p);
}

static void keys_find_and_remove(void **state)
{
    (void)state;
    struct err e;
    struct store s;
    char *p = path();
    put(A "\n" B "\n" C "\n" D);
    assert_works(store_open(&s, p, &e), e);
    const struct store_key any = {2, NULL, -1}, one = {2, "a", 43}, task = {2, "a", -1};
    assert_int_equal(store_current(&s, &any, "y", "s"), 2);
    assert_int_equal(store_current(&s, &one, "y", "s"), 1);
    assert_int_equal(store_current(&s, &one, "y", "t"), 0);
    assert_int_equal(store_current(&s, &one, "x", "s"), 0);
    store_remove(&s, &one);
    assert_int_equal(s.count, 3);
    store_remove(&s, &task);
    assert_int_equal(s.count, 2);
    store_remove(&s, &any);
    assert_works(store_save(&s, &e), e);
    file_is(A "\n");
    store_release(&s);
    free(p);
}

static void numbers_are_read(void **state)
{
    (void)state;
    struct err e;
    struct store s;
    char *p = path();
    put("{\"step\": 7, \"tokens\": 9000, \"bits_per_byte\": 1.5, \"stderr\": 0.25}\n"
        "{\"step\": 8, \"score\": 0.5, \"stderr\": null}\n");
    assert_works(store_open(&s, p, &e), e);
    assert_int_equal(s.lines[0].tokens, 9000);
    assert_true(s.lines[0].value == 1.5 && s.lines[0].error == 0.25);
    assert_true(s.lines[1].value == 0.5 && s.lines[1].error != s.lines[1].error);
    assert_true(s.lines[1].seed == -1 && s.lines[1].task == NULL);
    store_release(&s);
    free(p);
}

static void broken_lines_are_named(void **state)
{
    (void)state;
    struct err e;
    struct store s;
    char *p = path();
    put(A "\n{\"step\": 2, \"ta");
    assert_fails(store_open(&s, p, &e), e, "tasks.jsonl:2: byte ");
    put("{\"steps\": 2}\n");
    assert_fails(store_open(&s, p, &e), e, "no member \"step\"");
    put("[]\n");
    assert_fails(store_open(&s, p, &e), e, "tasks.jsonl:1");
    file_is("[]\n");
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_ordered_whatever_the_order_they_come_in),
        cmocka_unit_test(keys_find_and_remove),
        cmocka_unit_test(numbers_are_read),
        cmocka_unit_test(broken_lines_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, test_folder_remove);
}
