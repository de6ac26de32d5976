/*
 * What a workspace holds. Private to model/.
 *
 * One mapping holds everything, the struct itself included, so that
 * workspace_bytes() is exact. Matrices are in blocks (kernels/blocks.h): "act" ones of
 * the precision that is trained in, "fp32" ones always float. Their rows are tokens, each
 * sequence filled up to a multiple of 32: N = B * block_up(T). Widths C, F, V stand for
 * their multiples of 32 here.
 *
 * For the backward pass a layer keeps what is dear to compute. What is cheap is computed
 * again: the outputs of both norms, and silu(gate) * up. How much is kept beyond that is
 * workspace_options.recompute.
 */
#ifndef MODEL_WORKSPACE_H
#define MODEL_WORKSPACE_H

#include "model/kernels/profile.h"
#include "model/model.h"
#include "model/weights.h"

/* Kept by one layer. What is not kept, all layers share. */
struct layer_acts {
    float *x_in;     /* (N, C) fp32  residual stream before the layer; RECOMPUTE_FULL only */
    void *saved_in;  /* (N, C) act   the same, rounded: input of the attention norm */
    float *rstd_in;  /* (N) */
    void *qkv;       /* (N, C + 2GD) act  queries and keys after rotation */
    void *raw_qk;    /* (N, C + 2GD) act  with qk_norm: queries and keys before their norm */
    float *rstd_qk;  /* (N, H + G)        with qk_norm */
    void *att;       /* (N, C) act   attention's output, before o_proj */
    float *lse;      /* (B, H, T) */
    void *saved_mid; /* (N, C) act   residual stream between attention and mlp, rounded */
    float *rstd_mid; /* (N) */
    void *h_mid;     /* (N, C) act   the mlp norm's output; kept by RECOMPUTE_MLP only */
    void *gate_up;   /* (N, 2F) act  by turns; then its gradient */
    /* with LoRA only, row by row: */
    float *low_q;   /* (N, R) scale * dropout(h) Aqᵀ */
    float *low_v;   /* (N, R) */
    uint64_t key_q; /* of the dropout masks of the last forward pass */
    uint64_t key_v;
};

struct workspace {
    struct workspace_options options;
    uint64_t bytes;                /* of the mapping */
    int64_t rows;                  /* N it has room for */
    const struct weights *weights; /* the optimiser's, or own */
    struct weights own;

    /* the last model_forward() */
    int64_t B, T;
    uint32_t *ids;    /* (N), UINT32_MAX where a sequence is filled up */
    uint32_t *starts; /* (N) first position of the token's document; NULL = no mask */
    bool dropout;     /* with masks */

    struct layer_acts *layers;  /* (L) */
    float *rope_cos, *rope_sin; /* (T, D/2) */
    float *x;                   /* (N, C) fp32 residual stream, as far as it has come */
    void *h;                    /* (N, C) act  scratch: output of a norm */
    void *y;                    /* (N, F) act  scratch: silu(gate) * up */
    void *saved_out;            /* (N, C) act  residual stream after the last layer */
    float *rstd_out;            /* (N) */
    void *hidden;               /* (N, C) act  after the final norm */
    float *hidden_rows;         /* (B, T, C) floats row by row: model_hidden() */

    /* of model_loss(), for LOSS_ROWS rows or fewer */
    void *e; /* (rows, V) act  with options.backward */
    struct softmax_stats stats;
    uint32_t *targets; /* (N) */
    float *losses;     /* (N) */

    /* with options.backward only: */
    float *dx;    /* (N, C) fp32 gradient of the residual stream */
    void *dx_act; /* (N, C) act  the same, rounded */
    void *dh;     /* (N, C) act  gradient of a norm's output; left by model_loss() */
    void *d_att;  /* (N, C) act */
    void *d_qkv;  /* (N, C + 2GD) act */

    /* with LoRA only, row by row: */
    float *lora_h;  /* (N, C) the norm's output */
    float *lora_y;  /* (N, C) what an adapter adds; gradient of queries or values */
    float *dropped; /* (N, C) dropout(h), and its gradient */
    float *d_low;   /* (N, R) */
};

/* Rows whose logits exist at a time: enough for the products of the head to be large. */
#define LOSS_ROWS 2048

static inline int64_t workspace_rows(const struct workspace *w) /* N of the last forward pass */
{
    return w->B * block_up(w->T);
}

/* A part of a matrix in blocks of `cols` columns, from row `row` (a multiple of 32) on. */
static inline void *act_rows(const struct workspace *w, void *act, int64_t row, int64_t cols)
{
    return (char *)act + (size_t)(row * cols) * act_bytes(w->options.precision);
}

static inline struct heads_shape workspace_heads(const struct model *m, const struct workspace *w)
{
    const struct model_config *c = &m->config;
    return (struct heads_shape){.B = w->B,
                                .T = w->T,
                                .H = c->num_attention_heads,
                                .G = c->num_key_value_heads,
                                .D = c->hidden_size / c->num_attention_heads,
                                .starts = w->starts};
}

/* --- LoRA, lora.c ------------------------------------------------------------ */
enum lora_target { LORA_Q, LORA_V };

/* qkv += scale * dropout(h) Aᵀ Bᵀ in the columns of queries and of values. h: (N, C) act */
void lora_forward(const struct model *m, struct workspace *w, int64_t layer, const void *h);
/* Given d_qkv: adds to lora_grads (NULL = none) the gradients of A and B, and to dh (N, C) act
 * (NULL = not wanted) that of h. */
void lora_backward(const struct model *m, struct workspace *w, int64_t layer, const void *h,
                   void *dh, float *lora_grads);

#endif
