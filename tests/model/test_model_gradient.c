/*
 * The backward pass against differences of the forward pass, dropout, gradients
 * that accumulate, and the same bits for any number of threads.
 */
#include "common/cpu.h"
#include "common/threads.h"
#include "model/layers.h"
#include "model/model.h"
#include "model/weights.h"
#include "model/workspace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

enum { B = 2, T = 21, N = B * T, V = 70 };

static const struct model_config shape = {.vocab_size = V,
                                          .hidden_size = 48,
                                          .intermediate_size = 56,
                                          .num_hidden_layers = 2,
                                          .num_attention_heads = 6,
                                          .num_key_value_heads = 3,
                                          .max_position_embeddings = 32,
                                          .rope_theta = 10000,
                                          .rms_norm_eps = 1e-5};

/* A model with adapters, large random values everywhere, and one batch. */
struct bench {
    struct model m;
    struct lora lora;
    struct workspace *w;
    uint32_t tokens[N], targets[N];
    float losses[N];
    float *in_blocks; /* gradients of the body in block order … */
    float *grads;     /* … and row by row */
    float *lora_grads;
};

static void fill(float *x, size_t count, double mean, double std, struct rng *rng)
{
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(mean + std * rng_normal(rng));
}

static void bench_open(struct bench *b, enum kernel_precision precision, bool with_lora,
                       double dropout)
{
    struct err e;
    struct rng rng;
    rng_init(&rng, 5, 0);
    assert_int_equal(kernels_init(&e), 0);
    assert_int_equal(model_init(&b->m, &shape, &e), 0);
    for (size_t i = 0; i < b->m.tensor_count; i++) {
        struct model_tensor *t = &b->m.tensors[i];
        fill(t->data, (size_t)(t->rows * t->cols), t->is_norm, i == 0 ? 1 : 0.2, &rng);
    }
    assert_int_equal(lora_init(&b->lora, &shape, 4, 8, dropout, 9, &e), 0);
    fill(b->lora.params, b->lora.param_count, 0, 0.2, &rng);
    struct workspace_options o = {.B = B,
                                  .T = T,
                                  .precision = precision,
                                  .backward = true,
                                  .hidden_rows = true,
                                  .lora = with_lora ? &b->lora : NULL};
    assert_int_equal(workspace_init(&b->w, &b->m, &o, &e), 0);
    b->in_blocks = mem_zalloc(weights_size(&shape), sizeof(float));
    b->grads = mem_zalloc(b->m.params_size, sizeof(float));
    b->lora_grads = mem_zalloc(b->lora.param_count, sizeof(float));
    for (int n = 0; n < N; n++) {
        b->tokens[n] = (uint32_t)rng_below(&rng, n % 3 ? V : 5); /* some ids are frequent */
        b->targets[n] = n % 7 ? (uint32_t)rng_below(&rng, V) : MODEL_IGNORE;
    }
}

static void bench_close(struct bench *b)
{
    free(b->in_blocks);
    free(b->grads);
    free(b->lora_grads);
    workspace_free(b->w);
    lora_release(&b->lora);
    model_release(&b->m);
}

/* Sum of losses; the masks of dropout are the same at every call. */
static double loss_of(struct bench *b)
{
    struct rng rng;
    double sum = 0;
    rng_init(&rng, 77, 0);
    workspace_params_changed(b->w, &b->m);
    model_forward(&b->m, b->w, b->tokens, B, T, &rng);
    model_loss(&b->m, b->w, b->targets, b->losses, NULL, 0);
    for (int n = 0; n < N; n++)
        sum += b->losses[n];
    return sum;
}

/* Adds the gradients of loss_of(). */
static void gradients(struct bench *b, bool body, bool adapters)
{
    struct rng rng;
    rng_init(&rng, 77, 0);
    model_forward(&b->m, b->w, b->tokens, B, T, &rng);
    model_loss(&b->m, b->w, b->targets, b->losses, b->in_blocks, 1);
    model_backward(&b->m, b->w, NULL, body ? b->in_blocks : NULL, adapters ? b->lora_grads : NULL);
    weights_get_all(&b->m, b->in_blocks, b->grads);
}

/* Moves `count` parameters along a random direction and compares the slope of the loss with
 * the gradient. The loss is a sum of fp32 values of about 4 that carry an error of some 1e-7
 * each: with a step that changes it by about 0.1, the slope is good to 1e-4; the cubic term
 * of the step adds as much. Asked for: 2e-3 of the gradient's length. */
static void check_slope(struct bench *b, const char *what, float *p, const float *g, size_t count)
{
    struct rng rng;
    double along = 0, length = 0, norm = 0;
    float *direction = mem_alloc(count * sizeof(float));
    float *saved = mem_alloc(count * sizeof(float));
    memcpy(saved, p, count * sizeof(float));
    rng_init(&rng, 31, count);
    /* Half random, half along the gradient, so that the slope is never near zero. */
    for (size_t i = 0; i < count; i++)
        norm += (double)g[i] * g[i];
    norm = sqrt(norm);
    assert_true(norm > 0);
    for (size_t i = 0; i < count; i++) {
        direction[i] = (float)(rng_normal(&rng) / sqrt((double)count) + g[i] / norm);
        along += (double)direction[i] * g[i];
        length += (double)direction[i] * direction[i];
    }
    double step = 0.03 / fmax(norm, 1);
    for (size_t i = 0; i < count; i++)
        p[i] = (float)(saved[i] + step * direction[i]);
    double up = loss_of(b);
    for (size_t i = 0; i < count; i++)
        p[i] = (float)(saved[i] - step * direction[i]);
    double down = loss_of(b);
    memcpy(p, saved, count * sizeof(float));
    double slope = (up - down) / (2 * step);
    if (fabs(slope - along) > 2e-3 * norm * sqrt(length))
        fail_msg("%s: slope %.6g, gradient says %.6g", what, slope, along);
    free(saved);
    free(direction);
}

static void test_slope_of_every_tensor(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, KERNEL_FP32, false, 0);
    gradients(&b, true, false);
    for (size_t i = 0; i < b.m.tensor_count; i++) {
        struct model_tensor *t = &b.m.tensors[i];
        check_slope(&b, t->name, t->data, b.grads + t->offset, (size_t)(t->rows * t->cols));
    }
    bench_close(&b);
}

/* With dropout, so that the masks of the backward pass must be those of the forward pass. */
static void test_slope_of_lora_with_dropout(void **state)
{
    (void)state;
    struct bench b;
    bench_open(&b, KERNEL_FP32, true, 0.3);
    gradients(&b, true, true);
    size_t C = 48, R = 4, KV = 24, at = 0;
    const size_t sizes[] = {R * C, C * R, R * C, KV * R, R * C, C * R, R * C, KV * R};
    for (int i = 0; i < 8; i++) {
        char what[32];
        snprintf(what, sizeof(what), "adapter part %d", i);
        check_slope(&b, what, b.lora.params + at, b.lora_grads + at, sizes[i]);
        at += sizes[i];
    }
    assert_int_equal(at, b.lora.param_count);
    check_slope(&b, "embedding below adapters", b.m.tensors[0].data, b.grads, V * 48);
    bench_close(&b);
}

/* The gradient handed in from outside, as task heads do: loss = sum of hidden * weight. */
static void test_backward_from_hidden(void **state)
{
    (void)state;
    struct bench b;
    struct rng rng;
    bench_open(&b, KERNEL_FP32, false, 0);
    size_t count = (size_t)N * 48;
    float *weight = mem_alloc(count * sizeof(float));
    rng_init(&rng, 3, 0);
    fill(weight, count, 0, 1, &rng);
    model_forward(&b.m, b.w, b.tokens, B, T, NULL);
    model_backward(&b.m, b.w, weight, b.in_blocks, NULL);
    weights_get_all(&b.m, b.in_blocks, b.grads);
    struct model_tensor *t = model_find(&b.m, "model.layers.0.mlp.up_proj.weight");
    double sums[2], along = 0, step = 1e-3;
    for (size_t i = 0; i < (size_t)(t->rows * t->cols); i++)
        along += b.grads[t->offset + i] * (i % 3 - 1.0);
    for (int side = 0; side < 2; side++) {
        sums[side] = 0;
        for (size_t i = 0; i < (size_t)(t->rows * t->cols); i++)
            t->data[i] += (float)((side ? -2 : 1) * step * (i % 3 - 1.0));
        workspace_params_changed(b.w, &b.m);
        model_forward(&b.m, b.w, b.tokens, B, T, NULL);
        const float *hidden = model_hidden(&b.m, b.w);
        for (size_t i = 0; i < count; i++)
            sums[side] += (double)hidden[i] * weight[i];
    }
    double slope = (sums[0] - sums[1]) / (2 * step);
    assert_true(fabs(along) > 1);
    if (fabs(slope - along) > 5e-3 * fabs(along))
        fail_msg("slope %.6g, gradient says %.6g", slope, along);
    free(weight);
    bench_close(&b);
}

/* Gradients are added, and a frozen body gives the adapters the same ones. */
static void test_gradients_accumulate(void **state)
{
    (void)state;
    struct bench once, twice;
    bench_open(&once, KERNEL_FP32, true, 0.1);
    bench_open(&twice, KERNEL_FP32, true, 0.1);
    gradients(&once, true, true);
    gradients(&twice, true, true);
    gradients(&twice, true, true);
    for (size_t i = 0; i < once.m.params_size; i++)
        assert_true(fabs(twice.grads[i] - 2.0 * once.grads[i]) <=
                    1e-4 + 1e-5 * fabs(once.grads[i]));
    float *both = mem_alloc(once.lora.param_count * sizeof(float));
    memcpy(both, once.lora_grads, once.lora.param_count * sizeof(float));
    memset(once.lora_grads, 0, once.lora.param_count * sizeof(float));
    memset(once.in_blocks, 0, weights_size(&shape) * sizeof(float));
    gradients(&once, false, true);
    assert_memory_equal(both, once.lora_grads, once.lora.param_count * sizeof(float));
    for (size_t i = 0; i < tensor_head(&once.m)->offset; i++) /* only the loss touched grads */
        assert_true(once.grads[i] == 0);
    free(both);
    bench_close(&once);
    bench_close(&twice);
}

static void test_dropout_masks(void **state)
{
    (void)state;
    struct bench b;
    float first[N];
    bench_open(&b, KERNEL_FP32, true, 0.3);
    loss_of(&b);
    memcpy(first, b.losses, sizeof(first));
    loss_of(&b);
    assert_memory_equal(first, b.losses, sizeof(first)); /* same rng, same masks */
    model_forward(&b.m, b.w, b.tokens, B, T, NULL);
    model_loss(&b.m, b.w, b.targets, b.losses, NULL, 0);
    assert_memory_not_equal(first, b.losses, sizeof(first)); /* none without rng */
    bench_close(&b);
}

/* With rows of A that pick out single features, what an adapter keeps shows its mask: each
 * feature is 0 or 1 / (1 - p) times what it is without dropout; q and v differ. */
static void test_dropout_keeps_its_share(void **state)
{
    (void)state;
    enum { R = 4, C = 48, ROWS = B * 32, COUNT = ROWS * R }; /* sequences are filled up to 32 */
    struct bench b;
    struct rng rng;
    float plain[COUNT];
    int dropped[2] = {0}, same = 0;
    bench_open(&b, KERNEL_FP32, true, 0.3);
    float *Aq = b.lora.params, *Av = Aq + R * C + C * R;
    memset(Aq, 0, b.lora.param_count * sizeof(float));
    for (int r = 0; r < R; r++)
        Aq[r * C + r] = Av[r * C + r] = 1;
    model_forward(&b.m, b.w, b.tokens, B, T, NULL);
    const struct layer_acts *layer = &b.w->layers[0];
    memcpy(plain, layer->low_q, sizeof(plain));
    rng_init(&rng, 1, 0);
    model_forward(&b.m, b.w, b.tokens, B, T, &rng);
    for (int i = 0; i < COUNT; i++) {
        if (i / R % 32 >= T)
            continue;
        const float low[2] = {layer->low_q[i], layer->low_v[i]};
        for (int k = 0; k < 2; k++) {
            dropped[k] += low[k] == 0;
            assert_true(low[k] == 0 || fabs(low[k] * 0.7 / plain[i] - 1) < 1e-5);
        }
        same += (low[0] == 0) == (low[1] == 0);
    }
    for (int k = 0; k < 2; k++) /* 168 draws: 0.3 +- 0.035 */
        assert_true(dropped[k] > 0.15 * N * R && dropped[k] < 0.45 * N * R);
    assert_true(same < 0.8 * N * R); /* 0.58 if independent */
    bench_close(&b);
}

/* A new adapter changes nothing: B is zero. */
static void test_new_lora_is_neutral(void **state)
{
    (void)state;
    struct bench b;
    struct err e;
    float with[N];
    bench_open(&b, KERNEL_FP32, true, 0);
    lora_release(&b.lora);
    assert_int_equal(lora_init(&b.lora, &shape, 4, 8, 0, 9, &e), 0);
    loss_of(&b);
    memcpy(with, b.losses, sizeof(with));
    bench_close(&b);
    bench_open(&b, KERNEL_FP32, false, 0);
    loss_of(&b);
    assert_memory_equal(with, b.losses, sizeof(with));
    bench_close(&b);
    assert_int_equal(lora_init(&b.lora, &shape, 0, 8, 0, 9, &e), -1);
    assert_int_equal(lora_init(&b.lora, &shape, 4, 8, 1, 9, &e), -1);
}

static void check_threads(enum kernel_precision precision)
{
    struct bench one, other;
    threads_init(1);
    bench_open(&one, precision, true, 0.2);
    gradients(&one, true, true);
    for (int threads = 2; threads <= 3; threads++) {
        threads_init(threads);
        bench_open(&other, precision, true, 0.2);
        gradients(&other, true, true);
        assert_memory_equal(one.losses, other.losses, sizeof(one.losses));
        assert_memory_equal(one.grads, other.grads, one.m.params_size * sizeof(float));
        assert_memory_equal(one.lora_grads, other.lora_grads, one.lora.param_count * sizeof(float));
        bench_close(&other);
    }
    bench_close(&one);
    threads_init(2);
}

static void test_threads_same_bits(void **state)
{
    (void)state;
    enum cpu_level best = cpu_level();
    for (int level = CPU_C; level <= (int)best; level++) {
        if (cpu_level_force((enum cpu_level)level) != (enum cpu_level)level)
            continue;
        check_threads(KERNEL_FP32);
        check_threads(KERNEL_BF16);
    }
    cpu_level_force(best);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slope_of_every_tensor),
        cmocka_unit_test(test_slope_of_lora_with_dropout),
        cmocka_unit_test(test_backward_from_hidden),
        cmocka_unit_test(test_gradients_accumulate),
        cmocka_unit_test(test_dropout_masks),
        cmocka_unit_test(test_dropout_keeps_its_share),
        cmocka_unit_test(test_new_lora_is_neutral),
        cmocka_unit_test(test_threads_same_bits),
    };
    threads_init(2);
    return cmocka_run_group_tests_name("model/gradient", tests, NULL, NULL);
}
