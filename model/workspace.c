/*
 * Where activations lie. One function walks over all tensors of a workspace; it
 * runs once to count and once to hand out places, so both always agree.
 */
#include "model/workspace.h"

#include "model/arena.h"

/* x_in, x_mid and x_out are set by place_residual(). */
static void place_layer(struct arena *a, struct layer_acts *acts, const struct model_config *c,
                        const struct workspace_options *o)
{
    int64_t N = o->B * o->T, C = c->hidden_size, F = c->intermediate_size;
    int64_t H = c->num_attention_heads, KV = C / H * c->num_key_value_heads; /* G*D */
    acts->q = arena_floats(a, N, C);
    acts->k = arena_floats(a, N, KV);
    acts->v = arena_floats(a, N, KV);
    acts->att = arena_floats(a, N, C);
    acts->lse = arena_floats(a, N, H);
    acts->gate = arena_floats(a, N, F);
    acts->up = arena_floats(a, N, F);
    if (o->lora) {
        acts->low_q = arena_floats(a, N, o->lora->rank);
        acts->low_v = arena_floats(a, N, o->lora->rank);
    }
}

/* The residual stream at 2 L + 1 places, or at one that is overwritten again and again. */
static void place_residual(struct arena *a, struct workspace *w, struct layer_acts *layers,
                           int64_t L, int64_t N, int64_t C)
{
    float *x = arena_floats(a, N, C);
    for (int64_t l = 0; l < L; l++) {
        layers[l].x_in = x;
        layers[l].x_mid = x = w->options.backward ? arena_floats(a, N, C) : x;
        x = w->options.backward ? arena_floats(a, N, C) : x;
    }
    w->x_out = x;
}

static void place_backward(struct arena *a, struct workspace *w, const struct model_config *c)
{
    const struct workspace_options *o = &w->options;
    int64_t N = w->rows, C = c->hidden_size, F = c->intermediate_size;
    int64_t KV = C / c->num_attention_heads * c->num_key_value_heads; /* G*D */
    w->d_hidden = arena_floats(a, N, C);
    w->dx = arena_floats(a, N, C);
    w->dh = arena_floats(a, N, C);
    w->d_act = arena_floats(a, N, F);
    w->d_up = arena_floats(a, N, F);
    w->dq = arena_floats(a, N, C);
    w->dk = arena_floats(a, N, KV);
    w->dv = arena_floats(a, N, KV);
    if (o->lora)
        w->d_low = arena_floats(a, N, o->lora->rank);
}

/* Lays out a workspace; pointers into it are only good if a->base is set. */
static void place_all(struct arena *a, struct workspace *w, struct layer_acts *layers,
                      const struct model_config *c)
{
    const struct workspace_options *o = &w->options;
    int64_t N = w->rows, C = c->hidden_size, L = c->num_hidden_layers;
    int64_t D = C / c->num_attention_heads;
    w->tokens = arena_take(a, (uint64_t)N, sizeof(uint32_t));
    w->rope_cos = arena_floats(a, o->T, D / 2);
    w->rope_sin = arena_floats(a, o->T, D / 2);
    place_residual(a, w, layers, L, N, C);
    for (int64_t l = 0; l < L; l++) {
        if (l == 0 || o->backward)
            place_layer(a, &layers[l], c, o);
        else
            layers[l] = layers[0];
    }
    w->hidden = arena_floats(a, N, C);
    w->h = arena_floats(a, N, C);
    w->rstd = arena_floats(a, N, 1);
    w->act = arena_floats(a, N, c->intermediate_size);
    w->logits = arena_floats(a, N < LOSS_ROWS ? N : LOSS_ROWS, c->vocab_size);
    if (o->lora)
        w->dropped = arena_floats(a, N, C);
    if (o->backward)
        place_backward(a, w, c);
}

uint64_t workspace_bytes(const struct model_config *c, const struct workspace_options *o)
{
    struct arena a = {0};
    struct workspace w = {.options = *o, .rows = o->B * o->T};
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

int workspace_init(struct workspace **out, const struct model *m, const struct workspace_options *o,
                   struct err *e)
{
    const struct model_config *c = &m->config;
    *out = NULL;
    if (o->T < 1 || o->T > c->max_position_embeddings)
        return err_set(e, "sequences of %lld tokens do not fit max_position_embeddings %lld",
                       (long long)o->T, (long long)c->max_position_embeddings);
    if (o->B < 1 || o->B > WORKSPACE_ROWS_MAX / o->T)
        return err_set(e,
                       "a batch of %lld sequences of %lld tokens is not between 1 and %lld tokens",
                       (long long)o->B, (long long)o->T, (long long)WORKSPACE_ROWS_MAX);
    uint64_t bytes = workspace_bytes(c, o);
    struct arena a = {.base = mem_map(bytes, "activations", e)};
    if (!a.base)
        return -1;
    struct workspace *w = arena_take(&a, 1, sizeof(*w));
    w->options = *o;
    w->bytes = bytes;
    w->rows = o->B * o->T;
    w->layers = arena_take(&a, (uint64_t)c->num_hidden_layers, sizeof(*w->layers));
    place_all(&a, w, w->layers, c);
    MW_ASSERT(a.used == bytes);
    rope_table(w->rope_cos, w->rope_sin, o->T, c->hidden_size / c->num_attention_heads,
               c->rope_theta);
    *out = w;
    return 0;
}

void workspace_free(struct workspace *w)
{
    if (w)
        mem_unmap(w, w->bytes);
}

void workspace_params_changed(struct workspace *w)
{
    /* gemm() reads the fp32 masters at every call: nothing is kept yet that could be stale. */
    MW_ASSERT(w);
}

void project_forward(const struct workspace *w, const struct model_tensor *W, const float *x,
                     float *y, bool add)
{
    gemm(GEMM_NT, w->options.precision, workspace_rows(w), W->rows, W->cols, x, W->cols, W->data,
         W->cols, y, W->rows, add);
}

void project_backward(const struct workspace *w, const struct model_tensor *W, const float *dy,
                      float *dx, bool add)
{
    gemm(GEMM_NN, w->options.precision, workspace_rows(w), W->cols, W->rows, dy, W->rows, W->data,
         W->cols, dx, W->cols, add);
}

void project_gradient(const struct workspace *w, const struct model_tensor *W, const float *dy,
                      const float *x, float *grads)
{
    if (grads)
        gemm(GEMM_TN, w->options.precision, W->rows, W->cols, workspace_rows(w), dy, W->rows, x,
             W->cols, grads + W->offset, W->cols, true);
}
