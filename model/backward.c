/*
 * The backward pass of the body, forward.c read from its end. Names: d_x is the
 * gradient of the loss with respect to x. dx is that of the residual stream; each
 * block adds its share, because x_out = x_in + block(x_in).
 *
 * grads NULL: the body is frozen; products that only serve its gradients are left out.
 */
#include "model/layers.h"
#include "model/workspace.h"

#include <string.h>

static float *grad_of(const struct model_tensor *t, float *grads)
{
    return grads ? grads + t->offset : NULL;
}

/* dx: gradient of x_mid + mlp(x_mid) → of x_mid */
static void mlp_backward(const struct model *m, struct workspace *w, int64_t layer, float *grads)
{
    const struct model_config *c = &m->config;
    const struct layer_acts *a = &w->layers[layer];
    const struct model_tensor *norm = tensor_layer(m, layer, LAYER_NORM_MLP);
    const struct model_tensor *gate = tensor_layer(m, layer, LAYER_GATE);
    const struct model_tensor *up = tensor_layer(m, layer, LAYER_UP);
    const struct model_tensor *down = tensor_layer(m, layer, LAYER_DOWN);
    int64_t N = workspace_rows(w), C = c->hidden_size, F = c->intermediate_size;

    project_backward(w, down, w->dx, w->d_act, false);
    if (grads) { /* once more what the forward pass did not keep */
        swiglu_forward(a->gate, a->up, w->act, N * F);
        project_gradient(w, down, w->dx, w->act, grads);
    }
    float *d_gate = w->act; /* (N, F), silu(gate) * up is not needed any more */
    swiglu_backward(a->gate, a->up, w->d_act, d_gate, w->d_up, N * F);
    rmsnorm_forward(a->x_mid, norm->data, w->h, w->rstd, N, C, c->rms_norm_eps);
    project_gradient(w, gate, d_gate, w->h, grads);
    project_gradient(w, up, w->d_up, w->h, grads);
    project_backward(w, gate, d_gate, w->dh, false);
    project_backward(w, up, w->d_up, w->dh, true);
    rmsnorm_backward(a->x_mid, norm->data, w->rstd, w->dh, w->dx, grad_of(norm, grads), N, C);
}

/* From dx, the gradient of x_mid, to those of q, k, v before rotation: dq, dk, dv. */
static void attention_core_backward(const struct model *m, struct workspace *w, int64_t layer,
                                    float *grads)
{
    const struct model_config *c = &m->config;
    const struct layer_acts *a = &w->layers[layer];
    const struct model_tensor *o = tensor_layer(m, layer, LAYER_O);
    int64_t B = w->B, T = w->T, C = c->hidden_size;
    int64_t H = c->num_attention_heads, G = c->num_key_value_heads, D = C / H;
    struct attention_shape shape = {.B = B, .T = T, .H = H, .G = G, .D = D};
    float *d_att = w->dh; /* (N, H, D) */

    project_backward(w, o, w->dx, d_att, false);
    project_gradient(w, o, w->dx, a->att, grads);
    attention_backward(&shape, w->options.precision, a->q, a->k, a->v, a->att, a->lse, d_att, w->dq,
                       w->dk, w->dv);
    rope_apply(w->dq, w->rope_cos, w->rope_sin, B, T, H, D, 0, true);
    rope_apply(w->dk, w->rope_cos, w->rope_sin, B, T, G, D, 0, true);
}

/* dx: gradient of x_in + attention(x_in) → of x_in. Where nothing below needs dx (the first
 * layer of a frozen body) it stops at the adapters. */
static void attention_block_backward(const struct model *m, struct workspace *w, int64_t layer,
                                     float *grads, float *lora_grads)
{
    const struct model_config *c = &m->config;
    const struct layer_acts *a = &w->layers[layer];
    const struct model_tensor *norm = tensor_layer(m, layer, LAYER_NORM_ATTN);
    const struct model_tensor *q = tensor_layer(m, layer, LAYER_Q);
    const struct model_tensor *k = tensor_layer(m, layer, LAYER_K);
    const struct model_tensor *v = tensor_layer(m, layer, LAYER_V);
    int64_t N = workspace_rows(w), C = c->hidden_size;
    bool need_dx = layer > 0 || grads;

    attention_core_backward(m, w, layer, grads);
    rmsnorm_forward(a->x_in, norm->data, w->h, w->rstd, N, C, c->rms_norm_eps);
    project_gradient(w, q, w->dq, w->h, grads);
    project_gradient(w, k, w->dk, w->h, grads);
    project_gradient(w, v, w->dv, w->h, grads);
    if (need_dx) {
        project_backward(w, q, w->dq, w->dh, false);
        project_backward(w, k, w->dk, w->dh, true);
        project_backward(w, v, w->dv, w->dh, true);
    }
    if (w->options.lora) {
        float *dh = need_dx ? w->dh : NULL;
        lora_backward(m, w, layer, LORA_Q, w->h, w->dq, dh, lora_grads);
        lora_backward(m, w, layer, LORA_V, w->h, w->dv, dh, lora_grads);
    }
    if (need_dx)
        rmsnorm_backward(a->x_in, norm->data, w->rstd, w->dh, w->dx, grad_of(norm, grads), N, C);
}

/* Adds row n of dx to the embedding row of token n. A token may occur often, so threads own
 * columns, not tokens: each element is summed by one thread in the order of n. */
static void embedding_backward(const struct model *m, const struct workspace *w, float *grads)
{
    enum { COLUMNS = 16 }; /* a cache line, so that no two threads write to the same */
    float *table = grads + tensor_embed(m)->offset; /* (V, C) */
    int64_t N = workspace_rows(w), C = m->config.hidden_size;
#pragma omp parallel for schedule(static)
    for (int64_t start = 0; start < C; start += COLUMNS) {
        int64_t end = start + COLUMNS < C ? start + COLUMNS : C;
        for (int64_t n = 0; n < N; n++)
            for (int64_t j = start; j < end; j++)
                table[(int64_t)w->tokens[n] * C + j] += w->dx[n * C + j];
    }
}

void model_backward(const struct model *m, struct workspace *w, const float *d_hidden, float *grads,
                    float *lora_grads)
{
    const struct model_config *c = &m->config;
    const struct model_tensor *norm = tensor_norm(m);
    int64_t N = workspace_rows(w), C = c->hidden_size;
    MW_ASSERT(w->options.backward && N > 0);
    MW_ASSERT(!lora_grads || w->options.lora);
    if (!d_hidden)
        d_hidden = w->d_hidden;
    if (!grads && !lora_grads)
        return;

    memset(w->dx, 0, (size_t)(N * C) * sizeof(float));
    rmsnorm_forward(w->x_out, norm->data, w->h, w->rstd, N, C, c->rms_norm_eps);
    rmsnorm_backward(w->x_out, norm->data, w->rstd, d_hidden, w->dx, grad_of(norm, grads), N, C);
    for (int64_t l = c->num_hidden_layers - 1; l >= 0; l--) {
        mlp_backward(m, w, l, grads);
        attention_block_backward(m, w, l, grads, lora_grads);
    }
    if (grads)
        embedding_backward(m, w, grads);
}
