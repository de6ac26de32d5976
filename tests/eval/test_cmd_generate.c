/*
 * `mundwerk generate` from a checkpoint folder to text, and what it says of folders
 * that are damaged.
 *
 * The model is built so that its text is known: one-hot embeddings pass through a
 * layer that adds nothing, and row next[i] of the head answers to token i. So it
 * writes a chain of tokens, and among them halves of characters and a byte that
 * belongs to none.
 */
#include "tests/test.h"

#include "checkpoints/checkpoint.h"
#include "common/threads.h"
#include "common/utf8.h"
#include "eval/cmd_generate.h"
#include "model/layers.h"
#include "tokenizer/bpe_train.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { IDS = 260, CONTEXT = 16 };

static const struct model_config shape = {.vocab_size = IDS,
                                          .hidden_size = 264,
                                          .intermediate_size = 8,
                                          .num_hidden_layers = 1,
                                          .num_attention_heads = 33,
                                          .num_key_value_heads = 1,
                                          .max_position_embeddings = CONTEXT,
                                          .rope_theta = 10000,
                                          .rms_norm_eps = 1e-5};

static char *folder;   /* of all files */
static char *snapshot; /* folder/checkpoints/step-0000007 */

/* --- making a checkpoint -------------------------------------------------------- */

static struct tokenizer *make_tokenizer(const char *dir)
{
    struct bpe_train_options o = {.vocab_size = IDS, .pattern = "llama3"};
    struct bpe_trainer *trainer;
    struct tokenizer *t;
    struct err e;
    assert_int_equal(bpe_trainer_new(&trainer, &o, &e), 0);
    assert_int_equal(bpe_trainer_feed(trainer, "ab", 2, &e), 0);
    assert_int_equal(bpe_trainer_train(trainer, &t, &e), 0);
    bpe_trainer_free(trainer);
    assert_int_equal(fs_mkdirs(dir, &e), 0);
    assert_int_equal(tokenizer_copy(t, dir, &e), 0);
    assert_int_equal(tokenizer_vocab_size(t), IDS);
    return t;
}

static uint32_t id_of(const struct tokenizer *t, unsigned char byte)
{
    for (uint32_t id = TOKEN_SPECIAL_COUNT; id < IDS; id++) {
        size_t len;
        const char *bytes = tokenizer_token(t, id, &len);
        if (len == 1 && (unsigned char)bytes[0] == byte)
            return id;
    }
    fail();
    return 0;
}

/* Token `from` is followed by token `to`. */
static void chain(struct model *m, uint32_t from, uint32_t to)
{
    int64_t C = m->config.hidden_size;
    tensor_embed(m)->data[from * C + from] = 1;
    tensor_head(m)->data[to * C + from] = 1;
}

/* "b" is followed by c, ä in two tokens, a byte of no character, d, and the end; "x" by
 * itself for ever; "y" by two of the three bytes of €, then z and the end; "p" by
 * <pad>, which has no text, and the end. */
static void make_model(struct model *m, const struct tokenizer *t)
{
    static const unsigned char path[] = {'b', 'c', 0xC3, 0xA4, 0xFF, 'd'};
    struct err e;
    assert_int_equal(model_init(m, &shape, &e), 0);
    for (size_t i = 0; i < m->tensor_count; i++)
        for (int64_t j = 0; m->tensors[i].is_norm && j < m->tensors[i].cols; j++)
            m->tensors[i].data[j] = 1;
    for (size_t i = 0; i + 1 < sizeof(path); i++)
        chain(m, id_of(t, path[i]), id_of(t, path[i + 1]));
    chain(m, id_of(t, 'd'), TOKEN_EOS);
    chain(m, id_of(t, 'x'), id_of(t, 'x'));
    chain(m, id_of(t, 'y'), id_of(t, 0xE2));
    chain(m, id_of(t, 0xE2), id_of(t, 0x82));
    chain(m, id_of(t, 0x82), id_of(t, 'z'));
    chain(m, id_of(t, 'z'), TOKEN_EOS);
    chain(m, id_of(t, 'p'), TOKEN_PAD);
    chain(m, TOKEN_PAD, TOKEN_EOS);
}

static void save(const struct model *m, const struct tokenizer *t, const char *tokenizer_dir)
{
    struct buf config = {0}, extra = {0};
    struct err e;
    struct tensor *weights = mem_zalloc(m->tensor_count, sizeof(*weights));
    for (size_t i = 0; i < m->tensor_count; i++) {
        const struct model_tensor *p = &m->tensors[i];
        weights[i] = (struct tensor){.name = p->name,
                                     .dtype = TENSOR_BF16,
                                     .rank = p->is_norm ? 1 : 2,
                                     .shape = {p->is_norm ? p->cols : p->rows, p->cols},
                                     .data = p->data,
                                     .from_f32 = true};
    }
    model_config_put_json(&m->config, &config);
    buf_printf(&extra, "\"tokenizer\": \"%016llx\"", (unsigned long long)tokenizer_hash(t));
    struct checkpoint_file file = {"config.json", config.data, config.len};
    struct checkpoint_content c = {.step = 7,
                                   .files = &file,
                                   .file_count = 1,
                                   .copy_folder = tokenizer_dir,
                                   .weights = weights,
                                   .weight_count = m->tensor_count,
                                   .manifest_extra = extra.data};
    int lock;
    assert_int_equal(run_lock(folder, &lock, &e), 0);
    if (checkpoint_save(folder, &c, &e))
        fail_msg("%s", e.msg);
    run_unlock(lock);
    free(weights);
    buf_release(&config);
    buf_release(&extra);
}

/* The head's first weight goes into the logit of <unk> and is 0 in a sound model. */
static void make_snapshot(float head_weight)
{
    struct model m;
    char *dir = fs_join(folder, "tok");
    struct tokenizer *t = make_tokenizer(dir);
    make_model(&m, t);
    tensor_head(&m)->data[0] = head_weight;
    save(&m, t, dir);
    model_release(&m);
    tokenizer_free(t);
    free(dir);
}

static int setup(void **state)
{
    (void)state;
    threads_init(2);
    folder = unit_folder();
    snapshot = fs_join(folder, "checkpoints/step-0000007");
    make_snapshot(0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(snapshot);
    unit_folder_remove(folder);
    return 0;
}

/* --- running the command --------------------------------------------------------- */

#define WORDS_MAX 12

/* Runs generate with words up to NULL. What it writes comes through a socket that keeps the
 * borders of writes: each must be whole characters. out and err are appended to. */
static int run_words(char **words, struct buf *out, struct buf *err)
{
    int pair[2], saved_out = dup(1), saved_err = dup(2), argc = 0;
    char *err_path = fs_join(folder, "stderr"), packet[4096];
    ssize_t n;
    struct err e;
    while (words[argc])
        argc++;
    fflush(stdout);
    fflush(stderr);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    int fd = open(err_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(pair[1], 1);
    dup2(fd, 2);
    close(pair[1]);
    close(fd);
    int code = cmd_generate(argc, words);
    fflush(stdout);
    fflush(stderr);
    dup2(saved_out, 1);
    dup2(saved_err, 2);
    close(saved_out);
    close(saved_err);
    while ((n = recv(pair[0], packet, sizeof(packet), 0)) > 0) {
        assert_int_equal(utf8_invalid_at(packet, (size_t)n), n);
        buf_add(out, packet, (size_t)n);
    }
    close(pair[0]);
    assert_int_equal(fs_read(err, err_path, 1 << 20, &e), 0);
    free(err_path);
    return code;
}

/* generate --checkpoint DIR, up to two more words, PROMPT: demands exit code and text. */
static void expect(int code, const char *dir, const char *a, const char *b, const char *prompt,
                   const char *text)
{
    struct buf out = {0}, err = {0};
    const char *all[] = {"generate", "--checkpoint", dir, a, b, prompt};
    char *words[WORDS_MAX] = {0};
    int count = 0;
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        if (all[i])
            words[count++] = (char *)all[i];
    buf_puts(&out, "");
    int got = run_words(words, &out, &err);
    const char *where = code ? err.data : out.data;
    if (got != code || !(code ? strstr(where, text) != NULL : !strcmp(where, text)))
        fail_msg("exit %d, stdout '%s', stderr '%s'", got, out.data, err.data);
    buf_release(&out);
    buf_release(&err);
}

static void test_text(void **state)
{
    (void)state;
    expect(0, snapshot, NULL, NULL, "ab",
           "abc\xC3\xA4\xEF\xBF\xBD"
           "d\n");
    expect(0, snapshot, "--greedy", NULL, "ab",
           "abc\xC3\xA4\xEF\xBF\xBD"
           "d\n");
    expect(0, snapshot, "--precision", "bf16", "ab",
           "abc\xC3\xA4\xEF\xBF\xBD"
           "d\n");
    expect(0, snapshot, "--no-echo", NULL, "ab",
           "c\xC3\xA4\xEF\xBF\xBD"
           "d\n");
    expect(0, snapshot, "--max-tokens", "1", "ab", "abc\n");
    expect(0, snapshot, "--no-echo", NULL, "p", "\n");
}

/* The end cuts a character in two: its half must not be printed. */
static void test_text_ends_inside_a_character(void **state)
{
    (void)state;
    expect(0, snapshot, "--max-tokens", "2", "ab", "abc\xEF\xBF\xBD\n");
    expect(0, snapshot, "--max-tokens", "2", "y", "y\xEF\xBF\xBD\n");
    expect(0, snapshot, NULL, NULL, "y", "y\xEF\xBF\xBDz\n"); /* one for both bytes */
}

static void test_context_is_full(void **state)
{
    (void)state;
    expect(0, snapshot, NULL, NULL, "0123456789x", "0123456789xxxxxx\n"); /* <s> and 15 more */
    expect(0, snapshot, NULL, NULL, "0123456789abcdx", "0123456789abcdxx\n");
    expect(1, snapshot, NULL, NULL, "0123456789abcdex", "at most 16");
}

static void test_wrong_use(void **state)
{
    (void)state;
    expect(2, snapshot, NULL, NULL, NULL, "the prompt is missing");
    expect(2, snapshot, "ab", NULL, "cd", "more than one prompt");
    expect(2, snapshot, "--temperature", "-1", "ab", "temperature");
    expect(2, snapshot, "--top-p", "2", "ab", "top-p");
    expect(2, "", NULL, NULL, "ab", "--checkpoint");
}

static void test_seed(void **state)
{
    (void)state;
    struct buf first = {0}, second = {0}, err = {0};
    char *words[WORDS_MAX] = {"generate", "--checkpoint",
                              snapshot,   "--temperature",
                              "50",       "--seed",
                              "3",        "--top-nsigma",
                              "0",        "ab"};
    assert_int_equal(run_words(words, &first, &err), 0);
    assert_int_equal(run_words(words, &second, &err), 0);
    assert_string_equal(first.data, second.data);
    words[6] = "4";
    buf_clear(&second);
    assert_int_equal(run_words(words, &second, &err), 0);
    assert_string_not_equal(first.data, second.data);
    buf_release(&first);
    buf_release(&second);
    buf_release(&err);
}

/* --- folders that are not what they should be -------------------------------------- */

/* A copy of the snapshot without its manifest, so that the files themselves are judged. */
static char *copy_of_snapshot(void)
{
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json", "special_tokens_map.json"};
    struct err e;
    char *copy = fs_join(folder, "copy");
    if (fs_exists(copy))
        assert_int_equal(fs_remove_tree(copy, &e), 0);
    assert_int_equal(fs_mkdirs(copy, &e), 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        char *from = fs_join(snapshot, "%s", files[i]), *to = fs_join(copy, "%s", files[i]);
        if (fs_exists(from))
            assert_int_equal(fs_copy(from, to, &e), 0);
        free(from);
        free(to);
    }
    return copy;
}

/* Replaces what stands at `text` in a small file by as many bytes of `by`. */
static void change(const char *dir, const char *file, const char *text, const char *by)
{
    struct buf b = {0};
    struct err e;
    char *path = fs_join(dir, "%s", file);
    assert_int_equal(fs_read(&b, path, 1 << 24, &e), 0);
    char *at = strstr(b.data, text);
    assert_non_null(at);
    memcpy(at, by, strlen(by));
    assert_int_equal(fs_write(path, b.data, b.len, &e), 0);
    buf_release(&b);
    free(path);
}

static void test_folder_as_others_write_it(void **state)
{
    (void)state;
    char *copy = copy_of_snapshot();
    expect(0, copy, "--max-tokens", "1", "ab", "abc\n");
    free(copy);
}

static void test_missing_files(void **state)
{
    (void)state;
    struct err e;
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json"};
    expect(1, "/no/such/folder", NULL, NULL, "ab", "/no/such/folder");
    for (size_t i = 0; i < 3; i++) {
        char *copy = copy_of_snapshot(), *path = fs_join(copy, "%s", names[i]);
        unlink(path);
        expect(1, copy, NULL, NULL, "ab", names[i]);
        assert_int_equal(fs_remove_tree(copy, &e), 0);
        free(path);
        free(copy);
    }
}

static void test_damaged_weights(void **state)
{
    (void)state;
    char *copy = copy_of_snapshot(), *path = fs_join(copy, "model.safetensors");
    uint64_t bytes;
    struct err e;
    assert_int_equal(fs_size(path, &bytes, &e), 0);
    assert_int_equal(truncate(path, (off_t)bytes - 1), 0);
    expect(1, copy, NULL, NULL, "ab", "model.safetensors");
    free(path);
    free(copy);
    copy = copy_of_snapshot();
    path = fs_join(copy, "model.safetensors");
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "\xFF", 1, 20), 1); /* in the header */
    close(fd);
    expect(1, copy, NULL, NULL, "ab", "model.safetensors");
    free(path);
    free(copy);
}

/* One flipped bit of the weights is found by the manifest. */
static void test_flipped_byte(void **state)
{
    (void)state;
    char *path = fs_join(snapshot, "model.safetensors");
    unsigned char byte;
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, 5000), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 5000), 1);
    expect(1, snapshot, NULL, NULL, "ab", "model.safetensors");
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 5000), 1);
    close(fd);
    free(path);
    expect(0, snapshot, "--max-tokens", "1", "ab", "abc\n");
}

static void test_shape_that_does_not_fit(void **state)
{
    (void)state;
    char *copy = copy_of_snapshot();
    change(copy, "config.json", "\"intermediate_size\": 8", "\"intermediate_size\": 9");
    expect(1, copy, NULL, NULL, "ab", "mlp.");
    free(copy);
    copy = copy_of_snapshot();
    change(copy, "config.json", "\"num_hidden_layers\": 1", "\"num_hidden_layers\": 2");
    expect(1, copy, NULL, NULL, "ab", "model.layers.1.");
    free(copy);
    copy = copy_of_snapshot();
    change(copy, "config.json", "\"vocab_size\": 260", "\"vocab_size\": 999");
    expect(1, copy, NULL, NULL, "ab", "model.embed_tokens.weight");
    free(copy);
}

/* The model was saved with another vocabulary than the folder's tokenizer has. */
static void test_tokenizer_that_does_not_match(void **state)
{
    (void)state;
    struct model m;
    struct err e;
    struct model_config c = shape;
    char *dir = fs_join(folder, "tok");
    struct tokenizer *t = make_tokenizer(dir);
    c.vocab_size = IDS - 4;
    assert_int_equal(model_init(&m, &c, &e), 0);
    save(&m, t, dir);
    model_release(&m);
    expect(1, snapshot, NULL, NULL, "ab", "does not match the model: it has 260 ids");
    c.vocab_size = IDS + 300;
    assert_int_equal(model_init(&m, &c, &e), 0);
    save(&m, t, dir);
    model_release(&m);
    expect(1, snapshot, NULL, NULL, "ab", "does not match the model: it has 260 ids");
    tokenizer_free(t);
    free(dir);
    make_snapshot(0);
}

/* The same size, but the manifest names another one. */
static void test_tokenizer_of_another_hash(void **state)
{
    (void)state;
    struct model m;
    char *dir = fs_join(folder, "tok"), *path = fs_join(dir, "tokenizer.json");
    struct tokenizer *t = make_tokenizer(dir);
    struct buf json = {0};
    struct err e;
    assert_int_equal(fs_read(&json, path, 1 << 20, &e), 0);
    buf_putc(&json, '\n'); /* other bytes, another tokenizer */
    assert_int_equal(fs_write(path, json.data, json.len, &e), 0);
    make_model(&m, t);
    save(&m, t, dir);
    expect(1, snapshot, NULL, NULL, "ab", "it was trained with tokenizer");
    model_release(&m);
    tokenizer_free(t);
    buf_release(&json);
    free(path);
    free(dir);
    make_snapshot(0);
}

static void test_weights_that_diverged(void **state)
{
    (void)state;
    make_snapshot(NAN);
    expect(1, snapshot, NULL, NULL, "ab", "not finite");
    make_snapshot(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_text_ends_inside_a_character),
        cmocka_unit_test(test_context_is_full),
        cmocka_unit_test(test_wrong_use),
        cmocka_unit_test(test_seed),
        cmocka_unit_test(test_folder_as_others_write_it),
        cmocka_unit_test(test_missing_files),
        cmocka_unit_test(test_damaged_weights),
        cmocka_unit_test(test_flipped_byte),
        cmocka_unit_test(test_shape_that_does_not_fit),
        cmocka_unit_test(test_tokenizer_that_does_not_match),
        cmocka_unit_test(test_tokenizer_of_another_hash),
        cmocka_unit_test(test_weights_that_diverged),
    };
    return cmocka_run_group_tests_name("eval/cmd_generate", tests, setup, teardown);
}
