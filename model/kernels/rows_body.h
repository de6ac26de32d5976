/*
 * Norms, rotation, activation, loss and optimiser for one CPU level: serial, a run of rows or
 * values a call. The including file defines LANES. Sums go lane by lane over a row and
 * then through the fixed tree of vf_sum().
 */
#include "model/kernels/simd.h"
#include "model/kernels/table.h"

#include <math.h>

/* The loop every elementwise kernel has: whole vectors, then a partial one. */
#define FOR_VECTORS(i, n)                                                                          \
    for (int64_t i = 0, lanes = LANES; i < (n) && (lanes = (n)-i < LANES ? (n)-i : LANES);         \
         i += LANES)

INLINE vf load(const float *p, int64_t lanes)
{
    return lanes == LANES ? vf_load(p) : vf_load_n(p, lanes);
}

INLINE void store(float *p, vf x, int64_t lanes)
{
    if (lanes == LANES)
        vf_store(p, x);
    else
        vf_store_n(p, x, lanes);
}

static void rmsnorm_forward_rows(const float *x, const float *w, float *y, float *rstd, int64_t n,
                                 int64_t C, float eps)
{
    for (int64_t row = 0; row < n; row++, x += C, y += C) {
        vf squares = {0};
        FOR_VECTORS(i, C)
        {
            vf xi = load(x + i, lanes);
            squares = vf_fma(xi, xi, squares);
        }
        float r = 1.0f / sqrtf(vf_sum(squares) / (float)C + eps);
        rstd[row] = r;
        FOR_VECTORS(i, C)
        store(y + i, load(x + i, lanes) * r * load(w + i, lanes), lanes);
    }
}

static void rope_position(float *x, const float *cosine, const float *sine, int64_t heads,
                          int64_t D, bool inverse)
{
    for (int64_t h = 0; h < heads; h++, x += D) {
        float *low = x, *high = x + D / 2;
        FOR_VECTORS(i, D / 2)
        {
            vf a = load(low + i, lanes), b = load(high + i, lanes);
            vf c = load(cosine + i, lanes), s = load(sine + i, lanes);
            s = inverse ? -s : s;
            store(low + i, a * c - b * s, lanes);
            store(high + i, b * c + a * s, lanes);
        }
    }
}

static void swiglu_forward_run(const float *gate, const float *up, float *y, int64_t n)
{
    FOR_VECTORS(i, n)
    {
        vf g = load(gate + i, lanes);
        store(y + i, g / (1.0f + vf_exp(-g)) * load(up + i, lanes), lanes);
    }
}

static void vector_add_run(float *x, const float *y, int64_t n)
{
    FOR_VECTORS(i, n)
    store(x + i, load(x + i, lanes) + load(y + i, lanes), lanes);
}

static void adamw_values(float *p, const float *g, float *m, float *v, int64_t n,
                         const struct adamw_constants *k)
{
    const float rest1 = 1.0f - k->beta1, rest2 = 1.0f - k->beta2;
    const float mean_scale = 1.0f / k->c1, square_scale = 1.0f / k->c2;
    FOR_VECTORS(i, n)
    {
        vf gi = load(g + i, lanes) * k->grad_scale;
        vf mi = vf_fma(load(m + i, lanes), vf_set(k->beta1), gi * rest1);
        vf vv = vf_fma(load(v + i, lanes), vf_set(k->beta2), gi * gi * rest2);
        vf pi = load(p + i, lanes);
        vf step = mi * mean_scale / (vf_sqrt(vv * square_scale) + k->eps);
        store(m + i, mi, lanes);
        store(v + i, vv, lanes);
        store(p + i, pi - k->lr * vf_fma(pi, vf_set(k->weight_decay), step), lanes);
    }
}

/* Sixteen sums in double whatever the level, so that all levels agree to the bit. A vector of
 * doubles takes half as many values as one of floats. */
static double sum_squares_run(const float *x, int64_t n)
{
    typedef double vd __attribute__((vector_size(LANES * 4)));
    typedef float half __attribute__((vector_size(LANES * 2), aligned(4), may_alias));
    enum { SUMS = 16, WIDTH = LANES / 2, PARTS = SUMS / WIDTH, AHEAD = 4096 };
    vd sum[PARTS];
    for (int j = 0; j < PARTS; j++)
        sum[j] = (vd){0};
    int64_t i = 0;
    for (; i + SUMS <= n; i += SUMS) {
        __builtin_prefetch(x + i + AHEAD);
        for (int j = 0; j < PARTS; j++) {
            vd d = __builtin_convertvector(*(const half *)(x + i + j * WIDTH), vd);
            sum[j] += d * d;
        }
    }
    double t[SUMS];
    for (int j = 0; j < SUMS; j++)
        t[j] = sum[j / WIDTH][j % WIDTH];
    for (; i < n; i++)
        t[i % SUMS] += (double)x[i] * (double)x[i];
    for (int w = SUMS / 2; w > 0; w /= 2)
        for (int j = 0; j < w; j++)
            t[j] += t[j + w];
    return t[0];
}

static void rows_fill(struct kernels *k)
{
    k->rmsnorm_forward = rmsnorm_forward_rows;
    k->rope = rope_position;
    k->swiglu_forward = swiglu_forward_run;
    k->vector_add = vector_add_run;
    k->adamw = adamw_values;
    k->sum_squares = sum_squares_run;
}
