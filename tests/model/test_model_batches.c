/*
 * A sequence's losses do not depend on what else is in its batch, not even by a bit;
 * nor do gradients, but for the order of their sums. The batch is larger than the
 * block of rows that model_loss() takes at a time.
 */
#include "tests/test.h"

#include "common/cpu.h"
#include "common/threads.h"
#include "model/model.h"
#include "model/weights.h"
#include "model/workspace.h"

#include <math.h>

enum { B = 17, T = 125, V = 90 };

static const struct model_config shape = {.vocab_size = V,
                                          .hidden_size = 40,
                                          .intermediate_size = 72,
                                          .num_hidden_layers = 2,
                                          .num_attention_heads = 5,
                                          .num_key_value_heads = 1,
                                          .max_position_embeddings = T,
                                          .rope_theta = 10000,
                                          .rms_norm_eps = 1e-5};

struct run {
    float losses[B * T];
    float *grads;
};

/* All sequences in steps of `together` at a time. */
static void run_batches(const struct model *m, enum kernel_precision precision,
                        const uint32_t *tokens, const uint32_t *targets, int64_t together,
                        struct run *r)
{
    struct workspace_options o = {.B = together, .T = T, .precision = precision, .backward = true};
    struct workspace *w;
    struct err e;
    assert_int_equal(workspace_init(&w, m, &o, &e), 0);
    float *grads = mem_zalloc(weights_size(&shape), sizeof(float));
    for (int64_t b = 0; b < B; b += together) {
        int64_t count = B - b < together ? B - b : together;
        model_forward(m, w, tokens + b * T, count, T, NULL);
        model_loss(m, w, targets + b * T, r->losses + b * T, grads, 1);
        model_backward(m, w, NULL, grads, NULL);
    }
    r->grads = mem_zalloc(m->params_size, sizeof(float));
    weights_get_all(m, grads, r->grads);
    free(grads);
    workspace_free(w);
}

static void compare_gradients(const struct model *m, const float *a, const float *b,
                              double tolerance)
{
    for (size_t i = 0; i < m->tensor_count; i++) {
        const struct model_tensor *t = &m->tensors[i];
        double max = 0, diff = 0;
        for (size_t j = t->offset; j < t->offset + (size_t)(t->rows * t->cols); j++) {
            max = fmax(max, fabs(a[j]));
            diff = fmax(diff, fabs((double)a[j] - b[j]));
        }
        if (!(max > 0 && diff <= tolerance * max))
            fail_msg("%s: difference %g of %g", t->name, diff, max);
    }
}

static void check(enum kernel_precision precision, double tolerance)
{
    struct model m;
    struct err e;
    static struct run all, some, one;
    static uint32_t tokens[B * T], targets[B * T];
    assert_true(B * T > LOSS_ROWS);
    assert_int_equal(kernels_init(&e), 0);
    assert_int_equal(model_init(&m, &shape, &e), 0);
    model_randomize(&m, 4);
    for (uint32_t i = 0; i < B * T; i++) {
        tokens[i] = i * i % 83;
        targets[i] = i % 9 ? (i * 7 + i / 13) % V : MODEL_IGNORE;
    }
    run_batches(&m, precision, tokens, targets, B, &all);
    run_batches(&m, precision, tokens, targets, 4, &some); /* 4, 4 and 3 */
    run_batches(&m, precision, tokens, targets, 1, &one);
    assert_memory_equal(all.losses, some.losses, sizeof(all.losses));
    assert_memory_equal(all.losses, one.losses, sizeof(all.losses));
    compare_gradients(&m, all.grads, some.grads, tolerance);
    compare_gradients(&m, all.grads, one.grads, tolerance);
    free(all.grads);
    free(some.grads);
    free(one.grads);
    model_release(&m);
}

static void test_any_batch_at_every_level(void **state)
{
    (void)state;
    enum cpu_level best = cpu_level();
    for (int level = CPU_C; level <= (int)best; level++) {
        if (cpu_level_force((enum cpu_level)level) != (enum cpu_level)level)
            continue;
        check(KERNEL_FP32, 1e-5);
        /* Operands of the products are rounded alike whatever the batch. */
        check(KERNEL_BF16, 1e-5);
    }
    cpu_level_force(best);
}

/* A workspace serves any shape with no more tokens than it has room for, each sequence filled
 * up to a multiple of 32. */
static void test_other_shapes_of_batch(void **state)
{
    (void)state;
    struct model m;
    struct err e;
    struct workspace *w;
    struct workspace_options o = {.B = 3, .T = 60, .hidden_rows = true};
    uint32_t tokens[120];
    float first[20 * 40];
    assert_int_equal(kernels_init(&e), 0);
    assert_int_equal(model_init(&m, &shape, &e), 0);
    model_randomize(&m, 4);
    for (uint32_t i = 0; i < 120; i++)
        tokens[i] = i % 20 * 3;
    assert_int_equal(workspace_init(&w, &m, &o, &e), 0);
    model_forward(&m, w, tokens, 1, 20, NULL);
    memcpy(first, model_hidden(&m, w), sizeof(first));
    model_forward(&m, w, tokens, 6, 20, NULL);
    const float *hidden = model_hidden(&m, w);
    for (size_t b = 0; b < 6; b++)
        assert_memory_equal(hidden + b * 20 * 40, first, sizeof(first));
    model_forward(&m, w, tokens, 6, 1, NULL);
    workspace_free(w);
    model_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_batch_at_every_level),
        cmocka_unit_test(test_other_shapes_of_batch),
    };
    threads_init(2);
    return cmocka_run_group_tests_name("model/batches", tests, NULL, NULL);
}
