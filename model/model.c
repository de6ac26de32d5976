/*
 * The parameters of a model: one block of floats, a table that names its parts,
 * and their first values.
 */
#include "model/model.h"

#include "model/layers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define TENSOR_ALIGN 16 /* floats: one cache line, one AVX-512 register */

static size_t align_up(size_t n)
{
    return (n + TENSOR_ALIGN - 1) / TENSOR_ALIGN * TENSOR_ALIGN;
}

/* Appends a tensor (rows, cols) to the table and the block; a norm has one row. */
static struct model_tensor *add_tensor(struct model *m, int64_t rows, int64_t cols, bool is_norm)
{
    struct model_tensor *t = &m->tensors[m->tensor_count++];
    t->rows = rows;
    t->cols = cols;
    t->is_norm = is_norm;
    t->offset = m->params_size;
    m->param_count += (size_t)(rows * cols);
    m->params_size += align_up((size_t)(rows * cols));
    return t;
}

static void add_layer(struct model *m, int64_t layer)
{
    static const char *const names[LAYER_TENSOR_COUNT] = {
        [LAYER_Q] = "self_attn.q_proj",
        [LAYER_K] = "self_attn.k_proj",
        [LAYER_V] = "self_attn.v_proj",
        [LAYER_O] = "self_attn.o_proj",
        [LAYER_GATE] = "mlp.gate_proj",
        [LAYER_UP] = "mlp.up_proj",
        [LAYER_DOWN] = "mlp.down_proj",
        [LAYER_NORM_ATTN] = "input_layernorm",
        [LAYER_NORM_MLP] = "post_attention_layernorm",
    };
    int64_t C = m->config.hidden_size, F = m->config.intermediate_size;
    int64_t KV = C / m->config.num_attention_heads * m->config.num_key_value_heads; /* G*D */
    const int64_t shapes[LAYER_TENSOR_COUNT][2] = {
        [LAYER_Q] = {C, C},    [LAYER_K] = {KV, C},        [LAYER_V] = {KV, C},
        [LAYER_O] = {C, C},    [LAYER_GATE] = {F, C},      [LAYER_UP] = {F, C},
        [LAYER_DOWN] = {C, F}, [LAYER_NORM_ATTN] = {1, C}, [LAYER_NORM_MLP] = {1, C},
    };
    for (int i = 0; i < LAYER_TENSOR_COUNT; i++) {
        struct model_tensor *t = add_tensor(m, shapes[i][0], shapes[i][1], i >= LAYER_NORM_ATTN);
        snprintf(t->name, sizeof(t->name), "model.layers.%lld.%s.weight", (long long)layer,
                 names[i]);
    }
}

static void add_qk_norms(struct model *m, int64_t layer)
{
    for (int which = 0; which < 2; which++) {
        struct model_tensor *t = add_tensor(
            m, 1, m->config.hidden_size / m->config.num_attention_heads, true);
        snprintf(t->name, sizeof(t->name), "model.layers.%lld.self_attn.%c_norm.weight",
                 (long long)layer, "qk"[which]);
    }
}

int model_init_shape(struct model *m, const struct model_config *c, struct err *e)
{
    memset(m, 0, sizeof(*m));
    if (model_config_check(c, e))
        return -1;
    int64_t C = c->hidden_size, V = c->vocab_size, L = c->num_hidden_layers;
    m->config = *c;
    m->tensors = mem_zalloc((size_t)(3 + (LAYER_TENSOR_COUNT + 2) * L), sizeof(*m->tensors));
    snprintf(add_tensor(m, V, C, false)->name, sizeof(m->tensors->name),
             "model.embed_tokens.weight");
    for (int64_t l = 0; l < L; l++)
        add_layer(m, l);
    snprintf(add_tensor(m, 1, C, true)->name, sizeof(m->tensors->name), "model.norm.weight");
    snprintf(add_tensor(m, V, C, false)->name, sizeof(m->tensors->name), "lm_head.weight");
    for (int64_t l = 0; l < L && c->qk_norm; l++)
        add_qk_norms(m, l);
    MW_ASSERT(m->param_count == model_param_count(c));
    return 0;
}

int model_init(struct model *m, const struct model_config *c, struct err *e)
{
    if (model_init_shape(m, c, e))
        return -1;
    m->params = mem_map(m->params_size * sizeof(float), "model parameters", e);
    if (!m->params) {
        model_release(m);
        return -1;
    }
    for (size_t i = 0; i < m->tensor_count; i++)
        m->tensors[i].data = m->params + m->tensors[i].offset;
    return 0;
}

void model_release(struct model *m)
{
    mem_unmap(m->params, m->params_size * sizeof(float));
    free(m->tensors);
    memset(m, 0, sizeof(*m));
}

/* The layer's tensor an index of the table stands for, or -1. */
static int layer_tensor_of(const struct model *m, size_t index)
{
    if (index == 0 || index > (size_t)(m->config.num_hidden_layers * LAYER_TENSOR_COUNT))
        return -1;
    return (int)((index - 1) % LAYER_TENSOR_COUNT);
}

void model_random_rows(const struct model *m, size_t i, uint64_t seed, int64_t row, int64_t count,
                       float *rows)
{
    const struct model_tensor *t = &m->tensors[i];
    double C = (double)m->config.hidden_size, L = (double)m->config.num_hidden_layers;
    int which = layer_tensor_of(m, i);
    bool is_output = which == LAYER_O || which == LAYER_DOWN;
    double std = is_output ? 1.0 / (sqrt(C) * L) : sqrt(2.0 / (5.0 * C));
    /* Each row has a stream of its own, so rows can be drawn by any thread. */
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < count; r++) {
        struct rng rng;
        float *out = rows + r * t->cols;
        rng_init(&rng, seed, (uint64_t)(i + 1) << 32 | (uint64_t)(row + r));
        for (int64_t j = 0; j < t->cols; j++)
            out[j] = t->is_norm ? 1.0f : (float)(std * rng_normal(&rng));
    }
}

void model_randomize(struct model *m, uint64_t seed)
{
    for (size_t i = 0; i < m->tensor_count; i++)
        model_random_rows(m, i, seed, 0, m->tensors[i].rows, m->tensors[i].data);
}

struct model_tensor *model_find(const struct model *m, const char *name)
{
    for (size_t i = 0; i < m->tensor_count; i++)
        if (!strcmp(m->tensors[i].name, name))
            return &m->tensors[i];
    return NULL;
}
