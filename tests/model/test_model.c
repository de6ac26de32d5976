/*
 * Shapes, counts, config.json, first values and workspaces.
 */
#include "common/fs.h"
#include "common/threads.h"
#include "model/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <math.h>
#include <unistd.h>
#include <cmocka.h>

static const struct model_config german120m = {.vocab_size = 32000,
                                               .hidden_size = 768,
                                               .intermediate_size = 2048,
                                               .num_hidden_layers = 12,
                                               .num_attention_heads = 12,
                                               .num_key_value_heads = 4,
                                               .max_position_embeddings = 2048,
                                               .rope_theta = 10000,
                                               .rms_norm_eps = 1e-5};
static const struct model_config german1b = {.vocab_size = 32000,
                                             .hidden_size = 2048,
                                             .intermediate_size = 5632,
                                             .num_hidden_layers = 22,
                                             .num_attention_heads = 32,
                                             .num_key_value_heads = 4,
                                             .max_position_embeddings = 2048,
                                             .rope_theta = 10000,
                                             .rms_norm_eps = 1e-5};
static const struct model_config tiny = {.vocab_size = 50,
                                         .hidden_size = 48,
                                         .intermediate_size = 40,
                                         .num_hidden_layers = 3,
                                         .num_attention_heads = 6,
                                         .num_key_value_heads = 2,
                                         .max_position_embeddings = 32,
                                         .rope_theta = 10000,
                                         .rms_norm_eps = 1e-5};

/* Table 6 of the paper; the true total of the 1B, see llammlein.md §3.2. */
static void test_param_count(void **state)
{
    (void)state;
    assert_int_equal(model_param_count(&german120m), 124668672);
    assert_int_equal(model_param_count(&german1b), 1100048384);
}

/* performance.md §8, printed there to four digits. */
static void test_train_flops(void **state)
{
    (void)state;
    assert_true(fabs(model_train_flops(&german120m, 2048) - 713.7e6) < 0.05e6);
    assert_true(fabs(model_train_flops(&german1b, 2048) - 6760e6) < 0.5e6);
}

static void test_tensor_table(void **state)
{
    (void)state;
    struct model m;
    struct err e;
    assert_int_equal(model_init(&m, &tiny, &e), 0);
    assert_int_equal(m.tensor_count, 3 + 9 * 3);
    assert_int_equal(m.param_count, model_param_count(&tiny));
    assert_string_equal(m.tensors[0].name, "model.embed_tokens.weight");
    assert_string_equal(m.tensors[1].name, "model.layers.0.self_attn.q_proj.weight");
    assert_string_equal(m.tensors[29].name, "lm_head.weight");
    const struct model_tensor *k = model_find(&m, "model.layers.2.self_attn.k_proj.weight");
    assert_int_equal(k->rows, 16); /* two groups of eight */
    assert_int_equal(k->cols, 48);
    assert_false(k->is_norm);
    assert_true(model_find(&m, "model.norm.weight")->is_norm);
    assert_null(model_find(&m, "model.layers.3.self_attn.k_proj.weight"));
    for (size_t i = 0; i < m.tensor_count; i++) {
        assert_int_equal(m.tensors[i].offset % 16, 0);
        assert_ptr_equal(m.tensors[i].data, m.params + m.tensors[i].offset);
    }
    model_release(&m);
}

static double std_of(const struct model *m, const char *name)
{
    const struct model_tensor *t = model_find(m, name);
    int64_t count = t->rows * t->cols;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += t->data[i];
        squares += (double)t->data[i] * t->data[i];
    }
    assert_true(fabs(sum / (double)count) < 0.01);
    return sqrt(squares / (double)count);
}

static void test_randomize(void **state)
{
    (void)state;
    struct model a, b;
    struct err e;
    struct model_config c = tiny;
    c.hidden_size = 96;
    c.vocab_size = 500;
    assert_int_equal(model_init(&a, &c, &e), 0);
    assert_int_equal(model_init(&b, &c, &e), 0);
    threads_init(1);
    model_randomize(&a, 7);
    threads_init(3);
    model_randomize(&b, 7);
    assert_memory_equal(a.params, b.params, a.params_size * sizeof(float));
    model_randomize(&b, 8);
    assert_memory_not_equal(a.params, b.params, a.params_size * sizeof(float));
    threads_init(2);

    double plain = sqrt(2.0 / (5.0 * 96)), output = 1 / (sqrt(96) * 3);
    assert_true(fabs(std_of(&a, "lm_head.weight") / plain - 1) < 0.02);
    assert_true(fabs(std_of(&a, "model.layers.1.mlp.up_proj.weight") / plain - 1) < 0.05);
    assert_true(fabs(std_of(&a, "model.layers.1.mlp.down_proj.weight") / output - 1) < 0.05);
    assert_true(fabs(std_of(&a, "model.layers.2.self_attn.o_proj.weight") / output - 1) < 0.05);
    assert_true(model_find(&a, "model.norm.weight")->data[5] == 1.0f);
    model_release(&a);
    model_release(&b);
}

static void test_config_check(void **state)
{
    (void)state;
    struct err e;
    struct model_config c = german1b;
    assert_int_equal(model_config_check(&c, &e), 0);
    c.num_attention_heads = 30;
    assert_int_equal(model_config_check(&c, &e), -1);
    assert_string_equal(e.msg, "num_attention_heads 30 does not divide hidden_size 2048");
    c = german1b;
    c.num_key_value_heads = 5;
    assert_int_equal(model_config_check(&c, &e), -1);
    assert_string_equal(e.msg, "num_key_value_heads 5 does not divide num_attention_heads 32");
    c = german1b;
    c.hidden_size = 32 * 12;
    assert_int_equal(model_config_check(&c, &e), -1);
    assert_non_null(strstr(e.msg, "head size 12 "));
    c.hidden_size = 32 * 136;
    assert_int_equal(model_config_check(&c, &e), -1);
    assert_non_null(strstr(e.msg, "head size 136 "));
    c = german1b;
    c.tie_word_embeddings = true;
    assert_int_equal(model_config_check(&c, &e), -1);
    c = german1b;
    c.vocab_size = 0;
    assert_int_equal(model_config_check(&c, &e), -1);
    c = german1b;
    c.rms_norm_eps = NAN;
    assert_int_equal(model_config_check(&c, &e), -1);
    c = german1b;
    c.hidden_size = 16384; /* the widest a norm's backward pass takes */
    c.num_attention_heads = c.num_key_value_heads = 128;
    assert_int_equal(model_config_check(&c, &e), 0);
    c.hidden_size = 2 * 16384;
    c.num_attention_heads = c.num_key_value_heads = 256;
    assert_int_equal(model_config_check(&c, &e), -1);
    assert_string_equal(e.msg, "hidden_size is 32768, must be between 1 and 16384");
    c = german1b;
    c.intermediate_size = 1 << 24;
    c.num_hidden_layers = 4096;
    assert_int_equal(model_config_check(&c, &e), -1);
    assert_non_null(strstr(e.msg, "parameters"));
}

/* --- config.json ----------------------------------------------------------- */

static int read_text(const char *text, struct model_config *c, struct err *e)
{
    char path[] = "/tmp/mundwerk-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    int rc = model_config_read_json(c, path, e);
    unlink(path);
    return rc;
}

static void test_config_json_and_back(void **state)
{
    (void)state;
    struct buf text = {0};
    struct model_config c = {0};
    struct err e;
    struct model_config odd = german120m;
    odd.rope_theta = 123456.5;
    odd.rms_norm_eps = 1.5e-6;
    model_config_put_json(&odd, &text);
    if (read_text(text.data, &c, &e))
        fail_msg("%s", e.msg);
    assert_memory_equal(&c, &odd, sizeof(c));
    assert_non_null(strstr(text.data, "\"head_dim\": 64"));
    assert_non_null(strstr(text.data, "\"torch_dtype\": \"bfloat16\""));
    assert_non_null(strstr(text.data, "\"dtype\": \"bfloat16\""));
    buf_release(&text);
}

/* A file as others write it: defaults left out, keys we do not know. */
static void test_config_json_of_others(void **state)
{
    (void)state;
    struct model_config c = {0};
    struct err e;
    const char *text = "{\"model_type\": \"llama\", \"vocab_size\": 64, \"hidden_size\": 32,"
                       "\"intermediate_size\": 48, \"num_hidden_layers\": 2, \"_name\": [1, {}],"
                       "\"num_attention_heads\": 4, \"rope_parameters\": {\"rope_theta\": 5e5}}";
    if (read_text(text, &c, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(c.num_key_value_heads, 4);
    assert_int_equal(c.max_position_embeddings, 2048);
    assert_true(c.rope_theta == 5e5);
    assert_true(c.rms_norm_eps == 1e-6);
}

#define SHAPE                                                                                      \
    "\"vocab_size\": 64, \"hidden_size\": 32, \"intermediate_size\": 48, "                         \
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 4"

/* Each of these is another model, or no model at all. */
static void test_config_json_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{" SHAPE ", \"model_type\": \"gpt2\"}", "only model_type \"llama\""},
        {"{" SHAPE ", \"hidden_act\": \"gelu\"}", "only hidden_act \"silu\""},
        {"{" SHAPE ", \"attention_bias\": true}", "attention_bias true"},
        {"{" SHAPE ", \"tie_word_embeddings\": true}", "tie_word_embeddings"},
        {"{" SHAPE ", \"rope_scaling\": {\"rope_type\": \"llama3\"}}", "rope_type"},
        {"{" SHAPE ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}", "rope_type"},
        {"{" SHAPE ", \"head_dim\": 16}", "head_dim 16"},
        {"{" SHAPE ", \"rope_theta\": 1e4, \"rope_parameters\": {\"rope_theta\": 5e5}}",
         "rope_parameters says"},
        {"{" SHAPE ", \"vocab_size\": 64}", "byte"},
        {"{" SHAPE ", \"num_key_value_heads\": 3}", "num_key_value_heads 3"},
        {"{" SHAPE, "byte"},
        {"{\"vocab_size\": 64}", "\"hidden_size\" is missing"},
        {"{" SHAPE ", \"rms_norm_eps\": \"1e-5\"}", "byte"},
        {"", "byte"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct model_config c = {.vocab_size = 77};
        struct err e = {{0}};
        assert_int_equal(read_text(cases[i][0], &c, &e), -1);
        if (!strstr(e.msg, cases[i][1]) || !strstr(e.msg, "/tmp/mundwerk-config-"))
            fail_msg("case %zu: %s", i, e.msg);
        assert_int_equal(c.vocab_size, 77);
    }
}

/* --- workspaces ------------------------------------------------------------ */

static void test_workspace_bytes(void **state)
{
    (void)state;
    struct model m;
    struct lora lora;
    struct err e;
    assert_int_equal(kernels_init(&e), 0);
    assert_int_equal(model_init(&m, &tiny, &e), 0);
    assert_int_equal(lora_init(&lora, &tiny, 3, 6, 0.1, 1, &e), 0);
    for (int i = 0; i < 12; i++) {
        struct workspace_options o = {.B = 3,
                                      .T = 17,
                                      .precision = i % 2 ? KERNEL_BF16 : KERNEL_FP32,
                                      .backward = i & 1,
                                      .recompute = (enum recompute)(i / 4),
                                      .hidden_rows = i & 2,
                                      .mask_documents = i & 2,
                                      .lora = i & 2 ? &lora : NULL};
        struct workspace *w;
        assert_int_equal(workspace_init(&w, &m, &o, &e), 0);
        assert_int_equal(workspace_reserved(w), workspace_bytes(&tiny, &o));
        workspace_free(w);
    }
    lora_release(&lora);
    model_release(&m);
}

/* Without a backward pass one layer's activations serve all. */
static void test_workspace_is_small_without_backward(void **state)
{
    (void)state;
    struct workspace_options o = {.B = 1, .T = 2048, .backward = true};
    uint64_t with = workspace_bytes(&german1b, &o);
    o.backward = false;
    uint64_t without = workspace_bytes(&german1b, &o);
    assert_true(without < with / 6);
}

static void test_workspace_refused(void **state)
{
    (void)state;
    struct model m;
    struct err e;
    struct workspace *w;
    assert_int_equal(model_init(&m, &tiny, &e), 0);
    struct workspace_options o = {.B = 1, .T = 33};
    assert_int_equal(workspace_init(&w, &m, &o, &e), -1);
    assert_non_null(strstr(e.msg, "max_position_embeddings 32"));
    assert_null(w);
    o = (struct workspace_options){.B = 0, .T = 8};
    assert_int_equal(workspace_init(&w, &m, &o, &e), -1);
    o = (struct workspace_options){.B = INT64_MAX / 8, .T = 8};
    assert_int_equal(workspace_init(&w, &m, &o, &e), -1);
    assert_non_null(strstr(e.msg, "4194304 tokens"));
    model_release(&m);
}

/* Both kinds of workspace compute the same bits. */
static void test_forward_without_backward(void **state)
{
    (void)state;
    struct model m;
    struct err e;
    struct workspace *keep, *drop;
    struct workspace_options o = {.B = 2, .T = 9, .backward = true, .hidden_rows = true};
    uint32_t tokens[18], targets[18];
    float losses_keep[18], losses_drop[18];
    assert_int_equal(kernels_init(&e), 0);
    assert_int_equal(model_init(&m, &tiny, &e), 0);
    model_randomize(&m, 3);
    assert_int_equal(workspace_init(&keep, &m, &o, &e), 0);
    o.backward = false;
    assert_int_equal(workspace_init(&drop, &m, &o, &e), 0);
    for (uint32_t i = 0; i < 18; i++) {
        tokens[i] = i * 7 % 50;
        targets[i] = i % 5 ? i * 11 % 50 : MODEL_IGNORE;
    }
    model_forward(&m, keep, tokens, 2, 9, NULL);
    model_forward(&m, drop, tokens, 2, 9, NULL);
    assert_memory_equal(model_hidden(&m, keep), model_hidden(&m, drop), 18 * 48 * sizeof(float));
    model_loss(&m, keep, targets, losses_keep, NULL, 0);
    model_loss(&m, drop, targets, losses_drop, NULL, 0);
    assert_memory_equal(losses_keep, losses_drop, sizeof(losses_keep));
    assert_true(losses_keep[0] == 0 && losses_keep[5] == 0 && losses_keep[1] > 1);
    workspace_free(keep);
    workspace_free(drop);
    model_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_param_count),
        cmocka_unit_test(test_train_flops),
        cmocka_unit_test(test_tensor_table),
        cmocka_unit_test(test_randomize),
        cmocka_unit_test(test_config_check),
        cmocka_unit_test(test_config_json_and_back),
        cmocka_unit_test(test_config_json_of_others),
        cmocka_unit_test(test_config_json_refused),
        cmocka_unit_test(test_workspace_bytes),
        cmocka_unit_test(test_workspace_is_small_without_backward),
        cmocka_unit_test(test_workspace_refused),
        cmocka_unit_test(test_forward_without_backward),
    };
    threads_init(2);
    return cmocka_run_group_tests_name("model", tests, NULL, NULL);
}
