/* AdamW and the gradient norm: against torch.optim.AdamW, against the formula, and for any
 * number of threads. */
#include "tests/test.h"

#include "common/mem.h"
#include "common/rng.h"
#include "common/threads.h"
#include "model/kernels/kernels.h"
#include "train/optimizer.h"

#include <math.h>
#include <omp.h>

static const struct adamw paper = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1};

static int setup(void **state)
{
    (void)state;
    struct err e;
    threads_init(2);
    return kernels_init(&e);
}

/* Made with torch 1.13.1: AdamW(lr=6e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1). */
static void test_torch(void **state)
{
    (void)state;
    enum { N = 6, STEPS = 5 };
    static const float g[STEPS][N] = {
        {0.1f, -0.2f, 0.3f, 1e-6f, -5.0f, 0.0f}, {-0.05f, 0.4f, 0.3f, 2e-6f, 5.0f, 0.0f},
        {0.2f, 0.1f, -0.6f, -1e-6f, 1.0f, 0.0f}, {0.0f, -0.1f, 0.05f, 1e-7f, -2.0f, 0.0f},
        {0.3f, 0.3f, 0.3f, 3e-6f, 0.5f, 0.0f},
    };
    static const float want[STEPS][N] = {
        {0.499369979f, -1.24932504f, 1.99927998f, -0.000594059413f, 0.00159994001f, -2.99981999f},
        {0.499178976f, -1.24946809f, 1.99855995f, -0.00116523006f, 0.00156826503f, -2.99963999f},
        {0.498759776f, -1.24964345f, 1.99848485f, -0.00141549832f, 0.00148934382f, -2.99945998f},
        {0.498406827f, -1.24969542f, 1.99837828f, -0.00163701817f, 0.00152263709f, -2.99927998f},
        {0.497962415f, -1.24988711f, 1.99814475f, -0.00199884409f, 0.001528266f, -2.99909997f},
    };
    float p[N] = {0.5f, -1.25f, 2.0f, 0.0f, 1e-3f, -3.0f}, m[N] = {0}, v[N] = {0};
    for (uint64_t t = 1; t <= STEPS; t++) {
        adamw_step(&paper, p, g[t - 1], m, v, N, t, 6e-4, 1.0);
        for (int i = 0; i < N; i++)
            if (fabs((double)p[i] - (double)want[t - 1][i]) >
                3e-7 * fabs((double)want[t - 1][i]) + 1e-9)
                fail_msg("step %d, parameter %d: %.9g, torch has %.9g", (int)t, i, (double)p[i],
                         (double)want[t - 1][i]);
    }
    /* 1 - beta in fp32 is off by up to 3e-7 of itself */
    assert_true(fabs((double)m[0] / 0.0491160005 - 1) < 5e-7);
    assert_true(fabs((double)v[4] / 2.33747649 - 1) < 5e-7);
}

/* A long run of parameters over many blocks, in double, clipped by half. */
static void test_formula(void **state)
{
    (void)state;
    enum { N = 100003, STEPS = 3 };
    float *p = mem_alloc(4 * N), *g = mem_alloc(4 * N);
    float *m = mem_zalloc(N, 4), *v = mem_zalloc(N, 4);
    double *q = mem_zalloc(N, 8), *qm = mem_zalloc(N, 8), *qv = mem_zalloc(N, 8);
    struct rng r;
    rng_init(&r, 3, 0);
    for (int i = 0; i < N; i++)
        q[i] = p[i] = (float)rng_normal(&r);
    for (int t = 1; t <= STEPS; t++) {
        for (int i = 0; i < N; i++) {
            g[i] = (float)rng_normal(&r);
            double half = 0.5 * (double)g[i];
            qm[i] = 0.9 * qm[i] + 0.1 * half;
            qv[i] = 0.95 * qv[i] + 0.05 * half * half;
            double mean = qm[i] / (1 - pow(0.9, t)), square = qv[i] / (1 - pow(0.95, t));
            q[i] -= 1e-2 * (0.1 * q[i] + mean / (sqrt(square) + 1e-8));
        }
        adamw_step(&paper, p, g, m, v, N, (uint64_t)t, 1e-2, 0.5);
    }
    for (int i = 0; i < N; i++)
        if (fabs((double)p[i] - q[i]) > 2e-6 * (1 + fabs(q[i])))
            fail_msg("parameter %d: %.9g, expected %.9g", i, (double)p[i], q[i]);
    free(p), free(g), free(m), free(v), free(q), free(qm), free(qv);
}

static void test_norm(void **state)
{
    (void)state;
    enum { N = 5000001 }; /* more blocks than are summed at a time */
    float *g = mem_alloc(sizeof(float) * N);
    double sum = 0;
    struct rng r;
    rng_init(&r, 4, 0);
    for (int i = 0; i < N; i++) {
        g[i] = (float)(rng_f64(&r) - 0.5);
        sum += (double)g[i] * (double)g[i];
    }
    double one = grad_norm(g, N);
    assert_true(fabs(one - sqrt(sum)) < 1e-9 * one);
    for (int threads = 1; threads <= 5; threads++) {
        omp_set_num_threads(threads);
        double again = grad_norm(g, N);
        assert_memory_equal(&one, &again, sizeof(one));
    }
    omp_set_num_threads(2);
    assert_true(grad_norm(g, 0) == 0);
    g[N - 1] = NAN;
    assert_true(isnan(grad_norm(g, N)));
    g[N - 1] = INFINITY;
    assert_true(isinf(grad_norm(g, N)));
    free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torch),
        cmocka_unit_test(test_formula),
        cmocka_unit_test(test_norm),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
