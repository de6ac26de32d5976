/*
 * What a workspace holds. Private to model/.
 *
 * One mapping holds everything, the struct itself included, so that
 * workspace_bytes() is exact. N = B*T rows everywhere: all but attention treats
 * the tokens of all sequences alike.
 *
 * For the backward pass a layer keeps what is dear to compute (projections,
 * attention, gate and up). What is cheap is computed again: the outputs of both
 * norms and silu(gate) * up. That saves 2C + F of 6C + 2GD + 3F floats a token and
 * layer: a third.
 */
#ifndef MODEL_WORKSPACE_H
#define MODEL_WORKSPACE_H

#include "model/model.h"

/* Kept by one layer. Without a backward pass all layers share one set, in which x_mid
 * and the next layer's x_in are x_in. */
struct layer_acts {
    float *x_in;  /* (N, C)    residual stream before the layer */
    float *q;     /* (N, H, D) after rotation */
    float *k;     /* (N, G, D) after rotation */
    float *v;     /* (N, G, D) */
    float *att;   /* (N, H, D) attention's output, before o_proj */
    float *lse;   /* (B, H, T) */
    float *x_mid; /* (N, C)    residual stream between attention and mlp */
    float *gate;  /* (N, F) */
    float *up;    /* (N, F) */
    /* with LoRA only: */
    float *low_q;   /* (N, R) scale * dropout(h) Aqᵀ */
    float *low_v;   /* (N, R) */
    uint64_t key_q; /* of the dropout masks of the last forward pass */
    uint64_t key_v;
};

struct workspace {
    struct workspace_options options;
    uint64_t bytes; /* of the mapping */
    int64_t rows;   /* B*T it has room for */

    /* the last model_forward() */
    int64_t B, T;
    uint32_t *tokens; /* (N) */
    bool dropout;     /* with masks */

    struct layer_acts *layers;  /* (L) */
    float *rope_cos, *rope_sin; /* (T, D/2) */
    float *x_out;               /* (N, C) residual stream after the last layer */
    float *hidden;              /* (N, C) after the final norm */
    float *h;                   /* (N, C) scratch: output of a layer's norm */
    float *rstd;                /* (N)    scratch */
    float *act;     /* (N, F) scratch: silu(gate) * up; in the backward pass then dgate */
    float *logits;  /* (LOSS_ROWS or fewer, V) */
    float *dropped; /* (N, C) scratch with LoRA: dropout(h), and its gradient */

    /* with options.backward only: */
    float *d_hidden; /* (N, C) left by model_loss() */
    float *dx;       /* (N, C) gradient of the residual stream */
    float *dh;       /* (N, C) of a norm's output, and of attention's output */
    float *d_act;    /* (N, F) */
    float *d_up;     /* (N, F) */
    float *dq;       /* (N, H, D) */
    float *dk, *dv;  /* (N, G, D) */
    float *d_low;    /* (N, R) with LoRA */
};

/* Rows of logits that exist at a time: enough for the products of the head to be large. */
#define LOSS_ROWS 1024

/* y (N, out) = x (N, in) Wᵀ; with add, y += */
void project_forward(const struct workspace *w, const struct model_tensor *W, const float *x,
                     float *y, bool add);
/* dx (N, in) = dy (N, out) W; with add, dx += */
void project_backward(const struct workspace *w, const struct model_tensor *W, const float *dy,
                      float *dx, bool add);
/* dW (out, in) += dyᵀ x, at its place in grads; nothing if grads is NULL (frozen body). */
void project_gradient(const struct workspace *w, const struct model_tensor *W, const float *dy,
                      const float *x, float *grads);

static inline int64_t workspace_rows(const struct workspace *w) /* N of the last forward pass */
{
    return w->B * w->T;
}

/* --- LoRA, lora.c ------------------------------------------------------------ */
enum lora_target { LORA_Q, LORA_V };

/* y (N, out) += scale * dropout(h) Aᵀ Bᵀ for q or v of a layer. h: (N, C) */
void lora_forward(const struct model *m, struct workspace *w, int64_t layer,
                  enum lora_target target, const float *h, float *y);
/* Given dy (N, out): adds to lora_grads the gradients of A and B, and to dh (N, C; NULL = not
 * wanted) that of h. lora_grads may be NULL. */
void lora_backward(const struct model *m, struct workspace *w, int64_t layer,
                   enum lora_target target, const float *h, const float *dy, float *dh,
                   float *lora_grads);

#endif
