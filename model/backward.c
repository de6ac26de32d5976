/*
 * The backward pass of the body, forward.c read from its end. Names: d_x is the
 * gradient of the loss with respect to x. dx is that of the residual stream; each
 * block adds its share, because x_out = x_in + block(x_in).
 *
 * grads NULL: the body is frozen; products that only serve its gradients are left out.
 */
#include "model/forward.h"
#include "model/layers.h"
#include "model/workspace.h"

/* One layer as its two halves see it. */
struct layer_pass {
    const struct model *m;
    struct workspace *w;
    int64_t layer;
    enum kernel_precision p;
    int64_t N, C; /* C: true width */
    struct layer_acts *acts;
    float *grads; /* in block order, or NULL */
};

static const struct weight *weight_of(const struct layer_pass *l, enum layer_weight which)
{
    return weights_layer(l->w->weights, l->layer, which);
}

/* dW += dyᵀ x */
static void add_gradient(const struct layer_pass *l, enum layer_weight which, const void *dy,
                         const void *x)
{
    const struct weight *W = weight_of(l, which);
    size_t offset = l->w->weights->offsets[l->layer * LAYER_WEIGHT_COUNT + which];
    if (l->grads)
        linear_gradient(l->p, dy, x, l->grads + offset, l->N, W->out, W->in);
}

static float *norm_gradient(const struct workspace *w, float *grads, int64_t norm)
{
    return grads
               ? grads + w->weights->norms_offset + norm * block_up(w->weights->config.hidden_size)
               : NULL;
}

/* dx: gradient of x_mid + mlp(x_mid) → of x_mid */
static void mlp_backward(const struct layer_pass *l)
{
    struct workspace *w = l->w;
    struct layer_acts *a = l->acts;
    const float *norm = weights_norm(w->weights, 2 * l->layer + 1);
    void *d_gate_up = a->gate_up; /* (N, 2F): takes its place */

    linear_backward_swiglu(l->p, weight_of(l, WEIGHT_DOWN), w->dx_act, a->gate_up, d_gate_up,
                           l->grads ? w->y : NULL, l->N);
    add_gradient(l, WEIGHT_DOWN, w->dx_act, w->y);
    if (l->grads)
        norm_again(l->p, a->saved_mid, norm, a->rstd_mid, w->h, l->N, l->C);
    add_gradient(l, WEIGHT_GATE_UP, d_gate_up, w->h);
    linear_backward(l->p, weight_of(l, WEIGHT_GATE_UP), d_gate_up, w->dh, l->N);
    norm_backward(l->p, a->saved_mid, norm, a->rstd_mid, w->dh, w->dx, w->dx_act,
                  norm_gradient(w, l->grads, 2 * l->layer + 1), true, l->N, l->C);
}

/* d_qkv: gradient of the normed query and key heads → of what they were */
static void qk_norm_backward(const struct layer_pass *l, const struct heads_shape *heads)
{
    const struct model_config *c = &l->m->config;
    const float *norms = l->w->weights->norms;
    float *grads = l->grads ? l->grads + l->w->weights->norms_offset : NULL;
    int64_t q = weights_qk_norm_at(c, l->layer, 0), k = weights_qk_norm_at(c, l->layer, 1);
    heads_norm_backward(l->p, heads, l->acts->raw_qk, l->acts->rstd_qk, norms + q, norms + k,
                        l->w->d_qkv, grads ? grads + q : NULL, grads ? grads + k : NULL);
}

/* From dx, the gradient of x_mid, to d_qkv before rotation. */
static void attention_core_backward(const struct layer_pass *l)
{
    struct workspace *w = l->w;
    struct heads_shape heads = workspace_heads(l->m, w);
    linear_backward(l->p, weight_of(l, WEIGHT_O), w->dx_act, w->d_att, l->N);
    add_gradient(l, WEIGHT_O, w->dx_act, l->acts->att);
    heads_backward(l->p, &heads, l->acts->qkv, l->acts->att, l->acts->lse, w->d_att, w->d_qkv);
    heads_rotate(l->p, &heads, w->d_qkv, w->rope_cos, w->rope_sin, true);
    if (l->m->config.qk_norm)
        qk_norm_backward(l, &heads);
}

/* dx: gradient of x_in + attention(x_in) → of x_in. Where nothing below needs dx (the first
 * layer of a frozen body) it stops at the adapters. */
static void attention_backward_block(const struct layer_pass *l, float *lora_grads)
{
    struct workspace *w = l->w;
    const struct layer_acts *a = l->acts;
    const float *norm = weights_norm(w->weights, 2 * l->layer);
    bool need_dx = l->layer > 0 || l->grads;

    attention_core_backward(l);
    norm_again(l->p, a->saved_in, norm, a->rstd_in, w->h, l->N, l->C);
    add_gradient(l, WEIGHT_QKV, w->d_qkv, w->h);
    if (need_dx)
        linear_backward(l->p, weight_of(l, WEIGHT_QKV), w->d_qkv, w->dh, l->N);
    if (w->options.lora)
        lora_backward(l->m, w, l->layer, w->h, need_dx ? w->dh : NULL, lora_grads);
    if (need_dx)
        norm_backward(l->p, a->saved_in, norm, a->rstd_in, w->dh, w->dx, w->dx_act,
                      norm_gradient(w, l->grads, 2 * l->layer), true, l->N, l->C);
}

/* dh = d_hidden (B, T, C), row by row. */
static void take_gradient(struct workspace *w, const float *d_hidden, int64_t C)
{
    int64_t rows = block_up(w->T);
    for (int64_t b = 0; b < w->B; b++)
        blocks_from_rows(w->options.precision, act_rows(w, w->dh, b * rows, block_up(C)),
                         d_hidden + b * w->T * C, C, w->T, C);
}

void model_backward(const struct model *m, struct workspace *w, const float *d_hidden, float *grads,
                    float *lora_grads)
{
    const struct model_config *c = &m->config;
    int64_t N = workspace_rows(w), C = c->hidden_size, L = c->num_hidden_layers;
    const enum kernel_precision p = w->options.precision;
    MW_ASSERT(w->options.backward && N > 0);
    MW_ASSERT(!lora_grads || w->options.lora);
    profile_set_phase(PHASE_BACKWARD);
    if (d_hidden)
        take_gradient(w, d_hidden, C);
    if (!grads && !lora_grads)
        return;

    norm_backward(p, w->saved_out, weights_norm(w->weights, 2 * L), w->rstd_out, w->dh, w->dx,
                  w->dx_act, norm_gradient(w, grads, 2 * L), false, N, C);
    for (int64_t l = L - 1; l >= 0; l--) {
        struct layer_pass pass = {.m = m,
                                  .w = w,
                                  .layer = l,
                                  .p = p,
                                  .N = N,
                                  .C = C,
                                  .acts = &w->layers[l],
                                  .grads = grads};
        layer_again(m, w, l);
        mlp_backward(&pass);
        attention_backward_block(&pass, lora_grads);
    }
    if (grads)
        embed_backward(w->dx, w->ids, grads, N, C);
}
