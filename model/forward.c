/*
 * The body of the decoder, from ids to hidden states (llammlein.md §3.1):
 *
 *     x  = embed[id]
 *     x += attention(norm(x))        for each layer
 *     x += mlp(norm(x))
 *     hidden = norm(x)
 *
 * The residual stream x is fp32 whatever the precision of the products.
 */
#include "model/forward.h"

#include "model/layers.h"
#include "model/workspace.h"

#include <string.h>

/* to = from, both (n, C) fp32 */
static void copy_stream(float *to, const float *from, int64_t n, int64_t C)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i += BLOCK)
        memcpy(to + i * C, from + i * C, (size_t)(BLOCK * C) * sizeof(float));
}

/* x += o_proj(attention(norm(x))) */
static void attention_block(const struct model *m, struct workspace *w, int64_t layer)
{
    const struct model_config *c = &m->config;
    const enum kernel_precision p = w->options.precision;
    struct layer_acts *a = &w->layers[layer];
    struct heads_shape heads = workspace_heads(m, w);
    int64_t N = workspace_rows(w);

    norm_forward(p, w->x, weights_norm(w->weights, 2 * layer), w->h, a->saved_in, a->rstd_in, N,
                 c->hidden_size, c->rms_norm_eps);
    linear_forward(p, weights_layer(w->weights, layer, WEIGHT_QKV), w->h, a->qkv, N);
    if (w->options.lora)
        lora_forward(m, w, layer, w->h);
    if (c->qk_norm)
        heads_norm_forward(p, &heads, a->qkv, a->raw_qk, a->rstd_qk,
                           w->weights->norms + weights_qk_norm_at(c, layer, 0),
                           w->weights->norms + weights_qk_norm_at(c, layer, 1), c->rms_norm_eps);
    heads_rotate(p, &heads, a->qkv, w->rope_cos, w->rope_sin, false);
    heads_forward(p, &heads, a->qkv, a->att, a->lse);
    linear_forward_add(p, weights_layer(w->weights, layer, WEIGHT_O), a->att, w->x, N);
}

/* y = silu(gate) * up, both projections of norm(x); gate and up are kept */
static void mlp_inner(const struct model *m, struct workspace *w, int64_t layer)
{
    const struct model_config *c = &m->config;
    const enum kernel_precision p = w->options.precision;
    struct layer_acts *a = &w->layers[layer];
    int64_t N = workspace_rows(w);

    norm_forward(p, w->x, weights_norm(w->weights, 2 * layer + 1), a->h_mid, a->saved_mid,
                 a->rstd_mid, N, c->hidden_size, c->rms_norm_eps);
    linear_forward_swiglu(p, weights_layer(w->weights, layer, WEIGHT_GATE_UP), a->h_mid, a->gate_up,
                          w->y, N);
}

/* x += down_proj(y) */
static void mlp_outer(struct workspace *w, int64_t layer)
{
    linear_forward_add(w->options.precision, weights_layer(w->weights, layer, WEIGHT_DOWN), w->y,
                       w->x, workspace_rows(w));
}

void layer_again(const struct model *m, struct workspace *w, int64_t layer)
{
    const enum kernel_precision p = w->options.precision;
    struct layer_acts *a = &w->layers[layer];
    int64_t N = workspace_rows(w);
    if (w->options.recompute == RECOMPUTE_FULL) {
        copy_stream(w->x, a->x_in, N, block_up(m->config.hidden_size));
        attention_block(m, w, layer);
        mlp_inner(m, w, layer);
    } else if (w->options.recompute == RECOMPUTE_MLP) {
        linear_forward_swiglu(p, weights_layer(w->weights, layer, WEIGHT_GATE_UP), a->h_mid,
                              a->gate_up, w->y, N);
    }
}

/* Each adapter of each layer gets a mask of its own, named by a key. Drawn serially, so
 * masks depend on the state of rng only. */
static void draw_mask_keys(const struct model *m, struct workspace *w, struct rng *rng)
{
    w->dropout = rng && w->options.lora && w->options.lora->dropout > 0;
    for (int64_t l = 0; w->dropout && l < m->config.num_hidden_layers; l++) {
        w->layers[l].key_q = rng_u64(rng);
        w->layers[l].key_v = rng_u64(rng);
    }
}

/* Ids and beginnings of documents of B sequences, each filled up to whole blocks. */
static void take_batch(const struct model *m, struct workspace *w, const uint32_t *tokens)
{
    int64_t rows = block_up(w->T);
    for (int64_t b = 0; b < w->B; b++) {
        uint32_t start = 0;
        for (int64_t t = 0; t < rows; t++) {
            uint32_t id = t < w->T ? tokens[b * w->T + t] : UINT32_MAX;
            MW_ASSERT(id < m->config.vocab_size || t >= w->T);
            if (w->starts && id == w->options.document_id)
                start = (uint32_t)t;
            w->ids[b * rows + t] = id;
            if (w->starts)
                w->starts[b * rows + t] = start;
        }
    }
}

void model_forward(const struct model *m, struct workspace *w, const uint32_t *tokens, int64_t B,
                   int64_t T, struct rng *lora_rng)
{
    const struct model_config *c = &m->config;
    int64_t L = c->num_hidden_layers, N = B * block_up(T);
    MW_ASSERT(B > 0 && T > 0 && T <= w->options.T && N <= w->rows);
    profile_set_phase(PHASE_FORWARD);
    w->B = B;
    w->T = T;
    take_batch(m, w, tokens);
    draw_mask_keys(m, w, lora_rng);
    embed_forward(&w->weights->embedding, w->ids, w->x, N, c->hidden_size);
    for (int64_t l = 0; l < L; l++) {
        if (w->options.backward && w->options.recompute == RECOMPUTE_FULL)
            copy_stream(w->layers[l].x_in, w->x, N, block_up(c->hidden_size));
        attention_block(m, w, l);
        mlp_inner(m, w, l);
        mlp_outer(w, l);
    }
    norm_forward(w->options.precision, w->x, weights_norm(w->weights, 2 * L), w->hidden,
                 w->saved_out, w->rstd_out, N, c->hidden_size, c->rms_norm_eps);
}

const float *model_hidden(const struct model *m, struct workspace *w)
{
    const struct model_config *c = &m->config;
    int64_t C = c->hidden_size, T = w->T;
    MW_ASSERT(w->hidden_rows && w->B > 0);
    for (int64_t b = 0; b < w->B; b++)
        blocks_to_rows(KERNEL_FP32, w->x + b * block_up(T) * block_up(C),
                       w->hidden_rows + b * T * C, C, T, C);
    rmsnorm_forward(w->hidden_rows, weights_norm(w->weights, 2 * c->num_hidden_layers),
                    w->hidden_rows, w->losses, w->B * T, C, c->rms_norm_eps);
    return w->hidden_rows;
}
