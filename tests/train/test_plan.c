/* The budget is what is reserved, the paper's models fit where they should, and recomputation is
 * chosen by what is allowed. */
#include "tests/test.h"

#include "common/mem.h"
#include "common/threads.h"
#include "train/plan.h"
#include "train/trainer.h"

static void load(struct settings *s, const char *config)
{
    struct err e;
    settings_init(s);
    free(s->config);
    s->config = mem_strdup(config);
    assert_works(settings_resolve(s, &e), e);
    settings_vocab(s, 32000);
}

static void allow(struct settings *s, const char *memory)
{
    free(s->memory);
    s->memory = mem_strdup(memory);
}

static struct plan make(const struct settings *s)
{
    struct plan p;
    struct err e;
    assert_works(plan_make(&p, s, &e), e);
    return p;
}

/* To the byte, for every way of keeping masters, moments and activations, and for both rules. */
static void check_reserved(const struct settings *s)
{
    struct trainer t;
    struct err e;
    struct plan p = make(s);
    uint64_t before = mem_mapped();
    assert_works(trainer_init(&t, s, NULL, NULL, &e), e);
    assert_int_equal(mem_mapped(), p.memory_bytes); /* nothing else is mapped in this test */
    trainer_release(&t);
    assert_int_equal(mem_mapped(), before);
}

static void test_reserved(void **state)
{
    (void)state;
    struct settings s;
    load(&s, "german-mini");
    settings_vocab(&s, 999); /* fewer values, and no multiple of 32 */
    for (int compute = COMPUTE_FP32; compute <= COMPUTE_BF16; compute++) {
        s.compute = compute;
        s.masters = MASTERS_SETTING_FP32;
        s.recompute = RECOMPUTE_SETTING_NONE;
        check_reserved(&s);
        s.recompute = RECOMPUTE_SETTING_FULL;
        s.document_mask = true;
        check_reserved(&s);
        s.document_mask = false;
    }
    s.masters = MASTERS_SETTING_SPLIT;
    s.recompute = RECOMPUTE_SETTING_MLP;
    s.moments = MOMENTS_INT8;
    check_reserved(&s);
    s.optimizer_name = OPTIMIZER_MUON;
    check_reserved(&s);
    settings_release(&s);
}

/* What DESIGN promises of a machine of 24 GiB. */
static void test_paper(void **state)
{
    (void)state;
    struct settings s;
    load(&s, "german1b");
    s.compute = COMPUTE_BF16;
    allow(&s, "24GiB");
    struct plan p = make(&s);
    assert_int_equal(p.T, 2048);
    assert_int_equal(p.micro_batch, 1);
    assert_int_equal(p.recompute, RECOMPUTE_NONE);
    assert_true(p.memory_bytes <= (uint64_t)22 << 30);
    assert_true(p.memory_bytes >= (uint64_t)12 << 30);
    settings_release(&s);
    load(&s, "german120m");
    s.compute = COMPUTE_BF16;
    p = make(&s);
    assert_true(p.memory_bytes <= (uint64_t)8 << 30);
    settings_release(&s);
}

static void test_fit(void **state)
{
    (void)state;
    struct settings s;
    struct plan p;
    struct err e;
    uint64_t needs[3];
    char limit[32];
    load(&s, "german120m");
    for (int r = RECOMPUTE_NONE; r <= RECOMPUTE_FULL; r++) {
        s.recompute = r + RECOMPUTE_SETTING_NONE;
        needs[r] = make(&s).memory_bytes;
    }
    assert_true(needs[RECOMPUTE_NONE] > needs[RECOMPUTE_MLP]);
    assert_true(needs[RECOMPUTE_MLP] > needs[RECOMPUTE_FULL]);
    s.recompute = RECOMPUTE_SETTING_AUTO;
    for (int r = RECOMPUTE_NONE; r <= RECOMPUTE_FULL; r++) {
        snprintf(limit, sizeof(limit), "%llu", (unsigned long long)needs[r]);
        allow(&s, limit);
        p = make(&s);
        assert_int_equal(p.recompute, r);
        assert_int_equal(p.memory_bytes, needs[r]);
        assert_works(plan_check(&p, &e), e);
    }
    allow(&s, "64MiB");
    p = make(&s);
    assert_int_equal(p.memory_limit, 64 << 20);
    assert_fails(plan_check(&p, &e), e, "--memory allows");
    settings_release(&s);
}

static void test_limits(void **state)
{
    (void)state;
    struct settings s;
    struct err e;
    uint64_t half, bytes;
    load(&s, "german-mini");
    allow(&s, "50%");
    assert_works(plan_memory_limit(&s, &half, &e), e);
    assert_true(half > plan_machine_memory() / 2 - 2 && half <= plan_machine_memory() / 2 + 2);
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"1000", 1000}, {"1kB", 1000}, {"1.5GiB", 3ull << 29}, {"2TB", 2000000000000ull}};
    for (size_t i = 0; i < 4; i++) {
        allow(&s, good[i].text);
        assert_works(plan_memory_limit(&s, &bytes, &e), e);
        assert_int_equal(bytes, good[i].bytes);
    }
    static const char *const bad[] = {"", "GiB", "0", "-1GiB", "nan", "1e30TiB", "5 GiB", "8gb"};
    for (size_t i = 0; i < 8; i++) {
        allow(&s, bad[i]);
        assert_fails(plan_memory_limit(&s, &bytes, &e), e, "is no size");
    }
    settings_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reserved),
        cmocka_unit_test(test_paper),
        cmocka_unit_test(test_fit),
        cmocka_unit_test(test_limits),
    };
    struct err e;
    threads_init(2);
    if (kernels_init(&e))
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
