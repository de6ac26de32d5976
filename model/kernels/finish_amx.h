/*
 * What becomes of a block of sums, some rows at a time: the epilogues of the products.
 */
#ifndef MODEL_KERNELS_FINISH_AMX_H
#define MODEL_KERNELS_FINISH_AMX_H

#include "model/kernels/linear_amx.h"

#include <float.h>

/* A block of C (two with SWIGLU) whose sums are complete. */
struct finish {
    const float *sums, *up; /* (32, 32); up: SWIGLU */
    uint16_t *c, *y;        /* its blocks there, or NULL */
    const uint16_t *gu;
    float *max, *sum;    /* SOFTMAX: for its 32 rows */
    __mmask16 exists[2]; /* columns below V */
};

enum { STORE_ROWS = 2, SOFTMAX_ROWS = 4 }; /* of a unit; elsewhere one */

INLINE void store_bf16(uint16_t *row, __m512 low, __m512 high)
{
    _mm512_storeu_si512(row, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

/* Past the caches, for what is read late: not before the backward pass. */
INLINE void stream_bf16(uint16_t *row, __m512 low, __m512 high)
{
    _mm512_stream_si512((void *)row, (__m512i)_mm512_cvtne2ps_pbh(high, low));
}

/* Half a row of bf16 values. */
INLINE __m512 load_bf16(const uint16_t *p)
{
    __m512i x = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(x, 16));
}

/* 2^t, a polynomial of degree 5 on [-1/2, 1/2] made for least relative error, about 1e-7. */
INLINE __m512 exp2_near(__m512 t)
{
    __m512 r = _mm512_reduce_ps(t, 0);
    __m512 p = _mm512_set1_ps(0.0013276472f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0096755413f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.055507133f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.24022120f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.69314697f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, _mm512_sub_ps(t, r));
}

static const float log2_e = 1.44269504f;

/* 1 / (1 + exp(-x)): the reciprocal's 14 bits and one step of Newton. */
INLINE __m512 sigmoid(__m512 x)
{
    __m512 t = _mm512_mul_ps(x, _mm512_set1_ps(-log2_e));
    __m512 d = _mm512_add_ps(exp2_near(_mm512_min_ps(t, _mm512_set1_ps(126.0f))),
                             _mm512_set1_ps(1.0f));
    __m512 r = _mm512_rcp14_ps(d);
    return _mm512_mul_ps(r, _mm512_fnmadd_ps(d, r, _mm512_set1_ps(2.0f)));
}

INLINE void store_rows(const struct finish *f, int unit)
{
    for (int row = unit * STORE_ROWS; row < (unit + 1) * STORE_ROWS; row++) {
        const float *s = f->sums + row * BLOCK;
        store_bf16(f->c + row * BLOCK, _mm512_loadu_ps(s), _mm512_loadu_ps(s + 16));
    }
}

INLINE void swiglu_row(const struct finish *f, int row)
{
    const float *gate = f->sums + row * BLOCK, *up = f->up + row * BLOCK;
    __m512 g[2], u[2], y[2];
    for (int h = 0; h < 2; h++) {
        g[h] = _mm512_loadu_ps(gate + 16 * h);
        u[h] = _mm512_loadu_ps(up + 16 * h);
        y[h] = _mm512_mul_ps(_mm512_mul_ps(g[h], sigmoid(g[h])), u[h]);
    }
    store_bf16(f->y + row * BLOCK, y[0], y[1]);
    if (f->c) {
        stream_bf16(f->c + row * BLOCK, g[0], g[1]);
        stream_bf16(f->c + BLOCK_AREA + row * BLOCK, u[0], u[1]);
    }
}

/* With s = sigmoid(g): y = g s u, dy/du = g s, dy/dg = u s (1 + g (1 - s)). */
INLINE void swiglu_backward_row(const struct finish *f, int row)
{
    const uint16_t *gate = f->gu + row * BLOCK, *up = gate + BLOCK_AREA;
    __m512 y[2], d_gate[2], d_up[2];
    for (int h = 0; h < 2; h++) {
        const __m512 d = _mm512_loadu_ps(f->sums + row * BLOCK + 16 * h);
        const __m512 g = load_bf16(gate + 16 * h), u = load_bf16(up + 16 * h), s = sigmoid(g);
        const __m512 silu = _mm512_mul_ps(g, s);
        /* s (1 + g (1 - s)) = s + silu (1 - s) */
        const __m512 slope = _mm512_add_ps(s, _mm512_fnmadd_ps(silu, s, silu));
        y[h] = _mm512_mul_ps(silu, u);
        d_up[h] = _mm512_mul_ps(d, silu);
        d_gate[h] = _mm512_mul_ps(_mm512_mul_ps(d, u), slope);
    }
    store_bf16(f->c + row * BLOCK, d_gate[0], d_gate[1]);
    store_bf16(f->c + BLOCK_AREA + row * BLOCK, d_up[0], d_up[1]);
    if (f->y)
        store_bf16(f->y + row * BLOCK, y[0], y[1]);
}

/* Four vectors become one: lane 4 q + r holds what `op` makes of the lanes of x[r], for every q. */
#define FOLD(op, x)                                                                                \
    ({                                                                                             \
        __m512 low = op(_mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1]));           \
        __m512 high = op(_mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3]));          \
        __m512 all = op(_mm512_shuffle_ps(low, high, 0x44), _mm512_shuffle_ps(low, high, 0xee));   \
        all = op(all, _mm512_shuffle_f32x4(all, all, 0x4e));                                       \
        op(all, _mm512_shuffle_f32x4(all, all, 0xb1));                                             \
    })

INLINE void softmax_rows(const struct finish *f, int unit)
{
    const int row = unit * SOFTMAX_ROWS;
    const __m512 none = _mm512_set1_ps(-INFINITY), scale = _mm512_set1_ps(log2_e);
    __m512 x[4][2], m[4], s[4];
    for (int r = 0; r < 4; r++) {
        const float *p = f->sums + (row + r) * BLOCK;
        x[r][0] = _mm512_mask_loadu_ps(none, f->exists[0], p);
        x[r][1] = _mm512_mask_loadu_ps(none, f->exists[1], p + 16);
        m[r] = _mm512_max_ps(x[r][0], x[r][1]);
    }
    const __m512 max = FOLD(_mm512_max_ps, m);
    _mm_storeu_ps(f->max + row, _mm512_castps512_ps128(max));
    /* where nothing exists -inf - max has to stay -inf */
    const __m512 base = _mm512_max_ps(max, _mm512_set1_ps(-FLT_MAX));
    m[0] = _mm512_permute_ps(base, 0x00);
    m[1] = _mm512_permute_ps(base, 0x55);
    m[2] = _mm512_permute_ps(base, 0xaa);
    m[3] = _mm512_permute_ps(base, 0xff);
    for (int r = 0; r < 4; r++) {
        for (int h = 0; h < 2; h++)
            x[r][h] = exp2_near(_mm512_mul_ps(_mm512_sub_ps(x[r][h], m[r]), scale));
        s[r] = _mm512_add_ps(x[r][0], x[r][1]);
        if (f->c)
            store_bf16(f->c + (row + r) * BLOCK, x[r][0], x[r][1]);
    }
    _mm_storeu_ps(f->sum + row, _mm512_castps512_ps128(FOLD(_mm512_add_ps, s)));
}

INLINE void finish_store(void *finish, int unit)
{
    store_rows(finish, unit);
}

INLINE void finish_add(void *finish, int unit)
{
    (void)finish;
    (void)unit;
}

INLINE void finish_swiglu(void *finish, int unit)
{
    swiglu_row(finish, unit);
}

INLINE void finish_swiglu_backward(void *finish, int unit)
{
    swiglu_backward_row(finish, unit);
}

INLINE void finish_softmax(void *finish, int unit)
{
    softmax_rows(finish, unit);
}

/* By enum product_epilogue. */
static const struct finisher {
    work_unit *unit;
    int units;
} finishers[] = {
    [PRODUCT_STORE] = {finish_store, BLOCK / STORE_ROWS},
    [PRODUCT_ADD] = {finish_add, 0},
    [PRODUCT_SWIGLU] = {finish_swiglu, BLOCK},
    [PRODUCT_SWIGLU_BACKWARD] = {finish_swiglu_backward, BLOCK},
    [PRODUCT_SOFTMAX] = {finish_softmax, BLOCK / SOFTMAX_ROWS},
};

#endif
