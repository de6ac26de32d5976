/* Settings from one table: text, YAML, command line, and the way back. */
#include "tests/test.h"

#include "common/config.h"

struct settings {
    int64_t size;
    double lr;
    bool tie;
    char *out;
    int kind;
    struct config_list langs;
    int64_t threads;
    struct config_list in;
    struct config_list set;
    bool bos;
};

static const struct config_row rows[] = {
    CONFIG_LIST(struct settings, in, "in", "PATH", "input"),
    CONFIG_I64(struct settings, threads, "threads", "0", 0, 4096, "threads"),
    CONFIG_BOOL(struct settings, bos, "bos", "false", "begin"),
    CONFIG_LIST(struct settings, set, "set", "KEY=VALUE", "assign"),
    CONFIG_I64(struct settings, size, "model.hidden_size", "64", 1, 65536, "width"),
    CONFIG_BOOL(struct settings, tie, "model.tie", "false", "tie"),
    CONFIG_F64(struct settings, lr, "optimizer.lr", "3e-4", 0, 1, "peak learning rate"),
    CONFIG_ENUM(struct settings, kind, "optimizer.name", "adamw", "adamw|sgd", "which"),
    CONFIG_STR(struct settings, out, "run.out", "runs/x", "DIR", "folder"),
    CONFIG_LIST(struct settings, langs, "run.langs", "WORD", "languages"),
    CONFIG_END,
};

static void test_values(void **state)
{
    (void)state;
    struct settings s;
    struct err e;
    config_init(rows, &s);
    assert_int_equal(s.size, 64);
    assert_true(s.lr == 3e-4);
    assert_string_equal(s.out, "runs/x");
    assert_works(config_assign(rows, &s, "model.hidden_size=1_024", "--set", &e), e);
    assert_int_equal(s.size, 1024);
    assert_works(config_assign(rows, &s, "model.hidden_size=2k", "--set", &e), e);
    assert_int_equal(s.size, 2000);
    assert_works(config_assign(rows, &s, "optimizer.name=sgd", "--set", &e), e);
    assert_int_equal(s.kind, 1);
    static const char *const bad[] = {
        "8x", "", " 8", "0x10", "nan", "1e3", "99999999999999999999", "0", "65537", "1__0", "_1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_fails(config_set(rows, &s, "model.hidden_size", bad[i], "here", &e), e,
                     "must be an integer from 1 to 65536");
    static const char *const bad_numbers[] = {"nan", "inf", "0x1p3", "", "1,5", "2", "-0.1"};
    for (size_t i = 0; i < sizeof(bad_numbers) / sizeof(*bad_numbers); i++)
        assert_fails(config_set(rows, &s, "optimizer.lr", bad_numbers[i], "here", &e), e,
                     "must be a number from 0 to 1");
    assert_fails(config_assign(rows, &s, "optimizer.name=adam", "--set", &e), e,
                 "optimizer.name is 'adam', but must be one of adamw|sgd");
    assert_fails(config_assign(rows, &s, "optimizer.name=", "--set", &e), e, "one of");
    assert_fails(config_assign(rows, &s, "model.tie=yes", "--set", &e), e, "true or false");
    assert_fails(config_assign(rows, &s, "model.hidden_sise=8", "--set", &e), e,
                 "--set: unknown key 'model.hidden_sise'; did you mean 'model.hidden_size'?");
    assert_fails(config_assign(rows, &s, "train.lr=8", "--set", &e), e, "'optimizer.lr'");
    assert_fails(config_assign(rows, &s, "nonsense", "--set", &e), e, "section.key=value");
    assert_int_equal(s.size, 2000);
    config_release(rows, &s);
}

static void read_yaml(struct settings *s, const char *text, const char *sentence)
{
    struct err e;
    char path[128];
    snprintf(path, sizeof(path), "%s/c.yaml", test_folder());
    assert_works(fs_write(path, text, strlen(text), &e), e);
    if (sentence)
        assert_fails(config_read(rows, s, path, &e), e, sentence);
    else
        assert_works(config_read(rows, s, path, &e), e);
}

static void test_yaml(void **state)
{
    (void)state;
    struct settings s, t;
    struct err e;
    config_init(rows, &s);
    read_yaml(&s,
              "# comment\nmodel:\n  hidden_size: 128   # wide\n  tie: true\n"
              "run: {out: \"a \\\"b\\\"\", langs: [de, bar]}\n",
              NULL);
    assert_int_equal(s.size, 128);
    assert_true(s.tie);
    assert_string_equal(s.out, "a \"b\"");
    assert_int_equal(s.langs.count, 2);
    assert_string_equal(s.langs.items[1], "bar");

    struct buf text = {0};
    char path[128];
    config_write(rows, &s, &text);
    snprintf(path, sizeof(path), "%s/back.yaml", test_folder());
    assert_works(fs_write(path, text.data, text.len, &e), e);
    config_init(rows, &t);
    assert_works(config_read(rows, &t, path, &e), e);
    struct buf again = {0};
    config_write(rows, &t, &again);
    assert_string_equal(text.data, again.data);
    assert_int_equal(config_peek(path, "run.out", &again, &e), 1);
    assert_string_equal(again.data, "a \"b\"");
    assert_int_equal(config_peek(path, "model.hidden_size", &again, &e), 1);
    assert_string_equal(again.data, "128");
    assert_int_equal(config_peek(path, "model.out", &again, &e), 0);
    assert_int_equal(config_peek(path, "nothing.out", &again, &e), 0);
    buf_release(&text);
    buf_release(&again);
    config_release(rows, &t);

    read_yaml(&s, "", NULL);
    read_yaml(&s, "model:\n  hiden_size: 8\n", "c.yaml:2: unknown key 'model.hiden_size'; did you");
    read_yaml(&s, "model:\n  hidden_size: 0\n", "c.yaml:2: model.hidden_size is '0', but must");
    read_yaml(&s, "model:\n  hidden_size: 8\n  hidden_size: 9\n",
              "c.yaml:3: model.hidden_size is given twice");
    read_yaml(&s, "threads: 4\n", "c.yaml:1: expected a section");
    read_yaml(&s, "- a\n", "expected sections");
    read_yaml(&s, "model:\n  tie: true\n---\nmodel:\n  tie: false\n", "c.yaml:3: expected the end");
    read_yaml(&s, "model:\n  hidden_size: [1]\n", "c.yaml:2: expected a single value");
    read_yaml(&s, "model:\n  tie: {a: 1}\n", "expected a single value");
    read_yaml(&s, "model:\n\thidden_size: 1\n", "c.yaml:2: found character that cannot start");
    assert_fails(config_read(rows, &s, "/nowhere.yaml", &e), e, "cannot open /nowhere.yaml");
    config_release(rows, &s);
}

static int parse(struct settings *s, struct config_list *rest, struct err *e, char **argv)
{
    static const struct config_usage usage = {"test", "[options]", "a test", NULL};
    int argc = 0;
    while (argv[argc])
        argc++;
    config_init(rows, s);
    return config_args(rows, s, &usage, rest, argc, argv, e);
}

static void test_command_line(void **state)
{
    (void)state;
    struct settings s;
    struct err e;
    struct config_list rest = {0};
    char *good[] = {
        "x",         "--in",         "a",    "b",     "--threads=3",    "--bos", "--set",
        "run.out=y", "run.langs=de", "word", "--set", "model.tie=true", NULL};
    assert_works(parse(&s, &rest, &e, good), e);
    assert_int_equal(s.in.count, 2);
    assert_int_equal(s.threads, 3);
    assert_true(s.bos);
    assert_int_equal(s.set.count, 3);
    assert_int_equal(rest.count, 1);
    assert_string_equal(rest.items[0], "word");
    config_release(rows, &s);
    config_list_release(&rest);

    char *typo[] = {"x", "--thread", "3", NULL};
    assert_fails(parse(&s, NULL, &e, typo), e,
                 "unknown option '--thread'; did you mean '--threads'?");
    config_release(rows, &s);
    char *lone[] = {"x", "--threads", NULL};
    assert_fails(parse(&s, NULL, &e, lone), e, "--threads needs a value");
    config_release(rows, &s);
    char *range[] = {"x", "--threads", "-1", NULL};
    assert_fails(parse(&s, NULL, &e, range), e, "--threads: threads is '-1', but must be");
    config_release(rows, &s);
    char *extra[] = {"x", "y", NULL};
    assert_fails(parse(&s, NULL, &e, extra), e, "unexpected word 'y'");
    config_release(rows, &s);
    char *dotted[] = {"x", "--model.tie", "true", NULL};
    assert_fails(parse(&s, NULL, &e, dotted), e, "unknown option");
    config_release(rows, &s);
    char *off[] = {"x", "--bos", "--no-bos", NULL};
    assert_works(parse(&s, NULL, &e, off), e);
    assert_false(s.bos);
    config_release(rows, &s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_yaml),
        cmocka_unit_test(test_command_line),
    };
    return cmocka_run_group_tests(tests, NULL, test_folder_remove);
}
