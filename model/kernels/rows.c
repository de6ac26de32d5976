/*
 * The drivers of the row-wise kernels: share rows or runs among the threads. Every result
 * belongs to one row, except the gradient of a norm's weight, which is summed over blocks of
 * rows whose number depends on the shape alone.
 */
#include "model/kernels/table.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum {
    RUN = 16 * 1024,  /* values of a task of an elementwise kernel */
    SMALL = 64 * 1024 /* fewer values are not worth waking threads for */
};

static int threads_for(int64_t values)
{
    return values < SMALL ? 1 : kernels_threads();
}

/* Rows of a task, so that one has about RUN values. */
static int64_t task_rows(int64_t C)
{
    return C >= RUN ? 1 : RUN / C;
}

static int64_t at_most(int64_t x, int64_t limit)
{
    return x < limit ? x : limit;
}

void rmsnorm_forward(const float *x, const float *w, float *y, float *rstd, int64_t n, int64_t C,
                     double eps)
{
    int64_t rows = task_rows(C);
#pragma omp parallel for schedule(static) num_threads(threads_for(n *C))
    for (int64_t i = 0; i < n; i += rows)
        kernels.rmsnorm_forward(x + i * C, w, y + i * C, rstd + i, at_most(n - i, rows), C,
                                (float)eps);
}

/* Rows [b * rows, …) of the backward pass; the weight's gradient into a cleared `part`. */
static void rmsnorm_backward_block(const float *x, const float *w, const float *rstd,
                                   const float *dy, float *dx, float *part, int64_t b, int64_t rows,
                                   int64_t n, int64_t C)
{
    int64_t i = b * rows;
    if (part)
        memset(part, 0, (size_t)C * sizeof(float));
    if (i < n)
        kernels.rmsnorm_backward(x + i * C, w, rstd + i, dy + i * C, dx + i * C, part,
                                 at_most(n - i, rows), C);
}

void rmsnorm_backward(const float *x, const float *w, const float *rstd, const float *dy, float *dx,
                      float *dw, int64_t n, int64_t C)
{
    MW_ASSERT(C <= NORM_WIDTH_MAX);
    int64_t blocks = at_most(NORM_BLOCKS, (n + 15) / 16);
    int64_t rows = blocks > 0 ? (n + blocks - 1) / blocks : 1;
    if (omp_in_parallel()) { /* the same blocks, one after the other */
        float *part = dw ? kernels_thread_scratch() : NULL;
        for (int64_t b = 0; b < blocks; b++) {
            rmsnorm_backward_block(x, w, rstd, dy, dx, part, b, rows, n, C);
            if (dw)
                kernels.vector_add(dw, part, C);
        }
        return;
    }
    float *partials = kernels_partials();
#pragma omp parallel for schedule(static) num_threads(threads_for(n *C))
    for (int64_t b = 0; b < blocks; b++)
        rmsnorm_backward_block(x, w, rstd, dy, dx, dw ? partials + b * C : NULL, b, rows, n, C);
    for (int64_t b = 0; dw && b < blocks; b++)
        kernels.vector_add(dw, partials + b * C, C);
}

void rope_table(float *cosine, float *sine, int64_t T, int64_t D, double theta)
{
    for (int64_t i = 0; i < D / 2; i++) {
        double frequency = pow(theta, -2.0 * (double)i / (double)D);
        for (int64_t t = 0; t < T; t++) {
            double angle = (double)t * frequency;
            cosine[t * (D / 2) + i] = (float)cos(angle);
            sine[t * (D / 2) + i] = (float)sin(angle);
        }
    }
}

void rope_apply(float *x, const float *cosine, const float *sine, int64_t B, int64_t T,
                int64_t heads, int64_t D, int64_t pos0, bool inverse)
{
#pragma omp parallel for schedule(static) num_threads(threads_for(B *T *heads *D))
    for (int64_t i = 0; i < B * T; i++) {
        int64_t row = (pos0 + i % T) * (D / 2);
        kernels.rope(x + i * heads * D, cosine + row, sine + row, heads, D, inverse);
    }
}

void swiglu_forward(const float *gate, const float *up, float *y, int64_t n)
{
#pragma omp parallel for schedule(static) num_threads(threads_for(n))
    for (int64_t i = 0; i < n; i += RUN)
        kernels.swiglu_forward(gate + i, up + i, y + i, at_most(n - i, RUN));
}

void swiglu_backward(const float *gate, const float *up, const float *dy, float *dgate, float *dup,
                     int64_t n)
{
#pragma omp parallel for schedule(static) num_threads(threads_for(n))
    for (int64_t i = 0; i < n; i += RUN)
        kernels.swiglu_backward(gate + i, up + i, dy + i, dgate + i, dup + i, at_most(n - i, RUN));
}

void cross_entropy(float *logits, const uint32_t *targets, float *losses, int64_t n, int64_t V,
                   float scale)
{
#pragma omp parallel for schedule(static) num_threads(threads_for(n *V))
    for (int64_t i = 0; i < n; i++) {
        float *row = logits + i * V;
        if (targets[i] != UINT32_MAX) {
            losses[i] = kernels.cross_entropy(row, targets[i], V, scale);
            continue;
        }
        losses[i] = 0.0f;
        for (int64_t j = 0; scale != 0 && j < V; j++)
            row[j] = 0.0f;
    }
}

void vector_add(float *x, const float *y, int64_t n)
{
#pragma omp parallel for schedule(static) num_threads(threads_for(n))
    for (int64_t i = 0; i < n; i += RUN)
        kernels.vector_add(x + i, y + i, at_most(n - i, RUN));
}

void adamw_run(float *p, const float *g, float *m, float *v, int64_t n,
               const struct adamw_constants *k)
{
    kernels.adamw(p, g, m, v, n, k);
}

double sum_squares(const float *x, int64_t n)
{
    return kernels.sum_squares(x, n);
}
