/*
 * Parameters as the kernels read them, and the order in which training keeps them.
 *
 * A model file has 3 + 9 L tensors (2 L more with qk_norm), row by row. The engine multiplies
 * with 4 L + 1 weights: q, k and v are one (their rows one after the other, each filled up to a
 * multiple of 32), gate and up are one (by turns, 32 rows each), o, down and the head are one each.
 *
 * Block order is one array of `size` values for all parameters of a model; masters, gradients
 * and moments share it:
 *
 *     embedding   (V, C) row by row, filled up to a multiple of 1,024
 *     layers      QKV, O, GATE_UP, DOWN, in blocks (kernels/blocks.h), filled up with zeros
 *     head        (V, C) in blocks
 *     norms       2 L + 1 rows of block_up(C) values: layer 0 attention, layer 0 mlp, …, final;
 *                 with qk_norm 2 L rows of block_up(D) more: layer 0 query, layer 0 key, …
 *
 * so that an optimiser step reads and writes each of them from front to back.
 */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "model/model.h"

enum layer_weight { WEIGHT_QKV, WEIGHT_O, WEIGHT_GATE_UP, WEIGHT_DOWN, LAYER_WEIGHT_COUNT };

struct weights {
    struct model_config config;
    enum kernel_precision precision;
    struct weight *list; /* (4 L + 1): weights_layer(), weights_head() */
    size_t *offsets;     /* (4 L + 1) of their first value in block order */
    int64_t count;
    size_t size;                /* values in block order, a multiple of 1,024 */
    size_t norms_offset;        /* of the norms in block order */
    struct embedding embedding; /* borrowed: from a model's params or an optimiser's masters */
    const float *norms;         /* as in block order, borrowed or own_norms */
    float *own_norms;
    void *memory; /* of the panels */
    uint64_t bytes;
};

/* Values in block order; bytes of the panels. */
size_t weights_size(const struct model_config *c);
uint64_t weights_bytes(const struct model_config *c, enum kernel_precision precision,
                       bool backward);
/* Reserves the panels, zero. */
int weights_init(struct weights *w, const struct model_config *c, enum kernel_precision precision,
                 bool backward, struct err *e);
void weights_release(struct weights *w);
/* Fills everything from m->params, row by row; the embedding table is borrowed from it. */
void weights_from_model(struct weights *w, const struct model *m);

static inline const struct weight *weights_layer(const struct weights *w, int64_t layer,
                                                 enum layer_weight which)
{
    return &w->list[layer * LAYER_WEIGHT_COUNT + which];
}
static inline const struct weight *weights_head(const struct weights *w)
{
    return &w->list[w->count - 1];
}
/* norm 2 l: attention of layer l; 2 l + 1: its mlp; 2 L: the final one */
static inline const float *weights_norm(const struct weights *w, int64_t norm)
{
    return w->norms + norm * block_up(w->config.hidden_size);
}
/* Where the norm of query (which 0) or key heads (1) of a layer lies among the norms. */
static inline int64_t weights_qk_norm_at(const struct model_config *c, int64_t layer, int which)
{
    return (2 * c->num_hidden_layers + 1) * block_up(c->hidden_size) +
           (2 * layer + which) * block_up(c->hidden_size / c->num_attention_heads);
}

/* Where tensor number i of a model (the order of model.tensors) lies in block order. */
struct weights_place {
    size_t offset;      /* of value (0, 0) */
    int64_t rows, cols; /* of the tensor */
    bool in_blocks;     /* else row by row */
    int64_t step;       /* in blocks: values from one row of blocks of the tensor to the next */
};
struct weights_place weights_place(const struct model_config *c, size_t tensor);
/* Copies rows [row, row + count) of a tensor between an array in block order and rows of
 * place.cols floats. */
void weights_get(const struct weights_place *at, const float *array, int64_t row, int64_t count,
                 float *rows);
void weights_put(const struct weights_place *at, float *array, int64_t row, int64_t count,
                 const float *rows);
/* Copies an array in block order (gradients, say) to one in the order of m->params. */
void weights_get_all(const struct model *m, const float *array, float *params);

#endif
