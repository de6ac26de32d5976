/*
 * Products on matrices in blocks for one CPU level: fp32 multiply-adds from registers.
 *
 * The including file defines LANES and the register tiles a block of the result is cut into:
 * TILE_VECTORS vectors wide; TALL_TILES of them TALL rows high, the rest LOW.
 *
 * A tile adds up over DEPTH blocks of k at a time. Meanwhile the 32 columns of the right operand
 * stay in the first-level cache and the rows of the left one in the second-level cache (Goto and
 * van de Geijn 2008); since both lie in blocks already, nothing is packed. bf16 operands are
 * widened to floats in scratch memory first.
 */
#include "model/kernels/act.h"
#include "model/kernels/table.h"

enum {
    DEPTH = 4, /* blocks of k at a time */
    ROWS = 8,  /* blocks of the result at a time */
    COLS = 8,
    VECTORS = BLOCK / LANES, /* of a row of a block */
    TILE_COLS = TILE_VECTORS * LANES
};

struct linear_scratch {
    float a[ROWS * DEPTH * BLOCK_AREA], b[DEPTH * BLOCK_AREA]; /* widened operands */
    float c[ROWS * COLS * BLOCK_AREA];                         /* sums */
};

/* Blocks along k, `step` floats apart. */
struct operand {
    const float *at;
    int64_t step;
};

/* c (rows, TILE_COLS) = or += a b. Value (row, k) of a block of a lies at
 * row * a_row + k * a_k, one of which is 1 and the other 32. */
INLINE void tile(struct operand a, struct operand b, int64_t depth, float *c, bool add,
                 const int rows, const int a_row, const int a_k)
{
    vf sum[TALL][TILE_VECTORS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < TILE_VECTORS; j++) {
            sum[i][j] = (vf){0};
            __builtin_prefetch(c + i * BLOCK + j * LANES);
        }
    for (; depth > 0; depth--, a.at += a.step, b.at += b.step) {
#pragma GCC unroll 4
        for (int k = 0; k < BLOCK; k++) {
            vf bk[TILE_VECTORS];
#pragma GCC unroll 4
            for (int j = 0; j < TILE_VECTORS; j++)
                bk[j] = vf_load(b.at + k * BLOCK + j * LANES);
#pragma GCC unroll 16
            for (int i = 0; i < rows; i++) {
                const vf ai = vf_set(a.at[i * a_row + k * a_k]);
#pragma GCC unroll 4
                for (int j = 0; j < TILE_VECTORS; j++)
                    sum[i][j] = vf_fma(ai, bk[j], sum[i][j]);
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < TILE_VECTORS; j++) {
            float *p = c + i * BLOCK + j * LANES;
            vf_store(p, add ? vf_load(p) + sum[i][j] : sum[i][j]);
        }
}

/* A block of the result, tile by tile. */
INLINE void block(struct operand a, struct operand b, int64_t depth, float *c, bool add,
                  const int a_row, const int a_k)
{
    for (int col = 0; col < BLOCK; col += TILE_COLS) {
        const struct operand right = {b.at + col, b.step};
        int row = 0;
        for (; row < TALL_TILES * TALL; row += TALL)
            tile((struct operand){a.at + row * a_row, a.step}, right, depth, c + row * BLOCK + col,
                 add, TALL, a_row, a_k);
        for (; row < BLOCK; row += LOW)
            tile((struct operand){a.at + row * a_row, a.step}, right, depth, c + row * BLOCK + col,
                 add, LOW, a_row, a_k);
    }
}

static void block_product(struct operand a, struct operand b, int64_t depth, float *c, bool add)
{
    block(a, b, depth, c, add, BLOCK, 1);
}

static void block_gradient(struct operand a, struct operand b, int64_t depth, float *c, bool add)
{
    block(a, b, depth, c, add, 1, BLOCK);
}

/* --- operands ------------------------------------------------------------------------------ */

INLINE int64_t at_most(int64_t x, int64_t limit)
{
    return x < limit ? x : limit;
}

/* Parts of equal length and at most `limit`: 257 should not end with a part of 1. */
INLINE int64_t even_part(int64_t length, int64_t limit)
{
    const int64_t parts = (length + limit - 1) / limit;
    return (length + parts - 1) / parts;
}

INLINE void widen_block(float *to, const uint16_t *from)
{
    for (int i = 0; i < BLOCK_AREA; i += LANES)
        vf_store(to + i, vf_load_bf16(from + i));
}

/* A block of bf16 panels, k by pairs, becomes one of fp32 panels. */
INLINE void widen_panel(float *to, const uint16_t *from)
{
    for (int half = 0; half < 2; half++)
        for (int pair = 0; pair < BLOCK / 2; pair++)
            for (int col = 0; col < 16; col += LANES) {
                const vu both = (vu)vf_load(
                    (const float *)(const void *)(from + half * 512 + pair * 32 + col * 2));
                float *even = to + 2 * pair * BLOCK + half * 16 + col;
                vf_store(even, (vf)(both << 16));
                vf_store(even + BLOCK, (vf)(both & 0xffff0000u));
            }
}

/* Asks for every `parts`-th of `depth` blocks, into the second-level cache: who comes next is
 * fetched bit by bit under the products of who is there. */
INLINE void prefetch(const enum kernel_precision p, const void *matrix, int64_t first, int64_t step,
                     int64_t depth, int64_t part, int64_t parts)
{
    const int64_t bytes = BLOCK_AREA * (int64_t)act_bytes(p);
    for (int64_t k = part; k < depth; k += parts)
        for (int64_t i = 0; i < bytes; i += 64)
            __builtin_prefetch((const char *)matrix + (first + k * step) * bytes + i, 0, 2);
}

/* `depth` blocks of a matrix from number `first` on, `step` blocks apart. */
INLINE struct operand blocks_of(const enum kernel_precision p, const void *matrix, int64_t first,
                                int64_t step, int64_t depth, float *room)
{
    if (p == KERNEL_FP32)
        return (struct operand){(const float *)matrix + first * BLOCK_AREA, step * BLOCK_AREA};
    for (int64_t k = 0; k < depth; k++)
        widen_block(room + k * BLOCK_AREA,
                    (const uint16_t *)matrix + (first + k * step) * BLOCK_AREA);
    return (struct operand){room, BLOCK_AREA};
}

INLINE struct operand panels_of(const enum kernel_precision p, const void *panels, int64_t first,
                                int64_t depth, float *room)
{
    if (p == KERNEL_FP32)
        return (struct operand){(const float *)panels + first * BLOCK_AREA, BLOCK_AREA};
    for (int64_t k = 0; k < depth; k++)
        widen_panel(room + k * BLOCK_AREA, (const uint16_t *)panels + (first + k) * BLOCK_AREA);
    return (struct operand){room, BLOCK_AREA};
}

/* --- what becomes of the sums of block (i, j) ---------------------------------------------- */

INLINE vf sigmoid(vf x)
{
    return 1.0f / (1.0f + vf_exp(-x));
}

/* Where block (i, j) of a matrix `cols` blocks wide begins, in values. */
INLINE int64_t begin(int64_t i, int64_t j, int64_t cols)
{
    return (i * cols + j) * BLOCK_AREA;
}

INLINE void store(const enum kernel_precision p, const struct product *q, int64_t i, int64_t j,
                  const float *sum)
{
    const int64_t at = begin(i, j, q->N / BLOCK);
    for (int v = 0; v < BLOCK_AREA; v += LANES)
        act_store(p, q->c, at + v, vf_load(sum + v));
}

INLINE void store_swiglu(const enum kernel_precision p, const struct product *q, int64_t i,
                         int64_t j, const float *gate, const float *up)
{
    const int64_t at = begin(i, j, q->N / BLOCK), y = begin(i, j / 2, q->N / BLOCK / 2);
    for (int v = 0; v < BLOCK_AREA; v += LANES) {
        const vf g = vf_load(gate + v), u = vf_load(up + v);
        act_store(p, q->y, y + v, g * sigmoid(g) * u);
        if (q->c) {
            act_store(p, q->c, at + v, g);
            act_store(p, q->c, at + BLOCK_AREA + v, u);
        }
    }
}

/* The formulas: linear_c.c. */
INLINE void store_swiglu_backward(const enum kernel_precision p, const struct product *q, int64_t i,
                                  int64_t j, const float *sum)
{
    const int64_t y = begin(i, j, q->N / BLOCK), gate = 2 * y, up = gate + BLOCK_AREA;
    for (int v = 0; v < BLOCK_AREA; v += LANES) {
        const vf g = act_load(p, q->gu, gate + v), u = act_load(p, q->gu, up + v);
        const vf d = vf_load(sum + v), s = sigmoid(g);
        act_store(p, q->c, up + v, d * g * s);
        act_store(p, q->c, gate + v, d * u * s * (1.0f + g * (1.0f - s)));
        if (q->y)
            act_store(p, q->y, y + v, g * s * u);
    }
}

/* Columns from `exist` on vanish. */
INLINE void hide_columns(float *logits, int64_t exist)
{
    for (int row = 0; row < BLOCK; row++)
        for (int64_t col = exist > 0 ? exist : 0; col < BLOCK; col++)
            logits[row * BLOCK + col] = -INFINITY;
}

/* LANES rows at once: their maxima and sums are the lanes of one vector, after a transposition.
 * Returns the sums; the logits become exponentials. */
INLINE vf softmax_rows(float *logits, float *max)
{
    vf top[LANES], sum[LANES];
    for (int row = 0; row < LANES; row++) {
        top[row] = vf_load(logits + row * BLOCK);
        for (int v = 1; v < VECTORS; v++)
            top[row] = vf_max(top[row], vf_load(logits + row * BLOCK + v * LANES));
    }
    vf_transpose(top);
    for (int row = 1; row < LANES; row++)
        top[0] = vf_max(top[0], top[row]);
    vf_store(max, top[0]);
    for (int row = 0; row < LANES; row++) {
        sum[row] = (vf){0};
        for (int v = 0; v < VECTORS; v++) {
            float *l = logits + row * BLOCK + v * LANES;
            const vf e = vf_exp(vf_load(l) - vf_set(max[row]));
            sum[row] += e;
            vf_store(l, e);
        }
    }
    vf_transpose(sum);
    for (int row = 1; row < LANES; row++)
        sum[0] += sum[row];
    return sum[0];
}

INLINE void store_softmax(const enum kernel_precision p, const struct product *q, int64_t i,
                          int64_t j, float *logits)
{
    const int64_t first = j * BLOCK, exist = q->V - first;
    float *max = q->stats.max + j * q->n + i * BLOCK, *sum = q->stats.sum + j * q->n + i * BLOCK;
    for (int row = 0; row < BLOCK; row++) {
        const int64_t target = q->targets[i * BLOCK + row] - first;
        if (target >= 0 && target < BLOCK && target < exist)
            q->stats.at_target[i * BLOCK + row] = logits[row * BLOCK + target];
    }
    if (exist < BLOCK)
        hide_columns(logits, exist);
    for (int row = 0; row < BLOCK; row += LANES)
        vf_store(sum + row, softmax_rows(logits + row * BLOCK, max + row));
    if (exist <= 0) {
        memset(logits, 0, BLOCK_AREA * sizeof(float));
        memset(sum, 0, BLOCK * sizeof(float));
    }
    if (q->c)
        store(p, q, i, j, logits);
}

/* SWIGLU: `sum` is of the odd column j, `even` of the one before. */
INLINE void finish(const enum kernel_precision p, const struct product *q, int64_t i, int64_t j,
                   float *sum, const float *even)
{
    switch (q->epilogue) {
    case PRODUCT_STORE:
        if (p == KERNEL_BF16)
            store(p, q, i, j, sum);
        break;
    case PRODUCT_ADD:
        break;
    case PRODUCT_SWIGLU:
        if (j % 2 == 1)
            store_swiglu(p, q, i, j - 1, even, sum);
        break;
    case PRODUCT_SWIGLU_BACKWARD:
        store_swiglu_backward(p, q, i, j, sum);
        break;
    case PRODUCT_SOFTMAX:
        store_softmax(p, q, i, j, sum);
        break;
    }
}

/* --- loops ----------------------------------------------------------------------------------- */

/* Blocks [i0, i1) x [j0, j1) of a result. */
struct range {
    int64_t i0, i1, j0, j1;
};

/* Where the sums of block (i, j) grow: in place if they are the result. */
INLINE float *sums_of(const enum kernel_precision p, const struct product *q, const struct range *r,
                      struct linear_scratch *s, int64_t i, int64_t j)
{
    if (q->epilogue == PRODUCT_ADD || (q->epilogue == PRODUCT_STORE && p == KERNEL_FP32))
        return (float *)q->c + begin(i, j, q->N / BLOCK);
    return s->c + ((j - r->j0) * ROWS + i - r->i0) * BLOCK_AREA;
}

/* k from block k0 on; the last step finishes the blocks. */
INLINE void product_step(const enum kernel_precision p, const struct product *q,
                         const struct range *r, int64_t k0, int64_t depth, struct linear_scratch *s)
{
    const int64_t K = q->K / BLOCK, next = at_most(depth, K - k0 - depth);
    const bool last = next == 0;
    struct operand a[ROWS];
    for (int64_t i = r->i0; i < r->i1; i++)
        a[i - r->i0] = blocks_of(p, q->a, i * K + k0, 1, depth,
                                 s->a + (i - r->i0) * DEPTH * BLOCK_AREA);
    for (int64_t j = r->j0; j < r->j1; j++) {
        const struct operand b = panels_of(p, q->b, j * K + k0, depth, s->b);
        const int64_t following = j + 1 < r->j1 ? (j + 1) * K + k0
                                  : last        ? r->j1 * K
                                                : r->j0 * K + k0 + depth;
        for (int64_t i = r->i0; i < r->i1; i++) {
            float *sum = sums_of(p, q, r, s, i, j);
            prefetch(p, q->b, following, 1, depth, i - r->i0, r->i1 - r->i0);
            prefetch(p, q->a, i * K + k0 + depth, 1, next, j - r->j0, r->j1 - r->j0);
            if (last && q->epilogue == PRODUCT_SOFTMAX && q->c) /* too large for any cache */
                prefetch(p, q->c, i * (q->N / BLOCK) + j, 1, 1, 0, 1);
            block_product(a[i - r->i0], b, depth, sum, k0 > 0 || q->epilogue == PRODUCT_ADD);
            if (last)
                finish(p, q, i, j, sum, sum - ROWS * BLOCK_AREA);
        }
    }
}

INLINE void product(const enum kernel_precision p, const struct product *q, const struct range *all,
                    struct linear_scratch *s)
{
    const int64_t K = q->K / BLOCK, depth = even_part(K, DEPTH);
    for (int64_t j = all->j0; j < all->j1; j += COLS)
        for (int64_t i = all->i0; i < all->i1; i += ROWS) {
            const struct range r = {i, at_most(i + ROWS, all->i1), j, at_most(j + COLS, all->j1)};
            for (int64_t k = 0; k < K; k += depth)
                product_step(p, q, &r, k, at_most(depth, K - k), s);
        }
}

/* Rows from block t0 on. */
INLINE void gradient_step(const enum kernel_precision p, const struct gradient *g,
                          const struct range *r, int64_t t0, int64_t depth,
                          struct linear_scratch *s)
{
    const int64_t out = g->out / BLOCK, in = g->in / BLOCK;
    struct operand a[ROWS];
    for (int64_t i = r->i0; i < r->i1; i++)
        a[i - r->i0] = blocks_of(p, g->dy, t0 * out + i, out, depth,
                                 s->a + (i - r->i0) * DEPTH * BLOCK_AREA);
    for (int64_t j = r->j0; j < r->j1; j++) {
        const struct operand b = blocks_of(p, g->x, t0 * in + j, in, depth, s->b);
        for (int64_t i = r->i0; i < r->i1; i++) {
            if (j + 1 < r->j1)
                prefetch(p, g->x, t0 * in + j + 1, in, depth, i - r->i0, r->i1 - r->i0);
            block_gradient(a[i - r->i0], b, depth, g->dw + begin(i, j, in), true);
        }
    }
}

INLINE void gradient(const enum kernel_precision p, const struct gradient *g,
                     const struct range *all, struct linear_scratch *s)
{
    const int64_t n = g->n / BLOCK, depth = even_part(n, DEPTH);
    for (int64_t j = all->j0; j < all->j1; j += COLS)
        for (int64_t i = all->i0; i < all->i1; i += ROWS) {
            const struct range r = {i, at_most(i + ROWS, all->i1), j, at_most(j + COLS, all->j1)};
            for (int64_t t = 0; t < n; t += depth)
                gradient_step(p, g, &r, t, at_most(depth, n - t), s);
        }
}

static void product_fp32(const struct product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                         void *scratch)
{
    product(KERNEL_FP32, p, &(struct range){i0, i1, j0, j1}, scratch);
}

static void product_bf16(const struct product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                         void *scratch)
{
    product(KERNEL_BF16, p, &(struct range){i0, i1, j0, j1}, scratch);
}

static void gradient_fp32(const struct gradient *g, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                          void *scratch)
{
    gradient(KERNEL_FP32, g, &(struct range){i0, i1, j0, j1}, scratch);
}

static void gradient_bf16(const struct gradient *g, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                          void *scratch)
{
    gradient(KERNEL_BF16, g, &(struct range){i0, i1, j0, j1}, scratch);
}

static void linear_fill(struct kernels *k)
{
    k->linear[KERNEL_FP32] = (struct linear_engine){.product = product_fp32,
                                                    .gradient = gradient_fp32,
                                                    .scratch_bytes = sizeof(struct linear_scratch)};
    k->linear[KERNEL_BF16] = (struct linear_engine){.product = product_bf16,
                                                    .gradient = gradient_bf16,
                                                    .scratch_bytes = sizeof(struct linear_scratch)};
}
