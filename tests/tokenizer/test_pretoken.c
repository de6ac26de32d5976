/* Pre-tokenization: the cuts, no byte lost, invalid bytes, custom patterns, time. */
#include "tests/test.h"

#include "common/json.h"
#include "common/rng.h"
#include "tokenizer/bytemap.h"
#include "tokenizer/pretoken.h"

#include <time.h>

static const char *const names[] = {"gpt2", "llama3", "qwen2", "o200k", "german"};

static struct splitter *open_splitter(struct pattern **p, const char *regex)
{
    struct err e;
    if (pattern_compile(p, regex, &e))
        fail_msg("%s", e.msg);
    return splitter_new(*p);
}

static void close_splitter(struct splitter *s, struct pattern *p)
{
    splitter_free(s);
    pattern_free(p);
}

/* The pieces of text joined by '|'. */
static void pieces_are(const char *regex, const char *text, size_t len, const char *wanted)
{
    struct pattern *p;
    struct splitter *s = open_splitter(&p, regex);
    struct piece piece;
    struct buf got = {0};
    struct err e;
    int more;
    splitter_start(s, text, len);
    while ((more = splitter_next(s, &piece, &e)) > 0) {
        if (got.len)
            buf_putc(&got, '|');
        buf_add(&got, text + piece.start, piece.len);
    }
    assert_int_equal(more, 0);
    buf_putc(&got, '\0');
    assert_string_equal(got.data, wanted);
    buf_release(&got);
    close_splitter(s, p);
}

static void cut(const char *name, const char *text, const char *wanted)
{
    pieces_are(pattern_regex(name), text, strlen(text), wanted);
}

/* What Hugging Face's Split makes of these (spec/tokenizer.md §3.3). */
static void test_german_cuts(void **state)
{
    (void)state;
    cut("gpt2", "Ost-West-Konflikt", "Ost|-|West|-|Konflikt");
    cut("llama3", "Ost-West-Konflikt", "Ost|-West|-Konflikt");
    cut("gpt2", "geht's", "geht|'s");
    cut("o200k", "geht's", "geht's");
    cut("llama3", "geht’s", "geht|’s");
    cut("llama3", "1.234,56 am 31.12.1999", "1|.|234|,|56| am| |31|.|12|.|199|9");
    cut("gpt2", "1.234,56 am 31.12.1999", "1|.|234|,|56| am| 31|.|12|.|1999");
    cut("qwen2", "1999", "1|9|9|9");
    cut("german", "am 31.12.1999", "am| 31|.|12|.|199|9");
    cut("llama3", "„Zitat“", "„Zitat|“");
    cut("german", "„Zitat“", "„|Zitat|“");
    cut("german", "a\xCC\x88rger", "a\xCC\x88rger");
    cut("o200k", "GrößeÄnderung", "Größe|Änderung");
    cut("llama3", "GrößeÄnderung", "GrößeÄnderung");
    cut("llama3", "a   b", "a|  | b");
    cut("llama3", "a \n \n b", "a| \n \n| b");
    cut("llama3", "x  ", "x|  ");
    cut("gpt2", "", "");
}

static void test_caseless_contraction_knows_long_s(void **state)
{
    (void)state;
    cut("llama3", "a'\xC5\xBF", "a|'\xC5\xBF");
    cut("llama3",
        "a'\xC5\xBF"
        "b",
        "a|'\xC5\xBF|b");
}

static void test_invalid_bytes_stand_alone(void **state)
{
    (void)state;
    const char *l3 = pattern_regex("llama3");
    pieces_are(l3,
               "ab\xFF\xFE"
               "cd",
               6, "ab|\xFF|\xFE|cd");
    pieces_are(l3, "\xC3", 1, "\xC3");
    pieces_are(l3, "gr\xFC\xDF", 4, "gr|\xFC|\xDF");
    pieces_are(l3, "a \xE2\x82 b", 6, "a| |\xE2|\x82| b");
    pieces_are(l3, "\xED\xA0\x80x", 4, "\xED|\xA0|\x80|x");
}

static void test_custom_patterns(void **state)
{
    (void)state;
    pieces_are("b+", "abba", 4, "a|bb|a");    /* between matches is a piece too */
    pieces_are("x*", "abxxc", 5, "a|b|xx|c"); /* an empty match is a border */
    pieces_are("(?=b)", "abab", 4, "a|ba|b");
    pieces_are("(?=ö)", "aöö", 5, "a|ö|ö");
    pieces_are("", "a b\xFF", 4, "a b|\xFF");
    pieces_are("z", "abc", 3, "abc");
    /* As Oniguruma: $ and ^ at every line, the dot does not match a line feed. */
    pieces_are("a$", "aa\na\n", 5, "a|a|\n|a|\n");
    pieces_are("^a", "aa\naa", 5, "a|a\n|a|a");
    pieces_are(".+", "ab\r\ncd", 6, "ab\r|\n|cd");
    pieces_are("[{1}+]|\\{1,2}+|\\p{L}+|(x{2})+", "ab{1}", 5, "ab|{|1|}");
}

/* U+180E is white space to PCRE2 alone. */
static void test_white_space_is_oniguruma_s(void **state)
{
    (void)state;
    cut("gpt2", "a\xE1\xA0\x8E \xE1\xA0\x8E\xE3\x80\x80z",
        "a|\xE1\xA0\x8E| \xE1\xA0\x8E|\xE3\x80\x80|z");
    cut("llama3", "a\xE1\xA0\x8E\xE3\x80\x80z\xC2\x85", "a|\xE1\xA0\x8E|\xE3\x80\x80z|\xC2\x85");
    pieces_are("[\\s-]+", "a -\xE1\xA0\x8E z", 8, "a| -|\xE1\xA0\x8E| |z");
    pieces_are("\\S+", "a\xE1\xA0\x8Ez c", 7, "a\xE1\xA0\x8Ez| |c");
    pieces_are("[\\sa]+",
               " a\xE1\xA0\x8E\xE2\x80\x83"
               "a",
               9,
               " a|\xE1\xA0\x8E|\xE2\x80\x83"
               "a");
    pieces_are("[]\\s]+|\\x{61}+", "a] \xE1\xA0\x8E", 6, "a|] |\xE1\xA0\x8E");
    pieces_are("[[:alpha:]\\s]+", "a z1\xE1\xA0\x8E", 7, "a z|1\xE1\xA0\x8E");
    pieces_are("[\\\\s]", "s a", 3, "s| a"); /* a backslash and an s */
}

static void test_bad_patterns(void **state)
{
    (void)state;
    struct pattern *p;
    struct err e;
    assert_int_equal(pattern_compile(&p, "a(b", &e), -1);
    assert_null(p);
    assert_says(&e, "the pattern is not understood at byte 3: missing closing parenthesis");
    assert_int_equal(pattern_compile(&p, "\\C", &e), -1);
    assert_says(&e, "the pattern is not understood");
    assert_int_equal(pattern_compile(&p, "\\p{N}{1,3}+|a", &e), -1);
    assert_says(&e, "the pattern has an interval with a plus behind it at byte 5");
    assert_int_equal(pattern_compile(&p, "[a[bc]]", &e), -1);
    assert_says(&e, "the pattern has a class inside a class at byte 2");
    assert_int_equal(pattern_compile(&p, "[\\w&&a]", &e), -1);
    assert_says(&e, "a class inside a class at byte 3");
    assert_null(pattern_regex("klingon"));
    assert_string_equal(pattern_name("klingon"), "custom");
    assert_string_equal(pattern_name(pattern_regex("german")), "german");
}

/* A pattern that would take for ever ends in a sentence. */
static void test_explosive_pattern(void **state)
{
    (void)state;
    struct pattern *p;
    struct splitter *s = open_splitter(&p, "(a|a)*(a|a)*[^a]");
    char text[64];
    struct piece piece;
    struct err e;
    memset(text, 'a', sizeof(text));
    splitter_start(s, text, sizeof(text));
    assert_int_equal(splitter_next(s, &piece, &e), -1);
    assert_says(&e, "the pattern gives up at byte 0 of a text: match limit exceeded");
    close_splitter(s, p);
}

/* Pieces follow each other without gap, whatever the bytes. */
static void test_nothing_is_lost(void **state)
{
    (void)state;
    static const char pool[] = "ab \t\r\n'19.,\xC3\xA4\xC3\x9F\xE2\x80\x9E\xF0\x9F\x98\x80\xFF";
    struct rng r;
    char text[64];
    rng_init(&r, 7, 7);
    for (size_t k = 0; k < 5; k++) {
        struct pattern *p;
        struct splitter *s = open_splitter(&p, pattern_regex(names[k]));
        for (int i = 0; i < 20000; i++) {
            size_t len = rng_below(&r, sizeof(text) + 1), at = 0;
            struct piece piece;
            struct err e;
            for (size_t b = 0; b < len; b++)
                text[b] = i % 2 ? pool[rng_below(&r, sizeof(pool) - 1)] : (char)rng_u64(&r);
            splitter_start(s, text, len);
            while (splitter_next(s, &piece, &e) > 0) {
                assert_int_equal(piece.start, at);
                assert_true(piece.len > 0);
                at += piece.len;
            }
            assert_int_equal(at, len);
        }
        close_splitter(s, p);
    }
}

/* Of this thread: other programs must not make a test fail. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double seconds_to_cut(struct splitter *s, const char *text, size_t len)
{
    struct piece piece;
    struct err e;
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        double start = cpu_seconds();
        splitter_start(s, text, len);
        while (splitter_next(s, &piece, &e) > 0)
            continue;
        double took = cpu_seconds() - start;
        if (took < best)
            best = took;
    }
    return best;
}

/* 16 times the text may take 16 times as long; a quadratic cut would take 256 times. */
static void test_time_is_linear(void **state)
{
    (void)state;
    static const char *const units[] = {"Die Würde des Menschen ist unantastbar. ",
                                        " ",
                                        "a",
                                        "7",
                                        "\n",
                                        "A",
                                        "a\xCC\x88",
                                        "' ",
                                        "\xFF",
                                        "ä "};
    size_t small = 32 * 1024, large = 16 * small;
    char *text = mem_alloc(large);
    for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++) {
        size_t len = strlen(units[u]);
        for (size_t i = 0; i < large; i++)
            text[i] = units[u][i % len];
        for (size_t k = 0; k < 5; k++) {
            struct pattern *p;
            struct splitter *s = open_splitter(&p, pattern_regex(names[k]));
            double one = seconds_to_cut(s, text, small), all = seconds_to_cut(s, text, large);
            if (all > 100 * one && all > 0.1)
                fail_msg("%s on \"%s\": %g s, 16 times as much: %g s", names[k], units[u], one,
                         all);
            close_splitter(s, p);
        }
    }
    free(text);
}

static void test_named_patterns_are_those_of_the_vectors(void **state)
{
    (void)state;
    static const char *const keys[] = {"GPT2", "L3", "QW", "O2", "SP3N"};
    struct buf file = {0}, value = {0};
    struct json j;
    struct err e;
    char key[16];
    int found = 0;
    if (fs_read(&file, "../shared/vectors/tokenizer/patterns.json", 1 << 20, &e)) {
        print_message("skipped: patterns.json of ../shared is absent\n");
        skip();
    }
    json_open(&j, file.data, file.len);
    assert_int_equal(json_object(&j), 0);
    while (json_next_key(&j, key, sizeof(key)) > 0) {
        assert_int_equal(json_string(&j, &value), 0);
        for (size_t i = 0; i < 5; i++)
            if (!strcmp(key, keys[i])) {
                assert_string_equal(value.data, pattern_regex(names[i]));
                found++;
            }
    }
    assert_int_equal(found, 5);
    buf_release(&file);
    buf_release(&value);
}

/* The alphabet is a bijection, in the order its users rely on. */
static void test_byte_alphabet(void **state)
{
    (void)state;
    uint32_t by_order[256] = {0};
    struct buf spelled = {0}, back = {0};
    for (unsigned b = 0; b < 256; b++) {
        char byte = (char)b;
        assert_int_equal(by_order[bytemap_order((unsigned char)b)], 0);
        by_order[bytemap_order((unsigned char)b)] = bytemap_code_point((unsigned char)b);
        bytemap_spell(&spelled, &byte, 1);
    }
    for (unsigned i = 1; i < 256; i++)
        assert_true(by_order[i - 1] < by_order[i]);
    assert_int_equal(bytemap_code_point(' '), 0x120);
    assert_int_equal(bytemap_code_point('\n'), 0x10A);
    assert_int_equal(bytemap_code_point(0xAD), 0x143);
    assert_true(bytemap_read(&back, spelled.data, spelled.len));
    assert_int_equal(back.len, 256);
    for (unsigned b = 0; b < 256; b++)
        assert_int_equal((unsigned char)back.data[b], b);
    assert_false(bytemap_read(&back, " ", 1));
    assert_false(bytemap_read(&back, "\xC5\x84", 2)); /* U+0144, one too far */
    assert_false(bytemap_read(&back, "\xC2\xAD", 2)); /* U+00AD does not stand for itself */
    buf_release(&spelled);
    buf_release(&back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_german_cuts),
        cmocka_unit_test(test_caseless_contraction_knows_long_s),
        cmocka_unit_test(test_invalid_bytes_stand_alone),
        cmocka_unit_test(test_custom_patterns),
        cmocka_unit_test(test_white_space_is_oniguruma_s),
        cmocka_unit_test(test_bad_patterns),
        cmocka_unit_test(test_explosive_pattern),
        cmocka_unit_test(test_nothing_is_lost),
        cmocka_unit_test(test_time_is_linear),
        cmocka_unit_test(test_named_patterns_are_those_of_the_vectors),
        cmocka_unit_test(test_byte_alphabet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
