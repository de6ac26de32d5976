/*
 * The token-to-word ratio must treat the paper's examples (llammlein.md §1.4) as the
 * paper does, whatever corpus the bootstrap tokenizer is trained on: made-up German
 * of several sizes that holds the nonsense too, and real text where it is at hand.
 */
#include "tests/test.h"

#include "common/log.h"
#include "common/rng.h"
#include "common/stream.h"
#include "common/threads.h"
#include "common/utf8.h"
#include "data/ratio.h"

static const char *const kept[] = {
    "Der Himmel ist blau",
    "Die Donaudampfschifffahrt ist eine sehr alte Gesellschaft mit vielen Schiffen",
    "Am 3. Mai 2004 trat das Gesetz in Kraft.",
    "-",
    "Ja",
};

static const char *const removed[] = {
    "/de/c/trebic-unesco",
    "e|---3---2---0---2---3---3---|",
    "B|---3-----------3-----------|-0-----------0-|",
    "G|-----0h2p0---------------------------------|",
    "|--5--5--5--5-|--7--7--7--7-|--3--3--3--3-|",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaawwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww",
    "https://www.example.org/index.php?id=4711&sid=a8f3c29e&lang=de#top",
};

/* Made-up German: stems, endings and compounds, the frequent ones first. */
static const char *const stems[] = {
    "und",          "der",    "die",           "das",          "ist",
    "nicht",        "haus",   "gut",           "land",         "stadt",
    "gesetz",       "frage",  "arbeit",        "himmel",       "wasser",
    "zeit",         "jahr",   "schiff",        "recht",        "ordnung",
    "schule",       "freund", "weg",           "kind",         "sprache",
    "wort",         "buch",   "garten",        "baum",         "sonne",
    "verkehr",      "markt",  "fahrt",         "leben",        "gesellschaft",
    "kraft",        "dampf",  "b\xc3\xbcrger", "stra\xc3\x9f", "gr\xc3\xb6\xc3\x9f",
    "sch\xc3\xb6n", "klein",  "alt",           "neu",          "blau",
    "viel"};
static const char *const endings[] = {"", "", "e", "en", "er", "es", "ung", "lich", "heit", "t"};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const char *skewed(struct rng *r, const char *const *list, size_t count)
{
    uint64_t n = rng_below(r, count);
    return list[rng_below(r, n + 1)];
}

static void add_paragraph(struct batch *b, const char *text, size_t len)
{
    b->paragraphs = mem_grow(b->paragraphs, &b->paragraph_capacity, b->paragraph_count + 1,
                             sizeof(*b->paragraphs));
    b->paragraphs[b->paragraph_count++] = (struct paragraph){
        .at = (uint32_t)b->text.len,
        .len = (uint32_t)len,
        .words = (uint32_t)utf8_count_words(text, len)};
    buf_add(&b->text, text, len);
}

static void one_document(struct batch *b)
{
    b->docs = mem_zalloc(1, sizeof(*b->docs));
    b->doc_count = 1;
    b->docs[0].paragraph_count = (uint32_t)b->paragraph_count;
}

static void make_german(struct batch *b, size_t bytes)
{
    struct rng r;
    struct buf line = {0};
    rng_init(&r, 11, 0);
    for (size_t i = 0; i < COUNT(removed); i++)
        add_paragraph(b, removed[i], strlen(removed[i]));
    while (b->text.len < bytes) {
        buf_clear(&line);
        for (uint64_t words = 3 + rng_below(&r, 20); words; words--) {
            for (uint64_t parts = rng_below(&r, 6) ? 1 : 2; parts; parts--)
                buf_puts(&line, skewed(&r, stems, COUNT(stems)));
            buf_puts(&line, skewed(&r, endings, COUNT(endings)));
            buf_puts(&line, words > 1 ? " " : ".");
        }
        add_paragraph(b, line.data, line.len);
    }
    buf_release(&line);
    one_document(b);
}

static void judge_examples(struct ratio *r)
{
    for (size_t i = 0; i < COUNT(kept) + COUNT(removed); i++) {
        bool keep = i < COUNT(kept);
        const char *s = keep ? kept[i] : removed[i - COUNT(kept)];
        size_t len = strlen(s);
        enum fate f = ratio_judge(r, 0, s, len, (uint32_t)utf8_count_words(s, len));
        if (f != (keep ? FATE_KEPT : FATE_RATIO))
            fail_msg("'%s' is %s", s, fate_names[f]);
    }
}

/* Stopping early decides as counting to the end does. */
static void compare_with_counting(struct ratio *r, const struct batch *b)
{
    struct encoder *enc = encoder_new(r->tokenizer);
    struct ids ids = {0}, scratch = {0};
    struct err e;
    for (size_t i = 0; i < b->paragraph_count && i < 500; i++) {
        const char *s = b->text.data + b->paragraphs[i].at;
        size_t len = b->paragraphs[i].len;
        ids.count = 0;
        assert_works(encoder_encode(enc, s, len, ENCODE_PLAIN, &ids, &e), e);
        for (size_t most = ids.count > 2 ? ids.count - 2 : 0; most < ids.count + 3; most++)
            assert_int_equal(encoder_exceeds(enc, s, len, most, &scratch, &e), ids.count > most);
        assert_int_equal(encoder_exceeds(enc, s, len, 0, &scratch, &e), ids.count > 0);
        assert_int_equal(encoder_exceeds(enc, s, len, len, &scratch, &e), 0);
    }
    ids_release(&ids);
    ids_release(&scratch);
    encoder_free(enc);
}

static void bootstrap_on(struct batch *b, struct ledger_ratio *facts)
{
    struct ratio r;
    struct err e;
    struct batch *list[] = {b};
    struct ratio_text text = {list, 1};
    struct ratio_options o = {
        .max = 8, .vocab_size = 32000, .min_frequency = 3, .train_bytes = 64000000};
    memset(facts, 0, sizeof(*facts));
    assert_works(ratio_init(&r, &o, &text, facts, &e), e);
    judge_examples(&r);
    compare_with_counting(&r, b);
    assert_string_equal(facts->tokenizer, "bootstrap");
    assert_string_equal(facts->pattern, "gpt2");
    ratio_release(&r);
}

static void facts_release(struct ledger_ratio *f)
{
    free(f->tokenizer);
    free(f->pattern);
    free(f->note);
}

static void test_examples_on_made_up_german(void **state)
{
    (void)state;
    static const size_t sizes[] = {700, 20000, 200000, 2000000};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct batch b = {0};
        struct ledger_ratio facts;
        make_german(&b, sizes[i]);
        bootstrap_on(&b, &facts);
        /* On little text it says that it is to be doubted. */
        assert_int_equal(facts.note != NULL, sizes[i] == 700);
        assert_true(facts.trained_bytes > sizes[i] / 3 && facts.trained_bytes < sizes[i]);
        assert_true(facts.vocab_size > 260 && facts.vocab_size < 32000);
        facts_release(&facts);
        batch_release(&b);
    }
}

/* Text of another project, if it lies beside the repository. */
static void test_examples_on_real_german(void **state)
{
    (void)state;
    static const char path[] = "../shared/data/text/klexikon_kinderlexikon.jsonl.zst";
    struct reader reader;
    struct batch b = {.kind = BATCH_LINES};
    struct selection sel = {.max_line_bytes = 1 << 24, .min_words = 3};
    struct parser parser = {0};
    struct ledger_ratio facts;
    struct err e;
    ssize_t n;
    if (reader_open(&reader, path, &e)) {
        printf("skipped: ratio on real text, %s is absent\n", path);
        skip();
    }
    do {
        buf_reserve(&b.raw, 1 << 20);
        n = reader_read(&reader, b.raw.data + b.raw.len, 1 << 20, &e);
        b.raw.len += n > 0 ? (size_t)n : 0;
    } while (n > 0 && b.raw.len < 4 << 20);
    reader_close(&reader);
    batch_parse(&b, &parser, &sel);
    assert_true(b.doc_count > 100);
    bootstrap_on(&b, &facts);
    assert_null(facts.note);
    facts_release(&facts);
    parser_release(&parser);
    batch_release(&b);
}

/* The words that can be counted without a tokenizer are not counted, and the step can be off. */
static void test_bounds(void **state)
{
    (void)state;
    struct ratio r;
    struct err e;
    struct batch b = {0};
    struct batch *list[] = {&b};
    struct ratio_text text = {list, 1};
    struct ratio_options o = {.max = 8, .vocab_size = 300, .min_frequency = 3};
    struct ledger_ratio facts = {0};
    o.train_bytes = 1000000;
    one_document(&b); /* a corpus without a paragraph */
    assert_works(ratio_init(&r, &o, &text, &facts, &e), e);
    assert_int_equal(facts.trained_bytes, 0);
    assert_int_equal(ratio_judge(&r, 0, "12345678", 8, 1), FATE_KEPT);
    assert_int_equal(ratio_counted(&r), 0);
    assert_int_equal(ratio_judge(&r, 0, "123456789", 9, 1), FATE_RATIO);
    assert_int_equal(ratio_counted(&r), 1);
    assert_int_equal(ratio_judge(&r, 0, "    \t      ", 11, 0), FATE_KEPT);
    ratio_release(&r);
    facts_release(&facts);
    o.max = 0;
    memset(&facts, 0, sizeof(facts));
    assert_works(ratio_init(&r, &o, &text, &facts, &e), e);
    assert_string_equal(facts.tokenizer, "off");
    assert_int_equal(ratio_judge(&r, 0, "/de/c/trebic-unesco", 19, 1), FATE_KEPT);
    ratio_release(&r);
    facts_release(&facts);
    o.max = 8;
    o.tokenizer = "/nowhere";
    memset(&facts, 0, sizeof(facts));
    assert_fails(ratio_init(&r, &o, &text, &facts, &e), e, "/nowhere");
    ratio_release(&r);
    facts_release(&facts);
    batch_release(&b);
}

/* What waits is enough once all of it that can be learned from is there, not before, and ends
 * somewhere on a corpus that holds no running text. */
static void test_enough(void **state)
{
    (void)state;
    struct ratio_supply s = {0};
    struct ratio_options o = {.max = 8, .train_bytes = 3 * RATIO_SAMPLE_BYTES};
    struct batch b = {0};
    add_paragraph(&b, "Der Himmel ist blau", 19);
    add_paragraph(&b, "/de/c/trebic-unesco", 19);
    add_paragraph(&b, "kam vorher schon vor", 20);
    b.paragraphs[2].fate = FATE_DUPLICATE;
    one_document(&b);
    ratio_gather(&s, &b);
    assert_int_equal(s.usable, 19);
    assert_int_equal(s.kept, 38);
    b.docs[0].removal = REMOVAL_DUPLICATE;
    ratio_gather(&s, &b);
    assert_int_equal(s.kept, 38);
    batch_release(&b);
    s = (struct ratio_supply){.kept = 4 * o.train_bytes, .usable = o.train_bytes - 1};
    assert_false(ratio_enough(&s, &o));
    s.usable++;
    assert_true(ratio_enough(&s, &o));
    o.train_bytes = 1; /* calibration wants more */
    s.kept = s.usable = RATIO_SAMPLE_BYTES - 1;
    assert_false(ratio_enough(&s, &o));
    s.kept = RATIO_SUPPLY_FACTOR * RATIO_SAMPLE_BYTES;
    assert_true(ratio_enough(&s, &o));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples_on_made_up_german),
        cmocka_unit_test(test_examples_on_real_german),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_enough),
    };
    threads_init(2);
    log_quiet(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
