/* Lines to documents: what is taken, what is refused and why, and how text is cut. */
#include "tests/test.h"

#include "common/rng.h"
#include "common/utf8.h"
#include "data/document.h"

static char *de[] = {"de"};
static char *head_middle[] = {"head", "middle"};
static const struct selection recipe = {de, 1, head_middle, 2, 1 << 20, 3};

static void parse(struct batch *b, const char *raw, size_t len, enum batch_kind kind,
                  const struct selection *sel)
{
    struct parser p = {0};
    memset(b, 0, sizeof(*b));
    b->kind = kind;
    buf_add(&b->raw, raw, len);
    batch_parse(b, &p, sel);
    parser_release(&p);
}

/* One line: what becomes of it, and at which byte the fault is said to be. */
#define LINE(s, why, at) line_is(s, sizeof(s) - 1, why, at, __LINE__)
#define NO_BYTE          ((size_t)-1)

static void line_is(const char *line, size_t len, enum removal why, size_t at, int where)
{
    struct batch b;
    parse(&b, line, len, BATCH_LINES, &recipe);
    if (b.line_count != 1 || (why ? b.removed[why] != 1 || b.doc_count : b.doc_count != 1)) {
        for (int r = 1; r < REMOVAL_COUNT; r++)
            if (b.removed[r])
                print_message("removed as %s\n", removal_names[r]);
        fail_msg("line %d: expected %s", where, removal_names[why]);
    }
    if (at != NO_BYTE && (b.bad_count != 1 || b.bad[0].byte != at || !b.bad[0].why))
        fail_msg("line %d: byte %zu named, expected %zu", where, b.bad_count ? b.bad[0].byte : 0,
                 at);
    if (at == NO_BYTE)
        assert_int_equal(b.bad_count, 0);
    batch_release(&b);
}

static void test_good_lines(void **state)
{
    (void)state;
    LINE("{\"text\":\"Guten Tag\"}", REMOVAL_NONE, NO_BYTE);
    LINE("{\"text\":\"Guten Tag\"}\n", REMOVAL_NONE, NO_BYTE);
    LINE("{\"text\":\"Guten Tag\"}\r\n", REMOVAL_NONE, NO_BYTE);
    LINE(" {\"raw_content\" : \"Guten Tag\" } \n", REMOVAL_NONE, NO_BYTE);
    LINE("{\"text\":\"\\u0047uten Tag \\ud83d\\ude00\",\"x\":{\"text\":[1,null]}}", REMOVAL_NONE,
         NO_BYTE);
    LINE("{\"text\":\"a\",\"language\":null,\"bucket\":null}", REMOVAL_NONE, NO_BYTE);
    LINE("{\"text\":\"a\",\"language\":\"\",\"bucket\":\"middle\"}", REMOVAL_NONE, NO_BYTE);
    LINE("{\"text\":\"a\",\"language\":\"\\u0064e\",\"bucket\":\"head\"}", REMOVAL_NONE, NO_BYTE);
    LINE("{\"text\":\"a\",\"raw_content\":5}", REMOVAL_NONE, NO_BYTE);
    LINE("{\"text\":null,\"raw_content\":\"a\"}", REMOVAL_NONE, NO_BYTE);
}

static void test_choices(void **state)
{
    (void)state;
    LINE("\n", REMOVAL_BLANK_LINE, NO_BYTE);
    LINE(" \t\r\n", REMOVAL_BLANK_LINE, NO_BYTE);
    LINE("{\"text\":\"a\",\"language\":\"en\"}", REMOVAL_LANGUAGE, NO_BYTE);
    LINE("{\"text\":\"a\",\"language\":\"d\"}", REMOVAL_LANGUAGE, NO_BYTE);
    LINE("{\"text\":\"a\",\"language\":\"deu\"}", REMOVAL_LANGUAGE, NO_BYTE);
    LINE("{\"text\":\"a\",\"language\":7}", REMOVAL_LANGUAGE, NO_BYTE);
    LINE("{\"text\":\"a\",\"language\":\"de\",\"bucket\":\"tail\"}", REMOVAL_BUCKET, NO_BYTE);
    LINE("{\"text\":\"\"}", REMOVAL_NO_TEXT, NO_BYTE);
    LINE("{\"text\":\" \\n\\t\\u00a0\\u2003\"}", REMOVAL_NO_TEXT, NO_BYTE);
}

static void test_bad_lines(void **state)
{
    (void)state;
    LINE("{\"text\":\"a\"", REMOVAL_MALFORMED_JSON, 11);
    LINE("{\"text\":\"a\"}x", REMOVAL_MALFORMED_JSON, 12);
    LINE("{\"text\":\"a\",}", REMOVAL_MALFORMED_JSON, 12);
    LINE("[\"text\"]", REMOVAL_MALFORMED_JSON, 0);
    LINE("\"text\"", REMOVAL_MALFORMED_JSON, 0);
    LINE("{'text':'a'}", REMOVAL_MALFORMED_JSON, 1);
    LINE("{\"text\":\"a\tb\"}", REMOVAL_MALFORMED_JSON, 10);
    LINE("{\"text\":\"a\0b\"}", REMOVAL_MALFORMED_JSON, 10);
    LINE("{\"text\":\"\\ud800\"}", REMOVAL_MALFORMED_JSON, 9);
    LINE("{\"text\":\"a\",\"x\":01}", REMOVAL_MALFORMED_JSON, 16);
    LINE("\xef\xbb\xbf{\"text\":\"a\"}", REMOVAL_MALFORMED_JSON, 0);
    LINE("{\"text\":\"a\xff\"}", REMOVAL_INVALID_UTF8, 10);
    LINE("{\"text\":\"a\",\"x\":\"\xc3(\"}", REMOVAL_INVALID_UTF8, 17);
    LINE("{\"text\":\"a\",\"text\":\"b\"}", REMOVAL_DUPLICATE_KEY, 19);
    LINE("{\"id\":1}", REMOVAL_MISSING_TEXT, 0);
    LINE("{\"text\":null}", REMOVAL_MISSING_TEXT, 8);
    LINE("{\"text\":[\"a\"]}", REMOVAL_MISSING_TEXT, 8);
    LINE("{\"text\":\"a\\u0000b\"}", REMOVAL_NUL, 0);
}

static void test_too_long(void **state)
{
    (void)state;
    struct selection sel = recipe;
    struct batch b;
    static const char two[] = "{\"text\":\"kurz\"}\n{\"text\":\"etwas laenger als das\"}\n";
    sel.max_line_bytes = 20;
    parse(&b, two, sizeof(two) - 1, BATCH_LINES, &sel);
    assert_int_equal(b.line_count, 2);
    assert_int_equal(b.doc_count, 1);
    assert_int_equal(b.removed[REMOVAL_TOO_LONG], 1);
    assert_int_equal(b.bad[0].line, 1);
    batch_release(&b);
}

static void test_meta(void **state)
{
    (void)state;
    struct batch b;
    static const char line[] =
        "{\"url\":\"http://a/\\u00e4\",\"id\":\"x\\\"y\",\"bucket\":\"head\",\"nlines\":3,"
        "\"language_score\":0.90,\"perplexity\":null,\"raw_content\":\"eins zwei\"}\n"
        "{\"id\":17,\"text\":\"eins\",\"raw_content\":\"zwei\"}\n"
        "{\"id\":\"\",\"text\":\"drei\"}\n";
    parse(&b, line, sizeof(line) - 1, BATCH_LINES, &recipe);
    assert_int_equal(b.doc_count, 3);
    const struct document *d = b.docs;
    assert_true(d->has_id && d->is_raw_content);
    assert_int_equal(d->id_len, 6);
    assert_memory_equal(b.meta.data + d->id_at, "\"x\\\"y\"", 6);
    static const char meta[] =
        ",\"url\":\"http://a/\\u00e4\",\"language_score\":0.90,\"bucket\":\"head\"";
    assert_int_equal(d->meta_len, sizeof(meta) - 1);
    assert_memory_equal(b.meta.data + d->meta_at, meta, sizeof(meta) - 1);
    assert_true(d[1].has_id && !d[1].is_raw_content);
    assert_memory_equal(b.meta.data + d[1].id_at, "\"17\"", 4);
    assert_memory_equal(b.text.data + d[1].text_at, "eins", 4);
    assert_false(d[2].has_id);
    assert_int_equal(b.unlabelled_language, 3);
    assert_int_equal(b.unlabelled_bucket, 2);
    batch_release(&b);
}

static void test_paragraphs(void **state)
{
    (void)state;
    struct batch b;
    static const char line[] = "{\"text\":\"Der Himmel ist\\n\\nist\xc2\xa0"
                               "blau\\n"
                               "Der Himmel ist\\n\"}\n";
    parse(&b, line, sizeof(line) - 1, BATCH_LINES, &recipe);
    assert_int_equal(b.doc_count, 1);
    assert_int_equal(b.paragraph_count, 5);
    static const uint32_t words[] = {3, 0, 2, 3, 0};
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(b.paragraphs[i].words, words[i]);
        assert_int_equal(b.paragraphs[i].hash != 0, words[i] >= 3);
    }
    assert_int_equal(b.paragraphs[0].hash, b.paragraphs[3].hash);
    struct buf text = {0};
    b.paragraphs[3].fate = FATE_DUPLICATE;
    assert_true(document_text(&b, b.docs, &text));
    assert_string_equal(text.data, "Der Himmel ist\n\nist\xc2\xa0"
                                   "blau\n");
    b.paragraphs[0].fate = FATE_RATIO;
    buf_clear(&text);
    assert_true(document_text(&b, b.docs, &text));
    assert_string_equal(text.data, "\nist\xc2\xa0"
                                   "blau\n");
    b.paragraphs[2].fate = FATE_RATIO;
    assert_false(document_text(&b, b.docs, &text));
    buf_release(&text);
    batch_release(&b);
}

/* Compacting changes nothing that is kept. */
static void test_compact(void **state)
{
    (void)state;
    struct batch b;
    static const char line[] =
        "{\"id\":\"a\",\"text\":\"eins\\nzwei\\ndrei\",\"bucket\":\"head\"}\n"
        "{\"id\":\"b\",\"text\":\"weg\"}\n"
        "{\"id\":\"c\",\"text\":\"vier\\nf\xc3\xbcnf\"}\n";
    parse(&b, line, sizeof(line) - 1, BATCH_LINES, &recipe);
    b.docs[1].removal = REMOVAL_DUPLICATE;
    b.paragraphs[1].fate = FATE_DUPLICATE;
    b.line_count = 3;
    batch_compact(&b);
    assert_int_equal(b.doc_count, 2);
    assert_int_equal(b.paragraph_count, 4);
    struct buf text = {0};
    assert_true(document_text(&b, &b.docs[0], &text));
    assert_string_equal(text.data, "eins\ndrei");
    buf_clear(&text);
    assert_true(document_text(&b, &b.docs[1], &text));
    assert_string_equal(text.data, "vier\nf\xc3\xbcnf");
    assert_memory_equal(b.meta.data + b.docs[1].id_at, "\"c\"", 3);
    assert_memory_equal(b.meta.data + b.docs[0].meta_at, ",\"bucket\":\"head\"",
                        b.docs[0].meta_len);
    assert_int_equal(b.docs[1].line, 2);
    buf_release(&text);
    batch_release(&b);
}

static void test_text_files(void **state)
{
    (void)state;
    struct batch b;
    parse(&b, "Eins zwei\r\ndrei\rvier\r\n", 22, BATCH_TEXT, &recipe);
    assert_int_equal(b.line_count, 1);
    assert_int_equal(b.doc_count, 1);
    assert_memory_equal(b.text.data, "Eins zwei\ndrei\rvier\n", 20);
    assert_int_equal(b.docs[0].text_len, 20);
    batch_release(&b);
    parse(&b, "Eins\xff", 5, BATCH_TEXT, &recipe);
    assert_int_equal(b.removed[REMOVAL_INVALID_UTF8], 1);
    assert_int_equal(b.bad[0].byte, 4);
    batch_release(&b);
    parse(&b, "Eins\0zwei", 9, BATCH_TEXT, &recipe);
    assert_int_equal(b.removed[REMOVAL_NUL], 1);
    assert_int_equal(b.bad[0].byte, 4);
    batch_release(&b);
    parse(&b, " \n", 2, BATCH_TEXT, &recipe);
    assert_int_equal(b.removed[REMOVAL_NO_TEXT], 1);
    batch_release(&b);
}

/* Damaged at random places: every line is still counted once, and what is taken is UTF-8 without
 * NUL that lies inside the batch. */
static void test_random_damage(void **state)
{
    (void)state;
    static const char good[] =
        "{\"id\":\"x\\n\",\"text\":\"Der Himmel\\nist \xc3\xbc"
        "ber\\u00e4ll \\ud83d\\ude00 "
        "blau\",\"n\":[1,{\"a\":-1.5e3}],\"language\":\"de\",\"bucket\":null}\n"
        "{\"raw_content\":\"zwei\\n\\n\\tdrei \xe2\x80\x83 vier\",\"url\":\"u\"}\n\n";
    static const char spice[] = "{}[]\":,\\u0n\xc3\xa4\xff\n\r ";
    struct parser p = {0};
    struct rng r;
    size_t taken = 0;
    rng_init(&r, 21, 0);
    for (int round = 0; round < 20000; round++) {
        struct batch b = {.kind = rng_below(&r, 8) ? BATCH_LINES : BATCH_TEXT};
        buf_add(&b.raw, good, sizeof(good) - 1 - rng_below(&r, 20));
        for (uint64_t n = rng_below(&r, 5); n; n--)
            b.raw.data[rng_below(&r, b.raw.len)] = rng_below(&r, 2)
                                                       ? (char)rng_below(&r, 256)
                                                       : spice[rng_below(&r, sizeof(spice))];
        uint64_t lines = 1;
        for (size_t i = 0; i + 1 < b.raw.len && b.kind == BATCH_LINES; i++)
            lines += b.raw.data[i] == '\n';
        batch_parse(&b, &p, &recipe);
        uint64_t sum = b.doc_count;
        for (int why = 0; why < REMOVAL_COUNT; why++)
            sum += b.removed[why];
        assert_int_equal(b.line_count, lines);
        assert_int_equal(sum, lines);
        for (size_t i = 0; i < b.doc_count; i++) {
            const struct document *d = &b.docs[i];
            assert_true((size_t)d->text_at + d->text_len <= b.text.len);
            assert_true((size_t)d->meta_at + d->meta_len <= b.meta.len);
            assert_true(d->paragraph_at + d->paragraph_count <= b.paragraph_count);
            assert_int_equal(utf8_invalid_at(b.text.data + d->text_at, d->text_len), d->text_len);
            assert_null(memchr(b.text.data + d->text_at, 0, d->text_len));
            taken++;
        }
        batch_release(&b);
    }
    assert_true(taken > 5000);
    parser_release(&p);
}

/* A batch goes round and round: what a giant line needed must not stay in it. */
static void test_clear(void **state)
{
    (void)state;
    struct batch b = {.kind = BATCH_LINES};
    struct parser p = {0};
    const struct selection all = {.max_line_bytes = 1 << 28, .min_words = 3};
    for (int small = 0; small < 2; small++) {
        size_t lines = small ? 10 : 70000, paragraphs = small ? 10 : 300000;
        for (size_t i = 0; i < lines; i++)
            buf_puts(&b.raw, "{\"text\":\"ja\",\"url\":\"http://www.example.org/ein/langer/weg/zu"
                             "/einem/kleinen/text/der/ja/sagt\"}\n");
        buf_puts(&b.raw, "{\"text\":\"");
        for (size_t i = 0; i < paragraphs; i++)
            buf_puts(&b.raw, "nein, nein, nein\\n");
        buf_puts(&b.raw, "\"}\n");
        batch_parse(&b, &p, &all);
        assert_int_equal(b.doc_count, lines + 1);
        void *docs = b.docs, *texts = b.text.data;
        if (!small) {
            assert_true(b.doc_capacity * sizeof(*b.docs) > BATCH_KEEP_BYTES);
            assert_true(b.paragraph_capacity * sizeof(*b.paragraphs) > BATCH_KEEP_BYTES);
            assert_true(b.meta.capacity > BATCH_KEEP_BYTES);
        }
        batch_clear(&b);
        b.kind = BATCH_LINES;
        assert_int_equal(b.doc_count + b.paragraph_count + b.text.len + b.meta.len, 0);
        assert_true(b.raw.capacity <= BATCH_KEEP_BYTES && b.text.capacity <= BATCH_KEEP_BYTES);
        assert_true(b.meta.capacity <= BATCH_KEEP_BYTES);
        assert_true(b.doc_capacity * sizeof(*b.docs) <= BATCH_KEEP_BYTES);
        assert_true(b.paragraph_capacity * sizeof(*b.paragraphs) <= BATCH_KEEP_BYTES);
        assert_true(!small || (b.docs == docs && b.text.data == texts));
    }
    parser_release(&p);
    batch_release(&b);
}

static void test_characters(void **state)
{
    (void)state;
    static const char text[] =
        "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80 und noch ein paar gr\xc3\xb6\xc3\x9f"
        "ere W\xc3\xb6rter";
    uint64_t slow = 0;
    for (size_t len = 0; len < sizeof(text); len++) {
        assert_int_equal(text_characters(text, len), slow);
        slow += ((unsigned char)text[len] & 0xC0) != 0x80;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_lines),    cmocka_unit_test(test_choices),
        cmocka_unit_test(test_bad_lines),     cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_meta),          cmocka_unit_test(test_paragraphs),
        cmocka_unit_test(test_compact),       cmocka_unit_test(test_text_files),
        cmocka_unit_test(test_characters),    cmocka_unit_test(test_clear),
        cmocka_unit_test(test_random_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
