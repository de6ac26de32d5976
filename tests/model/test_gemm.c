/*
 * Matrix products: every level against sums in double, on shapes that fit no block.
 */
#include "tests/model/kernels_help.h"

struct problem {
    enum gemm_layout layout;
    int64_t M, N, K;
    int64_t lda, ldb, ldc;
    float *a, *b, *c; /* c before the product */
    int64_t a_rows, b_rows, a_size, b_size, c_size;
};

static void problem_init(struct problem *p, enum gemm_layout layout, int64_t M, int64_t N,
                         int64_t K, int64_t extra)
{
    *p = (struct problem){.layout = layout, .M = M, .N = N, .K = K};
    int64_t a_cols = layout == GEMM_TN ? M : K, b_cols = layout == GEMM_NT ? K : N;
    p->a_rows = layout == GEMM_TN ? K : M;
    p->b_rows = layout == GEMM_NT ? N : K;
    p->lda = a_cols + extra;
    p->ldb = b_cols + 2 * extra;
    p->ldc = N + 3 * extra;
    /* the last row ends with its last value, not with its stride */
    p->a_size = (p->a_rows - 1) * p->lda + a_cols;
    p->b_size = (p->b_rows - 1) * p->ldb + b_cols;
    p->c_size = (M - 1) * p->ldc + N;
    p->a = gaussian(p->a_size, (uint64_t)(M * 1000003 + N * 1009 + K));
    p->b = gaussian(p->b_size, (uint64_t)(M * 1000003 + N * 1009 + K + 1));
    p->c = gaussian(p->c_size, (uint64_t)(M + N + K));
}

static void problem_release(struct problem *p)
{
    free(p->a);
    free(p->b);
    free(p->c);
}

static double value_a(const struct problem *p, int64_t m, int64_t k)
{
    return (double)(p->layout == GEMM_TN ? p->a[k * p->lda + m] : p->a[m * p->lda + k]);
}

static double value_b(const struct problem *p, int64_t n, int64_t k)
{
    return (double)(p->layout == GEMM_NT ? p->b[n * p->ldb + k] : p->b[k * p->ldb + n]);
}

/* Sums in double of the operands as they are: without c, and of absolute values. */
struct reference {
    double *sum, *size; /* (M, N) */
};

static struct reference define(const struct problem *p)
{
    struct reference r = {doubles(p->M * p->N), doubles(p->M * p->N)};
    for (int64_t m = 0; m < p->M; m++)
        for (int64_t n = 0; n < p->N; n++)
            for (int64_t k = 0; k < p->K; k++) {
                double product = value_a(p, m, k) * value_b(p, n, k);
                r.sum[m * p->N + n] += product;
                r.size[m * p->N + n] += fabs(product);
            }
    return r;
}

static void check(const struct problem *p, const struct reference *r, const float *c, bool add)
{
    for (int64_t i = 0; i < p->c_size; i++) {
        int64_t m = i / p->ldc, n = i % p->ldc;
        double before = (double)p->c[i], now = (double)c[i];
        if (n >= p->N) {
            assert_true(now == before); /* between the rows nothing is written */
            continue;
        }
        double sum = r->sum[m * p->N + n] + (add ? before : 0);
        double size = r->size[m * p->N + n] + (add ? fabs(before) : 0);
        if (!(fabs(now - sum) <= 1e-6 * size))
            fail_msg("layout %d, M %lld N %lld K %lld: c[%lld][%lld] is %.9g, not %.9g (%s)",
                     (int)p->layout, (long long)p->M, (long long)p->N, (long long)p->K,
                     (long long)m, (long long)n, now, sum, cpu_level_name(kernels_level()));
    }
}

static float *run(const struct problem *p, enum kernel_precision precision, bool add)
{
    float *c = copy(p->c, p->c_size);
    gemm(p->layout, precision, p->M, p->N, p->K, p->a, p->lda, p->b, p->ldb, c, p->ldc, add);
    return c;
}

/* fp32 against double; bf16 the same bits whether the operands were rounded before or not,
 * and then against double as well. */
static void check_level(const struct problem *p, const struct problem *rounded,
                        const struct reference *r, const struct reference *r_rounded, bool add)
{
    float *c = run(p, KERNEL_FP32, add), *d = run(p, KERNEL_BF16, add);
    float *e = run(rounded, KERNEL_BF16, add), *f = run(rounded, KERNEL_FP32, add);
    check(p, r, c, add);
    check(rounded, r_rounded, d, add);
    assert_same_bits(d, e, p->c_size, "gemm rounds to bf16");
    if (kernels_level() != CPU_AMX)
        assert_same_bits(d, f, p->c_size, "gemm bf16 = fp32 of rounded operands");
    free(c);
    free(d);
    free(e);
    free(f);
}

static void check_problem(enum gemm_layout layout, int64_t M, int64_t N, int64_t K, int64_t extra)
{
    struct problem p, rounded;
    problem_init(&p, layout, M, N, K, extra);
    problem_init(&rounded, layout, M, N, K, extra);
    for (int64_t i = 0; i < p.a_size; i++)
        rounded.a[i] = to_bf16(p.a[i]);
    for (int64_t i = 0; i < p.b_size; i++)
        rounded.b[i] = to_bf16(p.b[i]);
    struct reference r = define(&p), r_rounded = define(&rounded);
    FOR_LEVELS(level)
    {
        check_level(&p, &rounded, &r, &r_rounded, false);
        check_level(&p, &rounded, &r, &r_rounded, true);
    }
    free(r.sum);
    free(r.size);
    free(r_rounded.sum);
    free(r_rounded.size);
    problem_release(&p);
    problem_release(&rounded);
}

static const int64_t shapes[][3] = {
    {1, 1, 1},       {1, 7, 3},     {2, 33, 17},  {3, 64, 130}, {5, 31, 64},   {8, 100, 33},
    {9, 1, 9},       {12, 32, 16},  {13, 33, 31}, {14, 32, 64}, {15, 47, 65},  {17, 130, 1},
    {31, 31, 31},    {32, 32, 32},  {33, 65, 33}, {64, 96, 97}, {100, 3, 129}, {127, 129, 2},
    {130, 130, 130}, {29, 30, 300}, {16, 40, 520}};

static void test_shapes(void **state)
{
    (void)state;
    use_threads(2);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        for (int layout = GEMM_NT; layout <= GEMM_TN; layout++)
            for (int64_t extra = 0; extra <= 5; extra += 5)
                check_problem((enum gemm_layout)layout, shapes[i][0], shapes[i][1], shapes[i][2],
                              extra);
}

/* Larger than the packing scratch in each direction. */
static void test_large(void **state)
{
    (void)state;
    use_threads(2);
    check_problem(GEMM_NT, 1100, 40, 70, 0);
    check_problem(GEMM_NN, 33, 2300, 50, 1);
    check_problem(GEMM_TN, 60, 70, 1300, 0);
}

static void test_threads(void **state)
{
    (void)state;
    FOR_LEVELS(level)
    for (int layout = GEMM_NT; layout <= GEMM_TN; layout++)
        for (int precision = KERNEL_FP32; precision <= KERNEL_BF16; precision++)
            for (int64_t M = 4; M < 200; M += 150) {
                struct problem p;
                problem_init(&p, (enum gemm_layout)layout, M, 500, 1100, 0);
                use_threads(1);
                float *one = run(&p, (enum kernel_precision)precision, true);
                for (int threads = 2; threads <= 3; threads++) {
                    use_threads(threads);
                    float *c = run(&p, (enum kernel_precision)precision, true);
                    assert_same_bits(one, c, p.c_size, "gemm on several threads");
                    free(c);
                }
                free(one);
                problem_release(&p);
            }
}

static void test_nested(void **state)
{
    (void)state;
    use_threads(2);
    FOR_LEVELS(level)
    {
        struct problem p;
        problem_init(&p, GEMM_NN, 300, 400, 290, 0);
        float *outside = run(&p, KERNEL_BF16, false), *inside[2];
#pragma omp parallel for schedule(static, 1)
        for (int i = 0; i < 2; i++)
            inside[i] = run(&p, KERNEL_BF16, false);
        for (int i = 0; i < 2; i++) {
            assert_same_bits(outside, inside[i], p.c_size, "gemm inside a parallel region");
            free(inside[i]);
        }
        free(outside);
        problem_release(&p);
    }
}

static void test_empty(void **state)
{
    (void)state;
    use_threads(2);
    FOR_LEVELS(level)
    {
        float c[2] = {3, 4};
        gemm(GEMM_NT, KERNEL_FP32, 1, 2, 0, c, 1, c, 1, c, 2, true);
        assert_true(c[0] == 3 && c[1] == 4);
        gemm(GEMM_NT, KERNEL_FP32, 1, 2, 0, c, 1, c, 1, c, 2, false);
        assert_true(c[0] == 0 && c[1] == 0);
        gemm(GEMM_NT, KERNEL_FP32, 0, 2, 4, c, 4, c, 4, c, 2, false);
    }
}

/* A NaN or Inf in an operand must reach the result, or a diverged run would look healthy. */
static void test_not_finite(void **state)
{
    (void)state;
    use_threads(2);
    FOR_LEVELS(level)
    for (int precision = KERNEL_FP32; precision <= KERNEL_BF16; precision++)
        for (int64_t M = 3; M < 40; M += 30) {
            struct problem p;
            problem_init(&p, GEMM_NT, M, 40, 40, 0);
            p.a[(M - 1) * 40 + 39] = NAN;
            p.b[7] = INFINITY;
            float *c = run(&p, (enum kernel_precision)precision, false);
            for (int n = 0; n < 40; n++)
                assert_true(isnan(c[(M - 1) * 40 + n]));
            assert_true(isinf(c[0]));
            assert_true(isfinite(c[1]));
            free(c);
            problem_release(&p);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),  cmocka_unit_test(test_large),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_nested),
        cmocka_unit_test(test_empty),   cmocka_unit_test(test_not_finite)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
