/*
 * The body of the decoder, from ids to hidden states (llammlein.md §3.1):
 *
 *     x  = embed[id]
 *     x += attention(norm(x))        for each layer
 *     x += mlp(norm(x))
 *     hidden = norm(x)
 *
 * The residual stream is fp32 whatever the precision of the products.
 */
#include "model/layers.h"
#include "model/workspace.h"

#include <string.h>

/* x (N, C): rows of the embedding table. */
static void embed(const struct model *m, const struct workspace *w, float *x)
{
    const float *table = tensor_embed(m)->data; /* (V, C) */
    int64_t N = workspace_rows(w), C = m->config.hidden_size;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++)
        memcpy(x + n * C, table + (int64_t)w->tokens[n] * C, (size_t)C * sizeof(float));
}

/* The residual stream at its next place: a copy to add to, or the same place when nothing
 * is kept for the backward pass. */
static void carry(const struct model *m, const struct workspace *w, const float *from, float *to)
{
    int64_t N = workspace_rows(w), C = m->config.hidden_size;
    if (from == to)
        return;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++)
        memcpy(to + n * C, from + n * C, (size_t)C * sizeof(float));
}

/* x_mid = x_in + o_proj(attention(norm(x_in))) */
static void attention_block(const struct model *m, struct workspace *w, int64_t layer)
{
    const struct model_config *c = &m->config;
    struct layer_acts *a = &w->layers[layer];
    int64_t B = w->B, T = w->T, N = B * T, C = c->hidden_size;
    int64_t H = c->num_attention_heads, G = c->num_key_value_heads, D = C / H;
    struct attention_shape shape = {.B = B, .T = T, .H = H, .G = G, .D = D};

    rmsnorm_forward(a->x_in, tensor_layer(m, layer, LAYER_NORM_ATTN)->data, w->h, w->rstd, N, C,
                    c->rms_norm_eps);
    project_forward(w, tensor_layer(m, layer, LAYER_Q), w->h, a->q, false);
    project_forward(w, tensor_layer(m, layer, LAYER_K), w->h, a->k, false);
    project_forward(w, tensor_layer(m, layer, LAYER_V), w->h, a->v, false);
    if (w->options.lora) {
        lora_forward(m, w, layer, LORA_Q, w->h, a->q);
        lora_forward(m, w, layer, LORA_V, w->h, a->v);
    }
    rope_apply(a->q, w->rope_cos, w->rope_sin, B, T, H, D, 0, false);
    rope_apply(a->k, w->rope_cos, w->rope_sin, B, T, G, D, 0, false);
    attention_forward(&shape, w->options.precision, a->q, a->k, a->v, a->att, a->lse);
    carry(m, w, a->x_in, a->x_mid);
    project_forward(w, tensor_layer(m, layer, LAYER_O), a->att, a->x_mid, true);
}

/* x_out = x_mid + down_proj(silu(gate) * up), both projections of norm(x_mid) */
static void mlp_block(const struct model *m, struct workspace *w, int64_t layer, float *x_out)
{
    const struct model_config *c = &m->config;
    struct layer_acts *a = &w->layers[layer];
    int64_t N = workspace_rows(w), C = c->hidden_size, F = c->intermediate_size;

    rmsnorm_forward(a->x_mid, tensor_layer(m, layer, LAYER_NORM_MLP)->data, w->h, w->rstd, N, C,
                    c->rms_norm_eps);
    project_forward(w, tensor_layer(m, layer, LAYER_GATE), w->h, a->gate, false);
    project_forward(w, tensor_layer(m, layer, LAYER_UP), w->h, a->up, false);
    swiglu_forward(a->gate, a->up, w->act, N * F);
    carry(m, w, a->x_mid, x_out);
    project_forward(w, tensor_layer(m, layer, LAYER_DOWN), w->act, x_out, true);
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

const float *model_forward(const struct model *m, struct workspace *w, const uint32_t *tokens,
                           int64_t B, int64_t T, struct rng *lora_rng)
{
    const struct model_config *c = &m->config;
    int64_t L = c->num_hidden_layers;
    MW_ASSERT(B > 0 && T > 0 && T <= w->options.T && B * T <= w->rows);
    w->B = B;
    w->T = T;
    for (int64_t n = 0; n < B * T; n++) {
        MW_ASSERT(tokens[n] < c->vocab_size);
        w->tokens[n] = tokens[n];
    }
    draw_mask_keys(m, w, lora_rng);
    embed(m, w, w->layers[0].x_in);
    for (int64_t l = 0; l < L; l++) {
        attention_block(m, w, l);
        mlp_block(m, w, l, l + 1 < L ? w->layers[l + 1].x_in : w->x_out);
    }
    rmsnorm_forward(w->x_out, tensor_norm(m)->data, w->hidden, w->rstd, B * T, c->hidden_size,
                    c->rms_norm_eps);
    return w->hidden;
}
