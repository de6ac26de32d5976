/*
 * Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) on q_proj and v_proj:
 *
 *     y = W h + scale * B A dropout(h)
 *
 * Placement, initialisation and scale as in PEFT's defaults for Llama
 * (evaluation.md §5.3). A dropout mask is never stored: element i is kept if a hash
 * of (key, i) says so, so any thread finds any part of the mask again.
 */
#include "model/layers.h"
#include "model/workspace.h"

#include <math.h>
#include <string.h>

/* Floats of one adapter and of both adapters of a layer. */
static int64_t adapter_size(const struct model_config *c, int64_t R, enum lora_target target)
{
    int64_t C = c->hidden_size, KV = C / c->num_attention_heads * c->num_key_value_heads;
    return R * C + (target == LORA_Q ? C : KV) * R;
}

/* Where A (R, C) of an adapter begins in params or in gradients; B (out, R) follows it. */
static int64_t adapter_offset(const struct model_config *c, int64_t R, int64_t layer,
                              enum lora_target target)
{
    int64_t both = adapter_size(c, R, LORA_Q) + adapter_size(c, R, LORA_V);
    return layer * both + (target == LORA_V ? adapter_size(c, R, LORA_Q) : 0);
}

int lora_init(struct lora *l, const struct model_config *c, int64_t rank, double alpha,
              double dropout, uint64_t seed, struct err *e)
{
    memset(l, 0, sizeof(*l));
    if (rank < 1 || rank > c->hidden_size)
        return err_set(e, "lora rank %lld is not between 1 and hidden_size %lld", (long long)rank,
                       (long long)c->hidden_size);
    if (!(dropout >= 0 && dropout < 1))
        return err_set(e, "lora dropout %g is not in [0, 1)", dropout);
    int64_t C = c->hidden_size;
    l->rank = rank;
    l->scale = alpha / (double)rank;
    l->dropout = dropout;
    l->param_count = (size_t)adapter_offset(c, rank, c->num_hidden_layers, LORA_Q);
    l->params = mem_map(l->param_count * sizeof(float), "lora adapters", e);
    if (!l->params)
        return -1;
    /* Kaiming-uniform with a = √5 is U(-b, b), b = sqrt(6 / ((1 + a²) fan_in)) = 1 / sqrt(C).
     * B stays zero: an adapter begins as no change. */
    double bound = 1 / sqrt((double)C);
    for (int64_t i = 0; i < 2 * c->num_hidden_layers; i++) {
        enum lora_target target = i % 2 ? LORA_V : LORA_Q;
        float *A = l->params + adapter_offset(c, rank, i / 2, target);
        struct rng rng;
        rng_init(&rng, seed, (uint64_t)1 << 48 | (uint64_t)i); /* apart from callers' streams */
        for (int64_t j = 0; j < rank * C; j++)
            A[j] = (float)(bound * (2 * rng_f64(&rng) - 1));
    }
    return 0;
}

void lora_release(struct lora *l)
{
    mem_unmap(l->params, l->param_count * sizeof(float));
    memset(l, 0, sizeof(*l));
}

/* out = in * mask / (1 - p), (N, C); out may be in. */
static void apply_mask(const struct workspace *w, uint64_t key, const float *in, float *out,
                       int64_t N, int64_t C)
{
    double p = w->options.lora->dropout;
    uint64_t threshold = (uint64_t)ldexp(p, 53);
    float inverse = (float)(1 / (1 - p));
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = n * C; i < (n + 1) * C; i++)
            out[i] = rng_mix(key, (uint64_t)i) >> 11 >= threshold ? in[i] * inverse : 0;
}

static void scale_rows(float *x, int64_t n, float scale)
{
    for (int64_t i = 0; i < n; i++)
        x[i] *= scale;
}

/* Columns [first, first + cols) of a matrix in blocks of `width` columns, and rows of floats. */
struct columns {
    void *act;
    enum kernel_precision precision;
    int64_t width, first, cols;
};

static void columns_get(const struct columns *c, float *rows, int64_t N)
{
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < c->cols; i++) {
            int64_t at = block_at(n, c->first + i, c->width);
            rows[n * c->cols + i] = c->precision == KERNEL_BF16
                                        ? bf16_value(((const uint16_t *)c->act)[at])
                                        : ((const float *)c->act)[at];
        }
}

static void columns_add(const struct columns *c, const float *rows, int64_t N)
{
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < N; n++)
        for (int64_t i = 0; i < c->cols; i++) {
            int64_t at = block_at(n, c->first + i, c->width);
            if (c->precision == KERNEL_BF16) {
                uint16_t *x = (uint16_t *)c->act + at;
                *x = bf16_round(bf16_value(*x) + rows[n * c->cols + i]);
            } else
                ((float *)c->act)[at] += rows[n * c->cols + i];
        }
}

/* One adapter of one layer, as its two functions see it. */
struct adapter {
    int64_t offset;     /* of A in params and gradients */
    const float *A, *B; /* (R, C), (out, R) */
    int64_t out, R, C, N;
    float *low;    /* (N, R) scale * dropout(h) Aᵀ, kept */
    uint64_t key;  /* of its mask */
    int64_t first; /* its column in qkv */
    enum kernel_precision precision;
};

static struct adapter adapter_get(const struct model *m, const struct workspace *w, int64_t layer,
                                  enum lora_target target)
{
    const struct lora *lora = w->options.lora;
    const struct layer_acts *acts = &w->layers[layer];
    const struct weight *W = weights_layer(w->weights, layer, WEIGHT_QKV);
    struct adapter a = {.R = lora->rank,
                        .C = m->config.hidden_size,
                        .N = workspace_rows(w),
                        .precision = w->options.precision};
    a.out = tensor_layer(m, layer, target == LORA_Q ? LAYER_Q : LAYER_V)->rows;
    a.offset = adapter_offset(&m->config, a.R, layer, target);
    a.A = lora->params + a.offset;
    a.B = a.A + a.R * a.C;
    a.low = target == LORA_Q ? acts->low_q : acts->low_v;
    a.key = target == LORA_Q ? acts->key_q : acts->key_v;
    a.first = target == LORA_Q ? 0 : W->out - block_up(a.out);
    return a;
}

static struct columns columns_of(const struct adapter *a, const struct weight *qkv, void *act)
{
    return (struct columns){.act = act,
                            .precision = a->precision,
                            .width = qkv->out,
                            .first = a->first,
                            .cols = a->out};
}

/* The input of A: h, masked while training. */
static const float *adapter_input(struct workspace *w, const struct adapter *a)
{
    if (!w->dropout)
        return w->lora_h;
    apply_mask(w, a->key, w->lora_h, w->dropped, a->N, a->C);
    return w->dropped;
}

void lora_forward(const struct model *m, struct workspace *w, int64_t layer, const void *h)
{
    const struct weight *qkv = weights_layer(w->weights, layer, WEIGHT_QKV);
    blocks_to_rows(w->options.precision, h, w->lora_h, m->config.hidden_size, workspace_rows(w),
                   m->config.hidden_size);
    for (int target = LORA_Q; target <= LORA_V; target++) {
        struct adapter a = adapter_get(m, w, layer, (enum lora_target)target);
        struct columns y = columns_of(&a, qkv, w->layers[layer].qkv);
        const float *input = adapter_input(w, &a);
        gemm(GEMM_NT, a.precision, a.N, a.R, a.C, input, a.C, a.A, a.C, a.low, a.R, false);
        scale_rows(a.low, a.N * a.R, (float)w->options.lora->scale);
        gemm(GEMM_NT, a.precision, a.N, a.out, a.R, a.low, a.R, a.B, a.R, w->lora_y, a.out, false);
        columns_add(&y, w->lora_y, a.N);
    }
}

static void adapter_backward(struct workspace *w, const struct adapter *a, struct columns *d_y,
                             struct columns *dh, float *lora_grads)
{
    const float *dy = w->lora_y;
    float *d_low = w->d_low; /* (N, R) gradient of dropout(h) Aᵀ */
    columns_get(d_y, w->lora_y, a->N);
    gemm(GEMM_NN, a->precision, a->N, a->R, a->out, dy, a->out, a->B, a->R, d_low, a->R, false);
    scale_rows(d_low, a->N * a->R, (float)w->options.lora->scale);
    if (lora_grads) {
        float *dA = lora_grads + a->offset, *dB = dA + a->R * a->C;
        const float *h = adapter_input(w, a);
        gemm(GEMM_TN, a->precision, a->out, a->R, a->N, dy, a->out, a->low, a->R, dB, a->R, true);
        gemm(GEMM_TN, a->precision, a->R, a->C, a->N, d_low, a->R, h, a->C, dA, a->C, true);
    }
    if (!dh->act)
        return;
    gemm(GEMM_NN, a->precision, a->N, a->C, a->R, d_low, a->R, a->A, a->C, w->dropped, a->C, false);
    if (w->dropout)
        apply_mask(w, a->key, w->dropped, w->dropped, a->N, a->C);
    columns_add(dh, w->dropped, a->N);
}

void lora_backward(const struct model *m, struct workspace *w, int64_t layer, const void *h,
                   void *dh, float *lora_grads)
{
    const struct weight *qkv = weights_layer(w->weights, layer, WEIGHT_QKV);
    int64_t C = m->config.hidden_size;
    blocks_to_rows(w->options.precision, h, w->lora_h, C, workspace_rows(w), C);
    struct columns to = {
        .act = dh, .precision = w->options.precision, .width = block_up(C), .cols = C};
    for (int target = LORA_Q; target <= LORA_V; target++) {
        struct adapter a = adapter_get(m, w, layer, (enum lora_target)target);
        struct columns d_y = columns_of(&a, qkv, w->d_qkv);
        adapter_backward(w, &a, &d_y, &to, lora_grads);
    }
}
