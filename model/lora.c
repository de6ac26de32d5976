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

/* One adapter of one layer, as its two functions see it. */
struct adapter {
    int64_t offset;     /* of A in params and gradients */
    const float *A, *B; /* (R, C), (out, R) */
    int64_t out, R, C, N;
    float *low;   /* (N, R) scale * dropout(h) Aᵀ, kept */
    uint64_t key; /* of its mask */
    enum kernel_precision precision;
};

static struct adapter adapter_get(const struct model *m, const struct workspace *w, int64_t layer,
                                  enum lora_target target)
{
    const struct lora *lora = w->options.lora;
    const struct layer_acts *acts = &w->layers[layer];
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
    return a;
}

void lora_forward(const struct model *m, struct workspace *w, int64_t layer,
                  enum lora_target target, const float *h, float *y)
{
    struct adapter a = adapter_get(m, w, layer, target);
    if (w->dropout) {
        apply_mask(w, a.key, h, w->dropped, a.N, a.C);
        h = w->dropped;
    }
    gemm(GEMM_NT, a.precision, a.N, a.R, a.C, h, a.C, a.A, a.C, a.low, a.R, false);
    scale_rows(a.low, a.N * a.R, (float)w->options.lora->scale);
    gemm(GEMM_NT, a.precision, a.N, a.out, a.R, a.low, a.R, a.B, a.R, y, a.out, true);
}

void lora_backward(const struct model *m, struct workspace *w, int64_t layer,
                   enum lora_target target, const float *h, const float *dy, float *dh,
                   float *lora_grads)
{
    struct adapter a = adapter_get(m, w, layer, target);
    float *d_low = w->d_low; /* (N, R) gradient of dropout(h) Aᵀ */
    gemm(GEMM_NN, a.precision, a.N, a.R, a.out, dy, a.out, a.B, a.R, d_low, a.R, false);
    scale_rows(d_low, a.N * a.R, (float)w->options.lora->scale);
    if (lora_grads) {
        float *dA = lora_grads + a.offset, *dB = dA + a.R * a.C;
        if (w->dropout) {
            apply_mask(w, a.key, h, w->dropped, a.N, a.C);
            h = w->dropped;
        }
        gemm(GEMM_TN, a.precision, a.out, a.R, a.N, dy, a.out, a.low, a.R, dB, a.R, true);
        gemm(GEMM_TN, a.precision, a.R, a.C, a.N, d_low, a.R, h, a.C, dA, a.C, true);
    }
    if (dh && w->dropout) {
        gemm(GEMM_NN, a.precision, a.N, a.C, a.R, d_low, a.R, a.A, a.C, w->dropped, a.C, false);
        apply_mask(w, a.key, w->dropped, w->dropped, a.N, a.C);
        vector_add(dh, w->dropped, a.N * a.C);
    } else if (dh)
        gemm(GEMM_NN, a.precision, a.N, a.C, a.R, d_low, a.R, a.A, a.C, dh, a.C, true);
}
