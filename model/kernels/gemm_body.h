/*
 * Packing, block product and few-rows product of fp32 matrices for one CPU level.
 *
 * The including file defines LANES, MR (rows of a register tile), NV (its width in vectors)
 * and K_STEP. A packed panel holds for each k the MR (NR) values of that k side by side, so
 * the inner loop loads NV vectors of B, broadcasts MR values of A and keeps MR x NV sums in
 * registers. With `round` the operands are rounded to bf16 while packing; the products then
 * are exact and the sums fp32, as in the AMX unit.
 */
#include "model/kernels/simd.h"
#include "model/kernels/table.h"

#include <string.h>

enum { NR = NV * LANES };

INLINE vf rounded(vf x, const bool round)
{
    return round ? vf_round_bf16(x) : x;
}

/* W values to a panel. Whole vectors are stored while that only touches what is written next
 * (`last` says that nothing is), and loaded while the source has them. */
INLINE void copy_row(float *to, const float *from, int64_t available, const int W, bool last,
                     const bool round)
{
    for (int i = 0; i < W; i += LANES) {
        const int n = W - i < LANES ? W - i : LANES;
        vf x = available - i >= LANES ? vf_load(from + i) : vf_load_n(from + i, n);
        if (n == LANES || !last)
            vf_store(to + i, rounded(x, round));
        else
            vf_store_n(to + i, rounded(x, round), n);
    }
}

/* Values of one k lie side by side in src as in a panel: copy, all panels of a k together, so
 * that each line of src is read once. */
INLINE void pack_far(float *panel, const float *src, int64_t ld, int64_t width, int64_t depth,
                     const int W, const bool round)
{
    for (int64_t k = 0; k < depth; k++) {
        const float *from = src + k * ld;
        float *to = panel + k * W;
        int64_t i = 0;
        for (; i + W <= width; i += W)
            copy_row(to + i * depth, from + i, width - i, W, k == depth - 1, round);
        for (int64_t j = i; i < width && j < i + W; j++) {
            float x = j < width ? from[j] : 0.0f;
            to[i * depth + j - i] = round ? rounded(vf_set(x), true)[0] : x;
        }
    }
}

/* Values of one row lie side by side: transpose, LANES rows and values of k at a time. */
INLINE void pack_near_panel(float *panel, const float *src, int64_t ld, int64_t width,
                            int64_t depth, const int W, const bool round)
{
    for (int64_t k = 0; k < depth; k += LANES) {
        int64_t ks = depth - k < LANES ? depth - k : LANES;
        for (int i = 0; i < W; i += LANES) {
            const int n = W - i < LANES ? W - i : LANES;
            vf r[LANES];
            for (int j = 0; j < LANES; j++) {
                r[j] = (vf){0};
                if (j < n && i + j < width) {
                    const float *from = src + (i + j) * ld + k;
                    r[j] = rounded(ks == LANES ? vf_load(from) : vf_load_n(from, ks), round);
                }
            }
            vf_transpose(r);
            for (int j = 0; j < ks; j++) {
                float *to = panel + (k + j) * W + i;
                if (n == LANES || (k + j < depth - 1 && W < LANES))
                    vf_store(to, r[j]);
                else
                    vf_store_n(to, r[j], n);
            }
        }
    }
}

INLINE void pack(float *panel, const float *src, int64_t ld, bool k_near, int64_t width,
                 int64_t depth, const int W, const bool round)
{
    if (!k_near)
        pack_far(panel, src, ld, width, depth, W, round);
    else
        for (int64_t i = 0; i < width; i += W)
            pack_near_panel(panel + i * depth, src + i * ld, ld, width - i, depth, W, round);
}

static void pack_a(void *panels, const float *src, int64_t ld, bool k_near, int64_t width,
                   int64_t depth)
{
    pack(panels, src, ld, k_near, width, depth, MR, false);
}

static void pack_b(void *panels, const float *src, int64_t ld, bool k_near, int64_t width,
                   int64_t depth)
{
    pack(panels, src, ld, k_near, width, depth, NR, false);
}

static void pack_a_rounded(void *panels, const float *src, int64_t ld, bool k_near, int64_t width,
                           int64_t depth)
{
    pack(panels, src, ld, k_near, width, depth, MR, true);
}

static void pack_b_rounded(void *panels, const float *src, int64_t ld, bool k_near, int64_t width,
                           int64_t depth)
{
    pack(panels, src, ld, k_near, width, depth, NR, true);
}

/* One register tile: c (MR, NR) = or += a panel times b panel. */
INLINE void tile(const float *a, const float *b, int64_t depth, float *c, int64_t ldc, bool add)
{
    vf sum[MR][NV];
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < NV; j++)
            sum[i][j] = (vf){0};
    for (int i = 0; i < MR; i++)
        for (int j = 0; j < NR; j += 16)
            __builtin_prefetch(c + i * ldc + j);
    for (int64_t k = 0; k < depth; k++) {
        vf bk[NV];
#pragma GCC unroll 8
        for (int j = 0; j < NV; j++)
            bk[j] = vf_load(b + k * NR + j * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < MR; i++) {
            vf ai = vf_set(a[k * MR + i]);
#pragma GCC unroll 8
            for (int j = 0; j < NV; j++)
                sum[i][j] = vf_fma(ai, bk[j], sum[i][j]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 8
        for (int j = 0; j < NV; j++) {
            float *p = c + i * ldc + j * LANES;
            vf_store(p, add ? vf_load(p) + sum[i][j] : sum[i][j]);
        }
}

/* A tile at the border goes through a full one. */
static void tile_edge(const float *a, const float *b, int64_t depth, float *c, int64_t ldc,
                      int64_t rows, int64_t cols, bool add)
{
    float full[MR * NR] __attribute__((aligned(64)));
    tile(a, b, depth, full, NR, false);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            c[i * ldc + j] = add ? c[i * ldc + j] + full[i * NR + j] : full[i * NR + j];
}

/* The panel of B stays in the first-level cache while the panels of A pass by. */
static void block(const void *a, const void *b, int64_t depth, float *c, int64_t ldc, int64_t rows,
                  int64_t cols, bool add)
{
    for (int64_t j = 0; j < cols; j += NR) {
        const float *bp = (const float *)b + j * depth;
        for (int64_t i = 0; i < rows; i += MR) {
            const float *ap = (const float *)a + i * depth;
            float *cp = c + i * ldc + j;
            if (i + MR <= rows && j + NR <= cols)
                tile(ap, bp, depth, cp, ldc, add);
            else
                tile_edge(ap, bp, depth, cp, ldc, rows - i < MR ? rows - i : MR,
                          cols - j < NR ? cols - j : NR, add);
        }
    }
}

INLINE vf few_load(const float *p, int64_t n, bool round)
{
    vf x = n >= LANES ? vf_load(p) : vf_load_n(p, n);
    return round ? vf_round_bf16(x) : x;
}

/* Dot products of ms rows of A with ns rows of B, vectors along k. */
INLINE void few_dots(const struct gemm_few_args *g, int64_t m, int64_t n, const int ms,
                     const int ns, const bool round)
{
    vf sum[4][8];
    for (int i = 0; i < ms; i++)
        for (int j = 0; j < ns; j++)
            sum[i][j] = (vf){0};
    for (int64_t k = 0; k < g->K; k += LANES) {
        vf a[4];
#pragma GCC unroll 4
        for (int i = 0; i < ms; i++)
            a[i] = few_load(g->a + (m + i) * g->a_row + k, g->K - k, round);
#pragma GCC unroll 8
        for (int j = 0; j < ns; j++) {
            const float *bk = g->b + (n + j) * g->ldb + k;
            vf b = few_load(bk, g->K - k, round);
            __builtin_prefetch(bk + 256);
#pragma GCC unroll 4
            for (int i = 0; i < ms; i++)
                sum[i][j] = vf_fma(a[i], b, sum[i][j]);
        }
    }
    for (int i = 0; i < ms; i++)
        for (int j = 0; j < ns; j++) {
            float *c = g->c + (m + i) * g->ldc + n + j;
            float dot = vf_sum(sum[i][j]);
            *c = g->add ? *c + dot : dot;
        }
}

INLINE void few_near(const struct gemm_few_args *g, const bool round)
{
    int64_t n = 0;
    for (; n + 4 <= g->N; n += 4) {
        int64_t m = 0;
        for (; m + 2 <= g->M; m += 2)
            few_dots(g, m, n, 2, 4, round);
        if (m < g->M)
            few_dots(g, m, n, 1, 4, round);
    }
    for (; n < g->N; n++)
        for (int64_t m = 0; m < g->M; m++)
            few_dots(g, m, n, 1, 1, round);
}

/* One row and nv vectors of columns of C. */
INLINE void few_sums(const struct gemm_few_args *g, int64_t m, int64_t n, const int nv,
                     const bool round)
{
    int64_t left = g->N - n;
    vf sum[8];
    for (int j = 0; j < nv; j++)
        sum[j] = (vf){0};
    for (int64_t k = 0; k < g->K; k++) {
        const float *b = g->b + k * g->ldb + n;
        vf a = vf_set(g->a[m * g->a_row + k * g->a_col]);
        a = round ? vf_round_bf16(a) : a;
#pragma GCC unroll 8
        for (int j = 0; j < nv; j++)
            sum[j] = vf_fma(a, few_load(b + j * LANES, left - j * LANES, round), sum[j]);
    }
    for (int j = 0; j < nv; j++) {
        float *c = g->c + m * g->ldc + n + j * LANES;
        int64_t count = left - j * LANES < LANES ? left - j * LANES : LANES;
        vf_store_n(c, g->add ? vf_load_n(c, count) + sum[j] : sum[j], count);
    }
}

INLINE void few_far(const struct gemm_few_args *g, const bool round)
{
    for (int64_t m = 0; m < g->M; m++) {
        int64_t n = 0;
        for (; n + 8 * LANES <= g->N; n += 8 * LANES)
            few_sums(g, m, n, 8, round);
        for (; n < g->N; n += LANES)
            few_sums(g, m, n, 1, round);
    }
}

static void gemm_few(const struct gemm_few_args *g)
{
    if (g->k_near) {
        if (g->round)
            few_near(g, true);
        else
            few_near(g, false);
    } else {
        if (g->round)
            few_far(g, true);
        else
            few_far(g, false);
    }
}

static void gemm_fill(struct kernels *k)
{
    k->fp32 = (struct gemm_engine){.mr = MR,
                                   .nr = NR,
                                   .k_step = K_STEP,
                                   .k_pad = 1,
                                   .element_bytes = sizeof(float),
                                   .pack_a = pack_a,
                                   .pack_b = pack_b,
                                   .block = block};
    k->bf16 = k->fp32;
    k->bf16.pack_a = pack_a_rounded;
    k->bf16.pack_b = pack_b_rounded;
    k->gemm_few = gemm_few;
}
