/*
 * The driver of the matrix products: cuts C into blocks, packs what they need and hands them
 * to the threads.
 *
 * k is cut into steps whose length depends on K alone, and each element of C takes them in
 * order; how rows and columns are cut therefore has no influence on the result, and follows
 * the number of threads and the scratch memory at hand (the usual five loops: Goto and van de
 * Geijn 2008; Smith et al. 2014).
 */
#include "model/kernels/table.h"

#include <omp.h>

enum {
    /* Up to so many rows packing B costs more than it gives: where that is a transposition,
     * and where it is a copy. */
    FEW_ROWS_NEAR = 8,
    FEW_ROWS_FAR = 1,
    FEW_COLUMNS = 256, /* columns of a task then */
    PACK_PANELS = 8    /* packed by one call, at most */
};

struct job {
    const struct gemm_engine *engine;
    int64_t M, N, K;
    const float *a, *b;
    int64_t lda, ldb;
    bool a_near, b_near; /* k is the fast index */
    float *c;
    int64_t ldc;
    bool accumulate;
    int64_t k_step;
    struct gemm_scratch *scratch;
    int threads;
};

/* One block of C that fits the scratch memory: [m0, m0 + ms) x [n0, n0 + ns), k from k0. */
struct part {
    int64_t m0, ms, n0, ns, k0, depth, padded;
};

static int64_t at_most(int64_t x, int64_t limit)
{
    return x < limit ? x : limit;
}

static int64_t round_up(int64_t x, int64_t step)
{
    return (x + step - 1) / step * step;
}

/* Rows or columns to pack by one call, so that every thread gets some. */
static int64_t pack_step(const struct job *j, int64_t width, int panel)
{
    int64_t panels = (width + panel - 1) / panel, share = panels / (2 * j->threads);
    return panel * (share < 1 ? 1 : at_most(share, PACK_PANELS));
}

static void pack_b_part(const struct job *j, const struct part *p)
{
    const struct gemm_engine *e = j->engine;
    const int64_t step = pack_step(j, p->ns, e->nr);
#pragma omp for schedule(static) nowait
    for (int64_t n = 0; n < p->ns; n += step)
        e->pack_b((char *)j->scratch->b + (size_t)(n * p->padded) * e->element_bytes,
                  j->b + (j->b_near ? (p->n0 + n) * j->ldb + p->k0 : p->k0 * j->ldb + p->n0 + n),
                  j->ldb, j->b_near, at_most(p->ns - n, step), p->depth);
}

static void pack_a_part(const struct job *j, const struct part *p)
{
    const struct gemm_engine *e = j->engine;
    const int64_t step = pack_step(j, p->ms, e->mr);
#pragma omp for schedule(static)
    for (int64_t m = 0; m < p->ms; m += step)
        e->pack_a((char *)j->scratch->a + (size_t)(m * p->padded) * e->element_bytes,
                  j->a + (j->a_near ? (p->m0 + m) * j->lda + p->k0 : p->k0 * j->lda + p->m0 + m),
                  j->lda, j->a_near, at_most(p->ms - m, step), p->depth);
}

/* Tasks of about 128 x 512, smaller if that leaves threads without work. */
static void task_size(const struct job *j, const struct part *p, int64_t *rows, int64_t *cols)
{
    const struct gemm_engine *e = j->engine;
    int64_t r = round_up(128, e->mr), c = round_up(512, e->nr);
    while (j->threads > 1 && (r > e->mr || c > e->nr)) {
        int64_t tasks = ((p->ms + r - 1) / r) * ((p->ns + c - 1) / c);
        if (tasks >= 6 * j->threads)
            break;
        if (c > 2 * r || r <= e->mr)
            c = round_up(c / 2, e->nr);
        else
            r = round_up(r / 2, e->mr);
    }
    *rows = r;
    *cols = c;
}

static void multiply_part(const struct job *j, const struct part *p)
{
    const struct gemm_engine *e = j->engine;
    int64_t rows, cols;
    task_size(j, p, &rows, &cols);
    int64_t across = (p->ns + cols - 1) / cols, down = (p->ms + rows - 1) / rows;
    bool add = j->accumulate || p->k0 > 0;
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < across * down; task++) {
        /* Neighbouring tasks share columns: they stay in the second-level cache. */
        int64_t m = task % down * rows, n = task / down * cols;
        e->block((const char *)j->scratch->a + (size_t)(m * p->padded) * e->element_bytes,
                 (const char *)j->scratch->b + (size_t)(n * p->padded) * e->element_bytes,
                 p->padded, j->c + (p->m0 + m) * j->ldc + p->n0 + n, j->ldc,
                 at_most(p->ms - m, rows), at_most(p->ns - n, cols), add);
    }
}

static void run_job(const struct job *j)
{
    const struct gemm_engine *e = j->engine;
    for (int64_t n0 = 0; n0 < j->N; n0 += j->scratch->b_cols) {
        for (int64_t k0 = 0; k0 < j->K; k0 += j->k_step) {
            for (int64_t m0 = 0; m0 < j->M; m0 += j->scratch->a_rows) {
                struct part p = {.m0 = m0,
                                 .ms = at_most(j->M - m0, j->scratch->a_rows),
                                 .n0 = n0,
                                 .ns = at_most(j->N - n0, j->scratch->b_cols),
                                 .k0 = k0,
                                 .depth = at_most(j->K - k0, j->k_step)};
                p.padded = round_up(p.depth, e->k_pad);
                if (m0 == 0)
                    pack_b_part(j, &p);
                pack_a_part(j, &p);
                multiply_part(j, &p);
            }
        }
    }
}

static void gemm_packed(struct job *j)
{
    const struct gemm_engine *e = j->engine;
    /* Steps of equal length: K = 257 should not end with a step of 1. */
    int64_t steps = (j->K + e->k_step - 1) / e->k_step;
    j->k_step = round_up((j->K + steps - 1) / steps, e->k_pad);
    j->scratch = kernels_gemm_scratch();
    j->threads = kernels_threads();
    if (j->M * j->N * j->K < 32 * 32 * 32)
        j->threads = 1;
#pragma omp parallel num_threads(j->threads)
    run_job(j);
}

static void gemm_few_rows(const struct gemm_few_args *g)
{
    int threads = g->M * g->N * g->K < 64 * 1024 ? 1 : kernels_threads();
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t n = 0; n < g->N; n += FEW_COLUMNS) {
        struct gemm_few_args part = *g;
        part.N = at_most(g->N - n, FEW_COLUMNS);
        part.b += g->k_near ? n * g->ldb : n;
        part.c += n;
        kernels.gemm_few(&part);
    }
}

void gemm(enum gemm_layout layout, enum kernel_precision precision, int64_t M, int64_t N, int64_t K,
          const float *A, int64_t lda, const float *B, int64_t ldb, float *C, int64_t ldc,
          bool accumulate)
{
    MW_ASSERT(kernels.fp32.block);
    if (K <= 0 && !accumulate)
        for (int64_t m = 0; m < M; m++)
            for (int64_t n = 0; n < N; n++)
                C[m * ldc + n] = 0.0f;
    if (M <= 0 || N <= 0 || K <= 0)
        return;
    bool a_near = layout != GEMM_TN, b_near = layout == GEMM_NT;
    if (M <= (b_near ? FEW_ROWS_NEAR : FEW_ROWS_FAR)) {
        gemm_few_rows(&(struct gemm_few_args){.M = M,
                                              .N = N,
                                              .K = K,
                                              .a = A,
                                              .a_row = a_near ? lda : 1,
                                              .a_col = a_near ? 1 : lda,
                                              .b = B,
                                              .ldb = ldb,
                                              .k_near = b_near,
                                              .c = C,
                                              .ldc = ldc,
                                              .add = accumulate,
                                              .round = precision == KERNEL_BF16});
        return;
    }
    struct job j = {.engine = precision == KERNEL_BF16 ? &kernels.bf16 : &kernels.fp32,
                    .M = M,
                    .N = N,
                    .K = K,
                    .a = A,
                    .b = B,
                    .lda = lda,
                    .ldb = ldb,
                    .a_near = a_near,
                    .b_near = b_near,
                    .c = C,
                    .ldc = ldc,
                    .accumulate = accumulate};
    gemm_packed(&j);
}
