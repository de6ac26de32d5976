/*
 * The head's loss against vectors/eval/supergleber/{heads,class_weights}.json, its
 * gradients against finite differences.
 */
#include "eval/head.h"

#include "common/mem.h"
#include "common/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void weighted_cross_entropy_is_summed(void **state)
{
    (void)state;
    const float logits[] = {2.0f, -1.0f, 0.5f, 0.1f, 0.2f, 0.3f};
    const int32_t targets[] = {0, 1};
    const double weights[] = {0.5, 2.0, 1.0};
    assert_float_equal(head_loss(logits, targets, weights, 2, 3, NULL), 2.324541344787067, 1e-7);
}

static void weights_of_classes(void **state)
{
    (void)state;
    double w[3];
    class_weights((const uint64_t[]){3, 1}, 2, w);
    assert_float_equal(w[0], 2.0 / 3, 1e-15);
    assert_float_equal(w[1], 2, 1e-15);
    class_weights((const uint64_t[]){4, 3, 1}, 3, w);
    assert_float_equal(w[0], 0.6666666666666666, 1e-15);
    assert_float_equal(w[1], 0.8888888888888888, 1e-15);
    assert_float_equal(w[2], 2.6666666666666665, 1e-15);
    class_weights((const uint64_t[]){4, 0}, 2, w);
    assert_true(w[1] == 0);
}

static void huge_logits_stay_finite(void **state)
{
    (void)state;
    const float logits[] = {1e4f, -1e4f};
    const int32_t target = 1;
    const double weights[] = {1, 1};
    float d[2];
    assert_float_equal(head_loss(logits, &target, weights, 1, 2, d), 2e4, 1e-3);
    assert_float_equal(d[0], 1, 1e-6);
    assert_float_equal(d[1], -1, 1e-6);
}

static void first_of_the_largest_wins(void **state)
{
    (void)state;
    assert_int_equal(head_decide((const float[]){1, 3, 3, 2}, 4), 1);
    assert_int_equal(head_decide((const float[]){5}, 1), 0);
}

enum { C = 5, K = 3, B = 4 };

static double loss_of(const struct head *h, const float *pooled, const int32_t *targets,
                      const double *weights)
{
    float logits[B * K];
    head_forward(h, pooled, B, logits);
    return head_loss(logits, targets, weights, B, K, NULL);
}

static double slope(const struct head *h, float *x, const float *pooled, const int32_t *targets,
                    const double *weights)
{
    float kept = *x;
    *x = kept + 1e-2f;
    double up = loss_of(h, pooled, targets, weights);
    *x = kept - 1e-2f;
    double down = loss_of(h, pooled, targets, weights);
    *x = kept;
    return (up - down) / 2e-2;
}

static void gradients_match_finite_differences(void **state)
{
    (void)state;
    const int32_t targets[B] = {2, 0, 1, 2};
    const double weights[K] = {0.7, 1.5, 0.9};
    float pooled[B * C], logits[B * K], d_logits[B * K], d_pooled[B * C], grads[K * C + K] = {0};
    struct head h;
    struct rng rng;
    rng_init(&rng, 4, 0);
    head_init(&h, K, C, 7);
    for (int i = 0; i < B * C; i++)
        pooled[i] = (float)rng_normal(&rng);
    head_forward(&h, pooled, B, logits);
    head_loss(logits, targets, weights, B, K, d_logits);
    head_backward(&h, pooled, d_logits, B, grads, d_pooled);
    for (size_t i = 0; i < h.param_count; i++)
        assert_float_equal(grads[i], slope(&h, &h.params[i], pooled, targets, weights), 2e-3);
    for (int i = 0; i < B * C; i++)
        assert_float_equal(d_pooled[i], slope(&h, &pooled[i], pooled, targets, weights), 2e-3);
    head_release(&h);
}

static void start_values_are_bounded_and_seeded(void **state)
{
    (void)state;
    struct head a, b, c;
    head_init(&a, 4, 100, 1);
    head_init(&b, 4, 100, 1);
    head_init(&c, 4, 100, 2);
    assert_memory_equal(a.params, b.params, a.param_count * sizeof(float));
    assert_memory_not_equal(a.params, c.params, a.param_count * sizeof(float));
    double largest = 0, bound = sqrt(6.0 / 104);
    for (int i = 0; i < 400; i++)
        largest = fmax(largest, fabs((double)a.params[i]));
    assert_true(largest <= bound && largest > 0.9 * bound);
    for (int i = 400; i < 404; i++)
        assert_true(fabs((double)a.params[i]) <= 0.1);
    head_release(&a);
    head_release(&b);
    head_release(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weighted_cross_entropy_is_summed),
        cmocka_unit_test(weights_of_classes),
        cmocka_unit_test(huge_logits_stay_finite),
        cmocka_unit_test(first_of_the_largest_wins),
        cmocka_unit_test(gradients_match_finite_differences),
        cmocka_unit_test(start_values_are_bounded_and_seeded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
