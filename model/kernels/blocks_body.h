/*
 * Norms, rotation, softmax and embedding for one CPU level: serial, one block row (32 rows of a
 * matrix in blocks, contiguous memory) a call. The including file defines LANES. Loops go block
 * by block and row by row within it, as memory does. Sums over a row go lane by lane from left
 * to right and then through a fixed tree.
 */
#include "model/kernels/act.h"
#include "model/kernels/table.h"

#include <math.h>

enum { PARTS = BLOCK / LANES }; /* vectors that make a row of a block */

/* The first `count` of 32 floats, which may be fewer or more; zeros after them. */
INLINE void load_part(vf part[PARTS], const float *p, int64_t count)
{
    for (int k = 0; k < PARTS; k++) {
        int64_t lanes = count - k * LANES;
        if (lanes >= LANES)
            part[k] = vf_load(p + k * LANES);
        else
            part[k] = lanes > 0 ? vf_load_n(p + k * LANES, lanes) : (vf){0};
    }
}

INLINE void store_part(float *p, const vf part[PARTS], int64_t count)
{
    for (int k = 0; k < PARTS; k++) {
        int64_t lanes = count - k * LANES;
        if (lanes >= LANES)
            vf_store(p + k * LANES, part[k]);
        else if (lanes > 0)
            vf_store_n(p + k * LANES, part[k], lanes);
    }
}

/* sums[r] = sum of the lanes of x[r], halves onto halves. Destroys x. */
INLINE void sum_rows(vf x[BLOCK], float sums[BLOCK])
{
    for (int r = 0; r < BLOCK; r += LANES) {
        vf_transpose(x + r);
        for (int w = LANES / 2; w > 0; w /= 2)
            for (int i = 0; i < w; i++)
                x[r + i] += x[r + i + w];
        vf_store(sums + r, x[r]);
    }
}

/* --- norm --------------------------------------------------------------------------------- */

/* h = x * rstd * w, x being the residual stream or, with from_act, what was saved of it. */
INLINE void norm_scale(enum kernel_precision p, bool from_act, const void *x, const float *w,
                       const float *rstd, void *h, int64_t C)
{
    for (int64_t col = 0; col < C; col += BLOCK) {
        vf weights[PARTS];
        load_part(weights, w + col, C - col);
        for (int64_t r = 0; r < BLOCK; r++)
            for (int k = 0; k < PARTS; k += 2) {
                int64_t i = (col + r) * BLOCK + k * LANES;
                enum kernel_precision from = from_act ? p : KERNEL_FP32;
                vf a = act_load(from, x, i), b = act_load(from, x, i + LANES);
                act_store_pair(p, h, i, a * rstd[r] * weights[k], b * rstd[r] * weights[k + 1]);
            }
    }
}

INLINE void norm_forward_body(enum kernel_precision p, const float *x, const float *w, void *h,
                              void *saved, float *rstd, int64_t C, float eps)
{
    vf squares[BLOCK];
    memset(squares, 0, sizeof(squares));
    for (int64_t i = 0; i < block_up(C) * BLOCK; i += BLOCK) {
        vf sum = squares[i / BLOCK % BLOCK];
        for (int k = 0; k < BLOCK; k += 2 * LANES) {
            vf a = vf_load(x + i + k), b = vf_load(x + i + k + LANES);
            sum = vf_fma(b, b, vf_fma(a, a, sum));
            if (saved) /* for the backward pass, much later */
                act_stream_pair(p, saved, i + k, a, b);
        }
        squares[i / BLOCK % BLOCK] = sum;
    }
    sum_rows(squares, rstd);
    for (int r = 0; r < BLOCK; r += LANES)
        vf_store(rstd + r, 1.0f / vf_sqrt(vf_load(rstd + r) / (float)C + eps));
    norm_scale(p, false, x, w, rstd, h, C);
    simd_fence();
}

static void norm_forward_row(enum kernel_precision p, const float *x, const float *w, void *h,
                             void *saved, float *rstd, int64_t C, float eps)
{
    SPECIALISE(p, norm_forward_body, x, w, h, saved, rstd, C, eps);
}

static void norm_again_row(enum kernel_precision p, const void *saved, const float *w,
                           const float *rstd, void *h, int64_t C)
{
    SPECIALISE(p, norm_scale, true, saved, w, rstd, h, C);
}

/* means[r] = rstd² / C · Σ dh w x, so that x · rstd · mean is what the norm takes away. */
INLINE void norm_means(enum kernel_precision p, const struct norm_gradient *g, float means[BLOCK])
{
    vf dots[BLOCK];
    memset(dots, 0, sizeof(dots));
    for (int64_t col = 0; col < g->C; col += BLOCK) {
        vf weights[PARTS];
        load_part(weights, g->w + col, g->C - col);
        for (int64_t r = 0; r < BLOCK; r++)
            for (int k = 0; k < PARTS; k++) {
                int64_t i = (col + r) * BLOCK + k * LANES;
                dots[r] = vf_fma(act_load(p, g->dh, i) * weights[k], act_load(p, g->saved, i),
                                 dots[r]);
            }
    }
    sum_rows(dots, means);
    for (int r = 0; r < BLOCK; r++)
        means[r] *= g->rstd[r] * g->rstd[r] / (float)g->C;
}

/* With x̂ = x · rstd: dx = rstd · (dh w - x̂ · mean(dh w x̂)), dw = Σ dh x̂. Here for LANES
 * values from i on; returns their dx. */
INLINE vf norm_slope(enum kernel_precision p, const struct norm_gradient *g, int64_t i, float rstd,
                     float mean, vf weights, vf *dw)
{
    vf dh = act_load(p, g->dh, i), normed = act_load(p, g->saved, i) * rstd;
    *dw = vf_fma(dh, normed, *dw);
    vf dx = vf_fma(dh * rstd, weights, normed * -mean);
    if (g->add)
        dx += vf_load(g->dx + i);
    vf_store(g->dx + i, dx);
    return dx;
}

INLINE void norm_backward_body(enum kernel_precision p, const struct norm_gradient *g)
{
    float means[BLOCK];
    norm_means(p, g, means);
    for (int64_t col = 0; col < g->C; col += BLOCK) {
        vf weights[PARTS], dw[PARTS] = {{0}};
        load_part(weights, g->w + col, g->C - col);
        for (int64_t r = 0; r < BLOCK; r++)
            for (int k = 0; k < PARTS; k += 2) {
                int64_t i = (col + r) * BLOCK + k * LANES;
                vf a = norm_slope(p, g, i, g->rstd[r], means[r], weights[k], &dw[k]);
                vf b = norm_slope(p, g, i + LANES, g->rstd[r], means[r], weights[k + 1],
                                  &dw[k + 1]);
                if (g->dx_act)
                    act_store_pair(p, g->dx_act, i, a, b);
            }
        for (int k = 0; g->dw && k < PARTS; k++)
            vf_store(g->dw + col + k * LANES, vf_load(g->dw + col + k * LANES) + dw[k]);
    }
}

static void norm_backward_row(enum kernel_precision p, const struct norm_gradient *g)
{
    SPECIALISE(p, norm_backward_body, g);
}

/* --- rotation ----------------------------------------------------------------------------- */

/* Where column `col` of a block row's first row lies. */
INLINE int64_t column_at(int64_t col)
{
    return col / BLOCK * BLOCK_AREA + col % BLOCK;
}

/* The values at `low` and at `high` become low * c - high * s and high * c + low * s, for `vectors`
 * (1 or 2) vectors of columns; sign = that of s. */
INLINE void rotate_vectors(enum kernel_precision p, int vectors, void *x, int64_t low, int64_t high,
                           const float *cosine, const float *sine, int64_t rows, int64_t D,
                           float sign)
{
    for (int64_t r = 0; r < rows; r++, low += BLOCK, high += BLOCK) {
        vf a[2], b[2];
        for (int k = 0; k < vectors; k++) {
            vf u = act_load(p, x, low + k * LANES), v = act_load(p, x, high + k * LANES);
            vf c = vf_load(cosine + r * (D / 2) + k * LANES);
            vf s = vf_load(sine + r * (D / 2) + k * LANES) * sign;
            a[k] = vf_fma(u, c, v * -s);
            b[k] = vf_fma(v, c, u * s);
        }
        if (vectors == 2) {
            act_store_pair(p, x, low, a[0], a[1]);
            act_store_pair(p, x, high, b[0], b[1]);
        } else {
            act_store(p, x, low, a[0]);
            act_store(p, x, high, b[0]);
        }
    }
}

INLINE void rotate_values(enum kernel_precision p, void *x, int64_t low, int64_t high,
                          const float *cosine, const float *sine, int64_t rows, int64_t D,
                          float sign)
{
    for (int64_t r = 0; r < rows; r++, low += BLOCK, high += BLOCK) {
        float u = act_get(p, x, low), v = act_get(p, x, high);
        float c = cosine[r * (D / 2)], s = sine[r * (D / 2)] * sign;
        act_set(p, x, low, u * c - v * s);
        act_set(p, x, high, v * c + u * s);
    }
}

INLINE void rotate_body(enum kernel_precision p, void *x, const float *cosine, const float *sine,
                        int64_t rows, int64_t heads, int64_t D, bool inverse)
{
    /* The most columns at a time that never reach over the edge of a block. */
    int64_t half = D / 2, step = half % (2 * LANES) == 0 ? 2 * LANES : half % LANES ? 1 : LANES;
    float sign = inverse ? -1.0f : 1.0f;
    for (int64_t h = 0; h < heads; h++)
        for (int64_t i = 0; i < half; i += step) {
            int64_t low = column_at(h * D + i), high = column_at(h * D + half + i);
            const float *c = cosine + i, *s = sine + i;
            if (step == 2 * LANES)
                rotate_vectors(p, 2, x, low, high, c, s, rows, D, sign);
            else if (step == LANES)
                rotate_vectors(p, 1, x, low, high, c, s, rows, D, sign);
            else
                rotate_values(p, x, low, high, c, s, rows, D, sign);
        }
}

static void rotate_row(enum kernel_precision p, void *x, const float *cosine, const float *sine,
                       int64_t rows, int64_t heads, int64_t D, bool inverse)
{
    SPECIALISE(p, rotate_body, x, cosine, sine, rows, heads, D, inverse);
}

/* --- softmax ------------------------------------------------------------------------------ */

/* The maximum of each row's logits and its sum of exp(l - maximum), over all block columns. */
INLINE void softmax_sums(const struct softmax_row *s, float high[BLOCK], float total[BLOCK])
{
    const float *max = s->stats->max + s->first, *sum = s->stats->sum + s->first;
    vf highest[PARTS], sums[PARTS] = {{0}};
    for (int k = 0; k < PARTS; k++)
        highest[k] = vf_set(-INFINITY);
    for (int64_t j = 0; j < s->out / BLOCK; j++)
        for (int k = 0; k < PARTS; k++)
            highest[k] = vf_max(highest[k], vf_load(max + j * s->n + k * LANES));
    for (int64_t j = 0; j < s->out / BLOCK; j++)
        for (int k = 0; k < PARTS; k++) {
            int64_t i = j * s->n + k * LANES;
            sums[k] = vf_fma(vf_load(sum + i), vf_exp(vf_load(max + i) - highest[k]), sums[k]);
        }
    store_part(high, highest, BLOCK);
    store_part(total, sums, BLOCK);
}

/* e of the block row, in all block columns, times gain · exp(max - high). */
INLINE void softmax_scale(enum kernel_precision p, const struct softmax_row *s,
                          const float high[BLOCK], const float gain[BLOCK])
{
    void *e = s->e;
    for (int64_t j = 0; j < s->out / BLOCK; j++) {
        const float *max = s->stats->max + j * s->n + s->first;
        float factor[BLOCK];
        for (int r = 0; r < BLOCK; r += LANES)
            vf_store(factor + r, vf_exp(vf_load(max + r) - vf_load(high + r)) * vf_load(gain + r));
        for (int64_t r = 0; r < BLOCK; r++)
            for (int k = 0; k < BLOCK; k += 2 * LANES) {
                int64_t i = j * BLOCK_AREA + r * BLOCK + k;
                vf a = act_load(p, e, i), b = act_load(p, e, i + LANES);
                act_store_pair(p, e, i, a * factor[r], b * factor[r]);
            }
    }
}

INLINE void softmax_body(enum kernel_precision p, const struct softmax_row *s)
{
    float high[BLOCK], total[BLOCK], gain[BLOCK] = {0}, above[BLOCK] = {0}, slope[BLOCK];
    softmax_sums(s, high, total);
    for (int r = 0; r < BLOCK; r++) {
        s->losses[r] = 0.0f;
        if ((int64_t)s->targets[r] >= s->V)
            continue;
        float log_total = logf(total[r]), lse = high[r] + log_total;
        above[r] = s->stats->at_target[s->first + r] - high[r];
        s->losses[r] = log_total - above[r] + s->z_loss * lse * lse;
        gain[r] = (1.0f + 2.0f * s->z_loss * lse) * s->scale / total[r];
    }
    if (!s->e)
        return;
    softmax_scale(p, s, high, gain);
    for (int r = 0; r < BLOCK; r += LANES)
        vf_store(slope + r, vf_exp(vf_load(above + r)) * vf_load(gain + r) - s->scale);
    for (int64_t r = 0; r < BLOCK; r++)
        if ((int64_t)s->targets[r] < s->V)
            act_set(p, s->e, column_at(s->targets[r]) + r * BLOCK, slope[r]);
}

static void softmax_row(enum kernel_precision p, const struct softmax_row *s)
{
    SPECIALISE(p, softmax_body, s);
}

/* --- embedding and plain rows -------------------------------------------------------------- */

INLINE float split_value(uint16_t upper, int16_t lower)
{
    uint32_t bits = ((uint32_t)upper << 16) + (uint32_t)(int32_t)lower;
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* 32 values of a split row, of which `count` exist. */
INLINE void load_split(vf part[PARTS], const uint16_t *upper, const int16_t *lower, int64_t count)
{
    typedef int16_t vs __attribute__((vector_size(LANES * 2)));
    typedef int16_t vs_unaligned __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
    if (count < BLOCK) {
        float values[BLOCK] = {0};
        for (int64_t c = 0; c < count; c++)
            values[c] = split_value(upper[c], lower[c]);
        load_part(part, values, BLOCK);
        return;
    }
    for (int k = 0; k < PARTS; k++) {
        vs low = *(const vs_unaligned *)(lower + k * LANES);
        part[k] = (vf)((vu)vf_load_bf16(upper + k * LANES) + (vu) __builtin_convertvector(low, vi));
    }
}

static void embed_forward_row(const struct embedding *table, const uint32_t *ids, float *x,
                              int64_t C)
{
    for (int64_t r = 0; r < BLOCK; r++)
        for (int64_t col = 0; col < C; col += BLOCK) {
            vf part[PARTS] = {{0}};
            int64_t from = (int64_t)ids[r] * C + col;
            if (ids[r] != UINT32_MAX && table->fp32)
                load_part(part, table->fp32 + from, C - col);
            else if (ids[r] != UINT32_MAX)
                load_split(part, table->upper + from, table->lower + from, C - col);
            store_part(x + (col + r) * BLOCK, part, BLOCK);
        }
}

static void embed_backward_columns(const float *dx, const uint32_t *ids, float *dtable, int64_t n,
                                   int64_t C, int64_t j0, int64_t j1)
{
    for (int64_t row = 0; row < n; row++) {
        if (ids[row] == UINT32_MAX)
            continue;
        float *to = dtable + (int64_t)ids[row] * C;
        for (int64_t col = j0 * BLOCK; col < j1 * BLOCK; col += BLOCK) {
            const float *from = dx + block_at(row, col, block_up(C));
            vf part[PARTS];
            load_part(part, to + col, C - col);
            for (int k = 0; k < PARTS; k++)
                part[k] += vf_load(from + k * LANES);
            store_part(to + col, part, C - col);
        }
    }
}

INLINE void from_rows_body(enum kernel_precision p, void *blocks, const float *src, int64_t ld,
                           int64_t rows, int64_t cols)
{
    for (int64_t col = 0; col < cols; col += BLOCK)
        for (int64_t r = 0; r < BLOCK; r++) {
            vf part[PARTS] = {{0}};
            if (r < rows)
                load_part(part, src + r * ld + col, cols - col);
            for (int k = 0; k < PARTS; k += 2)
                act_store_pair(p, blocks, (col + r) * BLOCK + k * LANES, part[k], part[k + 1]);
        }
}

static void from_rows(enum kernel_precision p, void *blocks, const float *src, int64_t ld,
                      int64_t rows, int64_t cols)
{
    SPECIALISE(p, from_rows_body, blocks, src, ld, rows, cols);
}

INLINE void to_rows_body(enum kernel_precision p, const void *blocks, float *dst, int64_t ld,
                         int64_t rows, int64_t cols)
{
    for (int64_t col = 0; col < cols; col += BLOCK)
        for (int64_t r = 0; r < rows; r++) {
            vf part[PARTS];
            for (int k = 0; k < PARTS; k++)
                part[k] = act_load(p, blocks, (col + r) * BLOCK + k * LANES);
            store_part(dst + r * ld + col, part, cols - col);
        }
}

static void to_rows(enum kernel_precision p, const void *blocks, float *dst, int64_t ld,
                    int64_t rows, int64_t cols)
{
    SPECIALISE(p, to_rows_body, blocks, dst, ld, rows, cols);
}

static void blocks_fill(struct kernels *k)
{
    k->blocks = (struct blocks_engine){
        .norm_forward = norm_forward_row,
        .norm_again = norm_again_row,
        .norm_backward = norm_backward_row,
        .rotate = rotate_row,
        .softmax = softmax_row,
        .embed_forward = embed_forward_row,
        .embed_backward = embed_backward_columns,
        .from_rows = from_rows,
        .to_rows = to_rows,
    };
}
