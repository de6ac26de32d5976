/* Compressed files: every shape that must be read, every damage that must be told. */
#include "tests/test.h"

#include "common/rng.h"
#include "common/stream.h"

#include <unistd.h>

static void make(const char *path, const void *data, size_t len)
{
    struct err e;
    assert_works(fs_write(path, data, len, &e), e);
}

static int read_all(const char *path, struct buf *out, size_t step, struct err *e)
{
    struct reader r;
    buf_clear(out);
    if (reader_open(&r, path, e))
        return -1;
    ssize_t n;
    char *piece = mem_alloc(step);
    while ((n = reader_read(&r, piece, step, e)) > 0)
        buf_add(out, piece, (size_t)n);
    free(piece);
    reader_close(&r);
    return n < 0 ? -1 : 0;
}

/* Words that compress somewhat, so that members have several blocks. */
static void some_text(struct buf *b, size_t bytes, uint64_t seed)
{
    struct rng r;
    rng_init(&r, seed, 0);
    buf_clear(b);
    while (b->len < bytes)
        buf_printf(b, "%llu wort\n", (unsigned long long)rng_below(&r, 100000));
}

static void gzip(const char *from, const char *to)
{
    char command[512];
    snprintf(command, sizeof(command), "gzip -nc %s > %s", from, to);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    assert_int_equal(pclose(p), 0);
}

static void join(struct buf *out, const char *path)
{
    struct buf b = {0};
    struct err e;
    assert_works(fs_read(&b, path, SIZE_MAX, &e), e);
    buf_add(out, b.data, b.len);
    buf_release(&b);
}

static void test_gzip_members(void **state)
{
    (void)state;
    struct err e;
    struct buf text = {0}, all = {0}, zipped = {0}, back = {0};
    char plain[128], packed[128], joined[128];
    snprintf(plain, sizeof(plain), "%s/a", test_folder());
    snprintf(packed, sizeof(packed), "%s/a.gz", test_folder());
    snprintf(joined, sizeof(joined), "%s/all.gz", test_folder());
    /* Many members of many sizes: borders fall everywhere relative to the input chunks. */
    for (int i = 0; i < 60; i++) {
        some_text(&text, i == 30 ? 3000000 : (size_t)(i * i * 37), (uint64_t)i);
        make(plain, text.data ? text.data : "", text.len);
        gzip(plain, packed);
        join(&zipped, packed);
        buf_add(&all, text.data, text.len);
    }
    buf_add(&zipped, "\0\0\0", 3); /* padding, as tapes and some crawlers leave it */
    make(joined, zipped.data, zipped.len);
    static const size_t steps[] = {1 << 20, 4096, 7};
    for (size_t i = 0; i < 3; i++) {
        assert_works(read_all(joined, &back, steps[i], &e), e);
        assert_int_equal(back.len, all.len);
        assert_memory_equal(back.data, all.data, all.len);
    }
    buf_release(&text);
    buf_release(&all);
    buf_release(&zipped);
    buf_release(&back);
}

static void test_gzip_damage(void **state)
{
    (void)state;
    struct err e;
    struct buf text = {0}, zipped = {0}, back = {0};
    char plain[128], packed[128];
    snprintf(plain, sizeof(plain), "%s/b", test_folder());
    snprintf(packed, sizeof(packed), "%s/b.gz", test_folder());
    some_text(&text, 700000, 1);
    make(plain, text.data, text.len);
    gzip(plain, packed);
    join(&zipped, packed);
    make(packed, zipped.data, zipped.len / 2);
    assert_fails(read_all(packed, &back, 65536, &e), e, "ends too early");
    assert_true(back.len > 0 && !memcmp(back.data, text.data, back.len));
    make(packed, zipped.data, zipped.len - 1);
    assert_fails(read_all(packed, &back, 65536, &e), e, "ends too early");
    zipped.data[zipped.len - 6] ^= 1; /* the checksum */
    make(packed, zipped.data, zipped.len);
    assert_fails(read_all(packed, &back, 65536, &e), e, "checksum");
    zipped.data[zipped.len - 6] ^= 1;
    buf_puts(&zipped, "rubbish");
    make(packed, zipped.data, zipped.len);
    assert_fails(read_all(packed, &back, 65536, &e), e, "not gzip follow");
    buf_release(&text);
    buf_release(&zipped);
    buf_release(&back);
}

static void test_zstd(void **state)
{
    (void)state;
    struct err e;
    struct buf text = {0}, frames = {0}, back = {0};
    char path[128];
    snprintf(path, sizeof(path), "%s/c.zst", test_folder());
    some_text(&text, 1500000, 2);
    struct writer w;
    assert_works(writer_open(&w, path, &e), e);
    for (size_t at = 0; at < text.len; at += 99991)
        assert_works(
            writer_write(&w, text.data + at, text.len - at < 99991 ? text.len - at : 99991, &e), e);
    assert_false(fs_exists(path)); /* nothing half-written stands under the name */
    assert_works(writer_commit(&w, &e), e);
    assert_works(read_all(path, &back, 5000, &e), e);
    assert_int_equal(back.len, text.len);
    assert_memory_equal(back.data, text.data, text.len);

    stream_zstd_frame(&frames, text.data, 1000);
    stream_zstd_frame(&frames, text.data + 1000, text.len - 1000);
    make(path, frames.data, frames.len);
    assert_works(read_all(path, &back, 100000, &e), e);
    assert_int_equal(back.len, text.len);
    assert_memory_equal(back.data, text.data, text.len);
    make(path, frames.data, frames.len - 3);
    assert_fails(read_all(path, &back, 100000, &e), e, "ends too early");
    frames.data[frames.len / 2] ^= 0x10;
    make(path, frames.data, frames.len);
    assert_fails(read_all(path, &back, 100000, &e), e, "c.zst: byte ");
    buf_release(&text);
    buf_release(&frames);
    buf_release(&back);
}

static void test_lines(void **state)
{
    (void)state;
    struct err e;
    char path[128];
    snprintf(path, sizeof(path), "%s/lines", test_folder());
    make(path, "eins\n\nzwei\r\ndrei", 16);
    struct reader r;
    struct lines l;
    const char *line;
    size_t len;
    assert_works(reader_open(&r, path, &e), e);
    lines_init(&l, &r);
    static const char *const wanted[] = {"eins\n", "\n", "zwei\r\n", "drei"};
    static const uint64_t offsets[] = {0, 5, 6, 12};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(lines_next(&l, &line, &len, &e), LINES_LINE);
        assert_int_equal(len, strlen(wanted[i]));
        assert_memory_equal(line, wanted[i], len);
        assert_int_equal(l.number, i + 1);
        assert_int_equal(l.offset, offsets[i]);
    }
    assert_int_equal(lines_next(&l, &line, &len, &e), LINES_END);
    lines_release(&l);
    reader_close(&r);
}

static void test_long_line(void **state)
{
    (void)state;
    struct err e;
    char path[128];
    snprintf(path, sizeof(path), "%s/long.zst", test_folder());
    struct writer w;
    assert_works(writer_open(&w, path, &e), e);
    enum { MIB = 1 << 20 };
    char *block = mem_alloc(MIB);
    memset(block, 'x', MIB);
    uint64_t bytes = 0;
    for (; bytes <= STREAM_LINE_MAX + MIB; bytes += MIB)
        assert_works(writer_write(&w, block, MIB, &e), e);
    assert_works(writer_write(&w, "\nnext\n", 6, &e), e);
    assert_works(writer_commit(&w, &e), e);
    free(block);
    struct reader r;
    struct lines l;
    const char *line;
    size_t len;
    assert_works(reader_open(&r, path, &e), e);
    lines_init(&l, &r);
    assert_int_equal(lines_next(&l, &line, &len, &e), LINES_TOO_LONG);
    assert_int_equal(len, bytes + 1);
    assert_int_equal(lines_next(&l, &line, &len, &e), LINES_LINE);
    assert_int_equal(l.number, 2);
    assert_int_equal(l.offset, bytes + 1);
    assert_memory_equal(line, "next\n", 5);
    assert_int_equal(lines_next(&l, &line, &len, &e), LINES_END);
    lines_release(&l);
    reader_close(&r);
}

static void test_missing(void **state)
{
    (void)state;
    struct err e;
    struct reader r;
    assert_fails(reader_open(&r, "/nowhere/x", &e), e, "cannot open /nowhere/x: No such file");
    assert_fails(reader_open(&r, test_folder(), &e), e, "is a folder");
    struct writer w;
    assert_fails(writer_open(&w, "/nowhere/x", &e), e, "cannot write /nowhere/x");
}

static bool holds_json(const char *path, const char *head)
{
    return stream_holds_json(path, head, strlen(head));
}

static void test_kind(void **state)
{
    (void)state;
    static const char *const json[] = {"a.json",     "a.jsonl",     "a/b.ndjson",  "a.json.gz",
                                       "a.json.zst", "a.jsonl.zst", "a.ndjson.gz", ".json"};
    static const char *const other[] = {
        "a.txt", "a.json.txt", "json", "a.gz", "a.json.gz.zst", "a.json.xz", "", "-", "jsonl.zst"};
    for (size_t i = 0; i < sizeof(json) / sizeof(*json); i++)
        assert_true(holds_json(json[i], "Text"));
    for (size_t i = 0; i < sizeof(other) / sizeof(*other); i++) {
        assert_false(holds_json(other[i], "Text {"));
        assert_false(holds_json(other[i], "\xef\xbb\xbf[{"));
        assert_true(holds_json(other[i], "{\"text\""));
        assert_true(holds_json(other[i], " \t\r\n{"));
        assert_true(holds_json(other[i], "\xef\xbb\xbf \n{"));
    }
    assert_false(holds_json("a", "\xef\xbb\xbf\xef\xbb\xbf{"));
    assert_false(stream_holds_json("a", "\0{", 2));
    assert_false(stream_holds_json("a", NULL, 0));
    assert_true(stream_holds_json("a.json", NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gzip_members), cmocka_unit_test(test_gzip_damage),
        cmocka_unit_test(test_zstd),         cmocka_unit_test(test_lines),
        cmocka_unit_test(test_long_line),    cmocka_unit_test(test_missing),
        cmocka_unit_test(test_kind),
    };
    return cmocka_run_group_tests(tests, NULL, test_folder_remove);
}
