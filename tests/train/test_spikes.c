/* Which losses are spikes, what is said of them, and that a run that goes on finds the same. */
#include "tests/test.h"

#include "common/fs.h"
#include "common/json.h"
#include "train/spikes.h"

#include <math.h>

/* Losses that wander by 0.1 around 4. */
static double usual(int i)
{
    return 4 + 0.1 * sin(i);
}

static void fill(struct spikes *s, int n)
{
    for (int i = 0; i < n; i++)
        assert_false(spikes_check(s, usual(i)));
}

static void test_check(void **state)
{
    (void)state;
    struct spikes s;
    spikes_init(&s, 6);
    fill(&s, SPIKE_LEAST - 1);
    assert_false(spikes_check(&s, 9)); /* too early to tell */
    spikes_init(&s, 6);
    fill(&s, 300);
    assert_false(spikes_check(&s, 4.4)); /* deviation 0.07: 5.7 of them */
    assert_false(spikes_check(&s, NAN));
    assert_false(spikes_check(&s, -50));
    spikes_init(&s, 6);
    fill(&s, 300);
    assert_true(spikes_check(&s, 4.5));
    assert_true(fabs(s.mean - 4) < 0.01);
    assert_true(fabs(s.deviation - 0.1 / sqrt(2)) < 0.001);
    spikes_init(&s, 0); /* off */
    fill(&s, 300);
    assert_false(spikes_check(&s, 1000));
}

static void write_text(const char *name, const struct buf *text)
{
    struct err e;
    char *path = fs_join(test_folder(), "%s", name);
    assert_works(fs_write(path, text->data, text->len, &e), e);
    free(path);
}

/* 100 steps of metrics, a spike at 50 and one at 90; back to step 80. */
static void test_resume(void **state)
{
    (void)state;
    struct buf metrics = {0}, spikes = {0};
    struct spikes whole, again;
    struct err e;
    spikes_init(&whole, 6);
    spikes_init(&again, 6);
    buf_puts(&metrics, "{\"step\": 0, \"valid_loss\": 9}\n");
    for (int i = 1; i <= 80; i++) {
        bool skipped = i == 60;
        spikes_check(&whole, skipped ? NAN : usual(i));
        buf_printf(&metrics, "{\"step\": %d, \"loss\": ", i);
        json_put_f64(&metrics, skipped ? NAN : usual(i));
        buf_puts(&metrics, ", \"lr\": 1}\n");
    }
    buf_puts(&spikes, "{\"step\": 50, \"loss\": 9, \"documents\": [\"a\"]}\n");
    size_t kept = spikes.len;
    buf_puts(&spikes, "{\"step\": 90, \"loss\": 9, \"documents\": [\"b\"]}\n");
    write_text("metrics.jsonl", &metrics);
    write_text("spikes.jsonl", &spikes);
    assert_works(spikes_resume(&again, test_folder(), 80, &e), e);
    assert_int_equal(again.count, 79);
    assert_int_equal(again.count, whole.count);
    assert_memory_equal(again.losses, whole.losses, sizeof(whole.losses));
    char *path = fs_join(test_folder(), "spikes.jsonl");
    buf_release(&metrics);
    assert_works(fs_read(&metrics, path, 4096, &e), e);
    assert_int_equal(metrics.len, kept);
    free(path);
    buf_release(&metrics);
    buf_release(&spikes);
}

/* A line names the documents of all windows of the step. */
static void test_write(void **state)
{
    (void)state;
    struct shard_writer *w;
    struct shard shard;
    struct loader loader;
    struct spikes s;
    struct err e;
    struct buf text = {0};
    char *prefix = fs_join(test_folder(), "tokens");
    assert_works(shard_writer_open(&w, prefix, 64, 1, &e), e);
    for (uint32_t n = 0; n < 4; n++) {
        char id[16];
        uint32_t doc[8] = {n, n, n, n, n, n, n, n};
        snprintf(id, sizeof(id), "doc \"%u\"", n);
        assert_works(shard_writer_add(w, id, strlen(id), doc, 8, 8, &e), e);
    }
    assert_works(shard_writer_commit(w, &e), e);
    assert_works(shard_open(&shard, prefix, &e), e);
    assert_works(loader_init(&loader, &shard, 4, 3, &e), e);
    spikes_init(&s, 6);
    fill(&s, 100);
    assert_true(spikes_check(&s, 5));
    char *run = fs_join(test_folder(), "run");
    assert_works(fs_mkdirs(run, &e), e);
    assert_works(spikes_write(&s, run, 7, 5, &loader, 0, (int64_t)loader.window_count, &e), e);
    char *path = fs_join(run, "spikes.jsonl");
    assert_works(fs_read(&text, path, 4096, &e), e);
    assert_non_null(strstr(text.data, "{\"step\": 7, \"loss\": 5, \"mean\": "));
    for (int n = 0; n < 4; n++) {
        char id[24];
        snprintf(id, sizeof(id), "\"doc \\\"%d\\\"\"", n);
        assert_non_null(strstr(text.data, id));
    }
    assert_true(text.data[text.len - 1] == '\n');
    buf_release(&text);
    free(path);
    free(run);
    shard_close(&shard);
    free(prefix);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_write),
    };
    return cmocka_run_group_tests(tests, NULL, test_folder_remove);
}
