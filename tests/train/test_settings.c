/* The configuration of a run: what is accepted, what is refused and in which words. */
#include "tests/test.h"

#include "common/mem.h"
#include "train/plan.h"
#include "train/settings.h"

static void write_yaml(const char *name, const char *text)
{
    struct err e;
    char *path = fs_join(test_folder(), "%s", name);
    assert_int_equal(fs_write(path, text, strlen(text), &e), 0);
    free(path);
}

/* Settings from a YAML text and assignments, as the command line gives them. */
static int resolve(struct settings *s, const char *yaml, const char *const *set, struct err *e)
{
    write_yaml("toy.yaml", yaml);
    settings_init(s);
    free(s->config);
    s->config = fs_join(test_folder(), "toy.yaml");
    for (; set && *set; set++)
        config_list_add(&s->set, *set);
    return settings_resolve(s, e);
}

static void refuse(const char *yaml, const char *set, const char *sentence)
{
    struct settings s;
    struct err e;
    const char *const assignments[] = {set, NULL};
    assert_fails(resolve(&s, yaml, set ? assignments : NULL, &e), e, sentence);
    settings_release(&s);
}

static const char toy[] = "model:\n  hidden_size: 64\n  num_hidden_layers: 2\n"
                          "  num_attention_heads: 4\n  num_key_value_heads: 2\n"
                          "  intermediate_size: 128\n  max_position_embeddings: 32\n"
                          "train:\n  steps: 20\n  batch_tokens: 256\n  micro_batch: 100\n"
                          "schedule:\n  warmup_steps: 5\n";

static void test_resolve(void **state)
{
    (void)state;
    struct settings s;
    struct err e;
    const char *const set[] = {"optimizer.lr=2e-3", "train.steps=40", NULL};
    assert_works(resolve(&s, toy, set, &e), e);
    assert_int_equal(s.steps, 40);
    assert_true(s.lr == 2e-3);
    assert_int_equal(s.sequence_length, 32); /* from max_position_embeddings */
    assert_int_equal(s.micro_batch, 8);      /* reduced to the batch */
    assert_string_equal(s.run_out, "runs/toy");
    settings_vocab(&s, 8190);
    assert_int_equal(s.model.vocab_size, 8190);
    s.vocab_multiple = 64;
    settings_vocab(&s, 8190);
    assert_int_equal(s.model.vocab_size, 8192);
    settings_release(&s);
}

static void test_refuse(void **state)
{
    (void)state;
    refuse("train:\n  stepps: 5\n", NULL, "train.steps");
    refuse("trian:\n  steps: 5\n", NULL, "toy.yaml");
    refuse("train:\n  steps: 0\n", NULL, "train.steps");
    refuse("train:\n  steps: 8x\n", NULL, "8x");
    refuse("optimizer:\n  lr: nan\n", NULL, "optimizer.lr");
    refuse("precision:\n  compute: fp16\n", NULL, "fp16");
    refuse(toy, "optimizer.bogus=1", "--set");
    refuse(toy, "train.batch_tokens=250", "not a multiple of the sequence length 32");
    refuse(toy, "train.sequence_length=64", "model.max_position_embeddings 32");
    refuse(toy, "model.num_key_value_heads=3", "num_key_value_heads");
    refuse(toy, "optimizer.min_lr=1", "optimizer.min_lr 1 is above optimizer.lr");
    refuse(toy, "schedule.warmup_steps=21", "more than train.steps 20");
    refuse(toy, "schedule.decay_type=cubic", "cubic");
    refuse(toy, "train.recompute=some", "train.recompute");
    refuse(toy, "precision.moments=fp16", "precision.moments");
    refuse(toy, "loss.z_loss=-1", "loss.z_loss");
    refuse(toy, "train.steps=3",
           "--set: schedule.warmup_steps 5 is more than train.steps 3; lower it with --set "
           "schedule.warmup_steps=N");
    refuse("train:\n  steps: 8\nschedule:\n  warmup_steps: 9\n", "optimizer.lr=1e-3",
           "toy.yaml: schedule.warmup_steps 9 is more than train.steps 8");
    refuse(toy, "model.hidden_size=32768", "model.hidden_size");
    refuse(toy, "model.hidden_size=72", "head size 18 ");
    refuse(toy, "model.hidden_size=1024", "head size 256 ");
}

/* Warm-up and decay share the steps; the decay is a number of steps or a share of them. */
static void test_decay(void **state)
{
    (void)state;
    struct settings s;
    struct err e;
    const char *set[] = {"schedule.name=wsd", NULL, NULL};
    assert_works(resolve(&s, toy, set, &e), e);
    assert_int_equal(settings_schedule(&s).decay_steps, 4); /* a fifth of 20 */
    settings_release(&s);
    set[1] = "schedule.decay_steps=15";
    assert_works(resolve(&s, toy, set, &e), e);
    assert_int_equal(settings_schedule(&s).decay_steps, 15);
    assert_int_equal(settings_schedule(&s).decay, DECAY_1_SQRT);
    settings_release(&s);
    set[1] = "schedule.decay_steps=16";
    assert_fails(resolve(&s, toy, set, &e), e, "a decay of 16 steps and schedule.warmup_steps 5");
    settings_release(&s);
}

/* "auto" is decided once, and config.yaml says how. */
static void test_auto(void **state)
{
    (void)state;
    struct settings s;
    struct err e;
    struct buf yaml = {0};
    enum cpu_level best = cpu_level();
    assert_works(resolve(&s, toy, NULL, &e), e);
    assert_int_equal(settings_precision(&s), best == CPU_AMX ? KERNEL_BF16 : KERNEL_FP32);
    config_write(settings_rows, &s, &yaml);
    assert_non_null(strstr(yaml.data, best == CPU_AMX ? "compute: bf16" : "compute: fp32"));
    buf_release(&yaml);
    settings_release(&s);
    cpu_level_force(CPU_C);
    assert_works(resolve(&s, toy, NULL, &e), e);
    assert_int_equal(s.compute, COMPUTE_FP32);
    settings_release(&s);
    cpu_level_force(best);
    const char *const set[] = {"precision.compute=bf16", NULL};
    assert_works(resolve(&s, toy, set, &e), e);
    assert_int_equal(settings_precision(&s), KERNEL_BF16);
    settings_release(&s);
}

/* How weights and moments are kept, and what of it another machine may change. */
static void test_kept(void **state)
{
    (void)state;
    struct settings s;
    struct err e;
    struct buf identity = {0};
    const char *const set[] = {"precision.compute=bf16",  "precision.moments=int8",
                               "train.recompute=mlp",     "loss.z_loss=1e-4",
                               "data.document_mask=true", NULL};
    assert_works(resolve(&s, toy, set, &e), e);
    assert_int_equal(settings_optimizer(&s).masters, MASTERS_SPLIT);
    assert_int_equal(settings_optimizer(&s).moments, MOMENTS_INT8);
    struct workspace_options w = settings_workspace(&s, RECOMPUTE_MLP);
    assert_int_equal(w.recompute, RECOMPUTE_MLP);
    assert_true(w.z_loss == 1e-4 && w.mask_documents && w.backward);
    settings_put_identity(&s, &identity);
    assert_non_null(strstr(identity.data, "precision.moments"));
    assert_non_null(strstr(identity.data, "loss.z_loss"));
    assert_null(strstr(identity.data, "train.recompute"));
    assert_null(strstr(identity.data, "precision.masters"));
    s.compute = COMPUTE_FP32;
    assert_int_equal(settings_optimizer(&s).masters, MASTERS_FP32);
    buf_release(&identity);
    settings_release(&s);
}

/* What a workspace would refuse after all, the settings refuse: --plan says so, too. */
static void test_sizes(void **state)
{
    (void)state;
    struct settings s;
    struct plan p;
    struct err e;
    const char *const wide[] = {"train.batch_tokens=8388608", "train.micro_batch=65536",
                                "model.max_position_embeddings=128", NULL};
    assert_fails(resolve(&s, toy, wide, &e), e, "more than 4194304 tokens in a forward pass");
    settings_release(&s);
    const char *const fits[] = {"train.batch_tokens=8388608", "train.micro_batch=32768",
                                "model.max_position_embeddings=128", NULL};
    assert_works(resolve(&s, toy, fits, &e), e);
    settings_release(&s);
    const char *const endless[] = {"train.steps=1000000000000", "train.batch_tokens=1024000000",
                                   NULL};
    assert_fails(resolve(&s, toy, endless, &e), e, "more than 1e+18 tokens");
    settings_release(&s);
    /* every step of 10^12 a snapshot with its state: more than 2^64 bytes, and not a few */
    const char *const full[] = {"train.steps=1000000000000",    "checkpoints.every=1",
                                "checkpoints.keep=0",           "model.hidden_size=8192",
                                "model.num_attention_heads=64", NULL};
    assert_works(resolve(&s, toy, full, &e), e);
    settings_vocab(&s, 32000);
    assert_works(plan_make(&p, &s, &e), e);
    assert_true(p.disk_bytes == UINT64_MAX);
    settings_release(&s);
}

static void test_find(void **state)
{
    (void)state;
    struct err e;
    char *path = settings_find("german120m", &e); /* in the working folder: the repository */
    assert_non_null(path);
    free(path);
    assert_null(settings_find("german120n", &e));
    assert_non_null(strstr(e.msg, "did you mean german120m?"));
    assert_null(settings_find("/nowhere/x.yaml", &e));
    assert_non_null(strstr(e.msg, "no configuration /nowhere/x.yaml"));
}

/* The shipped configurations are the paper's (llammlein.md §3.1-3.3). */
static void test_shipped(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t params, tokens;
        double flops;
    } want[] = {
        {"german120m", 124668672, 978340282368, 713.7e6},
        {"german1b", 1100048384, 3000001101824, 6760e6},
    };
    for (size_t i = 0; i < 2; i++) {
        struct settings s;
        struct plan p;
        struct err e;
        settings_init(&s);
        free(s.config);
        s.config = mem_strdup(want[i].name);
        assert_works(settings_resolve(&s, &e), e);
        settings_vocab(&s, 32000);
        assert_works(plan_make(&p, &s, &e), e);
        assert_int_equal(p.params, want[i].params);
        assert_int_equal(p.tokens, want[i].tokens);
        assert_true(p.flops_per_token > 0.999 * want[i].flops);
        assert_true(p.flops_per_token < 1.001 * want[i].flops);
        settings_release(&s);
    }
}

static void assert_due(const struct settings *s, const char *want)
{
    struct buf got = {0};
    struct plan p;
    struct err e;
    uint64_t count = 0;
    for (uint64_t step = 0; step <= (uint64_t)s->steps; step++)
        if (settings_snapshot_due(s, step)) {
            buf_printf(&got, "%s%d", count++ ? " " : "", (int)step);
        }
    assert_string_equal(got.data ? got.data : "", want);
    assert_works(plan_make(&p, s, &e), e);
    assert_int_equal(p.snapshots, count);
    buf_release(&got);
}

static void test_snapshots(void **state)
{
    (void)state;
    struct settings s;
    struct err e;
    assert_works(resolve(&s, toy, NULL, &e), e);
    settings_vocab(&s, 100);
    s.checkpoints_every = 8;
    assert_due(&s, "0 8 16 20");
    s.snapshot_schedule = SNAPSHOT_LOG;
    assert_due(&s, "0 1 2 4 8 16 20");
    s.steps = 1500;
    s.checkpoints_every = 600;
    assert_due(&s, "0 1 2 4 8 16 32 64 128 256 512 600 1200 1500");
    s.checkpoints_every = 0;
    assert_due(&s, "");
    settings_release(&s);
}

/* What a run may change on the way, and what not. */
static void test_identity(void **state)
{
    (void)state;
    struct settings s;
    struct err e;
    struct buf b = {0};
    assert_works(resolve(&s, toy, NULL, &e), e);
    settings_put_identity(&s, &b);
    assert_non_null(strstr(b.data, "\"model.hidden_size\": \"64\""));
    assert_non_null(strstr(b.data, "\"train.micro_batch\": \"8\""));
    assert_null(strstr(b.data, "run.out"));
    assert_null(strstr(b.data, "checkpoints.every"));
    assert_int_equal(settings_same(&s, "model.hidden_size", "64", &e), 0);
    assert_fails(settings_same(&s, "model.hidden_size", "32", &e), e,
                 "made with model.hidden_size 32, this is 64");
    assert_fails(settings_same(&s, "model.colour", "red", &e), e, "model.colour");
    buf_release(&b);
    settings_release(&s);
}

/* config.yaml as a run writes it gives the same settings back. */
static void test_round_trip(void **state)
{
    (void)state;
    struct settings s, again;
    struct err e;
    struct buf first = {0}, second = {0};
    assert_works(resolve(&s, toy, NULL, &e), e);
    config_write(settings_rows, &s, &first);
    assert_works(resolve(&again, first.data, NULL, &e), e);
    config_write(settings_rows, &again, &second);
    assert_string_equal(first.data, second.data);
    buf_release(&first);
    buf_release(&second);
    settings_release(&s);
    settings_release(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resolve),  cmocka_unit_test(test_refuse),
        cmocka_unit_test(test_sizes),    cmocka_unit_test(test_find),
        cmocka_unit_test(test_shipped),  cmocka_unit_test(test_snapshots),
        cmocka_unit_test(test_identity), cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_kept),     cmocka_unit_test(test_decay),
        cmocka_unit_test(test_auto),
    };
    return cmocka_run_group_tests(tests, NULL, test_folder_remove);
}
