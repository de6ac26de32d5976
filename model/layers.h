/*
 * Which tensor is which: the order of model.tensors, for the files of model/.
 *
 * It is the order of transformers' state_dict: embedding, nine tensors a layer,
 * final norm, head; and after these, with qk_norm, the norms of query and key heads.
 */
#ifndef MODEL_LAYERS_H
#define MODEL_LAYERS_H

#include "model/model.h"

enum layer_tensor {
    LAYER_Q,         /* (C, C) */
    LAYER_K,         /* (G*D, C) */
    LAYER_V,         /* (G*D, C) */
    LAYER_O,         /* (C, C) */
    LAYER_GATE,      /* (F, C) */
    LAYER_UP,        /* (F, C) */
    LAYER_DOWN,      /* (C, F) */
    LAYER_NORM_ATTN, /* (C) */
    LAYER_NORM_MLP,  /* (C) */
    LAYER_TENSOR_COUNT
};

static inline const struct model_tensor *tensor_embed(const struct model *m)
{
    return &m->tensors[0]; /* (V, C) */
}

static inline const struct model_tensor *tensor_layer(const struct model *m, int64_t layer,
                                                      enum layer_tensor which)
{
    return &m->tensors[1 + layer * LAYER_TENSOR_COUNT + which];
}

static inline const struct model_tensor *tensor_norm(const struct model *m)
{
    return &m->tensors[1 + m->config.num_hidden_layers * LAYER_TENSOR_COUNT]; /* (C) */
}

static inline const struct model_tensor *tensor_head(const struct model *m)
{
    return tensor_norm(m) + 1; /* (V, C) */
}

/* of query heads (which 0) or key heads (1) of a layer; with qk_norm only */
static inline const struct model_tensor *tensor_qk_norm(const struct model *m, int64_t layer,
                                                        int which)
{
    return tensor_head(m) + 1 + 2 * layer + which; /* (D) */
}

#endif
