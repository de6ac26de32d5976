/*
 * The drivers of the kernels on plain rows: share rows or runs among the threads. Every result
 * belongs to one row.
 */
#include "model/kernels/table.h"

#include <math.h>
#include <omp.h>

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

void adamw_run(float *p, const float *g, float *m, float *v, int64_t n,
               const struct adamw_constants *k)
{
    kernels.adamw(p, g, m, v, n, k);
}

double sum_squares(const float *x, int64_t n)
{
    return kernels.sum_squares(x, n);
}
