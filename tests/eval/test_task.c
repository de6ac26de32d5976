/*
 * Task definitions, csv reading and the rules for items and labels.
 */
#include "eval/task.h"

#include "common/fs.h"
#include "eval/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[] = "/tmp/mundwerk-task-XXXXXX";

static char *put(const char *name, const char *text)
{
    struct err e;
    char *path = fs_join(folder, "%s", name);
    assert_int_equal(fs_write(path, text, strlen(text), &e), 0);
    return path;
}

/* All rows as "cell|cell/" with the line each begins at. */
static void rows_are(const char *text, bool quotes, const char *expected)
{
    struct err e;
    struct table t;
    struct buf got = {0};
    char *path = put("table.tsv", text);
    assert_int_equal(table_open(&t, path, '\t', quotes, &e), 0);
    while (table_next(&t)) {
        buf_printf(&got, "%d:", (int)t.row_line);
        for (size_t i = 0; i < t.count; i++) {
            size_t len;
            const char *cell = table_cell(&t, i, &len);
            assert_int_equal(strlen(cell), len);
            buf_printf(&got, "%s%s", cell, i + 1 < t.count ? "|" : "/");
        }
    }
    assert_string_equal(got.data ? got.data : "", expected);
    table_close(&t);
    buf_release(&got);
    free(path);
}

static void tables(void **state)
{
    (void)state;
    rows_are("a\tb\nc\td\n", false, "1:a|b/2:c|d/");
    rows_are("a\tb\r\nc\td", false, "1:a|b/2:c|d/");
    rows_are("\n\na\t\n", false, "3:a|/");
    rows_are("", true, "");
    rows_are("\xEF\xBB\xBFx\n", true, "1:x/");
    /* Python's csv: quotes count only at the start of a cell */
    rows_are("\"a\tb\"\tc\n", true, "1:a\tb|c/");
    rows_are("a \"b\" c\td\n", true, "1:a \"b\" c|d/");
    rows_are("\"a \"\"b\"\"\"\tc\n", true, "1:a \"b\"|c/");
    rows_are("\"a\"b\"c\td\n", true, "1:ab\"c|d/");
    rows_are("\"x\t1\ny\t2\nz\"\t3\nlast\t4\n", true, "1:x\t1\ny\t2\nz|3/4:last|4/");
    rows_are("\"open\t1\nnext\t2\n", true, "1:open\t1\nnext\t2\n/");
    rows_are("\"x\t1\ny\t2\nz\"\t3\n", false, "1:\"x|1/2:y|2/3:z\"|3/");
}

#define DEFINITION                                                                                 \
    "task:\n  name: toy\n  source: write it yourself\n  metric: accuracy\n"                        \
    "data:\n  folder: Toy\n  train: train.txt\n  test: test.txt\n  label_column: 1\n"

static struct task toy_task(void)
{
    struct err e;
    struct task t;
    char *path = put("toy.yaml", DEFINITION);
    if (task_read(&t, path, &e))
        fail_msg("%s", e.msg);
    free(path);
    return t;
}

static void labels_come_by_frequency(void **state)
{
    (void)state;
    struct err e;
    struct task_data d;
    struct task t = toy_task();
    free(put("Toy/train.txt", "eins\tb\nzwei\ta\ndrei\ta\nvier\tc\nfünf\td\nsechs\td\n"));
    free(put("Toy/test.txt", "x\tnew\ny\ta\n"));
    assert_int_equal(task_data_read(&d, &t, folder, &e), 0);
    assert_int_equal(d.class_count, 4);
    assert_int_equal(d.label_count, 5);
    const char *const order[] = {"a", "d", "b", "c", "new"};
    for (int k = 0; k < 5; k++)
        assert_string_equal(d.labels[k], order[k]);
    assert_int_equal(d.train_counts[0], 2);
    assert_int_equal(d.train_counts[3], 1);
    assert_int_equal(d.train.items[0].label, 2);
    assert_int_equal(d.test.items[0].label, 4);
    assert_int_equal(d.test.items[1].label, 0);
    assert_int_equal(d.test.items[1].line, 2);
    task_data_release(&d);
    task_release(&t);
}

static void bad_rows_are_counted_and_the_first_is_named(void **state)
{
    (void)state;
    struct err e;
    struct task_data d;
    struct task t = toy_task();
    free(
        put("Toy/train.txt", "gut\tA\nohne Spalte\nkein Label\t\nschlecht\xFF\tA\n  \tA\nso\tB\n"));
    free(put("Toy/test.txt", "gut\tA\n"));
    assert_int_equal(task_data_read(&d, &t, folder, &e), 0);
    assert_int_equal(d.train.count, 2);
    assert_int_equal(d.train.malformed, 3);
    assert_int_equal(d.train.empty, 1);
    assert_non_null(strstr(d.train.first_bad.msg, "train.txt:2: 1 columns, at least 2 are needed"));
    task_data_release(&d);
    free(put("Toy/test.txt", "nichts\n"));
    assert_int_equal(task_data_read(&d, &t, folder, &e), -1);
    assert_non_null(strstr(e.msg, "test.txt:1: 1 columns"));
    free(put("Toy/train.txt", "gut\tA\nbesser\tA\n"));
    assert_int_equal(task_data_read(&d, &t, folder, &e), -1);
    assert_non_null(strstr(e.msg, "only one label"));
    task_release(&t);
}

static void missing_data_says_how_to_get_it(void **state)
{
    (void)state;
    struct err e;
    struct task_data d;
    struct task t = toy_task();
    assert_int_equal(task_data_read(&d, &t, "/nowhere", &e), -1);
    assert_non_null(strstr(e.msg, "/nowhere/Toy/train.txt"));
    assert_non_null(strstr(e.msg, "write it yourself"));
    task_release(&t);
}

static void broken_definitions(void **state)
{
    (void)state;
    struct err e;
    struct task t;
    assert_int_equal(task_read(&t, "no_such_task", &e), -1);
    assert_non_null(strstr(e.msg, "no_such_task"));
    assert_non_null(strstr(e.msg, "offensive_lang"));
    char *path = put("bad.yaml", "task:\n  name: x\n  metrik: accuracy\n");
    assert_int_equal(task_read(&t, path, &e), -1);
    assert_non_null(strstr(e.msg, "metric"));
    free(path);
    path = put("bad.yaml", "task:\n  name: x\n");
    assert_int_equal(task_read(&t, path, &e), -1);
    assert_non_null(strstr(e.msg, "data.folder"));
    free(path);
}

static void shipped_definitions(void **state)
{
    (void)state;
    struct err e;
    struct task t;
    if (task_read(&t, "offensive_lang", &e))
        fail_msg("%s", e.msg);
    assert_string_equal(t.name, "offensive_lang");
    assert_int_equal(t.metric, METRIC_MACRO_F1);
    assert_int_equal(t.label_column, 2);
    assert_true(t.quotes && !t.header);
    assert_int_equal(t.epochs, 5);
    assert_int_equal(t.batch, 8);
    assert_true(t.lr == 5e-5 && t.lora_dropout == 0.1 && t.grad_clip == 5);
    struct task_data d;
    if (!fs_is_folder("../shared/data/tasks/SuperGLEBer/data")) {
        print_message("skipped: the sizes of offensive_lang, ../shared/data is absent\n");
    } else {
        assert_int_equal(task_data_read(&d, &t, "../shared/data/tasks/SuperGLEBer/data", &e), 0);
        assert_int_equal(d.train.count, 4508);
        assert_int_equal(d.test.count, 3398); /* as SuperGLEBer's README counts */
        assert_string_equal(d.labels[0], "OTHER");
        assert_string_equal(d.labels[3], "PROFANITY");
        assert_int_equal(d.train_counts[3], 68);
        task_data_release(&d);
    }
    task_release(&t);
    assert_int_equal(task_read(&t, "offensive_lang_lines", &e), 0);
    assert_false(t.quotes);
    if (fs_is_folder("../shared/data/tasks/SuperGLEBer/data")) {
        assert_int_equal(task_data_read(&d, &t, "../shared/data/tasks/SuperGLEBer/data", &e), 0);
        assert_int_equal(d.test.count, 3532);
        task_data_release(&d);
    }
    task_release(&t);
}

static int setup(void **state)
{
    struct err e;
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    char *toy = fs_join(folder, "Toy");
    int r = fs_mkdirs(toy, &e);
    free(toy);
    return r;
}

static int teardown(void **state)
{
    struct err e;
    (void)state;
    return fs_remove_tree(folder, &e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables),
        cmocka_unit_test(labels_come_by_frequency),
        cmocka_unit_test(bad_rows_are_counted_and_the_first_is_named),
        cmocka_unit_test(missing_data_says_how_to_get_it),
        cmocka_unit_test(broken_definitions),
        cmocka_unit_test(shipped_definitions),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
