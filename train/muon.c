/*
 * Newton-Schulz steps by the products on rows, on the smaller side of the matrix.
 */
#include "train/muon.h"

#include "model/kernels/kernels.h"
#include "train/optimizer.h"

enum { STEPS = 5 };
static const float A = 3.4445f, B = -4.7750f, C = 2.0315f;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

size_t muon_scratch(int64_t rows, int64_t cols)
{
    int64_t n = smaller(rows, cols);
    return 2 * (size_t)(rows * cols) + 2 * (size_t)(n * n);
}

/* y = a x + b y */
static void combine(float *y, const float *x, float a, float b, int64_t n)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        y[i] = a * x[i] + b * y[i];
}

static void scale(float *y, const float *x, float a, int64_t n)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++)
        y[i] = a * x[i];
}

/* y = A x + (B g + C g²) x for g = x xᵀ if that is the smaller one, else y = A x + x (…) for
 * g = xᵀ x: the same matrix. g and square: (n, n). */
static void newton_schulz(const float *x, float *y, float *g, float *square, int64_t rows,
                          int64_t cols)
{
    const enum kernel_precision p = KERNEL_BF16;
    const bool wide = rows <= cols;
    const int64_t n = smaller(rows, cols);
    gemm(wide ? GEMM_NT : GEMM_TN, p, n, n, wide ? cols : rows, x, cols, x, cols, g, n, false);
    gemm(GEMM_NN, p, n, n, n, g, n, g, n, square, n, false);
    combine(square, g, B, C, n * n);
    scale(y, x, A, rows * cols);
    if (wide)
        gemm(GEMM_NN, p, rows, cols, n, square, n, x, cols, y, cols, true);
    else
        gemm(GEMM_NN, p, rows, cols, n, x, cols, square, n, y, cols, true);
}

float *muon_direction(float *scratch, int64_t rows, int64_t cols)
{
    const int64_t n = smaller(rows, cols);
    float *x = scratch, *y = x + rows * cols, *g = y + rows * cols, *square = g + n * n;
    double norm = grad_norm(x, (size_t)(rows * cols));
    scale(x, x, (float)(1.0 / (norm + 1e-30)), rows * cols);
    for (int i = 0; i < STEPS; i++) {
        newton_schulz(x, y, g, square, rows, cols);
        float *last = x;
        x = y;
        y = last;
    }
    return x;
}
