/* Files to batches: nothing lost, nothing cut inside a line, whatever the file holds. */
#include "tests/test.h"

#include "common/rng.h"
#include "data/source.h"

#include <unistd.h>

static char path[256];

static const char *write_file(const char *name, const void *data, size_t len)
{
    struct err e;
    snprintf(path, sizeof(path), "%s/%s", test_folder(), name);
    assert_works(fs_write(path, data, len, &e), e);
    return path;
}

struct seen {
    struct buf text;
    size_t batches, removed, not_read;
    enum removal removal;
    uint64_t removed_bytes;
    char *error;
    bool had_bom;
    enum source_kind kind;
};

static void seen_release(struct seen *s)
{
    buf_release(&s->text);
    free(s->error);
}

static struct seen read_all(const char *name, size_t max_line_bytes)
{
    struct seen s = {0};
    struct source src;
    struct batch b = {0};
    source_init(&src, name, 3, max_line_bytes);
    while (!src.done) {
        batch_clear(&b);
        source_read(&src, &b);
        assert_int_equal(b.file, 3);
        assert_int_equal(b.last, src.done);
        s.batches++;
        if (b.kind == BATCH_LINES || b.kind == BATCH_TEXT) {
            assert_true(b.raw.len > 0);
            if (b.kind == BATCH_LINES && !b.last)
                assert_int_equal(b.raw.data[b.raw.len - 1], '\n');
            buf_add(&s.text, b.raw.data, b.raw.len);
        }
        if (b.kind == BATCH_REMOVED) {
            s.removed++;
            s.removal = b.removal;
            s.removed_bytes = b.removed_bytes;
        }
        if (b.error)
            s.error = strdup(b.error);
    }
    s.had_bom = src.had_bom;
    s.kind = src.kind;
    source_release(&src);
    batch_release(&b);
    return s;
}

static void make_lines(struct buf *out, size_t bytes)
{
    struct rng r;
    rng_init(&r, 3, 0);
    while (out->len < bytes) {
        buf_puts(out, "{\"text\":\"");
        for (uint64_t n = rng_below(&r, 6000); n; n--)
            buf_putc(out, (char)('a' + rng_below(&r, 26)));
        buf_puts(out, "\"}\n");
    }
}

static void test_nothing_lost(void **state)
{
    (void)state;
    struct buf text = {0}, packed = {0};
    make_lines(&text, 3 << 20);
    text.len--; /* no newline at the end */
    struct seen s = read_all(write_file("plain", text.data, text.len), 1 << 24);
    assert_true(s.batches >= 6);
    assert_int_equal(s.kind, SOURCE_LINES);
    assert_int_equal(s.text.len, text.len);
    assert_memory_equal(s.text.data, text.data, text.len);
    seen_release(&s);
    /* The same in two zstd frames. */
    stream_zstd_frame(&packed, text.data, 1000001);
    stream_zstd_frame(&packed, text.data + 1000001, text.len - 1000001);
    s = read_all(write_file("packed", packed.data, packed.len), 1 << 24);
    assert_int_equal(s.text.len, text.len);
    assert_memory_equal(s.text.data, text.data, text.len);
    assert_null(s.error);
    seen_release(&s);
    /* Cut off: what comes before stays, the torn line is counted. */
    s = read_all(write_file("cut", packed.data, packed.len - 5000), 1 << 24);
    assert_non_null(s.error);
    assert_non_null(strstr(s.error, "cut"));
    assert_true(s.text.len > 900000 && s.text.len < text.len);
    assert_memory_equal(s.text.data, text.data, s.text.len);
    assert_int_equal(s.text.data[s.text.len - 1], '\n');
    assert_true(s.removed == 1 && s.removal == REMOVAL_TRUNCATED);
    seen_release(&s);
    buf_release(&text);
    buf_release(&packed);
}

/* An overlong line is passed, wherever it stands; its neighbours stay. */
static void test_overlong(void **state)
{
    (void)state;
    struct buf text = {0};
    static const char good[] = "{\"text\":\"gut\"}\n";
    for (int where = 0; where < 4; where++) {
        text.len = 0;
        if (where == 1 || where == 2)
            buf_puts(&text, good);
        buf_putc(&text, '{');
        for (int i = 0; i < 2000000; i++)
            buf_putc(&text, 'x');
        if (where < 3)
            buf_putc(&text, '\n');
        if (where < 2)
            buf_puts(&text, good);
        struct seen s = read_all(write_file("long", text.data, text.len), 1000000);
        assert_int_equal(s.removed, 1);
        assert_int_equal(s.removal, REMOVAL_TOO_LONG);
        assert_int_equal(s.removed_bytes, 2000001 + (where < 3));
        assert_int_equal(s.text.len, (sizeof(good) - 1) * (size_t)((where < 2) + (where % 3 > 0)));
        seen_release(&s);
    }
    buf_release(&text);
}

/* 64 MiB of zeros in 2 kB: read past in the memory of a batch. */
static void test_bomb(void **state)
{
    (void)state;
    struct buf zeros = {0}, packed = {0};
    size_t len = 8 << 20;
    buf_reserve(&zeros, len);
    memset(zeros.data, 0, len);
    for (int i = 0; i < 8; i++)
        stream_zstd_frame(&packed, zeros.data, len);
    assert_true(packed.len < 16384);
    struct seen s = read_all(write_file("bomb", packed.data, packed.len), 1 << 20);
    assert_true(s.removed == 1 && s.removal == REMOVAL_TOO_LONG);
    assert_int_equal(s.removed_bytes, 8 * len);
    assert_null(s.error);
    seen_release(&s);
    /* 400 MiB in 13 kB: given up. */
    for (int i = 8; i < 50; i++)
        stream_zstd_frame(&packed, zeros.data, len);
    s = read_all(write_file("bomb", packed.data, packed.len), 1 << 20);
    assert_non_null(strstr(s.error, "expands more than 2000-fold"));
    assert_true(s.removed == 1 && s.removed_bytes < 45 * len);
    seen_release(&s);
    buf_release(&zeros);
    buf_release(&packed);
}

static void test_kinds(void **state)
{
    (void)state;
    static const char line[] = "\xef\xbb\xbf \n{\"text\":\"a\"}\n";
    struct seen s = read_all(write_file("bom", line, sizeof(line) - 1), 1000);
    assert_true(s.had_bom && s.kind == SOURCE_LINES);
    assert_int_equal(s.text.len, sizeof(line) - 4);
    seen_release(&s);
    s = read_all(write_file("a.txt", "Guten Tag\nund\n", 14), 1000);
    assert_int_equal(s.kind, SOURCE_TEXT);
    assert_int_equal(s.batches, 1);
    assert_int_equal(s.text.len, 14);
    seen_release(&s);
    s = read_all(write_file("a.jsonl", "Guten Tag\nund\n", 14), 1000);
    assert_int_equal(s.kind, SOURCE_LINES);
    seen_release(&s);
    s = read_all(write_file("a.json.gz", "Guten Tag\nund\n", 14), 1000);
    assert_int_equal(s.kind, SOURCE_LINES);
    seen_release(&s);
    s = read_all(write_file("b.txt", "Guten Tag\nund\n", 14), 10);
    assert_true(s.removed == 1 && s.removal == REMOVAL_TOO_LONG && s.removed_bytes == 14);
    seen_release(&s);
    s = read_all(write_file("empty", "", 0), 10);
    assert_true(!s.removed && !s.text.len && s.batches == 1 && !s.error);
    seen_release(&s);
    snprintf(path, sizeof(path), "%s/absent", test_folder());
    s = read_all(path, 10);
    assert_non_null(strstr(s.error, "absent"));
    seen_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_lost),
        cmocka_unit_test(test_overlong),
        cmocka_unit_test(test_bomb),
        cmocka_unit_test(test_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, test_folder_remove);
}
