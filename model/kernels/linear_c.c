/*
 * Products on matrices in blocks in plain C: the specification of the faster bodies.
 *
 * One block of the result at a time: its operands become 32 x 32 floats, whatever their
 * precision and order, are multiplied and added up in order of k, and what the epilogue makes
 * of the sums is stored, rounded if activations are bf16.
 */
#include "model/kernels/table.h"

#include <math.h>

typedef float tile[BLOCK][BLOCK];

static float value_at(enum kernel_precision p, const void *values, int64_t i)
{
    return p == KERNEL_BF16 ? bf16_value(((const uint16_t *)values)[i])
                            : ((const float *)values)[i];
}

static void store_at(enum kernel_precision p, void *values, int64_t i, float x)
{
    if (p == KERNEL_BF16)
        ((uint16_t *)values)[i] = bf16_round(x);
    else
        ((float *)values)[i] = x;
}

/* Block (i, j) of a matrix with `cols` columns. */
static void load(enum kernel_precision p, tile t, const void *matrix, int64_t i, int64_t j,
                 int64_t cols)
{
    const int64_t at = block_at(i * BLOCK, j * BLOCK, cols);
    for (int r = 0; r < BLOCK; r++)
        for (int c = 0; c < BLOCK; c++)
            t[r][c] = value_at(p, matrix, at + r * BLOCK + c);
}

static void store(enum kernel_precision p, void *matrix, int64_t i, int64_t j, int64_t cols, tile t)
{
    const int64_t at = block_at(i * BLOCK, j * BLOCK, cols);
    for (int r = 0; r < BLOCK; r++)
        for (int c = 0; c < BLOCK; c++)
            store_at(p, matrix, at + r * BLOCK + c, t[r][c]);
}

/* Values [32 k, 32 k + 32) x [32 j, 32 j + 32) of a right operand of depth K. */
static void load_panel(enum kernel_precision p, tile t, const void *panels, int64_t k, int64_t j,
                       int64_t K)
{
    for (int r = 0; r < BLOCK; r++)
        for (int c = 0; c < BLOCK; c++) {
            const int64_t row = k * BLOCK + r, col = j * BLOCK + c;
            t[r][c] = value_at(p, panels,
                               p == KERNEL_BF16 ? panel_at_bf16(row, col, K)
                                                : panel_at_fp32(row, col, K));
        }
}

static void multiply_add(tile sum, tile a, tile b)
{
    for (int r = 0; r < BLOCK; r++)
        for (int k = 0; k < BLOCK; k++)
            for (int c = 0; c < BLOCK; c++)
                sum[r][c] += a[r][k] * b[k][c];
}

static void multiply(enum kernel_precision p, const struct product *q, int64_t i, int64_t j,
                     tile sum)
{
    memset(sum, 0, sizeof(tile));
    for (int64_t k = 0; k < q->K / BLOCK; k++) {
        tile a, b;
        load(p, a, q->a, i, k, q->K);
        load_panel(p, b, q->b, k, j, q->K);
        multiply_add(sum, a, b);
    }
}

static float sigmoid(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

static void store_sum(const struct product *q, int64_t i, int64_t j, tile sum)
{
    float *c = (float *)q->c + block_at(i * BLOCK, j * BLOCK, q->N);
    for (int r = 0; r < BLOCK; r++)
        for (int col = 0; col < BLOCK; col++)
            c[r * BLOCK + col] += sum[r][col];
}

/* gate, up: the sums of block columns j (even) and j + 1. */
static void store_swiglu(enum kernel_precision p, const struct product *q, int64_t i, int64_t j,
                         tile gate, tile up)
{
    tile y;
    for (int r = 0; r < BLOCK; r++)
        for (int c = 0; c < BLOCK; c++)
            y[r][c] = gate[r][c] * sigmoid(gate[r][c]) * up[r][c];
    store(p, q->y, i, j / 2, q->N / 2, y);
    if (q->c) {
        store(p, q->c, i, j, q->N, gate);
        store(p, q->c, i, j + 1, q->N, up);
    }
}

/* With s = sigmoid(g): y = g s u, dy/du = g s, dy/dg = u s (1 + g (1 - s)). */
static void store_swiglu_backward(enum kernel_precision p, const struct product *q, int64_t i,
                                  int64_t j, tile d)
{
    tile gate, up, y, d_gate, d_up;
    load(p, gate, q->gu, i, 2 * j, 2 * q->N);
    load(p, up, q->gu, i, 2 * j + 1, 2 * q->N);
    for (int r = 0; r < BLOCK; r++)
        for (int c = 0; c < BLOCK; c++) {
            const float g = gate[r][c], u = up[r][c], s = sigmoid(g);
            y[r][c] = g * s * u;
            d_up[r][c] = d[r][c] * g * s;
            d_gate[r][c] = d[r][c] * u * s * (1.0f + g * (1.0f - s));
        }
    store(p, q->c, i, 2 * j, 2 * q->N, d_gate);
    store(p, q->c, i, 2 * j + 1, 2 * q->N, d_up);
    if (q->y)
        store(p, q->y, i, j, q->N, y);
}

static void store_softmax(enum kernel_precision p, const struct product *q, int64_t i, int64_t j,
                          tile logits)
{
    const int64_t first = j * BLOCK;
    for (int r = 0; r < BLOCK; r++) {
        const int64_t row = i * BLOCK + r, target = q->targets[row];
        if (target >= first && target < first + BLOCK && target < q->V)
            q->stats.at_target[row] = logits[r][target - first];
        float max = -INFINITY, sum = 0;
        for (int c = 0; c < BLOCK && first + c < q->V; c++)
            max = logits[r][c] > max ? logits[r][c] : max;
        for (int c = 0; c < BLOCK; c++) {
            logits[r][c] = first + c < q->V ? expf(logits[r][c] - max) : 0.0f;
            sum += logits[r][c];
        }
        q->stats.max[j * q->n + row] = max;
        q->stats.sum[j * q->n + row] = sum;
    }
    if (q->c)
        store(p, q->c, i, j, q->N, logits);
}

static void product(enum kernel_precision p, const struct product *q, int64_t i, int64_t j)
{
    tile sum, odd;
    multiply(p, q, i, j, sum);
    switch (q->epilogue) {
    case PRODUCT_STORE:
        store(p, q->c, i, j, q->N, sum);
        break;
    case PRODUCT_ADD:
        store_sum(q, i, j, sum);
        break;
    case PRODUCT_SWIGLU:
        multiply(p, q, i, j + 1, odd);
        store_swiglu(p, q, i, j, sum, odd);
        break;
    case PRODUCT_SWIGLU_BACKWARD:
        store_swiglu_backward(p, q, i, j, sum);
        break;
    case PRODUCT_SOFTMAX:
        store_softmax(p, q, i, j, sum);
        break;
    }
}

static void products(enum kernel_precision p, const struct product *q, int64_t i0, int64_t i1,
                     int64_t j0, int64_t j1)
{
    const int64_t step = q->epilogue == PRODUCT_SWIGLU ? 2 : 1;
    for (int64_t j = j0; j < j1; j += step)
        for (int64_t i = i0; i < i1; i++)
            product(p, q, i, j);
}

static void gradients(enum kernel_precision p, const struct gradient *g, int64_t i0, int64_t i1,
                      int64_t j0, int64_t j1)
{
    for (int64_t i = i0; i < i1; i++)
        for (int64_t j = j0; j < j1; j++) {
            tile sum = {{0}}, dy, dyt, x;
            for (int64_t t = 0; t < g->n / BLOCK; t++) {
                load(p, dy, g->dy, t, i, g->out);
                load(p, x, g->x, t, j, g->in);
                for (int r = 0; r < BLOCK; r++)
                    for (int c = 0; c < BLOCK; c++)
                        dyt[c][r] = dy[r][c];
                multiply_add(sum, dyt, x);
            }
            float *dw = g->dw + block_at(i * BLOCK, j * BLOCK, g->in);
            for (int r = 0; r < BLOCK; r++)
                for (int c = 0; c < BLOCK; c++)
                    dw[r * BLOCK + c] += sum[r][c];
        }
}

static void product_fp32(const struct product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                         void *scratch)
{
    (void)scratch;
    products(KERNEL_FP32, p, i0, i1, j0, j1);
}

static void product_bf16(const struct product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                         void *scratch)
{
    (void)scratch;
    products(KERNEL_BF16, p, i0, i1, j0, j1);
}

static void gradient_fp32(const struct gradient *g, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                          void *scratch)
{
    (void)scratch;
    gradients(KERNEL_FP32, g, i0, i1, j0, j1);
}

static void gradient_bf16(const struct gradient *g, int64_t i0, int64_t i1, int64_t j0, int64_t j1,
                          void *scratch)
{
    (void)scratch;
    gradients(KERNEL_BF16, g, i0, i1, j0, j1);
}

void linear_fill_c(struct kernels *k)
{
    k->linear[KERNEL_FP32] = (struct linear_engine){.product = product_fp32,
                                                    .gradient = gradient_fp32};
    k->linear[KERNEL_BF16] = (struct linear_engine){.product = product_bf16,
                                                    .gradient = gradient_bf16};
}
