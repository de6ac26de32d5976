/*
 * From parameters row by row to the panels of all weights.
 */
#include "model/layers.h"
#include "model/weights.h"

#include <string.h>

/* Rows of a tensor that are turned into blocks at a time. */
#define STRIP_ROWS ((int64_t)1024)

/* Packs a tensor, rows in Hugging Face's order, as block rows first, first + step, … of W. */
static void pack_tensor(enum kernel_precision precision, const struct weight *W,
                        const struct model_tensor *t, int64_t first, int64_t step)
{
    int64_t most = t->rows < STRIP_ROWS ? t->rows : STRIP_ROWS;
    float *strip = mem_alloc((size_t)(block_up(most) * W->in) * sizeof(float));
    for (int64_t row = 0; row < t->rows; row += STRIP_ROWS) {
        int64_t rows = t->rows - row < STRIP_ROWS ? t->rows - row : STRIP_ROWS;
        blocks_from_rows(KERNEL_FP32, strip, t->data + row * t->cols, t->cols, rows, t->cols);
        weight_pack(precision, W, strip, block_up(rows), first + row / BLOCK * step, step);
    }
    free(strip);
}

static void pack_layer(struct weights *w, const struct model *m, int64_t layer)
{
    const struct model_config *c = &w->config;
    int64_t D = c->hidden_size / c->num_attention_heads;
    int64_t Q = block_up(c->hidden_size), KV = block_up(c->num_key_value_heads * D);
    const struct {
        enum layer_tensor tensor;
        enum layer_weight weight;
        int64_t first, step; /* block rows */
    } parts[] = {
        {LAYER_Q, WEIGHT_QKV, 0, 1},
        {LAYER_K, WEIGHT_QKV, Q / BLOCK, 1},
        {LAYER_V, WEIGHT_QKV, (Q + KV) / BLOCK, 1},
        {LAYER_O, WEIGHT_O, 0, 1},
        {LAYER_GATE, WEIGHT_GATE_UP, 0, 2},
        {LAYER_UP, WEIGHT_GATE_UP, 1, 2},
        {LAYER_DOWN, WEIGHT_DOWN, 0, 1},
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
        pack_tensor(w->precision, weights_layer(w, layer, parts[i].weight),
                    tensor_layer(m, layer, parts[i].tensor), parts[i].first, parts[i].step);
}

static void copy_norms(struct weights *w, const struct model *m)
{
    int64_t C = w->config.hidden_size, L = w->config.num_hidden_layers, width = block_up(C);
    if (!w->own_norms)
        w->own_norms = mem_zalloc(w->size - w->norms_offset, sizeof(float));
    w->norms = w->own_norms;
    for (int64_t i = 0; i <= 2 * L; i++) {
        const struct model_tensor *t = i == 2 * L
                                           ? tensor_norm(m)
                                           : tensor_layer(m, i / 2,
                                                          i % 2 ? LAYER_NORM_MLP : LAYER_NORM_ATTN);
        memcpy(w->own_norms + i * width, t->data, (size_t)C * sizeof(float));
    }
    for (int64_t i = 0; i < 2 * L && w->config.qk_norm; i++) {
        const struct model_tensor *t = tensor_qk_norm(m, i / 2, (int)(i % 2));
        memcpy(w->own_norms + weights_qk_norm_at(&w->config, i / 2, (int)(i % 2)), t->data,
               (size_t)t->cols * sizeof(float));
    }
}

void weights_from_model(struct weights *w, const struct model *m)
{
    for (int64_t l = 0; l < w->config.num_hidden_layers; l++)
        pack_layer(w, m, l);
    pack_tensor(w->precision, weights_head(w), tensor_head(m), 0, 1);
    copy_norms(w, m);
    w->embedding = (struct embedding){.fp32 = tensor_embed(m)->data};
}
