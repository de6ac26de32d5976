/*
 * Attention on matrices in blocks: every level against the definition in double, whole score
 * matrices and all.
 */
#include "tests/model/kernels_help.h"

/* Inputs and outputs in blocks, of one precision; the definition's in rows (N, columns). */
struct problem {
    enum kernel_precision p;
    struct heads_shape s;
    int64_t rows, n, q_cols, kv_cols, cols; /* rows of a sequence; of all; columns filled up */
    uint32_t *starts;
    float *qkv, *dout;                 /* (n, cols), (n, q_cols): rows, as rounded */
    void *qkv_act, *dout_act;          /* … in blocks */
    void *out, *d_qkv;                 /* the kernels' */
    float *lse;                        /* (B, H, rows) */
    double *out_ref, *lse_ref, *d_ref; /* the definition's */
};

static float act_value(enum kernel_precision p, const void *act, int64_t at)
{
    return p == KERNEL_BF16 ? bf16_value(((const uint16_t *)act)[at]) : ((const float *)act)[at];
}

/* Rounds values of rows to the precision and lays them into blocks. */
static void *to_blocks(enum kernel_precision p, float *values, int64_t n, int64_t cols)
{
    void *act = mem_zalloc((size_t)(n * cols), act_bytes(p));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < cols; j++) {
            float *x = &values[i * cols + j];
            if (p == KERNEL_BF16)
                ((uint16_t *)act)[block_at(i, j, cols)] = bf16_round(*x = to_bf16(*x));
            else
                ((float *)act)[block_at(i, j, cols)] = *x;
        }
    return act;
}

static bool is_filling(const struct problem *p, int64_t row, int64_t col)
{
    const int64_t H = p->s.H * p->s.D, G = p->s.G * p->s.D;
    if (row % p->rows >= p->s.T)
        return true;
    if (col < p->q_cols)
        return col >= H;
    return (col - p->q_cols) % p->kv_cols >= G;
}

/* spread: of the scores. growth: the last keys are so many times as long as the first. */
static void problem_init(struct problem *p, enum kernel_precision precision, struct heads_shape s,
                         bool documents, double spread, double growth)
{
    *p = (struct problem){.p = precision, .s = s, .rows = block_up(s.T)};
    p->n = s.B * p->rows;
    p->q_cols = block_up(s.H * s.D);
    p->kv_cols = block_up(s.G * s.D);
    p->cols = p->q_cols + 2 * p->kv_cols;
    p->qkv = gaussian(p->n * p->cols, 1);
    p->dout = gaussian(p->n * p->q_cols, 2);
    for (int64_t row = 0; row < p->n; row++)
        for (int64_t col = 0; col < p->cols; col++) {
            float *x = &p->qkv[row * p->cols + col];
            if (col < p->q_cols)
                *x *= (float)spread;
            else if (col < p->q_cols + p->kv_cols)
                *x *= (float)(1 + (growth - 1) * (double)(row % p->rows) / (double)s.T);
            if (is_filling(p, row, col))
                *x = 0;
            if (col < p->q_cols && is_filling(p, row, col))
                p->dout[row * p->q_cols + col] = 0;
        }
    p->qkv_act = to_blocks(precision, p->qkv, p->n, p->cols);
    p->dout_act = to_blocks(precision, p->dout, p->n, p->q_cols);
    p->out = mem_alloc((size_t)(p->n * p->q_cols) * act_bytes(precision));
    p->d_qkv = mem_alloc((size_t)(p->n * p->cols) * act_bytes(precision));
    p->lse = floats(s.B * s.H * p->rows);
    p->out_ref = doubles(p->n * p->q_cols);
    p->lse_ref = doubles(s.B * s.H * p->rows);
    p->d_ref = doubles(p->n * p->cols);
    if (!documents)
        return;
    p->starts = mem_alloc((size_t)p->n * sizeof(*p->starts));
    for (int64_t row = 0, start = 0; row < p->n; row++) {
        const int64_t t = row % p->rows;
        if (t == 0 || (row * 7919) % 41 == 0)
            start = t; /* documents of 41 tokens, beginning anywhere */
        p->starts[row] = t < s.T ? (uint32_t)start : UINT32_MAX;
    }
    p->s.starts = p->starts;
}

static void problem_release(struct problem *p)
{
    void *all[] = {p->starts, p->qkv, p->dout,    p->qkv_act, p->dout_act, p->out,
                   p->d_qkv,  p->lse, p->out_ref, p->lse_ref, p->d_ref};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]);
}

static double dot(const float *x, const float *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

/* One query: its probabilities, output and everything it adds to the gradients. */
static void define_query(struct problem *p, int64_t b, int64_t h, int64_t t, double *prob)
{
    const int64_t D = p->s.D, g = h / (p->s.H / p->s.G), row0 = b * p->rows, row = row0 + t;
    const int64_t start = p->starts ? p->starts[row] : 0, q = row * p->cols + h * D;
    const int64_t out = row * p->q_cols + h * D, k = p->q_cols + g * D, v = k + p->kv_cols;
    const double scale = 1 / sqrt((double)D);
    double max = -INFINITY, sum = 0, delta = 0;
    for (int64_t j = start; j <= t; j++) {
        prob[j] = scale * dot(p->qkv + q, p->qkv + (row0 + j) * p->cols + k, D);
        max = prob[j] > max ? prob[j] : max;
    }
    for (int64_t j = start; j <= t; j++)
        sum += prob[j] = exp(prob[j] - max);
    p->lse_ref[(b * p->s.H + h) * p->rows + t] = max + log(sum);
    for (int64_t j = start; j <= t; j++) {
        const float *value = p->qkv + (row0 + j) * p->cols + v;
        prob[j] /= sum;
        for (int64_t d = 0; d < D; d++)
            p->out_ref[out + d] += prob[j] * (double)value[d];
        delta += prob[j] * dot(p->dout + out, value, D);
    }
    for (int64_t j = start; j <= t; j++) {
        const int64_t key = (row0 + j) * p->cols + k, value = key + p->kv_cols;
        double ds = scale * prob[j] * (dot(p->dout + out, p->qkv + value, D) - delta);
        for (int64_t d = 0; d < D; d++) {
            p->d_ref[value + d] += prob[j] * (double)p->dout[out + d];
            p->d_ref[key + d] += ds * (double)p->qkv[q + d];
            p->d_ref[q + d] += ds * (double)p->qkv[key + d];
        }
    }
}

static void define(struct problem *p)
{
    double *prob = doubles(p->s.T);
    for (int64_t b = 0; b < p->s.B; b++)
        for (int64_t h = 0; h < p->s.H; h++)
            for (int64_t t = 0; t < p->s.T; t++)
                define_query(p, b, h, t, prob);
    free(prob);
}

static void run(struct problem *p)
{
    /* NaN everywhere: what is not written, or added to, shows. */
    memset(p->out, 0xff, (size_t)(p->n * p->q_cols) * act_bytes(p->p));
    memset(p->d_qkv, 0xff, (size_t)(p->n * p->cols) * act_bytes(p->p));
    memset(p->lse, 0xff, (size_t)(p->s.B * p->s.H * p->rows) * sizeof(float));
    heads_forward(p->p, &p->s, p->qkv_act, p->out, p->lse);
    heads_backward(p->p, &p->s, p->qkv_act, p->out, p->lse, p->dout_act, p->d_qkv);
}

/* A matrix in blocks against rows; what fills up must be zero exactly. */
static void check_act(const struct problem *p, const void *act, const double *ref, int64_t cols,
                      double bound, const char *what)
{
    float *rows = floats(p->n * cols);
    for (int64_t i = 0; i < p->n; i++)
        for (int64_t j = 0; j < cols; j++) {
            rows[i * cols + j] = act_value(p->p, act, block_at(i, j, cols));
            if (is_filling(p, i, j) && !(rows[i * cols + j] == 0))
                fail_msg("%s: filling at (%lld, %lld) is %g at level %s", what, (long long)i,
                         (long long)j, (double)rows[i * cols + j], cpu_level_name(kernels_level()));
        }
    assert_near(rows, ref, p->n * cols, bound, what);
    free(rows);
}

static void check(const struct problem *p, double bound)
{
    check_act(p, p->out, p->out_ref, p->q_cols, bound, "heads out");
    check_act(p, p->d_qkv, p->d_ref, p->cols, bound, "heads d_qkv");
    for (int64_t i = 0; i < p->s.B * p->s.H; i++)
        assert_near(p->lse + i * p->rows, p->lse_ref + i * p->rows, p->s.T, bound, "heads lse");
}

/* Around the blocks of 32, 64 and 96; groups of 1, 2, 3 and 8 heads; columns that fill no
 * block. */
static const struct heads_shape shapes[] = {
    {2, 1, 1, 1, 8, NULL},     {1, 2, 2, 1, 16, NULL},   {2, 15, 4, 2, 24, NULL},
    {1, 31, 2, 2, 32, NULL},   {1, 33, 3, 1, 40, NULL},  {1, 63, 2, 1, 64, NULL},
    {1, 64, 2, 2, 32, NULL},   {1, 65, 4, 2, 48, NULL},  {2, 100, 2, 1, 128, NULL},
    {2, 96, 2, 1, 32, NULL},   {1, 97, 1, 1, 72, NULL},  {1, 130, 6, 2, 64, NULL},
    {1, 200, 2, 1, 128, NULL}, {3, 257, 4, 4, 32, NULL}, {1, 300, 2, 1, 120, NULL},
    {1, 161, 8, 1, 64, NULL},  {1, 193, 2, 1, 96, NULL}, {1, 600, 1, 1, 64, NULL}};

static void test_definition(void **state)
{
    (void)state;
    use_threads(2);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        for (int variant = 0; variant < 4; variant++) {
            const enum kernel_precision precision = variant % 2 ? KERNEL_BF16 : KERNEL_FP32;
            struct problem p;
            problem_init(&p, precision, shapes[i], variant / 2, 1, 1);
            define(&p);
            FOR_LEVELS(level)
            {
                run(&p);
                check(&p, precision == KERNEL_BF16 ? 3e-2 : 2e-5);
            }
            problem_release(&p);
        }
}

/* Scores up to hundreds and a maximum that moves from block to block. */
static void test_large_scores(void **state)
{
    (void)state;
    use_threads(2);
    struct problem p;
    problem_init(&p, KERNEL_FP32, (struct heads_shape){1, 230, 2, 1, 32, NULL}, false, 12, 1);
    define(&p);
    FOR_LEVELS(level)
    {
        run(&p);
        check(&p, 2e-4);
    }
    problem_release(&p);
    /* bf16 inputs are exact; probabilities, rounded, are off by 2^-9 at any size of scores */
    for (int D = 32; D <= 128; D *= 2) {
        problem_init(&p, KERNEL_BF16, (struct heads_shape){1, 530, 2, 1, D, NULL}, D == 64, 4, 30);
        define(&p);
        FOR_LEVELS(level)
        {
            heads_forward(p.p, &p.s, p.qkv_act, p.out, p.lse);
            check_act(&p, p.out, p.out_ref, p.q_cols, 3e-2, "heads out, large scores");
            assert_near(p.lse, p.lse_ref, p.s.T, 2e-3, "heads lse, large scores");
        }
        problem_release(&p);
    }
}

static void test_threads(void **state)
{
    (void)state;
    static const struct heads_shape some[] = {
        {1, 300, 4, 2, 32, NULL}, {3, 130, 4, 2, 16, NULL}, {1, 1100, 6, 2, 64, NULL}};
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++)
        for (int precision = KERNEL_FP32; precision <= KERNEL_BF16; precision++) {
            struct problem one, more;
            problem_init(&one, (enum kernel_precision)precision, some[i], true, 1, 1);
            problem_init(&more, (enum kernel_precision)precision, some[i], true, 1, 1);
            const size_t bytes = act_bytes(one.p);
            FOR_LEVELS(level)
            {
                use_threads(1);
                run(&one);
                for (int threads = 2; threads <= 3; threads++) {
                    use_threads(threads);
                    run(&more);
                    assert_memory_equal(one.out, more.out, (size_t)(one.n * one.q_cols) * bytes);
                    assert_memory_equal(one.d_qkv, more.d_qkv, (size_t)(one.n * one.cols) * bytes);
                    assert_same_bits(one.lse, more.lse, one.s.B * one.s.H * one.rows, "lse");
                }
            }
            problem_release(&one);
            problem_release(&more);
        }
}

/* What a position computes must not depend on what comes after it, nor on what came before its
 * document. */
static void test_visible(void **state)
{
    (void)state;
    const int64_t T = 300, begin = 77, end = 201, D = 64;
    use_threads(2);
    FOR_LEVELS(level)
    for (int precision = KERNEL_FP32; precision <= KERNEL_BF16; precision++) {
        struct problem p;
        problem_init(&p, (enum kernel_precision)precision,
                     (struct heads_shape){1, T, 2, 1, D, NULL}, true, 1, 1);
        for (int64_t t = 0; t < T; t++)
            p.starts[t] = (uint32_t)(t < begin ? 0 : begin);
        heads_forward(p.p, &p.s, p.qkv_act, p.out, p.lse);
        const size_t bytes = act_bytes(p.p), size = (size_t)(p.n * p.q_cols) * bytes;
        char *before = memcpy(mem_alloc(size), p.out, size);
        for (int64_t t = 0; t < T; t++)
            for (int64_t c = p.q_cols; c < p.cols && (t < begin || t >= end); c++)
                p.qkv[t * p.cols + c] = 100.0f;
        void *changed = to_blocks(p.p, p.qkv, p.n, p.cols);
        heads_forward(p.p, &p.s, changed, p.out, p.lse);
        for (int64_t t = begin; t < end; t++)
            for (int64_t c = 0; c < p.q_cols; c++) {
                const size_t at = (size_t)block_at(t, c, p.q_cols) * bytes;
                assert_memory_equal(before + at, (char *)p.out + at, bytes);
            }
        free(before);
        free(changed);
        problem_release(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition), cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_visible)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
