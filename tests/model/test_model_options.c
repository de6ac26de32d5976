/*
 * What workspace_options offer beyond a shape: what is not kept is computed again to the same
 * bits, documents do not see each other, z-loss is in the loss and in its gradient.
 */
#include "tests/test.h"

#include "common/mem.h"
#include "common/threads.h"
#include "model/model.h"
#include "model/weights.h"

#include <math.h>

enum { B = 2, T = 45, N = B * T, V = 70 };

static const struct model_config shape = {.vocab_size = V,
                                          .hidden_size = 64,
                                          .intermediate_size = 96,
                                          .num_hidden_layers = 3,
                                          .num_attention_heads = 2,
                                          .num_key_value_heads = 1,
                                          .max_position_embeddings = 64,
                                          .rope_theta = 10000,
                                          .rms_norm_eps = 1e-5};

struct result {
    float losses[N];
    float *grads;
    size_t size;
};

static void make_model(struct model *m)
{
    struct err e;
    assert_works(kernels_init(&e), e);
    assert_works(model_init(m, &shape, &e), e);
    model_randomize(m, 11);
    for (size_t i = 0; i < m->params_size; i++)
        m->params[i] *= 2; /* far from a model that predicts nothing */
}

static void make_batch(uint32_t *tokens, uint32_t *targets)
{
    for (uint32_t i = 0; i < N; i++) {
        tokens[i] = (i * i + 3 * i) % 67 + 2;
        targets[i] = i % 8 ? (i * 7 + i / 13) % V : MODEL_IGNORE;
    }
}

static void run(const struct model *m, const struct workspace_options *o, const uint32_t *tokens,
                const uint32_t *targets, struct result *r)
{
    struct workspace *w;
    struct err e;
    r->size = weights_size(&shape);
    r->grads = mem_zalloc(r->size, sizeof(float));
    assert_works(workspace_init(&w, m, o, &e), e);
    model_forward(m, w, tokens, o->B, o->T, NULL);
    model_loss(m, w, targets, r->losses, o->backward ? r->grads : NULL, 0.125f);
    if (o->backward)
        model_backward(m, w, NULL, r->grads, NULL);
    workspace_free(w);
}

static void test_recompute_gives_the_same_bits(void **state)
{
    (void)state;
    struct model m;
    uint32_t tokens[N], targets[N];
    make_model(&m);
    make_batch(tokens, targets);
    for (int precision = KERNEL_FP32; precision <= KERNEL_BF16; precision++) {
        struct result r[3];
        uint64_t bytes[3];
        for (int i = 0; i < 3; i++) {
            struct workspace_options o = {.B = B,
                                          .T = T,
                                          .precision = (enum kernel_precision)precision,
                                          .backward = true,
                                          .recompute = (enum recompute)i};
            run(&m, &o, tokens, targets, &r[i]);
            bytes[i] = workspace_bytes(&shape, &o);
        }
        for (int i = 1; i < 3; i++) {
            assert_memory_equal(r[0].losses, r[i].losses, sizeof(r[0].losses));
            assert_memory_equal(r[0].grads, r[i].grads, r[0].size * sizeof(float));
            assert_true(bytes[i] < bytes[i - 1]);
        }
        for (int i = 0; i < 3; i++)
            free(r[i].grads);
    }
    model_release(&m);
}

/* Two documents in one sequence, with the mask: the second one's losses are those it has
 * alone. Rotation by other positions differs by rounding. */
static void test_documents_do_not_see_each_other(void **state)
{
    (void)state;
    enum { FIRST = 19, BEGIN = 1 };
    struct model m;
    uint32_t tokens[N], targets[N], alone[N], alone_targets[N];
    struct result together, apart, unmasked;
    make_model(&m);
    make_batch(tokens, targets);
    tokens[0] = tokens[FIRST] = BEGIN;
    memcpy(alone, tokens + FIRST, (T - FIRST) * sizeof(*alone));
    memcpy(alone_targets, targets + FIRST, (T - FIRST) * sizeof(*alone_targets));
    struct workspace_options o = {.B = 1, .T = T, .mask_documents = true, .document_id = BEGIN};
    run(&m, &o, tokens, targets, &together);
    o.mask_documents = false;
    run(&m, &o, tokens, targets, &unmasked);
    o.T = T - FIRST;
    run(&m, &o, alone, alone_targets, &apart);
    double difference = 0;
    for (int t = 0; t < T - FIRST; t++) {
        assert_true(fabsf(together.losses[FIRST + t] - apart.losses[t]) < 1e-4f);
        difference = fmax(difference, fabsf(unmasked.losses[FIRST + t] - apart.losses[t]));
    }
    assert_true(difference > 1e-2); /* it would be seen */
    for (int t = 0; t < FIRST; t++)
        assert_true(together.losses[t] == unmasked.losses[t]);
    free(together.grads);
    free(apart.grads);
    free(unmasked.grads);
    model_release(&m);
}

static double total(const struct result *r)
{
    double sum = 0;
    for (int i = 0; i < N; i++)
        sum += (double)r->losses[i];
    return sum;
}

/* The slope of loss + z_loss along the gradient of the head. */
static void test_z_loss_has_its_gradient(void **state)
{
    (void)state;
    struct model m;
    uint32_t tokens[N], targets[N];
    struct result plain, r, up, down;
    make_model(&m);
    make_batch(tokens, targets);
    struct workspace_options o = {.B = B, .T = T, .backward = true};
    run(&m, &o, tokens, targets, &plain);
    o.z_loss = 0.1;
    run(&m, &o, tokens, targets, &r);
    assert_true(total(&r) > total(&plain) + 1);
    size_t head = m.tensor_count - 1;
    struct model_tensor *t = &m.tensors[head];
    struct weights_place at = weights_place(&shape, head);
    size_t count = (size_t)(t->rows * t->cols);
    float *grad = mem_alloc(count * sizeof(float));
    weights_get(&at, r.grads, 0, t->rows, grad);
    double norm = 0;
    for (size_t i = 0; i < count; i++)
        norm += (double)grad[i] * grad[i];
    float step = (float)(0.02 / norm);
    for (size_t i = 0; i < count; i++)
        t->data[i] += step * grad[i];
    run(&m, &o, tokens, targets, &up);
    for (size_t i = 0; i < count; i++)
        t->data[i] -= 2 * step * grad[i];
    run(&m, &o, tokens, targets, &down);
    double slope = (total(&up) - total(&down)) / (2 * (double)step) * 0.125; /* scale of run() */
    assert_true(fabs(slope - norm) < 0.01 * norm);
    struct result *all[] = {&plain, &r, &up, &down};
    for (int i = 0; i < 4; i++)
        free(all[i]->grads);
    free(grad);
    model_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recompute_gives_the_same_bits),
        cmocka_unit_test(test_documents_do_not_see_each_other),
        cmocka_unit_test(test_z_loss_has_its_gradient),
    };
    threads_init(2);
    return cmocka_run_group_tests_name("model/options", tests, NULL, NULL);
}
