/*
 * The kernels on plain rows: every level against the definition in
 * double. Products, attention and the kernels on blocks have files of
 * their own.
 */
#include "tests/model/kernels_help.h"

static const int64_t lengths[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257, 770};
#define LENGTH_COUNT (sizeof(lengths) / sizeof(lengths[0]))

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void check_norm(int64_t n, int64_t C)
{
    float *x = gaussian(n * C, 1), *w = gaussian(C, 2), *y = floats(n * C), *rstd = floats(n);
    double *y_ref = doubles(n * C), *rstd_ref = doubles(n);
    for (int64_t row = 0; row < n; row++) {
        double squares = 0;
        for (int64_t i = row * C; i < (row + 1) * C; i++)
            squares += (double)x[i] * (double)x[i];
        rstd_ref[row] = 1 / sqrt(squares / (double)C + 1e-5);
        for (int64_t i = 0; i < C; i++)
            y_ref[row * C + i] = (double)x[row * C + i] * rstd_ref[row] * (double)w[i];
    }
    rmsnorm_forward(x, w, y, rstd, n, C, 1e-5);
    assert_near(y, y_ref, n * C, 1e-6, "rmsnorm y");
    assert_near(rstd, rstd_ref, n, 1e-6, "rmsnorm rstd");
    void *all[] = {x, w, y, rstd, y_ref, rstd_ref};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]);
}

static void test_norm(void **state)
{
    (void)state;
    use_threads(2);
    FOR_LEVELS(level)
    for (size_t i = 0; i < LENGTH_COUNT; i++) {
        check_norm(1, lengths[i]);
        check_norm(150, lengths[i]);
    }
}

/* Against cos and sin in double; the inverse gives back what was there. */
static void test_rope(void **state)
{
    (void)state;
    const int64_t B = 2, T = 37, heads = 3, pos0 = 5;
    use_threads(2);
    for (int64_t D = 2; D <= 128; D = D < 8 ? D + 2 : D + 24) {
        const int64_t n = B * T * heads * D;
        float *cosine = floats((T + pos0) * D / 2), *sine = floats((T + pos0) * D / 2);
        float *x = gaussian(n, 1);
        double *y = doubles(n), *before = doubles(n);
        rope_table(cosine, sine, T + pos0, D, 10000);
        for (int64_t i = 0; i < n; i++) {
            int64_t d = i % D, t = i / (heads * D) % T + pos0, pair = d % (D / 2);
            double angle = (double)t * pow(10000, -2.0 * (double)pair / (double)D);
            double other = (double)(d < D / 2 ? -x[i + D / 2] : x[i - D / 2]);
            before[i] = (double)x[i];
            y[i] = (double)x[i] * cos(angle) + other * sin(angle);
        }
        FOR_LEVELS(level)
        {
            float *z = copy(x, n);
            rope_apply(z, cosine, sine, B, T, heads, D, pos0, false);
            assert_near(z, y, n, 5e-7, "rope");
            rope_apply(z, cosine, sine, B, T, heads, D, pos0, true);
            assert_near(z, before, n, 1e-6, "rope and back");
            free(z);
        }
        void *all[] = {cosine, sine, x, y, before};
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
            free(all[i]);
    }
}

static void check_swiglu(int64_t n, double spread)
{
    float *gate = gaussian(n, 1), *up = gaussian(n, 2), *y = floats(n);
    double *y_ref = doubles(n);
    for (int64_t i = 0; i < n; i++) {
        gate[i] *= (float)spread;
        y_ref[i] = (double)gate[i] * sigmoid((double)gate[i]) * (double)up[i];
    }
    swiglu_forward(gate, up, y, n);
    assert_near(y, y_ref, n, 1e-6, "swiglu y");
    void *all[] = {gate, up, y, y_ref};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]);
}

static void test_swiglu(void **state)
{
    (void)state;
    use_threads(2);
    FOR_LEVELS(level)
    {
        for (size_t i = 0; i < LENGTH_COUNT; i++)
            check_swiglu(lengths[i], 1);
        check_swiglu(100000, 5);
        check_swiglu(1000, 100); /* where exp leaves the range of fp32 */
    }
}

static void check_adamw(int64_t n)
{
    const struct adamw_constants k = {1e-2f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.19f, 0.0975f, 0.5f};
    float *p = gaussian(n, 1), *g = gaussian(n, 2), *m = gaussian(n, 3), *v = gaussian(n, 4);
    double *p_ref = doubles(n), *m_ref = doubles(n), *v_ref = doubles(n);
    for (int64_t i = 0; i < n; i++) {
        double gi = (double)g[i] * (double)k.grad_scale;
        v[i] *= v[i];
        m_ref[i] = (double)k.beta1 * (double)m[i] + (1 - (double)k.beta1) * gi;
        v_ref[i] = (double)k.beta2 * (double)v[i] + (1 - (double)k.beta2) * gi * gi;
        double step = m_ref[i] / (double)k.c1 / (sqrt(v_ref[i] / (double)k.c2) + (double)k.eps);
        p_ref[i] = (double)p[i] - (double)k.lr * ((double)k.weight_decay * (double)p[i] + step);
    }
    adamw_run(p, g, m, v, n, &k);
    assert_near(p, p_ref, n, 1e-6, "adamw p");
    assert_near(m, m_ref, n, 1e-6, "adamw m");
    assert_near(v, v_ref, n, 1e-6, "adamw v");
    void *all[] = {p, g, m, v, p_ref, m_ref, v_ref};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]);
}

static void test_adamw(void **state)
{
    (void)state;
    FOR_LEVELS(level)
    for (size_t i = 0; i < LENGTH_COUNT; i++)
        check_adamw(lengths[i]);
}

static void test_sum_squares(void **state)
{
    (void)state;
    const int64_t n = 200001;
    float *x = gaussian(n, 1);
    double squares[CPU_AMX + 1], plain = 0;
    for (int64_t i = 0; i < n; i++)
        plain += (double)x[i] * (double)x[i];
    FOR_LEVELS(level)
    {
        squares[level] = sum_squares(x, n);
        assert_true(fabs(squares[level] - plain) <= 1e-12 * plain);
        assert_true(squares[level] == squares[CPU_C]); /* this one is the same at all levels */
        assert_true(sum_squares(x, 0) == 0);
        assert_true(sum_squares(x, 1) == (double)x[0] * (double)x[0]);
    }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_swiglu),      cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_sum_squares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
