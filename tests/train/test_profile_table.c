/* The table of --profile: what was counted, its share, and how near the peak it came. */
#include "tests/test.h"

#include "common/mem.h"
#include "model/kernels/profile.h"
#include "train/profile_table.h"

/* Adds a call that took no time at all worth mentioning. */
static void count(enum profile_phase phase, enum profile_kernel kernel, double flops, double bytes)
{
    profile_set_phase(phase);
    double start = profile_start();
    while (profile_start() - start < 1e-3)
        ;
    profile_stop(kernel, start, flops, bytes);
}

static void test_table(void **state)
{
    (void)state;
    const struct profile_peaks peaks = {.flops = 1e12, .bytes = 1e11};
    struct buf table = {0};
    profile_table(&table, 0, 1, &peaks); /* nothing was done: nothing is said */
    assert_int_equal(table.len, 0);
    profile_enable(true);
    profile_reset();
    count(PHASE_FORWARD, PROFILE_LINEAR_FORWARD, 5e8, 1e6); /* a millisecond: half the FLOP/s */
    count(PHASE_UPDATE, PROFILE_OPTIMIZER, 1e3, 5e7);       /* half the bytes per second */
    profile_enable(false);
    profile_table(&table, 2, 1, &peaks);
    const char *linear = strstr(table.data, "forward   linear forward");
    const char *update = strstr(table.data, "update    optimizer");
    assert_non_null(linear);
    assert_non_null(update);
    assert_non_null(strstr(linear, "TFLOP/s"));
    assert_non_null(strstr(update, "GB/s"));
    assert_non_null(strstr(table.data, "outside kernels"));
    assert_non_null(strstr(table.data, "500.00  100.0 %")); /* ms of each of two steps */
    assert_null(strstr(table.data, "attention"));
    buf_release(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_table)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
