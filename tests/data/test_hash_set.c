/* The set of hashes against a plain list. */
#include "tests/test.h"

#include "common/rng.h"
#include "data/hash_set.h"

/* Keys from a small pool, so that many come twice; each is looked up in a table of flags. */
static void fill_and_compare(unsigned words, size_t pool, size_t adds)
{
    struct hash_set s;
    struct rng r;
    struct err e;
    bool *seen = calloc(pool, 1);
    hash_set_init(&s, words);
    rng_init(&r, 7, words);
    size_t distinct = 0;
    for (size_t i = 0; i < adds; i++) {
        uint64_t n = rng_below(&r, pool);
        /* With two words, half of the keys share their first word with another. */
        uint64_t key[2] = {rng_mix(words == 2 ? n / 2 : n, 1), n};
        hash_set_prefetch(&s, key);
        assert_int_equal(hash_set_add(&s, key, &e), !seen[n]);
        distinct += !seen[n];
        seen[n] = true;
    }
    assert_int_equal(s.count, distinct);
    assert_true(s.bytes * 3 >= distinct * words * 8 * 4);
    hash_set_release(&s);
    assert_int_equal(s.bytes, 0);
    free(seen);
}

static void test_one_word(void **state)
{
    (void)state;
    fill_and_compare(1, 1000, 5000);
    fill_and_compare(1, 300000, 600000);
}

static void test_two_words(void **state)
{
    (void)state;
    fill_and_compare(2, 1000, 5000);
    fill_and_compare(2, 300000, 600000);
}

/* One partition only, past the size from which its memory is mapped. */
static void test_growth_in_one_part(void **state)
{
    (void)state;
    struct hash_set s;
    struct err e;
    hash_set_init(&s, 1);
    for (uint64_t k = 1; k <= 600000; k++)
        assert_int_equal(hash_set_add(&s, &k, &e), 1);
    for (uint64_t k = 1; k <= 600000; k += 1000)
        assert_int_equal(hash_set_add(&s, &k, &e), 0);
    assert_int_equal(s.parts[0].count, 600000);
    hash_set_release(&s);
}

/* The empty slot's mark is a key like any other. */
static void test_zero(void **state)
{
    (void)state;
    struct hash_set s;
    struct err e;
    uint64_t zero[2] = {0, 0};
    for (unsigned words = 1; words <= 2; words++) {
        hash_set_init(&s, words);
        assert_int_equal(hash_set_add(&s, zero, &e), 1);
        assert_int_equal(hash_set_add(&s, zero, &e), 0);
        assert_int_equal(s.count, 1);
        hash_set_release(&s);
    }
}

static void test_collisions(void **state)
{
    (void)state;
    assert_float_equal(hash_set_collisions(5e10, 64), 67.76, 0.01);
    assert_true(hash_set_collisions(2e9, 128) < 1e-20);
    assert_float_equal(hash_set_collisions(4, 3), 1, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_word),           cmocka_unit_test(test_two_words),
        cmocka_unit_test(test_growth_in_one_part), cmocka_unit_test(test_zero),
        cmocka_unit_test(test_collisions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
