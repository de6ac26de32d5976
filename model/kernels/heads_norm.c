/*
 * RMSNorm of each query and key head (Henry et al. 2020, arXiv 2010.04245, with a learned weight
 * as in Qwen 3), in plain C: an option, and a few values a token.
 */
#include "model/kernels/profile.h"
#include "model/kernels/table.h"

#include <math.h>

static float get(enum kernel_precision p, const void *x, int64_t i)
{
    return p == KERNEL_BF16 ? bf16_value(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

static void set(enum kernel_precision p, void *x, int64_t i, float value)
{
    if (p == KERNEL_BF16)
        ((uint16_t *)x)[i] = bf16_round(value);
    else
        ((float *)x)[i] = value;
}

/* Columns of qkv: W in all; head h of H + G starts at head_column(). */
static int64_t width(const struct heads_shape *s)
{
    return block_up(s->H * s->D) + 2 * block_up(s->G * s->D);
}

static int64_t head_column(const struct heads_shape *s, int64_t h)
{
    return h < s->H ? h * s->D : block_up(s->H * s->D) + (h - s->H) * s->D;
}

static void forward_head(enum kernel_precision p, const struct heads_shape *s, void *qkv, void *raw,
                         float *rstd, const float *weight, int64_t row, int64_t h, double eps)
{
    const int64_t W = width(s), column = head_column(s, h);
    float squares = 0;
    for (int64_t d = 0; d < s->D; d++) {
        const int64_t at = block_at(row, column + d, W);
        const float x = get(p, qkv, at);
        set(p, raw, at, x);
        squares += x * x;
    }
    *rstd = 1.0f / sqrtf(squares / (float)s->D + (float)eps);
    for (int64_t d = 0; d < s->D; d++) {
        const int64_t at = block_at(row, column + d, W);
        set(p, qkv, at, get(p, raw, at) * *rstd * weight[d]);
    }
}

void heads_norm_forward(enum kernel_precision p, const struct heads_shape *s, void *qkv, void *raw,
                        float *rstd, const float *q_weight, const float *k_weight, double eps)
{
    const double t = profile_start();
    const int64_t N = s->B * block_up(s->T), heads = s->H + s->G;
#pragma omp parallel for schedule(static) num_threads(kernels_threads())
    for (int64_t row = 0; row < N; row++)
        for (int64_t h = 0; h < heads; h++)
            forward_head(p, s, qkv, raw, rstd + row * heads + h, h < s->H ? q_weight : k_weight,
                         row, h, eps);
    profile_stop(PROFILE_NORM, t, 0, 4.0 * (double)(N * heads * s->D) * (double)act_bytes(p));
}

/* With x̂ = x · rstd: dx = rstd · (dy w - x̂ · mean(dy w x̂)), dw += dy x̂. */
static void backward_head(enum kernel_precision p, const struct heads_shape *s, const void *raw,
                          float rstd, const float *weight, void *d_qkv, float *dw, int64_t row,
                          int64_t h)
{
    const int64_t W = width(s), column = head_column(s, h);
    float dot = 0;
    for (int64_t d = 0; d < s->D; d++) {
        const int64_t at = block_at(row, column + d, W);
        const float dy = get(p, d_qkv, at), normed = get(p, raw, at) * rstd;
        dot += dy * weight[d] * normed;
        dw[d] += dy * normed;
    }
    const float mean = dot / (float)s->D;
    for (int64_t d = 0; d < s->D; d++) {
        const int64_t at = block_at(row, column + d, W);
        const float dy = get(p, d_qkv, at), normed = get(p, raw, at) * rstd;
        set(p, d_qkv, at, rstd * (dy * weight[d] - normed * mean));
    }
}

void heads_norm_backward(enum kernel_precision p, const struct heads_shape *s, const void *raw,
                         const float *rstd, const float *q_weight, const float *k_weight,
                         void *d_qkv, float *dq_weight, float *dk_weight)
{
    const double t = profile_start();
    const int64_t N = s->B * block_up(s->T), heads = s->H + s->G, D = s->D;
    const int64_t rows = (N / BLOCK + NORM_BLOCKS - 1) / NORM_BLOCKS * BLOCK;
    const int64_t blocks = (N + rows - 1) / rows; /* at most NORM_BLOCKS, whatever the threads */
    float *partials = kernels_partials();         /* (blocks, 2, D) */
    memset(partials, 0, (size_t)(blocks * 2 * D) * sizeof(float));
#pragma omp parallel for schedule(static) num_threads(kernels_threads())
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t row = b * rows; row < N && row < (b + 1) * rows; row++)
            for (int64_t h = 0; h < heads; h++)
                backward_head(p, s, raw, rstd[row * heads + h], h < s->H ? q_weight : k_weight,
                              d_qkv, partials + (b * 2 + (h >= s->H)) * D, row, h);
    for (int64_t b = 0; b < blocks; b++)
        for (int64_t d = 0; d < D && dq_weight; d++) {
            dq_weight[d] += partials[b * 2 * D + d];
            dk_weight[d] += partials[(b * 2 + 1) * D + d];
        }
    profile_stop(PROFILE_NORM, t, 0, 4.0 * (double)(N * heads * D) * (double)act_bytes(p));
}
