/* The page: what the run's files say stands on it, nothing leaks through, nothing is fetched. */
#include "tests/test.h"

#include "eval/chart.h"
#include "eval/report.h"
#include "eval/report_data.h"
#include "eval/report_page.h"

#include <math.h>

static char *path_in(const char *name)
{
    return fs_join(test_folder(), "%s", name);
}

static void make(const char *name, const char *text)
{
    struct err e;
    char *path = path_in(name);
    assert_works(fs_write(path, text, strlen(text), &e), e);
    free(path);
}

/* Every tag that is opened is closed, in order. */
static void assert_balanced(const char *html)
{
    static const char *const empty[] = {"meta", "br", "line", "path", "circle"};
    const char *open[64];
    size_t length[64], depth = 0;
    for (const char *p = strchr(html, '<'); p; p = strchr(p, '<')) {
        const char *end = strchr(p, '>');
        assert_non_null(end);
        bool closing = p[1] == '/';
        const char *name = p + 1 + closing;
        size_t len = strcspn(name, " />");
        bool is_empty = *name == '!' || end[-1] == '/';
        for (size_t i = 0; i < sizeof(empty) / sizeof(*empty); i++)
            is_empty |= strlen(empty[i]) == len && !memcmp(empty[i], name, len);
        if (closing) {
            if (!depth || length[depth - 1] != len || memcmp(open[depth - 1], name, len) != 0)
                fail_msg("misplaced </%.*s> at %.60s", (int)len, name, p);
            depth--;
        } else if (!is_empty) {
            assert_true(depth < 64);
            open[depth] = name;
            length[depth++] = len;
        }
        p = end;
    }
    assert_int_equal(depth, 0);
}

static size_t times(const char *text, const char *word)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, word)); p++)
        n++;
    return n;
}

static void test_results(void **state)
{
    (void)state;
    make("r.jsonl", "{\"step\":2,\"loss\":1.5,\"new\":[1,{\"a\":2}],\"tokens\":200}\n"
                    "{\"step\":1,\"loss\":null,\"text\":\"a\\nb\"}\n"
                    "{\"no\":1}\n"
                    "{\"step\":2,\"loss\":1.25}\n"
                    "{\"step\":3,\"lo");
    struct results r;
    struct err e;
    char *path = path_in("r.jsonl");
    assert_works(results_read(&r, path, &e), e);
    assert_int_equal(r.count, 3);
    assert_int_equal(r.bad_lines, 2);
    assert_true(r.v[0].step == 1 && isnan(r.v[0].loss) && isnan(r.v[0].tokens));
    assert_string_equal(r.v[0].text, "a\nb");
    assert_true(r.v[1].loss == 1.5 && r.v[1].tokens == 200 && r.v[2].loss == 1.25);
    results_release(&r);
    free(path);
    assert_works(results_read(&r, "/nowhere", &e), e);
    assert_int_equal(r.count, 0);
    results_release(&r);
}

static void test_chart(void **state)
{
    (void)state;
    struct chart_point points[] = {{.x = 0, .y = 3.5, .stderr = 0.1},
                                   {.x = 1000, .y = 2.5},
                                   {.x = 50000, .y = NAN},
                                   {.x = 2000000, .y = 1.5, .note = "a < b"}};
    struct chart_series series = {"bits & bytes", points, 4, true, false};
    struct chart chart = {.title = "<T>", .y_label = "y", .series = &series, .series_count = 1};
    struct buf out = {0};
    chart_put(&out, &chart);
    assert_balanced(out.data);
    assert_int_equal(times(out.data, "<circle"), 3); /* NaN has none */
    assert_int_equal(times(out.data, "class=\"bar\""), 1);
    assert_non_null(strstr(out.data, "bits &amp; bytes"));
    assert_non_null(strstr(out.data, "&lt;T&gt;"));
    assert_non_null(strstr(out.data, "a &lt; b"));
    assert_null(strstr(out.data, "nan"));
    assert_null(strstr(out.data, "inf"));
    for (size_t count = 0; count < 2; count++) { /* none, and one point at zero */
        buf_clear(&out);
        series.count = count;
        chart_put(&out, &chart);
        assert_balanced(out.data);
        assert_null(strstr(out.data, "nan"));
    }
    buf_release(&out);
}

static void test_html(void **state)
{
    (void)state;
    struct buf out = {0};
    html_put(&out, "<ä>\xff\x01&\"", 8);
    assert_string_equal(out.data, "&lt;ä&gt;\xEF\xBF\xBD&amp;&quot;");
    buf_release(&out);
    assert_string_equal(page_grouped(0), "0");
    assert_string_equal(page_grouped(999), "999");
    assert_string_equal(page_grouped(124668672), "124,668,672");
}

static void test_page(void **state)
{
    (void)state;
    struct err e;
    struct buf text = {0}, page = {0};
    char *run = path_in("runs/toy");
    char *eval = path_in("runs/toy/eval");
    assert_works(fs_mkdirs(eval, &e), e);
    struct report_options o = {.run = run};
    assert_fails(report_write(&o, &e), e, "it is not a run folder");
    for (int i = 1; i <= 2000; i++)
        buf_printf(&text,
                   "{\"step\":%d,\"tokens\":%d,\"loss\":%.4f,\"lr\":0.001,\"grad_norm\":1,"
                   "\"tokens_per_s\":1000,\"seconds\":%d}\n",
                   i, i * 1000, 9 / (1 + log(i)), i);
    make("runs/toy/metrics.jsonl", text.data);
    make("runs/toy/eval/bpb.jsonl",
         "{\"step\":0,\"tokens\":0,\"bits_per_byte\":3.1,\"stderr\":0.02,\"documents\":5,\"bytes\":"
         "7}\n"
         "{\"step\":2000,\"tokens\":2000000,\"bits_per_byte\":1.75,\"stderr\":0.01}\n");
    make("runs/toy/eval/tasks.jsonl",
         "{\"step\":2000,\"tokens\":2000000,\"task\":\"offensive_lang\",\"metric\":\"macro-F1\","
         "\"score\":0.40,\"stderr\":0.01,\"seed\":42}\n"
         "{\"step\":2000,\"tokens\":2000000,\"task\":\"offensive_lang\",\"metric\":\"macro-F1\","
         "\"score\":0.44,\"stderr\":0.01,\"seed\":43}\n");
    make(
        "runs/toy/eval/samples.jsonl",
        "{\"step\":0,\"prompt\":\"Der Himmel\",\"mode\":\"greedy\",\"text\":\"<script>alert(1)\"}\n"
        "{\"step\":2000,\"prompt\":\"Der Himmel\",\"mode\":\"greedy\",\"text\":\" ist blau\"}\n");
    make("runs/toy/config.yaml", "data:\n  prefix: \"/nowhere/tok\"\n");
    assert_works(report_write(&o, &e), e);
    char *path = path_in("runs/toy/report.html");
    assert_works(fs_read(&page, path, 1 << 20, &e), e);
    assert_balanced(page.data);
    assert_non_null(strstr(page.data, "1.750 ± 0.010"));
    assert_non_null(strstr(page.data, "0.4200 ± 0.0200")); /* mean and error over two seeds */
    assert_non_null(strstr(page.data, " ist blau"));
    assert_non_null(strstr(page.data, "<h1>toy</h1>"));
    assert_non_null(strstr(page.data, "No ledger.json was found"));
    assert_null(strstr(page.data, "<script"));
    /* Self-contained: nothing is fetched. */
    assert_null(strstr(page.data, "src="));
    assert_null(strstr(page.data, "href="));
    assert_null(strstr(page.data, "url("));
    assert_null(strstr(page.data, "@import"));
    o.run = "/nowhere";
    assert_fails(report_write(&o, &e), e, "there is no run folder /nowhere");
    buf_release(&text);
    buf_release(&page);
    free(path);
    free(run);
    free(eval);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_chart),
        cmocka_unit_test(test_html),
        cmocka_unit_test(test_page),
    };
    return cmocka_run_group_tests(tests, NULL, test_folder_remove);
}
