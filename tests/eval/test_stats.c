/*
 * Error bars against closed forms and a hand-worked example.
 */
#include "eval/stats.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void mean_error_of_forty_right_in_a_hundred(void **state)
{
    (void)state;
    double x[100];
    for (int i = 0; i < 100; i++)
        x[i] = i < 40;
    assert_float_equal(stats_mean(x, 100), 0.4, 1e-12);
    assert_float_equal(stats_mean_stderr(x, 100), 0.0492366, 5e-8); /* evaluation.md §2.11 */
}

static void too_few_values_have_no_error(void **state)
{
    (void)state;
    double x = 3, y = 2;
    assert_true(isnan(stats_mean(&x, 0)));
    assert_true(isnan(stats_mean_stderr(&x, 1)));
    struct stats_ratio r = stats_ratio(&y, &x, 1);
    assert_float_equal(r.value, 2.0 / 3, 1e-15);
    assert_true(isnan(r.error));
    x = 0;
    assert_true(isnan(stats_ratio(&y, &x, 1).value));
}

static void ratio_by_hand(void **state)
{
    (void)state;
    /* R = 12/6 = 2; residuals 1, -1, 0; se = sqrt(3/2 · 2) / 6 */
    double y[] = {3, 3, 6}, x[] = {1, 2, 3};
    struct stats_ratio r = stats_ratio(y, x, 3);
    assert_float_equal(r.value, 2, 1e-15);
    assert_float_equal(r.error, sqrt(3.0) / 6, 1e-15);
}

/* With all x equal, the ratio estimator is the mean divided by x, and so is its error. */
static void ratio_with_equal_denominators_is_a_mean(void **state)
{
    (void)state;
    double y[7] = {1, 4, 2, 8, 5, 7, 3}, x[7];
    for (int i = 0; i < 7; i++)
        x[i] = 4;
    struct stats_ratio r = stats_ratio(y, x, 7);
    assert_float_equal(r.value, stats_mean(y, 7) / 4, 1e-15);
    assert_float_equal(r.error, stats_mean_stderr(y, 7) / 4, 1e-15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mean_error_of_forty_right_in_a_hundred),
        cmocka_unit_test(too_few_values_have_no_error),
        cmocka_unit_test(ratio_by_hand),
        cmocka_unit_test(ratio_with_equal_denominators_is_a_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
