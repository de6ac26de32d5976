/*
 * The trainer: Hugging Face's merges (golden files), a recount from scratch as the
 * reference, ties, limits, threads.
 */
#include "tests/test.h"

#include "common/json.h"
#include "common/log.h"
#include "common/rng.h"
#include "common/stream.h"
#include "common/threads.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/bytemap.h"
#include "tokenizer/pretoken.h"
#include "tokenizer/words.h"

#define GOLDEN "tests/golden/tokenizer/"

static const char *const names[] = {"gpt2", "llama3", "qwen2", "o200k", "german"};

static struct bpe_trainer *new_trainer(uint32_t vocab_size, uint64_t min_frequency,
                                       const char *pattern)
{
    struct bpe_train_options o = {vocab_size, min_frequency, pattern};
    struct bpe_trainer *t;
    struct err e;
    if (bpe_trainer_new(&t, &o, &e))
        fail_msg("%s", e.msg);
    return t;
}

static void feed(struct bpe_trainer *t, const char *text, size_t len)
{
    struct err e;
    if (bpe_trainer_feed(t, text, len, &e))
        fail_msg("%s", e.msg);
}

/* Trains, frees the trainer, gives the merges as lines "a b" in the byte alphabet. */
static struct buf finish(struct bpe_trainer *t, struct tokenizer **keep)
{
    struct tokenizer *tok;
    struct buf file = {0}, part = {0}, merges = {0};
    char *folder = unit_folder(), *path = fs_join(folder, "tokenizer.json");
    char key[64];
    struct json j;
    struct err e;
    int more;
    if (bpe_trainer_train(t, &tok, &e) || tokenizer_copy(tok, folder, &e) ||
        fs_read(&file, path, 1 << 24, &e))
        fail_msg("%s", e.msg);
    bpe_trainer_free(t);
    json_open(&j, file.data, file.len);
    assert_int_equal(json_object(&j), 0);
    while (json_next_key(&j, key, sizeof(key)) > 0 && strcmp(key, "model"))
        json_skip(&j);
    assert_int_equal(json_object(&j), 0);
    while (json_next_key(&j, key, sizeof(key)) > 0 && strcmp(key, "merges"))
        json_skip(&j);
    assert_int_equal(json_array(&j), 0);
    while ((more = json_next(&j)) > 0) {
        json_string(&j, &part);
        buf_add(&merges, part.data, part.len);
        buf_putc(&merges, '\n');
    }
    assert_int_equal(more, 0);
    buf_putc(&merges, '\0');
    buf_release(&file);
    buf_release(&part);
    free(path);
    unit_folder_remove(folder);
    if (keep)
        *keep = tok;
    else
        tokenizer_free(tok);
    return merges;
}

static struct buf golden(const char *name)
{
    struct buf b = {0};
    struct err e;
    char *path = fs_join(GOLDEN, "%s", name);
    if (fs_read(&b, path, 1 << 22, &e))
        fail_msg("%s", e.msg);
    free(path);
    buf_putc(&b, '\0');
    return b;
}

static void feed_lines(struct bpe_trainer *t, const struct buf *corpus)
{
    const char *end = corpus->data + corpus->len - 1; /* the NUL of golden() */
    for (const char *s = corpus->data; s < end;) {
        const char *newline = memchr(s, '\n', (size_t)(end - s));
        const char *next = newline ? newline + 1 : end;
        feed(t, s, (size_t)(next - s));
        s = next;
    }
}

static void feed_docs(struct bpe_trainer *t, const struct buf *corpus)
{
    const char *s = corpus->data;
    for (const char *gap; (gap = strstr(s, "\n\n")); s = gap + 2)
        feed(t, s, (size_t)(gap - s));
    feed(t, s, strlen(s));
}

static void test_golden_merges(void **state)
{
    (void)state;
    struct buf corpus = golden("corpus.txt");
    for (size_t k = 0; k < 5; k++)
        for (int docs = 0; docs < 2; docs++) {
            char name[64];
            struct bpe_trainer *t = new_trainer(800, 0, names[k]);
            (docs ? feed_docs : feed_lines)(t, &corpus);
            struct buf got = finish(t, NULL);
            snprintf(name, sizeof(name), "merges_%s_%s.txt", names[k], docs ? "docs" : "lines");
            struct buf want = golden(name);
            if (strcmp(got.data, want.data) != 0)
                fail_msg("merges differ from %s", name);
            buf_release(&got);
            buf_release(&want);
        }
    buf_release(&corpus);
}

/* The larger corpora of the vectors, until every pair is exhausted. */
static void vectors(const char *folder, const char *corpus_name, const char *key, const char *name)
{
    struct buf corpus = {0}, want = {0};
    struct err e;
    char path[256];
    const char *const files[] = {corpus_name, NULL};
    struct buf *const into[] = {&corpus, &want};
    for (int i = 0; i < 2; i++) {
        char chunk[1 << 16];
        struct reader r;
        ssize_t n;
        if (files[i])
            snprintf(path, sizeof(path), "../shared/vectors/tokenizer/%s/%s", folder, files[i]);
        else
            snprintf(path, sizeof(path), "../shared/vectors/tokenizer/%s/merges_%s.txt.gz", folder,
                     key);
        if (reader_open(&r, path, &e))
            fail_msg("%s", e.msg);
        while ((n = reader_read(&r, chunk, sizeof(chunk), &e)) > 0)
            buf_add(into[i], chunk, (size_t)n);
        reader_close(&r);
        buf_putc(into[i], '\0');
    }
    struct bpe_trainer *t = new_trainer(30000, 0, name);
    feed_lines(t, &corpus);
    struct buf got = finish(t, NULL);
    if (strcmp(got.data, strchr(want.data, '\n') + 1) != 0)
        fail_msg("merges differ from %s", path);
    buf_release(&got);
    buf_release(&want);
    buf_release(&corpus);
}

static void test_vectors(void **state)
{
    (void)state;
    static const char *const keys[] = {"GPT2", "L3", "QW", "O2", "SP3N"};
    if (!fs_exists("../shared/vectors/tokenizer")) {
        print_message("skipped: training vectors of ../shared are absent\n");
        skip();
    }
    for (size_t i = 0; i < 5; i++)
        vectors("train-de-laws", "corpus.txt.gz", keys[i], names[i]);
    for (size_t i = 0; i < 4; i++)
        vectors("train-nasty", "nasty.txt.gz", keys[i], names[i]);
}

/* --- against a recount from scratch --------------------------------------------- */

#define SLOW_WORDS 48
#define SLOW_LEN   24

struct slow {
    uint32_t ids[SLOW_WORDS][SLOW_LEN];
    size_t len[SLOW_WORDS];
    size_t count;
};

/* The best pair by counting all of them again, 0 if none is left. */
static int64_t slow_best(const struct slow *s, uint32_t *left, uint32_t *right)
{
    int64_t best = 0;
    for (size_t w = 0; w < s->count; w++)
        for (size_t i = 1; i < s->len[w]; i++) {
            uint32_t a = s->ids[w][i - 1], b = s->ids[w][i];
            int64_t n = 0;
            for (size_t v = 0; v < s->count; v++)
                for (size_t k = 1; k < s->len[v]; k++)
                    n += s->ids[v][k - 1] == a && s->ids[v][k] == b;
            if (n > best || (n == best && (a < *left || (a == *left && b < *right)))) {
                best = n;
                *left = a;
                *right = b;
            }
        }
    return best;
}

static void slow_merge(struct slow *s, uint32_t left, uint32_t right, uint32_t id)
{
    for (size_t w = 0; w < s->count; w++) {
        size_t kept = 0;
        for (size_t i = 0; i < s->len[w]; kept++) {
            bool hit = i + 1 < s->len[w] && s->ids[w][i] == left && s->ids[w][i + 1] == right;
            s->ids[w][kept] = hit ? id : s->ids[w][i];
            i += hit ? 2 : 1;
        }
        s->len[w] = kept;
    }
}

/* Random words over few letters are full of ties and overlaps ("aaa"). */
static void test_against_recount(void **state)
{
    (void)state;
    struct rng r;
    rng_init(&r, 3, 3);
    for (int round = 0; round < 40; round++) {
        struct slow s = {.count = 1 + rng_below(&r, SLOW_WORDS)};
        struct bpe_trainer *t = new_trainer(2000, 0, "gpt2");
        struct tokenizer *tok;
        unsigned letters = 1 + (unsigned)rng_below(&r, 4);
        for (size_t w = 0; w < s.count; w++) {
            char word[SLOW_LEN];
            s.len[w] = 1 + rng_below(&r, SLOW_LEN);
            for (size_t i = 0; i < s.len[w]; i++) {
                word[i] = (char)('a' + rng_below(&r, letters));
                s.ids[w][i] = TOKEN_SPECIAL_COUNT + bytemap_order((unsigned char)word[i]);
            }
            feed(t, word, s.len[w]);
        }
        struct buf merges = finish(t, &tok);
        const char *line = merges.data;
        uint32_t id = TOKEN_SPECIAL_COUNT + 256, left = 0, right = 0;
        while (slow_best(&s, &left, &right) > 0) {
            char want[128];
            size_t a, b;
            const char *as = tokenizer_token(tok, left, &a), *bs = tokenizer_token(tok, right, &b);
            int n = snprintf(want, sizeof(want), "%.*s %.*s\n", (int)a, as, (int)b, bs);
            if (strncmp(line, want, (size_t)n) != 0)
                fail_msg("round %d, token %u: expected %.*s, got %.*s", round, id, n, want, n,
                         line);
            line += n;
            slow_merge(&s, left, right, id++);
        }
        assert_string_equal(line, "");
        assert_int_equal(tokenizer_vocab_size(tok), id);
        tokenizer_free(tok);
        buf_release(&merges);
    }
}

/* --- rules and limits -------------------------------------------------------------- */

static void merges_are(const char *const *words, uint32_t vocab_size, uint64_t min_frequency,
                       const char *wanted)
{
    struct bpe_trainer *t = new_trainer(vocab_size, min_frequency, "gpt2");
    for (; *words; words++)
        feed(t, *words, strlen(*words));
    struct buf got = finish(t, NULL);
    assert_string_equal(got.data, wanted);
    buf_release(&got);
}

static void test_tie_rules(void **state)
{
    (void)state;
    /* Equal counts: the smaller left id, then the smaller right id, whatever came first. */
    merges_are((const char *const[]){"yb", "xd", "xc", NULL}, 263, 0, "x c\nx d\ny b\n");
    /* By id, not by byte: 0xC3 comes before 0x20, which is spelled U+0120. */
    merges_are((const char *const[]){" z", "\xC3\xA4", NULL}, 262, 0,
               "\xC3\x83 \xC2\xA4\n"
               "\xC4\xA0 z\n");
    /* A higher count first; "aaaa" counts its pair three times. */
    merges_are((const char *const[]){"aaaa", "bc", "bc", NULL}, 263, 0, "a a\nb c\naa aa\n");
}

static void test_min_frequency_and_size(void **state)
{
    (void)state;
    merges_are((const char *const[]){"ab", "ab", "cd", NULL}, 400, 2, "a b\n");
    merges_are((const char *const[]){"ab", "ab", "cd", NULL}, 400, 3, "");
    merges_are((const char *const[]){"ab", "ab", "cd", NULL}, 400, 1, "a b\nc d\n");
    merges_are((const char *const[]){"ab", "ab", "cd", NULL}, 261, 0, "a b\n");
    merges_are((const char *const[]){"ab", NULL}, 260, 0, "");
    merges_are((const char *const[]){NULL}, 500, 0, "");
}

static void test_wrong_options(void **state)
{
    (void)state;
    struct bpe_train_options o = {.vocab_size = 259};
    struct bpe_trainer *t;
    struct err e;
    assert_int_equal(bpe_trainer_new(&t, &o, &e), -1);
    assert_says(&e, "a vocabulary of 259 tokens is impossible; 260 to ");
    o = (struct bpe_train_options){.vocab_size = 300, .pattern = "lama3"};
    assert_int_equal(bpe_trainer_new(&t, &o, &e), -1);
    assert_says(&e, "unknown pattern \"lama3\"; known are gpt2|llama3|");
}

/* Neither threads nor the order of sequences may show; not in one bit of the file. */
static void test_threads_and_order(void **state)
{
    (void)state;
    struct buf corpus = golden("corpus.txt");
    uint64_t first = 0;
    for (int threads = 1; threads <= 3; threads++) {
        struct bpe_trainer *t;
        struct tokenizer *tok;
        threads_init(threads);
        t = new_trainer(700, 0, "german");
        const char *end = corpus.data + corpus.len - 1;
        if (threads == 3) { /* from the end to the front */
            for (const char *s = end; s > corpus.data;) {
                const char *line = s - 1;
                while (line > corpus.data && line[-1] != '\n')
                    line--;
                feed(t, line, (size_t)(s - line));
                s = line;
            }
        } else {
            feed_lines(t, &corpus);
        }
        struct buf merges = finish(t, &tok);
        if (threads == 1)
            first = tokenizer_hash(tok);
        assert_int_equal(tokenizer_hash(tok), first);
        tokenizer_free(tok);
        buf_release(&merges);
    }
    threads_init(0);
    buf_release(&corpus);
}

static void test_stats(void **state)
{
    (void)state;
    struct bpe_trainer *t = new_trainer(262, 0, "llama3");
    struct tokenizer *tok;
    struct err e;
    feed(t, "der Hund der", 12);
    feed(t, "der", 3);
    assert_int_equal(bpe_trainer_train(t, &tok, &e), 0);
    const struct bpe_train_stats *s = bpe_trainer_stats(t);
    assert_int_equal(s->bytes, 15);
    assert_int_equal(s->sequences, 2);
    assert_int_equal(s->pieces, 4);
    assert_int_equal(s->distinct, 3);
    assert_int_equal(s->merges, 2);
    assert_int_equal(s->last_frequency, 3);
    assert_int_equal(tokenizer_vocab_size(tok), 262);
    tokenizer_free(tok);
    bpe_trainer_free(t);
}

/* Counts go beyond 32 bits, through growth and joining. */
static void test_word_counts(void **state)
{
    (void)state;
    struct words a = {0}, b = {0};
    char word[16];
    for (int i = 0; i < 30000; i++) {
        int n = snprintf(word, sizeof(word), "w%d", i);
        words_add(&a, word, (size_t)n, 3000000000u);
        if (i % 2)
            words_add(&b, word, (size_t)n, 3000000000u);
    }
    words_add(&b, "neu", 3, 1);
    words_join(&a, &b);
    assert_int_equal(a.distinct, 30001);
    uint64_t sum = 0;
    for (uint64_t i = 0; i <= a.mask; i++)
        sum += a.slots[i].count;
    assert_true(sum == UINT64_C(45000) * 3000000000 + 1);
    assert_null(b.slots);
    words_release(&a);
}

static int quiet(void **state)
{
    (void)state;
    log_quiet(true);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_merges),
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_against_recount),
        cmocka_unit_test(test_tie_rules),
        cmocka_unit_test(test_min_frequency_and_size),
        cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_threads_and_order),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_word_counts),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
