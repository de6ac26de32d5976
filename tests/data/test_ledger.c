/* The ledger balances, says so when it does not, and survives being written and read. */
#include "tests/test.h"

#include "data/ledger.h"

static void make(struct ledger *l)
{
    memset(l, 0, sizeof(*l));
    for (int i = 0; i < 2; i++) {
        struct ledger_file *f = ledger_add_file(l, i ? "b \"quoted\".gz" : "a.jsonl");
        f->bytes = 1000;
        f->counts.lines_in = 10;
        f->counts.kept = 7;
        f->counts.removed[REMOVAL_LANGUAGE] = 2;
        f->counts.removed[i ? REMOVAL_EMPTY : REMOVAL_MALFORMED_JSON] = 1;
    }
    l->files[1].error = strdup("b.gz: byte 17: broke off");
    l->total.lines_in = 20;
    l->total.kept = 14;
    l->total.removed[REMOVAL_LANGUAGE] = 4;
    l->total.removed[REMOVAL_EMPTY] = 1;
    l->total.removed[REMOVAL_MALFORMED_JSON] = 1;
    l->paragraphs_in = 100;
    l->paragraphs[FATE_KEPT] = 80;
    l->paragraphs[FATE_DUPLICATE] = 15;
    l->paragraphs[FATE_RATIO] = 5;
    l->kept_bytes = UINT64_MAX;
    l->words_kept = 5;
    l->unlabelled_bucket = 3;
    l->ratio = (struct ledger_ratio){.tokenizer = strdup("bootstrap"), .max = 8.5};
    l->ratio.note = strdup("doubtful");
    l->ratio.vocab_size = 32000;
    l->documents = (struct ledger_set){14, 4096, 128};
    struct ledger_output *o = ledger_add_output(l, "documents-00000.jsonl.zst");
    o->documents = 14;
    o->bytes = 555;
    o->hash = 0xfedcba9876543210;
    buf_puts(&l->settings, "\"min_paragraph_words\": 3");
}

static void test_round_trip(void **state)
{
    (void)state;
    struct ledger l, back;
    struct err e;
    struct buf text = {0}, again = {0};
    make(&l);
    assert_works(ledger_check(&l, &e), e);
    ledger_format(&l, &text);
    char *path = fs_join(test_folder(), "ledger.json");
    assert_works(fs_write(path, text.data, text.len, &e), e);
    assert_works(ledger_read(&back, path, &e), e);
    assert_works(ledger_check(&back, &e), e);
    assert_string_equal(back.files[1].path, "b \"quoted\".gz");
    assert_string_equal(back.files[1].error, "b.gz: byte 17: broke off");
    assert_null(back.files[0].error);
    buf_puts(&back.settings, "\"min_paragraph_words\": 3"); /* not read */
    ledger_format(&back, &again);
    assert_string_equal(again.data, text.data);
    buf_clear(&again);
    ledger_table(&back, &again);
    assert_non_null(strstr(again.data, "b.gz: byte 17: broke off"));
    assert_non_null(strstr(again.data, "18,446,744,073,709,551,615"));
    assert_non_null(strstr(again.data, "note: doubtful"));
    assert_int_equal(ledger_damaged_files(&back), 1);
    assert_int_equal(ledger_damaged_lines(&back), 1);
    free(path);
    buf_release(&text);
    buf_release(&again);
    ledger_release(&l);
    ledger_release(&back);
}

/* Each number that is part of a sum, moved by one. */
static void test_every_imbalance(void **state)
{
    (void)state;
    struct ledger l;
    struct err e;
    make(&l);
    struct {
        uint64_t *number;
        const char *says;
    } numbers[] = {
        {&l.total.lines_in, "the ledger does not balance: lines_in 21"},
        {&l.total.kept, "the ledger does not balance"},
        {&l.total.removed[REMOVAL_BUCKET], "the ledger does not balance"},
        {&l.total.removed_other, "the ledger does not balance"},
        {&l.files[0].counts.lines_in, "a.jsonl does not balance: lines_in 11"},
        {&l.files[1].counts.kept, "b \"quoted\".gz does not balance"},
        {&l.files[1].counts.removed[REMOVAL_NUL], "does not balance"},
        {&l.paragraphs_in, "101 paragraphs went in, but 100"},
        {&l.paragraphs[FATE_RATIO], "100 paragraphs went in, but 101"},
        {&l.outputs[0].documents, "kept is 14, but 15 documents"},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        ++*numbers[i].number;
        assert_fails(ledger_check(&l, &e), e, numbers[i].says);
        --*numbers[i].number;
        assert_works(ledger_check(&l, &e), e);
    }
    /* Moved from one reason to another in the totals only. */
    l.total.removed[REMOVAL_LANGUAGE]--;
    l.total.removed[REMOVAL_BUCKET]++;
    assert_fails(ledger_check(&l, &e), e, "language is 3 in all, but 4 in the files");
    ledger_release(&l);
}

static void test_bad_files(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "expected an object"},
        {"{\"kept\": 1}", "lines_in or files is missing"},
        {"{\"lines_in\": -1, \"files\": []}", "integer of at least 0"},
        {"{\"lines_in\": 1, \"files\": [{\"kept\": 1}]}", "a file without a path"},
        {"{\"lines_in\": 1, \"files\": [{\"path\": 1}]}", "expected a string"},
        {"{\"lines_in\": 1, \"outputs\": [{\"name\": \"../x\"}], \"files\": []}", "an output"},
        {"{\"lines_in\": 1, \"outputs\": [{\"xxh3\": \"12\"}], \"files\": []}", "16 hexadecimal"},
        {"{\"lines_in\": 1, \"files\": []", "unexpected end"},
    };
    struct err e;
    char *path = fs_join(test_folder(), "bad.json");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct ledger l;
        assert_works(fs_write(path, bad[i].text, strlen(bad[i].text), &e), e);
        assert_fails(ledger_read(&l, path, &e), e, bad[i].says);
        assert_non_null(strstr(e.msg, "bad.json"));
        ledger_release(&l);
    }
    free(path);
}

/* Reasons of a later version count, though this one cannot name them. */
static void test_unknown_reason(void **state)
{
    (void)state;
    struct err e;
    struct ledger l;
    static const char text[] =
        "{\"lines_in\": 3, \"kept\": 1, \"removed\": {\"moon\": 2}, \"later\": [1],"
        "\"outputs\": [{\"name\": \"a\", \"documents\": 1}],"
        "\"files\": [{\"path\": \"x\", \"lines_in\": 3, \"kept\": 1, \"removed\": {\"moon\": 2}}]}";
    char *path = fs_join(test_folder(), "later.json");
    assert_works(fs_write(path, text, strlen(text), &e), e);
    assert_works(ledger_read(&l, path, &e), e);
    assert_works(ledger_check(&l, &e), e);
    assert_int_equal(l.total.removed_other, 2);
    ledger_release(&l);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_imbalance),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_unknown_reason),
    };
    return cmocka_run_group_tests(tests, NULL, test_folder_remove);
}
