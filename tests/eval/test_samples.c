/*
 * Samples of models that are wider than their tokenizer, or went wrong.
 *
 * Every token has the same embedding, so the head alone decides: the row of ones wins.
 */
#include "tests/test.h"

#include "common/threads.h"
#include "eval/samples.h"
#include "model/layers.h"
#include "tokenizer/bpe_train.h"

#include <math.h>

enum { IDS = 260, WIDE = 320 };

static const struct model_config shape = {.vocab_size = WIDE,
                                          .hidden_size = 8,
                                          .intermediate_size = 8,
                                          .num_hidden_layers = 1,
                                          .num_attention_heads = 1,
                                          .num_key_value_heads = 1,
                                          .max_position_embeddings = 32,
                                          .rope_theta = 10000,
                                          .rms_norm_eps = 1e-5};

static struct model model;
static struct tokenizer *tok;

static int setup(void **state)
{
    (void)state;
    struct bpe_train_options o = {.vocab_size = IDS, .pattern = "llama3"};
    struct bpe_trainer *trainer;
    struct err e;
    threads_init(1);
    if (kernels_init(&e) || model_init(&model, &shape, &e) || bpe_trainer_new(&trainer, &o, &e) ||
        bpe_trainer_feed(trainer, "ab", 2, &e) || bpe_trainer_train(trainer, &tok, &e))
        return -1;
    bpe_trainer_free(trainer);
    for (size_t i = 0; i < model.tensor_count; i++)
        for (int64_t j = 0; model.tensors[i].is_norm && j < model.tensors[i].cols; j++)
            model.tensors[i].data[j] = 1;
    for (int64_t j = 0; j < WIDE * shape.hidden_size; j++)
        tensor_embed(&model)->data[j] = 1;
    return tokenizer_vocab_size(tok) == IDS ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    model_release(&model);
    tokenizer_free(tok);
    return 0;
}

/* The row of `id` answers with `weight`. */
static void set_head(int64_t id, float weight)
{
    for (int64_t j = 0; j < shape.hidden_size; j++)
        tensor_head(&model)->data[id * shape.hidden_size + j] = weight;
}

static const struct samples_options options = {.max_tokens = 4, .seed = 1};

/* model.vocab_multiple rounds V up: the rows beyond the tokenizer must never be picked. */
static void ids_beyond_the_tokenizer_are_not_picked(void **state)
{
    (void)state;
    struct sample s[SAMPLES_PROMPTS * SAMPLE_MODES];
    struct err e;
    set_head(300, 2);
    set_head(TOKEN_SPECIAL_COUNT + 'x' % 200, 1);
    assert_works(samples_run(s, &model, tok, &options, NULL, &e), e);
    assert_int_equal(s[0].tokens, 4);
    assert_int_not_equal(s[0].text.len, 0);
    samples_release(s);
    set_head(300, 0);
}

static void logits_that_are_not_finite_are_an_error(void **state)
{
    (void)state;
    struct sample s[SAMPLES_PROMPTS * SAMPLE_MODES];
    struct err e;
    for (int64_t id = 0; id < WIDE; id++)
        set_head(id, NAN);
    assert_fails(samples_run(s, &model, tok, &options, NULL, &e), e, "not finite");
    for (int64_t id = 0; id < WIDE; id++)
        set_head(id, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_beyond_the_tokenizer_are_not_picked),
        cmocka_unit_test(logits_that_are_not_finite_are_an_error),
    };
    return cmocka_run_group_tests_name("eval/samples", tests, setup, teardown);
}
