/*
 * The filters on cases whose answer can be worked out by hand, and on independently
 * computed vectors where those are at hand.
 */
#include "tests/test.h"

#include "common/json.h"
#include "model/generate.h"

#include <math.h>
#include <stdio.h>

#define VECTORS "../shared/vectors/eval/sampling/samplers.json"

/* softmax: .4722 .2122 .1737 .0706 .0086 .0004 .0043 .0578; population sigma 2.207 */
static const float logits[] = {5.0f, 4.2f, 4.0f, 3.1f, 1.0f, -2.0f, 0.3f, 2.9f};
enum { V = 8 };

/* What a sampler keeps of values (count), as a string of ids in ascending order: "0 3 7". */
static const char *kept(const struct sampler *s, const float *values, int64_t count)
{
    static char text[256];
    struct candidate out[64];
    int64_t n = sampler_filter(s, values, count, out);
    size_t at = 0;
    double sum = 0;
    text[0] = 0;
    for (uint32_t id = 0; id < count; id++)
        for (int64_t i = 0; i < n; i++)
            if (out[i].id == id) {
                at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%u", at ? " " : "", id);
                sum += out[i].p;
            }
    assert_true(fabs(sum - 1) < 1e-12);
    for (int64_t i = 1; i < n; i++)
        assert_true(out[i - 1].p >= out[i].p);
    return text;
}

static void test_top_k(void **state)
{
    (void)state;
    struct sampler s = {.temperature = 1, .top_k = 1};
    assert_string_equal(kept(&s, logits, V), "0");
    s.top_k = 3;
    assert_string_equal(kept(&s, logits, V), "0 1 2");
    s.top_k = 100;
    assert_string_equal(kept(&s, logits, V), "0 1 2 3 4 5 6 7");
    const float tied[] = {1, 2, 2, 2};
    s.top_k = 2; /* of equal ones the smaller ids */
    assert_string_equal(kept(&s, tied, 4), "1 2");
}

static void test_top_p(void **state)
{
    (void)state;
    struct sampler s = {.temperature = 1, .top_p = 0.3};
    assert_string_equal(kept(&s, logits, V), "0");
    s.top_p = 0.6;
    assert_string_equal(kept(&s, logits, V), "0 1");
    s.top_p = 0.95;
    assert_string_equal(kept(&s, logits, V), "0 1 2 3 7");
    s.top_p = 1;
    assert_string_equal(kept(&s, logits, V), "0 1 2 3 4 5 6 7");
    const float even[] = {0, 0, 0, 0};
    s.top_p = 0.5; /* reached exactly by two */
    assert_string_equal(kept(&s, even, 4), "0 1");
}

static void test_min_p(void **state)
{
    (void)state;
    struct sampler s = {.temperature = 1, .min_p = 0.5};
    assert_string_equal(kept(&s, logits, V), "0");
    s.min_p = 0.2;
    assert_string_equal(kept(&s, logits, V), "0 1 2");
    s.min_p = 0.05;
    assert_string_equal(kept(&s, logits, V), "0 1 2 3 7");
}

static void test_top_nsigma(void **state)
{
    (void)state;
    struct sampler s = {.temperature = 1, .top_nsigma = 0.3};
    assert_string_equal(kept(&s, logits, V), "0");
    s.top_nsigma = 1;
    assert_string_equal(kept(&s, logits, V), "0 1 2 3 7");
    s.top_nsigma = 2; /* with sigma divided by V - 1 instead of V, 6 would be kept too */
    assert_string_equal(kept(&s, logits, V), "0 1 2 3 4 7");
}

/* Theorem 4 of the paper: temperature does not change the set. */
static void test_top_nsigma_whatever_the_temperature(void **state)
{
    (void)state;
    float values[64];
    struct rng rng;
    rng_init(&rng, 1, 0);
    for (int trial = 0; trial < 50; trial++) {
        char first[256];
        for (int i = 0; i < 64; i++)
            values[i] = (float)(3 * rng_normal(&rng));
        struct sampler s = {.temperature = 1, .top_nsigma = 0.5 + 0.05 * trial};
        snprintf(first, sizeof(first), "%s", kept(&s, values, 64));
        s.temperature = 0.5;
        assert_string_equal(kept(&s, values, 64), first);
        s.temperature = 3;
        assert_string_equal(kept(&s, values, 64), first);
    }
}

/* Tokens that cannot be chosen must not spoil sigma. */
static void test_masked_logits(void **state)
{
    (void)state;
    float masked[V + 2];
    memcpy(masked, logits, sizeof(logits));
    masked[V] = masked[V + 1] = -INFINITY;
    struct sampler s = {.temperature = 1, .top_nsigma = 1};
    assert_string_equal(kept(&s, masked, V + 2), "0 1 2 3 7");
    s = (struct sampler){.temperature = 2};
    assert_string_equal(kept(&s, masked, V + 2), "0 1 2 3 4 5 6 7");
}

/* Order matters: temperature 4 would let top-p keep more; top-k before it decides. */
static void test_filters_together(void **state)
{
    (void)state;
    struct sampler s = {.temperature = 4, .top_k = 4, .top_p = 0.75, .min_p = 0.8};
    assert_string_equal(kept(&s, logits, V), "0 1"); /* p ∝ e^0, e^-.2, e^-.25, e^-.475 */
    s.min_p = 0;
    assert_string_equal(kept(&s, logits, V), "0 1 2");
    s.top_nsigma = 0.3;
    assert_string_equal(kept(&s, logits, V), "0");
}

static void test_greedy(void **state)
{
    (void)state;
    struct sampler s = {.temperature = 0, .top_p = 0.9};
    struct candidate scratch[V];
    const float tied[] = {1, 7, 7, -3};
    assert_int_equal(sampler_pick(&s, logits, V, scratch, NULL), 0);
    assert_int_equal(sampler_pick(&s, tied, 4, scratch, NULL), 1);
}

/* Frequencies follow the probabilities; the same seed gives the same ids. */
static void test_draws(void **state)
{
    (void)state;
    enum { DRAWS = 20000 };
    struct sampler s = {.temperature = 1};
    struct candidate scratch[V], again[V];
    struct rng a, b;
    int counts[V] = {0};
    rng_init(&a, 42, 0);
    rng_init(&b, 42, 0);
    for (int i = 0; i < DRAWS; i++) {
        uint32_t id = sampler_pick(&s, logits, V, scratch, &a);
        assert_int_equal(id, sampler_pick(&s, logits, V, again, &b));
        counts[id]++;
    }
    for (int i = 0; i < V; i++) {
        double p = scratch[i].p, sigma = sqrt(DRAWS * p * (1 - p));
        assert_true(fabs(counts[scratch[i].id] - DRAWS * p) < 5 * sigma + 1);
    }
}

static void test_check(void **state)
{
    (void)state;
    struct err e;
    struct sampler good = {.temperature = 0.8, .top_k = 40, .top_p = 0.95, .top_nsigma = 1};
    assert_int_equal(sampler_check(&good, &e), 0);
    struct sampler s = {.temperature = -1};
    assert_int_equal(sampler_check(&s, &e), -1);
    assert_says(&e, "temperature is -1");
    s = (struct sampler){.temperature = NAN};
    assert_int_equal(sampler_check(&s, &e), -1);
    s = (struct sampler){.top_p = 1.5};
    assert_int_equal(sampler_check(&s, &e), -1);
    assert_says(&e, "top-p is 1.5");
    s = (struct sampler){.min_p = -0.1};
    assert_int_equal(sampler_check(&s, &e), -1);
    s = (struct sampler){.top_k = -1};
    assert_int_equal(sampler_check(&s, &e), -1);
    s = (struct sampler){.top_nsigma = INFINITY};
    assert_int_equal(sampler_check(&s, &e), -1);
}

/* --- vectors ----------------------------------------------------------------- */

/* Reads an array of ids as kept() prints them. */
static void read_ids(struct json *j, char *out, size_t capacity)
{
    uint64_t id;
    size_t at = 0;
    out[0] = 0;
    assert_int_equal(json_array(j), 0);
    while (json_next(j) > 0) {
        assert_int_equal(json_u64(j, &id), 0);
        at += (size_t)snprintf(out + at, capacity - at, "%s%u", at ? " " : "", (unsigned)id);
    }
}

/* {"0.3": [ids], …}: `field` is the setting the keys are values of. Returns the cases. */
static int check_by_key(struct json *j, struct sampler *s, double *field, int64_t *integer)
{
    char key[32], want[256];
    int cases = 0;
    assert_int_equal(json_object(j), 0);
    while (json_next_key(j, key, sizeof(key)) > 0) {
        read_ids(j, want, sizeof(want));
        if (field)
            *field = strtod(key, NULL);
        else
            *integer = strtoll(key, NULL, 10);
        assert_string_equal(kept(s, logits, V), want);
        cases++;
    }
    return cases;
}

/* [{"n": …, "kept_population": [ids], …}, …] */
static int check_nsigma(struct json *j)
{
    char key[64], want[256];
    int cases = 0;
    assert_int_equal(json_array(j), 0);
    while (json_next(j) > 0) {
        struct sampler s = {.temperature = 1};
        assert_int_equal(json_object(j), 0);
        while (json_next_key(j, key, sizeof(key)) > 0) {
            if (!strcmp(key, "n"))
                assert_int_equal(json_f64(j, &s.top_nsigma), 0);
            else if (!strcmp(key, "kept_population"))
                read_ids(j, want, sizeof(want));
            else
                assert_int_equal(json_skip(j), 0);
        }
        assert_string_equal(kept(&s, logits, V), want);
        cases++;
    }
    return cases;
}

static void test_vectors(void **state)
{
    (void)state;
    struct buf text = {0};
    struct err e;
    struct json j;
    char key[64];
    int cases = 0;
    if (!fs_exists(VECTORS)) {
        print_message("skipped: sampler vectors, " VECTORS " is absent\n");
        skip();
    }
    assert_int_equal(fs_read(&text, VECTORS, 1 << 20, &e), 0);
    json_open(&j, text.data, text.len);
    assert_int_equal(json_object(&j), 0);
    while (json_next_key(&j, key, sizeof(key)) > 0) {
        struct sampler s = {.temperature = 1};
        if (!strcmp(key, "top_k"))
            cases += check_by_key(&j, &s, NULL, &s.top_k);
        else if (!strcmp(key, "top_p"))
            cases += check_by_key(&j, &s, &s.top_p, NULL);
        else if (!strcmp(key, "min_p"))
            cases += check_by_key(&j, &s, &s.min_p, NULL);
        else if (!strcmp(key, "top_n_sigma"))
            cases += check_nsigma(&j);
        else
            assert_int_equal(json_skip(&j), 0);
    }
    assert_int_equal(json_end(&j), 0);
    assert_int_equal(cases, 18);
    buf_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_top_k),
        cmocka_unit_test(test_top_p),
        cmocka_unit_test(test_min_p),
        cmocka_unit_test(test_top_nsigma),
        cmocka_unit_test(test_top_nsigma_whatever_the_temperature),
        cmocka_unit_test(test_masked_logits),
        cmocka_unit_test(test_filters_together),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_draws),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_vectors),
    };
    return cmocka_run_group_tests_name("model/sampler", tests, NULL, NULL);
}
