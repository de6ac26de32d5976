/*
 * Attention: every level against the definition in double, whole score matrices and all.
 */
#include "tests/model/kernels_help.h"

struct problem {
    struct attention_shape s;
    int64_t q_size, k_size;
    float *q, *k, *v, *dout;                              /* inputs */
    float *out, *lse, *dq, *dk, *dv;                      /* the kernels' */
    double *out_ref, *lse_ref, *dq_ref, *dk_ref, *dv_ref; /* the definition's */
};

static void problem_init(struct problem *p, struct attention_shape s, double spread)
{
    *p = (struct problem){.s = s};
    p->q_size = s.B * s.T * s.H * s.D;
    p->k_size = s.B * s.T * s.G * s.D;
    p->q = gaussian(p->q_size, 1);
    p->k = gaussian(p->k_size, 2);
    p->v = gaussian(p->k_size, 3);
    p->dout = gaussian(p->q_size, 4);
    for (int64_t i = 0; i < p->q_size; i++)
        p->q[i] *= (float)spread;
    p->out = floats(p->q_size);
    p->lse = floats(s.B * s.H * s.T);
    p->dq = floats(p->q_size);
    p->dk = floats(p->k_size);
    p->dv = floats(p->k_size);
    p->out_ref = doubles(p->q_size);
    p->lse_ref = doubles(s.B * s.H * s.T);
    p->dq_ref = doubles(p->q_size);
    p->dk_ref = doubles(p->k_size);
    p->dv_ref = doubles(p->k_size);
}

static void problem_release(struct problem *p)
{
    void *all[] = {p->q,  p->k,  p->v,       p->dout,    p->out,    p->lse,    p->dq,
                   p->dk, p->dv, p->out_ref, p->lse_ref, p->dq_ref, p->dk_ref, p->dv_ref};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        free(all[i]);
}

static double dot(const float *x, const float *y, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

/* One query: its probabilities, output and everything it adds to the gradients. */
static void define_query(struct problem *p, int64_t b, int64_t h, int64_t t, double *prob)
{
    const struct attention_shape *s = &p->s;
    const int64_t D = s->D, g = h / (s->H / s->G), at = ((b * s->T + t) * s->H + h) * D;
    const double scale = 1 / sqrt((double)D);
    double max = -INFINITY, sum = 0, delta = 0;
    for (int64_t j = 0; j <= t; j++) {
        prob[j] = scale * dot(p->q + at, p->k + ((b * s->T + j) * s->G + g) * D, D);
        max = prob[j] > max ? prob[j] : max;
    }
    for (int64_t j = 0; j <= t; j++)
        sum += prob[j] = exp(prob[j] - max);
    p->lse_ref[(b * s->H + h) * s->T + t] = max + log(sum);
    for (int64_t j = 0; j <= t; j++) {
        const float *v = p->v + ((b * s->T + j) * s->G + g) * D;
        prob[j] /= sum;
        for (int64_t d = 0; d < D; d++)
            p->out_ref[at + d] += prob[j] * (double)v[d];
        delta += prob[j] * dot(p->dout + at, v, D);
    }
    for (int64_t j = 0; j <= t; j++) {
        const int64_t key = ((b * s->T + j) * s->G + g) * D;
        double ds = scale * prob[j] * (dot(p->dout + at, p->v + key, D) - delta);
        for (int64_t d = 0; d < D; d++) {
            p->dv_ref[key + d] += prob[j] * (double)p->dout[at + d];
            p->dk_ref[key + d] += ds * (double)p->q[at + d];
            p->dq_ref[at + d] += ds * (double)p->k[key + d];
        }
    }
}

static void define(struct problem *p)
{
    const struct attention_shape *s = &p->s;
    double *prob = doubles(s->T);
    for (int64_t b = 0; b < s->B; b++)
        for (int64_t h = 0; h < s->H; h++)
            for (int64_t t = 0; t < s->T; t++)
                define_query(p, b, h, t, prob);
    free(prob);
}

static void run(struct problem *p, enum kernel_precision precision)
{
    for (int64_t i = 0; i < p->k_size; i++)
        p->dk[i] = p->dv[i] = NAN; /* must be written, not added to */
    for (int64_t i = 0; i < p->q_size; i++)
        p->dq[i] = p->out[i] = NAN;
    attention_forward(&p->s, precision, p->q, p->k, p->v, p->out, p->lse);
    attention_backward(&p->s, precision, p->q, p->k, p->v, p->out, p->lse, p->dout, p->dq, p->dk,
                       p->dv);
}

static void check(struct problem *p, double bound)
{
    assert_near(p->out, p->out_ref, p->q_size, bound, "attention out");
    assert_near(p->lse, p->lse_ref, p->s.B * p->s.H * p->s.T, bound, "attention lse");
    assert_near(p->dq, p->dq_ref, p->q_size, bound, "attention dq");
    assert_near(p->dk, p->dk_ref, p->k_size, bound, "attention dk");
    assert_near(p->dv, p->dv_ref, p->k_size, bound, "attention dv");
}

/* Around the blocks of 32, 64 and 96; groups of 1, 2 and 3 heads; sizes that fill no vector. */
static const struct attention_shape shapes[] = {
    {2, 1, 1, 1, 8},    {1, 2, 2, 1, 16},   {2, 15, 4, 2, 24},  {1, 31, 2, 2, 32},
    {1, 33, 3, 1, 40},  {1, 63, 2, 1, 64},  {1, 64, 2, 2, 32},  {1, 65, 4, 2, 48},
    {2, 96, 2, 1, 32},  {1, 97, 1, 1, 72},  {1, 130, 6, 2, 64}, {1, 200, 2, 1, 128},
    {3, 257, 4, 4, 32}, {1, 300, 2, 1, 120}};

static void test_definition(void **state)
{
    (void)state;
    use_threads(2);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct problem p;
        problem_init(&p, shapes[i], 1);
        define(&p);
        FOR_LEVELS(level)
        {
            run(&p, KERNEL_FP32);
            check(&p, 2e-5);
            run(&p, KERNEL_BF16);
            check(&p, 3e-2);
        }
        problem_release(&p);
    }
}

/* Scores up to 60 and a maximum that moves from block to block. */
static void test_large_scores(void **state)
{
    (void)state;
    use_threads(2);
    struct problem p;
    problem_init(&p, (struct attention_shape){1, 230, 2, 1, 32}, 12);
    define(&p);
    FOR_LEVELS(level)
    {
        run(&p, KERNEL_FP32);
        check(&p, 2e-4);
    }
    problem_release(&p);
    /* bf16: a third of the range, for the error of a score is that of a probability */
    problem_init(&p, (struct attention_shape){1, 530, 2, 1, 32}, 4);
    define(&p);
    FOR_LEVELS(level)
    {
        run(&p, KERNEL_BF16);
        check(&p, 0.15);
    }
    problem_release(&p);
}

static void test_threads(void **state)
{
    (void)state;
    static const struct attention_shape some[] = {{1, 300, 4, 2, 32}, {5, 130, 4, 2, 16}};
    for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
        struct problem one, more;
        problem_init(&one, some[i], 1);
        problem_init(&more, some[i], 1);
        FOR_LEVELS(level)
        for (int precision = KERNEL_FP32; precision <= KERNEL_BF16; precision++) {
            use_threads(1);
            run(&one, (enum kernel_precision)precision);
            for (int threads = 2; threads <= 3; threads++) {
                use_threads(threads);
                run(&more, (enum kernel_precision)precision);
                assert_same_bits(one.out, more.out, one.q_size, "attention out");
                assert_same_bits(one.dq, more.dq, one.q_size, "attention dq");
                assert_same_bits(one.dk, more.dk, one.k_size, "attention dk");
                assert_same_bits(one.dv, more.dv, one.k_size, "attention dv");
            }
        }
        problem_release(&one);
        problem_release(&more);
    }
}

static void test_nested(void **state)
{
    (void)state;
    use_threads(2);
    FOR_LEVELS(level)
    {
        struct problem p[2];
        for (int i = 0; i < 2; i++)
            problem_init(&p[i], (struct attention_shape){1, 100, 2, 1, 32}, 1);
        run(&p[0], KERNEL_BF16);
        float *dk = copy(p[0].dk, p[0].k_size);
#pragma omp parallel for schedule(static, 1)
        for (int i = 0; i < 2; i++)
            run(&p[i], KERNEL_BF16);
        for (int i = 0; i < 2; i++) {
            assert_same_bits(dk, p[i].dk, p[i].k_size, "attention inside a parallel region");
            problem_release(&p[i]);
        }
        free(dk);
    }
}

/* What a position computes must not depend on what comes after it. */
static void test_causal(void **state)
{
    (void)state;
    use_threads(2);
    FOR_LEVELS(level)
    for (int precision = KERNEL_FP32; precision <= KERNEL_BF16; precision++) {
        struct problem p;
        const int64_t T = 150, seen = 77, D = 32;
        problem_init(&p, (struct attention_shape){1, T, 2, 1, D}, 1);
        attention_forward(&p.s, (enum kernel_precision)precision, p.q, p.k, p.v, p.out, p.lse);
        float *before = copy(p.out, p.q_size);
        for (int64_t i = seen * D; i < T * D; i++)
            p.k[i] = p.v[i] = 100.0f;
        attention_forward(&p.s, (enum kernel_precision)precision, p.q, p.k, p.v, p.out, p.lse);
        assert_same_bits(before, p.out, seen * 2 * D, "attention to the past");
        free(before);
        problem_release(&p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_definition), cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_threads), cmocka_unit_test(test_nested),
        cmocka_unit_test(test_causal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
