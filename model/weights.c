/*
 * Where each tensor lies in block order, and the panels of all weights.
 */
#include "model/weights.h"

#include "model/layers.h"

#include <string.h>

/* --- block order --------------------------------------------------------------- */

/* Widths of a model, those in blocks filled up to multiples of 32. */
struct widths {
    int64_t C, Q, KV, F, V; /* hidden, H*D, G*D, intermediate, vocabulary */
    int64_t L;
};

static struct widths widths_of(const struct model_config *c)
{
    int64_t D = c->hidden_size / c->num_attention_heads;
    return (struct widths){.C = block_up(c->hidden_size),
                           .Q = block_up(c->hidden_size),
                           .KV = block_up(c->num_key_value_heads * D),
                           .F = block_up(c->intermediate_size),
                           .V = block_up(c->vocab_size),
                           .L = c->num_hidden_layers};
}

/* (out, in) of a weight of a layer. */
static void layer_shape(const struct widths *s, enum layer_weight which, int64_t *out, int64_t *in)
{
    *out = which == WEIGHT_QKV ? s->Q + 2 * s->KV : which == WEIGHT_GATE_UP ? 2 * s->F : s->C;
    *in = which == WEIGHT_O ? s->Q : which == WEIGHT_DOWN ? s->F : s->C;
}

static size_t area_up(size_t n)
{
    return (n + BLOCK_AREA - 1) / BLOCK_AREA * BLOCK_AREA;
}

static size_t embedding_size(const struct model_config *c)
{
    return area_up((size_t)c->vocab_size * (size_t)c->hidden_size);
}

static size_t layer_offset(const struct model_config *c, int64_t layer, enum layer_weight which)
{
    struct widths s = widths_of(c);
    size_t all = 0, before = 0;
    for (int i = 0; i < LAYER_WEIGHT_COUNT; i++) {
        int64_t out, in;
        layer_shape(&s, (enum layer_weight)i, &out, &in);
        if (i < (int)which)
            before += (size_t)(out * in);
        all += (size_t)(out * in);
    }
    return embedding_size(c) + (size_t)layer * all + before;
}

static size_t head_offset(const struct model_config *c)
{
    return layer_offset(c, c->num_hidden_layers, WEIGHT_QKV);
}

static size_t norms_offset(const struct model_config *c)
{
    return head_offset(c) + (size_t)(block_up(c->vocab_size) * block_up(c->hidden_size));
}

size_t weights_size(const struct model_config *c)
{
    int64_t layers_with_heads = c->qk_norm ? c->num_hidden_layers : 0;
    return area_up(norms_offset(c) + (size_t)weights_qk_norm_at(c, layers_with_heads, 0));
}

static struct weights_place place_in_layer(const struct model_config *c, int64_t layer,
                                           enum layer_tensor which)
{
    static const enum layer_weight holder[] = {
        [LAYER_Q] = WEIGHT_QKV,     [LAYER_K] = WEIGHT_QKV,        [LAYER_V] = WEIGHT_QKV,
        [LAYER_O] = WEIGHT_O,       [LAYER_GATE] = WEIGHT_GATE_UP, [LAYER_UP] = WEIGHT_GATE_UP,
        [LAYER_DOWN] = WEIGHT_DOWN,
    };
    struct widths s = widths_of(c);
    int64_t D = c->hidden_size / c->num_attention_heads, out, in;
    int64_t rows_before = which == LAYER_K ? s.Q : which == LAYER_V ? s.Q + s.KV : 0;
    bool by_turns = which == LAYER_GATE || which == LAYER_UP;
    layer_shape(&s, holder[which], &out, &in);
    if (which == LAYER_UP)
        rows_before = BLOCK;
    return (struct weights_place){
        .offset = layer_offset(c, layer, holder[which]) + (size_t)(rows_before * in),
        .rows = which == LAYER_K || which == LAYER_V ? c->num_key_value_heads * D
                : by_turns                           ? c->intermediate_size
                                                     : c->hidden_size,
        .cols = which == LAYER_DOWN ? c->intermediate_size : c->hidden_size,
        .in_blocks = true,
        .step = (by_turns ? 2 : 1) * BLOCK * in,
    };
}

static struct weights_place place_norm(const struct model_config *c, int64_t norm)
{
    return (struct weights_place){.offset = norms_offset(c) +
                                            (size_t)(norm * block_up(c->hidden_size)),
                                  .rows = 1,
                                  .cols = c->hidden_size};
}

static struct weights_place place_qk_norm(const struct model_config *c, int64_t layer, int which)
{
    return (struct weights_place){.offset = norms_offset(c) +
                                            (size_t)weights_qk_norm_at(c, layer, which),
                                  .rows = 1,
                                  .cols = c->hidden_size / c->num_attention_heads};
}

struct weights_place weights_place(const struct model_config *c, size_t tensor)
{
    int64_t L = c->num_hidden_layers, i = (int64_t)tensor - 1;
    if (tensor == 0)
        return (struct weights_place){.rows = c->vocab_size, .cols = c->hidden_size};
    if (i == L * LAYER_TENSOR_COUNT)
        return place_norm(c, 2 * L);
    if (i > L * LAYER_TENSOR_COUNT + 1) {
        int64_t norm = i - L * LAYER_TENSOR_COUNT - 2;
        return place_qk_norm(c, norm / 2, (int)(norm % 2));
    }
    if (i > L * LAYER_TENSOR_COUNT)
        return (struct weights_place){.offset = head_offset(c),
                                      .rows = c->vocab_size,
                                      .cols = c->hidden_size,
                                      .in_blocks = true,
                                      .step = BLOCK * block_up(c->hidden_size)};
    int64_t layer = i / LAYER_TENSOR_COUNT;
    enum layer_tensor which = (enum layer_tensor)(i % LAYER_TENSOR_COUNT);
    if (which >= LAYER_NORM_ATTN)
        return place_norm(c, 2 * layer + (which == LAYER_NORM_MLP));
    return place_in_layer(c, layer, which);
}

/* Where columns [col, …) of a row lie, up to the end of their block. */
static size_t value_at(const struct weights_place *at, int64_t row, int64_t col)
{
    if (!at->in_blocks)
        return at->offset + (size_t)(row * at->cols + col);
    return at->offset + (size_t)(row / BLOCK * at->step + col / BLOCK * BLOCK_AREA +
                                 row % BLOCK * BLOCK + col % BLOCK);
}

static int64_t piece(const struct weights_place *at, int64_t col)
{
    int64_t left = at->cols - col;
    return at->in_blocks && left > BLOCK ? BLOCK : left;
}

void weights_get(const struct weights_place *at, const float *array, int64_t row, int64_t count,
                 float *rows)
{
    for (int64_t r = 0; r < count; r++, rows += at->cols)
        for (int64_t col = 0, n; col < at->cols; col += n) {
            n = piece(at, col);
            memcpy(rows + col, array + value_at(at, row + r, col), (size_t)n * sizeof(float));
        }
}

void weights_put(const struct weights_place *at, float *array, int64_t row, int64_t count,
                 const float *rows)
{
    for (int64_t r = 0; r < count; r++, rows += at->cols)
        for (int64_t col = 0, n; col < at->cols; col += n) {
            n = piece(at, col);
            memcpy(array + value_at(at, row + r, col), rows + col, (size_t)n * sizeof(float));
        }
}

void weights_get_all(const struct model *m, const float *array, float *params)
{
    for (size_t i = 0; i < m->tensor_count; i++) {
        struct weights_place at = weights_place(&m->config, i);
        weights_get(&at, array, 0, at.rows, params + m->tensors[i].offset);
    }
}

/* --- panels ---------------------------------------------------------------------- */

static void shape_all(struct weights *w)
{
    struct widths s = widths_of(&w->config);
    for (int64_t l = 0; l < s.L; l++)
        for (int i = 0; i < LAYER_WEIGHT_COUNT; i++) {
            struct weight *W = &w->list[l * LAYER_WEIGHT_COUNT + i];
            layer_shape(&s, (enum layer_weight)i, &W->out, &W->in);
            w->offsets[l * LAYER_WEIGHT_COUNT + i] = layer_offset(&w->config, l,
                                                                  (enum layer_weight)i);
        }
    struct weight *head = &w->list[w->count - 1];
    head->out = s.V;
    head->in = s.C;
    w->offsets[w->count - 1] = head_offset(&w->config);
}

uint64_t weights_bytes(const struct model_config *c, enum kernel_precision precision, bool backward)
{
    size_t values = norms_offset(c) - embedding_size(c);
    return (uint64_t)values * act_bytes(precision) * (backward ? 2 : 1);
}

int weights_init(struct weights *w, const struct model_config *c, enum kernel_precision precision,
                 bool backward, struct err *e)
{
    *w = (struct weights){.config = *c,
                          .precision = precision,
                          .count = LAYER_WEIGHT_COUNT * c->num_hidden_layers + 1,
                          .size = weights_size(c),
                          .norms_offset = norms_offset(c),
                          .bytes = weights_bytes(c, precision, backward)};
    char *at = w->memory = mem_map(w->bytes, "weights in panels", e);
    if (!at)
        return -1;
    w->list = mem_zalloc((size_t)w->count, sizeof(*w->list));
    w->offsets = mem_zalloc((size_t)w->count, sizeof(*w->offsets));
    shape_all(w);
    for (int64_t i = 0; i < w->count; i++) {
        struct weight *W = &w->list[i];
        size_t bytes = (size_t)(W->out * W->in) * act_bytes(precision);
        W->forward = at;
        at += bytes;
        W->backward = backward ? at : NULL;
        at += backward ? bytes : 0;
    }
    MW_ASSERT(at == (char *)w->memory + w->bytes);
    return 0;
}

void weights_release(struct weights *w)
{
    mem_unmap(w->memory, w->bytes);
    free(w->list);
    free(w->offsets);
    free(w->own_norms);
    *w = (struct weights){0};
}
