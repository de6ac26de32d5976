/*
 * The product of 32 x 32 blocks in the AMX tile unit, with other work between its steps: what
 * becomes of the sums of the block before, and fetching what the next one needs.
 *
 * The unit takes 64 cycles for a step (four TDPBF16PS) and leaves the vector units idle
 * meanwhile: about 64 vector operations are free if they come a few at a time. What a block's
 * sums become is therefore cut into units of some rows, and the units are spread over the steps
 * of the block that follows.
 */
#ifndef MODEL_KERNELS_LINEAR_AMX_H
#define MODEL_KERNELS_LINEAR_AMX_H

#include "model/kernels/amx.h"
#include "model/kernels/table.h"

#include <float.h>

/* --- what becomes of sums ------------------------------------------------------------------ */

/* A block of C (two with SWIGLU) whose sums are complete. */
struct finish {
    const float *sums, *up; /* (32, 32); up: SWIGLU */
    uint16_t *c, *y;        /* its blocks there, or NULL */
    const uint16_t *gu;
    float *max, *sum;    /* SOFTMAX: for its 32 rows */
    __mmask16 exists[2]; /* columns below V */
    int units, done;
};

enum { SOFTMAX_ROWS = 4, STORE_ROWS = 2 };

INLINE int finish_units(const enum product_epilogue e)
{
    return e == PRODUCT_STORE     ? BLOCK / STORE_ROWS
           : e == PRODUCT_SOFTMAX ? BLOCK / SOFTMAX_ROWS
           : e == PRODUCT_ADD     ? 0
                                  : BLOCK;
}

INLINE void store_bf16(uint16_t *row, __m512 low, __m512 high)
{
    _mm512_storeu_si512(row, (__m512i)_mm512_cvtne2ps_pbh(high, low));
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
        store_bf16(f->c + row * BLOCK, g[0], g[1]);
        store_bf16(f->c + BLOCK_AREA + row * BLOCK, u[0], u[1]);
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

INLINE void finish_unit(const enum product_epilogue e, struct finish *f)
{
    const int unit = f->done++;
    if (e == PRODUCT_STORE)
        store_rows(f, unit);
    else if (e == PRODUCT_SWIGLU)
        swiglu_row(f, unit);
    else if (e == PRODUCT_SWIGLU_BACKWARD)
        swiglu_backward_row(f, unit);
    else if (e == PRODUCT_SOFTMAX)
        softmax_rows(f, unit);
}

INLINE void finish_rest(const enum product_epilogue e, struct finish *f)
{
    while (f->done < f->units)
        finish_unit(e, f);
}

/* --- the product ---------------------------------------------------------------------------- */

/* A cursor over memory that will be needed, some lines a step. */
struct fetch {
    const char *at;
    int lines; /* a step; 0 = nothing */
};

struct block_product {
    const uint16_t *a, *b; /* blocks of A, of a panel, one for each step */
    int64_t steps;
    const float *from; /* sums to go on from, NULL = 0 */
    float *to;
    struct fetch panel; /* into the second-level cache */
    struct fetch sums;  /* into the first, to be written */
};

/* The first steps' part of a panel stays in the first-level cache while the rows of A pass by:
 * these go through TILELOADDT1, which leaves that cache alone. */
enum { STAY = 16 };

#define LOAD_STAY(tile, p)   _tile_loadd(tile, p, 64)
#define LOAD_STREAM(tile, p) _tile_stream_loadd(tile, p, 64)

#define STEP(load_b, a, b)                                                                         \
    do {                                                                                           \
        LOAD_STREAM(4, a);                                                                         \
        load_b(6, b);                                                                              \
        _tile_dpbf16ps(0, 4, 6);                                                                   \
        load_b(7, (b) + TILE);                                                                     \
        _tile_dpbf16ps(1, 4, 7);                                                                   \
        LOAD_STREAM(5, (a) + TILE);                                                                \
        _tile_dpbf16ps(2, 5, 6);                                                                   \
        _tile_dpbf16ps(3, 5, 7);                                                                   \
    } while (0)

/* The last two steps, accumulator by accumulator, so that each is stored while the unit is still
 * busy with the others. */
INLINE void last_steps(const uint16_t *a, const uint16_t *b, float *to)
{
    const uint16_t *a2 = a + BLOCK_AREA, *b2 = b + BLOCK_AREA;
    LOAD_STREAM(4, a);
    LOAD_STREAM(6, b);
    _tile_dpbf16ps(0, 4, 6);
    LOAD_STREAM(5, a2);
    LOAD_STREAM(7, b2);
    _tile_dpbf16ps(0, 5, 7);
    _tile_stored(0, to, BLOCK * 4);
    LOAD_STREAM(6, b + TILE);
    _tile_dpbf16ps(1, 4, 6);
    LOAD_STREAM(7, b2 + TILE);
    _tile_dpbf16ps(1, 5, 7);
    _tile_stored(1, to + 16, BLOCK * 4);
    LOAD_STREAM(4, a + TILE);
    _tile_dpbf16ps(3, 4, 6);
    LOAD_STREAM(5, a2 + TILE);
    _tile_dpbf16ps(3, 5, 7);
    _tile_stored(3, to + 16 * BLOCK + 16, BLOCK * 4);
    LOAD_STREAM(6, b);
    _tile_dpbf16ps(2, 4, 6);
    LOAD_STREAM(7, b2);
    _tile_dpbf16ps(2, 5, 7);
    _tile_stored(2, to + 16 * BLOCK, BLOCK * 4);
}

INLINE void load_sums(const float *from)
{
    if (from) {
        _tile_loadd(0, from, BLOCK * 4);
        _tile_loadd(1, from + 16, BLOCK * 4);
        _tile_loadd(2, from + 16 * BLOCK, BLOCK * 4);
        _tile_loadd(3, from + 16 * BLOCK + 16, BLOCK * 4);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
}

INLINE void store_sums(float *to)
{
    _tile_stored(0, to, BLOCK * 4);
    _tile_stored(1, to + 16, BLOCK * 4);
    _tile_stored(2, to + 16 * BLOCK, BLOCK * 4);
    _tile_stored(3, to + 16 * BLOCK + 16, BLOCK * 4);
}

/* What is done between the steps, evenly: of `span` steps each gets its share of the units. */
struct between {
    int span, credit;
};

INLINE void between_steps(const enum product_epilogue e, struct block_product *q, struct finish *f,
                          struct between *w)
{
    for (w->credit += f->units; w->credit >= w->span && f->done < f->units; w->credit -= w->span)
        finish_unit(e, f);
    for (int i = 0; i < q->panel.lines; i++, q->panel.at += 64)
        _mm_prefetch(q->panel.at, _MM_HINT_T1);
    for (int i = 0; i < q->sums.lines; i++, q->sums.at += 64)
        __builtin_prefetch(q->sums.at, 1);
}

/* to (32, 32) = from + A B; meanwhile the block before is finished. */
INLINE void multiply_block(const enum product_epilogue e, struct block_product *q, struct finish *f)
{
    const uint16_t *a = q->a, *b = q->b;
    const int64_t last = q->steps >= 2 ? q->steps - 2 : q->steps;
    const int64_t stay = last < STAY ? last : STAY;
    struct between w = {.span = last > 0 ? (int)last : 1};
    load_sums(q->from);
    int64_t k = 0;
    for (; k < stay; k++, a += BLOCK_AREA, b += BLOCK_AREA) {
        between_steps(e, q, f, &w);
        STEP(LOAD_STAY, a, b);
    }
    for (; k < last; k++, a += BLOCK_AREA, b += BLOCK_AREA) {
        between_steps(e, q, f, &w);
        STEP(LOAD_STREAM, a, b);
    }
    finish_rest(e, f);
    if (q->steps >= 2)
        last_steps(a, b, q->to);
    else
        store_sums(q->to);
}

#endif
