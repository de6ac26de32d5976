/*
 * The whole recipe against a model that knows no hashes, batches or threads: random
 * corpora whose paragraphs are numbers in a list.
 */
#include "tests/test.h"

#include "common/json.h"
#include "common/log.h"
#include "common/rng.h"
#include "common/stream.h"
#include "common/threads.h"
#include "data/prepare.h"

#define POOL       800 /* different paragraphs */
#define PARAGRAPHS 12  /* at most, a document */

struct doc {
    unsigned count;
    unsigned paragraphs[PARAGRAPHS]; /* numbers in the pool */
    bool foreign;
};

/* Paragraph n of the pool: n % 4 == 0 has two words, the others more; 4 letters of n in each. */
static void put_paragraph(struct buf *b, unsigned n)
{
    if (n == 0)
        return; /* the blank paragraph */
    buf_printf(b, "Absatz-%u %s", n, n % 4 == 0 ? "kurz" : "steht hier");
    for (unsigned i = 0; i < n % 50; i++)
        buf_puts(b, n % 4 == 0 ? "lang" : " und l\xc3\xa4nger");
}

static void put_text(struct buf *b, const struct doc *d)
{
    for (unsigned i = 0; i < d->count; i++) {
        if (i)
            buf_putc(b, '\n');
        put_paragraph(b, d->paragraphs[i]);
    }
}

static bool exempt(unsigned n)
{
    return n == 0 || n % 4 == 0;
}

static bool blank(const struct doc *d)
{
    for (unsigned i = 0; i < d->count; i++)
        if (d->paragraphs[i])
            return false;
    return true;
}

static bool same(const struct doc *a, const struct doc *b)
{
    return a->count == b->count &&
           !memcmp(a->paragraphs, b->paragraphs, a->count * sizeof(a->paragraphs[0]));
}

struct model {
    struct doc docs[4000];
    size_t count;
    bool seen[POOL];
    uint64_t kept, removed[REMOVAL_COUNT];
    struct buf texts; /* of the kept ones, each with a line of dashes */
};

static struct model m;

/* What the recipe says about document n, given those before. */
static void model_document(size_t n)
{
    const struct doc *d = &m.docs[n];
    struct doc left = {0};
    if (d->foreign) {
        m.removed[REMOVAL_LANGUAGE]++;
        return;
    }
    if (blank(d)) {
        m.removed[REMOVAL_NO_TEXT]++;
        return;
    }
    for (size_t i = 0; i < n; i++)
        if (!m.docs[i].foreign && same(&m.docs[i], d)) {
            m.removed[REMOVAL_DUPLICATE]++;
            return;
        }
    for (unsigned i = 0; i < d->count; i++) {
        unsigned p = d->paragraphs[i];
        if (!exempt(p) && m.seen[p])
            continue;
        m.seen[p] = true;
        left.paragraphs[left.count++] = p;
    }
    if (blank(&left)) {
        m.removed[REMOVAL_EMPTY]++;
        return;
    }
    m.kept++;
    put_text(&m.texts, &left);
    buf_puts(&m.texts, "\n----\n");
}

/* Random documents in files of which one is larger than a batch. */
static void make_corpus(uint64_t seed, const char *folder)
{
    static const unsigned files[] = {0, 1, 7, 2500, 40, 300};
    struct rng r;
    struct err e;
    rng_init(&r, seed, 0);
    memset(m.seen, 0, sizeof(m.seen));
    memset(m.removed, 0, sizeof(m.removed));
    m.count = m.kept = 0;
    buf_clear(&m.texts);
    assert_works(fs_mkdirs(folder, &e), e);
    for (size_t f = 0; f < sizeof(files) / sizeof(files[0]); f++) {
        struct buf lines = {0}, text = {0};
        buf_reserve(&lines, 0);
        for (unsigned i = 0; i < files[f]; i++) {
            struct doc *d = &m.docs[m.count++];
            memset(d, 0, sizeof(*d));
            d->foreign = rng_below(&r, 20) == 0;
            d->count = 1 + (unsigned)rng_below(&r, rng_below(&r, 3) ? PARAGRAPHS : 2);
            for (unsigned k = 0; k < d->count; k++)
                d->paragraphs[k] = (unsigned)rng_below(&r, rng_below(&r, 4) ? POOL : 10);
            model_document(m.count - 1);
            buf_clear(&text);
            buf_reserve(&text, 0);
            put_text(&text, d);
            buf_puts(&lines, d->foreign ? "{\"language\": \"fr\", \"text\": " : "{\"text\": ");
            json_put_string(&lines, text.data, text.len);
            buf_puts(&lines, "}\n");
        }
        char *path = fs_join(folder, "%zu.jsonl", f);
        assert_works(fs_write(path, lines.data, lines.len, &e), e);
        free(path);
        buf_release(&lines);
        buf_release(&text);
    }
}

static void read_texts(const char *path, struct buf *texts)
{
    struct reader r;
    struct lines lines;
    struct err e;
    const char *line;
    size_t len;
    enum lines_result result;
    struct buf text = {0};
    assert_works(reader_open(&r, path, &e), e);
    lines_init(&lines, &r);
    while ((result = lines_next(&lines, &line, &len, &e)) == LINES_LINE) {
        struct json j;
        char key[16];
        int more;
        json_open(&j, line, len);
        assert_int_equal(json_object(&j), 0);
        while ((more = json_next_key(&j, key, sizeof(key))) > 0)
            assert_int_equal(!strcmp(key, "text") ? json_string(&j, &text) : json_skip(&j), 0);
        assert_true(!more && !json_end(&j));
        buf_add(texts, text.data, text.len);
        buf_puts(texts, "\n----\n");
    }
    assert_int_equal(result, LINES_END);
    lines_release(&lines);
    reader_close(&r);
    buf_release(&text);
}

static void run_and_compare(const char *in, int threads)
{
    struct prepare_settings s;
    struct ledger l;
    struct err e;
    struct buf texts = {0};
    char *out = fs_join(test_folder(), "out");
    config_init(prepare_rows, &s);
    config_list_add(&s.in, in);
    free(s.out);
    s.out = strdup(out);
    s.max_token_word_ratio = 0;
    s.file_bytes = 1; /* a file for each block */
    assert_works(prepare_settle(&s, &e), e);
    threads_init(threads);
    assert_works(prepare_run(&s, &l, &e), e);
    assert_int_equal(l.total.lines_in, m.count);
    assert_int_equal(l.total.kept, m.kept);
    for (int r = 1; r < REMOVAL_COUNT; r++)
        assert_int_equal(l.total.removed[r], m.removed[r]);
    for (size_t i = 0; i < l.output_count; i++) {
        char *path = fs_join(out, "%s", l.outputs[i].name);
        read_texts(path, &texts);
        free(path);
    }
    assert_int_equal(texts.len, m.texts.len);
    assert_memory_equal(texts.data, m.texts.data, texts.len);
    assert_works(fs_remove_tree(out, &e), e);
    buf_release(&texts);
    ledger_release(&l);
    config_release(prepare_rows, &s);
    free(out);
}

static void test_recipe_against_model(void **state)
{
    (void)state;
    struct err e;
    char *in = fs_join(test_folder(), "in");
    log_quiet(true);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        make_corpus(seed, in);
        assert_true(m.removed[REMOVAL_DUPLICATE] > 10 && m.removed[REMOVAL_EMPTY] > 10);
        for (int threads = 1; threads <= 4; threads++)
            run_and_compare(in, threads);
        assert_works(fs_remove_tree(in, &e), e);
    }
    buf_release(&m.texts);
    free(in);
}

static void test_settings(void **state)
{
    (void)state;
    struct prepare_settings s;
    struct err e;
    config_init(prepare_rows, &s);
    assert_fails(prepare_settle(&s, &e), e, "--in PATH is missing");
    config_list_add(&s.in, "x");
    assert_fails(prepare_settle(&s, &e), e, "--out DIR is missing");
    free(s.out);
    s.out = strdup("y");
    config_list_add(&s.languages, "all");
    assert_works(prepare_settle(&s, &e), e);
    assert_int_equal(s.languages.count, 0);
    assert_int_equal(s.buckets.count, 2);
    config_list_add(&s.languages, "de,fr");
    config_list_add(&s.languages, "it");
    assert_works(prepare_settle(&s, &e), e);
    assert_int_equal(s.languages.count, 3);
    assert_string_equal(s.languages.items[1], "fr");
    config_list_add(&s.set, "prepare.min_paragraph_word=4");
    assert_fails(prepare_settle(&s, &e), e, "min_paragraph_words");
    config_release(prepare_rows, &s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recipe_against_model),
        cmocka_unit_test(test_settings),
    };
    return cmocka_run_group_tests(tests, NULL, test_folder_remove);
}
