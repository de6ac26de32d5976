/*
 * Attention with bf16 operands in the AMX tile unit.
 *
 * Transposed as in attention_body.h: Sᵀ = K Qᵀ has one key a row and one query a lane. The
 * probabilities of 32 keys and 32 queries then turn into an operand of the next product
 * without leaving their lanes: rows of keys are rows of A (for dV and dK), pairs of keys rows
 * of B (for O and dQ). Statistics, sums and the output stay fp32. exp is taken to base 2, with
 * log2(e) in the scale of q.
 */
#if defined(__x86_64__)
#include "model/kernels/amx.h"
#include "model/kernels/table.h"

#include <math.h>
#include <string.h>

enum {
    NQ = 256,          /* queries of a task, forward */
    NK = 128,          /* keys at a time, forward */
    BACKWARD_NQ = 128, /* queries and keys of a tile, backward */
    BACKWARD_NK = 256
};
static const float LOG2_E = 1.44269504f, LN_2 = 0.693147181f;
static const float FAR_BELOW = -1e30f; /* instead of -Inf, which exp2 need not meet */

/* 2^x = 2^floor(x) · p(x - floor(x)), relative error below 3e-6; FAR_BELOW gives 0. */
INLINE vf exp2_vector(vf x)
{
    vf r = (vf)_mm512_reduce_ps((__m512)x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    vf p = vf_fma(vf_set(0.013534166850f), r, vf_set(0.052011463791f));
    p = vf_fma(p, r, vf_set(0.241442754865f));
    p = vf_fma(p, r, vf_set(0.693003833294f));
    p = vf_fma(p, r, vf_set(1.0000026226f));
    return (vf)_mm512_scalef_ps((__m512)p, (__m512)x);
}

INLINE int64_t at_most(int64_t x, int64_t limit)
{
    return x < limit ? x : limit;
}

INLINE int64_t up_32(int64_t x)
{
    return (x + 31) / 32 * 32;
}

static uint16_t *take_bf16(float **at, int64_t values)
{
    uint16_t *p = (uint16_t *)(void *)*at;
    *at += values / 2;
    return p;
}

static float *take_floats(float **at, int64_t values)
{
    float *p = *at;
    *at += values;
    return p;
}

/* Lanes of queries t … t+15 that come before key s. */
INLINE vi before(int64_t t, int64_t s)
{
    return (vi)LANE_INDEX < (int32_t)(s - t);
}

/* to (n, D) = or += scale · from (D, 32)ᵀ, rows of `to` ld apart; lane i of from is row i. */
INLINE void unpack_group(float *to, int64_t ld, const float *from, int64_t n, int64_t D,
                         const float *scale, bool add)
{
    for (int64_t q = 0; q < n; q += 16) {
        for (int64_t d = 0; d < D; d += 16) {
            int64_t ds = at_most(D - d, 16);
            vf r[16], factor = vf_load(scale + q);
            for (int i = 0; i < 16; i++)
                r[i] = i < ds ? vf_load(from + (d + i) * 32 + q) * factor : factor;
            vf_transpose(r);
            for (int i = 0; i < 16 && q + i < n; i++) {
                float *p = to + (q + i) * ld + d;
                if (add)
                    r[i] += vf_load_n(p, ds);
                vf_store_n(p, r[i], ds);
            }
        }
    }
}

/* --- forward ------------------------------------------------------------------ */

/* Online softmax of 32 queries: st (keys, 32) becomes a panel of B, exp2(st - max) before
 * division by the sum. A query's max follows its scores only when they exceed it by 8: up to
 * 256 instead of 1 does no harm, and ot (width, 32) is rarely scaled to a new one. */
static void softmax_group(const float *st, int64_t keys, uint16_t *pt, float *max, float *sum,
                          float *ot, int64_t width)
{
    for (int c = 0; c < 2; c++, st += 16, max += 16, sum += 16, ot += 16) {
        vf old = vf_load(max), even = old, odd = old;
        for (int64_t j = 0; j < keys; j += 2) {
            even = vf_max(even, vf_load(st + j * 32));
            odd = vf_max(odd, vf_load(st + j * 32 + 32));
        }
        vf highest = vf_max(even, odd), total_even = {0}, total_odd = {0};
        vi grown = highest > old + 8.0f;
        vf now = vf_select(grown, highest, old);
        for (int64_t j = 0; j < keys; j += 2) {
            vf a = exp2_vector(vf_load(st + j * 32) - now);
            vf b = exp2_vector(vf_load(st + j * 32 + 32) - now);
            total_even += a;
            total_odd += b;
            _mm512_storeu_si512(pt + j / 32 * 2 * TILE + c * TILE + j / 2 % 16 * 32, pairs(a, b));
        }
        vf shrink = exp2_vector(old - now);
        vf_store(max, now);
        vf_store(sum, vf_fma(vf_load(sum), shrink, total_even + total_odd));
        if (_mm512_test_epi32_mask((__m512i)grown, (__m512i)grown))
            for (int64_t d = 0; d < width; d++)
                vf_store(ot + d * 32, vf_load(ot + d * 32) * shrink);
    }
}

/* Scores of keys that come after the query. */
static void mask_group(float *st, int64_t keys, int64_t t, int64_t s0)
{
    for (int64_t j = t - s0 + 1 > 0 ? t - s0 + 1 : 0; j < keys; j++)
        for (int c = 0; c < 32; c += 16) {
            float *p = st + j * 32 + c;
            vf_store(p, vf_select(before(t + c, s0 + j), vf_set(FAR_BELOW), vf_load(p)));
        }
}

struct forward_block {
    uint16_t *q;      /* panels of B: queries, k = D */
    uint16_t *k;      /* panels of A: keys, k = D */
    uint16_t *v;      /* panels of A: D, k = keys */
    uint16_t *pt;     /* one panel of B: 32 queries, k = keys */
    float *st;        /* (NK, 32) */
    float *ot;        /* (NQ / 32, width, 32) */
    float *max, *sum; /* (NQ) */
};

/* The 32 queries from t (position i of the block) with the keys from s0. */
static void forward_group(const struct forward_block *f, int64_t i, int64_t t, int64_t s0,
                          int64_t keys, int64_t width)
{
    int64_t seen = up_32(at_most(keys, t + 32 - s0)), padded = up_32(keys);
    float *ot = f->ot + i * width;
    for (int64_t s = 0; s < seen; s += 32)
        panel_product(f->k + s * width, f->q + i * width, width, f->st + s * 32, 32, false, false);
    mask_group(f->st, seen, t, s0); /* with them what only fills the last panel */
    softmax_group(f->st, seen, f->pt, f->max + i, f->sum + i, ot, width);
    for (int64_t d = 0; d < width; d += 32)
        panel_product(f->v + d * padded, f->pt, seen, ot + d * 32, 32, true, false);
}

static void forward(const struct attention_job *job, int64_t b, int64_t h, int64_t t0,
                    float *scratch)
{
    const struct attention_shape *s = &job->s;
    const int64_t T = s->T, D = s->D, q_row = s->H * D, k_row = s->G * D, width = up_32(D);
    const int64_t g = h / (s->H / s->G), n = at_most(T - t0, NQ);
    const int64_t q0 = (b * T + t0) * q_row + h * D, k0 = b * T * k_row + g * D;
    struct forward_block f;
    f.q = take_bf16(&scratch, NQ * width);
    f.k = take_bf16(&scratch, NK * width);
    f.v = take_bf16(&scratch, NK * width);
    f.pt = take_bf16(&scratch, NK * 32);
    f.st = take_floats(&scratch, NK * 32);
    f.ot = take_floats(&scratch, NQ * width);
    f.max = take_floats(&scratch, NQ);
    f.sum = take_floats(&scratch, NQ);
    pack_panels(f.q, job->q + q0, q_row, true, n, D, true, LOG2_E / sqrtf((float)D));
    memset(f.ot, 0, (size_t)(NQ * width) * sizeof(float));
    for (int i = 0; i < NQ; i++) {
        f.max[i] = FAR_BELOW;
        f.sum[i] = 0.0f;
    }
    _tile_loadconfig(&tiles);
    for (int64_t s0 = 0; s0 < t0 + n; s0 += NK) {
        int64_t keys = at_most(t0 + n - s0, NK);
        pack_panels(f.k, job->k + k0 + s0 * k_row, k_row, true, keys, D, false, 1.0f);
        pack_panels(f.v, job->v + k0 + s0 * k_row, k_row, false, D, keys, false, 1.0f);
        for (int64_t i = 0; i < n; i += 32)
            if (s0 < t0 + i + 32)
                forward_group(&f, i, t0 + i, s0, keys, width);
    }
    _tile_release();
    for (int64_t i = 0; i < n; i++)
        job->lse[(b * s->H + h) * T + t0 + i] = LN_2 * f.max[i] + logf(f.sum[i]);
    for (int64_t i = 0; i < n; i += 32) {
        for (int c = 0; c < 32; c += 16)
            vf_store(f.sum + i + c, 1.0f / vf_load(f.sum + i + c));
        unpack_group(job->out + q0 + i * q_row, q_row, f.ot + i * width, at_most(n - i, 32), D,
                     f.sum + i, false);
    }
}

/* --- backward ----------------------------------------------------------------- */

/* A tile of queries of one head and keys. Panels named by what their rows or columns are and
 * what is summed over. */
struct tile {
    uint16_t *keys_d, *values_d; /* A: keys, k = D */
    uint16_t *d_keys;            /* A: D, k = keys */
    uint16_t *q_d, *dout_d;      /* B: queries, k = D; q scaled */
    uint16_t *d_q, *d_dout;      /* B: D, k = queries */
    uint16_t *p, *ds;            /* A: keys, k = queries */
    uint16_t *ds_keys;           /* B: queries, k = keys */
    float *st, *dst;             /* (32, 32) */
    float *dqt;                  /* (BACKWARD_NQ / 32, width, 32) */
    float *dk, *dv;              /* (BACKWARD_NK, width) */
    float *lse, *delta;          /* (BACKWARD_NQ), lse to base 2 */
    int64_t t0, n, s0, keys, width;
};

static void tile_place(struct tile *t, float *at)
{
    const int64_t width = t->width;
    uint16_t **of_keys[] = {&t->keys_d, &t->values_d, &t->d_keys};
    uint16_t **of_queries[] = {&t->q_d, &t->dout_d, &t->d_q, &t->d_dout};
    uint16_t **of_both[] = {&t->p, &t->ds, &t->ds_keys};
    for (int i = 0; i < 3; i++)
        *of_keys[i] = take_bf16(&at, BACKWARD_NK * width);
    for (int i = 0; i < 4; i++)
        *of_queries[i] = take_bf16(&at, BACKWARD_NQ * width);
    for (int i = 0; i < 3; i++)
        *of_both[i] = take_bf16(&at, BACKWARD_NQ * BACKWARD_NK);
    t->st = take_floats(&at, 32 * 32);
    t->dst = take_floats(&at, 32 * 32);
    t->dqt = take_floats(&at, BACKWARD_NQ * width);
    t->dk = take_floats(&at, BACKWARD_NK * width);
    t->dv = take_floats(&at, BACKWARD_NK * width);
    t->lse = take_floats(&at, BACKWARD_NQ);
    t->delta = take_floats(&at, BACKWARD_NQ);
}

static void tile_pack_queries(struct tile *t, const struct attention_job *job, int64_t b, int64_t h)
{
    const struct attention_shape *s = &job->s;
    const int64_t D = s->D, row = s->H * D, at = (b * s->T + t->t0) * row + h * D;
    const float *q = job->q + at, *dout = job->dout + at, *out = job->out + at;
    pack_panels(t->q_d, q, row, true, t->n, D, true, LOG2_E / sqrtf((float)D));
    pack_panels(t->dout_d, dout, row, true, t->n, D, true, 1.0f);
    pack_panels(t->d_q, q, row, false, D, t->n, true, 1.0f);
    pack_panels(t->d_dout, dout, row, false, D, t->n, true, 1.0f);
    for (int64_t i = 0; i < BACKWARD_NQ; i++) {
        vf delta = {0};
        for (int64_t d = 0; i < t->n && d < D; d += 16) {
            int64_t ds = at_most(D - d, 16);
            delta = vf_fma(vf_load_n(out + i * row + d, ds), vf_load_n(dout + i * row + d, ds),
                           delta);
        }
        t->delta[i] = vf_sum(delta);
        t->lse[i] = 0.0f;
        if (i < t->n)
            t->lse[i] = LOG2_E * job->lse[(b * s->H + h) * s->T + t->t0 + i];
    }
}

/* Probabilities and gradient of the scores of 32 queries (at i) and 32 keys (at j), as
 * operands of the products that follow. */
INLINE void tile_scores(const struct tile *t, int64_t i, int64_t j, const bool masked)
{
    uint16_t *p_at = t->p + j * BACKWARD_NQ + i * 32, *ds_at = t->ds + j * BACKWARD_NQ + i * 32;
    uint16_t *ds_keys = t->ds_keys + i * BACKWARD_NK + j * 32;
    vf lse[2] = {vf_load(t->lse + i), vf_load(t->lse + i + 16)};
    vf delta[2] = {vf_load(t->delta + i), vf_load(t->delta + i + 16)};
    for (int row = 0; row < 32; row += 2) {
        vf p[2][2], ds[2][2];
        for (int r = 0; r < 2; r++) {
            for (int c = 0; c < 2; c++) {
                p[r][c] = exp2_vector(vf_load(t->st + (row + r) * 32 + c * 16) - lse[c]);
                if (masked)
                    p[r][c] = vf_select(before(t->t0 + i + c * 16, t->s0 + j + row + r), (vf){0},
                                        p[r][c]);
                ds[r][c] = p[r][c] * (vf_load(t->dst + (row + r) * 32 + c * 16) - delta[c]);
            }
            _mm512_storeu_si512(p_at + (row + r) * 32,
                                (__m512i)_mm512_cvtne2ps_pbh((__m512)p[r][1], (__m512)p[r][0]));
            _mm512_storeu_si512(ds_at + (row + r) * 32,
                                (__m512i)_mm512_cvtne2ps_pbh((__m512)ds[r][1], (__m512)ds[r][0]));
        }
        for (int c = 0; c < 2; c++)
            _mm512_storeu_si512(ds_keys + c * TILE + row / 2 * 32, pairs(ds[0][c], ds[1][c]));
    }
}

static void tile_head(struct tile *t, const struct attention_job *job, int64_t b, int64_t h)
{
    const int64_t width = t->width, D = job->s.D, queries = up_32(t->n), padded = up_32(t->keys);
    float scale[32];
    tile_pack_queries(t, job, b, h);
    for (int64_t i = 0; i < queries; i += 32) {
        for (int64_t j = 0; j < t->keys && t->s0 + j < t->t0 + i + 32; j += 32) {
            panel_product(t->keys_d + j * width, t->q_d + i * width, width, t->st, 32, false,
                          false);
            panel_product(t->values_d + j * width, t->dout_d + i * width, width, t->dst, 32, false,
                          false);
            if (t->s0 + j + 31 > t->t0 + i)
                tile_scores(t, i, j, true);
            else
                tile_scores(t, i, j, false);
        }
    }
    for (int64_t j = 0; j < t->keys; j += 32) {
        int64_t first = t->s0 + j > t->t0 ? (t->s0 + j - t->t0) / 32 * 32 : 0;
        for (int64_t d = 0; d < width && first < queries; d += 32) {
            const int64_t a = j * BACKWARD_NQ + first * 32, c = d * queries + first * 32;
            float *dv = t->dv + j * width + d, *dk = t->dk + j * width + d;
            panel_product(t->p + a, t->d_dout + c, queries - first, dv, width, true, false);
            panel_product(t->ds + a, t->d_q + c, queries - first, dk, width, true, false);
        }
    }
    for (int i = 0; i < 32; i++)
        scale[i] = 1.0f / sqrtf((float)D);
    for (int64_t i = 0; i < t->n; i += 32) {
        int64_t seen = at_most(padded, up_32(t->t0 + i + 32 - t->s0));
        float *dqt = t->dqt + i * width;
        if (t->s0 >= t->t0 + i + 32)
            continue;
        for (int64_t d = 0; d < width; d += 32)
            panel_product(t->d_keys + d * padded, t->ds_keys + i * BACKWARD_NK, seen, dqt + d * 32,
                          32, false, false);
        unpack_group(job->dq + ((b * job->s.T + t->t0 + i) * job->s.H + h) * D, job->s.H * D, dqt,
                     at_most(t->n - i, 32), D, scale, true);
    }
}

static void add_keys(float *to, int64_t ld, const float *from, const struct tile *t, int64_t D,
                     float scale)
{
    for (int64_t i = 0; i < t->keys; i++)
        for (int64_t d = 0; d < D; d += 16) {
            int64_t ds = at_most(D - d, 16);
            float *p = to + i * ld + d;
            vf_store_n(p, vf_fma(vf_load(from + i * t->width + d), vf_set(scale), vf_load_n(p, ds)),
                       ds);
        }
}

static void backward(const struct attention_job *job, int64_t b, int64_t g, int64_t t0, int64_t s0,
                     float *scratch)
{
    const struct attention_shape *s = &job->s;
    const int64_t D = s->D, k_row = s->G * D, at = (b * s->T + s0) * k_row + g * D;
    struct tile t = {.t0 = t0, .s0 = s0, .width = up_32(D)};
    t.n = at_most(s->T - t0, BACKWARD_NQ);
    t.keys = at_most(t0 + t.n - s0, BACKWARD_NK); /* no query sees later ones */
    tile_place(&t, scratch);
    pack_panels(t.keys_d, job->k + at, k_row, true, t.keys, D, false, 1.0f);
    pack_panels(t.values_d, job->v + at, k_row, true, t.keys, D, false, 1.0f);
    pack_panels(t.d_keys, job->k + at, k_row, false, D, t.keys, false, 1.0f);
    memset(t.dk, 0, (size_t)(up_32(t.keys) * t.width) * sizeof(float));
    memset(t.dv, 0, (size_t)(up_32(t.keys) * t.width) * sizeof(float));
    _tile_loadconfig(&tiles);
    for (int64_t h = g * (s->H / s->G); h < (g + 1) * (s->H / s->G); h++)
        tile_head(&t, job, b, h);
    _tile_release();
    add_keys(job->dk + at, k_row, t.dk, &t, D, 1.0f / sqrtf((float)D));
    add_keys(job->dv + at, k_row, t.dv, &t, D, 1.0f);
}

void attention_fill_amx(struct kernels *k)
{
    k->attention_bf16 = (struct attention_engine){.queries_forward = NQ,
                                                  .queries_backward = BACKWARD_NQ,
                                                  .keys_backward = BACKWARD_NK,
                                                  .forward = forward,
                                                  .backward = backward};
}
#endif
