/*
 * The driver of the products on matrices in blocks: cuts the result into tasks for the threads
 * and hands them to the level's engine, which is serial.
 *
 * An engine computes each value in an order that depends on the depth of the product alone, so
 * the cut has no influence on the result and follows the number of threads. Only the rows of a
 * gradient, over which is summed, are cut by their number and width.
 */
#include "model/kernels/table.h"

#include "model/kernels/profile.h"

#include <omp.h>

enum {
    /* Blocks of a task. 256 rows of an operand, some hundred deep, stay in the second-level
     * cache while the columns of the other one pass by. */
    TASK_ROWS = 8,
    TASK_COLS = 32,
    GRADIENT_SIDE = 8,
    TASKS_PER_THREAD = 8, /* at least, so that no thread waits long at the end */
    GRADIENT_ROWS = 1024  /* of dy and x at a time */
};

/* A grid of blocks in tasks of `rows` x `cols`. */
struct cut {
    int64_t height, width, rows, cols;
    int64_t down, across; /* tasks */
};

static int64_t divide_up(int64_t n, int64_t d)
{
    return (n + d - 1) / d;
}

static int64_t at_most(int64_t x, int64_t limit)
{
    return x < limit ? x : limit;
}

/* Parts of equal length, a multiple of `step`. */
static int64_t even_part(int64_t length, int64_t limit, int64_t step)
{
    return divide_up(divide_up(length, divide_up(length, limit)), step) * step;
}

/* Tasks of at most rows x cols, smaller if that leaves threads without work. Columns are halved
 * first: rows share the panels. `step` blocks of columns belong together. */
static struct cut cut_blocks(int64_t height, int64_t width, int64_t rows, int64_t cols,
                             int64_t step)
{
    struct cut c = {height, width, even_part(height, rows, 1), even_part(width, cols, step), 0, 0};
    for (;;) {
        c.down = divide_up(height, c.rows);
        c.across = divide_up(width, c.cols);
        int threads = kernels_threads();
        if (threads == 1 || c.down * c.across >= (int64_t)threads * TASKS_PER_THREAD)
            return c;
        if (c.cols > step && c.cols >= c.rows)
            c.cols = divide_up(c.cols, 2 * step) * step;
        else if (c.rows > 1)
            c.rows = divide_up(c.rows, 2);
        else if (c.cols > step)
            c.cols = divide_up(c.cols, 2 * step) * step;
        else
            return c;
    }
}

/* Tasks that no thread has taken yet; each thread begins with the one of its own number. */
static int64_t take_task(int64_t *taken)
{
    int64_t task;
#pragma omp atomic capture
    task = (*taken)++;
    return omp_get_num_threads() + task;
}

/* What a thread does. It takes the next task before it works on one, so that the engine can fetch
 * what comes next. Neighbouring tasks share rows: these stay in the second-level cache. */
static void work_off(const struct linear_engine *e, const struct product *p, const struct cut *c,
                     int64_t *taken)
{
    struct product mine = *p;
    const int64_t tasks = c->down * c->across;
    int64_t task = omp_get_thread_num();
    while (task < tasks) {
        const int64_t next = take_task(taken);
        const int64_t i = task / c->across * c->rows, j = task % c->across * c->cols;
        mine.next_i = next < tasks ? next / c->across * c->rows : -1;
        mine.next_j = next % c->across * c->cols;
        e->product(&mine, i, at_most(i + c->rows, c->height), j, at_most(j + c->cols, c->width),
                   kernels_linear_scratch());
        task = next;
    }
}

/* `moved`: bytes of results, read and written, for the profile; operands are read once. */
static void multiply(enum kernel_precision precision, enum profile_kernel kernel,
                     const struct product *p, double moved)
{
    const double t = profile_start();
    const struct linear_engine *e = &kernels.linear[precision];
    MW_ASSERT(!omp_in_parallel());
    MW_ASSERT(p->n % BLOCK == 0 && p->N % BLOCK == 0 && p->K % BLOCK == 0);
    if (p->n > 0) {
        struct cut c = cut_blocks(p->n / BLOCK, p->N / BLOCK, TASK_ROWS, TASK_COLS,
                                  p->epilogue == PRODUCT_SWIGLU ? 2 : 1);
        int64_t taken = 0;
#pragma omp parallel num_threads(kernels_threads())
        work_off(e, p, &c, &taken);
    }
    const double n = (double)p->n, N = (double)p->N, K = (double)p->K;
    profile_stop(kernel, t, 2 * n * N * K, (double)act_bytes(precision) * (n * K + K * N) + moved);
}

/* x Wᵀ and dy W, without what becomes of them. */
static struct product forward_of(const struct weight *W, const void *x, int64_t n,
                                 enum product_epilogue epilogue)
{
    return (struct product){
        .n = n, .N = W->out, .K = W->in, .a = x, .b = W->forward, .epilogue = epilogue};
}

static struct product backward_of(const struct weight *W, const void *dy, int64_t n,
                                  enum product_epilogue epilogue)
{
    return (struct product){
        .n = n, .N = W->in, .K = W->out, .a = dy, .b = W->backward, .epilogue = epilogue};
}

/* Bytes of so many activations for each value of a product. */
static double results(enum kernel_precision precision, const struct product *p, double each)
{
    return each * (double)p->n * (double)p->N * (double)act_bytes(precision);
}

void linear_forward(enum kernel_precision p, const struct weight *W, const void *x, void *y,
                    int64_t n)
{
    struct product product = forward_of(W, x, n, PRODUCT_STORE);
    product.c = y;
    multiply(p, PROFILE_LINEAR_FORWARD, &product, results(p, &product, 1));
}

void linear_forward_add(enum kernel_precision p, const struct weight *W, const void *x, float *y,
                        int64_t n)
{
    struct product product = forward_of(W, x, n, PRODUCT_ADD);
    product.c = y;
    multiply(p, PROFILE_LINEAR_FORWARD, &product, 8.0 * (double)(n * W->out));
}

void linear_forward_swiglu(enum kernel_precision p, const struct weight *W, const void *x, void *gu,
                           void *y, int64_t n)
{
    MW_ASSERT(W->out % (2 * BLOCK) == 0 && (uintptr_t)gu % 64 == 0);
    struct product product = forward_of(W, x, n, PRODUCT_SWIGLU);
    product.c = gu;
    product.y = y;
    multiply(p, PROFILE_LINEAR_FORWARD, &product, results(p, &product, gu ? 1.5 : 0.5));
}

void linear_backward(enum kernel_precision p, const struct weight *W, const void *dy, void *dx,
                     int64_t n)
{
    struct product product = backward_of(W, dy, n, PRODUCT_STORE);
    product.c = dx;
    multiply(p, PROFILE_LINEAR_BACKWARD, &product, results(p, &product, 1));
}

void linear_backward_swiglu(enum kernel_precision p, const struct weight *W, const void *dy,
                            const void *gu, void *d_gu, void *y, int64_t n)
{
    struct product product = backward_of(W, dy, n, PRODUCT_SWIGLU_BACKWARD);
    product.c = d_gu;
    product.y = y;
    product.gu = gu;
    multiply(p, PROFILE_LINEAR_BACKWARD, &product, results(p, &product, y ? 5 : 4));
}

void linear_forward_softmax(enum kernel_precision p, const struct weight *W, const void *x,
                            const uint32_t *targets, int64_t V, void *e,
                            const struct softmax_stats *stats, int64_t n)
{
    struct product product = forward_of(W, x, n, PRODUCT_SOFTMAX);
    product.c = e;
    product.targets = targets;
    product.V = V;
    product.stats = *stats;
    multiply(p, PROFILE_HEAD, &product, results(p, &product, e ? 1 : 0));
}

/* Few and large tasks, the same number for every thread. */
static struct cut cut_evenly(int64_t height, int64_t width, int64_t rows)
{
    struct cut c = {height, width, even_part(height, rows, 1), width, 0, 0};
    for (;;) {
        c.down = divide_up(height, c.rows);
        c.across = divide_up(width, c.cols);
        const int64_t threads = kernels_threads(), tasks = c.down * c.across;
        if (tasks % threads == 0 || tasks >= threads * TASKS_PER_THREAD)
            return c;
        if (c.cols >= c.rows && c.cols > 1)
            c.cols = divide_up(c.cols, 2);
        else if (c.rows > 1)
            c.rows = divide_up(c.rows, 2);
        else
            return c;
    }
}

static void add_gradient(const struct linear_engine *e, const struct gradient *g)
{
    struct cut c = e->gradient_rows
                       ? cut_evenly(g->out / BLOCK, g->in / BLOCK, e->gradient_rows)
                       : cut_blocks(g->out / BLOCK, g->in / BLOCK, GRADIENT_SIDE, GRADIENT_SIDE, 1);
#pragma omp parallel for schedule(dynamic, 1) num_threads(kernels_threads())
    for (int64_t task = 0; task < c.down * c.across; task++) {
        int64_t i = task / c.across * c.rows, j = task % c.across * c.cols;
        e->gradient(g, i, at_most(i + c.rows, c.height), j, at_most(j + c.cols, c.width),
                    kernels_linear_scratch());
    }
}

void linear_gradient(enum kernel_precision p, const void *dy, const void *x, float *dW, int64_t n,
                     int64_t out, int64_t in)
{
    double t = profile_start();
    const struct linear_engine *e = &kernels.linear[p];
    MW_ASSERT(!omp_in_parallel());
    MW_ASSERT(n % BLOCK == 0 && out % BLOCK == 0 && in % BLOCK == 0);
    const int64_t step = e->gradient_rows ? n : GRADIENT_ROWS;
    const int64_t bytes = (int64_t)act_bytes(p);
    for (int64_t row = 0; row < n; row += step) {
        struct gradient g = {.n = at_most(n - row, step),
                             .out = out,
                             .in = in,
                             .dy = (const char *)dy + row * out * bytes,
                             .x = (const char *)x + row * in * bytes,
                             .dw = dW};
        add_gradient(e, &g);
    }
    profile_stop(PROFILE_LINEAR_GRADIENT, t, 2.0 * (double)n * (double)out * (double)in,
                 (double)(n * (out + in) * bytes) + 8.0 * (double)out * (double)in);
}

/* A block of W, in either form: block row i, column j. */
static void pack_fp32(const struct weight *W, const float *src, int64_t i, int64_t j)
{
    float *forward = (float *)W->forward + (i * (W->in / BLOCK) + j) * BLOCK_AREA;
    for (int64_t n = 0; n < BLOCK; n++)
        for (int64_t k = 0; k < BLOCK; k++)
            forward[k * BLOCK + n] = src[n * BLOCK + k];
    if (W->backward)
        memcpy((float *)W->backward + (j * (W->out / BLOCK) + i) * BLOCK_AREA, src,
               BLOCK_AREA * sizeof(float));
}

static void pack_bf16(const struct weight *W, const float *src, int64_t i, int64_t j)
{
    uint16_t *forward = (uint16_t *)W->forward + (i * (W->in / BLOCK) + j) * BLOCK_AREA;
    uint16_t *backward = W->backward
                             ? (uint16_t *)W->backward + (j * (W->out / BLOCK) + i) * BLOCK_AREA
                             : NULL;
    for (int64_t row = 0; row < BLOCK; row++)
        for (int64_t col = 0; col < BLOCK; col++) {
            uint16_t value = bf16_round(src[row * BLOCK + col]);
            forward[panel_at_bf16(col, row, BLOCK)] = value;
            if (backward)
                backward[panel_at_bf16(row, col, BLOCK)] = value;
        }
}

void weight_pack(enum kernel_precision p, const struct weight *W, const float *src, int64_t rows,
                 int64_t first, int64_t step)
{
    double t = profile_start();
    const int64_t height = rows / BLOCK, width = W->in / BLOCK;
    MW_ASSERT(rows % BLOCK == 0 && (height == 0 || first + (height - 1) * step < W->out / BLOCK));
#pragma omp parallel for schedule(static) num_threads(kernels_threads())
    for (int64_t block = 0; block < height * width; block++) {
        const float *values = src + block * BLOCK_AREA;
        const int64_t i = first + block / width * step, j = block % width;
        if (p == KERNEL_BF16)
            pack_bf16(W, values, i, j);
        else
            pack_fp32(W, values, i, j);
    }
    profile_stop(PROFILE_PACK, t, 0,
                 (double)(rows * W->in) * (4.0 + (W->backward ? 2.0 : 1.0) * (double)act_bytes(p)));
}
