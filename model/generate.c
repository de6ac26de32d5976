/*
 * Generation with a KV cache. Where training looks at whole sequences, this runs
 * a few new tokens against the keys and values of all earlier ones; a prompt
 * passes in chunks of CHUNK tokens, then one token at a time.
 *
 * n below is the number of new tokens of a chunk, P the position of the first. The
 * loop of layers is not forward.c's: it keeps nothing and sees one sequence; a test
 * holds the two against each other.
 */
#include "model/generate.h"

#include "model/arena.h"
#include "model/layers.h"

#include <math.h>
#include <string.h>

#define CHUNK 128

struct generator {
    const struct model *model;
    enum kernel_precision precision;
    int64_t context_max;
    int64_t position; /* tokens in the cache */
    void *block;      /* all tensors below lie in it */
    uint64_t bytes;
    float *keys;                /* (L, context_max, G, D) after rotation */
    float *values;              /* (L, context_max, G, D) */
    float *rope_cos, *rope_sin; /* (context_max, D/2) */
    float *x;                   /* (n, C) residual stream */
    float *h;                   /* (n, C) a norm's output; attention's output */
    float *rstd;                /* (n, H) */
    float *q;                   /* (n, H, D) */
    float *scores;              /* (n, H, context_max) */
    float *gate, *up, *act;     /* (n, F) */
    float *logits;              /* (V) */
};

static void place(struct generator *g, struct arena *a)
{
    const struct model_config *c = &g->model->config;
    int64_t C = c->hidden_size, F = c->intermediate_size, L = c->num_hidden_layers;
    int64_t H = c->num_attention_heads, D = C / H, KV = c->num_key_value_heads * D;
    int64_t n = g->context_max < CHUNK ? g->context_max : CHUNK;
    g->keys = arena_floats(a, L * g->context_max, KV);
    g->values = arena_floats(a, L * g->context_max, KV);
    g->rope_cos = arena_floats(a, g->context_max, D / 2);
    g->rope_sin = arena_floats(a, g->context_max, D / 2);
    g->x = arena_floats(a, n, C);
    g->h = arena_floats(a, n, C);
    g->rstd = arena_floats(a, n * H, 1);
    g->q = arena_floats(a, n, C);
    g->scores = arena_floats(a, n * H, g->context_max);
    g->gate = arena_floats(a, n, F);
    g->up = arena_floats(a, n, F);
    g->act = arena_floats(a, n, F);
    g->logits = arena_floats(a, 1, c->vocab_size);
}

int generator_init(struct generator **out, const struct model *m, int64_t context_max,
                   enum kernel_precision precision, struct err *e)
{
    const struct model_config *c = &m->config;
    *out = NULL;
    if (context_max < 1 || context_max > c->max_position_embeddings)
        return err_set(e,
                       "a context of %lld tokens is not between 1 and max_position_embeddings "
                       "%lld",
                       (long long)context_max, (long long)c->max_position_embeddings);
    struct generator *g = mem_zalloc(1, sizeof(*g));
    g->model = m;
    g->precision = precision;
    g->context_max = context_max;
    struct arena a = {0};
    place(g, &a);
    g->bytes = a.used;
    g->block = mem_map(g->bytes, "the generator's cache", e);
    if (!g->block) {
        free(g);
        return -1;
    }
    a = (struct arena){.base = g->block};
    place(g, &a);
    rope_table(g->rope_cos, g->rope_sin, context_max, c->hidden_size / c->num_attention_heads,
               c->rope_theta);
    *out = g;
    return 0;
}

void generator_free(struct generator *g)
{
    if (!g)
        return;
    mem_unmap(g->block, g->bytes);
    free(g);
}

void generator_reset(struct generator *g)
{
    g->position = 0;
}

int64_t generator_position(const struct generator *g)
{
    return g->position;
}

/* y (n, out) = x (n, in) Wᵀ; with add, y += */
static void linear(const struct generator *g, const struct model_tensor *W, const float *x,
                   float *y, int64_t n, bool add)
{
    gemm(GEMM_NT, g->precision, n, W->rows, W->cols, x, W->cols, W->data, W->cols, y, W->rows, add);
}

static void softmax(float *x, int64_t n, float scale)
{
    float max = x[0], sum = 0;
    for (int64_t i = 1; i < n; i++)
        max = fmaxf(max, x[i]);
    for (int64_t i = 0; i < n; i++) {
        x[i] = expf((x[i] - max) * scale);
        sum += x[i];
    }
    for (int64_t i = 0; i < n; i++)
        x[i] /= sum;
}

/* h (n, H, D) = attention of q (n, H, D) over the cache of a layer: new token i sees P + i + 1
 * positions. The H/G query heads of a group are the rows of one small product. */
static void attend(struct generator *g, int64_t layer, int64_t n)
{
    const struct model_config *c = &g->model->config;
    int64_t H = c->num_attention_heads, G = c->num_key_value_heads, D = c->hidden_size / H;
    int64_t M = H / G, KV = G * D, S = g->context_max;
    float scale = 1.0f / sqrtf((float)D);
    const float *keys = g->keys + layer * S * KV, *values = g->values + layer * S * KV;
#pragma omp parallel for schedule(dynamic)
    for (int64_t item = 0; item < n * G; item++) {
        int64_t i = item / G, group = item % G, seen = g->position + i + 1;
        const float *q = g->q + i * H * D + group * M * D; /* (M, D) */
        float *p = g->scores + (i * H + group * M) * S;    /* (M, seen), rows S apart */
        float *out = g->h + i * H * D + group * M * D;     /* (M, D) */
        gemm(GEMM_NT, g->precision, M, seen, D, q, D, keys + group * D, KV, p, S, false);
        for (int64_t row = 0; row < M; row++)
            softmax(p + row * S, seen, scale);
        gemm(GEMM_NN, g->precision, M, D, seen, p, S, values + group * D, KV, out, D, false);
    }
}

static void layer_forward(struct generator *g, int64_t layer, int64_t n)
{
    const struct model *m = g->model;
    const struct model_config *c = &m->config;
    int64_t C = c->hidden_size, F = c->intermediate_size;
    int64_t H = c->num_attention_heads, G = c->num_key_value_heads, D = C / H, KV = G * D;
    int64_t at = (layer * g->context_max + g->position) * KV;
    float *k = g->keys + at, *v = g->values + at; /* (n, G, D), written in place */

    rmsnorm_forward(g->x, tensor_layer(m, layer, LAYER_NORM_ATTN)->data, g->h, g->rstd, n, C,
                    c->rms_norm_eps);
    linear(g, tensor_layer(m, layer, LAYER_Q), g->h, g->q, n, false);
    linear(g, tensor_layer(m, layer, LAYER_K), g->h, k, n, false);
    linear(g, tensor_layer(m, layer, LAYER_V), g->h, v, n, false);
    if (c->qk_norm) {
        rmsnorm_forward(g->q, tensor_qk_norm(m, layer, 0)->data, g->q, g->rstd, n * H, D,
                        c->rms_norm_eps);
        rmsnorm_forward(k, tensor_qk_norm(m, layer, 1)->data, k, g->rstd, n * G, D,
                        c->rms_norm_eps);
    }
    rope_apply(g->q, g->rope_cos, g->rope_sin, 1, n, H, D, g->position, false);
    rope_apply(k, g->rope_cos, g->rope_sin, 1, n, G, D, g->position, false);
    attend(g, layer, n);
    linear(g, tensor_layer(m, layer, LAYER_O), g->h, g->x, n, true);

    rmsnorm_forward(g->x, tensor_layer(m, layer, LAYER_NORM_MLP)->data, g->h, g->rstd, n, C,
                    c->rms_norm_eps);
    linear(g, tensor_layer(m, layer, LAYER_GATE), g->h, g->gate, n, false);
    linear(g, tensor_layer(m, layer, LAYER_UP), g->h, g->up, n, false);
    swiglu_forward(g->gate, g->up, g->act, n * F);
    linear(g, tensor_layer(m, layer, LAYER_DOWN), g->act, g->x, n, true);
}

/* Runs n <= CHUNK new tokens through all layers; x then holds their last residual. */
static void feed_chunk(struct generator *g, const uint32_t *tokens, int64_t n)
{
    const struct model_tensor *table = tensor_embed(g->model); /* (V, C) */
    int64_t C = table->cols;
    for (int64_t i = 0; i < n; i++) {
        MW_ASSERT(tokens[i] < table->rows);
        memcpy(g->x + i * C, table->data + (int64_t)tokens[i] * C, (size_t)C * sizeof(float));
    }
    for (int64_t l = 0; l < g->model->config.num_hidden_layers; l++)
        layer_forward(g, l, n);
    g->position += n;
}

float *generator_feed(struct generator *g, const uint32_t *tokens, size_t count)
{
    const struct model *m = g->model;
    int64_t C = m->config.hidden_size, left = (int64_t)count, n = 0;
    MW_ASSERT(count > 0);
    if (left > g->context_max - g->position)
        return NULL;
    for (; left > 0; left -= n, tokens += n) {
        n = left < CHUNK ? left : CHUNK;
        feed_chunk(g, tokens, n);
    }
    /* Only the last token's logits are wanted. */
    rmsnorm_forward(g->x + (n - 1) * C, tensor_norm(m)->data, g->h, g->rstd, 1, C,
                    m->config.rms_norm_eps);
    linear(g, tensor_head(m), g->h, g->logits, 1, false);
    return g->logits;
}
