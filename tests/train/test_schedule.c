/* Points of the learning-rate curve that can be computed by hand. */
#include "train/schedule.h"

#include <math.h>
#include "tests/test.h"

static const struct schedule paper = {SCHEDULE_COSINE, 6e-4, 4e-5, 2000, 466509, 0, DECAY_LINEAR};

static void near(double got, double want)
{
    if (fabs(got - want) > 1e-15)
        fail_msg("%.18g, expected %.18g", got, want);
}

/* llammlein.md §9, item 3. */
static void test_paper(void **state)
{
    (void)state;
    near(schedule_lr(&paper, 0), 0);
    near(schedule_lr(&paper, 1), 6e-4 / 2000);
    near(schedule_lr(&paper, 500), 1.5e-4);
    near(schedule_lr(&paper, 2000), 6e-4);
    near(schedule_lr(&paper, 466509), 4e-5);
    near(schedule_lr(&paper, 466510), 4e-5);
}

static void test_cosine(void **state)
{
    (void)state;
    const struct schedule s = {SCHEDULE_COSINE, 1.0, 0.2, 100, 1100, 0, DECAY_LINEAR};
    near(schedule_lr(&s, 600), 0.6); /* half way: the mean */
    near(schedule_lr(&s, 350), 0.2 + 0.4 * (1 + sqrt(0.5)));
    for (int64_t step = 101; step <= 1100; step++)
        assert_true(schedule_lr(&s, step) < schedule_lr(&s, step - 1));
}

static void test_edges(void **state)
{
    (void)state;
    const struct schedule none = {SCHEDULE_COSINE, 1.0, 0.1, 0, 10, 0, DECAY_LINEAR};
    near(schedule_lr(&none, 0), 1.0);
    near(schedule_lr(&none, 10), 0.1);
    const struct schedule all = {SCHEDULE_COSINE, 1.0, 0.1, 10, 10, 0,
                                 DECAY_LINEAR}; /* nothing but warm-up */
    near(schedule_lr(&all, 9), 0.9);
    near(schedule_lr(&all, 10), 0.1);
    const struct schedule flat = {SCHEDULE_CONSTANT, 1.0, 0.1, 10, 100, 0, DECAY_LINEAR};
    near(schedule_lr(&flat, 5), 0.5);
    near(schedule_lr(&flat, 100), 1.0);
    near(schedule_lr(&flat, 1000), 1.0);
}

/* Warm-up to 10, flat to 80, down to 0.1 at 100 and from there on. */
static void test_wsd(void **state)
{
    (void)state;
    struct schedule s = {SCHEDULE_WSD, 1.0, 0.1, 10, 100, 20, DECAY_LINEAR};
    near(schedule_lr(&s, 5), 0.5);
    near(schedule_lr(&s, 10), 1.0);
    near(schedule_lr(&s, 80), 1.0);
    near(schedule_lr(&s, 85), 0.1 + 0.9 * 0.75);
    near(schedule_lr(&s, 100), 0.1);
    near(schedule_lr(&s, 101), 0.1);
    s.decay = DECAY_1_SQRT;
    near(schedule_lr(&s, 80), 1.0);
    near(schedule_lr(&s, 85), 0.1 + 0.9 * 0.5);
    near(schedule_lr(&s, 100), 0.1);
    s.decay_steps = 0;
    near(schedule_lr(&s, 100), 1.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paper),
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_wsd),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
