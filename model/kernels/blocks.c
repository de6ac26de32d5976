/*
 * The drivers of norms, rotation, softmax and embedding on matrices in blocks: share block rows
 * among the threads. Every result belongs to one row, except the gradient of a norm's weight,
 * which is summed over groups of block rows whose number depends on the shape alone, and that
 * of the embedding, whose columns are shared instead.
 */
#include "model/kernels/profile.h"
#include "model/kernels/table.h"

#include <string.h>

enum { SMALL = 64 * 1024 }; /* fewer values are not worth waking threads for */

static int threads_for(int64_t values)
{
    return values < SMALL ? 1 : kernels_threads();
}

static int64_t at_most(int64_t x, int64_t limit)
{
    return x < limit ? x : limit;
}

/* Value i of an activation; NULL stays NULL. */
static void *act_at(enum kernel_precision p, void *x, int64_t i)
{
    return x ? (char *)x + (size_t)i * act_bytes(p) : NULL;
}

static const void *act_at_const(enum kernel_precision p, const void *x, int64_t i)
{
    return (const char *)x + (size_t)i * act_bytes(p);
}

void norm_forward(enum kernel_precision p, const float *x, const float *w, void *h, void *saved,
                  float *rstd, int64_t n, int64_t C, double eps)
{
    double start = profile_start();
    int64_t width = block_up(C);
#pragma omp parallel for schedule(static) num_threads(threads_for(n *C))
    for (int64_t i = 0; i < n; i += BLOCK)
        kernels.blocks.norm_forward(p, x + i * width, w, act_at(p, h, i * width),
                                    act_at(p, saved, i * width), rstd + i, C, (float)eps);
    double values = (double)(n * width);
    profile_stop(PROFILE_NORM, start, 4 * values,
                 values * (4 + (saved ? 2 : 1) * (double)act_bytes(p)));
}

void norm_again(enum kernel_precision p, const void *saved, const float *w, const float *rstd,
                void *h, int64_t n, int64_t C)
{
    double start = profile_start();
    int64_t width = block_up(C);
#pragma omp parallel for schedule(static) num_threads(threads_for(n *C))
    for (int64_t i = 0; i < n; i += BLOCK)
        kernels.blocks.norm_again(p, act_at_const(p, saved, i * width), w, rstd + i,
                                  act_at(p, h, i * width), C);
    double values = (double)(n * width);
    profile_stop(PROFILE_NORM, start, 2 * values, values * 2 * (double)act_bytes(p));
}

/* Rows [begin, end) of the backward pass whose first row is described by g. */
static void norm_backward_rows(enum kernel_precision p, const struct norm_gradient *g,
                               int64_t begin, int64_t end)
{
    int64_t width = block_up(g->C);
    for (int64_t i = begin; i < end; i += BLOCK) {
        struct norm_gradient at = *g;
        at.saved = act_at_const(p, g->saved, i * width);
        at.dh = act_at_const(p, g->dh, i * width);
        at.rstd += i;
        at.dx += i * width;
        at.dx_act = act_at(p, g->dx_act, i * width);
        kernels.blocks.norm_backward(p, &at);
    }
}

void norm_backward(enum kernel_precision p, const void *saved, const float *w, const float *rstd,
                   const void *dh, float *dx, void *dx_act, float *dw, bool add, int64_t n,
                   int64_t C)
{
    MW_ASSERT(C <= NORM_WIDTH_MAX);
    double start = profile_start();
    int64_t width = block_up(C), groups = at_most(NORM_BLOCKS, n / BLOCK);
    int64_t rows = groups > 0 ? block_up((n + groups - 1) / groups) : 0; /* of a group */
    struct norm_gradient g = {saved, dh, w, rstd, dx, NULL, dx_act, add, C};
    float *partials = kernels_partials();
#pragma omp parallel num_threads(threads_for(n *C))
    {
#pragma omp for schedule(static)
        for (int64_t b = 0; b < groups; b++) {
            struct norm_gradient part = g;
            part.dw = dw ? memset(partials + b * width, 0, (size_t)width * sizeof(float)) : NULL;
            norm_backward_rows(p, &part, b * rows, at_most(n, (b + 1) * rows));
        }
#pragma omp for schedule(static)
        for (int64_t c = 0; c < (dw ? C : 0); c += BLOCK)
            for (int64_t b = 0; b < groups; b++)
                kernels.vector_add(dw + c, partials + b * width + c, at_most(C - c, BLOCK));
    }
    double values = (double)(n * width);
    profile_stop(PROFILE_NORM, start, 11 * values,
                 values * ((add ? 8 : 4) + (dx_act ? 3 : 2) * (double)act_bytes(p)));
}

void heads_rotate(enum kernel_precision p, const struct heads_shape *s, void *qkv,
                  const float *cosine, const float *sine, bool inverse)
{
    double start = profile_start();
    int64_t queries = block_up(s->H * s->D), keys = block_up(s->G * s->D);
    int64_t width = queries + 2 * keys, T = block_up(s->T), n = s->B * T;
#pragma omp parallel for schedule(static) num_threads(threads_for(n *(queries + keys)))
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t t = i % T, rows = at_most(s->T - t, BLOCK);
        const float *c = cosine + t * (s->D / 2), *z = sine + t * (s->D / 2);
        void *q = act_at(p, qkv, i * width), *k = act_at(p, q, queries * BLOCK);
        kernels.blocks.rotate(p, q, c, z, rows, s->H, s->D, inverse);
        kernels.blocks.rotate(p, k, c, z, rows, s->G, s->D, inverse);
    }
    double values = (double)(n * (queries + keys));
    profile_stop(PROFILE_ROPE, start, 3 * values, values * 2 * (double)act_bytes(p));
}

void softmax_finish(enum kernel_precision p, const uint32_t *targets, int64_t V, int64_t out,
                    void *e, const struct softmax_stats *stats, float *losses, float scale,
                    float z_loss, int64_t n)
{
    double start = profile_start();
#pragma omp parallel for schedule(static) num_threads(threads_for(n *(e ? out : out / BLOCK)))
    for (int64_t i = 0; i < n; i += BLOCK) {
        struct softmax_row s = {stats, targets + i, act_at(p, e, i * out), losses + i, i, n, out, V,
                                scale, z_loss};
        kernels.blocks.softmax(p, &s);
    }
    double values = e ? (double)(n * out) : 0, pairs = (double)(n * (out / BLOCK));
    profile_stop(PROFILE_SOFTMAX, start, values + 40 * pairs,
                 values * 2 * (double)act_bytes(p) + 8 * pairs);
}

void embed_forward(const struct embedding *table, const uint32_t *ids, float *x, int64_t n,
                   int64_t C)
{
    double start = profile_start();
    int64_t width = block_up(C);
#pragma omp parallel for schedule(static) num_threads(threads_for(n *C))
    for (int64_t i = 0; i < n; i += BLOCK)
        kernels.blocks.embed_forward(table, ids + i, x + i * width, C);
    profile_stop(PROFILE_EMBED, start, 0, 8 * (double)(n * width));
}

void embed_backward(const float *dx, const uint32_t *ids, float *dtable, int64_t n, int64_t C)
{
    double start = profile_start();
    /* As few shares as there are threads: each element is summed in the order of rows anyhow. */
    int64_t columns = block_up(C) / BLOCK, shares = at_most(threads_for(n * C), columns);
#pragma omp parallel for schedule(static) num_threads((int)shares)
    for (int64_t i = 0; i < shares; i++)
        kernels.blocks.embed_backward(dx, ids, dtable, n, C, columns * i / shares,
                                      columns * (i + 1) / shares);
    profile_stop(PROFILE_EMBED, start, (double)(n * C), 12 * (double)(n * C));
}

void blocks_from_rows(enum kernel_precision p, void *blocks, const float *src, int64_t ld,
                      int64_t rows, int64_t cols)
{
    double start = profile_start();
    int64_t width = block_up(cols);
#pragma omp parallel for schedule(static) num_threads(threads_for(rows *cols))
    for (int64_t i = 0; i < rows; i += BLOCK)
        kernels.blocks.from_rows(p, act_at(p, blocks, i * width), src + i * ld, ld,
                                 at_most(rows - i, BLOCK), cols);
    profile_stop(PROFILE_PACK, start, 0, (double)(rows * cols) * (4 + (double)act_bytes(p)));
}

void blocks_to_rows(enum kernel_precision p, const void *blocks, float *dst, int64_t ld,
                    int64_t rows, int64_t cols)
{
    double start = profile_start();
    int64_t width = block_up(cols);
#pragma omp parallel for schedule(static) num_threads(threads_for(rows *cols))
    for (int64_t i = 0; i < rows; i += BLOCK)
        kernels.blocks.to_rows(p, act_at_const(p, blocks, i * width), dst + i * ld, ld,
                               at_most(rows - i, BLOCK), cols);
    profile_stop(PROFILE_PACK, start, 0, (double)(rows * cols) * (4 + (double)act_bytes(p)));
}
