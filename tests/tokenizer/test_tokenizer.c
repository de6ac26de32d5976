/*
 * Encoding and decoding: Hugging Face's ids (golden), a naive reference, any bytes
 * and back, the worst case, and every way a tokenizer.json can be bad.
 */
#include "tests/test.h"

#include "common/json.h"
#include "common/log.h"
#include "common/rng.h"
#include "tokenizer/bpe_train.h"
#include "tokenizer/bytemap.h"
#include "tokenizer/pretoken.h"
#include "tokenizer/vocab.h"

#include <time.h>

#define GOLDEN "tests/golden/tokenizer/"

static struct tokenizer *train_on_corpus(const char *pattern, uint32_t vocab_size)
{
    struct bpe_train_options o = {vocab_size, 0, pattern};
    struct bpe_trainer *trainer;
    struct tokenizer *t;
    struct buf corpus = {0};
    struct err e;
    if (fs_read(&corpus, GOLDEN "corpus.txt", 1 << 20, &e) || bpe_trainer_new(&trainer, &o, &e))
        fail_msg("%s", e.msg);
    for (const char *s = corpus.data, *end = s + corpus.len; s < end;) {
        const char *newline = memchr(s, '\n', (size_t)(end - s));
        const char *next = newline ? newline + 1 : end;
        assert_int_equal(bpe_trainer_feed(trainer, s, (size_t)(next - s), &e), 0);
        s = next;
    }
    if (bpe_trainer_train(trainer, &t, &e))
        fail_msg("%s", e.msg);
    bpe_trainer_free(trainer);
    buf_release(&corpus);
    return t;
}

static void encode(struct encoder *enc, const char *text, size_t len, unsigned flags,
                   struct ids *ids)
{
    struct err e;
    ids->count = 0;
    if (encoder_encode(enc, text, len, flags, ids, &e))
        fail_msg("%s", e.msg);
}

static bool same_ids(const struct ids *a, const struct ids *b)
{
    return a->count == b->count && (!a->count || !memcmp(a->v, b->v, a->count * sizeof(*a->v)));
}

static void read_id_list(struct json *j, struct ids *ids)
{
    uint64_t id;
    ids->count = 0;
    assert_int_equal(json_array(j), 0);
    while (json_next(j) > 0) {
        assert_int_equal(json_u64(j, &id), 0);
        ids_add(ids, (uint32_t)id);
    }
}

static void test_golden_ids(void **state)
{
    (void)state;
    struct buf file = {0}, pattern = {0}, text = {0};
    struct ids want = {0}, want_special = {0}, got = {0};
    struct tokenizer *t = NULL;
    struct encoder *enc = NULL;
    struct err e;
    int cases = 0;
    if (fs_read(&file, GOLDEN "encode.jsonl", 1 << 22, &e))
        fail_msg("%s", e.msg);
    for (char *line = file.data, *next; line < file.data + file.len; line = next) {
        struct json j;
        char key[16];
        bool special = false;
        next = strchr(line, '\n') + 1;
        json_open(&j, line, (size_t)(next - line));
        assert_int_equal(json_object(&j), 0);
        while (json_next_key(&j, key, sizeof(key)) > 0) {
            if (!strcmp(key, "pattern"))
                json_string(&j, &pattern);
            else if (!strcmp(key, "text"))
                json_string(&j, &text);
            else
                read_id_list(&j, strcmp(key, "ids") ? &want_special : &want);
            special |= !strcmp(key, "ids_special");
        }
        assert_null(j.error);
        if (!t || strcmp(tokenizer_pattern_name(t), pattern.data) != 0) {
            encoder_free(enc);
            tokenizer_free(t);
            t = train_on_corpus(pattern.data, 800);
            enc = encoder_new(t);
        }
        encode(enc, text.data, text.len, ENCODE_PLAIN, &got);
        if (!same_ids(&got, &want))
            fail_msg("%s: ids of \"%s\" differ", pattern.data, text.data);
        encode(enc, text.data, text.len, ENCODE_ALLOW_SPECIAL, &got);
        if (!same_ids(&got, special ? &want_special : &want))
            fail_msg("%s: ids of \"%s\" differ with special tokens", pattern.data, text.data);
        cases++;
    }
    assert_true(cases > 400);
    encoder_free(enc);
    tokenizer_free(t);
    ids_release(&want);
    ids_release(&want_special);
    ids_release(&got);
    buf_release(&file);
    buf_release(&pattern);
    buf_release(&text);
}

/* --- reference and round trip ------------------------------------------------------ */

/* BPE by definition: again and again the pair of lowest rank, the leftmost of them. */
static void slow_piece(const struct tokenizer *t, const char *s, size_t len, struct ids *out)
{
    uint32_t *ids = mem_alloc(len * sizeof(*ids));
    for (size_t i = 0; i < len; i++)
        ids[i] = t->byte_id[(unsigned char)s[i]];
    for (;;) {
        const struct merge *best = NULL;
        size_t at = 0;
        for (size_t i = 1; i < len; i++) {
            const struct merge *m = merges_find(&t->merges, ids[i - 1], ids[i]);
            if (m->rank != VOCAB_NONE && (!best || m->rank < best->rank)) {
                best = m;
                at = i - 1;
            }
        }
        if (!best)
            break;
        ids[at] = best->id;
        len--;
        memmove(&ids[at + 1], &ids[at + 2], (len - at - 1) * sizeof(*ids));
    }
    for (size_t i = 0; i < len; i++)
        ids_add(out, ids[i]);
    free(ids);
}

static void slow_encode(const struct tokenizer *t, const char *text, size_t len, struct ids *out)
{
    struct splitter *s = splitter_new(t->pattern);
    struct piece piece;
    struct err e;
    out->count = 0;
    splitter_start(s, text, len);
    while (splitter_next(s, &piece, &e) > 0)
        slow_piece(t, text + piece.start, piece.len, out);
    splitter_free(s);
}

/* Pieces of every length around the change from array to heap, over few letters. */
static void test_against_slow_encoder(void **state)
{
    (void)state;
    struct tokenizer *t = train_on_corpus("german", 1500);
    struct encoder *enc = encoder_new(t);
    struct ids got = {0}, want = {0};
    struct rng r;
    char text[400];
    rng_init(&r, 5, 5);
    for (int i = 0; i < 4000; i++) {
        size_t len = 1 + rng_below(&r, i % 4 ? 100 : sizeof(text));
        unsigned letters = 1 + (unsigned)rng_below(&r, 26);
        for (size_t k = 0; k < len; k++)
            text[k] = rng_below(&r, 30) ? (char)('a' + rng_below(&r, letters)) : ' ';
        encode(enc, text, len, ENCODE_PLAIN, &got);
        slow_encode(t, text, len, &want);
        if (!same_ids(&got, &want))
            fail_msg("ids of \"%.*s\" differ", (int)len, text);
    }
    ids_release(&got);
    ids_release(&want);
    encoder_free(enc);
    tokenizer_free(t);
}

static void test_any_bytes_come_back(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt2", "llama3", "qwen2", "o200k", "german"};
    struct rng r;
    struct ids ids = {0};
    struct buf back = {0};
    struct err e;
    char text[300];
    rng_init(&r, 6, 6);
    for (size_t k = 0; k < 5; k++) {
        struct tokenizer *t = train_on_corpus(names[k], 600);
        struct encoder *enc = encoder_new(t);
        for (int i = 0; i < 3000; i++) {
            size_t len = rng_below(&r, sizeof(text));
            for (size_t b = 0; b < len; b++)
                text[b] = (char)rng_u64(&r);
            encode(enc, text, len, i % 2 ? ENCODE_PLAIN : ENCODE_ALLOW_SPECIAL, &ids);
            buf_clear(&back);
            assert_int_equal(tokenizer_decode(t, ids.v, ids.count, false, &back, &e), 0);
            assert_int_equal(back.len, len);
            assert_memory_equal(back.data ? back.data : "", text, len);
        }
        encoder_free(enc);
        tokenizer_free(t);
    }
    ids_release(&ids);
    buf_release(&back);
}

/* Of this thread: other programs must not make a test fail. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double seconds_to_encode(struct encoder *enc, const char *text, size_t len)
{
    struct ids ids = {0};
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        double start = cpu_seconds();
        encode(enc, text, len, ENCODE_PLAIN, &ids);
        double took = cpu_seconds() - start;
        if (took < best)
            best = took;
    }
    ids_release(&ids);
    return best;
}

/* One piece of a megabyte: n log n grows 16 times the size by a factor of 20, n² by 256. */
static void test_worst_case_is_not_quadratic(void **state)
{
    (void)state;
    struct tokenizer *t = train_on_corpus("llama3", 1000);
    struct encoder *enc = encoder_new(t);
    size_t small = 64 * 1024, large = 16 * small;
    char *text = mem_alloc(large);
    struct rng r;
    rng_init(&r, 8, 8);
    for (int kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < large; i++)
            text[i] = kind == 0 ? 'a' : kind == 1 ? "ab"[i % 2] : (char)('a' + rng_below(&r, 26));
        double one = seconds_to_encode(enc, text, small), all = seconds_to_encode(enc, text, large);
        if (all > 100 * one && all > 0.5)
            fail_msg("kind %d: %g s, 16 times as much: %g s", kind, one, all);
    }
    free(text);
    encoder_free(enc);
    tokenizer_free(t);
}

/* --- specials, folder ------------------------------------------------------------- */

static void test_special_tokens(void **state)
{
    (void)state;
    struct tokenizer *t = train_on_corpus("llama3", 400);
    struct encoder *enc = encoder_new(t);
    struct ids ids = {0};
    struct buf text = {0};
    struct err e;
    size_t len;
    encode(enc, "", 0, ENCODE_BOS | ENCODE_EOS, &ids);
    assert_int_equal(ids.count, 2);
    assert_int_equal(ids.v[0], TOKEN_BOS);
    assert_int_equal(ids.v[1], TOKEN_EOS);
    encode(enc, "<s>a</s>", 8, ENCODE_ALLOW_SPECIAL, &ids);
    assert_int_equal(ids.count, 3);
    assert_int_equal(ids.v[0], TOKEN_BOS);
    assert_int_equal(ids.v[2], TOKEN_EOS);
    assert_int_equal(tokenizer_decode(t, ids.v, ids.count, true, &text, &e), 0);
    assert_string_equal(text.data, "a");
    assert_int_equal(tokenizer_decode(t, ids.v, ids.count, false, &text, &e), 0);
    assert_string_equal(text.data, "a<s>a</s>");
    encode(enc, "<s>", 3, ENCODE_PLAIN, &ids);
    assert_true(ids.count > 1 && ids.v[0] > TOKEN_PAD);
    ids.v[0] = 400;
    assert_int_equal(tokenizer_decode(t, ids.v, ids.count, false, &text, &e), -1);
    assert_says(&e, "id 400 at place 0 is outside the vocabulary of 400");
    assert_memory_equal(tokenizer_token(t, TOKEN_EOS, &len), "</s>", 4);
    assert_int_equal(len, 4);
    ids_release(&ids);
    buf_release(&text);
    encoder_free(enc);
    tokenizer_free(t);
}

static void test_written_folder(void **state)
{
    (void)state;
    struct tokenizer *t = train_on_corpus("german", 500), *again;
    char *folder = unit_folder(), *inner = fs_join(folder, "a/b"), *path;
    struct buf file = {0};
    struct err e;
    assert_int_equal(tokenizer_copy(t, inner, &e), 0);
    assert_int_equal(tokenizer_load(&again, inner, &e), 0);
    assert_int_equal(tokenizer_hash(again), tokenizer_hash(t));
    assert_int_equal(tokenizer_vocab_size(again), 500);
    assert_string_equal(tokenizer_pattern_name(again), "german");
    path = fs_join(inner, "tokenizer_config.json");
    assert_int_equal(fs_read(&file, path, 1 << 20, &e), 0);
    assert_non_null(strstr(file.data, "\"PreTrainedTokenizerFast\""));
    assert_non_null(strstr(file.data, "\"clean_up_tokenization_spaces\": false"));
    assert_non_null(
        strstr(file.data, "\"model_input_names\": [\"input_ids\", \"attention_mask\"]"));
    /* What stood in the folder travels on, byte for byte. */
    assert_int_equal(fs_write(path, "{\"mine\": 1}", 11, &e), 0);
    tokenizer_free(again);
    free(path);
    assert_int_equal(tokenizer_load(&again, inner, &e), 0);
    assert_int_equal(tokenizer_copy(again, folder, &e), 0);
    path = fs_join(folder, "tokenizer_config.json");
    assert_int_equal(fs_read(&file, path, 1 << 20, &e), 0);
    assert_string_equal(file.data, "{\"mine\": 1}");
    tokenizer_free(again);
    assert_int_equal(tokenizer_load(&again, "no/such/folder", &e), -1);
    assert_null(again);
    assert_says(&e, "no/such/folder/tokenizer.json");
    free(path);
    free(inner);
    buf_release(&file);
    unit_folder_remove(folder);
    tokenizer_free(t);
}

/* --- files made elsewhere ---------------------------------------------------------- */

#define L3_SPLIT                                                                                   \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a|b\"" \
    "},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","                       \
    "\"add_prefix_space\":false,\"use_regex\":false}]}"
#define BYTE_LEVEL "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}"

/* A tokenizer.json of the 256 bytes (ids 0 to 255) with these parts; NULL leaves one out. */
static struct buf make_json(const char *top, const char *pre, const char *model, const char *tokens,
                            const char *merges)
{
    struct buf b = {0};
    buf_printf(&b, "{\"version\":\"1.0\",%s", top ? top : "");
    if (pre)
        buf_printf(&b, "\"pre_tokenizer\":%s,", pre);
    buf_printf(&b, "\"model\":{\"type\":\"BPE\",%s\"vocab\":{", model ? model : "");
    for (unsigned i = 0; i < 256; i++) {
        struct buf name = {0};
        char byte = (char)i;
        bytemap_spell(&name, &byte, 1);
        json_put_string(&b, name.data, name.len);
        buf_printf(&b, ":%u%s", i, i < 255 ? "," : "");
        buf_release(&name);
    }
    buf_printf(&b, "%s}", tokens ? tokens : "");
    if (merges)
        buf_printf(&b, ",\"merges\":%s", merges);
    buf_puts(&b, "}}");
    return b;
}

static struct tokenizer *parse(struct buf json)
{
    struct tokenizer *t;
    struct err e;
    if (tokenizer_parse(&t, json.data, json.len, "t.json", &e))
        fail_msg("%s", e.msg);
    buf_release(&json);
    return t;
}

static void ids_are(struct buf json, const char *text, unsigned flags, const char *wanted)
{
    struct tokenizer *t = parse(json);
    struct encoder *enc = encoder_new(t);
    struct ids ids = {0};
    struct buf got = {0};
    for (int twice = 0; twice < 2; twice++) { /* the second time from the cache */
        encode(enc, text, strlen(text), flags, &ids);
        buf_clear(&got);
        for (size_t i = 0; i < ids.count; i++)
            buf_printf(&got, "%s%u", i ? " " : "", ids.v[i]);
        assert_string_equal(got.data, wanted);
    }
    ids_release(&ids);
    buf_release(&got);
    encoder_free(enc);
    tokenizer_free(t);
}

static void test_foreign_files(void **state)
{
    (void)state;
    const char *tokens = ",\"ab\":256,\"abc\":257";
    ids_are(make_json("", BYTE_LEVEL, "", tokens, "[[\"a\",\"b\"],[\"ab\",\"c\"]]"), "abcab", 0,
            "257 256");
    ids_are(make_json("", BYTE_LEVEL, "", tokens, "[\"a b\",\"ab c\"]"), "abc", 0, "257");
    ids_are(make_json("", L3_SPLIT, "", tokens, "[\"a b\"]"), "abc", 0, "97 98 99");
    /* Without the merge a token is not made, unless merges are ignored for whole pieces. */
    ids_are(make_json("", BYTE_LEVEL, "", tokens, "[]"), "abc", 0, "97 98 99");
    ids_are(make_json("", BYTE_LEVEL, "\"ignore_merges\":true,", tokens, "[]"), "abc abc", 0,
            "257 32 97 98 99");
    /* Added tokens that are not special are always cut out, the longest first. */
    const char *added =
        "\"added_tokens\":[{\"id\":258,\"content\":\"\xE2\x82\xAC\",\"special\":false},"
        "{\"id\":259,\"content\":\"\xE2\x82\xACxx\",\"special\":true},"
        "{\"id\":260,\"content\":\"\xE2\x82\xACx\",\"special\":false}],";
    ids_are(make_json(added, BYTE_LEVEL, "", tokens, "[]"), "a\xE2\x82\xACxx\xE2\x82\xAC", 0,
            "97 260 120 258");
    ids_are(make_json(added, BYTE_LEVEL, "", tokens, "[]"), "a\xE2\x82\xACxx", ENCODE_ALLOW_SPECIAL,
            "97 259");
}

static void test_bos_needs_special_tokens(void **state)
{
    (void)state;
    struct tokenizer *t = parse(make_json("", BYTE_LEVEL, "", "", "[]"));
    struct encoder *enc = encoder_new(t);
    struct ids ids = {0};
    struct err e;
    assert_false(tokenizer_has_specials(t));
    assert_int_equal(encoder_encode(enc, "a", 1, ENCODE_BOS, &ids, &e), -1);
    assert_says(&e, "the tokenizer does not have <unk> <s> </s> <pad> as its ids 0 to 3");
    encoder_free(enc);
    tokenizer_free(t);
}

static void refused(struct buf json, const char *sentence)
{
    struct tokenizer *t;
    struct err e;
    if (!tokenizer_parse(&t, json.data, json.len, "t.json", &e))
        fail_msg("accepted; expected: %s", sentence);
    assert_null(t);
    assert_says(&e, "t.json: ");
    assert_says(&e, sentence);
    buf_release(&json);
}

static void refused_text(const char *json, const char *sentence)
{
    struct buf b = {0};
    buf_puts(&b, json);
    refused(b, sentence);
}

static void test_bad_vocabularies(void **state)
{
    (void)state;
    const char *pre = BYTE_LEVEL;
    refused(make_json("", pre, "", ",\"ab\":257", "[]"), "id 257 leaves a gap: there are 257");
    refused(make_json("", pre, "", ",\"ab\":255", "[]"), "id 255 is given twice");
    refused(make_json("", pre, "", ",\"a\":256", "[]"), "token \"a\" is there twice");
    refused(make_json("", pre, "", ",\"ab\":-1", "[]"), "byte");
    refused(make_json("", pre, "", ",\"ab\":1e3", "[]"), "byte");
    refused(make_json("", pre, "", ",\"a b\":256", "[]"),
            "token \"a b\" (id 256) is neither in byte-level spelling nor an added token");
    refused(make_json("", pre, "", "", "[[\"a\",\"zz\"]]"),
            "merge 0: \"zz\" is not in the vocabulary");
    refused(make_json("", pre, "", "", "[[\"a\",\"b\"]]"),
            "merge 0: its result \"ab\" is not in the vocabulary");
    refused(make_json("", pre, "", ",\"ab\":256", "[\"a b\",\"a b\"]"),
            "merge 1 to \"ab\" is there twice");
    refused(make_json("", pre, "", "", "[\"ab\"]"), "a merge must be two tokens and one space");
    refused(make_json("", pre, "", "", "[[\"a\"]]"), "a merge must be a pair of tokens");
    refused(make_json("", pre, "", "", "[7]"), "a merge must be a pair of tokens");
    refused(make_json("", pre, "", "", "{}"), "byte");
    refused(make_json("", pre, "", "", NULL), "model.merges is missing");
    refused_text("{\"pre_tokenizer\":" BYTE_LEVEL ",\"model\":{\"vocab\":{\"a\":0},\"merges\":[]}}",
                 "byte 0x00 has no token, so text with it could not be encoded");
}

static void test_unsupported_parts(void **state)
{
    (void)state;
    refused(make_json("", NULL, "", "", "[]"), "pre_tokenizer is missing");
    refused(make_json("", "{\"type\":\"Metaspace\"}", "", "", "[]"),
            "pre-tokenizer \"Metaspace\" at this place is not supported");
    refused(make_json("", "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "", "", "[]"),
            "add_prefix_space is true, which is not supported");
    refused(make_json("",
                      "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
                      "{\"String\":\"a\"}}]}",
                      "", "", "[]"),
            "the pattern of Split is a \"String\"; only \"Regex\" is supported");
    refused(make_json("",
                      "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
                      "{\"Regex\":\"a\"},\"behavior\":\"Removed\"}]}",
                      "", "", "[]"),
            "the behavior of Split is \"Removed\"; only \"Isolated\" is supported");
    refused(make_json("",
                      "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
                      "{\"Regex\":\"(\"}},{\"type\":\"ByteLevel\",\"use_regex\":false}]}",
                      "", "", "[]"),
            "pre_tokenizer: the pattern is not understood at byte 1");
    refused(make_json("", "{\"type\":\"Sequence\",\"pretokenizers\":[]}", "", "", "[]"),
            "the pre-tokenizer must be one Split and one ByteLevel");
    refused(make_json("\"normalizer\":{\"type\":\"NFC\"},", BYTE_LEVEL, "", "", "[]"),
            "a normalizer is set, which is not supported");
    refused(make_json("", BYTE_LEVEL, "\"dropout\":0.1,", "", "[]"),
            "dropout is set, which is not supported");
    refused(make_json("", BYTE_LEVEL, "\"end_of_word_suffix\":\"</w>\",", "", "[]"),
            "end_of_word_suffix is set, which is not supported");
    refused(make_json("\"added_tokens\":[{\"id\":256,\"content\":\"x y\",\"lstrip\":true}],",
                      BYTE_LEVEL, "", "", "[]"),
            "lstrip, rstrip or single_word of an added token is true");
    refused(
        make_json("\"added_tokens\":[{\"id\":300,\"content\":\"<x>\"}],", BYTE_LEVEL, "", "", "[]"),
        "added token \"<x>\" has id 300, expected 256");
    refused(make_json("\"added_tokens\":[{\"id\":256,\"content\":\"<x>\"},{\"id\":257,"
                      "\"content\":\"<x>\"}],",
                      BYTE_LEVEL, "", "", "[]"),
            "added token \"<x>\" is there twice");
    refused(make_json("\"added_tokens\":[{\"id\":256}],", BYTE_LEVEL, "", "", "[]"),
            "an added token needs \"content\" and an \"id\"");
    refused_text("{\"version\":\"2.0\"}", "the version is \"2.0\"; only \"1.0\" is supported");
    refused_text("{\"model\":{\"type\":\"Unigram\"}}", "the type of the model is \"Unigram\"");
}

static void test_broken_json(void **state)
{
    (void)state;
    refused_text("", "byte 0");
    refused_text("[]", "byte 0");
    refused_text("{\"model\": ", "byte");
    refused_text("{\"model\":{},\"model\":{}}", "duplicate key");
    /* Every prefix of a good file is refused, and none is read past its end. */
    struct buf good = make_json("", L3_SPLIT, "", ",\"ab\":256", "[[\"a\",\"b\"]]");
    for (size_t len = 0; len < good.len; len += 7) {
        struct tokenizer *t;
        struct err e;
        char *cut = mem_alloc(len + 1); /* exact, so that sanitizers see an overread */
        memcpy(cut, good.data, len);
        assert_int_equal(tokenizer_parse(&t, cut, len, "t.json", &e), -1);
        assert_says(&e, "t.json: byte ");
        free(cut);
    }
    tokenizer_free(parse(good));
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
        cmocka_unit_test(test_golden_ids),
        cmocka_unit_test(test_against_slow_encoder),
        cmocka_unit_test(test_any_bytes_come_back),
        cmocka_unit_test(test_worst_case_is_not_quadratic),
        cmocka_unit_test(test_special_tokens),
        cmocka_unit_test(test_written_folder),
        cmocka_unit_test(test_foreign_files),
        cmocka_unit_test(test_bos_needs_special_tokens),
        cmocka_unit_test(test_bad_vocabularies),
        cmocka_unit_test(test_unsupported_parts),
        cmocka_unit_test(test_broken_json),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
