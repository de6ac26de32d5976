/*
 * Fine-tuning: flair's schedule against vectors/eval/supergleber/lr_schedule.json, the
 * same bits for any batch size and number of threads, and that it learns.
 */
#include "tests/test.h"

#include "common/rng.h"
#include "common/threads.h"
#include "eval/finetune.h"
#include "model/kernels/kernels.h"

#include <math.h>
#include <stdio.h>

enum { VOCAB = 48, LONGEST = 12, ITEMS = 64, CLASSES = 2 };

static struct model model;

static void schedule_of_flair(void **state)
{
    (void)state;
    static const struct {
        uint64_t n, T, s;
        double rate;
    } cases[] = {
        {1000, 629, 0, 0},
        {1000, 629, 1, 8.064516129032258e-07},
        {1000, 629, 61, 4.9193548387096775e-05},
        {1000, 629, 62, 5e-05},
        {1000, 629, 63, 4.991181657848325e-05},
        {1000, 629, 314, 2.777777777777778e-05},
        {1000, 629, 624, 4.4091710758377425e-07},
        {51, 36, 2, 3.3333333333333335e-05},
        {51, 36, 34, 3.0303030303030305e-06},
        {3244, 2031, 202, 4.975369458128079e-05},
        {3244, 2031, 2029, 5.470459518599562e-08},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t T = finetune_schedule_steps(cases[i].n, 8, 5);
        assert_int_equal(T, cases[i].T);
        assert_float_equal(finetune_rate(5e-5, 0.1, T, cases[i].s), cases[i].rate, 1e-18);
    }
    assert_true(finetune_rate(5e-5, 0.1, 36, 36) == 0 && finetune_rate(5e-5, 0.1, 36, 99) == 0);
    assert_true(finetune_rate(1, 0, 10, 0) == 1);
}

/* Sequences of random ids; those of class 1 hold the id VOCAB-1 once, anywhere. */
struct toy {
    uint32_t ids[ITEMS][LONGEST];
    struct example items[ITEMS];
};

static void toy_init(struct toy *t, uint64_t seed)
{
    struct rng rng;
    rng_init(&rng, seed, 0);
    for (int i = 0; i < ITEMS; i++) {
        size_t n = 4 + (size_t)rng_below(&rng, LONGEST - 3);
        for (size_t k = 0; k < n; k++)
            t->ids[i][k] = (uint32_t)rng_below(&rng, VOCAB - 1);
        int32_t label = i % 2;
        if (label)
            t->ids[i][rng_below(&rng, n)] = VOCAB - 1;
        t->items[i] = (struct example){t->ids[i], n, label};
    }
}

static const struct finetune_options recipe = {
    .epochs = 20,
    .batch = 8,
    .lr = 1e-2,
    .weight_decay = 0.01,
    .grad_clip = 5,
    .warmup_share = 0.1,
    .lora_rank = 8,
    .lora_alpha = 32,
    .lora_dropout = 0.1,
    .seed = 42,
};

static const double even[CLASSES] = {1, 1};

/* Trains on `train` and fills logits for `test`. Returns the last epoch's loss. */
static double run(const struct finetune_options *o, const struct toy *train, const struct toy *test,
                  float logits[ITEMS * CLASSES])
{
    struct finetune f;
    struct err e;
    assert_works(finetune_init(&f, &model, o, CLASSES, LONGEST, &e), e);
    assert_works(finetune_train(&f, train->items, ITEMS, even, NULL, &e), e);
    finetune_predict(&f, test->items, ITEMS, logits, NULL);
    double loss = f.epoch_loss;
    finetune_release(&f);
    return loss;
}

static int right(const struct toy *t, const float *logits)
{
    int count = 0;
    for (int i = 0; i < ITEMS; i++)
        count += head_decide(logits + i * CLASSES, CLASSES) == t->items[i].label;
    return count;
}

static void it_learns(void **state)
{
    (void)state;
    struct toy train, test;
    float logits[ITEMS * CLASSES];
    struct finetune_options none = recipe;
    toy_init(&train, 1);
    toy_init(&test, 2);
    assert_true(run(&recipe, &train, &train, logits) < 0.1); /* log 2 = 0.69 is chance */
    assert_true(right(&train, logits) >= ITEMS * 95 / 100);
    run(&recipe, &train, &test, logits);
    assert_true(right(&test, logits) >= ITEMS * 3 / 4); /* the rule, not only the items */
    /* without a learning rate nothing is learned: the test above can fail */
    none.lr = 0;
    assert_true(run(&none, &train, &train, logits) > 0.6);
    assert_true(right(&train, logits) < ITEMS * 3 / 4);
}

static void bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    struct toy train, test;
    struct err e;
    float one[ITEMS * CLASSES], two[ITEMS * CLASSES], other[ITEMS * CLASSES];
    struct finetune_options o = recipe;
    o.epochs = 1;
    toy_init(&train, 1);
    toy_init(&test, 2);
    threads_init(1);
    assert_works(kernels_init(&e), e);
    run(&o, &train, &test, one);
    threads_init(2);
    assert_works(kernels_init(&e), e);
    run(&o, &train, &test, two);
    threads_init(1);
    assert_works(kernels_init(&e), e);
    assert_memory_equal(one, two, sizeof(one));
    o.seed = 43;
    run(&o, &train, &test, other);
    assert_memory_not_equal(one, other, sizeof(one));
}

/* Padding and neighbours must not change an item's logits, at any CPU level and precision. */
static void bits_do_not_depend_on_the_batch(void **state)
{
    (void)state;
    struct toy test;
    struct err e;
    enum cpu_level best = cpu_level();
    toy_init(&test, 2);
    for (enum cpu_level level = CPU_C; level <= best; level++)
        for (int precision = KERNEL_FP32; precision <= KERNEL_BF16; precision++) {
            float alone[ITEMS * CLASSES], batched[ITEMS * CLASSES];
            struct finetune_options o = recipe;
            o.precision = (enum kernel_precision)precision;
            cpu_level_force(level);
            assert_works(kernels_init(&e), e);
            for (int batch = 1; batch <= 7; batch += 6) {
                struct finetune f;
                o.batch = batch;
                assert_works(finetune_init(&f, &model, &o, CLASSES, LONGEST, &e), e);
                finetune_predict(&f, test.items, ITEMS, batch == 1 ? alone : batched, NULL);
                finetune_release(&f);
            }
            if (memcmp(alone, batched, sizeof(alone)))
                fail_msg("level %s, precision %d: the batch changes logits", cpu_level_name(level),
                         precision);
        }
    cpu_level_force(best);
    assert_works(kernels_init(&e), e);
}

/* --- eight steps against PyTorch (tests/golden/eval/finetune.py) ----------------------- */

static void wave(float *x, size_t count, double phase, double size, double plus)
{
    for (size_t i = 0; i < count; i++)
        x[i] = (float)(size * sin(1.7 * (double)i + phase) + plus);
}

static void golden_weights(struct model *m, struct finetune *f)
{
    const size_t R = 4, C = 32, GD = 16, sizes[] = {R * C, C * R, R * C, GD * R};
    for (size_t i = 0; i < m->tensor_count; i++) {
        const struct model_tensor *t = &m->tensors[i];
        int sum = 0;
        if (strncmp(t->name, "model.", 6))
            continue; /* lm_head */
        for (const char *c = t->name + 6; *c; c++)
            sum += *c;
        wave(t->data, (size_t)(t->rows * t->cols), sum % 100, 0.2, t->is_norm ? 1 : 0);
    }
    float *at = f->lora.params;
    for (size_t i = 0; i < 8; at += sizes[i++ % 4])
        wave(at, sizes[i % 4], (double)i, 0.1, 0);
    assert_int_equal(at - f->lora.params, f->lora.param_count);
    wave(f->head.params, 3 * C, 50, 0.3, 0);
    wave(f->head.params + 3 * C, 3, 51, 0.3, 0);
}

static void steps_of_pytorch(void **state)
{
    (void)state;
    static const size_t lengths[] = {3, 9, 5, 12, 1, 7};
    static const int32_t targets[] = {0, 1, 2, 1, 0, 2};
    const double weights[] = {0.5, 2, 1};
    const struct finetune_options o = {.epochs = 8,
                                       .batch = 6,
                                       .lr = 3e-3,
                                       .weight_decay = 0.01,
                                       .grad_clip = 8,
                                       .warmup_share = 0.1,
                                       .lora_rank = 4,
                                       .lora_alpha = 16};
    uint32_t ids[6][LONGEST];
    struct example items[6];
    struct finetune f;
    struct model m;
    struct err e;
    float logits[6 * 3];
    for (uint32_t i = 0; i < 6; i++) {
        for (uint32_t k = 0; k < lengths[i]; k++)
            ids[i][k] = (7 * i + 5 * k * k + 3) % VOCAB;
        items[i] = (struct example){ids[i], lengths[i], targets[i]};
    }
    assert_works(model_init(&m, &model.config, &e), e);
    assert_works(finetune_init(&f, &m, &o, 3, LONGEST, &e), e);
    golden_weights(&m, &f);
    workspace_params_changed(f.workspace, f.model);
    assert_works(finetune_train(&f, items, 6, weights, NULL, &e), e);
    finetune_predict(&f, items, 6, logits, NULL);
    FILE *golden = fopen("tests/golden/eval/finetune.txt", "r");
    assert_non_null(golden);
    double expected, worst = 0;
    assert_int_equal(fscanf(golden, "%lf", &expected), 1);
    assert_float_equal(f.epoch_loss, expected, 2e-5);
    for (int i = 0; i < 6 * 3; i++) {
        assert_int_equal(fscanf(golden, "%lf", &expected), 1);
        worst = fmax(worst, fabs((double)logits[i] - expected));
    }
    assert_true(worst < 1e-4);
    fclose(golden);
    finetune_release(&f);
    model_release(&m);
}

static void a_broken_model_is_noticed(void **state)
{
    (void)state;
    struct toy train;
    struct finetune f;
    struct err e;
    toy_init(&train, 1);
    float *norm = model.tensors[model.tensor_count - 2].data, kept = *norm;
    *norm = NAN;
    assert_works(finetune_init(&f, &model, &recipe, CLASSES, LONGEST, &e), e);
    assert_fails(finetune_train(&f, train.items, ITEMS, even, NULL, &e), e, "not finite at step 0");
    finetune_release(&f);
    *norm = kept;
}

static int setup(void **state)
{
    (void)state;
    struct err e;
    const struct model_config c = {.vocab_size = VOCAB,
                                   .hidden_size = 32,
                                   .intermediate_size = 64,
                                   .num_hidden_layers = 2,
                                   .num_attention_heads = 4,
                                   .num_key_value_heads = 2,
                                   .max_position_embeddings = 32,
                                   .rope_theta = 10000,
                                   .rms_norm_eps = 1e-5};
    threads_init(1);
    if (kernels_init(&e) || model_init(&model, &c, &e))
        return -1;
    model_randomize(&model, 5);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    model_release(&model);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(schedule_of_flair),
        cmocka_unit_test(it_learns),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(bits_do_not_depend_on_the_batch),
        cmocka_unit_test(steps_of_pytorch),
        cmocka_unit_test(a_broken_model_is_noticed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
