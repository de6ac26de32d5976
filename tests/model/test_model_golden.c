/*
 * The decoder against PyTorch and transformers, which computed the numbers in
 * tests/golden/model/tiny_llama.bin (make.py there says how and in which layout).
 *
 * Both sides are fp32 with sums in different orders. What is allowed is stated
 * with each comparison, relative to the largest value of the tensor.
 */
#include "common/cpu.h"
#include "common/fs.h"
#include "common/threads.h"
#include "model/layers.h"
#include "model/model.h"
#include "model/weights.h"
#include "train/optimizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>

#define GOLDEN "tests/golden/model/tiny_llama.bin"

struct golden {
    struct buf file;
    size_t at; /* of the next byte to read */
    struct model_config config;
    int64_t B, T, R;
    double lora_scale, clip;
};

static const void *next(struct golden *g, size_t bytes)
{
    const void *p = g->file.data + g->at;
    assert_true(g->at + bytes <= g->file.len);
    g->at += bytes;
    return p;
}

/* Copies, because floats in the file need not lie at multiples of 4. */
static float *next_floats(struct golden *g, size_t count)
{
    float *p = mem_alloc(count * sizeof(float));
    memcpy(p, next(g, count * sizeof(float)), count * sizeof(float));
    return p;
}

static void next_ids(struct golden *g, uint32_t *out)
{
    size_t bytes = (size_t)(g->B * g->T) * sizeof(uint32_t);
    memcpy(out, next(g, bytes), bytes);
}

static int64_t next_i64(struct golden *g)
{
    int64_t x;
    memcpy(&x, next(g, sizeof(x)), sizeof(x));
    return x;
}

static double next_f64(struct golden *g)
{
    double x;
    memcpy(&x, next(g, sizeof(x)), sizeof(x));
    return x;
}

static void golden_open(struct golden *g)
{
    struct err e;
    memset(g, 0, sizeof(*g));
    if (fs_read(&g->file, GOLDEN, 1 << 20, &e))
        fail_msg("%s", e.msg);
    assert_memory_equal(next(g, 8), "MWGOLD1\n", 8);
    g->config.vocab_size = next_i64(g);
    g->config.hidden_size = next_i64(g);
    g->config.intermediate_size = next_i64(g);
    g->config.num_hidden_layers = next_i64(g);
    g->config.num_attention_heads = next_i64(g);
    g->config.num_key_value_heads = next_i64(g);
    g->T = g->config.max_position_embeddings = next_i64(g);
    g->B = next_i64(g);
    g->R = next_i64(g);
    g->config.rope_theta = next_f64(g);
    g->config.rms_norm_eps = next_f64(g);
    g->lora_scale = next_f64(g);
    g->clip = next_f64(g);
}

/* Parameters as transformers stores them: in our order, without padding. */
static void next_params(struct golden *g, struct model *m)
{
    for (size_t i = 0; i < m->tensor_count; i++) {
        struct model_tensor *t = &m->tensors[i];
        size_t bytes = (size_t)(t->rows * t->cols) * sizeof(float);
        memcpy(t->data, next(g, bytes), bytes);
    }
}

/* |got - want| <= tolerance * max |want|, everywhere. Returns the largest ratio. */
static double compare(const char *what, const float *got, const float *want, size_t count,
                      double tolerance)
{
    double max = 0, diff = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(isfinite(got[i]));
        max = fmax(max, fabs(want[i]));
        diff = fmax(diff, fabs((double)got[i] - want[i]));
    }
    assert_true(max > 0);
    if (diff > tolerance * max)
        fail_msg("%s: largest difference %g of %g is more than %g", what, diff, max, tolerance);
    return diff / max;
}

/* A model with the golden parameters, and everything to run it. */
struct bench {
    struct golden g;
    struct model m;
    struct workspace *w;
    uint32_t tokens[64], targets[64];
    float losses[64];
    float *in_blocks; /* gradients in block order … */
    float *grads;     /* … and row by row */
};

static void bench_open(struct bench *b, enum kernel_precision precision, const struct lora *lora)
{
    struct err e;
    golden_open(&b->g);
    struct workspace_options o = {.B = b->g.B,
                                  .T = b->g.T,
                                  .precision = precision,
                                  .backward = true,
                                  .hidden_rows = true,
                                  .lora = lora};
    assert_true(b->g.B * b->g.T <= 64);
    assert_int_equal(kernels_init(&e), 0);
    assert_int_equal(model_init(&b->m, &b->g.config, &e), 0);
    next_params(&b->g, &b->m);
    next_ids(&b->g, b->tokens);
    next_ids(&b->g, b->targets);
    assert_int_equal(workspace_init(&b->w, &b->m, &o, &e), 0);
    b->in_blocks = mem_zalloc(weights_size(&b->m.config), sizeof(float));
    b->grads = mem_zalloc(b->m.params_size, sizeof(float));
}

static void bench_close(struct bench *b)
{
    free(b->in_blocks);
    free(b->grads);
    workspace_free(b->w);
    model_release(&b->m);
    buf_release(&b->g.file);
}

/* Forward, loss and backward; returns the mean loss. Gradients are of the mean. */
static double run_step(struct bench *b, bool body, float *lora_grads)
{
    int64_t N = b->g.B * b->g.T, counted = 0;
    double sum = 0;
    for (int64_t n = 0; n < N; n++)
        counted += b->targets[n] != MODEL_IGNORE;
    model_forward(&b->m, b->w, b->tokens, b->g.B, b->g.T, NULL);
    model_loss(&b->m, b->w, b->targets, b->losses, b->in_blocks, 1.0f / (float)counted);
    model_backward(&b->m, b->w, NULL, body ? b->in_blocks : NULL, lora_grads);
    weights_get_all(&b->m, b->in_blocks, b->grads);
    for (int64_t n = 0; n < N; n++)
        sum += b->losses[n];
    return sum / (double)counted;
}

/* Logits, losses and every gradient of one batch. */
static void check_batch(enum kernel_precision precision, double logit_tolerance,
                        double loss_tolerance, double grad_tolerance)
{
    struct bench b;
    bench_open(&b, precision, NULL);
    int64_t N = b.g.B * b.g.T, V = b.m.config.vocab_size;
    float *want_logits = next_floats(&b.g, (size_t)(N * V));
    float *want_losses = next_floats(&b.g, (size_t)N);
    float *logits = mem_alloc((size_t)(N * V) * sizeof(float));

    run_step(&b, true, NULL);
    const float *hidden = model_hidden(&b.m, b.w);
    model_logits(&b.m, b.w, hidden, N, logits);
    double of_logits = compare("logits", logits, want_logits, (size_t)(N * V), logit_tolerance);
    double of_losses = compare("losses", b.losses, want_losses, (size_t)N, loss_tolerance);
    double of_grads = 0;
    for (size_t i = 0; i < b.m.tensor_count; i++) {
        const struct model_tensor *t = &b.m.tensors[i];
        size_t count = (size_t)(t->rows * t->cols);
        float *want = next_floats(&b.g, count);
        double ratio = compare(t->name, b.grads + t->offset, want, count, grad_tolerance);
        of_grads = fmax(of_grads, ratio);
        free(want);
    }
    print_message("%s, %s: largest difference of logits %.1e, losses %.1e, gradients %.1e\n",
                  cpu_level_name(kernels_level()), precision == KERNEL_FP32 ? "fp32" : "bf16",
                  of_logits, of_losses, of_grads);
    free(logits);
    free(want_losses);
    free(want_logits);
    bench_close(&b);
}

/* Runs a check at every level this machine has. */
static void at_every_level(void (*check)(void))
{
    enum cpu_level best = cpu_level();
    for (int level = CPU_C; level <= (int)best; level++) {
        struct err e;
        if (cpu_level_force((enum cpu_level)level) != (enum cpu_level)level)
            continue;
        assert_int_equal(kernels_init(&e), 0);
        check();
    }
    cpu_level_force(best);
}

static void check_fp32(void)
{
    check_batch(KERNEL_FP32, 3e-6, 1e-6, 1e-5);
}

static void test_fp32_as_pytorch(void **state)
{
    (void)state;
    at_every_level(check_fp32);
}

/* bf16 has 8 bits: each operand and each activation is off by up to 2^-9, and errors of many
 * products partly cancel. The bounds are what two layers of this size may do to a tensor's largest
 * value. */
static void check_bf16(void)
{
    check_batch(KERNEL_BF16, 0.03, 0.01, 0.05);
}

static void test_bf16_near_pytorch(void **state)
{
    (void)state;
    at_every_level(check_bf16);
}

/* Skips to the adapters and loads them. */
static void bench_load_lora(struct bench *b, struct lora *lora)
{
    size_t N = (size_t)(b->g.B * b->g.T), V = (size_t)b->m.config.vocab_size;
    next(&b->g, (N * V + N + b->m.param_count) * sizeof(float));
    size_t bytes = lora->param_count * sizeof(float);
    memcpy(lora->params, next(&b->g, bytes), bytes);
}

static void check_lora(void)
{
    struct bench b;
    struct lora lora;
    struct err e;
    golden_open(&b.g);
    double alpha = b.g.lora_scale * (double)b.g.R;
    assert_int_equal(lora_init(&lora, &b.g.config, b.g.R, alpha, 0, 1, &e), 0);
    buf_release(&b.g.file);
    bench_open(&b, KERNEL_FP32, &lora);
    bench_load_lora(&b, &lora);
    double want_loss = next_f64(&b.g);
    float *want = next_floats(&b.g, lora.param_count);
    float *got = mem_zalloc(lora.param_count, sizeof(float));

    double loss = run_step(&b, false, got);
    assert_true(fabs(loss - want_loss) < 3e-6 * want_loss);
    compare("lora gradients, body frozen", got, want, lora.param_count, 1e-5);
    memset(got, 0, lora.param_count * sizeof(float));
    run_step(&b, true, got);
    compare("lora gradients, body trained too", got, want, lora.param_count, 1e-5);
    free(got);
    free(want);
    bench_close(&b);
    lora_release(&lora);
}

static void test_lora_as_pytorch(void **state)
{
    (void)state;
    at_every_level(check_lora);
}

static void skip_to_training(struct bench *b)
{
    struct lora lora;
    struct err e;
    assert_int_equal(lora_init(&lora, &b->g.config, b->g.R, 1, 0, 1, &e), 0);
    bench_load_lora(b, &lora);
    next_f64(&b->g);
    next(&b->g, lora.param_count * sizeof(float));
    lora_release(&lora);
}

/* One step of training on the next batch, its loss and gradient norm compared. */
static void check_step(struct bench *b, int64_t t, float *moments)
{
    const struct adamw adamw = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};
    size_t size = b->m.params_size;
    double lr = next_f64(&b->g);
    next_ids(&b->g, b->tokens);
    next_ids(&b->g, b->targets);
    double want_loss = next_f64(&b->g), want_norm = next_f64(&b->g);
    memset(b->in_blocks, 0, weights_size(&b->m.config) * sizeof(float));
    double loss = run_step(b, true, NULL);
    double norm = grad_norm(b->grads, size);
    if (fabs(loss - want_loss) > 2e-6 * want_loss || fabs(norm - want_norm) > 1e-5 * want_norm)
        fail_msg("step %d: loss %.8f instead of %.8f, gradient norm %.8f instead of %.8f", (int)t,
                 loss, want_loss, norm, want_norm);
    adamw_step(&adamw, b->m.params, b->grads, moments, moments + size, size, (uint64_t)t, lr,
               norm > b->g.clip ? b->g.clip / norm : 1);
    workspace_params_changed(b->w, &b->m);
}

/* Ten steps of AdamW with clipping. Errors grow with each step, because AdamW divides small
 * gradients by their own size. */
static void check_ten_steps(void)
{
    struct bench b;
    bench_open(&b, KERNEL_FP32, NULL);
    skip_to_training(&b);
    float *moments = mem_zalloc(2 * b.m.params_size, sizeof(float));
    int64_t steps = next_i64(&b.g);
    assert_int_equal(steps, 10);
    for (int64_t t = 1; t <= steps; t++)
        check_step(&b, t, moments);
    double worst = 0;
    for (size_t i = 0; i < b.m.tensor_count; i++) {
        const struct model_tensor *t = &b.m.tensors[i];
        size_t count = (size_t)(t->rows * t->cols);
        float *want = next_floats(&b.g, count);
        worst = fmax(worst, compare(t->name, t->data, want, count, 2e-5));
        free(want);
    }
    assert_int_equal(b.g.at, b.g.file.len);
    print_message("%s: parameters after ten steps differ by at most %.1e\n",
                  cpu_level_name(kernels_level()), worst);
    free(moments);
    bench_close(&b);
}

static void test_ten_steps_as_pytorch(void **state)
{
    (void)state;
    at_every_level(check_ten_steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fp32_as_pytorch),
        cmocka_unit_test(test_bf16_near_pytorch),
        cmocka_unit_test(test_lora_as_pytorch),
        cmocka_unit_test(test_ten_steps_as_pytorch),
    };
    threads_init(2);
    return cmocka_run_group_tests_name("model/golden", tests, NULL, NULL);
}
