/*
 * Attention on one block of queries for one CPU level (FlashAttention-2, arXiv 2307.08691).
 *
 * Everything is kept transposed: Sᵀ = K Qᵀ has one key a row and one query a lane, so
 * the statistics of the softmax are vectors over queries and no sum goes across lanes.
 * K and V are read where they lie, one broadcast value at a time; only the block of
 * queries is packed. The including file defines LANES, MR and NV (a register tile is MR rows
 * of NV vectors).
 */
#include "model/kernels/simd.h"
#include "model/kernels/table.h"

#include <math.h>
#include <string.h>

enum { NR = NV * LANES, NQ = 64, NK = 96 };

/* c (mr, NR) = or += a · b with a's value (i, k) at a[i * a_row + k * a_col]. */
INLINE void strip(const float *a, int64_t a_row, int64_t a_col, const float *b, int64_t b_row,
                  int64_t depth, float *c, int64_t c_row, bool add, const int mr)
{
    vf sum[MR][NV];
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < NV; j++)
            sum[i][j] = add ? vf_load(c + i * c_row + j * LANES) : (vf){0};
    for (int64_t k = 0; k < depth; k++) {
        vf bk[NV];
#pragma GCC unroll 8
        for (int j = 0; j < NV; j++)
            bk[j] = vf_load(b + k * b_row + j * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < mr; i++) {
            vf ai = vf_set(a[i * a_row + k * a_col]);
#pragma GCC unroll 8
            for (int j = 0; j < NV; j++)
                sum[i][j] = vf_fma(ai, bk[j], sum[i][j]);
        }
    }
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < NV; j++)
            vf_store(c + i * c_row + j * LANES, sum[i][j]);
}

#define STRIP(n)                                                                                   \
    case n:                                                                                        \
        strip(a, a_row, a_col, b, b_row, depth, c, c_row, add, n);                                 \
        break

INLINE void product(const float *a, int64_t a_row, int64_t a_col, const float *b, int64_t b_row,
                    int64_t depth, float *c, int64_t c_row, int64_t rows, bool add)
{
    while (rows > 0) {
        int64_t mr = rows;
        if (rows > MR) /* no thin strip at the end */
            mr = rows < 2 * MR ? (rows + 1) / 2 : MR;
        switch (mr) {
            STRIP(1);
            STRIP(2);
            STRIP(3);
            STRIP(4);
#if MR > 4
            STRIP(5);
            STRIP(6);
#endif
#if MR > 6
            STRIP(7);
            STRIP(8);
            STRIP(9);
            STRIP(10);
            STRIP(11);
            STRIP(12);
#endif
        }
        a += mr * a_row;
        c += mr * c_row;
        rows -= mr;
    }
}

/* a as it lies: (rows, depth). */
static void product_rows(const float *a, int64_t lda, const float *b, int64_t b_row, int64_t depth,
                         float *c, int64_t c_row, int64_t rows, bool add)
{
    product(a, lda, 1, b, b_row, depth, c, c_row, rows, add);
}

/* a transposed: (depth, rows). */
static void product_columns(const float *a, int64_t lda, const float *b, int64_t b_row,
                            int64_t depth, float *c, int64_t c_row, int64_t rows, bool add)
{
    product(a, 1, lda, b, b_row, depth, c, c_row, rows, add);
}

/* to (D, NQ) = scale · from (n, D)ᵀ; queries beyond n are zero. */
static void pack_transposed(float *to, const float *from, int64_t ld, int64_t n, int64_t D,
                            float scale)
{
    for (int64_t q = 0; q < NQ; q += LANES) {
        for (int64_t d = 0; d < D; d += LANES) {
            int64_t ds = D - d < LANES ? D - d : LANES;
            vf r[LANES];
            for (int i = 0; i < LANES; i++) {
                r[i] = (vf){0};
                if (q + i < n)
                    r[i] = vf_load_n(from + (q + i) * ld + d, ds) * scale;
            }
            vf_transpose(r);
            for (int i = 0; i < ds; i++)
                vf_store(to + (d + i) * NQ + q, r[i]);
        }
    }
}

/* The other way: to (n, D) = from (D, NQ)ᵀ. */
static void unpack_transposed(float *to, const float *from, int64_t ld, int64_t n, int64_t D)
{
    for (int64_t q = 0; q < n; q += LANES) {
        for (int64_t d = 0; d < D; d += LANES) {
            int64_t ds = D - d < LANES ? D - d : LANES;
            vf r[LANES];
            for (int i = 0; i < LANES; i++)
                r[i] = i < ds ? vf_load(from + (d + i) * NQ + q) : (vf){0};
            vf_transpose(r);
            for (int i = 0; i < LANES && q + i < n; i++)
                vf_store_n(to + (q + i) * ld + d, r[i], ds);
        }
    }
}

/* to (n_all, width) = scale · from (n, D), the rest zero. */
static void pack_rows(float *to, const float *from, int64_t ld, int64_t n, int64_t n_all, int64_t D,
                      int64_t width, float scale)
{
    for (int64_t i = 0; i < n_all; i++, to += width)
        for (int64_t d = 0; d < width; d += LANES) {
            int64_t ds = D - d < LANES ? D - d : LANES;
            vf x = {0};
            if (i < n && ds > 0)
                x = vf_load_n(from + i * ld + d, ds) * scale;
            vf_store(to + d, x);
        }
}

/* Keys of the block at s0 that at least one of the NR queries from t sees. */
static int64_t keys_seen(int64_t t, int64_t T, int64_t s0)
{
    int64_t last = t + NR <= T ? t + NR - 1 : T - 1;
    int64_t n = last + 1 - s0;
    return n < NK ? n : NK;
}

/* Scores of keys after the query become `value`. st: (n, NQ), at its panel. */
static void mask_future(float *st, int64_t n, int64_t t, int64_t s0, float value)
{
    int64_t first = t - s0 + 1 > 0 ? t - s0 + 1 : 0;
    for (int64_t j = first; j < n; j++)
        for (int64_t i = 0; i < NR && t + i < s0 + j; i++)
            st[j * NQ + i] = value;
}

/* Online softmax of one panel: st (n, NQ) becomes exp(st - max); max and sum of its NR queries
 * are brought up to date, and ot (D, NQ) is scaled to the new max. */
static void softmax_panel(float *st, int64_t n, float *max, float *sum, float *ot, int64_t D)
{
    for (int p = 0; p < NR; p += LANES) {
        vf before = vf_load(max + p), now = before;
        for (int64_t j = 0; j < n; j++)
            now = vf_max(now, vf_load(st + j * NQ + p));
        vf total = {0};
        for (int64_t j = 0; j < n; j++) {
            vf e = vf_exp(vf_load(st + j * NQ + p) - now);
            vf_store(st + j * NQ + p, e);
            total += e;
        }
        vf shrink = vf_exp(before - now);
        vf_store(max + p, now);
        vf_store(sum + p, vf_fma(vf_load(sum + p), shrink, total));
        for (int64_t d = 0; d < D; d++)
            vf_store(ot + d * NQ + p, vf_load(ot + d * NQ + p) * shrink);
    }
}

static void forward(const struct attention_job *job, int64_t b, int64_t h, int64_t t0,
                    float *scratch)
{
    const struct attention_shape *s = &job->s;
    const int64_t T = s->T, D = s->D, q_row = s->H * D, k_row = s->G * D;
    const int64_t g = h / (s->H / s->G), n = T - t0 < NQ ? T - t0 : NQ;
    const int64_t q0 = (b * T + t0) * q_row + h * D;
    const float *k = job->k + b * T * k_row + g * D, *v = job->v + b * T * k_row + g * D;
    float *qt = scratch, *ot = qt + D * NQ, *st = ot + D * NQ;
    float *max = st + NK * NQ, *sum = max + NQ;
    pack_transposed(qt, job->q + q0, q_row, n, D, 1.0f / sqrtf((float)D));
    memset(ot, 0, (size_t)(D * NQ) * sizeof(float));
    for (int i = 0; i < NQ; i++) {
        max[i] = -INFINITY;
        sum[i] = 0.0f;
    }
    for (int64_t s0 = 0; s0 < t0 + n; s0 += NK) {
        for (int64_t p = 0; p < n; p += NR) {
            int64_t keys = keys_seen(t0 + p, T, s0);
            if (keys <= 0)
                continue;
            product_rows(k + s0 * k_row, k_row, qt + p, NQ, D, st + p, NQ, keys, false);
            mask_future(st + p, keys, t0 + p, s0, -INFINITY);
            softmax_panel(st + p, keys, max + p, sum + p, ot + p, D);
            product_columns(v + s0 * k_row, k_row, st + p, NQ, keys, ot + p, NQ, D, true);
        }
    }
    for (int p = 0; p < NQ; p += LANES) {
        vf inverse = 1.0f / vf_load(sum + p);
        for (int64_t d = 0; d < D; d++)
            vf_store(ot + d * NQ + p, vf_load(ot + d * NQ + p) * inverse);
    }
    unpack_transposed(job->out + q0, ot, q_row, n, D);
    for (int64_t i = 0; i < n; i++)
        job->lse[(b * s->H + h) * T + t0 + i] = max[i] + logf(sum[i]);
}

/* What the backward pass needs of one block of queries of one head. */
struct query_block {
    float *qt, *dot;       /* (D, NQ): q scaled, and dout */
    float *q, *dout;       /* (NQ, width): the same, not transposed */
    float *lse, *delta;    /* (NQ): delta = Σ dout · out */
    float *pt, *dst;       /* (NK, NQ): probabilities and gradient of the scores */
    float *dq;             /* (NQ, width) */
    float *keys, *dk, *dv; /* (NK, width) of the group */
};

static void query_block_place(struct query_block *q, float *at, int64_t D, int64_t width)
{
    q->qt = at;
    q->dot = q->qt + D * NQ;
    q->q = q->dot + D * NQ;
    q->dout = q->q + NQ * width;
    q->pt = q->dout + NQ * width;
    q->dst = q->pt + NK * NQ;
    q->dq = q->dst + NK * NQ;
    q->keys = q->dq + NQ * width;
    q->dk = q->keys + NK * width;
    q->dv = q->dk + NK * width;
    q->lse = q->dv + NK * width;
    q->delta = q->lse + NQ;
}

static void query_block_pack(struct query_block *q, const struct attention_job *job, int64_t b,
                             int64_t h, int64_t t0, int64_t n, int64_t width)
{
    const struct attention_shape *s = &job->s;
    const int64_t D = s->D, row = s->H * D, at = (b * s->T + t0) * row + h * D;
    const float scale = 1.0f / sqrtf((float)D);
    pack_transposed(q->qt, job->q + at, row, n, D, scale);
    pack_transposed(q->dot, job->dout + at, row, n, D, 1.0f);
    pack_rows(q->q, job->q + at, row, n, NQ, D, width, scale);
    pack_rows(q->dout, job->dout + at, row, n, NQ, D, width, 1.0f);
    for (int64_t i = 0; i < NQ; i++) {
        vf delta = {0};
        for (int64_t d = 0; i < n && d < D; d += LANES)
            delta = vf_fma(vf_load_n(job->out + at + i * row + d, D - d < LANES ? D - d : LANES),
                           vf_load(q->dout + i * width + d), delta);
        q->delta[i] = vf_sum(delta);
        q->lse[i] = i < n ? job->lse[(b * s->H + h) * s->T + t0 + i] : 0.0f;
    }
}

/* pt = exp(Sᵀ - lse) and dst = pt · (dPᵀ - delta) of one panel of queries. */
static void scores_backward(struct query_block *q, int64_t p, int64_t keys, int64_t t, int64_t s0)
{
    mask_future(q->pt + p, keys, t, s0, -INFINITY);
    for (int c = 0; c < NR; c += LANES) {
        vf lse = vf_load(q->lse + p + c), delta = vf_load(q->delta + p + c);
        for (int64_t j = 0; j < keys; j++) {
            float *pt = q->pt + j * NQ + p + c, *dst = q->dst + j * NQ + p + c;
            vf e = vf_exp(vf_load(pt) - lse);
            vf_store(pt, e);
            vf_store(dst, e * (vf_load(dst) - delta));
        }
    }
}

static void add_rows(float *to, int64_t ld, const float *from, int64_t n, int64_t D, int64_t width,
                     float scale)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t d = 0; d < D; d += LANES) {
            int64_t ds = D - d < LANES ? D - d : LANES;
            float *p = to + i * ld + d;
            vf_store_n(p, vf_fma(vf_load(from + i * width + d), vf_set(scale), vf_load_n(p, ds)),
                       ds);
        }
}

static void backward_head(struct query_block *q, const struct attention_job *job, int64_t b,
                          int64_t h, int64_t t0, int64_t s0, int64_t width)
{
    const struct attention_shape *s = &job->s;
    const int64_t T = s->T, D = s->D, k_row = s->G * D, g = h / (s->H / s->G);
    const int64_t n = T - t0 < NQ ? T - t0 : NQ;
    const int64_t block = t0 + n - s0 < NK ? t0 + n - s0 : NK; /* keys any query sees */
    const float *k = job->k + (b * T + s0) * k_row + g * D;
    const float *v = job->v + (b * T + s0) * k_row + g * D;
    query_block_pack(q, job, b, h, t0, n, width);
    int64_t first = 0; /* queries before see none of the keys */
    while (keys_seen(t0 + first, T, s0) <= 0)
        first += NR;
    int64_t end = (n + NR - 1) / NR * NR;
    for (int64_t p = first; p < end; p += NR) {
        int64_t keys = keys_seen(t0 + p, T, s0);
        product_rows(k, k_row, q->qt + p, NQ, D, q->pt + p, NQ, keys, false);
        product_rows(v, k_row, q->dot + p, NQ, D, q->dst + p, NQ, keys, false);
        scores_backward(q, p, keys, t0 + p, s0);
        for (int64_t j = keys; j < block; j++)
            for (int c = 0; c < NR; c += LANES) {
                vf_store(q->pt + j * NQ + p + c, (vf){0});
                vf_store(q->dst + j * NQ + p + c, (vf){0});
            }
    }
    for (int64_t d = 0; d < width; d += NR) {
        product_rows(q->pt + first, NQ, q->dout + first * width + d, width, end - first, q->dv + d,
                     width, block, true);
        product_rows(q->dst + first, NQ, q->q + first * width + d, width, end - first, q->dk + d,
                     width, block, true);
        product_columns(q->dst + first, NQ, q->keys + d, width, block, q->dq + first * width + d,
                        width, n - first, false);
    }
    add_rows(job->dq + (b * T + t0 + first) * s->H * D + h * D, s->H * D, q->dq + first * width,
             n - first, D, width, 1.0f / sqrtf((float)D));
}

static void backward(const struct attention_job *job, int64_t b, int64_t g, int64_t t0, int64_t s0,
                     float *scratch)
{
    const struct attention_shape *s = &job->s;
    const int64_t T = s->T, D = s->D, k_row = s->G * D, width = (D + NR - 1) / NR * NR;
    const int64_t n = T - s0 < NK ? T - s0 : NK, at = (b * T + s0) * k_row + g * D;
    struct query_block q;
    query_block_place(&q, scratch, D, width);
    pack_rows(q.keys, job->k + at, k_row, n, NK, D, width, 1.0f);
    memset(q.dk, 0, (size_t)(NK * width) * sizeof(float));
    memset(q.dv, 0, (size_t)(NK * width) * sizeof(float));
    for (int64_t h = g * (s->H / s->G); h < (g + 1) * (s->H / s->G); h++)
        backward_head(&q, job, b, h, t0, s0, width);
    add_rows(job->dk + at, k_row, q.dk, n, D, width, 1.0f);
    add_rows(job->dv + at, k_row, q.dv, n, D, width, 1.0f);
}

static void attention_fill(struct kernels *k)
{
    k->attention_fp32 = (struct attention_engine){.queries_forward = NQ,
                                                  .queries_backward = NQ,
                                                  .keys_backward = NK,
                                                  .forward = forward,
                                                  .backward = backward};
    k->attention_bf16 = k->attention_fp32;
}
