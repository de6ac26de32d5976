/*
 * What workspace_options offer beyond a shape: what is not kept is computed again to the same
 * bits, documents do not see each other, z-loss is in the loss and in its gradient. And
 * qk_norm, an option of the model.
 */
#include "tests/test.h"

#include "common/mem.h"
#include "common/threads.h"
#include "model/generate.h"
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

static void make_model(struct model *m, const struct model_config *c)
{
    struct err e;
    assert_works(kernels_init(&e), e);
    assert_works(model_init(m, c, &e), e);
    model_randomize(m, 11);
    for (size_t i = 0; i < m->params_size; i++)
        m->params[i] *= 2; /* far from a model that predicts nothing */
    for (size_t i = m->tensor_count - (c->qk_norm ? 6 : 0); i < m->tensor_count; i++)
        for (int64_t j = 0; j < m->tensors[i].cols; j++)
            m->tensors[i].data[j] += 0.1f * (float)(j % 7);
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
    r->size = weights_size(&m->config);
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
    make_model(&m, &shape);
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
    make_model(&m, &shape);
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

/* Moves a tensor along its gradient: the slope of the total loss is the gradient's square. */
static void check_slope(struct model *m, const struct workspace_options *o, size_t tensor)
{
    const double scale = 0.125; /* of run() */
    uint32_t tokens[N], targets[N];
    struct result r, up, down;
    make_batch(tokens, targets);
    run(m, o, tokens, targets, &r);
    struct model_tensor *t = &m->tensors[tensor];
    struct weights_place at = weights_place(&m->config, tensor);
    size_t count = (size_t)(t->rows * t->cols);
    float *grad = mem_alloc(count * sizeof(float)), *kept = mem_alloc(count * sizeof(float));
    memcpy(kept, t->data, count * sizeof(float));
    weights_get(&at, r.grads, 0, t->rows, grad);
    double norm = 0;
    for (size_t i = 0; i < count; i++)
        norm += (double)grad[i] * (double)grad[i];
    assert_true(norm > 0);
    double step = 0.02 / norm;
    for (size_t i = 0; i < count; i++)
        t->data[i] = (float)((double)kept[i] + step * (double)grad[i]);
    run(m, o, tokens, targets, &up);
    for (size_t i = 0; i < count; i++)
        t->data[i] = (float)((double)kept[i] - step * (double)grad[i]);
    run(m, o, tokens, targets, &down);
    memcpy(t->data, kept, count * sizeof(float));
    double slope = (total(&up) - total(&down)) / (2 * step) * scale;
    if (fabs(slope - norm) > 0.01 * norm)
        fail_msg("%s: slope %g, gradient says %g", t->name, slope, norm);
    struct result *all[] = {&r, &up, &down};
    for (int i = 0; i < 3; i++)
        free(all[i]->grads);
    free(kept);
    free(grad);
}

static void test_z_loss_has_its_gradient(void **state)
{
    (void)state;
    struct model m;
    uint32_t tokens[N], targets[N];
    struct result plain, with;
    make_model(&m, &shape);
    make_batch(tokens, targets);
    struct workspace_options o = {.B = B, .T = T, .backward = true};
    run(&m, &o, tokens, targets, &plain);
    o.z_loss = 0.1;
    run(&m, &o, tokens, targets, &with);
    assert_true(total(&with) > total(&plain) + 1);
    check_slope(&m, &o, m.tensor_count - 1); /* the head */
    free(plain.grads);
    free(with.grads);
    model_release(&m);
}

/* The norms of heads, the weights below them, and the generator, which has a pass of its own. */
static void test_qk_norm(void **state)
{
    (void)state;
    struct model m;
    struct model_config normed = shape;
    normed.qk_norm = true;
    make_model(&m, &normed);
    assert_int_equal(m.param_count, model_param_count(&shape) + 3 * 2 * 32);
    struct workspace_options o = {.B = B, .T = T, .backward = true, .hidden_rows = true};
    const char *const names[] = {
        "model.layers.0.self_attn.q_norm.weight", "model.layers.2.self_attn.k_norm.weight",
        "model.layers.1.self_attn.q_proj.weight", "model.layers.0.self_attn.k_proj.weight"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct model_tensor *t = model_find(&m, names[i]);
        assert_non_null(t);
        check_slope(&m, &o, (size_t)(t - m.tensors));
    }

    uint32_t tokens[N], targets[N];
    struct workspace *w;
    struct generator *g;
    struct err e;
    float logits[T * V];
    make_batch(tokens, targets);
    assert_works(workspace_init(&w, &m, &o, &e), e);
    model_forward(&m, w, tokens, 1, T, NULL);
    model_logits(&m, w, model_hidden(&m, w), T, logits);
    assert_works(generator_init(&g, &m, T, KERNEL_FP32, &e), e);
    for (int t = 0; t < T; t++) {
        const float *l = generator_feed(g, tokens + t, 1);
        for (int v = 0; v < V; v++)
            assert_true(fabsf(l[v] - logits[t * V + v]) < 1e-4f);
    }
    generator_free(g);
    workspace_free(w);
    model_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recompute_gives_the_same_bits),
        cmocka_unit_test(test_documents_do_not_see_each_other),
        cmocka_unit_test(test_z_loss_has_its_gradient),
        cmocka_unit_test(test_qk_norm),
    };
    threads_init(2);
    return cmocka_run_group_tests_name("model/options", tests, NULL, NULL);
}
