/* The training step: it learns, does not depend on how a batch is cut, survives numbers that
 * are not finite, and goes on from a snapshot to the bit. */
#include "tests/test.h"

#include "common/mem.h"
#include "common/rng.h"
#include "common/threads.h"
#include "train/plan.h"
#include "train/record.h"
#include "train/snapshot.h"
#include "train/trainer.h"

#include <math.h>

enum { VOCAB = 64, T = 16, TOKENS = 4000 };

static struct shard shard;
static struct settings toy;

/* A stream with something to learn: each token mostly tells the next. */
static void write_shards(const char *prefix)
{
    struct err e;
    struct shard_writer *w;
    struct rng rng;
    uint32_t doc[50], token = 5;
    rng_init(&rng, 9, 0);
    assert_works(shard_writer_open(&w, prefix, VOCAB, 1, &e), e);
    for (int n = 0; n < TOKENS / 50; n++) {
        char id[16];
        for (int i = 0; i < 50; i++) {
            doc[i] = token;
            token = rng_below(&rng, 8) ? (token * 5 + 3) % VOCAB : (uint32_t)rng_below(&rng, VOCAB);
        }
        snprintf(id, sizeof(id), "doc %d", n);
        assert_works(shard_writer_add(w, id, strlen(id), doc, 50, 50, &e), e);
    }
    assert_works(shard_writer_commit(w, &e), e);
}

static void toy_settings(struct settings *s)
{
    settings_init(s);
    s->model = (struct model_config){
        .vocab_size = VOCAB,
        .hidden_size = 32,
        .intermediate_size = 48,
        .num_hidden_layers = 2,
        .num_attention_heads = 4,
        .num_key_value_heads = 2,
        .max_position_embeddings = T,
        .rope_theta = 10000,
        .rms_norm_eps = 1e-5,
    };
    s->steps = 40;
    s->warmup_steps = 5;
    s->batch_tokens = 8 * T;
    s->micro_batch = 3; /* 3 + 3 + 2 sequences */
    s->lr = 1e-2;
    s->min_lr = 1e-3;
    s->checkpoints_every = 10;
}

static int setup(void **state)
{
    (void)state;
    struct err e;
    char *prefix = fs_join(test_folder(), "toy");
    threads_init(2);
    if (kernels_init(&e))
        return -1;
    write_shards(prefix);
    assert_works(shard_open(&shard, prefix, &e), e);
    free(prefix);
    toy_settings(&toy);
    assert_works(settings_check(&toy, &e), e);
    return 0;
}

static int teardown(void **state)
{
    shard_close(&shard);
    settings_release(&toy);
    return test_folder_remove(state);
}

static void begin(struct trainer *t, const struct settings *s)
{
    struct err e;
    assert_works(trainer_init(t, s, &shard, &shard, &e), e);
}

static void steps(struct trainer *t, int n)
{
    struct err e;
    for (int i = 0; i < n; i++) {
        assert_int_equal(trainer_gradients(t, NULL, &e), 0);
        trainer_update(t);
    }
}

static void test_learns(void **state)
{
    (void)state;
    struct trainer t;
    struct err e;
    double before, after;
    begin(&t, &toy);
    assert_works(trainer_valid_loss(&t, &before, &e), e);
    assert_true(fabs(before - log(VOCAB)) < 0.5);
    steps(&t, 40);
    assert_works(trainer_valid_loss(&t, &after, &e), e);
    assert_true(after < 2.2);
    assert_int_equal(t.step, 40);
    assert_int_equal(t.updates, 40);
    assert_int_equal(t.tokens, 40 * 8 * T);
    assert_int_equal(t.loader.position, 40 * 8);
    assert_true(t.lr == 1e-3);
    trainer_release(&t);
}

/* In fp32 the gradient of a batch is the same, but for rounding, however it is cut. */
static void test_accumulation(void **state)
{
    (void)state;
    struct settings s;
    struct trainer whole, cut;
    struct err e;
    toy_settings(&s);
    s.compute = COMPUTE_FP32;
    assert_works(settings_check(&s, &e), e);
    begin(&cut, &s);
    struct settings s8 = s;
    s8.micro_batch = 8;
    begin(&whole, &s8);
    assert_int_equal(trainer_gradients(&cut, NULL, &e), 0);
    assert_int_equal(trainer_gradients(&whole, NULL, &e), 0);
    assert_true(fabs(whole.loss - cut.loss) < 1e-6);
    const float *a = whole.optimizer.grads, *b = cut.optimizer.grads;
    double norm = optimizer_norm(&whole.optimizer);
    for (size_t i = 0; i < whole.weights.size; i++)
        if (fabs((double)a[i] - (double)b[i]) > 1e-5 * norm)
            fail_msg("gradient %d: %g against %g", (int)i, (double)a[i], (double)b[i]);
    trainer_release(&whole);
    trainer_release(&cut);
    settings_release(&s);
}

/* Masters and both moments, row by row. */
static float *state_of(const struct trainer *t)
{
    float *all = mem_zalloc(3 * t->model.param_count, sizeof(*all)), *at = all;
    for (int part = OPTIMIZER_MASTER; part <= OPTIMIZER_SQUARE; part++)
        for (size_t i = 0; i < t->model.tensor_count; i++) {
            const struct model_tensor *p = &t->model.tensors[i];
            optimizer_get(&t->optimizer, (enum optimizer_part)part, i, 0, p->rows, at);
            at += p->rows * p->cols;
        }
    return all;
}

static void assert_state(const struct trainer *t, const float *want)
{
    float *got = state_of(t);
    assert_memory_equal(got, want, 3 * t->model.param_count * sizeof(*got));
    free(got);
}

static void assert_same_state(const struct trainer *a, const struct trainer *b)
{
    float *want = state_of(a);
    assert_state(b, want);
    free(want);
}

/* One bad number anywhere: nothing that is kept changes, and the run can go on after it. */
static void poison(float with)
{
    struct trainer t;
    struct err e;
    begin(&t, &toy);
    steps(&t, 3);
    const size_t final = t.model.tensor_count - 2; /* model.norm.weight */
    float weights[32], bad[32];
    optimizer_get(&t.optimizer, OPTIMIZER_MASTER, final, 0, 1, weights);
    memcpy(bad, weights, sizeof(bad));
    bad[0] = with;
    optimizer_put(&t.optimizer, OPTIMIZER_MASTER, final, 0, 1, bad);
    float *state = state_of(&t);
    steps(&t, 2);
    assert_state(&t, state);
    assert_true(t.skipped_last);
    assert_int_equal(t.skipped, 2);
    assert_int_equal(t.skipped_row, 2);
    assert_int_equal(t.step, 5);
    assert_int_equal(t.updates, 3);
    assert_int_equal(t.loader.position, 5 * 8); /* its data is passed by */
    optimizer_put(&t.optimizer, OPTIMIZER_MASTER, final, 0, 1, weights);
    assert_int_equal(trainer_gradients(&t, NULL, &e), 0);
    trainer_update(&t);
    assert_false(t.skipped_last);
    assert_int_equal(t.skipped_row, 0);
    assert_int_equal(t.updates, 4);
    free(state);
    trainer_release(&t);
}

/* One step's loss with a setting changed. */
static double loss_with(void (*change)(struct settings *s))
{
    struct settings s;
    struct trainer t;
    struct err e;
    toy_settings(&s);
    s.compute = COMPUTE_FP32;
    change(&s);
    assert_works(settings_check(&s, &e), e);
    begin(&t, &s);
    steps(&t, 2);
    double loss = t.loss;
    trainer_release(&t);
    settings_release(&s);
    return loss;
}

static void change_nothing(struct settings *s)
{
    (void)s;
}

static void recompute_all(struct settings *s)
{
    s->recompute = RECOMPUTE_SETTING_FULL;
}

static void recompute_mlp(struct settings *s)
{
    s->recompute = RECOMPUTE_SETTING_MLP;
}

static void add_z_loss(struct settings *s)
{
    s->z_loss = 0.1;
}

static void mask_documents(struct settings *s)
{
    s->document_mask = true;
}

/* What is recomputed does not show; a z-loss adds about 0.1 log(64)²; a mask cuts sequences where
 * token 1, <s>, stands. */
static void test_options(void **state)
{
    (void)state;
    double plain = loss_with(change_nothing);
    assert_true(loss_with(recompute_mlp) == plain);
    assert_true(loss_with(recompute_all) == plain);
    double more = loss_with(add_z_loss) - plain;
    assert_true(more > 0.05 * log(VOCAB) * log(VOCAB) && more < 0.2 * log(VOCAB) * log(VOCAB));
    double masked = loss_with(mask_documents);
    assert_true(masked != plain && fabs(masked - plain) < 0.5);
}

/* Steps on random tokens, as mundwerk bench does them: the time of each phase is counted. */
static void test_random_tokens(void **state)
{
    (void)state;
    struct trainer t;
    struct err e;
    assert_works(trainer_init(&t, &toy, NULL, NULL, &e), e);
    steps(&t, 3);
    assert_true(isfinite(t.loss) && fabs(t.loss - log(VOCAB)) < 1);
    assert_false(t.skipped_last);
    for (int phase = PHASE_FORWARD; phase <= PHASE_UPDATE; phase++)
        assert_true(t.phase_seconds[phase] > 0);
    trainer_release(&t);
}

static void test_not_finite(void **state)
{
    (void)state;
    poison(NAN);
    poison(INFINITY);
}

static void test_bad_gradient(void **state)
{
    (void)state;
    struct trainer t;
    struct err e;
    begin(&t, &toy);
    assert_int_equal(trainer_gradients(&t, NULL, &e), 0);
    float *before = state_of(&t);
    t.optimizer.grads[t.weights.size / 2] = NAN; /* the loss is fine, a gradient is not */
    trainer_update(&t);
    assert_true(t.skipped_last);
    assert_state(&t, before);
    free(before);
    trainer_release(&t);
}

/* Given up in the middle, a step leaves no trace. */
static void test_stop(void **state)
{
    (void)state;
    static volatile sig_atomic_t stop = 15;
    struct trainer a, b;
    struct err e;
    begin(&a, &toy);
    begin(&b, &toy);
    steps(&a, 3);
    steps(&b, 2);
    assert_int_equal(trainer_gradients(&b, &stop, &e), 1);
    assert_int_equal(b.step, 2);
    steps(&b, 1);
    assert_same_state(&a, &b);
    trainer_release(&a);
    trainer_release(&b);
}

/* Weights in bf16, masters in fp32; moments in bf16 where they are kept so, which norms are not;
 * no squares of the layers' matrices with Muon, whose means are bf16 instead of int8. */
static uint64_t snapshot_bytes(const struct trainer *t)
{
    const uint64_t all = t->model.param_count, norms = (2 * 2 + 1) * 32, embedding = VOCAB * 32;
    const uint64_t matrices = all - norms - 2 * embedding;
    const bool muon = t->settings->optimizer_name == OPTIMIZER_MUON;
    const enum moments kept = (enum moments)t->settings->moments;
    uint64_t mean = kept == MOMENTS_BF16 ? all - norms : kept == MOMENTS_INT8 ? embedding : 0;
    uint64_t square = mean;
    if (muon && kept == MOMENTS_BF16)
        square -= matrices;
    if (muon && kept == MOMENTS_INT8)
        mean += matrices;
    const uint64_t squares = muon ? all - matrices : all;
    return 2 * all + 4 * all + 2 * mean + 4 * (all - mean) + 2 * square + 4 * (squares - square);
}

static uint64_t planned_bytes(const struct settings *s)
{
    struct plan p;
    struct err e;
    assert_works(plan_make(&p, s, &e), e);
    return p.snapshot_bytes + p.state_bytes;
}

/* What is saved is the state when the snapshot was taken, though gradients, place in the data
 * and record go on before it is written. */
static void save_beside_gradients(struct trainer *t, struct record *r,
                                  const struct snapshot_source *src)
{
    struct snapshot s;
    struct err e;
    uint64_t position = t->loader.position, length = r->data.bytes;
    assert_works(record_sync(r, &e), e);
    snapshot_take(&s, t, r, src);
    assert_int_equal(s.step, t->step);
    assert_int_equal(s.bytes, snapshot_bytes(t));
    assert_int_equal(s.bytes, planned_bytes(t->settings));
    assert_int_equal(trainer_gradients(t, NULL, &e), 0);
    r->data.bytes += 99;
    assert_works(snapshot_write(&s, &e), e);
    snapshot_release(&s);
    t->loader.position = position;
    r->data.bytes = length;
}

static void go_on_from_snapshot(const struct settings *kept, const char *name)
{
    struct trainer a, b;
    struct record r;
    struct record_lengths lengths = {0};
    struct err e;
    char *run = fs_join(test_folder(), "%s", name);
    struct snapshot_source src = {run, NULL, 7, shard.fingerprint};
    assert_works(fs_mkdirs(run, &e), e);

    begin(&b, kept);
    assert_int_equal(snapshot_restore(&b, &src, &lengths, &e), 0); /* none there yet */
    begin(&a, kept);
    assert_works(record_open(&r, run, &lengths, &a.loader, a.sequences, &e), e);
    steps(&a, 7);
    a.skipped = 3;
    save_beside_gradients(&a, &r, &src);
    steps(&a, 5);

    assert_int_equal(snapshot_restore(&b, &src, &lengths, &e), 1);
    assert_int_equal(lengths.data, r.data.bytes);
    assert_int_equal(b.step, 7);
    assert_int_equal(b.skipped, 3);
    steps(&b, 5);
    assert_same_state(&a, &b);
    assert_true(a.loss == b.loss && a.grad_norm == b.grad_norm && a.lr == b.lr);

    src.data_fingerprint++;
    assert_fails(snapshot_restore(&b, &src, &lengths, &e), e, "other training data");
    src.data_fingerprint--;
    src.tokenizer_hash++;
    assert_fails(snapshot_restore(&b, &src, &lengths, &e), e, "another tokenizer");
    src.tokenizer_hash--;
    struct settings other = *kept;
    other.lr = 2e-2;
    b.settings = &other;
    assert_fails(snapshot_restore(&b, &src, &lengths, &e), e, "optimizer.lr");
    record_close(&r);
    trainer_release(&a);
    trainer_release(&b);
    free(run);
}

/* However masters and moments are kept, by either rule. */
static void test_snapshot(void **state)
{
    (void)state;
    static const enum masters_setting masters[] = {MASTERS_SETTING_SPLIT, MASTERS_SETTING_FP32};
    go_on_from_snapshot(&toy, "run");
    for (int i = 0; i < 2; i++)
        for (int m = MOMENTS_FP32; m <= MOMENTS_INT8; m++) {
            struct settings kept = toy;
            char name[32];
            kept.compute = COMPUTE_BF16;
            kept.masters = masters[i];
            kept.moments = m;
            snprintf(name, sizeof(name), "run-%d-%d", i, m);
            go_on_from_snapshot(&kept, name);
            kept.optimizer_name = OPTIMIZER_MUON;
            snprintf(name, sizeof(name), "muon-%d-%d", i, m);
            go_on_from_snapshot(&kept, name);
        }
}

/* data.log tells the documents behind a step, and cutting it leaves no step twice. */
static void test_record(void **state)
{
    (void)state;
    struct trainer t;
    struct record r;
    struct record_lengths at = {0};
    struct buf out = {0}, text = {0};
    struct err e;
    char *run = fs_join(test_folder(), "run2"), *path = fs_join(run, "metrics.jsonl");
    assert_works(fs_mkdirs(run, &e), e);
    begin(&t, &toy);
    assert_works(record_open(&r, run, &at, &t.loader, t.sequences, &e), e);
    for (uint64_t step = 1; step <= 3; step++) {
        const struct step_metrics m = {.step = step, .loss = 1.5, .valid_loss = NAN};
        if (step == 3)
            at = (struct record_lengths){r.metrics.bytes, r.data.bytes, r.events.bytes};
        assert_works(record_data(&r, step, &t.loader, (step - 1) * 8, 8, &e), e);
        assert_works(record_metrics(&r, &m, &e), e);
    }
    record_close(&r);
    assert_works(record_show_data(run, NULL, 3, &out, &e), e);
    buf_clear(&out);
    assert_works(record_show_data(run, NULL, 2, &out, &e), e);
    uint64_t first, last;
    uint64_t window = loader_window(&t.loader, 8); /* the second step's first window */
    loader_documents(&t.loader, window, &first, &last);
    char want[64];
    snprintf(want, sizeof(want), "%d\t%d\tdoc %d\n", (int)window, (int)first, (int)first);
    assert_memory_equal(out.data, want, strlen(want));

    assert_works(record_open(&r, run, &at, &t.loader, t.sequences, &e), e); /* cut to two steps */
    record_close(&r);
    assert_fails(record_show_data(run, NULL, 3, &out, &e), e, "has no step 3");
    assert_works(fs_read(&text, path, 1 << 20, &e), e);
    assert_int_equal(text.len, at.metrics);
    assert_non_null(strstr(text.data, "{\"step\": 2, "));
    assert_null(strstr(text.data, "valid_loss"));
    buf_release(&out);
    buf_release(&text);
    free(run);
    free(path);
    trainer_release(&t);
}

static void test_refuse(void **state)
{
    (void)state;
    struct settings s = toy;
    struct trainer t;
    struct err e;
    s.model.vocab_size = VOCAB - 1;
    assert_fails(trainer_init(&t, &s, &shard, NULL, &e), e, "ids up to 63");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learns),        cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_not_finite),    cmocka_unit_test(test_options),
        cmocka_unit_test(test_random_tokens), cmocka_unit_test(test_bad_gradient),
        cmocka_unit_test(test_stop),          cmocka_unit_test(test_snapshot),
        cmocka_unit_test(test_record),        cmocka_unit_test(test_refuse),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
