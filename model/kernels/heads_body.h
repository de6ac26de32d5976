/*
 * Attention on blocks of queries for one CPU level, in fp32 (FlashAttention-2, arXiv 2307.08691).
 *
 * Keys and values of a group are gathered from the blocks into rows of floats once per task,
 * queries once per block of them. Everything is kept transposed: Sᵀ = K Qᵀ has one key a row
 * and one query a lane, so the statistics of the softmax are vectors over queries and no sum goes
 * across lanes. The including file defines LANES, MR and NV (a register tile is MR rows of NV
 * vectors).
 *
 * Rows come in multiples of 32, and a row of floats is `width` = block_up(D) long, so a vector is
 * never partial. What fills up a sequence computes something finite that is thrown away
 * (forward), or zeros (backward: its dout is zero).
 */
#include "model/kernels/simd.h"
#include "model/kernels/table.h"

#include <math.h>
#include <string.h>

enum { NR = NV * LANES, NQ = 64, NK = 96, NQ_TASK = 128 };
static const float FAR_BELOW = -1e30f; /* a maximum before the first score */

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

/* to (n, width) = scale · rows row … row+n-1, columns col … col+D-1 of a matrix in blocks. */
static void gather(const struct heads_job *job, const void *act, int64_t cols, int64_t row,
                   int64_t col, int64_t n, float scale, float *to)
{
    const int64_t D = job->s.D, width = block_up(D);
    for (int64_t i = 0; i < n; i++, to += width) {
        memset(to, 0, (size_t)width * sizeof(float));
        for (int64_t d = 0; d < D; d += 8) { /* no block ends within eight columns */
            const int64_t at = block_at(row + i, col + d, cols);
            if (job->p == KERNEL_BF16)
                for (int j = 0; j < 8; j++)
                    to[d + j] = scale * bf16_value(((const uint16_t *)act)[at + j]);
            else
                for (int j = 0; j < 8; j++)
                    to[d + j] = scale * ((const float *)act)[at + j];
        }
    }
}

/* The other way. */
static void scatter(const struct heads_job *job, void *act, int64_t cols, int64_t row, int64_t col,
                    int64_t n, float scale, const float *from)
{
    const int64_t D = job->s.D, width = block_up(D);
    for (int64_t i = 0; i < n; i++, from += width)
        for (int64_t d = 0; d < D; d += 8) {
            const int64_t at = block_at(row + i, col + d, cols);
            if (job->p == KERNEL_BF16)
                for (int j = 0; j < 8; j++)
                    ((uint16_t *)act)[at + j] = bf16_round(scale * from[d + j]);
            else
                for (int j = 0; j < 8; j++)
                    ((float *)act)[at + j] = scale * from[d + j];
        }
}

/* to (width, NQ) = from (n, width)ᵀ */
static void transpose_queries(float *to, const float *from, int64_t n, int64_t width)
{
    for (int64_t q = 0; q < n; q += LANES)
        for (int64_t d = 0; d < width; d += LANES) {
            vf r[LANES];
            for (int i = 0; i < LANES; i++)
                r[i] = vf_load(from + (q + i) * width + d);
            vf_transpose(r);
            for (int i = 0; i < LANES; i++)
                vf_store(to + (d + i) * NQ + q, r[i]);
        }
}

/* … and to (n, width) = from (width, NQ)ᵀ. */
static void transpose_back(float *to, const float *from, int64_t n, int64_t width)
{
    for (int64_t q = 0; q < n; q += LANES)
        for (int64_t d = 0; d < width; d += LANES) {
            vf r[LANES];
            for (int i = 0; i < LANES; i++)
                r[i] = vf_load(from + (d + i) * NQ + q);
            vf_transpose(r);
            for (int i = 0; i < LANES; i++)
                vf_store(to + (q + i) * width + d, r[i]);
        }
}

static int64_t at_most(int64_t x, int64_t limit)
{
    return x < limit ? x : limit;
}

/* Keys of the block at s0 that at least one of the NR queries from t may see. */
static int64_t keys_seen(int64_t t, int64_t s0)
{
    return at_most(t + NR - s0, NK);
}

/* Scores of keys that a query of the panel at t does not see become -Inf. st: (n, NQ). */
static void mask(const struct heads_job *job, float *st, int64_t b, int64_t n, int64_t t,
                 int64_t s0)
{
    for (int64_t i = 0; i < NR; i++) {
        const int64_t start = heads_start(job, b, t + i), end = t + i + 1;
        for (int64_t j = 0; j < n && s0 + j < start; j++)
            st[j * NQ + i] = -INFINITY;
        for (int64_t j = end > s0 ? end - s0 : 0; j < n; j++)
            st[j * NQ + i] = -INFINITY;
    }
}

/* Keys and values of a group, from a first key on, and what is summed for them. */
struct group_rows {
    int64_t first, width;
    float *k, *v, *dk, *dv; /* (keys, width) */
    float *rest;            /* free scratch */
};

static void group_gather(struct group_rows *r, const struct heads_job *job, int64_t b, int64_t g,
                         int64_t first, int64_t end, float *scratch)
{
    const int64_t D = job->s.D, width = block_up(D), size = (end - first) * width;
    const int64_t row = b * job->rows + first;
    *r = (struct group_rows){first,
                             width,
                             scratch,
                             scratch + size,
                             scratch + 2 * size,
                             scratch + 3 * size,
                             scratch + 4 * size};
    gather(job, job->qkv, job->cols, row, job->k_col + g * D, end - first, 1.0f, r->k);
    gather(job, job->qkv, job->cols, row, job->v_col + g * D, end - first, 1.0f, r->v);
}

/* --- forward ------------------------------------------------------------------ */

struct forward_block {
    float *q, *qt, *ot, *st; /* (NQ, width), (width, NQ) twice, (NK, NQ) */
    float max[NQ], sum[NQ];
};

/* Online softmax of one panel: st (n, NQ) becomes exp(st - max); max and sum of its NR queries
 * are brought up to date, and ot (width, NQ) is scaled to the new max. */
static void softmax_panel(float *st, int64_t n, float *max, float *sum, float *ot, int64_t width)
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
        for (int64_t d = 0; d < width; d++)
            vf_store(ot + d * NQ + p, vf_load(ot + d * NQ + p) * shrink);
    }
}

/* Queries [t, t + NR), panel p of the block, with all keys from s0 on. */
static void forward_panel(const struct heads_job *job, struct forward_block *f,
                          const struct group_rows *r, int64_t b, int64_t p, int64_t t, int64_t s0)
{
    for (; s0 < t + NR; s0 += NK) {
        const int64_t keys = keys_seen(t, s0), at = (s0 - r->first) * r->width;
        product_rows(r->k + at, r->width, f->qt + p, NQ, job->s.D, f->st + p, NQ, keys, false);
        mask(job, f->st + p, b, keys, t, s0);
        softmax_panel(f->st + p, keys, f->max + p, f->sum + p, f->ot + p, r->width);
        product_columns(r->v + at, r->width, f->st + p, NQ, keys, f->ot + p, NQ, r->width, true);
    }
}

static void forward_block(const struct heads_job *job, const struct group_rows *r, int64_t b,
                          int64_t h, int64_t t0, int64_t n)
{
    const int64_t D = job->s.D, width = r->width, row = b * job->rows + t0;
    const int64_t first = heads_start(job, b, t0), real = at_most(n, job->s.T - t0);
    struct forward_block f = {.q = r->rest};
    f.qt = f.q + NQ * width;
    f.ot = f.qt + NQ * width;
    f.st = f.ot + NQ * width;
    gather(job, job->qkv, job->cols, row, h * D, n, 1.0f / sqrtf((float)D), f.q);
    transpose_queries(f.qt, f.q, n, width);
    memset(f.ot, 0, (size_t)(NQ * width) * sizeof(float));
    for (int i = 0; i < NQ; i++)
        f.max[i] = FAR_BELOW;
    for (int64_t p = 0; p < n; p += NR)
        forward_panel(job, &f, r, b, p, t0 + p, first);
    float *lse = job->lse + (b * job->s.H + h) * job->rows + t0;
    for (int64_t p = 0; p < n; p += LANES) {
        vf inverse = 1.0f / vf_load(f.sum + p);
        for (int64_t d = 0; d < width; d++)
            vf_store(f.ot + d * NQ + p, vf_load(f.ot + d * NQ + p) * inverse);
    }
    transpose_back(f.q, f.ot, n, width);
    for (int64_t i = 0; i < n; i++)
        lse[i] = i < real ? f.max[i] + logf(f.sum[i]) : 0.0f;
    memset(f.q + real * width, 0, (size_t)((n - real) * width) * sizeof(float));
    scatter(job, job->out, job->q_cols, row, h * D, n, 1.0f, f.q);
}

static void forward(const struct heads_job *job, int64_t b, int64_t g, int64_t t0, float *scratch)
{
    const int64_t end = at_most(t0 + NQ_TASK, job->rows), heads = job->s.H / job->s.G;
    struct group_rows r;
    group_gather(&r, job, b, g, heads_start(job, b, t0), end, scratch);
    for (int64_t h = g * heads; h < (g + 1) * heads; h++)
        for (int64_t t = t0; t < end; t += NQ)
            forward_block(job, &r, b, h, t, at_most(end - t, NQ));
}

/* --- backward ----------------------------------------------------------------- */

/* A block of queries of one head. */
struct backward_block {
    int64_t t, n;
    float *q, *qt;     /* (NQ, width), scaled, and (width, NQ) */
    float *dout, *dot; /* likewise, not scaled */
    float *out, *dq;   /* (NQ, width) */
    float *pt, *dst;   /* (NK, NQ): probabilities and gradient of the scores */
    const float *lse;  /* (n) */
    float delta[NQ];   /* Σ dout · out */
};

static void backward_gather(struct backward_block *q, const struct heads_job *job, int64_t b,
                            int64_t h, float *at)
{
    const int64_t D = job->s.D, width = block_up(D), row = b * job->rows + q->t;
    float **places[] = {&q->q, &q->qt, &q->dout, &q->dot, &q->out, &q->dq, &q->pt, &q->dst};
    for (int i = 0; i < 8; i++, at += NQ * (i < 7 ? width : NK))
        *places[i] = at;
    gather(job, job->qkv, job->cols, row, h * D, q->n, 1.0f / sqrtf((float)D), q->q);
    gather(job, job->dout, job->q_cols, row, h * D, q->n, 1.0f, q->dout);
    gather(job, job->out, job->q_cols, row, h * D, q->n, 1.0f, q->out);
    transpose_queries(q->qt, q->q, q->n, width);
    transpose_queries(q->dot, q->dout, q->n, width);
    memset(q->dq, 0, (size_t)(NQ * width) * sizeof(float));
    q->lse = job->lse + (b * job->s.H + h) * job->rows + q->t;
    for (int64_t i = 0; i < q->n; i++) {
        vf delta = {0};
        for (int64_t d = 0; d < width; d += LANES)
            delta = vf_fma(vf_load(q->out + i * width + d), vf_load(q->dout + i * width + d),
                           delta);
        q->delta[i] = vf_sum(delta);
    }
}

/* pt = exp(Sᵀ - lse) and dst = pt · (dPᵀ - delta) of one panel of queries; keys from `seen`
 * on, of all `n`, are seen by none of them. */
static void scores_backward(struct backward_block *q, int64_t p, int64_t seen, int64_t n)
{
    for (int c = 0; c < NR; c += LANES) {
        vf lse = vf_load(q->lse + p + c), delta = vf_load(q->delta + p + c);
        float *pt = q->pt + p + c, *dst = q->dst + p + c;
        for (int64_t j = 0; j < seen; j++) {
            vf e = vf_exp(vf_load(pt + j * NQ) - lse);
            vf_store(pt + j * NQ, e);
            vf_store(dst + j * NQ, e * (vf_load(dst + j * NQ) - delta));
        }
        for (int64_t j = seen; j < n; j++) {
            vf_store(pt + j * NQ, (vf){0});
            vf_store(dst + j * NQ, (vf){0});
        }
    }
}

/* What the queries and the keys from s0 on, at most NK, give each other. */
static void backward_tile(const struct heads_job *job, struct backward_block *q,
                          const struct group_rows *r, int64_t b, int64_t s0)
{
    const int64_t width = r->width, at = (s0 - r->first) * width;
    const int64_t block = at_most(q->t + q->n - s0, NK); /* keys any query sees */
    int64_t first = 0;                                   /* queries before see none of them */
    while (keys_seen(q->t + first, s0) <= 0)
        first += NR;
    for (int64_t p = first; p < q->n; p += NR) {
        const int64_t keys = keys_seen(q->t + p, s0);
        product_rows(r->k + at, width, q->qt + p, NQ, job->s.D, q->pt + p, NQ, keys, false);
        product_rows(r->v + at, width, q->dot + p, NQ, job->s.D, q->dst + p, NQ, keys, false);
        mask(job, q->pt + p, b, keys, q->t + p, s0);
        scores_backward(q, p, keys, block);
    }
    for (int64_t d = 0; d < width; d += NR) {
        product_rows(q->pt + first, NQ, q->dout + first * width + d, width, q->n - first,
                     r->dv + at + d, width, block, true);
        product_rows(q->dst + first, NQ, q->q + first * width + d, width, q->n - first,
                     r->dk + at + d, width, block, true);
        product_columns(q->dst + first, NQ, r->k + at + d, width, block, q->dq + first * width + d,
                        width, q->n - first, true);
    }
}

static void backward(const struct heads_job *job, int64_t b, int64_t g, float *scratch)
{
    const int64_t D = job->s.D, heads = job->s.H / job->s.G, row = b * job->rows;
    struct group_rows r;
    group_gather(&r, job, b, g, 0, job->rows, scratch);
    memset(r.dk, 0, (size_t)(2 * job->rows * r.width) * sizeof(float));
    for (int64_t h = g * heads; h < (g + 1) * heads; h++)
        for (int64_t t = 0; t < job->rows; t += NQ) {
            struct backward_block q = {.t = t, .n = at_most(job->rows - t, NQ)};
            backward_gather(&q, job, b, h, r.rest);
            for (int64_t s0 = heads_start(job, b, t); s0 < t + q.n; s0 += NK)
                backward_tile(job, &q, &r, b, s0);
            scatter(job, job->d_qkv, job->cols, row + t, h * D, q.n, 1.0f / sqrtf((float)D), q.dq);
        }
    scatter(job, job->d_qkv, job->cols, row, job->k_col + g * D, job->rows, 1.0f, r.dk);
    scatter(job, job->d_qkv, job->cols, row, job->v_col + g * D, job->rows, 1.0f, r.dv);
}

static void heads_fill(struct kernels *k)
{
    k->heads = (struct heads_engine){NQ_TASK, forward, backward};
    k->heads_bf16 = (struct heads_engine){0};
}
