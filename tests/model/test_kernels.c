/*
 * Norms, rotation, activation, loss, optimiser: every level against the definition in
 * double. Products and attention have files of their own.
 */
#include "tests/model/kernels_help.h"

static const int64_t lengths[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257, 770};
#define LENGTH_COUNT (sizeof(lengths) / sizeof(lengths[0]))

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void norm_reference(const float *x, const float *w, const float *dy, int64_t C, double *y,
                           double *rstd, double *dx, double *dw)
{
    double squares = 0, mean = 0;
    for (int64_t i = 0; i < C; i++)
        squares += (double)x[i] * (double)x[i];
    *rstd = 1 / sqrt(squares / (double)C + 1e-5);
    for (int64_t i = 0; i < C; i++) {
        y[i] = (double)x[i] * *rstd * (double)w[i];
        mean += (double)dy[i] * (double)w[i] * (double)x[i] * *rstd / (double)C;
    }
    for (int64_t i = 0; i < C; i++) {
        double normed = (double)x[i] * *rstd;
        dx[i] = *rstd * ((double)dy[i] * (double)w[i] - normed * mean);
        dw[i] += (double)dy[i] * normed;
    }
}

static void check_norm(int64_t n, int64_t C)
{
    float *x = gaussian(n * C, 1), *w = gaussian(C, 2), *dy = gaussian(n * C, 3);
    float *y = floats(n * C), *rstd = floats(n), *dx = gaussian(n * C, 4), *dw = gaussian(C, 5);
    double *y_ref = doubles(n * C), *rstd_ref = doubles(n);
    double *dx_ref = doubles(n * C), *dw_ref = doubles(C);
    for (int64_t i = 0; i < n; i++)
        norm_reference(x + i * C, w, dy + i * C, C, y_ref + i * C, rstd_ref + i, dx_ref + i * C,
                       dw_ref);
    for (int64_t i = 0; i < n * C; i++)
        dx_ref[i] += (double)dx[i];
    for (int64_t i = 0; i < C; i++)
        dw_ref[i] += (double)dw[i];
    rmsnorm_forward(x, w, y, rstd, n, C, 1e-5);
    float *frozen = copy(dx, n * C);
    rmsnorm_backward(x, w, rstd, dy, frozen, NULL, n, C);
    rmsnorm_backward(x, w, rstd, dy, dx, dw, n, C);
    assert_same_bits(dx, frozen, n * C, "rmsnorm dx without dw");
    assert_near(y, y_ref, n * C, 1e-6, "rmsnorm y");
    assert_near(rstd, rstd_ref, n, 1e-6, "rmsnorm rstd");
    assert_near(dx, dx_ref, n * C, 5e-6, "rmsnorm dx");
    assert_near(dw, dw_ref, C, 5e-6, "rmsnorm dw");
    void *all[] = {x, w, dy, y, rstd, dx, dw, y_ref, rstd_ref, dx_ref, dw_ref, frozen};
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

static void test_norm_threads(void **state)
{
    (void)state;
    const int64_t n = 700, C = 200;
    FOR_LEVELS(level)
    {
        float *x = gaussian(n * C, 1), *w = gaussian(C, 2), *dy = gaussian(n * C, 3);
        float *rstd = floats(n), *y = floats(n * C), *dx = gaussian(n * C, 4);
        float *dw[4];
        for (int run = 0; run < 4; run++) {
            use_threads(run < 3 ? run + 1 : 2);
            dw[run] = gaussian(C, 5);
            rmsnorm_forward(x, w, y, rstd, n, C, 1e-5);
            if (run < 3)
                rmsnorm_backward(x, w, rstd, dy, dx, dw[run], n, C);
            else {
#pragma omp parallel
#pragma omp single
                rmsnorm_backward(x, w, rstd, dy, dx, dw[run], n, C);
            }
            assert_same_bits(dw[0], dw[run], C, "rmsnorm dw on several threads or inside a region");
        }
        void *all[] = {x, w, dy, rstd, y, dx, dw[0], dw[1], dw[2], dw[3]};
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
            free(all[i]);
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
    float *gate = gaussian(n, 1), *up = gaussian(n, 2), *dy = gaussian(n, 3);
    float *y = floats(n), *dgate = floats(n), *dup = floats(n);
    double *y_ref = doubles(n), *dgate_ref = doubles(n), *dup_ref = doubles(n);
    for (int64_t i = 0; i < n; i++) {
        gate[i] *= (float)spread;
        double g = (double)gate[i], u = (double)up[i], d = (double)dy[i], s = sigmoid(g);
        y_ref[i] = g * s * u;
        dgate_ref[i] = d * u * (s + g * s * (1 - s));
        dup_ref[i] = d * g * s;
    }
    swiglu_forward(gate, up, y, n);
    swiglu_backward(gate, up, dy, dgate, dup, n);
    assert_near(y, y_ref, n, 1e-6, "swiglu y");
    /* g (1 - sigmoid(g)) in fp32 loses what g is large by */
    assert_near(dgate, dgate_ref, n, 1e-6 * (1 + spread), "swiglu dgate");
    assert_near(dup, dup_ref, n, 1e-6, "swiglu dup");
    void *all[] = {gate, up, dy, y, dgate, dup, y_ref, dgate_ref, dup_ref};
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

static double loss_reference(const float *logits, uint32_t target, int64_t V, double scale,
                             double *grad)
{
    double max = -INFINITY, sum = 0;
    for (int64_t i = 0; i < V; i++)
        max = fmax(max, (double)logits[i]);
    for (int64_t i = 0; i < V; i++)
        sum += exp((double)logits[i] - max);
    for (int64_t i = 0; i < V; i++)
        grad[i] = scale * (exp((double)logits[i] - max) / sum - (i == target));
    return log(sum) + max - (double)logits[target];
}

static void check_loss(int64_t V, double spread)
{
    enum { ROWS = 9 };
    const float scale = 0.25f;
    float *logits = gaussian(ROWS * V, (uint64_t)V), losses[ROWS], only_losses[ROWS];
    double *grad = doubles(ROWS * V), loss[ROWS];
    uint32_t targets[ROWS];
    for (int64_t i = 0; i < ROWS * V; i++)
        logits[i] = (float)((double)logits[i] * spread - 40); /* padding with 0 would show */
    for (int64_t i = 0; i < ROWS; i++) {
        targets[i] = (uint32_t)(i * 7919 % V);
        loss[i] = loss_reference(logits + i * V, targets[i], V, (double)scale, grad + i * V);
    }
    targets[4] = UINT32_MAX;
    loss[4] = 0;
    memset(grad + 4 * V, 0, (size_t)V * sizeof(double));
    float *before = copy(logits, ROWS * V);
    cross_entropy(logits, targets, only_losses, ROWS, V, 0);
    assert_same_bits(before, logits, ROWS * V, "logits without gradient");
    cross_entropy(logits, targets, losses, ROWS, V, scale);
    assert_same_bits(losses, only_losses, ROWS, "losses with and without gradient");
    assert_near(losses, loss, ROWS, 2e-6, "loss");
    assert_near(logits, grad, ROWS * V, 5e-7, "gradient of the loss");
    free(logits);
    free(before);
    free(grad);
}

static void test_loss(void **state)
{
    (void)state;
    use_threads(2);
    FOR_LEVELS(level)
    {
        for (size_t i = 0; i < LENGTH_COUNT; i++)
            check_loss(lengths[i], 3);
        check_loss(32000, 3);
        check_loss(32001, 30);
        float bad[2] = {NAN, 1}, loss;
        uint32_t target = 1;
        cross_entropy(bad, &target, &loss, 1, 2, 1);
        assert_true(isnan(loss)); /* a diverged run must not look healthy */
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

static void test_vectors(void **state)
{
    (void)state;
    const int64_t n = 200001;
    float *x = gaussian(n, 1), *y = gaussian(n, 2), *sum = floats(n);
    double squares[CPU_AMX + 1], plain = 0;
    for (int64_t i = 0; i < n; i++) {
        sum[i] = x[i] + y[i];
        plain += (double)x[i] * (double)x[i];
    }
    use_threads(2);
    FOR_LEVELS(level)
    {
        float *z = copy(x, n);
        vector_add(z, y, n);
        assert_same_bits(z, sum, n, "vector_add");
        free(z);
        squares[level] = sum_squares(x, n);
        assert_true(fabs(squares[level] - plain) <= 1e-12 * plain);
        assert_true(squares[level] == squares[CPU_C]); /* this one is the same at all levels */
        assert_true(sum_squares(x, 0) == 0);
        assert_true(sum_squares(x, 1) == (double)x[0] * (double)x[0]);
    }
    free(x);
    free(y);
    free(sum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm),   cmocka_unit_test(test_norm_threads),
        cmocka_unit_test(test_rope),   cmocka_unit_test(test_swiglu),
        cmocka_unit_test(test_loss),   cmocka_unit_test(test_adamw),
        cmocka_unit_test(test_vectors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
