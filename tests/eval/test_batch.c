/*
 * Shapes of padded batches.
 */
#include "tests/test.h"

#include "eval/batch.h"

static void shapes_hold_the_batch_and_leave_no_small_remainder(void **state)
{
    (void)state;
    for (int64_t L = 2; L <= 40; L++)
        for (int64_t longest = 1; longest <= L; longest++)
            for (int64_t B = 1; B <= 9; B++) {
                struct batch_shape s = batch_shape(B, longest, L);
                int64_t rest = s.B * s.T % 16;
                assert_true(s.B >= B && s.B < B + 16 && s.T >= longest && s.T <= L);
                assert_true(rest == 0 || rest > 8);
            }
    struct batch_shape s = batch_shape(3, 17, 2048);
    assert_true(s.B == 3 && s.T == 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_hold_the_batch_and_leave_no_small_remainder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
