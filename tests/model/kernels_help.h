/*
 * What the tests of the kernels share: every level the machine has, every number of threads
 * that matters, buffers that end exactly at their allocation (so that ASan sees the first
 * value read too far), gaussian values.
 */
#ifndef TESTS_MODEL_KERNELS_HELP_H
#define TESTS_MODEL_KERNELS_HELP_H

#include "tests/test.h"

#include "common/cpu.h"
#include "common/mem.h"
#include "common/rng.h"
#include "common/threads.h"
#include "model/kernels/kernels.h"

#include <math.h>

static inline void use_threads(int threads)
{
    struct err e;
    threads_init(threads);
    assert_works(kernels_init(&e), e);
}

static inline bool use_level(enum cpu_level level)
{
    struct err e;
    if (cpu_level_force(level) != level)
        return false;
    assert_works(kernels_init(&e), e);
    assert_int_equal(kernels_level(), level);
    return true;
}

#define FOR_LEVELS(level)                                                                          \
    for (int level = CPU_C; level <= CPU_AMX; level++)                                             \
        if (use_level((enum cpu_level)level))

static inline float *floats(int64_t n)
{
    return mem_alloc((size_t)(n > 0 ? n : 1) * sizeof(float));
}

static inline float *gaussian(int64_t n, uint64_t seed)
{
    struct rng r;
    rng_init(&r, seed, 7);
    float *x = floats(n);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(&r);
    return x;
}

static inline float *copy(const float *x, int64_t n)
{
    return memcpy(floats(n), x, (size_t)n * sizeof(float));
}

static inline void assert_same_bits(const float *x, const float *y, int64_t n, const char *what)
{
    if (n > 0 && memcmp(x, y, (size_t)n * sizeof(float)) != 0)
        fail_msg("%s: bits differ at level %s", what, cpu_level_name(kernels_level()));
}

/* |x - y| <= bound · (1 + |y|) everywhere; NaN fails. */
static inline void assert_near(const float *x, const double *y, int64_t n, double bound,
                               const char *what)
{
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)x[i] - y[i]) <= bound * (1 + fabs(y[i]))))
            fail_msg("%s: value %lld is %.9g instead of %.9g at level %s", what, (long long)i,
                     (double)x[i], y[i], cpu_level_name(kernels_level()));
}

static inline double *doubles(int64_t n)
{
    return mem_zalloc((size_t)(n > 0 ? n : 1), sizeof(double));
}

/* Nearest bf16, ties to even, by arithmetic rather than bits. */
static inline float to_bf16(float x)
{
    int exponent;
    if (x == 0 || !isfinite(x))
        return x;
    double m = frexp((double)x, &exponent);
    return (float)ldexp(nearbyint(m * 256.0), exponent - 8);
}

#endif
