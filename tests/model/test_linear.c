/*
 * Products on matrices in blocks: every level against sums in double of the same operands.
 */
#include "tests/model/kernels_help.h"

#include "model/kernels/table.h"

/* A matrix of activations: as the kernels see it, and as numbers, row by row. */
struct matrix {
    int64_t rows, cols;
    void *blocks;
    double *values;
};

/* Zeroed, beginning with a cache line as the activations of a workspace do. */
static void *lines_alloc(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(p);
    return memset(p, 0, bytes);
}

static void *act_alloc(enum kernel_precision p, int64_t n)
{
    return lines_alloc((size_t)n * act_bytes(p));
}

static float act_get(enum kernel_precision p, const void *x, int64_t i)
{
    return p == KERNEL_BF16 ? bf16_value(((const uint16_t *)x)[i]) : ((const float *)x)[i];
}

static void act_set(enum kernel_precision p, void *x, int64_t i, float value)
{
    if (p == KERNEL_BF16)
        ((uint16_t *)x)[i] = bf16_round(value);
    else
        ((float *)x)[i] = value;
}

static struct matrix matrix_random(enum kernel_precision p, int64_t rows, int64_t cols,
                                   double scale, uint64_t seed)
{
    struct matrix m = {rows, cols, act_alloc(p, rows * cols), doubles(rows * cols)};
    float *x = gaussian(rows * cols, seed);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            float value = x[r * cols + c] * (float)scale;
            value = p == KERNEL_BF16 ? to_bf16(value) : value;
            m.values[r * cols + c] = (double)value;
            act_set(p, m.blocks, block_at(r, c, cols), value);
        }
    free(x);
    return m;
}

static void matrix_release(struct matrix *m)
{
    free(m->blocks);
    free(m->values);
}

/* a · bᵀ */
static double *times_transposed(const struct matrix *a, const struct matrix *b)
{
    double *c = doubles(a->rows * b->rows);
    for (int64_t i = 0; i < a->rows; i++)
        for (int64_t j = 0; j < b->rows; j++)
            for (int64_t k = 0; k < a->cols; k++)
                c[i * b->rows + j] += a->values[i * a->cols + k] * b->values[j * b->cols + k];
    return c;
}

static double *times(const struct matrix *a, const struct matrix *b)
{
    double *c = doubles(a->rows * b->cols);
    for (int64_t i = 0; i < a->rows; i++)
        for (int64_t k = 0; k < a->cols; k++)
            for (int64_t j = 0; j < b->cols; j++)
                c[i * b->cols + j] += a->values[i * a->cols + k] * b->values[k * b->cols + j];
    return c;
}

static double *transposed_times(const struct matrix *a, const struct matrix *b)
{
    double *c = doubles(a->cols * b->cols);
    for (int64_t k = 0; k < a->rows; k++)
        for (int64_t i = 0; i < a->cols; i++)
            for (int64_t j = 0; j < b->cols; j++)
                c[i * b->cols + j] += a->values[k * a->cols + i] * b->values[k * b->cols + j];
    return c;
}

/* Rounding of an fp32 sum, and of a stored bf16. */
static double bound(enum kernel_precision p)
{
    return p == KERNEL_BF16 ? 0x1p-8 : 3e-6;
}

/* The blocks x hold y (rows, cols) within the bound; NaN fails. */
static void assert_blocks(enum kernel_precision p, const void *x, const double *y, int64_t rows,
                          int64_t cols, double limit, const char *what)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            double got = (double)act_get(p, x, block_at(r, c, cols)), want = y[r * cols + c];
            if (!(fabs(got - want) <= limit * (1 + fabs(want))))
                fail_msg("%s: (%lld, %lld) is %.9g instead of %.9g, precision %d, level %s", what,
                         (long long)r, (long long)c, got, want, (int)p,
                         cpu_level_name(kernels_level()));
        }
}

static void assert_same(const void *x, const void *y, size_t bytes, const char *what)
{
    if (memcmp(x, y, bytes) != 0)
        fail_msg("%s: bits differ at level %s", what, cpu_level_name(kernels_level()));
}

/* A problem: x (n, in), W (out, in), dy (n, out), and its products in double. */
struct problem {
    enum kernel_precision p;
    int64_t n, in, out;
    struct matrix x, w, dy;
    struct weight weight;
    double *y, *dx, *dw; /* x Wᵀ, dy W, dyᵀ x */
};

static void problem_init(struct problem *q, enum kernel_precision p, int64_t n, int64_t in,
                         int64_t out)
{
    uint64_t seed = (uint64_t)(n * 1000003 + in * 1009 + out);
    *q = (struct problem){.p = p, .n = n, .in = in, .out = out};
    q->x = matrix_random(p, n, in, 1, seed);
    q->w = matrix_random(p, out, in, 1 / sqrt((double)in), seed + 1);
    q->dy = matrix_random(p, n, out, 1 / sqrt((double)out), seed + 2);
    q->weight = (struct weight){out, in, act_alloc(p, out * in), act_alloc(p, out * in)};
    float *blocks = floats(out * in);
    for (int64_t r = 0; r < out; r++)
        for (int64_t c = 0; c < in; c++)
            blocks[block_at(r, c, in)] = (float)q->w.values[r * in + c];
    weight_pack(p, &q->weight, blocks, out, 0, 1);
    free(blocks);
    q->y = times_transposed(&q->x, &q->w);
    q->dx = times(&q->dy, &q->w);
    q->dw = transposed_times(&q->dy, &q->x);
}

static void problem_release(struct problem *q)
{
    matrix_release(&q->x);
    matrix_release(&q->w);
    matrix_release(&q->dy);
    free(q->weight.forward);
    free(q->weight.backward);
    free(q->y);
    free(q->dx);
    free(q->dw);
}

static void check_store(const struct problem *q)
{
    void *y = act_alloc(q->p, q->n * q->out), *dx = act_alloc(q->p, q->n * q->in);
    linear_forward(q->p, &q->weight, q->x.blocks, y, q->n);
    linear_backward(q->p, &q->weight, q->dy.blocks, dx, q->n);
    assert_blocks(q->p, y, q->y, q->n, q->out, bound(q->p), "forward");
    assert_blocks(q->p, dx, q->dx, q->n, q->in, bound(q->p), "backward");
    free(y);
    free(dx);
}

/* What is added to stays fp32 whatever the precision. */
static void check_add(const struct problem *q)
{
    float *y = gaussian(q->n * q->out, 5), *dw = gaussian(q->out * q->in, 6);
    double *y_ref = doubles(q->n * q->out), *dw_ref = doubles(q->out * q->in);
    for (int64_t r = 0; r < q->n; r++)
        for (int64_t c = 0; c < q->out; c++)
            y_ref[r * q->out + c] = q->y[r * q->out + c] + (double)y[block_at(r, c, q->out)];
    for (int64_t r = 0; r < q->out; r++)
        for (int64_t c = 0; c < q->in; c++)
            dw_ref[r * q->in + c] = q->dw[r * q->in + c] + (double)dw[block_at(r, c, q->in)];
    linear_forward_add(q->p, &q->weight, q->x.blocks, y, q->n);
    linear_gradient(q->p, q->dy.blocks, q->x.blocks, dw, q->n, q->out, q->in);
    assert_blocks(KERNEL_FP32, y, y_ref, q->n, q->out, 3e-6, "forward, added");
    assert_blocks(KERNEL_FP32, dw, dw_ref, q->out, q->in, 2e-5, "gradient");
    free(y);
    free(dw);
    free(y_ref);
    free(dw_ref);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

/* Column f of gate or of up, where they lie 32 by turns. */
static int64_t turn(int64_t f, bool up)
{
    return f / BLOCK * 2 * BLOCK + (up ? BLOCK : 0) + f % BLOCK;
}

static void check_swiglu(const struct problem *q)
{
    const int64_t F = q->out / 2;
    void *gu = act_alloc(q->p, q->n * q->out), *y = act_alloc(q->p, q->n * F);
    void *alone = act_alloc(q->p, q->n * F);
    double *y_ref = doubles(q->n * F);
    for (int64_t r = 0; r < q->n; r++)
        for (int64_t f = 0; f < F; f++) {
            double g = q->y[r * q->out + turn(f, false)], u = q->y[r * q->out + turn(f, true)];
            y_ref[r * F + f] = g * sigmoid(g) * u;
        }
    linear_forward_swiglu(q->p, &q->weight, q->x.blocks, gu, y, q->n);
    linear_forward_swiglu(q->p, &q->weight, q->x.blocks, NULL, alone, q->n);
    assert_blocks(q->p, gu, q->y, q->n, q->out, bound(q->p), "gate and up");
    assert_blocks(q->p, y, y_ref, q->n, F, bound(q->p), "swiglu");
    assert_same(y, alone, (size_t)(q->n * F) * act_bytes(q->p), "swiglu without gate and up");
    void *all[] = {gu, y, alone, y_ref};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]);
}

static void check_swiglu_backward(const struct problem *q)
{
    const int64_t F = q->in, size = q->n * 2 * F;
    struct matrix gu = matrix_random(q->p, q->n, 2 * F, 1.5, 9);
    void *d_gu = act_alloc(q->p, size), *y = act_alloc(q->p, q->n * F);
    double *d_gu_ref = doubles(size), *y_ref = doubles(q->n * F);
    for (int64_t r = 0; r < q->n; r++)
        for (int64_t f = 0; f < F; f++) {
            int64_t gate = r * 2 * F + turn(f, false), up = r * 2 * F + turn(f, true);
            double g = gu.values[gate], u = gu.values[up], s = sigmoid(g);
            y_ref[r * F + f] = g * s * u;
            d_gu_ref[up] = q->dx[r * F + f] * g * s;
            d_gu_ref[gate] = q->dx[r * F + f] * u * (s + g * s * (1 - s));
        }
    linear_backward_swiglu(q->p, &q->weight, q->dy.blocks, gu.blocks, d_gu, y, q->n);
    assert_blocks(q->p, d_gu, d_gu_ref, q->n, 2 * F, bound(q->p), "gradients of gate and up");
    assert_blocks(q->p, y, y_ref, q->n, F, bound(q->p), "swiglu once more");
    linear_backward_swiglu(q->p, &q->weight, q->dy.blocks, gu.blocks, gu.blocks, NULL, q->n);
    assert_same(gu.blocks, d_gu, (size_t)size * act_bytes(q->p), "in place of gate and up");
    void *all[] = {d_gu, y, d_gu_ref, y_ref};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]);
    matrix_release(&gu);
}

/* Maximum, sum, target and exponentials of rows of one block column. */
static void check_softmax_block(const struct problem *q, int64_t V, int64_t j,
                                const struct softmax_stats *s, const void *e)
{
    for (int64_t r = 0; r < q->n; r++) {
        const double *l = q->y + r * q->out;
        double max = -INFINITY, sum = 0, got_max = (double)s->max[j * q->n + r];
        for (int64_t c = j * BLOCK; c < (j + 1) * BLOCK && c < V; c++)
            max = fmax(max, l[c]);
        if (j * BLOCK >= V)
            assert_true(got_max == max);
        else
            assert_true(fabs(got_max - max) <= 3e-6 * (1 + fabs(max)));
        for (int64_t c = j * BLOCK; c < (j + 1) * BLOCK; c++) {
            double want = c < V ? exp(l[c] - max) : 0;
            double got = (double)act_get(q->p, e, block_at(r, c, q->out));
            assert_true(fabs(got - want) <= (c < V ? 2 * bound(q->p) : 0));
            sum += want;
        }
        assert_true(fabs((double)s->sum[j * q->n + r] - sum) <= 1e-5 * sum);
    }
}

static void check_softmax(const struct problem *q, int64_t V)
{
    const int64_t width = q->out / BLOCK;
    uint32_t *targets = mem_alloc((size_t)q->n * sizeof(*targets));
    struct softmax_stats s = {floats(width * q->n), floats(width * q->n), floats(q->n)};
    struct softmax_stats again = {floats(width * q->n), floats(width * q->n), floats(q->n)};
    void *e = act_alloc(q->p, q->n * q->out);
    for (int64_t r = 0; r < q->n; r++) {
        targets[r] = r % 7 == 3 ? UINT32_MAX : (uint32_t)(r * 37 % V);
        s.at_target[r] = again.at_target[r] = 123;
    }
    linear_forward_softmax(q->p, &q->weight, q->x.blocks, targets, V, e, &s, q->n);
    linear_forward_softmax(q->p, &q->weight, q->x.blocks, targets, V, NULL, &again, q->n);
    for (int64_t j = 0; j < width; j++)
        check_softmax_block(q, V, j, &s, e);
    for (int64_t r = 0; r < q->n; r++) {
        double want = targets[r] == UINT32_MAX ? 123 : q->y[r * q->out + targets[r]];
        assert_true(fabs((double)s.at_target[r] - want) <= 3e-6 * (1 + fabs(want)));
    }
    assert_same(s.max, again.max, (size_t)(width * q->n) * sizeof(float), "maxima, loss only");
    assert_same(s.sum, again.sum, (size_t)(width * q->n) * sizeof(float), "sums, loss only");
    assert_same(s.at_target, again.at_target, (size_t)q->n * sizeof(float), "targets, loss only");
    void *all[] = {targets, s.max, s.sum, s.at_target, again.max, again.sum, again.at_target, e};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]);
}

/* n, in, out: fewer and more blocks than a task has, odd and even, deeper than a kernel's step */
static const int64_t shapes[][3] = {{32, 32, 32},   {64, 96, 64},   {96, 160, 224}, {352, 64, 96},
                                    {32, 1120, 96}, {32, 32, 1088}, {1056, 64, 32}};

static void check_shape(enum kernel_precision p, int64_t n, int64_t in, int64_t out)
{
    struct problem q;
    problem_init(&q, p, n, in, out);
    FOR_LEVELS(level)
    {
        check_store(&q);
        check_add(&q);
        if (out % (2 * BLOCK) == 0)
            check_swiglu(&q);
        check_swiglu_backward(&q);
        check_softmax(&q, out);
        check_softmax(&q, out - 1);
        check_softmax(&q, out > 64 ? out - 45 : 5); /* a block column of nothing at all */
    }
    problem_release(&q);
}

static void test_shapes(void **state)
{
    (void)state;
    use_threads(2);
    for (int p = KERNEL_FP32; p <= KERNEL_BF16; p++)
        for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
            check_shape((enum kernel_precision)p, shapes[i][0], shapes[i][1], shapes[i][2]);
}

/* All results of a problem one after the other. */
struct results {
    char *at, *begin;
};

static void *append(struct results *r, int64_t n, size_t bytes)
{
    void *p = r->at;
    r->at += (size_t)n * bytes;
    return p;
}

static size_t run_all(const struct problem *q, const void *gu, const uint32_t *targets,
                      char *memory)
{
    const size_t bytes = act_bytes(q->p);
    const int64_t y = q->n * q->out, x = q->n * q->in;
    struct results r = {memory, memory};
    linear_forward(q->p, &q->weight, q->x.blocks, append(&r, y, bytes), q->n);
    linear_forward_add(q->p, &q->weight, q->x.blocks, append(&r, y, 4), q->n);
    linear_forward_swiglu(q->p, &q->weight, q->x.blocks, append(&r, y, bytes),
                          append(&r, y / 2, bytes), q->n);
    linear_backward(q->p, &q->weight, q->dy.blocks, append(&r, x, bytes), q->n);
    linear_backward_swiglu(q->p, &q->weight, q->dy.blocks, gu, append(&r, 2 * x, bytes),
                           append(&r, x, bytes), q->n);
    linear_gradient(q->p, q->dy.blocks, q->x.blocks, append(&r, q->out * q->in, 4), q->n, q->out,
                    q->in);
    struct softmax_stats s = {append(&r, y / BLOCK, 4), append(&r, y / BLOCK, 4),
                              append(&r, q->n, 4)};
    linear_forward_softmax(q->p, &q->weight, q->x.blocks, targets, q->out - 3, append(&r, y, bytes),
                           &s, q->n);
    return (size_t)(r.at - r.begin);
}

static void test_threads(void **state)
{
    (void)state;
    const int64_t n = 352, in = 160, out = 448;
    const size_t room = (size_t)(8 * n * (in + out) + in * out) * sizeof(float);
    for (int p = KERNEL_FP32; p <= KERNEL_BF16; p++) {
        struct problem q;
        problem_init(&q, (enum kernel_precision)p, n, in, out);
        struct matrix gu = matrix_random(q.p, n, 2 * in, 1, 4);
        uint32_t *targets = mem_zalloc((size_t)n, sizeof(*targets));
        FOR_LEVELS(level)
        {
            char *one = lines_alloc(room), *more = lines_alloc(room);
            use_threads(1);
            size_t used = run_all(&q, gu.blocks, targets, one);
            assert_true(used <= room);
            for (int threads = 2; threads <= 3; threads++) {
                use_threads(threads);
                memset(more, 0, room);
                run_all(&q, gu.blocks, targets, more);
                assert_same(one, more, used, "other numbers of threads");
            }
            free(one);
            free(more);
        }
        free(targets);
        matrix_release(&gu);
        problem_release(&q);
    }
}

/* Every form of a packed weight, value by value; gate and up by turns. */
static void test_pack(void **state)
{
    (void)state;
    const int64_t in = 96, rows = 64, out = 2 * rows;
    use_threads(2);
    for (int p = KERNEL_FP32; p <= KERNEL_BF16; p++) {
        enum kernel_precision precision = (enum kernel_precision)p;
        struct weight w = {out, in, act_alloc(precision, out * in), act_alloc(precision, out * in)};
        float *part[2] = {gaussian(rows * in, 1), gaussian(rows * in, 2)};
        for (int i = 0; i < 2; i++)
            weight_pack(precision, &w, part[i], rows, i, 2);
        for (int64_t o = 0; o < out; o++)
            for (int64_t k = 0; k < in; k++) {
                int64_t row = o / (2 * BLOCK) * BLOCK + o % BLOCK;
                float value = part[o / BLOCK % 2][block_at(row, k, in)];
                int64_t f = p == KERNEL_BF16 ? panel_at_bf16(k, o, in) : panel_at_fp32(k, o, in);
                int64_t b = p == KERNEL_BF16 ? panel_at_bf16(o, k, out) : panel_at_fp32(o, k, out);
                value = p == KERNEL_BF16 ? to_bf16(value) : value;
                assert_true(act_get(precision, w.forward, f) == value);
                assert_true(act_get(precision, w.backward, b) == value);
            }
        void *all[] = {w.forward, w.backward, part[0], part[1]};
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
            free(all[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_pack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
