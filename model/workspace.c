/*
 * Where activations lie. One function walks over all tensors of a workspace; it
 * runs once to count and once to hand out places, so both always agree.
 */
#include "model/workspace.h"

#include "model/arena.h"

#include <string.h>

/* Sizes of a workspace's matrices: N rows, widths in blocks. */
struct sizes {
    int64_t N, C, F, V, QKV, H, R;
    int64_t normed_heads; /* H + G with qk_norm */
    enum kernel_precision precision;
};

static int64_t rows_of(const struct workspace_options *o)
{
    return o->B * block_up(o->T);
}

static struct sizes sizes_of(const struct model_config *c, const struct workspace_options *o)
{
    int64_t D = c->hidden_size / c->num_attention_heads;
    return (struct sizes){
        .N = rows_of(o),
        .C = block_up(c->hidden_size),
        .F = block_up(c->intermediate_size),
        .V = block_up(c->vocab_size),
        .QKV = block_up(c->hidden_size) + 2 * block_up(c->num_key_value_heads * D),
        .H = c->num_attention_heads,
        .R = o->lora ? o->lora->rank : 0,
        .normed_heads = c->qk_norm ? c->num_attention_heads + c->num_key_value_heads : 0,
        .precision = o->precision};
}

static void *take_act(struct arena *a, const struct sizes *s, int64_t rows, int64_t cols)
{
    return arena_take(a, (uint64_t)rows * (uint64_t)cols, act_bytes(s->precision));
}

/* What every layer needs whatever is kept; `attention` and `mlp` say whether this layer has
 * places of its own for the two halves. */
static void place_layer(struct arena *a, struct layer_acts *acts, const struct sizes *s,
                        bool attention, bool mlp)
{
    if (attention) {
        acts->saved_in = take_act(a, s, s->N, s->C);
        acts->rstd_in = arena_floats(a, s->N, 1);
        acts->qkv = take_act(a, s, s->N, s->QKV);
        if (s->normed_heads) {
            acts->raw_qk = take_act(a, s, s->N, s->QKV);
            acts->rstd_qk = arena_floats(a, s->N, s->normed_heads);
        }
        acts->att = take_act(a, s, s->N, s->C);
        acts->lse = arena_floats(a, s->N, s->H);
        acts->saved_mid = take_act(a, s, s->N, s->C);
        acts->rstd_mid = arena_floats(a, s->N, 1);
    }
    if (mlp)
        acts->gate_up = take_act(a, s, s->N, 2 * s->F);
    if (s->R) {
        acts->low_q = arena_floats(a, s->N, s->R);
        acts->low_v = arena_floats(a, s->N, s->R);
    }
}

static void place_layers(struct arena *a, struct workspace *w, struct layer_acts *layers,
                         const struct sizes *s, int64_t L)
{
    const struct workspace_options *o = &w->options;
    for (int64_t l = 0; l < L; l++) {
        struct layer_acts *acts = &layers[l];
        if (l)
            *acts = layers[0];
        place_layer(a, acts, s, !l || (o->backward && o->recompute != RECOMPUTE_FULL),
                    !l || (o->backward && o->recompute == RECOMPUTE_NONE));
        if (o->backward && o->recompute == RECOMPUTE_FULL)
            acts->x_in = arena_floats(a, s->N, s->C);
        acts->h_mid = w->h;
        if (o->backward && o->recompute == RECOMPUTE_MLP)
            acts->h_mid = take_act(a, s, s->N, s->C);
    }
}

static void place_loss(struct arena *a, struct workspace *w, const struct sizes *s)
{
    int64_t rows = s->N < LOSS_ROWS ? s->N : LOSS_ROWS;
    if (w->options.backward)
        w->e = take_act(a, s, rows, s->V);
    w->stats.max = arena_floats(a, s->V / BLOCK, rows);
    w->stats.sum = arena_floats(a, s->V / BLOCK, rows);
    w->stats.at_target = arena_floats(a, rows, 1);
    w->targets = arena_take(a, (uint64_t)s->N, sizeof(uint32_t));
    w->losses = arena_floats(a, s->N, 1);
}

static void place_backward(struct arena *a, struct workspace *w, const struct sizes *s)
{
    w->dx = arena_floats(a, s->N, s->C);
    w->dx_act = take_act(a, s, s->N, s->C);
    w->dh = take_act(a, s, s->N, s->C);
    w->d_att = take_act(a, s, s->N, s->C);
    w->d_qkv = take_act(a, s, s->N, s->QKV);
}

static void place_lora(struct arena *a, struct workspace *w, const struct sizes *s)
{
    w->lora_h = arena_floats(a, s->N, s->C);
    w->lora_y = arena_floats(a, s->N, s->C);
    w->dropped = arena_floats(a, s->N, s->C);
    w->d_low = arena_floats(a, s->N, s->R);
}

/* Lays out a workspace; pointers into it are only good if a->base is set. */
static void place_all(struct arena *a, struct workspace *w, struct layer_acts *layers,
                      const struct model_config *c)
{
    const struct workspace_options *o = &w->options;
    struct sizes s = sizes_of(c, o);
    int64_t D = c->hidden_size / c->num_attention_heads;
    w->ids = arena_take(a, (uint64_t)s.N, sizeof(uint32_t));
    w->starts = o->mask_documents ? arena_take(a, (uint64_t)s.N, sizeof(uint32_t)) : NULL;
    w->rope_cos = arena_floats(a, o->T, D / 2);
    w->rope_sin = arena_floats(a, o->T, D / 2);
    w->x = arena_floats(a, s.N, s.C);
    w->h = take_act(a, &s, s.N, s.C);
    w->y = take_act(a, &s, s.N, s.F);
    place_layers(a, w, layers, &s, c->num_hidden_layers);
    w->saved_out = take_act(a, &s, s.N, s.C);
    w->rstd_out = arena_floats(a, s.N, 1);
    w->hidden = take_act(a, &s, s.N, s.C);
    if (o->hidden_rows)
        w->hidden_rows = arena_floats(a, s.N, s.C);
    place_loss(a, w, &s);
    if (o->backward)
        place_backward(a, w, &s);
    if (o->lora)
        place_lora(a, w, &s);
}

uint64_t workspace_bytes(const struct model_config *c, const struct workspace_options *o)
{
    struct arena a = {0};
    struct workspace w = {.options = *o, .rows = rows_of(o)};
    size_t L = (size_t)c->num_hidden_layers;
    struct layer_acts *layers = mem_zalloc(L, sizeof(*layers));
    arena_take(&a, 1, sizeof(w));
    arena_take(&a, L, sizeof(*layers));
    place_all(&a, &w, layers, c);
    free(layers);
    return a.used;
}

uint64_t workspace_reserved(const struct workspace *w)
{
    return w->bytes;
}

static int check_options(const struct model *m, const struct workspace_options *o, struct err *e)
{
    if (o->T < 1 || o->T > m->config.max_position_embeddings)
        return err_set(e, "sequences of %lld tokens do not fit max_position_embeddings %lld",
                       (long long)o->T, (long long)m->config.max_position_embeddings);
    if (o->T > HEADS_T_MAX)
        return err_set(e, "sequences of %lld tokens are longer than %d, the most attention takes",
                       (long long)o->T, HEADS_T_MAX);
    if (o->B < 1 || o->B > WORKSPACE_ROWS_MAX / block_up(o->T))
        return err_set(e,
                       "a batch of %lld sequences of %lld tokens is not between 1 and %lld tokens",
                       (long long)o->B, (long long)o->T, (long long)WORKSPACE_ROWS_MAX);
    return 0;
}

int workspace_init(struct workspace **out, const struct model *m, const struct workspace_options *o,
                   struct err *e)
{
    const struct model_config *c = &m->config;
    *out = NULL;
    if (check_options(m, o, e))
        return -1;
    uint64_t bytes = workspace_bytes(c, o);
    struct arena a = {.base = mem_map(bytes, "activations", e)};
    if (!a.base)
        return -1;
    struct workspace *w = arena_take(&a, 1, sizeof(*w));
    w->options = *o;
    w->bytes = bytes;
    w->rows = rows_of(o);
    w->layers = arena_take(&a, (uint64_t)c->num_hidden_layers, sizeof(*w->layers));
    place_all(&a, w, w->layers, c);
    MW_ASSERT(a.used == bytes);
    rope_table(w->rope_cos, w->rope_sin, o->T, c->hidden_size / c->num_attention_heads,
               c->rope_theta);
    w->weights = o->weights;
    if (!w->weights && weights_init(&w->own, c, o->precision, o->backward, e)) {
        workspace_free(w);
        return -1;
    }
    workspace_params_changed(w, m);
    *out = w;
    return 0;
}

void workspace_free(struct workspace *w)
{
    if (!w)
        return;
    weights_release(&w->own);
    mem_unmap(w, w->bytes);
}

void workspace_params_changed(struct workspace *w, const struct model *m)
{
    if (w->options.weights)
        return; /* whoever owns them keeps them right */
    weights_from_model(&w->own, m);
    w->weights = &w->own;
}
