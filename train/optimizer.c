/*
 * Owns the optimiser step: cuts the parameters into fixed blocks, so that the
 * sums and the updates do not depend on the number of threads. The arithmetic
 * of one block is a kernel (model/kernels/kernels.h).
 */
#include "train/optimizer.h"

#include "common/err.h"
#include "model/kernels/kernels.h"

#include <math.h>

/* Floats in a block: 64 KiB of gradients, so p, g, m and v of one block stay in L2. */
#define BLOCK ((size_t)1 << 14)
/* Blocks whose sums are held at a time: a fixed array instead of one sized by the model. */
#define GROUP ((size_t)256)

static size_t block_size(size_t n, size_t at)
{
    return n - at < BLOCK ? n - at : BLOCK;
}

void adamw_step(const struct adamw *o, float *p, const float *g, float *m, float *v, size_t n,
                uint64_t t, double lr, double grad_scale)
{
    MW_ASSERT(t > 0);
    const struct adamw_constants k = {
        .lr = (float)lr,
        .beta1 = (float)o->beta1,
        .beta2 = (float)o->beta2,
        .eps = (float)o->eps,
        .weight_decay = (float)o->weight_decay,
        .c1 = (float)(1.0 - pow(o->beta1, (double)t)),
        .c2 = (float)(1.0 - pow(o->beta2, (double)t)),
        .grad_scale = (float)grad_scale,
    };
    const int64_t blocks = (int64_t)((n + BLOCK - 1) / BLOCK);
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < blocks; b++) {
        size_t at = (size_t)b * BLOCK;
        adamw_run(p + at, g + at, m + at, v + at, (int64_t)block_size(n, at), &k);
    }
}

double grad_norm(const float *g, size_t n)
{
    double part[GROUP];
    double sum = 0;
    for (size_t start = 0; start < n; start += GROUP * BLOCK) {
        size_t left = (n - start + BLOCK - 1) / BLOCK;
        int64_t blocks = (int64_t)(left < GROUP ? left : GROUP);
#pragma omp parallel for schedule(static)
        for (int64_t b = 0; b < blocks; b++) {
            size_t at = start + (size_t)b * BLOCK;
            part[b] = sum_squares(g + at, (int64_t)block_size(n, at));
        }
        for (int64_t b = 0; b < blocks; b++)
            sum += part[b];
    }
    return sqrt(sum);
}
