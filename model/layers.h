/*
 * Which tensor is which: the order of model.tensors, for the files of model/.
 *
 * It is the order of transformers' state_dict: embedding, nine tensors a layer,
 * final norm, head.
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
    return &m->tensors[m->tensor_count - 2]; /* (C) */
}

static inline const struct model_tensor *tensor_head(const struct model *m)
{
    return &m->tensors[m->tensor_count - 1]; /* (V, C) */
}

#endif
