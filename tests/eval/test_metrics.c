/*
 * F1 and accuracy against the cases of vectors/eval/supergleber/flair_metrics.json
 * (its single-label ones), and the bootstrap against the binomial.
 */
#include "eval/metrics.h"

#include "common/threads.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define N METRICS_NONE

static void cases_of_flair(void **state)
{
    (void)state;
    static const struct {
        int32_t gold[10], pred[10];
        size_t n;
        double macro, micro, accuracy;
    } cases[] = {
        {{0, 0, 1, 1, 2, 0}, {0, 1, 1, 1, 2, 2}, 6, 0.6556, 0.6667, 0.6667},
        {{0, 0, 0, 0, 0, 0, 0, 0, 1, 1}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 10, 0.8039, 0.9, 0.9},
        {{0, 1, 2, N}, {0, 2, N, 1}, 4, 0.3333, 0.3333, 0.25},
        {{0, 0}, {0, 2}, 2, 0.3333, 0.5, 0.5},
        {{0, 0, N}, {0, N, 0}, 3, 0.5, 0.5, 0.3333},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct metrics m = metrics_classify(cases[i].gold, cases[i].pred, cases[i].n, 3);
        assert_float_equal(m.macro_f1, cases[i].macro, 5.1e-5);
        assert_float_equal(m.micro_f1, cases[i].micro, 5.1e-5);
        assert_float_equal(m.accuracy, cases[i].accuracy, 5.1e-5);
    }
}

static void nothing_scores_nothing(void **state)
{
    (void)state;
    struct metrics m = metrics_classify(NULL, NULL, 0, 4);
    assert_true(m.macro_f1 == 0 && m.micro_f1 == 0 && m.accuracy == 0);
}

static void bootstrap_of_accuracy_is_binomial(void **state)
{
    (void)state;
    int32_t gold[400], pred[400];
    for (int i = 0; i < 400; i++) {
        gold[i] = i % 2;
        pred[i] = i % 5 ? gold[i] : 1 - gold[i]; /* 80 % right */
    }
    struct metrics m = metrics_bootstrap(gold, pred, 400, 2, 2000, 1);
    assert_float_equal(m.accuracy, sqrt(0.8 * 0.2 / 400), 0.001);
    assert_float_equal(m.micro_f1, m.accuracy, 1e-12);
    assert_true(m.macro_f1 > 0.018 && m.macro_f1 < 0.022);
}

static void bootstrap_is_the_same_for_any_number_of_threads(void **state)
{
    (void)state;
    int32_t gold[50], pred[50];
    for (int i = 0; i < 50; i++) {
        gold[i] = i * 7 % 3;
        pred[i] = i * 5 % 3;
    }
    threads_init(1);
    struct metrics one = metrics_bootstrap(gold, pred, 50, 3, 100, 9);
    threads_init(2);
    struct metrics three = metrics_bootstrap(gold, pred, 50, 3, 100, 9);
    assert_memory_equal(&one, &three, sizeof(one));
    struct metrics other = metrics_bootstrap(gold, pred, 50, 3, 100, 10);
    assert_memory_not_equal(&one, &other, sizeof(one));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases_of_flair),
        cmocka_unit_test(nothing_scores_nothing),
        cmocka_unit_test(bootstrap_of_accuracy_is_binomial),
        cmocka_unit_test(bootstrap_is_the_same_for_any_number_of_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
