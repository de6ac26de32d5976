/* UTF-8, random numbers, hashes, files, memory, words for humans. */
#include "tests/test.h"

#include "common/cpu.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/rng.h"
#include "common/utf8.h"

#include <math.h>
#include <unistd.h>

/* Validity from first principles: decode by hand, encode again, compare. */
static size_t invalid_at_slowly(const unsigned char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = s[i] < 0x80 ? 1 : s[i] < 0xE0 ? 2 : s[i] < 0xF0 ? 3 : 4;
        uint32_t cp = n == 1 ? s[i] : s[i] & (0xFFu >> (n + 1));
        char again[4];
        if (n > len - i)
            return i;
        for (size_t k = 1; k < n; k++)
            cp = cp << 6 | (s[i + k] & 0x3F);
        if (utf8_encode(cp, again) != n || memcmp(again, s + i, n) != 0)
            return i;
        i += n;
    }
    return len;
}

static void test_utf8_against_slow(void **state)
{
    (void)state;
    static const unsigned char pool[] = {'a',  ' ',  0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F,
                                         0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xC3, 0xDF, 0xE0,
                                         0xE1, 0xED, 0xEF, 0xF0, 0xF1, 0xF4, 0xF5, 0xFF};
    struct rng r;
    rng_init(&r, 1, 1);
    unsigned char s[24];
    for (int i = 0; i < 300000; i++) {
        size_t len = rng_below(&r, sizeof(s) + 1);
        for (size_t k = 0; k < len; k++)
            s[k] = pool[rng_below(&r, sizeof(pool))];
        assert_int_equal(utf8_invalid_at((char *)s, len), invalid_at_slowly(s, len));
    }
    char enc[4];
    for (uint32_t cp = 0; cp < 0x110000; cp++) {
        size_t n = utf8_encode(cp, enc);
        uint32_t back = 0;
        if (cp >= 0xD800 && cp <= 0xDFFF) {
            assert_int_equal(n, 0);
            continue;
        }
        assert_int_equal(utf8_decode(enc, n, &back), n);
        assert_int_equal(back, cp);
        assert_int_equal(utf8_complete_prefix(enc, n), n);
        for (size_t cut = 1; cut < n; cut++)
            assert_int_equal(utf8_complete_prefix(enc, cut), 0);
    }
    assert_int_equal(utf8_encode(0x110000, enc), 0);
    assert_int_equal(utf8_complete_prefix("ab\xc3", 3), 2);
    assert_int_equal(utf8_complete_prefix("ab\xff", 3), 3);
    assert_int_equal(utf8_complete_prefix("\xe2\x82", 2), 0);
}

static void test_words(void **state)
{
    (void)state;
    assert_int_equal(utf8_count_words("", 0), 0);
    assert_int_equal(utf8_count_words("  Der Himmel\tist\nblau ", 22), 4);
    assert_int_equal(utf8_count_words("a\xc2\xa0"
                                      "b\xe2\x80\x8b"
                                      "c",
                                      8),
                     2); /* NBSP separates, U+200B does not */
}

/* Words character by character; bytes that are not UTF-8 belong to words. */
static size_t count_words_slowly(const char *s, size_t len)
{
    size_t words = 0;
    bool in_word = false;
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        size_t n = utf8_decode(s + i, len - i, &cp);
        bool space = n && utf8_is_space(cp);
        words += !space && !in_word;
        in_word = !space;
        i += n ? n : 1;
    }
    return words;
}

static void test_words_against_slow(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 9, 0);
    for (int round = 0; round < 20000; round++) {
        char s[64];
        size_t len = 0, wanted = rng_below(&r, 50);
        while (len < wanted) {
            uint64_t kind = rng_below(&r, 8);
            uint32_t cp = kind < 3   ? (uint32_t)rng_below(&r, 0x80)
                          : kind < 6 ? 0x80 + (uint32_t)rng_below(&r, 0x3000)
                                     : (uint32_t)rng_below(&r, 0x11000);
            if (kind == 7)
                s[len++] = (char)rng_below(&r, 256);
            else
                len += utf8_encode(kind == 3 ? 0x2000 + cp % 0x60 : cp, s + len);
        }
        assert_int_equal(utf8_count_words(s, len), count_words_slowly(s, len));
    }
    /* Each code point between two letters. */
    for (uint32_t cp = 0; cp < 0x11000; cp++) {
        char s[8] = "a";
        size_t n = utf8_encode(cp, s + 1);
        s[1 + n] = 'b';
        assert_int_equal(utf8_count_words(s, n + 2), n && utf8_is_space(cp) ? 2 : 1);
    }
}

static void test_rng(void **state)
{
    (void)state;
    struct rng a, b;
    rng_init(&a, 42, 0);
    rng_init(&b, 42, 1);
    assert_true(rng_u64(&a) != rng_u64(&b));
    rng_init(&a, 42, 0);
    /* The sequence is part of every run's identity: it may never change. */
    assert_true(rng_u64(&a) == UINT64_C(0xC986FD807E5B8AB5));
    double sum = 0, squares = 0;
    enum { N = 200000 };
    for (int i = 0; i < N; i++) {
        double x = rng_normal(&a);
        sum += x;
        squares += x * x;
    }
    assert_true(fabs(sum / N) < 0.01 && fabs(squares / N - 1) < 0.015);
    uint64_t counts[7] = {0};
    for (int i = 0; i < 70000; i++)
        counts[rng_below(&a, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_true(counts[i] > 9500 && counts[i] < 10500);
    uint32_t v[100];
    for (uint32_t i = 0; i < 100; i++)
        v[i] = i;
    rng_shuffle(&a, v, 100);
    uint64_t seen[2] = {0};
    for (int i = 0; i < 100; i++)
        seen[v[i] / 64] |= (uint64_t)1 << v[i] % 64;
    assert_true(seen[0] == UINT64_MAX && seen[1] == ((uint64_t)1 << 36) - 1);
}

static void test_hash(void **state)
{
    (void)state;
    /* Reference values of XXH3-64 with seed 0. */
    assert_true(hash64("", 0) == UINT64_C(0x2D06800538D394C2));
    struct hash_state *h = hash_new();
    hash_add(h, "Mund", 4);
    hash_add(h, "werk", 4);
    assert_true(hash_end(h) == hash64("Mundwerk", 8));
    hash_free(h);
}

static void test_files(void **state)
{
    (void)state;
    struct err e;
    char *folder = fs_join(test_folder(), "a/b/c");
    assert_works(fs_mkdirs(folder, &e), e);
    assert_works(fs_mkdirs(folder, &e), e);
    char *z = fs_join(folder, "z.txt");
    char *a = fs_join(folder, "%s", "a.txt");
    char *hidden = fs_join(folder, ".hidden");
    assert_works(fs_write(z, "zz", 2, &e), e);
    assert_works(fs_write(a, "a", 1, &e), e);
    assert_works(fs_write(hidden, "h", 1, &e), e);
    struct fs_list list = {0};
    char *paths[] = {z, (char *)test_folder(), z};
    assert_works(fs_list_files(&list, paths, 3, &e), e);
    assert_int_equal(list.count, 2);
    assert_string_equal(list.paths[0], a);
    assert_string_equal(list.paths[1], z);
    fs_list_release(&list);
    char *missing[] = {"/nowhere"};
    assert_fails(fs_list_files(&list, missing, 1, &e), e, "cannot open /nowhere");
    fs_list_release(&list);
    struct buf b = {0};
    assert_works(fs_read(&b, z, 2, &e), e);
    assert_string_equal(b.data, "zz");
    assert_fails(fs_read(&b, z, 1, &e), e, "is larger than 1 bytes");
    buf_release(&b);
    assert_fails(fs_write(folder, "x", 1, &e), e, "cannot rename");
    assert_fails(fs_mkdirs(z, &e), e, "not a folder");
    uint64_t hash, bytes;
    assert_works(hash_file(z, &hash, &bytes, &e), e);
    assert_true(hash == hash64("zz", 2) && bytes == 2);
    char *copy = fs_join(folder, "copy");
    assert_works(fs_copy(z, copy, &e), e);
    assert_works(fs_size(copy, &bytes, &e), e);
    assert_int_equal(bytes, 2);
    assert_works(fs_remove_tree(folder, &e), e);
    assert_false(fs_exists(folder));
    free(copy);
    free(hidden);
    free(folder);
    free(z);
    free(a);
}

static void assert_holds(const char *folder, const char *text)
{
    struct err e;
    struct buf b = {0};
    char *path = fs_join(folder, "file");
    assert_works(fs_read(&b, path, 100, &e), e);
    assert_string_equal(b.data, text);
    buf_release(&b);
    free(path);
}

static void make_holding(const char *folder, const char *text)
{
    struct err e;
    char *path = fs_join(folder, "file");
    assert_works(fs_mkdirs(folder, &e), e);
    assert_works(fs_write(path, text, strlen(text), &e), e);
    free(path);
}

static void test_replace_folder(void **state)
{
    (void)state;
    struct err e;
    char *fresh = fs_join(test_folder(), "fresh"), *to = fs_join(test_folder(), "to");
    char *old = fs_join(test_folder(), "old");
    make_holding(fresh, "one");
    assert_works(fs_replace_folder(fresh, to, old, &e), e);
    assert_holds(to, "one");
    make_holding(fresh, "two");
    assert_works(fs_replace_folder(fresh, to, old, &e), e);
    assert_holds(to, "two");
    assert_false(fs_exists(fresh) || fs_exists(old));
    make_holding(fresh, "three");
    make_holding(old, "in the way");
    assert_fails(fs_replace_folder(fresh, to, old, &e), e, "cannot rename");
    assert_holds(to, "two");
    assert_holds(fresh, "three");
    assert_holds(old, "in the way");
    assert_works(fs_remove_tree(fresh, &e), e);
    assert_fails(fs_replace_folder(fresh, to, old, &e), e, "cannot rename");
    assert_holds(to, "two");
    free(fresh);
    free(to);
    free(old);
}

static void test_memory(void **state)
{
    (void)state;
    struct err e;
    char *p = mem_map(3000000, "a test", &e);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % (2 << 20), 0);
    assert_int_equal(p[2999999], 0);
    p[0] = p[2999999] = 1;
    mem_unmap(p, 3000000);
    assert_null(mem_map((size_t)1 << 62, "a test", &e));
    assert_non_null(strstr(e.msg, "cannot reserve"));
    assert_non_null(strstr(e.msg, "a test"));
}

static void test_words_for_humans(void **state)
{
    (void)state;
    assert_string_equal(log_bytes(999), "999 B");
    assert_string_equal(log_bytes(1500), "1.5 kB");
    assert_string_equal(log_count(124668672), "125M");
    assert_string_equal(log_duration(7500), "2 h 05 min");
    assert_string_equal(log_duration(3), "3.0 s");
}

static void test_errors(void **state)
{
    (void)state;
    struct err e;
    err_set(&e, "inner %d", 1);
    assert_int_equal(err_add(&e, "outer"), -1);
    assert_string_equal(e.msg, "outer: inner 1");
    for (int i = 0; i < 300; i++)
        err_add(&e, "a long context");
    assert_int_equal(strlen(e.msg), sizeof(e.msg) - 1);
}

static void test_cpu(void **state)
{
    (void)state;
    enum cpu_level best = cpu_level();
    assert_int_equal(cpu_level_force(CPU_C), CPU_C);
    assert_int_equal(cpu_level(), CPU_C);
    assert_true(cpu_level_force(CPU_AMX) >= best);
    assert_true(cpu_count() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_against_slow),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_words_against_slow),
        cmocka_unit_test(test_rng),
        cmocka_unit_test(test_hash),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_replace_folder),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_words_for_humans),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, test_folder_remove);
}
