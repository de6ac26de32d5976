/* Peaks: every level measures something, and in the order that hardware has. */
#include "tests/test.h"

#include "common/threads.h"
#include "model/kernels/peak.h"
#include "model/kernels/table.h"

#include <math.h>

static enum cpu_level best;

static void at_level(enum cpu_level level)
{
    struct err e;
    assert_int_equal(cpu_level_force(level), level);
    assert_works(kernels_init(&e), e);
}

static void test_levels(void **state)
{
    (void)state;
    for (int level = CPU_C; level <= (int)best; level++) {
        at_level((enum cpu_level)level);
        assert_true(peak_flops(PEAK_FP32, 0.01) > 1e8);
        assert_int_equal(peak_flops(PEAK_AMX_NOMINAL, 0.01) > 0, level == CPU_AMX);
        assert_int_equal(peak_flops(PEAK_AMX_GAUSSIAN, 0.01) > 0, level == CPU_AMX);
        assert_int_equal(peak_unit_nominal(KERNEL_FP32), PEAK_FP32);
        assert_int_equal(peak_unit_nominal(KERNEL_BF16),
                         level == CPU_AMX ? PEAK_AMX_NOMINAL : PEAK_FP32);
        assert_int_equal(peak_unit_real(KERNEL_BF16),
                         level == CPU_AMX ? PEAK_AMX_GAUSSIAN : PEAK_FP32);
    }
}

/* The loops do what their results say: all is read, all is written. */
static void test_loops(void **state)
{
    (void)state;
    enum { N = 256 };
    static float a[N] __attribute__((aligned(64))), b[N], c[N];
    for (int level = CPU_C; level <= (int)best; level++) {
        at_level((enum cpu_level)level);
        float sum = 0;
        for (int i = 0; i < N; i++) {
            b[i] = (float)(i % 7);
            c[i] = (float)i;
            a[i] = NAN;
            sum += c[i];
        }
        assert_true(kernels.peak.load(c, N) == sum); /* integers below 2^24: exact */
        kernels.peak.triad(a, b, c, 0.5f, N);
        for (int i = 0; i < N; i++)
            assert_true(a[i] == b[i] + 0.5f * c[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_loops),
    };
    threads_init(2);
    best = cpu_level();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
