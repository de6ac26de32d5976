/*
 * The generator against model_forward(): the cache must change nothing but rounding.
 */
#include "tests/test.h"

#include "common/threads.h"
#include "model/generate.h"

#include <math.h>

enum { T = 300, V = 70 }; /* longer than two of the generator's chunks */

static const struct model_config shape = {.vocab_size = V,
                                          .hidden_size = 64,
                                          .intermediate_size = 72,
                                          .num_hidden_layers = 3,
                                          .num_attention_heads = 4,
                                          .num_key_value_heads = 2,
                                          .max_position_embeddings = T,
                                          .rope_theta = 10000,
                                          .rms_norm_eps = 1e-5};

struct bench {
    struct model m;
    uint32_t tokens[T];
    float *logits; /* (T, V) by model_forward() */
    struct generator *g;
};

static void bench_open(struct bench *b, enum kernel_precision precision)
{
    struct err e;
    struct workspace *w;
    struct workspace_options o = {.B = 1, .T = T, .precision = precision, .hidden_rows = true};
    assert_int_equal(kernels_init(&e), 0);
    assert_int_equal(model_init(&b->m, &shape, &e), 0);
    model_randomize(&b->m, 11);
    for (size_t i = 0; i < b->m.params_size; i++) /* attention and logits far from uniform */
        b->m.params[i] *= b->m.params[i] == 1 ? 1 : 3;
    for (uint32_t t = 0; t < T; t++)
        b->tokens[t] = t * t % 67;
    assert_int_equal(workspace_init(&w, &b->m, &o, &e), 0);
    b->logits = mem_alloc(T * V * sizeof(float));
    model_forward(&b->m, w, b->tokens, 1, T, NULL);
    const float *hidden = model_hidden(&b->m, w);
    model_logits(&b->m, w, hidden, T, b->logits);
    workspace_free(w);
    assert_int_equal(generator_init(&b->g, &b->m, T, precision, &e), 0);
}

static void bench_close(struct bench *b)
{
    generator_free(b->g);
    free(b->logits);
    model_release(&b->m);
}

/* Logits after the first `count` tokens. The largest logits are about 7; seen
 * were differences of 3e-5 in fp32 and 0.08 in bf16. */
static void check_logits(struct bench *b, const float *got, size_t count, double tolerance)
{
    const float *want = b->logits + (count - 1) * V;
    assert_non_null(got);
    assert_int_equal(generator_position(b->g), count);
    for (int v = 0; v < V; v++)
        if (!(fabs(got[v] - want[v]) <= tolerance))
            fail_msg("token %zu, id %d: %g instead of %g", count, v, got[v], want[v]);
}

static void test_prompt_then_tokens(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, KERNEL_FP32);
    check_logits(&b, generator_feed(b.g, b.tokens, 150), 150, 1e-4);
    for (size_t t = 150; t < 170; t++)
        check_logits(&b, generator_feed(b.g, b.tokens + t, 1), t + 1, 1e-4);
    check_logits(&b, generator_feed(b.g, b.tokens + 170, 130), 300, 1e-4);
    generator_reset(b.g);
    check_logits(&b, generator_feed(b.g, b.tokens, 1), 1, 1e-4);
    check_logits(&b, generator_feed(b.g, b.tokens + 1, 299), 300, 1e-4);
    bench_close(&b);
}

/* bf16 rounds each operand to 8 bits; what differs is where attention's parts are rounded. */
static void test_bf16(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, KERNEL_BF16);
    check_logits(&b, generator_feed(b.g, b.tokens, 40), 40, 0.2);
    check_logits(&b, generator_feed(b.g, b.tokens + 40, 1), 41, 0.2);
    bench_close(&b);
}

static void test_threads_same_bits(void **state)
{
    (void)state;
    float first[V];
    for (int threads = 1; threads <= 3; threads++) {
        struct bench b;
        threads_init(threads);
        bench_open(&b, KERNEL_FP32);
        generator_feed(b.g, b.tokens, 130);
        const float *logits = generator_feed(b.g, b.tokens + 130, 1);
        if (threads == 1)
            memcpy(first, logits, sizeof(first));
        assert_memory_equal(first, logits, sizeof(first));
        bench_close(&b);
    }
    threads_init(2);
}

static void test_context_is_full(void **state)
{
    (void)state;
    struct bench b;
    struct err e;
    struct generator *g;
    bench_open(&b, KERNEL_FP32);
    assert_int_equal(generator_init(&g, &b.m, T + 1, KERNEL_FP32, &e), -1);
    assert_says(&e, "max_position_embeddings 300");
    assert_null(g);
    assert_int_equal(generator_init(&g, &b.m, 5, KERNEL_FP32, &e), 0);
    assert_null(generator_feed(g, b.tokens, 6));
    assert_int_equal(generator_position(g), 0);
    assert_non_null(generator_feed(g, b.tokens, 5));
    assert_null(generator_feed(g, b.tokens, 1));
    assert_int_equal(generator_position(g), 5);
    generator_free(g);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompt_then_tokens),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_threads_same_bits),
        cmocka_unit_test(test_context_is_full),
    };
    threads_init(2);
    return cmocka_run_group_tests_name("model/generate", tests, NULL, NULL);
}
